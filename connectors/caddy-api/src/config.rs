//! The settings of a target of the kind `caddy-api`. The doc comments are the reference page.

use deploy_caddy::Admin;
use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{Period, check_endpoints, default_verify_timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where Caddy's admin API is, and where success can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CaddyApiSettings {
    /// Where Caddy's admin API listens, as in the global option `admin`: `ADDRESS:PORT` on this machine, or `unix/` and a path.
    ///
    /// The private key goes over it in the clear, and whoever can reach it can do everything with Caddy. Default:
    /// `"localhost:2019"`, which is Caddy's. Example: `admin = "unix//run/caddy/admin.sock"`.
    #[serde(default = "default_admin")]
    pub admin: Admin,

    /// The `@id` of the certificate in Caddy's configuration. An entry with it is replaced, or else made.
    ///
    /// Letters, digits, `-`, `_` and `.`. Default: `certdeploy-` and the name of the target.
    /// Example: `id = "www"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,

    /// Where the certificate can be seen being served: a list of endpoints, all of which must.
    ///
    /// Without it, what the API says of itself counts. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl CaddyApiSettings {
    /// Everything at its default.
    #[must_use]
    pub fn new() -> Self {
        Self { admin: default_admin(), id: None, verify: None, verify_timeout: default_verify_timeout() }
    }

    /// What is wrong with them, as far as can be told without a call.
    pub(crate) fn check(&self, target: &str) -> Result<(), SettingError> {
        let id = self.id(target);
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
        if !id.chars().all(plain) || id.trim_matches('.').is_empty() {
            let message = format!("`{id}` cannot be an `@id`: write letters, digits, `-`, `_` and `.`");
            return Err(SettingError::new("id", message));
        }
        check_endpoints("verify", self.verify.as_deref())
    }

    /// The `@id` for a target of this name.
    pub(crate) fn id(&self, target: &str) -> String {
        self.id.clone().unwrap_or_else(|| format!("certdeploy-{target}"))
    }
}

impl Default for CaddyApiSettings {
    fn default() -> Self {
        Self::new()
    }
}

fn default_admin() -> Admin {
    Admin::Tcp("localhost:2019".to_owned())
}

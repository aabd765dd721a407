//! The settings of a target that a program deploys to. The doc comments are the reference page.

use std::collections::BTreeMap;
use std::path::Path;

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{CommandSetting, Period, check_endpoints, default_verify_timeout};
use deploy_core::{SettingError, Verify};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Which program deploys, what it is told, and where success can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ExecSettings {
    /// The program that speaks the protocol, and its arguments. It is started once for each call.
    ///
    /// An array, or a table with `command`, `timeout` (for one call; default 30 seconds) and `environment`. A name without
    /// a slash is looked up in the fixed search path; otherwise write an absolute path. There is no shell. Required.
    /// Example: `command = ["/usr/local/lib/certdeploy/shelf.py"]` or
    /// `command = { command = ["/usr/local/lib/certdeploy/shelf.py"], timeout = "10s" }`.
    pub command: CommandSetting,

    /// What the program is told in every request, as it is written here. Never put a secret here.
    ///
    /// Default: `{}`.
    /// Example: `settings = { url = "https://shelf.example.com", listener = "www" }`.
    #[serde(default)]
    pub settings: Map<String, Value>,

    /// The secrets that the program gets on standard input, by the names that it knows them by, each as a reference.
    ///
    /// They are fetched once for a deployment, before the first call that needs them, so that going back does not depend on
    /// where they come from. Default: `{}`.
    /// Example: `secrets = { token = "file:/etc/certdeploy/shelf.token" }`.
    #[serde(default)]
    pub secrets: BTreeMap<String, SecretRef>,

    /// Where the certificate can be seen served: a list of endpoints, all of which must.
    ///
    /// Without it, what the program says when it is asked what is live counts, and nothing else. `[]` says that nobody can
    /// look. Default: absent.
    /// Example: `verify = [{ connect = "www.example.com:443" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`.
    /// Example: `verify_timeout = "2m"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl ExecSettings {
    /// A program and its arguments, and everything else at its default.
    #[must_use]
    pub fn new(command: CommandSetting) -> Self {
        Self { command, settings: Map::new(), secrets: BTreeMap::new(), verify: None, verify_timeout: default_verify_timeout() }
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        self.check_command()?;
        if self.secrets.contains_key("") {
            return Err(SettingError::new("secrets", "a secret has an empty name"));
        }
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_command(&self) -> Result<(), SettingError> {
        let command = self.command.command();
        let program = command.as_ref().and_then(|command| command.arguments.first()).map(Path::new);
        match program {
            Some(program) if !program.as_os_str().is_empty() => {
                if program.components().count() > 1 && !program.is_absolute() {
                    let message = format!("`{}` has a slash and is no absolute path; it must start with /", program.display());
                    return Err(SettingError::new("command", message));
                }
                Ok(())
            }
            _ => Err(SettingError::new("command", "names no program; there is nothing to deploy with")),
        }
    }

    /// How success is seen.
    pub(crate) fn verify(&self) -> Verify {
        Verify::from_setting(self.verify.clone()).with_timeout(self.verify_timeout.duration())
    }
}

#[cfg(test)]
mod tests;

//! The settings of a target of the kind `traefik`. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_endpoints, check_key_mode, check_path, check_principal, check_reload,
    default_backups, default_verify_timeout,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where Traefik finds its certificate, which file it watches, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct TraefikSettings {
    /// The file that `certFile` names. It gets the leaf and its intermediates, in order, without the root.
    ///
    /// An absolute path, as Traefik's dynamic configuration has it; its directory must exist. Required.
    /// Example: `fullchain = "/etc/traefik/tls/www.crt"`.
    pub fullchain: PathBuf,

    /// The file that `keyFile` names. It gets the private key, unencrypted.
    ///
    /// An absolute path, as Traefik's dynamic configuration has it; its directory must exist, and no other ordinary user may
    /// write to it. Required.
    /// Example: `key = "/etc/traefik/tls/www.key"`.
    pub key: PathBuf,

    /// The file of Traefik's dynamic configuration that names the two.
    ///
    /// Traefik watches this file and not the certificate. It is put there anew, last, whenever the certificate changes: with the
    /// same bytes, by a rename. It has to exist, to name both paths, and to be no link. Required.
    /// Example: `dynamic = "/etc/traefik/dynamic/tls.yml"`.
    pub dynamic: PathBuf,

    /// The base URL of Traefik's API, for Traefik 3.7 and later, on this machine or with `https://`.
    ///
    /// After the switch it is asked for the new leaf until it has it, for as long as `verify_timeout`. That says that Traefik has
    /// loaded it, not that it is served: configure `verify`, too. Default: none; then it is not asked.
    /// Example: `api = "http://127.0.0.1:8080"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api: Option<String>,

    /// The certificate authorities that vouch for `api`, as PEM, instead of those of this machine.
    ///
    /// An absolute path. Default: none.
    /// Example: `api_ca_file = "/etc/certdeploy/traefik-ca.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_ca_file: Option<PathBuf>,

    /// Where the bearer token for `api` is found, if a middleware in front of it wants one.
    ///
    /// Default: none.
    /// Example: `api_token = "file:/etc/certdeploy/traefik-token"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_token: Option<SecretRef>,

    /// A command, a systemd unit or a signal, where Traefik has to be told.
    ///
    /// It does not: it watches. For `watch = false`, or a file system without events, Traefik 3 reads everything anew at SIGHUP.
    /// Default: `[]`, which tells nothing.
    /// Example: `reload = ["systemctl", "kill", "--signal=HUP", "traefik"]`.
    #[serde(default = "no_reload")]
    pub reload: ReloadSetting,

    /// The owner of `fullchain` and `key`, by name or number. To change it takes root.
    ///
    /// Default: as it is; for new files whoever runs certdeploy.
    /// Example: `owner = "traefik"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of `fullchain` and `key`, by name or number. Without root, it must be one of one's own groups.
    ///
    /// Default: as it is; for new files that of whoever runs certdeploy.
    /// Example: `group = "traefik"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,

    /// The mode of `fullchain`.
    ///
    /// Default: as it is; `"0644"` for a new file.
    /// Example: `mode = "0644"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// The mode of `key`. Nothing in it may be open to all.
    ///
    /// Default: as it is; `"0600"` for a new file.
    /// Example: `key_mode = "0640"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<Mode>,

    /// How many earlier deployments are kept for `certdeploy rollback`.
    ///
    /// Their keys stay on disk, in a directory that only their owner can enter. `0` keeps none; a failed deployment is
    /// rolled back all the same. Default: `3`.
    /// Example: `backups = 1`.
    #[serde(default = "default_backups")]
    pub backups: usize,

    /// Where Traefik can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6). `[]` says that nobody can look, and the deployment
    /// counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear, at the endpoints of `verify` and in `api`.
    ///
    /// Traefik waits for `providersThrottleDuration` between two changes, which is 2 seconds by default. Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl TraefikSettings {
    /// Everything at its default but the three files.
    #[must_use]
    pub fn new(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>, dynamic: impl Into<PathBuf>) -> Self {
        Self {
            fullchain: fullchain.into(),
            key: key.into(),
            dynamic: dynamic.into(),
            api: None,
            api_ca_file: None,
            api_token: None,
            reload: no_reload(),
            owner: None,
            group: None,
            mode: None,
            key_mode: None,
            backups: default_backups(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        for (field, path) in [("fullchain", &self.fullchain), ("key", &self.key), ("dynamic", &self.dynamic)] {
            check_path(field, path)?;
        }
        if [&self.fullchain, &self.key].contains(&&self.dynamic) || self.fullchain == self.key {
            return Err(SettingError::new("dynamic", "`fullchain`, `key` and `dynamic` need a file of their own each"));
        }
        self.check_api()?;
        check_reload("reload", &self.reload)?;
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("key_mode", self.key_mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_api(&self) -> Result<(), SettingError> {
        if let Some(ca_file) = &self.api_ca_file {
            check_path("api_ca_file", ca_file)?;
        }
        match &self.api {
            Some(api) => deploy_http::check_url(api).map_err(|error| SettingError::new("api", error.full_message())),
            None if self.api_ca_file.is_some() || self.api_token.is_some() => {
                Err(SettingError::new("api", "is missing: `api_ca_file` and `api_token` are for it"))
            }
            None => Ok(()),
        }
    }
}

fn no_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&[]))
}

#[cfg(test)]
mod tests;

//! The settings of a target. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::host::Signal;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    Period, ReloadSetting, SignalReload, check_endpoints, check_path, check_reload, default_verify_timeout,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the server finds its certificate, and how it is told and asked.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReloadingSettings {
    /// The file of the leaf and its intermediates (`--fullchain`). An absolute path; its directory must exist. Required.
    pub fullchain: PathBuf,

    /// The file of the private key (`--key`). An absolute path; its directory must exist. Required.
    pub key: PathBuf,

    /// How the server is told to read its files again.
    ///
    /// Default: `{ signal = "HUP", pid_file = "/run/reloading-tls-server.pid" }`.
    #[serde(default = "default_reload")]
    pub reload: ReloadSetting,

    /// Where the server can be seen serving the certificate. `[]` says that nobody can look. Default: absent, and a
    /// deployment is reported as `unverified`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`. Default: `"15s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl ReloadingSettings {
    /// Everything at its default but the two files.
    #[must_use]
    pub fn new(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            fullchain: fullchain.into(),
            key: key.into(),
            reload: default_reload(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        check_path("fullchain", &self.fullchain)?;
        check_path("key", &self.key)?;
        check_reload("reload", &self.reload)?;
        check_endpoints("verify", self.verify.as_deref())
    }
}

fn default_reload() -> ReloadSetting {
    ReloadSetting::Signal(SignalReload::new(Signal::Hup, "/run/reloading-tls-server.pid"))
}

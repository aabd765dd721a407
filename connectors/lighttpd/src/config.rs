//! The settings of a target of the kind `lighttpd`. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where lighttpd finds its certificate, and how it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct LighttpdSettings {
    /// The file that `ssl.pemfile` names. It gets the leaf and its intermediates, in order, without the root.
    ///
    /// An absolute path; its directory must exist. Required.
    /// Example: `fullchain = "/etc/lighttpd/tls/www.crt"`.
    pub fullchain: PathBuf,

    /// The file that `ssl.privkey` names. It gets the private key, unencrypted.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Required.
    /// Example: `key = "/etc/lighttpd/tls/www.key"`.
    pub key: PathBuf,

    /// The command with which lighttpd checks its configuration. Exit status 0 accepts. It is run on the new files before
    /// anything live changes, and on the live files after the switch.
    ///
    /// It has to be `-tt`: `-t` only parses the configuration and opens no certificate. `[]` checks nothing.
    /// Default: `["lighttpd", "-tt", "-f", "/etc/lighttpd/lighttpd.conf"]`.
    /// Example: `validate = ["lighttpd", "-tt", "-f", "/srv/lighttpd/lighttpd.conf"]`.
    #[serde(default = "default_validate")]
    pub validate: CommandSetting,

    /// How lighttpd is told to take up new files: a command, a systemd unit, or a signal.
    ///
    /// The default reloads a lighttpd that runs and starts one that does not. A reload reads the key as the user that
    /// lighttpd runs as. `[]` tells nothing. Default: `["systemctl", "reload-or-restart", "lighttpd"]`.
    /// Example: `reload = ["systemctl", "restart", "lighttpd"]` or
    /// `reload = { signal = "USR1", pid_file = "/run/lighttpd.pid" }`.
    #[serde(default = "default_reload")]
    pub reload: ReloadSetting,

    /// The command that starts lighttpd anew, for a rollback in which the reload fails: a lighttpd that cannot load its files
    /// in a reload ends. It ends connections, and is never run while the reload works.
    ///
    /// `[]` runs nothing. Default: `["systemctl", "restart", "lighttpd"]`.
    /// Example: `restart = ["service", "lighttpd", "restart"]`.
    #[serde(default = "default_restart")]
    pub restart: CommandSetting,

    /// The owner of both files, by name or number. To change it takes root.
    ///
    /// Default: as it is; for new files whoever runs certdeploy.
    /// Example: `owner = "root"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of both files, by name or number. Without root, it must be one of one's own groups.
    ///
    /// Default: as it is; for new files that of whoever runs certdeploy.
    /// Example: `group = "www-data"`.
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

    /// How many earlier deployments are kept for `certdeploy rollback`. Their keys stay on disk, in a directory that only
    /// their owner can enter.
    ///
    /// `0` keeps none; a failed deployment is rolled back all the same. Default: `3`.
    /// Example: `backups = 1`.
    #[serde(default = "default_backups")]
    pub backups: usize,

    /// Where lighttpd can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6). `[]` says that nobody can look, and the deployment
    /// counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// It should be longer than lighttpd's own `server.graceful-shutdown-timeout`: before that has passed, open connections can
    /// keep a reload waiting. Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl LighttpdSettings {
    /// Everything at its default but the two files.
    #[must_use]
    pub fn new(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            fullchain: fullchain.into(),
            key: key.into(),
            validate: default_validate(),
            reload: default_reload(),
            restart: default_restart(),
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
        check_path("fullchain", &self.fullchain)?;
        check_path("key", &self.key)?;
        check_command("validate", &self.validate)?;
        check_reload("reload", &self.reload)?;
        check_command("restart", &self.restart)?;
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("key_mode", self.key_mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }
}

fn default_validate() -> CommandSetting {
    CommandSetting::new(&["lighttpd", "-tt", "-f", "/etc/lighttpd/lighttpd.conf"])
}

fn default_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&["systemctl", "reload-or-restart", "lighttpd"]))
}

fn default_restart() -> CommandSetting {
    CommandSetting::new(&["systemctl", "restart", "lighttpd"])
}

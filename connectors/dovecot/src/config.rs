//! The settings of a target of the kind `dovecot`. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where Dovecot finds its certificate, and how it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct DovecotSettings {
    /// The file that `ssl_cert = <FILE` names; in Dovecot 2.4 `ssl_server_cert_file`. It gets the leaf and its intermediates, in
    /// order, without the root.
    ///
    /// An absolute path; its directory must exist. Required. Example: `fullchain = "/etc/dovecot/tls/mail.crt"`.
    pub fullchain: PathBuf,

    /// The file that `ssl_key = <FILE` names; in Dovecot 2.4 `ssl_server_key_file`. It gets the private key, unencrypted.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Required.
    /// Example: `key = "/etc/dovecot/tls/mail.key"`.
    pub key: PathBuf,

    /// The command with which Dovecot checks its configuration. Exit status 0 accepts. It is run before anything live changes,
    /// and again after the switch.
    ///
    /// `doveconf -n` refuses a configuration that Dovecot could not reload. It opens no certificate. `[]` checks nothing.
    /// Default: `["doveconf", "-n"]`. Example: `validate = ["doveconf", "-n", "-c", "/srv/dovecot/dovecot.conf"]`.
    #[serde(default = "default_validate")]
    pub validate: CommandSetting,

    /// The command that runs Dovecot in the foreground, with the real configuration.
    ///
    /// Before anything live changes it is started in a private view in which the new files already stand at their places, on a
    /// network of its own, and has to serve them there at the addresses of `verify`. Nobody else can reach it, what it writes
    /// is thrown away, and it ends with the look. It takes root; without, or without `verify`, the report says that it was
    /// left out. `[]` starts nothing. Default: `["dovecot", "-F"]`.
    /// Example: `shadow = ["dovecot", "-F", "-c", "/srv/dovecot/dovecot.conf"]`.
    #[serde(default = "default_shadow")]
    pub shadow: CommandSetting,

    /// How Dovecot is told to take up new files: a command, a systemd unit, or a signal.
    ///
    /// `doveadm reload` fails when Dovecot does not run. `[]` tells nothing. Default: `["doveadm", "reload"]`.
    /// Example: `reload = ["systemctl", "reload-or-restart", "dovecot"]` or
    /// `reload = { signal = "HUP", pid_file = "/run/dovecot/master.pid" }`.
    #[serde(default = "default_reload")]
    pub reload: ReloadSetting,

    /// The file in which Dovecot's master process writes its number (`master.pid` in `base_dir`): the process in it must go on
    /// running through a reload.
    ///
    /// Default: `/run/dovecot/master.pid`, on Debian, RHEL and Alpine.
    /// Example: `pid_file = "/srv/dovecot/run/master.pid"`.
    #[serde(default = "default_pid_file")]
    pub pid_file: PathBuf,

    /// The owner of both files, by name or number. To change it takes root. Dovecot reads them as root.
    ///
    /// Default: as it is; for new files whoever runs certdeploy.
    /// Example: `owner = "root"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of both files, by name or number. Without root, it must be one of one's own groups.
    ///
    /// Default: as it is; for new files that of whoever runs certdeploy.
    /// Example: `group = "root"`.
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
    /// Example: `key_mode = "0400"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<Mode>,

    /// How many earlier deployments are kept for `certdeploy rollback`. Their keys stay on disk, in a directory that only
    /// their owner can enter.
    ///
    /// `0` keeps none; a failed deployment is rolled back all the same. Default: `3`.
    /// Example: `backups = 1`.
    #[serde(default = "default_backups")]
    pub backups: usize,

    /// Where Dovecot can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// `starttls` is `"imap"` for port 143, `"pop3"` for 110 and `"sieve"` for 4190, and is left out for 993 and 995. Without
    /// `verify` a deployment is reported as `unverified` (exit code 6). `[]` says that nobody can look, and the deployment counts
    /// as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:143", server_name = "mail.example.com", starttls = "imap" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`. Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl DovecotSettings {
    /// Everything at its default but the two files.
    #[must_use]
    pub fn new(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            fullchain: fullchain.into(),
            key: key.into(),
            validate: default_validate(),
            shadow: default_shadow(),
            reload: default_reload(),
            pid_file: default_pid_file(),
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
        check_command("shadow", &self.shadow)?;
        check_reload("reload", &self.reload)?;
        check_path("pid_file", &self.pid_file)?;
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("key_mode", self.key_mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }
}

fn default_validate() -> CommandSetting {
    CommandSetting::new(&["doveconf", "-n"])
}

fn default_shadow() -> CommandSetting {
    CommandSetting::new(&["dovecot", "-F"])
}

fn default_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&["doveadm", "reload"]))
}

fn default_pid_file() -> PathBuf {
    PathBuf::from("/run/dovecot/master.pid")
}

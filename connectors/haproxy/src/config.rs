//! The settings of a target of the kind `haproxy`. The doc comments are the reference page.

use std::path::{Path, PathBuf};

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::client::Socket;

/// Where HAProxy finds its certificate, and how it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct HaproxySettings {
    /// The file that `crt` or a line of a `crt-list` names, or one in a `crt` directory. It gets the leaf and its
    /// intermediates, in order, without the root, and then the private key, unencrypted.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Required.
    /// Example: `combined = "/etc/haproxy/tls/www.pem"`.
    pub combined: PathBuf,

    /// The sockets over which HAProxy is given the new certificate while it runs: absolute paths, or `ADDRESS:PORT`. One for
    /// each HAProxy that serves the file.
    ///
    /// No connection is touched, and no process is replaced. Each socket needs `level admin` in HAProxy's configuration.
    /// The private key goes over it in the clear: use a port only on loopback. Default: none; then HAProxy is reloaded.
    /// Example: `runtime = ["/run/haproxy/admin.sock"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runtime: Vec<Socket>,

    /// The name that `combined` has in HAProxy, as `show ssl cert` lists it: where HAProxy runs in a container, sees the file
    /// under another path, or is configured with a relative one.
    ///
    /// Only with `runtime`. Default: the path in `combined`.
    /// Example: `runtime_path = "/usr/local/etc/haproxy/tls/www.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime_path: Option<String>,

    /// The `crt-list` file or `crt` directory, as HAProxy names it, that a certificate is added to which HAProxy has not loaded
    /// yet.
    ///
    /// HAProxy adds it in memory. A `crt-list` file must name the certificate, too, or it is gone with the next reload. Only
    /// with `runtime`. Default: none; then HAProxy is reloaded for a new certificate, if `reload` or `master_socket` is set.
    /// Example: `crt_list = "/etc/haproxy/tls"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crt_list: Option<String>,

    /// How HAProxy is told to take up new files: a command, a systemd unit, or a signal to the master process.
    ///
    /// With `runtime` it is what HAProxy is told when the sockets cannot be used: for a certificate that it has not loaded,
    /// or one that does not fit its buffer. Not together with `master_socket`. `[]` tells nothing. Default:
    /// `["systemctl", "reload-or-restart", "haproxy"]`; none with `runtime` or `master_socket`.
    /// Example: `reload = { signal = "USR2", pid_file = "/run/haproxy.pid" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<ReloadSetting>,

    /// The socket of HAProxy's master process (its argument `-S`), over which it is reloaded: an absolute path, or
    /// `ADDRESS:PORT`.
    ///
    /// It says whether the reload succeeded, which a signal does not. It must not be `expose`d to anybody but the
    /// administrator. Default: none. Example: `master_socket = "/run/haproxy-master.sock"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub master_socket: Option<Socket>,

    /// The command with which HAProxy checks its configuration. Exit status 0 accepts. It is run on the new file before
    /// anything live changes, and on the live file after the switch.
    ///
    /// `[]` checks nothing. Default: `["haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"]`.
    /// Example: `validate = ["haproxy", "-c", "-f", "/srv/haproxy.cfg"]`.
    #[serde(default = "default_validate")]
    pub validate: CommandSetting,

    /// A command that runs HAProxy in the foreground, with the real configuration.
    ///
    /// Before anything live changes it is started in a private view in which the new file already stands at its place, on a
    /// network of its own, and has to serve it there at the addresses of `verify`. Nobody else can reach it, what it writes is
    /// thrown away, and it ends with the look. It takes root; without, or without `verify`, the report says that it was left
    /// out. `validate` has loaded the certificate already: this sees, too, whether HAProxy would serve it. `[]` starts nothing.
    /// Default: `[]`. Example: `shadow = ["haproxy", "-db", "-f", "/etc/haproxy/haproxy.cfg"]`.
    #[serde(default = "default_shadow")]
    pub shadow: CommandSetting,

    /// The owner of the file, by name or number. To change it takes root.
    ///
    /// Default: as it is; for a new file whoever runs certdeploy.
    /// Example: `owner = "root"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of the file, by name or number. Without root, it must be one of one's own groups.
    ///
    /// Default: as it is; for a new file that of whoever runs certdeploy.
    /// Example: `group = "haproxy"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,

    /// The mode of the file. Nothing in it may be open to all.
    ///
    /// HAProxy reads its files before it gives up root. Default: as it is; `"0600"` for a new file.
    /// Example: `mode = "0640"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// How many earlier deployments are kept for `certdeploy rollback`. Their keys stay on disk, in a directory that only
    /// their owner can enter and that HAProxy does not look into.
    ///
    /// `0` keeps none; a failed deployment is rolled back all the same. Default: `3`.
    /// Example: `backups = 1`.
    #[serde(default = "default_backups")]
    pub backups: usize,

    /// Where HAProxy can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6). `[]` says that nobody can look, and the deployment
    /// counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Over `runtime` it is there at once; a reload has to load the whole configuration first. Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl HaproxySettings {
    /// Everything at its default but the file.
    #[must_use]
    pub fn new(combined: impl Into<PathBuf>) -> Self {
        Self {
            combined: combined.into(),
            runtime: Vec::new(),
            runtime_path: None,
            crt_list: None,
            reload: None,
            master_socket: None,
            validate: default_validate(),
            shadow: default_shadow(),
            owner: None,
            group: None,
            mode: None,
            backups: default_backups(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        check_path("combined", &self.combined)?;
        self.check_runtime()?;
        if let Some(reload) = &self.reload {
            check_reload("reload", reload)?;
            if self.master_socket.is_some() {
                return Err(SettingError::new("reload", "is another way than `master_socket`; remove one of them"));
            }
        }
        check_command("validate", &self.validate)?;
        check_command("shadow", &self.shadow)?;
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("mode", self.mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_runtime(&self) -> Result<(), SettingError> {
        for (setting, name) in [("runtime_path", &self.runtime_path), ("crt_list", &self.crt_list)] {
            if let Some(name) = name {
                check_name(setting, name)?;
                if self.runtime.is_empty() {
                    return Err(SettingError::new(setting, "is of use only with `runtime`; remove it, or name the sockets"));
                }
            }
        }
        if !self.runtime.is_empty() && self.runtime_path.is_none() {
            check_name("combined", &self.combined.to_string_lossy())?;
        }
        Ok(())
    }

    /// What HAProxy calls the file.
    pub(crate) fn runtime_name(&self) -> String {
        self.runtime_path.clone().unwrap_or_else(|| self.combined.to_string_lossy().into_owned())
    }
}

/// A name that can be written in a command on HAProxy's socket: the commands are lines, and HAProxy takes some endings for a
/// part of a certificate (Management Guide, `set ssl cert`).
fn check_name(setting: &str, name: &str) -> Result<(), SettingError> {
    let parts = ["issuer", "key", "ocsp", "sctl"];
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str());
    if name.is_empty() {
        Err(SettingError::new(setting, "is empty"))
    } else if name.chars().any(|character| character.is_control() || character == char::REPLACEMENT_CHARACTER) {
        Err(SettingError::new(setting, "has a character that cannot be sent to HAProxy; rename the file"))
    } else if let Some(ending) = ending.filter(|ending| setting != "crt_list" && parts.contains(ending)) {
        Err(SettingError::new(setting, format!("ends with .{ending}, which HAProxy takes for a part of a certificate")))
    } else {
        Ok(())
    }
}

fn default_validate() -> CommandSetting {
    CommandSetting::new(&["haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg"])
}

fn default_shadow() -> CommandSetting {
    CommandSetting::new(&[])
}

pub(crate) fn default_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&["systemctl", "reload-or-restart", "haproxy"]))
}

#[cfg(test)]
mod tests;

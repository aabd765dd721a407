//! The settings of a target of the kind `caddy`. The doc comments are the reference page.

use std::fmt;
use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where Caddy finds its certificate, and how it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CaddySettings {
    /// The first file of the directive `tls` (`certificate` of `load_files`). It gets the leaf and its intermediates, in order,
    /// without the root.
    ///
    /// An absolute path; its directory must exist. Required.
    /// Example: `fullchain = "/etc/caddy/tls/www.crt"`.
    pub fullchain: PathBuf,

    /// The second file of the directive `tls` (`key` of `load_files`). It gets the private key, unencrypted.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Required.
    /// Example: `key = "/etc/caddy/tls/www.key"`.
    pub key: PathBuf,

    /// The command with which Caddy checks its configuration. Exit status 0 accepts. It is run on the new files before
    /// anything live changes, and on the live files after the switch.
    ///
    /// `[]` checks nothing. Default: `["caddy", "validate", "--config", "/etc/caddy/Caddyfile"]`.
    /// Example: `validate = ["caddy", "validate", "--config", "/srv/caddy/caddy.json"]`.
    #[serde(default = "default_validate")]
    pub validate: CommandSetting,

    /// How Caddy is told to take up new files: a command or a systemd unit.
    ///
    /// It has to be `--force`: without, Caddy does nothing where its configuration has not changed, and says that it did.
    /// Caddy knows no signal for it. Not together with `admin`. `[]` tells nothing. Default:
    /// `["caddy", "reload", "--force", "--config", "/etc/caddy/Caddyfile"]`; none with `admin`.
    /// Example: `reload = { systemd = "caddy" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reload: Option<ReloadSetting>,

    /// Where Caddy's admin API listens, as in the global option `admin`: `ADDRESS:PORT` on this machine, or `unix/` and a path.
    ///
    /// Over it Caddy is told to load the configuration that it has once more, its files included. No configuration is sent, so
    /// that it does not matter where it came from, or which file has it. Default: none; then `reload` is run.
    /// Example: `admin = "localhost:2019"` or `admin = "unix//run/caddy/admin.sock"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<Admin>,

    /// The owner of both files, by name or number. To change it takes root.
    ///
    /// Default: as it is; for new files whoever runs certdeploy.
    /// Example: `owner = "root"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of both files, by name or number. Without root, it must be one of one's own groups.
    ///
    /// Default: as it is; for new files that of whoever runs certdeploy.
    /// Example: `group = "caddy"`.
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
    /// Caddy reads it as the user that it runs as. Default: as it is; `"0600"` for a new file.
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

    /// Where Caddy can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6). `[]` says that nobody can look, and the deployment
    /// counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`. Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl CaddySettings {
    /// Everything at its default but the two files.
    #[must_use]
    pub fn new(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            fullchain: fullchain.into(),
            key: key.into(),
            validate: default_validate(),
            reload: None,
            admin: None,
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
        if let Some(reload) = &self.reload {
            check_reload("reload", reload)?;
            if self.admin.is_some() {
                return Err(SettingError::new("reload", "is another way than `admin`; remove one of them"));
            }
        }
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("key_mode", self.key_mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }
}

/// Where Caddy's admin API listens, as Caddy writes it: `ADDRESS:PORT`, or `unix/` and an absolute path.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[non_exhaustive]
pub enum Admin {
    /// A port of this machine, as `localhost:2019`.
    Tcp(String),
    /// A unix socket.
    Unix(PathBuf),
}

impl TryFrom<String> for Admin {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix/") {
            let path = PathBuf::from(path);
            return if path.is_absolute() {
                Ok(Self::Unix(path))
            } else {
                Err(format!("`{text}` has no absolute path: write unix//run/caddy/admin.sock, with two slashes"))
            };
        }
        match deploy_http::check_url(&format!("http://{text}")) {
            Ok(()) if text.contains(':') && !text.contains('/') => Ok(Self::Tcp(text)),
            _ => Err(format!("`{text}` is not an address of this machine, such as localhost:2019 or unix//run/caddy/admin.sock")),
        }
    }
}

impl From<Admin> for String {
    fn from(admin: Admin) -> Self {
        admin.to_string()
    }
}

impl fmt::Display for Admin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix/{}", path.display()),
        }
    }
}

fn default_validate() -> CommandSetting {
    CommandSetting::new(&["caddy", "validate", "--config", "/etc/caddy/Caddyfile"])
}

pub(crate) fn default_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&["caddy", "reload", "--force", "--config", "/etc/caddy/Caddyfile"]))
}

#[cfg(test)]
mod tests;

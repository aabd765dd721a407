//! The settings of a target of the kind `envoy`. The doc comments are the reference page.

use std::path::{Path, PathBuf};

use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_endpoints, check_key_mode, check_path, check_principal, check_reload,
    default_backups, default_verify_timeout,
};
use deploy_core::{Layout, SettingError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where Envoy finds its certificate as a secret, and how it is asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct EnvoySettings {
    /// The file of the secret: what `path_config_source.path` in the `sds_config` of Envoy's configuration names.
    ///
    /// It is certdeploy's alone, and is written whole: one secret, with certificate and key in it, or with the paths of
    /// `fullchain` and `key`. With the layout `generation` it is yours, and only read. An absolute path that ends with `.json`,
    /// `.yaml` or `.yml`; its directory must exist. Required.
    /// Example: `sds = "/etc/envoy/sds/www.json"`.
    pub sds: PathBuf,

    /// The name of the secret: `name` in `tls_certificate_sds_secret_configs`. Envoy refuses a secret of another name.
    ///
    /// Required, except with the layout `generation`. Example: `secret_name = "www"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_name: Option<String>,

    /// A file of its own for the leaf and its intermediates, in order, without the root. With `key`.
    ///
    /// An absolute path, the same for Envoy; its directory must exist. Default: none; then they are in `sds`.
    /// Example: `fullchain = "/etc/envoy/tls/www.crt"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fullchain: Option<PathBuf>,

    /// A file of its own for the private key, unencrypted. With `fullchain`.
    ///
    /// An absolute path, the same for Envoy; its directory must exist, and no other ordinary user may write to it.
    /// Default: none; then it is in `sds`.
    /// Example: `key = "/etc/envoy/tls/www.key"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,

    /// How the files take their places: `replace`, or `{ generation = DIRECTORY }`.
    ///
    /// `replace` switches each file by a rename of its own. With `generation`, `fullchain` and `key` go into a new directory in
    /// DIRECTORY, and the symbolic link `current` in it is switched to that. Both must then be directly in `DIRECTORY/current`,
    /// and `sds` is not written: it names these two paths, and DIRECTORY as their `watched_directory`. DIRECTORY is for this
    /// target alone; it is made if it does not exist, but Envoy watches only one that exists when it starts.
    /// Default: `"replace"`.
    /// Example: `layout = "replace"` or `layout = { generation = "/etc/envoy/tls/www" }`.
    #[serde(default)]
    pub layout: Layout,

    /// A command, a systemd unit or a signal, where Envoy has to be told.
    ///
    /// It does not: it watches. But a command that starts an Envoy that does not run, and does nothing to one that does, makes
    /// the first deployment whole: Envoy does not start before `sds` exists. Never restart Envoy here: it watches, and a restart
    /// ends connections. Default: `[]`, which tells nothing.
    /// Example: `reload = ["systemctl", "start", "envoy"]`.
    #[serde(default = "no_reload")]
    pub reload: ReloadSetting,

    /// Where Envoy's admin interface is: the absolute path of a unix socket, or a URL, on this machine or with `https://`.
    ///
    /// After the switch it is asked for `/certs` until the serial number of the new leaf is in the list, for as long as
    /// `verify_timeout`. That says that Envoy has loaded it, not that a listener serves it: configure `verify`, too.
    /// Default: none; then it is not asked.
    /// Example: `admin = "http://127.0.0.1:9901"` or `admin = "/run/envoy/admin.sock"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub admin: Option<String>,

    /// The owner of all files, by name or number.
    ///
    /// To change it takes root. Default: as it is; for new files whoever runs certdeploy.
    /// Example: `owner = "envoy"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of all files, by name or number.
    ///
    /// Without root, it must be one of one's own groups. Default: as it is; for new files that of whoever runs certdeploy.
    /// Example: `group = "envoy"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,

    /// The mode of `fullchain`, and of `sds` where the key is in a file of its own.
    ///
    /// Default: as it is; for new files `"0644"`.
    /// Example: `mode = "0644"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// The mode of the file with the key in it: `key`, or else `sds`. Nothing in it may be open to all.
    ///
    /// An Envoy that runs as another user than certdeploy needs `owner` or `group`, and this. Default: for `key` as it is, and
    /// `"0600"` where it is new; for `sds` always `"0600"`.
    /// Example: `key_mode = "0640"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<Mode>,

    /// Accept a key in a directory that another ordinary user can write to.
    ///
    /// Such a user can replace the key. Default: `false`.
    /// Example: `allow_unsafe_parent = true`.
    #[serde(default)]
    pub allow_unsafe_parent: bool,

    /// How many earlier deployments are kept for `certdeploy rollback`.
    ///
    /// Their keys stay on disk, in a directory that only their owner can enter. `0` keeps none; a failed deployment is
    /// rolled back all the same. Default: `3`.
    /// Example: `backups = 1`.
    #[serde(default = "default_backups")]
    pub backups: usize,

    /// Where Envoy can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6). `[]` says that nobody can look, and the deployment
    /// counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear, at the endpoints of `verify` and in the list of `admin`.
    ///
    /// Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl EnvoySettings {
    /// A secret with certificate and key in its file, and everything else at its default.
    #[must_use]
    pub fn new(sds: impl Into<PathBuf>, secret_name: impl Into<String>) -> Self {
        Self {
            sds: sds.into(),
            secret_name: Some(secret_name.into()),
            fullchain: None,
            key: None,
            layout: Layout::default(),
            reload: no_reload(),
            admin: None,
            owner: None,
            group: None,
            mode: None,
            key_mode: None,
            allow_unsafe_parent: false,
            backups: default_backups(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// The files of certificate and key, where they have some.
    pub(crate) fn pair(&self) -> Option<(&Path, &Path)> {
        self.fullchain.as_deref().zip(self.key.as_deref())
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        check_path("sds", &self.sds)?;
        if !self.sds.extension().is_some_and(|extension| ["json", "yaml", "yml"].iter().any(|known| extension == *known)) {
            return Err(SettingError::new("sds", "does not end with .json, .yaml or .yml, by which Envoy knows what is in it"));
        }
        self.check_pair()?;
        let is_named = self.secret_name.as_ref().is_some_and(|name| !name.is_empty());
        if !is_named && self.layout.directory().is_none() {
            return Err(SettingError::new(
                "secret_name",
                "is missing: write what `tls_certificate_sds_secret_configs` has as `name`",
            ));
        }
        check_reload("reload", &self.reload)?;
        if let Some(admin) = self.admin.as_ref().filter(|admin| !admin.starts_with('/')) {
            deploy_http::check_url(admin).map_err(|error| SettingError::new("admin", error.full_message()))?;
        }
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("key_mode", self.key_mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_pair(&self) -> Result<(), SettingError> {
        let (fullchain, key) = match (&self.fullchain, &self.key) {
            (Some(fullchain), Some(key)) => (fullchain, key),
            (None, None) if self.layout.directory().is_none() => return Ok(()),
            (None, _) => return Err(SettingError::new("fullchain", "is missing: `key` and the layout `generation` need it")),
            (_, None) => return Err(SettingError::new("key", "is missing: `fullchain` and the layout `generation` need it")),
        };
        for (field, path) in [("fullchain", fullchain), ("key", key)] {
            check_path(field, path)?;
            if let Some(problem) = self.layout.problem_with(path) {
                return Err(SettingError::new(field, problem));
            }
            if *path == self.sds {
                return Err(SettingError::new(field, "is the same file as `sds`: each needs a file of its own"));
            }
        }
        if fullchain == key {
            return Err(SettingError::new("key", "is the same file as `fullchain`: each needs a file of its own"));
        }
        Ok(())
    }
}

fn no_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&[]))
}

#[cfg(test)]
mod tests;

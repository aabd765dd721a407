//! The settings of an nginx target. The doc comments are the reference page.

use std::path::{Path, PathBuf};

use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use deploy_core::{Layout, LinkPolicy, SettingError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where nginx finds its certificate, and how it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct NginxSettings {
    /// The file that `ssl_certificate` names. It gets the leaf and its intermediates, in order, without the root.
    ///
    /// An absolute path; its directory must exist. Required.
    /// Example: `fullchain = "/etc/nginx/tls/www.crt"`.
    pub fullchain: PathBuf,

    /// The file that `ssl_certificate_key` names. It gets the private key, unencrypted.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Required.
    /// Example: `key = "/etc/nginx/tls/www.key"`.
    pub key: PathBuf,

    /// The file that `ssl_trusted_certificate` names. It gets the intermediates alone.
    ///
    /// nginx checks stapled OCSP responses and client certificates with it and never sends it: clients get their chain
    /// from `fullchain`. Refused for a certificate without intermediates. Default: no such file.
    /// Example: `trusted_chain = "/etc/nginx/tls/www.chain.crt"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trusted_chain: Option<PathBuf>,

    /// The command with which nginx checks its configuration. Exit status 0 accepts.
    ///
    /// It is run on the new files before anything live changes, and on the live files after the switch. An array, or a
    /// table with `command`, `timeout` and `environment`; `[]` checks nothing. Default: `["nginx", "-t"]`.
    /// Example: `validate = ["nginx", "-t", "-c", "/srv/nginx/nginx.conf"]`.
    #[serde(default = "default_validate")]
    pub validate: CommandSetting,

    /// The command that runs nginx in the foreground, to be tried in private before the switch.
    ///
    /// It has the real configuration. It is started in a private view in which the new files already stand at their places, on a network of its own, and has
    /// to serve them there at the addresses of `verify`. It takes root. `nginx -t` finds nearly everything that this finds, so
    /// it is off. Where a configuration names hosts of others (`proxy_pass http://backend.example.com`), nginx does not start
    /// without a network. Default: `[]`, nothing is started.
    /// Example: `shadow = ["nginx", "-g", "daemon off;"]`.
    #[serde(default = "default_shadow")]
    pub shadow: CommandSetting,

    /// How nginx is told to take up new files: a command, a systemd unit, or a signal.
    ///
    /// `nginx -s reload` reads the configuration first and refuses a bad one, which a signal cannot do. `[]` tells nothing,
    /// for an nginx that reads its files at each handshake. Default: `["nginx", "-s", "reload"]`.
    /// Example: `reload = { systemd = "nginx" }` or `reload = { signal = "HUP", pid_file = "/run/nginx.pid" }`.
    #[serde(default = "default_reload")]
    pub reload: ReloadSetting,

    /// The command that starts nginx anew, for a rollback in which the reload fails.
    ///
    /// It ends connections, and is never run while the reload works. Default: none.
    /// Example: `restart = ["systemctl", "restart", "nginx"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<CommandSetting>,

    /// The owner of all files, by name or number.
    ///
    /// To change it takes root. Default: as it is; for new files whoever runs certdeploy.
    /// Example: `owner = "root"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of all files, by name or number.
    ///
    /// Without root, it must be one of one's own groups. Default: as it is; for new files that of whoever runs certdeploy.
    /// Example: `group = "ssl-cert"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,

    /// The mode of `fullchain` and `trusted_chain`.
    ///
    /// Default: as it is; `"0644"` for new files.
    /// Example: `mode = "0644"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// The mode of `key`. Nothing in it may be open to all.
    ///
    /// Default: as it is; `"0600"` for a new file.
    /// Example: `key_mode = "0640"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<Mode>,

    /// What to do where a file is a symbolic link: `follow`, `refuse` or `replace`.
    ///
    /// `follow` replaces the file that the link leads to, and the link stays; `replace` puts a regular file in place of the
    /// link. Default: `"follow"`.
    /// Example: `links = "refuse"`.
    #[serde(default)]
    pub links: LinkPolicy,

    /// How the files take their places: `replace`, or `{ generation = DIRECTORY }`.
    ///
    /// `replace` switches each file by a rename of its own. With `generation`, all files of a deployment go into a new
    /// directory in DIRECTORY, and the symbolic link `current` in it is switched to that: a reader that opens
    /// `DIRECTORY/current` once finds files that match. Every file must then be directly in `DIRECTORY/current`, and so must
    /// the paths in nginx's configuration. DIRECTORY is for this target alone; it is made if it does not exist.
    /// Default: `"replace"`.
    /// Example: `layout = "replace"` or `layout = { generation = "/etc/nginx/tls/www" }`.
    #[serde(default)]
    pub layout: Layout,

    /// Accept a key in a directory that another ordinary user can write to.
    ///
    /// Such a user can replace the key. Default: `false`.
    /// Example: `allow_unsafe_parent = true`.
    #[serde(default)]
    pub allow_unsafe_parent: bool,

    /// Write into a file that cannot be replaced.
    ///
    /// That is one that is mounted by itself, as into a container, or that has other hard links. A reader can then see a part
    /// of the new file, and the report says so under `degraded`; what a crash leaves is repaired. Without it such files are
    /// refused. Not with the layout `generation`. Default: `false`.
    /// Example: `allow_in_place = true`.
    #[serde(default)]
    pub allow_in_place: bool,

    /// How many earlier deployments are kept for `certdeploy rollback`.
    ///
    /// Their keys stay on disk, in a directory that only their owner can enter. `0` keeps none; a failed deployment is
    /// rolled back all the same. Default: `3`.
    /// Example: `backups = 1`.
    #[serde(default = "default_backups")]
    pub backups: usize,

    /// Where nginx can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6), because no exit status of nginx proves anything.
    /// `[]` says that nobody can look, and the deployment counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// nginx reloads in the background, and the first handshakes after it can still show the old one. Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl NginxSettings {
    /// Everything at its default but the two files.
    #[must_use]
    pub fn new(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            fullchain: fullchain.into(),
            key: key.into(),
            trusted_chain: None,
            validate: default_validate(),
            shadow: default_shadow(),
            reload: default_reload(),
            restart: None,
            owner: None,
            group: None,
            mode: None,
            key_mode: None,
            links: LinkPolicy::default(),
            layout: Layout::default(),
            allow_unsafe_parent: false,
            allow_in_place: false,
            backups: default_backups(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        self.check_paths()?;
        check_command("validate", &self.validate)?;
        check_command("shadow", &self.shadow)?;
        check_reload("reload", &self.reload)?;
        if let Some(restart) = &self.restart {
            check_command("restart", restart)?;
        }
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("key_mode", self.key_mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_paths(&self) -> Result<(), SettingError> {
        let named =
            [("fullchain", Some(&self.fullchain)), ("key", Some(&self.key)), ("trusted_chain", self.trusted_chain.as_ref())];
        let mut seen: Vec<(&str, &Path)> = Vec::new();
        for (field, path) in named.into_iter().filter_map(|(field, path)| path.map(|path| (field, path.as_path()))) {
            check_path(field, path)?;
            if let Some(problem) = self.layout.problem_with(path) {
                return Err(SettingError::new(field, problem));
            }
            // Comparing paths ignores doubled slashes and single dots; other names of one file are found on the disk.
            if let Some((other, _)) = seen.iter().find(|(_, earlier)| *earlier == path) {
                return Err(SettingError::new(field, format!("is the same file as `{other}`: each needs a file of its own")));
            }
            seen.push((field, path));
        }
        Ok(())
    }
}

fn default_validate() -> CommandSetting {
    CommandSetting::new(&["nginx", "-t"])
}

fn default_shadow() -> CommandSetting {
    CommandSetting::new(&[])
}

fn default_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&["nginx", "-s", "reload"]))
}

#[cfg(test)]
mod tests;

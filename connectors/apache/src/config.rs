//! The settings of an Apache target. The doc comments are the reference page.

use std::path::{Path, PathBuf};

use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use deploy_core::{Layout, LinkPolicy, Role, SettingError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where Apache finds its certificate, and how it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ApacheSettings {
    /// The file that `SSLCertificateFile` names. It gets the leaf and its intermediates, in order, without the root.
    ///
    /// An absolute path; its directory must exist. Either this or `leaf` is required. For Apache 2.4.8 and later.
    /// Example: `fullchain = "/etc/apache2/tls/www.crt"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fullchain: Option<PathBuf>,

    /// The file that `SSLCertificateFile` names, where the intermediates are in a file of their own. It gets the leaf alone.
    ///
    /// An absolute path; its directory must exist. With `chain`, instead of `fullchain`. Default: no such file.
    /// Example: `leaf = "/etc/apache2/tls/www.leaf.crt"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<PathBuf>,

    /// The file that `SSLCertificateChainFile` names. It gets the intermediates alone.
    ///
    /// The directive is obsolete since Apache 2.4.8. Refused for a certificate without intermediates. With `leaf`.
    /// Default: no such file.
    /// Example: `chain = "/etc/apache2/tls/www.chain.crt"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain: Option<PathBuf>,

    /// The file that `SSLCertificateKeyFile` names. It gets the private key, unencrypted.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Required.
    /// Example: `key = "/etc/apache2/tls/www.key"`.
    pub key: PathBuf,

    /// The command with which Apache checks its configuration. Exit status 0 accepts.
    ///
    /// It is run on the new files before anything live changes, and on the live files after the switch. It sees that they are
    /// there and does not open them: `shadow` does. An array, or a table with `command`, `timeout` and `environment`; `[]`
    /// checks nothing. Default: `["apachectl", "configtest"]`.
    /// Example: `validate = ["httpd", "-t"]`.
    #[serde(default = "default_validate")]
    pub validate: CommandSetting,

    /// The command that runs Apache in the foreground, with the real configuration.
    ///
    /// Before anything live changes it is started in a private view in which the new files already stand at their places, on a
    /// network of its own, and has to serve them there at the addresses of `verify`. Nobody else can reach it, what it writes
    /// is thrown away, and it ends with the look. It takes root; without, or without `verify`, the report says that it was
    /// left out. `[]` starts nothing. Default: `["apachectl", "-DFOREGROUND"]`.
    /// Example: `shadow = ["httpd", "-DFOREGROUND"]`, as on RHEL.
    #[serde(default = "default_shadow")]
    pub shadow: CommandSetting,

    /// How Apache is told to take up new files: a command, a systemd unit, or a signal.
    ///
    /// No open connection is dropped. `graceful` starts an Apache that does not run. Default: `["apachectl", "graceful"]`.
    /// Example: `reload = { systemd = "httpd" }` or `reload = { signal = "USR1", pid_file = "/run/apache2/apache2.pid" }`.
    #[serde(default = "default_reload")]
    pub reload: ReloadSetting,

    /// The command that starts Apache, for a rollback after a reload that failed or in which Apache ended.
    ///
    /// `[]` runs nothing. Default: `["apachectl", "start"]`, which does nothing while Apache runs.
    /// Example: `restart = ["systemctl", "restart", "httpd"]`.
    #[serde(default = "default_restart")]
    pub restart: CommandSetting,

    /// The file that `PidFile` names: the process in it must go on running through a reload.
    ///
    /// Default: `/run/apache2/apache2.pid`, `/run/httpd/httpd.pid` and `/run/apache2/httpd.pid`, where Debian, RHEL and Alpine
    /// have it; the first that names a running process counts.
    /// Example: `pid_file = "/srv/apache/httpd.pid"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid_file: Option<PathBuf>,

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

    /// The mode of `fullchain`, `leaf` and `chain`.
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
    /// directory in DIRECTORY, and the symbolic link `current` in it is switched to that. Every file must then be directly in
    /// `DIRECTORY/current`, and so must the paths in Apache's configuration. DIRECTORY is for this target alone; it is made if
    /// it does not exist. Default: `"replace"`.
    /// Example: `layout = "replace"` or `layout = { generation = "/etc/apache2/tls/www" }`.
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

    /// Where Apache can be seen serving the certificate: a list of endpoints, all of which must. One for each virtual host.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6), because no exit status of Apache proves anything.
    /// `[]` says that nobody can look, and the deployment counts as a success if Apache still runs. Default: absent.
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

impl ApacheSettings {
    /// Everything at its default but the two files.
    #[must_use]
    pub fn new(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self {
            fullchain: Some(fullchain.into()),
            leaf: None,
            chain: None,
            key: key.into(),
            validate: default_validate(),
            shadow: default_shadow(),
            reload: default_reload(),
            restart: default_restart(),
            pid_file: None,
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

    /// The files in the order of switching: what is of use without the others first, the key last.
    pub(crate) fn files(&self) -> impl Iterator<Item = (&'static str, &Path, Role)> {
        let named = [
            ("chain", self.chain.as_deref(), Role::Chain),
            ("leaf", self.leaf.as_deref(), Role::Leaf),
            ("fullchain", self.fullchain.as_deref(), Role::Fullchain),
            ("key", Some(self.key.as_path()), Role::Key),
        ];
        named.into_iter().filter_map(|(field, path, role)| Some((field, path?, role)))
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        match (&self.fullchain, &self.leaf, &self.chain) {
            (Some(_), None, None) | (None, Some(_), Some(_)) => {}
            (None, Some(_), None) => {
                return Err(SettingError::new("chain", "is missing: `leaf` alone leaves the clients without it"));
            }
            (None, None, _) => return Err(SettingError::new("fullchain", "is missing; for two files write `leaf` and `chain`")),
            (Some(_), ..) => return Err(SettingError::new("fullchain", "holds the chain already: remove `leaf` and `chain`")),
        }
        self.check_paths()?;
        check_command("validate", &self.validate)?;
        check_command("shadow", &self.shadow)?;
        check_reload("reload", &self.reload)?;
        check_command("restart", &self.restart)?;
        if let Some(pid_file) = &self.pid_file {
            check_path("pid_file", pid_file)?;
        }
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("key_mode", self.key_mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_paths(&self) -> Result<(), SettingError> {
        let mut seen: Vec<(&str, &Path)> = Vec::new();
        for (field, path, _) in self.files() {
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
    CommandSetting::new(&["apachectl", "configtest"])
}

fn default_shadow() -> CommandSetting {
    CommandSetting::new(&["apachectl", "-DFOREGROUND"])
}

fn default_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&["apachectl", "graceful"]))
}

fn default_restart() -> CommandSetting {
    CommandSetting::new(&["apachectl", "start"])
}

#[cfg(test)]
mod tests;

//! The settings of a target of the kind `files`. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::certificate::Block;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use deploy_core::{Layout, LinkPolicy, Role, SettingError};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which files a server reads, and how it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FilesSettings {
    /// The files that the server reads, each with what it gets: at least one.
    ///
    /// A table for each: `path` and `content` are needed; `order`, `owner`, `group` and `mode` are not. Chains are switched
    /// first, then certificates, then what holds the key, each in the order of the list. Required.
    /// Example: `files = [{ path = "/etc/mosquitto/certs/www.crt", content = "fullchain" }]` or
    /// `files = [{ path = "/etc/stunnel/www.pem", content = "combined", group = "stunnel4", mode = "0640" }]`.
    #[schemars(length(min = 1))]
    pub files: Vec<FileSetting>,

    /// The command with which the server checks its configuration. Exit status 0 accepts.
    ///
    /// It is run on the new files before anything live changes, and on the live files after the switch. An array, or a
    /// table with `command`, `timeout` and `environment`; `[]` checks nothing. Default: `[]`.
    /// Example: `validate = ["exim4", "-bV"]`.
    #[serde(default = "no_command")]
    pub validate: CommandSetting,

    /// How the server is told to take up new files: a command, a systemd unit, or a signal.
    ///
    /// `[]` tells nothing, for a server that reads its files at each handshake or watches them. Default: `[]`.
    /// Example: `reload = { systemd = "stunnel4" }` or `reload = { signal = "HUP", pid_file = "/run/stunnel4/www.pid" }`.
    #[serde(default = "no_reload")]
    pub reload: ReloadSetting,

    /// The command that starts the server anew, for a rollback in which the reload fails.
    ///
    /// It ends connections, and is never run while the reload works. Default: none.
    /// Example: `restart = ["systemctl", "restart", "stunnel4"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<CommandSetting>,

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
    /// directory in DIRECTORY, and the symbolic link `current` in it is switched to that. Every file must then be directly
    /// in `DIRECTORY/current`. DIRECTORY is for this target alone; it is made if it does not exist. Default: `"replace"`.
    /// Example: `layout = "replace"` or `layout = { generation = "/etc/mosquitto/certs/www" }`.
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

    /// Where the server can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6), because no exit status proves anything. `[]` says
    /// that nobody can look, and the deployment counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:8883", server_name = "mqtt.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// A server that watches its files may look at them only now and then. Default: `"15s"`.
    /// Example: `verify_timeout = "2m"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

/// One file that a server reads.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct FileSetting {
    /// Where it stands: an absolute path; its directory must exist.
    pub path: PathBuf,
    /// What it gets: `leaf`, `chain`, `fullchain`, `key` or `combined`.
    pub content: FileContent,
    /// The parts of a `combined` file in their order: `key` and `leaf`, and `chain` after the leaf where it is wanted.
    /// Default: `["key", "leaf", "chain"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<Block>>,
    /// The owner, by name or number. To change it takes root. Default: as it is; for a new file whoever runs certdeploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// The group, by name or number. Without root, it must be one of one's own groups. Default: as it is; for a new file that
    /// of whoever runs certdeploy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The mode. Nothing in a file with the key may be open to all. Default: as it is; for a new file `"0600"` with the key
    /// in it, and `"0644"` without.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
}

/// What a file gets of a certificate, as PEM.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileContent {
    /// The leaf alone.
    Leaf,
    /// The intermediates in order, without the root. Refused for a certificate without intermediates.
    Chain,
    /// The leaf, then the intermediates in order, without the root.
    Fullchain,
    /// The private key, unencrypted.
    Key,
    /// The private key and certificates in one file.
    Combined,
}

/// The order of a combined file where none is given.
///
/// Postfix takes only files in which the key comes first (postconf(5), `smtpd_tls_chain_files`). Who reads the key and the
/// certificates each for itself, as HAProxy does (configuration manual, `crt`), finds it in any place, as long as the
/// leaf comes before its intermediates.
pub(crate) const DEFAULT_ORDER: [Block; 3] = [Block::Key, Block::Leaf, Block::Chain];

impl FilesSettings {
    /// These files, and everything else at its default.
    #[must_use]
    pub fn new(files: impl IntoIterator<Item = FileSetting>) -> Self {
        Self {
            files: files.into_iter().collect(),
            validate: no_command(),
            reload: no_reload(),
            restart: None,
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
        self.check_files()?;
        check_command("validate", &self.validate)?;
        check_reload("reload", &self.reload)?;
        if let Some(restart) = &self.restart {
            check_command("restart", restart)?;
        }
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_files(&self) -> Result<(), SettingError> {
        if self.files.is_empty() {
            return Err(SettingError::new("files", "names no file; there is nothing to deploy"));
        }
        for (index, file) in self.files.iter().enumerate() {
            let setting = format!("files[{index}]");
            file.check(&setting)?;
            if let Some(problem) = self.layout.problem_with(&file.path) {
                return Err(SettingError::new(format!("{setting}.path"), problem));
            }
            // Comparing paths ignores doubled slashes and single dots; other names of one file are found on the disk.
            if let Some(other) = self.files[..index].iter().position(|earlier| earlier.path == file.path) {
                let message = format!("is the same file as `files[{other}].path`: each needs a file of its own");
                return Err(SettingError::new(format!("{setting}.path"), message));
            }
        }
        Ok(())
    }
}

impl FileSetting {
    /// A file with this content, and everything else at its default.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, content: FileContent) -> Self {
        Self { path: path.into(), content, order: None, owner: None, group: None, mode: None }
    }

    fn check(&self, setting: &str) -> Result<(), SettingError> {
        check_path(&format!("{setting}.path"), &self.path)?;
        self.check_order(&format!("{setting}.order"))?;
        check_principal(&format!("{setting}.owner"), self.owner.as_deref())?;
        check_principal(&format!("{setting}.group"), self.group.as_deref())?;
        let key_mode = self.mode.filter(|_| self.content.role().holds_key());
        check_key_mode(&format!("{setting}.mode"), key_mode)
    }

    fn check_order(&self, setting: &str) -> Result<(), SettingError> {
        let Some(order) = &self.order else { return Ok(()) };
        let place = |block: Block| order.iter().position(|other| *other == block);
        let (key, leaf, chain) = (place(Block::Key), place(Block::Leaf), place(Block::Chain));
        let distinct = [key, leaf, chain].into_iter().flatten().count() == order.len();
        let problem = if self.content != FileContent::Combined {
            "is for `content = \"combined\"` alone"
        } else if !distinct {
            "names a part twice"
        } else if key.is_none() || leaf.is_none() {
            "lacks `key` or `leaf`, and a combined file has both"
        } else if chain.is_some_and(|chain| Some(chain) < leaf) {
            "has `chain` before `leaf`; servers take the first certificate of a file for their own"
        } else {
            return Ok(());
        };
        Err(SettingError::new(setting, problem))
    }
}

impl FileContent {
    /// What the engine knows such a file as.
    pub(crate) fn role(self) -> Role {
        match self {
            Self::Leaf => Role::Leaf,
            Self::Chain => Role::Chain,
            Self::Fullchain => Role::Fullchain,
            Self::Key => Role::Key,
            Self::Combined => Role::Combined,
        }
    }
}

fn no_command() -> CommandSetting {
    CommandSetting::new(&[])
}

fn no_reload() -> ReloadSetting {
    ReloadSetting::Command(no_command())
}

#[cfg(test)]
mod tests;

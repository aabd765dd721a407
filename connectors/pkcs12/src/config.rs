//! The settings of a target of the kind `pkcs12`. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use deploy_core::{LinkPolicy, SettingError};
use deploy_keystore::{Encryption, check_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which file gets key and certificates, and how what reads it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Pkcs12Settings {
    /// The file. It gets the private key, the leaf and its intermediates, without the root, and nothing else.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Required.
    /// Example: `path = "/etc/exampled/www.p12"`.
    pub path: PathBuf,

    /// Where the password of the file is found.
    ///
    /// Required.
    /// Example: `password = "file:/etc/certdeploy/secrets/exampled"`.
    pub password: SecretRef,

    /// The friendly name of key and leaf, which some programs show or choose by.
    ///
    /// Printable ASCII, at most 128 characters. Default: the name of the target.
    /// Example: `friendly_name = "www.example.com"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub friendly_name: Option<String>,

    /// How the file is encrypted: `modern` (PBES2 with AES-256 and HMAC-SHA-256) or `legacy` (Triple DES and SHA-1).
    ///
    /// `legacy` is for readers that cannot read the other. Default: as the file is; `"modern"` for a new one.
    /// Example: `encryption = "legacy"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// The command with which the server checks its configuration. Exit status 0 accepts.
    ///
    /// It is run on the new file before anything live changes, and on the live file after the switch. `[]` checks nothing.
    /// Default: `[]`.
    /// Example: `validate = ["exampled", "--check"]`.
    #[serde(default = "no_command")]
    pub validate: CommandSetting,

    /// How the server is told to take up a new file: a command, a systemd unit, or a signal.
    ///
    /// `[]` tells nothing, for what reads the file each time it needs it. Default: `[]`.
    /// Example: `reload = { systemd = "exampled" }`.
    #[serde(default = "no_reload")]
    pub reload: ReloadSetting,

    /// The command that starts the server anew, for a rollback in which the reload fails.
    ///
    /// It ends connections, and is never run while the reload works. Default: none.
    /// Example: `restart = ["systemctl", "restart", "exampled"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<CommandSetting>,

    /// The owner of the file, by name or number. To change it takes root.
    ///
    /// Default: as it is; for a new file whoever runs certdeploy.
    /// Example: `owner = "exampled"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of the file, by name or number. Without root, it must be one of one's own groups.
    ///
    /// Default: as it is; for a new file that of whoever runs certdeploy.
    /// Example: `group = "exampled"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,

    /// The mode of the file. Nothing in it may be open to all.
    ///
    /// Default: as it is; `"0600"` for a new file.
    /// Example: `mode = "0640"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,

    /// What to do where the file is a symbolic link: `follow`, `refuse` or `replace`.
    ///
    /// `follow` replaces the file that the link leads to, and the link stays; `replace` puts a regular file in place of the
    /// link. Default: `"follow"`.
    /// Example: `links = "refuse"`.
    #[serde(default)]
    pub links: LinkPolicy,

    /// Accept the file in a directory that another ordinary user can write to.
    ///
    /// Such a user can replace the key. Default: `false`.
    /// Example: `allow_unsafe_parent = true`.
    #[serde(default)]
    pub allow_unsafe_parent: bool,

    /// How many earlier deployments are kept for `certdeploy rollback`. Each is the whole file.
    ///
    /// `0` keeps none; a failed deployment is rolled back all the same. Default: `3`.
    /// Example: `backups = 1`.
    #[serde(default = "default_backups")]
    pub backups: usize,

    /// Where the server can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// Without it a deployment is reported as `unverified` (exit code 6). `[]` says that nobody can look, and the deployment
    /// counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:8443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl Pkcs12Settings {
    /// Everything at its default but what is required.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, password: SecretRef) -> Self {
        Self {
            path: path.into(),
            password,
            friendly_name: None,
            encryption: None,
            validate: no_command(),
            reload: no_reload(),
            restart: None,
            owner: None,
            group: None,
            mode: None,
            links: LinkPolicy::default(),
            allow_unsafe_parent: false,
            backups: default_backups(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        check_path("path", &self.path)?;
        if let Some(name) = &self.friendly_name {
            check_name("friendly_name", name)?;
        }
        check_command("validate", &self.validate)?;
        check_reload("reload", &self.reload)?;
        if let Some(restart) = &self.restart {
            check_command("restart", restart)?;
        }
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("mode", self.mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }
}

fn no_command() -> CommandSetting {
    CommandSetting::new(&[])
}

fn no_reload() -> ReloadSetting {
    ReloadSetting::Command(no_command())
}

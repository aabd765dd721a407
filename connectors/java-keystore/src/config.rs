//! The settings of a target of the kind `java-keystore`. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use deploy_core::{LinkPolicy, SettingError};
use deploy_keystore::{Encryption, StoreType, check_name};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which keystore gets the key, and how what reads it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct JavaKeystoreSettings {
    /// The keystore: a JKS or a PKCS#12, as the file itself says. It is made if it does not exist.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Required.
    /// Example: `path = "/etc/tomcat10/tls/www.p12"`.
    pub path: PathBuf,

    /// Where the password of the store is found.
    ///
    /// At least 6 characters, all of them printable ASCII: Java takes no others. Required.
    /// Example: `password = "file:/etc/certdeploy/secrets/keystore"`.
    pub password: SecretRef,

    /// Where the password of the key is found.
    ///
    /// keytool and most servers expect that of the store. The same rules apply. Default: that of the store.
    /// Example: `key_password = "file:/etc/certdeploy/secrets/key"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_password: Option<SecretRef>,

    /// The alias of the key: the entry that is replaced, or made. Other entries stay as they are.
    ///
    /// Upper and lower case are the same, as in Java; it is written in lower case. Printable ASCII, at most 128 characters.
    /// Required.
    /// Example: `alias = "tomcat"`.
    pub alias: String,

    /// The type of a keystore that does not exist yet: `pkcs12` or `jks`. A file of another type is refused.
    ///
    /// `jks` is for what reads nothing else: its protection is weak. Default: as the file is; `"pkcs12"` for a new one.
    /// Example: `type = "jks"`.
    #[serde(default, rename = "type", skip_serializing_if = "Option::is_none")]
    pub store_type: Option<StoreType>,

    /// How a PKCS#12 is encrypted: `modern` (PBES2 with AES-256 and HMAC-SHA-256) or `legacy` (Triple DES and SHA-1).
    ///
    /// `legacy` is for Java before 8u301 and 11.0.12. A JKS has no choice. Default: as the file is; `"modern"` for a new one.
    /// Example: `encryption = "legacy"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encryption: Option<Encryption>,

    /// The command with which the server checks its configuration. Exit status 0 accepts.
    ///
    /// It is run on the new file before anything live changes, and on the live file after the switch. `[]` checks nothing.
    /// Tomcat's `configtest` accepts every store.
    /// Default: `[]`.
    /// Example: `validate = ["/usr/local/sbin/check-keystore"]`.
    #[serde(default = "no_command")]
    pub validate: CommandSetting,

    /// How the server is told to take up a new file: a command, a systemd unit, or a signal.
    ///
    /// `[]` tells nothing, for what reads the file each time it needs it. Default: `[]`.
    /// Example: `reload = { systemd = "jetty" }`.
    #[serde(default = "no_reload")]
    pub reload: ReloadSetting,

    /// The command that starts the server anew, for a rollback in which the reload fails.
    ///
    /// It ends connections, and is never run while the reload works. Default: none.
    /// Example: `restart = ["systemctl", "restart", "tomcat10"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<CommandSetting>,

    /// The owner of the file, by name or number. To change it takes root.
    ///
    /// Default: as it is; for a new file whoever runs certdeploy.
    /// Example: `owner = "tomcat"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of the file, by name or number. Without root, it must be one of one's own groups.
    ///
    /// Default: as it is; for a new file that of whoever runs certdeploy.
    /// Example: `group = "tomcat"`.
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

    /// How many earlier deployments are kept for `certdeploy rollback`. Each is the whole store.
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

impl JavaKeystoreSettings {
    /// Everything at its default but what is required.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>, password: SecretRef, alias: impl Into<String>) -> Self {
        Self {
            path: path.into(),
            password,
            key_password: None,
            alias: alias.into(),
            store_type: None,
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
        check_name("alias", &self.alias)?;
        if self.store_type == Some(StoreType::Jks) && self.encryption.is_some() {
            return Err(SettingError::new("encryption", "is for PKCS#12; a JKS has one way to be protected"));
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

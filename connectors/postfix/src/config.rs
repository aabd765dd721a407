//! The settings of a target of the kind `postfix`. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{
    CommandSetting, Mode, Period, ReloadSetting, check_command, check_endpoints, check_key_mode, check_path, check_principal,
    check_reload, default_backups, default_verify_timeout,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Kinds of tables that are looked up in an index, and how the name of the index ends (postmap(1), DATABASE_README).
const INDEXED: [(&str, &str); 4] = [("btree", ".db"), ("cdb", ".cdb"), ("hash", ".db"), ("lmdb", ".lmdb")];

/// Where Postfix finds its certificate, and how it is checked, told and asked.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PostfixSettings {
    /// The file that `smtpd_tls_chain_files` names, or that a table of `sni_maps` names. It gets the private key, the leaf and
    /// its intermediates, in this order, without the root.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. This is what Postfix recommends
    /// (3.4 and later): there is never a moment with a key and a certificate that do not match. Required, unless there are
    /// `fullchain` and `key`. Example: `chain_file = "/etc/postfix/tls/mail.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chain_file: Option<PathBuf>,

    /// The file that `smtpd_tls_cert_file` names, instead of `chain_file`. It gets the leaf and its intermediates, in order,
    /// without the root.
    ///
    /// An absolute path; its directory must exist. Default: absent. Example: `fullchain = "/etc/postfix/tls/mail.crt"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fullchain: Option<PathBuf>,

    /// The file that `smtpd_tls_key_file` names, together with `fullchain`. It gets the private key, unencrypted.
    ///
    /// An absolute path; its directory must exist, and no other ordinary user may write to it. Default: absent.
    /// Example: `key = "/etc/postfix/tls/mail.key"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,

    /// Tables of `tls_server_sni_maps` that are rebuilt with `postmap -F` before every reload: their index holds a copy of the
    /// key and the certificate.
    ///
    /// Each is written as in Postfix, `TYPE:FILE`, with a type that has an index (`hash`, `btree`, `lmdb`, `cdb`) and an
    /// absolute path. The table must exist, and be closed to others: the index gets its mode. Default: none.
    /// Example: `sni_maps = ["hash:/etc/postfix/sni"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sni_maps: Vec<String>,

    /// A command that checks Postfix' configuration. Exit status 0 accepts. It is run before anything live changes, and again
    /// after the switch.
    ///
    /// Postfix has none that looks at certificates: `postfix check` answers 0 whatever they are. `[]` checks nothing.
    /// Default: `[]`. Example: `validate = ["postfix", "check"]`.
    #[serde(default = "default_validate")]
    pub validate: CommandSetting,

    /// How Postfix is told to take up new files: a command, a systemd unit, or a signal.
    ///
    /// `[]` tells nothing; then new files are used by and by, as processes of Postfix end. Default: `["postfix", "reload"]`.
    /// Example: `reload = ["postmulti", "-i", "postfix-mx", "-p", "reload"]` or `reload = { systemd = "postfix" }`.
    #[serde(default = "default_reload")]
    pub reload: ReloadSetting,

    /// The owner of the files, by name or number. To change it takes root. Postfix reads them as root.
    ///
    /// Default: as it is; for new files whoever runs certdeploy.
    /// Example: `owner = "root"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,

    /// The group of the files, by name or number. Without root, it must be one of one's own groups.
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

    /// The mode of `chain_file`, or of `key`. Nothing in it may be open to all.
    ///
    /// Default: as it is; `"0600"` for a new file.
    /// Example: `key_mode = "0600"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key_mode: Option<Mode>,

    /// How many earlier deployments are kept for `certdeploy rollback`. Their keys stay on disk, in a directory that only
    /// their owner can enter.
    ///
    /// `0` keeps none; a failed deployment is rolled back all the same. Default: `3`.
    /// Example: `backups = 1`.
    #[serde(default = "default_backups")]
    pub backups: usize,

    /// Where Postfix can be seen serving the certificate: a list of endpoints, all of which must.
    ///
    /// `starttls = "smtp"` belongs to the ports 25 and 587, nothing of that kind to 465. Without it a deployment is reported as
    /// `unverified` (exit code 6). `[]` says that nobody can look, and the deployment counts as a success. Default: absent.
    /// Example: `verify = [{ connect = "127.0.0.1:25", server_name = "mail.example.com", starttls = "smtp" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`. Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

/// The files of a target, in one of the two ways that Postfix has.
#[derive(Clone, Debug)]
pub(crate) enum Files {
    /// All in one.
    Chain(PathBuf),
    /// Certificate and key.
    Pair(PathBuf, PathBuf),
}

/// A table with an index.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    /// As Postfix has it.
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) index: String,
}

impl PostfixSettings {
    /// One file with everything, and everything else at its default.
    #[must_use]
    pub fn new(chain_file: impl Into<PathBuf>) -> Self {
        Self {
            chain_file: Some(chain_file.into()),
            fullchain: None,
            key: None,
            sni_maps: Vec::new(),
            validate: default_validate(),
            reload: default_reload(),
            owner: None,
            group: None,
            mode: None,
            key_mode: None,
            backups: default_backups(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// Certificate and key apart, and everything else at its default.
    #[must_use]
    pub fn with_pair(fullchain: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        Self { chain_file: None, fullchain: Some(fullchain.into()), key: Some(key.into()), ..Self::new("") }
    }

    /// What is wrong with them, as far as can be told without looking at the disk.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        match self.files()? {
            Files::Chain(path) => check_path("chain_file", &path)?,
            Files::Pair(fullchain, key) => {
                check_path("fullchain", &fullchain)?;
                check_path("key", &key)?;
            }
        }
        self.tables()?;
        check_command("validate", &self.validate)?;
        check_reload("reload", &self.reload)?;
        check_principal("owner", self.owner.as_deref())?;
        check_principal("group", self.group.as_deref())?;
        check_key_mode("key_mode", self.key_mode)?;
        check_endpoints("verify", self.verify.as_deref())
    }

    pub(crate) fn files(&self) -> Result<Files, SettingError> {
        match (&self.chain_file, &self.fullchain, &self.key) {
            (Some(chain_file), None, None) => Ok(Files::Chain(chain_file.clone())),
            (None, Some(fullchain), Some(key)) => Ok(Files::Pair(fullchain.clone(), key.clone())),
            (Some(_), _, _) => {
                Err(SettingError::new("chain_file", "excludes `fullchain` and `key`: Postfix ignores those beside a chain file"))
            }
            (None, Some(_), None) => Err(SettingError::new("key", "is missing beside `fullchain`")),
            (None, None, Some(_)) => Err(SettingError::new("fullchain", "is missing beside `key`")),
            (None, None, None) => Err(SettingError::new("chain_file", "is missing; or give `fullchain` and `key`")),
        }
    }

    pub(crate) fn tables(&self) -> Result<Vec<Table>, SettingError> {
        self.sni_maps.iter().enumerate().map(|(index, name)| table(name, &format!("sni_maps[{index}]"))).collect()
    }
}

fn table(name: &str, setting: &str) -> Result<Table, SettingError> {
    let refuse = |message: String| Err(SettingError::new(setting, message));
    let Some((kind, path)) = name.split_once(':') else {
        return refuse(format!("`{name}` is not of the form TYPE:FILE, as in hash:/etc/postfix/sni"));
    };
    let Some((_, ending)) = INDEXED.iter().find(|(indexed, _)| *indexed == kind) else {
        return refuse(format!(
            "tables of the type `{kind}` have no index that `postmap` makes (hash, btree, lmdb and cdb have); leave it out: \
             Postfix reads the files of other tables itself"
        ));
    };
    check_path(setting, path.as_ref())?;
    Ok(Table { name: name.to_owned(), path: path.to_owned(), index: format!("{path}{ending}") })
}

fn default_validate() -> CommandSetting {
    CommandSetting::new(&[])
}

fn default_reload() -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::new(&["postfix", "reload"]))
}

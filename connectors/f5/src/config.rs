//! The settings of a target of the kind `f5`. The doc comments are the reference page.

use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{Period, check_endpoints, default_verify_timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The partition whose objects can be used in all others.
const COMMON: &str = "Common";

/// The profiles that every other one inherits from.
const PARENTS: [&str; 2] = ["/Common/clientssl", "/Common/serverssl"];

/// Which profiles of which BIG-IP show the certificate, and where success can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct F5Settings {
    /// The management address of the BIG-IP, with `https://`. Required.
    ///
    /// Example: `url = "https://bigip1.example.com"`.
    pub url: String,

    /// The authorities that the management certificate may come from: a file of PEM certificates.
    ///
    /// No others are trusted then. Default: absent, those that this machine trusts.
    /// Example: `ca_file = "/etc/certdeploy/bigip-ca.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,

    /// The user who logs in. Required.
    ///
    /// A user of certdeploy's own: a BIG-IP counts 100 sessions for each. Example: `username = "certdeploy"`.
    pub username: String,

    /// The user's password. Required.
    ///
    /// Example: `password = "file:/etc/certdeploy/bigip-password"`.
    pub password: SecretRef,

    /// Who checks the password: the name of a log-in provider.
    ///
    /// Default: `"tmos"`, for users of the BIG-IP and for those that it asks LDAP, RADIUS or TACACS+ about.
    /// Example: `login_provider = "local"`.
    #[serde(default = "default_login_provider")]
    pub login_provider: String,

    /// The client-ssl profiles, by their full paths: what virtual servers show to their clients.
    ///
    /// Each has to exist, and to have a pair of its own. They are switched together, in one transaction.
    /// Default: none; there has to be one here or in `server_ssl`.
    /// Example: `client_ssl = ["/Common/www", "/Shop/checkout"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub client_ssl: Vec<String>,

    /// The server-ssl profiles, by their full paths: what the BIG-IP shows to the servers behind it.
    ///
    /// Switched in the same transaction. Default: none.
    /// Example: `server_ssl = ["/Common/backend"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub server_ssl: Vec<String>,

    /// The entry of each client-ssl profile's `cert-key-chain`, by its name. Other entries are left as they are.
    ///
    /// For profiles with two pairs, one with an RSA key and one with an ECDSA key: a target for each, with an entry for each.
    /// Where the profile has no such entry, it is added. Default: absent, the only entry that there is.
    /// Example: `entry = "ecdsa"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,

    /// The partition that certificate, key and chain are put in.
    ///
    /// Only objects in `Common` can be used by profiles of other partitions. Default: that of the profiles; `Common`, if they are in
    /// several.
    /// Example: `partition = "Shop"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,

    /// Whether the running configuration is saved after the switch. Without that, a restart brings the old certificate back.
    ///
    /// The BIG-IP saves what others have changed with it: it has no other way. Default: `true`.
    /// Example: `save = false`.
    #[serde(default = "default_save")]
    pub save: bool,

    /// The device group that the configuration is synchronised to after the switch.
    ///
    /// It has to be in sync before, so that nobody's changes are lost. Default: absent, nothing is synchronised: for a BIG-IP that
    /// stands alone, for a group that does it by itself, and for a target for each device.
    /// Example: `sync_to = "failover-group"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sync_to: Option<String>,

    /// How long the device group may take until it is in sync.
    ///
    /// Default: `"1m"`.
    /// Example: `sync_timeout = "3m"`.
    #[serde(default = "default_sync_timeout")]
    pub sync_timeout: Period,

    /// Where the certificate can be seen being served: the addresses of the virtual servers, all of which must.
    ///
    /// Without it, what the API says of itself counts. Default: absent.
    /// Example: `verify = [{ connect = "192.0.2.10:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl F5Settings {
    /// Everything at its default but what is required; profiles are still missing.
    #[must_use]
    pub fn new(url: impl Into<String>, username: impl Into<String>, password: SecretRef) -> Self {
        Self {
            url: url.into(),
            ca_file: None,
            username: username.into(),
            password,
            login_provider: default_login_provider(),
            client_ssl: Vec::new(),
            server_ssl: Vec::new(),
            entry: None,
            partition: None,
            save: default_save(),
            sync_to: None,
            sync_timeout: default_sync_timeout(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without a call.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        deploy_http::check_url(&self.url).map_err(|error| SettingError::new("url", error.full_message()))?;
        if self.ca_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(SettingError::new("ca_file", "is not an absolute path; it must start with /"));
        }
        if self.username.is_empty() {
            return Err(SettingError::new("username", "is empty"));
        }
        if self.client_ssl.is_empty() && self.server_ssl.is_empty() {
            return Err(SettingError::new(
                "client_ssl",
                "names no profile; without one in `client_ssl` or `server_ssl` nothing is served",
            ));
        }
        check_profiles("client_ssl", &self.client_ssl)?;
        check_profiles("server_ssl", &self.server_ssl)?;
        let names = [("entry", &self.entry), ("partition", &self.partition), ("sync_to", &self.sync_to)];
        for (field, name) in names.into_iter().filter_map(|(field, name)| Some((field, name.as_ref()?))) {
            if !is_name(name) {
                return Err(SettingError::new(
                    field,
                    format!("`{name}` cannot be a name: write letters, digits, `-`, `_` and `.`"),
                ));
            }
        }
        let partition = self.partition();
        if let Some(profile) = self.profiles().find(|profile| partition != COMMON && partition_of(profile) != partition) {
            let message = format!("`{profile}` cannot use what is in the partition `{partition}`: take its own, or `{COMMON}`");
            return Err(SettingError::new("partition", message));
        }
        check_endpoints("verify", self.verify.as_deref())
    }

    /// Where certificate, key and chain are put.
    pub(crate) fn partition(&self) -> &str {
        if let Some(partition) = &self.partition {
            return partition;
        }
        let first = self.profiles().next().map_or(COMMON, partition_of);
        if self.profiles().all(|profile| partition_of(profile) == first) { first } else { COMMON }
    }

    fn profiles(&self) -> impl Iterator<Item = &str> {
        self.client_ssl.iter().chain(&self.server_ssl).map(String::as_str)
    }
}

fn check_profiles(field: &str, profiles: &[String]) -> Result<(), SettingError> {
    for (index, profile) in profiles.iter().enumerate() {
        let wrong = |message: String| Err(SettingError::new(format!("{field}[{index}]"), message));
        let names: Vec<&str> = profile.split('/').collect();
        let is_path = names.len() >= 3 && names[0].is_empty() && names[1..].iter().all(|name| is_name(name));
        if !is_path {
            return wrong(format!("`{profile}` is no full path of a profile, such as /Common/www"));
        }
        if PARENTS.contains(&profile.as_str()) {
            return wrong(format!("`{profile}` is what all others inherit from: make a profile of your own, and name that"));
        }
        if profiles[..index].contains(profile) {
            return wrong(format!("`{profile}` is there twice"));
        }
    }
    Ok(())
}

fn partition_of(profile: &str) -> &str {
    profile.split('/').nth(1).unwrap_or_default()
}

/// What may stand in a path, and in the arguments of a command, as it is.
fn is_name(name: &str) -> bool {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    name.starts_with(|first: char| first.is_ascii_alphanumeric() || first == '_') && name.chars().all(plain)
}

fn default_login_provider() -> String {
    "tmos".to_owned()
}

fn default_save() -> bool {
    true
}

fn default_sync_timeout() -> Period {
    Period::new(std::time::Duration::from_secs(60))
}

//! The settings of a target of the kind `iis`. The doc comments are the reference page.

use std::time::Duration;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{Period, check_endpoints, default_verify_timeout};
use deploy_powershell::{Connection, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which bindings of which Windows host get a certificate, and who may read its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct IisSettings {
    /// How the host is reached. Required.
    ///
    /// Example: `connection = { winrm = { host = "web1.example.com", user = "certdeploy", password = "file:/etc/certdeploy/web1" } }`.
    pub connection: Connection,

    /// The https bindings that get the certificate. They have to exist, and nothing else about them is changed.
    ///
    /// Default: `[]`; one of `bindings`, `replaces` and `central_store` is needed.
    /// Example: `bindings = [{ site = "Default Web Site", host = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bindings: Vec<BindingName>,

    /// The thumbprint (SHA-1) of a certificate: every https binding that has it, or what replaced it, gets the new one.
    ///
    /// It stays in the settings: bindings with a certificate of this target are found by its mark later on. Default: absent.
    /// Example: `replaces = "A909502DD82AE41433E6F83886B00D4277A32A7B"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,

    /// Files of the central certificate store, instead of a store of the machine.
    ///
    /// Default: absent.
    /// Example: `central_store = { folder = 'D:\certs', names = ["www.example.com"], password = "file:/etc/certdeploy/ccs" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub central_store: Option<CentralStore>,

    /// The store that the certificate is imported into, one of the machine's.
    ///
    /// Default: `"My"`, which administrators see as Personal.
    /// Example: `store = "WebHosting"`.
    #[serde(default = "default_store")]
    pub store: String,

    /// What administrators see as the friendly name, before the mark of this target.
    ///
    /// Default: empty.
    /// Example: `friendly_name = "Shop"`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub friendly_name: String,

    /// Accounts that may read the key: names or SIDs. IIS needs none; applications that use the certificate themselves do.
    ///
    /// Those that could read the previous certificate's key can in any case. Default: `[]`.
    /// Example: `read_access = ['IIS AppPool\shop']`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub read_access: Vec<String>,

    /// Whether the key can be exported from the store again.
    ///
    /// Default: `false`.
    /// Example: `exportable = true`.
    #[serde(default)]
    pub exportable: bool,

    /// How long a replaced certificate stays in the store. It also stays for as long as http.sys or Remote Desktop uses it.
    ///
    /// Default: `"30d"`.
    /// Example: `retire_after = "90d"`.
    #[serde(default = "default_retire_after")]
    pub retire_after: Period,

    /// Where the certificate can be seen being served: a list of endpoints, all of which must.
    ///
    /// Without it, what IIS says counts. Default: absent.
    /// Example: `verify = [{ connect = "web1.example.com:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

/// An https binding, by what IIS Manager shows of it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BindingName {
    /// The name of the site. Required.
    ///
    /// Example: `site = "Default Web Site"`.
    pub site: String,
    /// The IP address; `*` for all.
    ///
    /// Default: `"*"`. Example: `ip = "192.0.2.80"`.
    #[serde(default = "default_ip")]
    pub ip: String,
    /// The port.
    ///
    /// Default: `443`. Example: `port = 8443`.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The host name; empty for a binding without one.
    ///
    /// Default: empty. Example: `host = "www.example.com"`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub host: String,
}

/// Files of the central certificate store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CentralStore {
    /// The folder, as the host sees it. Not a share: the session has no credentials for another machine. Required.
    ///
    /// Example: `folder = 'D:\certs'`.
    pub folder: String,
    /// The host names that get the certificate, each a file. Required.
    ///
    /// Example: `names = ["www.example.com", "*.example.com"]`.
    pub names: Vec<String>,
    /// Where the password of the files is found, which IIS has in the settings of its central store. Required.
    ///
    /// Example: `password = "file:/etc/certdeploy/ccs"`.
    pub password: SecretRef,
}

impl IisSettings {
    /// Everything at its default but what is required.
    #[must_use]
    pub fn new(connection: Connection, bindings: Vec<BindingName>) -> Self {
        Self {
            connection,
            bindings,
            replaces: None,
            central_store: None,
            store: default_store(),
            friendly_name: String::new(),
            read_access: Vec::new(),
            exportable: false,
            retire_after: default_retire_after(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without a call.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        self.connection.check()?;
        match &self.central_store {
            Some(_) if !self.bindings.is_empty() || self.replaces.is_some() => {
                return Err(SettingError::new("central_store", "cannot be together with `bindings` or `replaces`"));
            }
            Some(store) => store.check()?,
            None if self.bindings.is_empty() && self.replaces.is_none() => {
                return Err(SettingError::new("bindings", "is needed, or `replaces`, or `central_store`"));
            }
            None => {}
        }
        for (index, binding) in self.bindings.iter().enumerate() {
            binding.check(&format!("bindings[{index}]"))?;
        }
        if self.replaces.as_ref().is_some_and(|thumbprint| !is_thumbprint(thumbprint)) {
            return Err(SettingError::new("replaces", "is not a thumbprint: write 40 hexadecimal digits, without spaces"));
        }
        Store::check_name("store", &self.store)?;
        Store::check_friendly_name("friendly_name", &self.friendly_name)?;
        if self.read_access.iter().any(|account| account.trim().is_empty()) {
            return Err(SettingError::new("read_access", "has an account without a name"));
        }
        check_endpoints("verify", self.verify.as_deref())
    }
}

impl BindingName {
    /// The binding of a site for a host name, at all addresses and port 443.
    #[must_use]
    pub fn new(site: impl Into<String>, host: impl Into<String>) -> Self {
        Self { site: site.into(), ip: default_ip(), port: default_port(), host: host.into() }
    }

    fn check(&self, setting: &str) -> Result<(), SettingError> {
        let error = |field: &str, message: &str| Err(SettingError::new(format!("{setting}.{field}"), message));
        if self.site.is_empty() {
            return error("site", "is empty");
        }
        let ip = self.ip.trim_matches(['[', ']']);
        if ip != "*" && ip.parse::<std::net::IpAddr>().is_err() {
            return error("ip", "is neither an address nor `*`");
        }
        if self.host.contains([':', '/', ' ']) {
            return error("host", "is not a host name");
        }
        Ok(())
    }
}

impl CentralStore {
    fn check(&self) -> Result<(), SettingError> {
        let error = |field: &str, message: &str| Err(SettingError::new(format!("central_store.{field}"), message));
        let drive = self.folder.as_bytes();
        if !(drive.len() > 3 && drive[0].is_ascii_alphabetic() && drive[1..3] == *b":\\" && !self.folder.ends_with('\\')) {
            return error("folder", "is not an absolute path on a drive of the host, such as `D:\\certs`");
        }
        let fits = |name: &String| {
            let name = name.strip_prefix("*.").unwrap_or(name);
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "-.".contains(c)) && !name.starts_with('.')
        };
        if self.names.is_empty() || !self.names.iter().all(fits) {
            return error("names", "needs host names, such as `www.example.com` or `*.example.com`");
        }
        Ok(())
    }

    /// The file that IIS takes for each name: `_` stands for the star of a wildcard.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.names.iter().map(|name| format!("{}\\{}.pfx", self.folder, name.replacen('*', "_", 1))).collect()
    }
}

fn is_thumbprint(text: &str) -> bool {
    text.len() == 40 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn default_ip() -> String {
    "*".to_owned()
}

fn default_port() -> u16 {
    443
}

fn default_store() -> String {
    "My".to_owned()
}

fn default_retire_after() -> Period {
    Period::new(Duration::from_secs(30 * 24 * 60 * 60))
}

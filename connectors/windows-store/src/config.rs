//! The settings of a target of the kind `windows-store`. The doc comments are the reference page.

use std::time::Duration;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{Period, check_endpoints, default_verify_timeout};
use deploy_powershell::{Connection, Store};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Which store of which Windows host a certificate goes into, and who may read its key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WindowsStoreSettings {
    /// How the host is reached. Required.
    ///
    /// Example: `connection = { winrm = { host = "web1.example.com", user = "certdeploy", password = "file:/etc/certdeploy/web1" } }`.
    pub connection: Connection,

    /// The store, one of the machine's.
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

    /// Accounts that may read the key: names or SIDs. Those that could read the previous certificate's key can in any case.
    ///
    /// Default: `[]`.
    /// Example: `read_access = ['NT SERVICE\MSSQLSERVER', "S-1-5-20"]`.
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
    /// Without it, what the store says counts. Default: absent.
    /// Example: `verify = [{ connect = "db1.example.com:1433" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`.
    /// Example: `verify_timeout = "30s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl WindowsStoreSettings {
    /// Everything at its default but what is required.
    #[must_use]
    pub fn new(connection: Connection) -> Self {
        Self {
            connection,
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
        Store::check_name("store", &self.store)?;
        Store::check_friendly_name("friendly_name", &self.friendly_name)?;
        if self.read_access.iter().any(|account| account.trim().is_empty()) {
            return Err(SettingError::new("read_access", "has an account without a name"));
        }
        check_endpoints("verify", self.verify.as_deref())
    }
}

fn default_store() -> String {
    "My".to_owned()
}

fn default_retire_after() -> Period {
    Period::new(Duration::from_secs(30 * 24 * 60 * 60))
}

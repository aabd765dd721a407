//! The settings of one target. The comments are the reference page.

use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{Period, check_endpoints, default_verify_timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One listener of a shelf.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ShelfSettings {
    /// The base URL of the API.
    ///
    /// Required. Example: `url = "https://shelf.example.com"`.
    pub(super) url: String,

    /// The listener that is to serve the certificate.
    ///
    /// Required. It must exist. Example: `listener = "front"`.
    pub(super) listener: String,

    /// The API token, which needs the permission `certificates.write`.
    ///
    /// Required. Example: `token = "file:/etc/certdeploy/shelf-token"`.
    pub(super) token: SecretRef,

    /// The authorities that the API's certificate may come from, as a file of PEM certificates; then no others are trusted.
    ///
    /// Default: absent, those that this machine trusts. Example: `ca_file = "/etc/certdeploy/shelf-ca.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) ca_file: Option<PathBuf>,

    /// Where the new certificate can be seen.
    ///
    /// Default: absent, and what the API says of itself counts. Example: `verify = [{ connect = "www.example.com:443" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear there.
    ///
    /// Default: `"15s"`.
    #[serde(default = "default_verify_timeout")]
    pub(super) verify_timeout: Period,
}

impl ShelfSettings {
    /// What is wrong with them, as far as can be told without a network.
    pub(super) fn check(&self) -> Result<(), SettingError> {
        deploy_http::check_url(&self.url).map_err(|error| SettingError::new("url", error.full_message()))?;
        if self.listener.is_empty() {
            return Err(SettingError::new("listener", "is empty"));
        }
        if self.ca_file.as_ref().is_some_and(|path| !path.is_absolute()) {
            return Err(SettingError::new("ca_file", "is not an absolute path; it must start with /"));
        }
        check_endpoints("verify", self.verify.as_deref())
    }
}

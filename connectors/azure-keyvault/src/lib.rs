//! The connector for certificates in Azure Key Vault, by its REST API.
//!
//! A connector makes one call at a time and says what came of it; the engine orders, journals, repeats and goes back. An
//! agent registers [`AzureKeyvault`] and gets targets of the kind `azure-keyvault`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_azure_keyvault::AzureKeyvault>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     vault            = "https://example.vault.azure.net"
//!     certificate_name = "www-example-com"
//!     credentials      = { managed_identity = {} }
//!     "#,
//! )?;
//! let entry = registry.get("azure-keyvault").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(!target.capabilities().files);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of a vault:
//! - An import makes a new version, and that is the current one at once. There is no way back to an older version, none is ever
//!   removed, and one that is disabled is given to nobody, while the one before does not take its place.
//! - An import replaces the policy of the name. What is there is sent again, so that the form in which others fetch it stays.
//! - A certificate that was deleted keeps its name for 7 to 90 days.
//! - It publishes, and does not serve. Application Gateway and App Service fetch a new version at their own pace.

mod challenge;
mod client;
mod config;
mod credentials;
mod policy;
mod problem;
mod target;

pub use config::{AzureCli, AzureKeyvaultSettings, ClientSecret, ContentType, Credentials, ManagedIdentity, WorkloadIdentity};

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `azure-keyvault`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AzureKeyvault;

impl Connector for AzureKeyvault {
    const KIND: &'static str = "azure-keyvault";
    const SUMMARY: &'static str = "Azure Key Vault: a new version of a certificate, by its REST API";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_verification();
    type Settings = AzureKeyvaultSettings;

    fn build(name: &str, settings: AzureKeyvaultSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::AzureKeyvaultTarget::new(name, settings)))
    }
}

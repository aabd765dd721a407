//! The connector for IIS.
//!
//! A connector makes one call at a time and says what came of it; the engine orders, journals, repeats and goes back. An
//! agent registers [`Iis`] and gets targets of the kind `iis`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_iis::Iis>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     connection      = { winrm = { host = "web1.example.com", user = "certdeploy", password = "file:/etc/certdeploy/web1" } }
//!     bindings = [{ site = "Default Web Site", host = "www.example.com" }]
//!     verify   = [{ connect = "web1.example.com:443", server_name = "www.example.com" }]
//!     "#,
//! )?;
//! let entry = registry.get("iis").ok_or("it was registered above")?;
//! let target = entry.build("shop", settings)?;
//! assert!(!target.capabilities().files);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of IIS (from Microsoft's documents; no Windows was seen):
//! - http.sys serves, and not IIS: by records of its own, one for each port and name with SNI, or one for each address and port.
//!   Bindings that have one record in common have one certificate, and a record for an address hides those for names.
//! - A binding is given another certificate in place. Removing and adding it would be a gap, and would lose what else it has.
//! - New handshakes have the new certificate at once; nothing is restarted, and application pools go on as they are.
//! - The central store is a folder of PFX files with the names of hosts, which IIS reads on demand.

mod bindings;
mod central_store;
mod config;
mod target;

pub use config::{BindingName, CentralStore, IisSettings};

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `iis`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Iis;

impl Connector for Iis {
    const KIND: &'static str = "iis";
    const SUMMARY: &'static str = "IIS: bindings of sites, or its central certificate store, over WinRM or SSH";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_verification();
    type Settings = IisSettings;

    fn build(name: &str, settings: IisSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::IisTarget::new(name, settings)))
    }
}

//! The connector for F5 BIG-IP: client-ssl and server-ssl profiles, by iControl REST.
//!
//! A connector makes one call at a time and says what came of it; the engine orders, journals, repeats and goes back. An
//! agent registers [`F5`] and gets targets of the kind `f5`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_f5::F5>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     url        = "https://bigip1.example.com"
//!     username   = "certdeploy"
//!     password   = "file:/etc/certdeploy/bigip-password"
//!     client_ssl = ["/Common/www"]
//!     verify     = [{ connect = "192.0.2.10:443", server_name = "www.example.com" }]
//!     "#,
//! )?;
//! let entry = registry.get("f5").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(!target.capabilities().files);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of a BIG-IP, from F5's documentation and from what F5's own clients do:
//! - Certificate, key and intermediates are objects of their own, and a profile names all three. An object that is in use cannot be
//!   replaced by one that does not match, nor be deleted: so new ones get new names, and the profile is switched to them.
//! - Requests with the header `X-F5-REST-Coordination-Id` wait in a transaction until that is committed. Then all of them take
//!   effect, or none does. `validateOnly` checks them, and does nothing else.
//! - `PATCH` replaces the whole `certKeyChain` of a profile. Other entries have to be sent back with it.
//! - An upload stays in `/var/config/rest/downloads` until somebody removes it, a private key in the clear too.
//! - A session lives for 20 minutes, and a user may have 100. So each run ends its own.
//! - What is not saved is gone with the next restart.

mod client;
mod config;
mod material;
mod profile;
mod session;
mod target;
#[cfg(test)]
mod tests;

pub use config::F5Settings;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `f5`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct F5;

impl Connector for F5 {
    const KIND: &'static str = "f5";
    const SUMMARY: &'static str = "F5 BIG-IP: client-ssl and server-ssl profiles, by iControl REST";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_staged_validation().with_verification();
    type Settings = F5Settings;

    fn build(name: &str, settings: F5Settings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::F5Target::new(name, settings)))
    }
}

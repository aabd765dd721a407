//! The connector for PKCS#12 files.
//!
//! The file has one key with its certificates. It is written in process: no openssl, and no password as an argument. A file
//! that holds them already is left alone, although it would be written with other bytes.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Pkcs12`] and gets targets of the kind `pkcs12`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_pkcs12::Pkcs12>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     path     = "/etc/exampled/www.p12"
//!     password = "file:/etc/certdeploy/secrets/exampled"
//!     reload   = { systemd = "exampled" }
//!     verify   = [{ connect = "127.0.0.1:443" }]
//!     "#,
//! )?;
//! let entry = registry.get("pkcs12").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(target.capabilities().rollback);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod target;

pub use config::Pkcs12Settings;
pub use deploy_keystore::Encryption;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `pkcs12`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Pkcs12;

impl Connector for Pkcs12 {
    const KIND: &'static str = "pkcs12";
    const SUMMARY: &'static str = "any server that reads a PKCS#12 file, and a reload";
    const CAPABILITIES: Capabilities = Capabilities::FILES;
    type Settings = Pkcs12Settings;

    fn build(name: &str, settings: Pkcs12Settings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::Pkcs12Target::new(name, settings)))
    }
}

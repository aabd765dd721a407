//! The connector for lighttpd.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Lighttpd`] and gets targets of the kind `lighttpd`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_lighttpd::Lighttpd>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     fullchain = "/etc/lighttpd/tls/www.crt"
//!     key       = "/etc/lighttpd/tls/www.key"
//!     group     = "www-data"
//!     key_mode  = "0640"
//!     verify    = [{ connect = "127.0.0.1:443" }]
//!     "#,
//! )?;
//! let entry = registry.get("lighttpd").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(target.capabilities().rollback);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod discovery;
mod target;

pub use config::LighttpdSettings;

use deploy_core::{Capabilities, Connector, Error, Found, Look, SettingError, Target};

/// The kind `lighttpd`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Lighttpd;

impl Connector for Lighttpd {
    const KIND: &'static str = "lighttpd";
    const SUMMARY: &'static str = "lighttpd: files and a reload";
    const CAPABILITIES: Capabilities = Capabilities::FILES.with_staged_validation();
    type Settings = LighttpdSettings;

    fn build(name: &str, settings: LighttpdSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::LighttpdTarget::new(name, settings)))
    }

    fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
        discovery::discover(look)
    }
}

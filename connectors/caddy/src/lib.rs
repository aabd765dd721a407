//! The connector for Caddy, where it serves certificates from files that its configuration names.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Caddy`] and gets targets of the kind `caddy`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_caddy::Caddy>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     fullchain = "/etc/caddy/tls/www.crt"
//!     key       = "/etc/caddy/tls/www.key"
//!     group     = "caddy"
//!     key_mode  = "0640"
//!     verify    = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]
//!     "#,
//! )?;
//! let entry = registry.get("caddy").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(target.capabilities().rollback);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of Caddy (2.6.2):
//! - It does not watch certificate files, and a reload with an unchanged configuration does nothing, with success.
//! - A configuration that cannot be loaded changes nothing: the old one runs on.
//! - On a unix socket its admin API wants a `Host` without a value.

mod client;
mod config;
mod discovery;
mod target;

pub use config::{Admin, CaddySettings};

use deploy_core::{Capabilities, Connector, Error, Found, Look, SettingError, Target};

/// The kind `caddy`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Caddy;

impl Connector for Caddy {
    const KIND: &'static str = "caddy";
    const SUMMARY: &'static str = "Caddy: files, and a forced reload by command or over its admin API";
    const CAPABILITIES: Capabilities = Capabilities::FILES.with_staged_validation();
    type Settings = CaddySettings;

    fn build(name: &str, settings: CaddySettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::CaddyTarget::new(name, settings)))
    }

    fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
        discovery::discover(look)
    }
}

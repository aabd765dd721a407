//! The connector for Traefik: certificate and key, and the file that Traefik watches, last.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Traefik`] and gets targets of the kind `traefik`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_traefik::Traefik>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     fullchain = "/etc/traefik/tls/www.crt"
//!     key       = "/etc/traefik/tls/www.key"
//!     dynamic   = "/etc/traefik/dynamic/tls.yml"
//!     verify    = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]
//!     "#,
//! )?;
//! let entry = registry.get("traefik").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(target.capabilities().hot_update);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Facts about Traefik that shape the description, from its documentation and its source; it was not tried, and the tests have a
//! stand-in that follows these rules:
//!
//! - The file provider watches the dynamic configuration and not the certificates that it names. They are read again only
//!   when it changes; the same text is enough, because what they hold is compared.
//! - A pair that cannot be used is left out, and its names get the default certificate. The old pair is not kept.
//! - Two changes are `providersThrottleDuration` apart, 2 seconds by default.
//! - From version 3.7 on, the API says which certificates are loaded.

mod client;
mod config;
mod target;

pub use config::TraefikSettings;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `traefik`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Traefik;

impl Connector for Traefik {
    const KIND: &'static str = "traefik";
    const SUMMARY: &'static str = "Traefik: files, and the dynamic configuration that it watches";
    const CAPABILITIES: Capabilities = Capabilities::FILES.with_hot_update();
    type Settings = TraefikSettings;

    fn build(name: &str, settings: TraefikSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::TraefikTarget::new(name, settings)))
    }
}

//! The connector for nginx: where certificate and key go, how nginx checks them, how it is told, and where to look.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Nginx`] and gets targets of the kind `nginx`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_nginx::Nginx>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     fullchain = "/etc/nginx/tls/www.crt"
//!     key       = "/etc/nginx/tls/www.key"
//!     verify    = [{ connect = "127.0.0.1:443" }]
//!     "#,
//! )?;
//! let nginx = registry.get("nginx").ok_or("nginx was registered above")?;
//! let target = nginx.build("front", settings)?;
//! assert!(target.capabilities().hot_update);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Facts about nginx that shape the description, seen on nginx 1.22:
//!
//! - There is no directive for a chain: `ssl_certificate` wants leaf and intermediates in one file.
//!   `ssl_trusted_certificate` is for checking OCSP responses and clients, and is never sent.
//! - `nginx -t` loads the files that the configuration names, so before a first deployment it fails. The engine shows it
//!   the new files in a private view, or has it check a minimal configuration.
//! - A certificate and a key of different types (an EC certificate, an RSA key) pass `nginx -t` and the reload, and then
//!   every handshake fails. The engine compares the keys itself.
//! - A reload is asynchronous, and `nginx -s reload` can answer 0 although the master keeps what it had. Only a handshake
//!   tells.
//! - A bad reload leaves the old workers serving, so that a rollback needs no restart as a rule.

mod config;
mod discovery;
mod target;

pub use config::NginxSettings;

use deploy_core::{Capabilities, Connector, Error, Found, Look, SettingError, Target};

/// The kind `nginx`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Nginx;

impl Connector for Nginx {
    const KIND: &'static str = "nginx";
    const SUMMARY: &'static str = "nginx, and what takes its commands (OpenResty, Angie): files and a reload";
    const CAPABILITIES: Capabilities = Capabilities::FILES.with_staged_validation().with_hot_update();
    type Settings = NginxSettings;

    fn build(name: &str, settings: NginxSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::NginxTarget::new(name, settings)))
    }

    fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
        discovery::discover(look)
    }
}

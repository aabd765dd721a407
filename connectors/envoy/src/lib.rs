//! The connector for Envoy: a secret in a file, which Envoy watches.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Envoy`] and gets targets of the kind `envoy`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_envoy::Envoy>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     sds         = "/etc/envoy/sds/www.json"
//!     secret_name = "www"
//!     verify      = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]
//!     "#,
//! )?;
//! let entry = registry.get("envoy").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(target.capabilities().hot_update);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Facts about Envoy that shape the description, seen on Envoy 1.40:
//!
//! - It takes up what is renamed into a directory that it watches, within a tenth of a second, and never what is written in
//!   place. It watches by the path in its configuration: a rename behind a symbolic link is not seen.
//! - A secret that it cannot use is refused, and the one before goes on being served (`sds.NAME.update_rejected`).
//! - With certificate and key in files of their own, each rename is looked at by itself: the first one does not match
//!   (`sds.NAME.key_rotation_failed`), and the old pair is served until the second. One link that both go through makes it one
//!   update.
//! - `--mode validate` reads no secrets, so that there is no checker.

mod client;
mod config;
mod target;

pub use config::EnvoySettings;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `envoy`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Envoy;

impl Connector for Envoy {
    const KIND: &'static str = "envoy";
    const SUMMARY: &'static str = "Envoy: a secret (SDS) in a file that it watches";
    const CAPABILITIES: Capabilities = Capabilities::FILES.with_hot_update();
    type Settings = EnvoySettings;

    fn build(name: &str, settings: EnvoySettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::EnvoyTarget::new(name, settings)))
    }
}

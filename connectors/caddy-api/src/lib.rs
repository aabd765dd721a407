//! The connector for Caddy, where it has certificates in its configuration (`load_pem`), by its admin API.
//!
//! A connector makes one call at a time and says what came of it; the engine orders, journals, repeats and goes back. An
//! agent registers [`CaddyApi`] and gets targets of the kind `caddy-api`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_caddy_api::CaddyApi>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     admin  = "unix//run/caddy/admin.sock"
//!     verify = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]
//!     "#,
//! )?;
//! let entry = registry.get("caddy-api").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(!target.capabilities().files);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of Caddy (2.6.2):
//! - Everything that is loaded is served: a certificate cannot lie beside the live one. So the entry of a target, which has an
//!   `@id` of its own, is replaced in one change.
//! - A change that cannot be loaded is refused with 500, and Caddy goes on with what it had.
//! - The `ETag` comes after the body in 2.6 and 2.7, and before it later. `If-Match` takes exactly that.

mod client;
mod config;
mod target;

pub use config::CaddyApiSettings;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `caddy-api`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct CaddyApi;

impl Connector for CaddyApi {
    const KIND: &'static str = "caddy-api";
    const SUMMARY: &'static str = "Caddy: a certificate in its configuration, by its admin API";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_verification();
    type Settings = CaddyApiSettings;

    fn build(name: &str, settings: CaddyApiSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check(name)?;
        Ok(Box::new(target::CaddyApiTarget::new(name, settings)))
    }
}

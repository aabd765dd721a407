//! The connector for an endpoint of one's own: the pair in one HTTP request, in the form that the endpoint wants.
//!
//! A connector makes one call at a time and says what came of it; the engine orders, journals, repeats and goes back. An
//! agent registers [`Webhook`] and gets targets of the kind `webhook`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_webhook::Webhook>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     url           = "https://deploy.example.com/api"
//!     authorization = { bearer = "file:/etc/certdeploy/deploy-token" }
//!     send          = { method = "PUT", path = "certificates/{target}", json = { certificate = "{fullchain}", key = "{key}" } }
//!     observe       = { path = "certificates/{target}", fingerprint = "/sha256" }
//!     "#,
//! )?;
//! let entry = registry.get("webhook").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(!target.capabilities().files);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What follows from an endpoint that is only told:
//! - The request that hands a certificate over makes it live. It carries the fingerprint, so that a second one is the same.
//! - An endpoint gives no key back. The engine keeps the pair that it deployed, and going back sends that again.
//! - An endpoint that nobody can ask (`observe`) gets each certificate once, as far as the engine remembers.

mod client;
mod config;
mod fingerprint;
mod signature;
mod target;
mod template;

pub use config::{
    Authorization, BearerToken, HeaderSetting, Method, ObserveSettings, RequestSettings, SecretHeader, SignatureSettings,
    UserPassword, WebhookSettings,
};
pub use template::{Json, Line};

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `webhook`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Webhook;

impl Connector for Webhook {
    const KIND: &'static str = "webhook";
    const SUMMARY: &'static str = "an endpoint of one's own: the pair in one HTTP request";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_staged_validation().with_verification();
    type Settings = WebhookSettings;

    fn build(name: &str, settings: WebhookSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::WebhookTarget::new(name, settings)))
    }
}

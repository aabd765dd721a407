//! The connector for Postfix.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Postfix`] and gets targets of the kind `postfix`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_postfix::Postfix>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     chain_file = "/etc/postfix/tls/mail.pem"
//!     verify     = [{ connect = "127.0.0.1:25", server_name = "mail.example.com", starttls = "smtp" }]
//!     "#,
//! )?;
//! let entry = registry.get("postfix").ok_or("it was registered above")?;
//! let target = entry.build("mail", settings)?;
//! assert!(target.capabilities().rollback);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What decided the design, seen with Postfix 3.7: no command of Postfix looks at certificates, and a reload answers 0
//! whatever they are. With a pair that does not match Postfix goes on, offers STARTTLS, and answers 454 to who asks for it; so the
//! engine's own checks come before the switch, and a handshake after it.

mod config;
mod discovery;
mod target;

pub use config::PostfixSettings;

use deploy_core::{Capabilities, Connector, Error, Found, Look, SettingError, Target};

/// The kind `postfix`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Postfix;

impl Connector for Postfix {
    const KIND: &'static str = "postfix";
    const SUMMARY: &'static str = "Postfix: files and a reload";
    const CAPABILITIES: Capabilities = Capabilities::FILES;
    type Settings = PostfixSettings;

    fn build(name: &str, settings: PostfixSettings) -> Result<Box<dyn Target>, SettingError> {
        Ok(Box::new(target::PostfixTarget::new(name, settings)?))
    }

    fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
        discovery::discover(look)
    }
}

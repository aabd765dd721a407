//! The connector for Dovecot.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Dovecot`] and gets targets of the kind `dovecot`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_dovecot::Dovecot>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     fullchain = "/etc/dovecot/tls/mail.crt"
//!     key       = "/etc/dovecot/tls/mail.key"
//!     verify    = [{ connect = "127.0.0.1:143", server_name = "mail.example.com", starttls = "imap" }]
//!     "#,
//! )?;
//! let entry = registry.get("dovecot").ok_or("it was registered above")?;
//! let target = entry.build("mail", settings)?;
//! assert!(target.capabilities().rollback);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What decided the design, seen with Dovecot 2.3: its checker opens no certificate, and a reload answers 0 for a pair that does not
//! match. Dovecot then goes on, offers TLS and fails for every client; so it is started in private before the switch (`shadow`),
//! and asked for a handshake after it.

mod config;
mod discovery;
mod target;

pub use config::DovecotSettings;

use deploy_core::{Capabilities, Connector, Error, Found, Look, SettingError, Target};

/// The kind `dovecot`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Dovecot;

impl Connector for Dovecot {
    const KIND: &'static str = "dovecot";
    const SUMMARY: &'static str = "Dovecot: files and a reload, tried before in private";
    const CAPABILITIES: Capabilities = Capabilities::FILES.with_staged_validation();
    type Settings = DovecotSettings;

    fn build(name: &str, settings: DovecotSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::DovecotTarget::new(name, settings)))
    }

    fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
        discovery::discover(look)
    }
}

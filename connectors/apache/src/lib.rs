//! The connector for the Apache HTTP server: where certificate and key go, how Apache is tried, told, and asked.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Apache`] and gets targets of the kind `apache`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_apache::Apache>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     fullchain = "/etc/apache2/tls/www.crt"
//!     key       = "/etc/apache2/tls/www.key"
//!     verify    = [{ connect = "127.0.0.1:443", server_name = "www.example.com" }]
//!     "#,
//! )?;
//! let apache = registry.get("apache").ok_or("apache was registered above")?;
//! let target = apache.build("front", settings)?;
//! assert!(target.capabilities().hot_update);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Facts about Apache that shape the description, seen on Apache 2.4:
//!
//! - `apachectl configtest` opens no certificate. It says `Syntax OK` to a pair that does not match, to garbage, and to a key
//!   that cannot be read.
//! - `apachectl graceful` answers 0, and with such a pair Apache ends. Therefore it is started in private before the switch
//!   (`shadow`), watched through the reload (`pid_file`), and started again on the way back (`restart`).
//! - `graceful` starts an Apache that does not run.

mod config;
mod discovery;
mod target;

pub use config::ApacheSettings;

use deploy_core::{Capabilities, Connector, Error, Found, Look, SettingError, Target};

/// The kind `apache`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Apache;

impl Connector for Apache {
    const KIND: &'static str = "apache";
    const SUMMARY: &'static str = "the Apache HTTP server: files and a graceful restart, tried before in private";
    const CAPABILITIES: Capabilities = Capabilities::FILES.with_staged_validation().with_hot_update();
    type Settings = ApacheSettings;

    fn build(name: &str, settings: ApacheSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::ApacheTarget::new(name, settings)))
    }

    fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
        discovery::discover(look)
    }
}

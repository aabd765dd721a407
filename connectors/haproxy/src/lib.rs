//! The connector for HAProxy.
//!
//! A connector describes and the engine acts. The one thing that this one does by itself is to talk to HAProxy's sockets,
//! when the engine has put the file in its place and says so: HAProxy can take a certificate while it runs, without a reload.
//! An agent registers [`Haproxy`] and gets targets of the kind `haproxy`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_haproxy::Haproxy>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     combined = "/etc/haproxy/tls/www.pem"
//!     runtime  = ["/run/haproxy/admin.sock"]
//!     verify   = [{ connect = "127.0.0.1:443" }]
//!     "#,
//! )?;
//! let entry = registry.get("haproxy").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(target.capabilities().hot_update);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of HAProxy (2.6.12):
//! - It loads every file of a `crt` directory whose name does not begin with a dot, whatever it is for.
//! - Over its socket one certificate can be changed at a time, and everybody shares the transaction. What is sent has to fit one
//!   buffer, or the connection is closed without a word.
//! - A certificate that was changed over the socket is in memory only. The next reload reads the disk.
//! - A failed reload leaves the old worker running, and the signal for it tells nobody.

mod client;
mod config;
mod discovery;
mod target;

pub use client::Socket;
pub use config::HaproxySettings;

use deploy_core::{Capabilities, Connector, Error, Found, Look, SettingError, Target};

/// The kind `haproxy`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Haproxy;

impl Connector for Haproxy {
    const KIND: &'static str = "haproxy";
    const SUMMARY: &'static str = "HAProxy: one file, and its runtime API or a reload";
    const CAPABILITIES: Capabilities = Capabilities::FILES.with_staged_validation().with_hot_update();
    type Settings = HaproxySettings;

    fn build(name: &str, settings: HaproxySettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::HaproxyTarget::new(name, settings)))
    }

    fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
        discovery::discover(look)
    }
}

//! A connector for `reloading-tls-server`, which reads two files when it gets SIGHUP.
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<example_connector::Reloading>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     fullchain = "/etc/example/tls/www.crt"
//!     key       = "/etc/example/tls/www.key"
//!     verify    = [{ connect = "127.0.0.1:443" }]
//!     "#,
//! )?;
//! let reloading = registry.get("reloading").ok_or("it was registered above")?;
//! reloading.build("front", settings)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod target;

pub use config::ReloadingSettings;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `reloading`.
#[derive(Clone, Copy, Debug)]
pub struct Reloading;

impl Connector for Reloading {
    const KIND: &'static str = "reloading";
    const SUMMARY: &'static str = "reloading-tls-server: two files and a signal";
    const CAPABILITIES: Capabilities = Capabilities::FILES;
    type Settings = ReloadingSettings;

    fn build(name: &str, settings: ReloadingSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::ReloadingTarget::new(name, settings)))
    }
}

//! The connector for the certificate stores of Windows.
//!
//! A connector makes one call at a time and says what came of it; the engine orders, journals, repeats and goes back. An
//! agent registers [`WindowsStore`] and gets targets of the kind `windows-store`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_windows_store::WindowsStore>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     connection         = { winrm = { host = "db1.example.com", user = "certdeploy", password = "file:/etc/certdeploy/db1" } }
//!     read_access = ['NT SERVICE\MSSQLSERVER']
//!     verify      = [{ connect = "db1.example.com:1433" }]
//!     "#,
//! )?;
//! let entry = registry.get("windows-store").ok_or("it was registered above")?;
//! let target = entry.build("db", settings)?;
//! assert!(!target.capabilities().files);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of these stores:
//! - A store knows no certificate that is in use: services name theirs by thumbprint, by name, or take what fits. So what is
//!   live for a target is said by the end of a friendly name: `Shop [certdeploy:db live]`.
//! - A certificate is imported beside the live one, and its friendly name changes when it is the live one's turn.
//! - Importing a certificate again makes a second key, so one that is there is left.
//! - A key that was imported without being exportable cannot be read again by anybody: going back needs the old one in its place.

mod config;
mod target;

pub use config::WindowsStoreSettings;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `windows-store`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WindowsStore;

impl Connector for WindowsStore {
    const KIND: &'static str = "windows-store";
    const SUMMARY: &'static str = "A certificate store of a Windows host, over WinRM or SSH";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_verification();
    type Settings = WindowsStoreSettings;

    fn build(name: &str, settings: WindowsStoreSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::WindowsStoreTarget::new(name, settings)))
    }
}

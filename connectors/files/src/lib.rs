//! The connector for any server that reads files: which files with what in them, how the server checks them, how it is told,
//! and where to look.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`Files`] and gets targets of the kind `files`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_files::Files>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     files = [
//!         { path = "/etc/mosquitto/certs/www.crt", content = "fullchain" },
//!         { path = "/etc/mosquitto/certs/www.key", content = "key", owner = "mosquitto" },
//!     ]
//!     reload = { systemd = "mosquitto" }
//!     verify = [{ connect = "127.0.0.1:8883" }]
//!     "#,
//! )?;
//! let files = registry.get("files").ok_or("files was registered above")?;
//! let target = files.build("broker", settings)?;
//! assert!(target.capabilities().rollback);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! Nothing here knows a server, so that nothing is claimed for one: what it checks and whether it drops connections, only its
//! operator knows.

mod config;
mod target;

pub use config::{FileContent, FileSetting, FilesSettings};

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `files`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Files;

/// The kind `ssh`: the same for a machine that the target's `via` names, which it must have. (With a `via`, targets of every
/// kind that describes files are on another machine.)
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RemoteFiles;

impl Connector for RemoteFiles {
    const KIND: &'static str = "ssh";
    const SUMMARY: &'static str = "files on another machine, which is reached with ssh and needs nothing of certdeploy";
    const CAPABILITIES: Capabilities = Files::CAPABILITIES;
    const NEEDS_ROUTE: bool = true;
    type Settings = FilesSettings;

    fn build(name: &str, settings: FilesSettings) -> Result<Box<dyn Target>, SettingError> {
        Files::build(name, settings)
    }
}

impl Connector for Files {
    const KIND: &'static str = "files";
    const SUMMARY: &'static str = "any server that reads its certificate from files: the files and, where it needs one, a reload";
    // A checker and updates without dropped connections are the server's, and capabilities hold for every target of a kind.
    const CAPABILITIES: Capabilities = Capabilities::FILES;
    type Settings = FilesSettings;

    fn build(name: &str, settings: FilesSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::FilesTarget::new(name, settings)))
    }
}

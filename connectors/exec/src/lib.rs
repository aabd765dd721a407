//! The connector for programs in any language: each call of a push is one start of an external program.
//!
//! The program gets a request as JSON on standard input and prints one JSON document; [`protocol`] has the types. It goes
//! through the same frame as every push: the engine observes, takes a snapshot, uploads, switches, looks and goes back.
//! An agent registers [`Exec`] and gets targets of the kind `exec`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_exec::Exec>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     command  = ["/usr/local/lib/certdeploy/shelf.py"]
//!     settings = { url = "https://shelf.example.com", listener = "www" }
//!     secrets  = { token = "file:/etc/certdeploy/shelf.token" }
//!     verify   = [{ connect = "www.example.com:443" }]
//!     "#,
//! )?;
//! let exec = registry.get("exec").ok_or("exec was registered above")?;
//! let target = exec.build("front", settings)?;
//! assert!(target.capabilities().verification);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What a program cannot do, because it is not asked to: decide whether there is anything to do (it is not told what is
//! wanted when it is asked what is live), try again, hold a lock, or call its own work a success.

mod config;
mod problem;
mod program;
pub mod protocol;
mod redact;
mod target;

pub use config::ExecSettings;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `exec`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Exec;

impl Connector for Exec {
    const KIND: &'static str = "exec";
    const SUMMARY: &'static str = "anything that a program of one's own can reach, in any language: calls over a small protocol";
    // Whether there is a dry run, and whether connections survive, only the program knows.
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_verification();
    type Settings = ExecSettings;

    fn build(name: &str, settings: ExecSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::ExecTarget::new(name, settings)))
    }
}

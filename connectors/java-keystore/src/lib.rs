//! The connector for Java keystores, JKS and PKCS#12.
//!
//! The store is read and written in process, without keytool, which truncates a store before it writes it and takes passwords
//! as arguments. Other entries are kept to the byte. A store that holds the key and its certificates already is left alone.
//!
//! A connector describes and the engine acts, so nothing here writes a file, starts a process or waits. An agent
//! registers [`JavaKeystore`] and gets targets of the kind `java-keystore`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_java_keystore::JavaKeystore>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     path     = "/etc/tomcat10/tls/www.p12"
//!     password = "file:/etc/certdeploy/secrets/keystore"
//!     alias    = "tomcat"
//!     group    = "tomcat"
//!     mode     = "0640"
//!     verify   = [{ connect = "127.0.0.1:8443" }]
//!     "#,
//! )?;
//! let entry = registry.get("java-keystore").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(target.capabilities().rollback);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod config;
mod target;

pub use config::JavaKeystoreSettings;
pub use deploy_keystore::{Encryption, StoreType};

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `java-keystore`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct JavaKeystore;

impl Connector for JavaKeystore {
    const KIND: &'static str = "java-keystore";
    const SUMMARY: &'static str = "Java keystores, JKS and PKCS#12: one key in a store, and a reload";
    const CAPABILITIES: Capabilities = Capabilities::FILES;
    type Settings = JavaKeystoreSettings;

    fn build(name: &str, settings: JavaKeystoreSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::JavaKeystoreTarget::new(name, settings)))
    }
}

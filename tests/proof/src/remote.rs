//! A connector as a third party would write it: a remote that is a directory, and that wants a password.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use deploy_core::secret::{SecretBytes, SecretRef, SecretString};
use deploy_core::{
    Capabilities, Certificate, Connector, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Rung, SettingError,
    Snapshot, Target, Validation,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the remote is, and who asks.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RemoteSettings {
    /// A directory with the file `password`; the certificates of the remote and `active` are put into it.
    pub directory: PathBuf,
    /// The password, as a reference.
    pub password: SecretRef,
    /// The call that the remote refuses: `upload`, `activate`, ...
    #[serde(default)]
    pub refuses: String,
    /// The call that is never answered.
    #[serde(default)]
    pub hangs: String,
}

/// The kind `remote`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Remote;

impl Connector for Remote {
    const KIND: &'static str = "remote";
    const SUMMARY: &'static str = "a directory behind a password";
    const CAPABILITIES: Capabilities = Capabilities::NONE;
    type Settings = RemoteSettings;

    fn build(_: &str, settings: RemoteSettings) -> Result<Box<dyn Target>, SettingError> {
        Ok(Box::new(RemoteTarget(settings)))
    }
}

#[derive(Debug)]
struct RemoteTarget(RemoteSettings);

#[async_trait]
impl Target for RemoteTarget {
    fn capabilities(&self) -> Capabilities {
        Remote::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(Box::new(Session { settings: self.0.clone(), password: None }))
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Ok(Deployment::Push(Box::new(Session { settings: self.0.clone(), password: None })))
    }
}

/// Calls to the remote, each with the password.
#[derive(Debug)]
struct Session {
    settings: RemoteSettings,
    /// Fetched when it is first needed.
    password: Option<SecretString>,
}

impl Session {
    async fn call(&mut self, name: &str, context: &Context) -> Result<(), Error> {
        if self.settings.hangs == name {
            std::future::pending::<()>().await;
        }
        if self.password.is_none() {
            self.password = Some(self.settings.password.resolve(context)?);
        }
        let right = std::fs::read_to_string(self.file("password")).unwrap_or_default();
        if self.password.as_ref().is_none_or(|password| password.expose() != right.trim_end()) {
            return Err(Error::new(ErrorKind::Unauthenticated, format!("the remote does not know us at {name}")));
        }
        if self.settings.refuses == name {
            return Err(Error::new(ErrorKind::Unavailable, format!("the remote refuses to {name}")));
        }
        Ok(())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.settings.directory.join(name)
    }

    fn active(&self) -> Option<String> {
        std::fs::read_to_string(self.file("active")).ok().filter(|name| !name.is_empty())
    }
}

#[async_trait]
impl Push for Session {
    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        self.call("observe", context).await?;
        Ok(Observed::new(self.active(), None))
    }

    async fn validate(&mut self, _: &Certificate, context: &Context) -> Result<Validation, Error> {
        self.call("validate", context).await?;
        Ok(Validation::Passed(Rung::V3))
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        self.call("snapshot", context).await?;
        let active = self.active().unwrap_or_default();
        let key = std::fs::read(self.file(&format!("{active}.key"))).unwrap_or_default();
        Ok(Snapshot::new(1, SecretBytes::from([active.as_bytes(), b"\n", &key].concat())))
    }

    async fn upload(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        self.call("upload", context).await?;
        let key = self.file(&format!("{}.key", certificate.fingerprint()));
        write(&key, certificate.key_pem().expose());
        Ok(())
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        self.call("activate", context).await?;
        write(&self.file("active"), certificate.fingerprint().as_bytes());
        Ok(())
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        self.call("restore", context).await?;
        let active = snapshot.bytes.expose().split(|byte| *byte == b'\n').next().unwrap_or_default();
        write(&self.file("active"), active);
        Ok(())
    }

    async fn prune(&mut self, context: &Context) -> Result<(), Error> {
        self.call("prune", context).await
    }
}

fn write(path: &Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

//! What is asked of a certificate store, and in which of the engine's steps.

use async_trait::async_trait;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Snapshot, Target,
    Validation, Verify,
};
use deploy_powershell::{Found, Import, Mark, SavedName, Store, check_key, thumbprint};

use crate::WindowsStore;
use crate::config::WindowsStoreSettings;

/// The format of a snapshot: the friendly names of the target's certificates, as JSON.
const SNAPSHOT: u32 = 1;

/// The certificates of one target in one store.
#[derive(Debug)]
pub(crate) struct WindowsStoreTarget {
    name: String,
    settings: WindowsStoreSettings,
}

#[async_trait]
impl Target for WindowsStoreTarget {
    fn capabilities(&self) -> Capabilities {
        WindowsStore::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(self.push())
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        check_key(certificate)?;
        Ok(Deployment::Push(self.push()))
    }
}

impl WindowsStoreTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: WindowsStoreSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> Box<dyn Push> {
        Box::new(WindowsStorePush { mark: Mark::new(&self.name), settings: self.settings.clone(), seen: None })
    }
}

/// The calls of one deployment.
#[derive(Debug)]
struct WindowsStorePush {
    mark: Mark,
    settings: WindowsStoreSettings,
    /// The store as it was when it was last observed: what the switch relies on.
    seen: Option<Found>,
}

#[async_trait]
impl Push for WindowsStorePush {
    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        let found = self.store().find(&[], context).await?;
        let live = found.live().map(|live| live.sha256.clone());
        self.seen = Some(found);
        Ok(Observed::new(live, None))
    }

    async fn validate(&mut self, _: &Certificate, _: &Context) -> Result<Validation, Error> {
        Ok(Validation::Unavailable("a certificate store has no dry run".to_owned()))
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let names = self.store().find(&[], context).await?.names();
        let names = SecretBytes::from_json(&names)
            .map_err(|error| Error::new(ErrorKind::Internal, "friendly names that are no JSON").with_source(error))?;
        Ok(Snapshot::new(SNAPSHOT, names))
    }

    async fn upload(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let found = self.store().find(&[], context).await?;
        let WindowsStoreSettings { friendly_name, exportable, read_access, .. } = &self.settings;
        let how = Import { friendly_name, exportable: *exportable, read_access };
        self.store().import(certificate, &how, &found, context).await
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let found = self.store().find(&[], context).await?;
        let live = |found: &Found| found.live().map(|live| live.thumbprint.clone());
        let new = thumbprint(certificate);
        // The answer to an earlier try may have been lost.
        if live(&found).as_ref() == Some(&new) {
            return Ok(());
        }
        if self.seen.as_ref().map(live) != Some(live(&found)) {
            return Err(Error::new(ErrorKind::Conflict, "somebody else has changed which certificate is live meanwhile"));
        }
        self.store().switch(&new, &found, context).await
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        let unreadable = || Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy");
        if snapshot.version != SNAPSHOT {
            return Err(unreadable());
        }
        let names: Vec<SavedName> =
            serde_json::from_slice(snapshot.bytes.expose()).map_err(|error| unreadable().with_source(error))?;
        let found = self.store().find(&[], context).await?;
        self.store().put_back(&names, &found, context).await
    }

    async fn prune(&mut self, context: &Context) -> Result<(), Error> {
        self.store().retire(self.settings.retire_after.duration(), context).await
    }
}

impl WindowsStorePush {
    fn store(&self) -> Store<'_> {
        Store { connection: &self.settings.connection, name: &self.settings.store, mark: &self.mark }
    }
}

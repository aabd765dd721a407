//! What is asked of Caddy, and in which of the engine's steps.

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Snapshot, Target,
    Validation, Verify,
};

use crate::CaddyApi;
use crate::client::{Api, Found};
use crate::config::CaddyApiSettings;

/// The format of a snapshot: the entry as Caddy gave it, or nothing if there was none.
const SNAPSHOT: u32 = 1;

/// One certificate in the configuration of one Caddy.
#[derive(Debug)]
pub(crate) struct CaddyApiTarget {
    name: String,
    settings: CaddyApiSettings,
}

#[async_trait]
impl Target for CaddyApiTarget {
    fn capabilities(&self) -> Capabilities {
        CaddyApi::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(self.push())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Ok(Deployment::Push(self.push()))
    }
}

impl CaddyApiTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: CaddyApiSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> Box<dyn Push> {
        Box::new(CaddyApiPush { target: self.name.clone(), settings: self.settings.clone(), api: None, seen: None })
    }
}

/// The calls of one deployment.
#[derive(Debug)]
struct CaddyApiPush {
    target: String,
    settings: CaddyApiSettings,
    api: Option<Api>,
    /// The entry as it was when it was last observed: what the switch relies on.
    seen: Option<Found>,
}

#[async_trait]
impl Push for CaddyApiPush {
    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        self.seen = self.api(context)?.find().await?;
        let seen = self.seen.as_ref();
        Ok(Observed::new(seen.and_then(|found| found.fingerprint.clone()), seen.map(|found| found.revision.clone())))
    }

    async fn validate(&mut self, _: &Certificate, _: &Context) -> Result<Validation, Error> {
        Ok(Validation::Unavailable("Caddy's admin API has no dry run for a certificate".to_owned()))
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let found = self.api(context)?.find().await?;
        Ok(Snapshot::new(SNAPSHOT, found.map_or_else(|| Vec::new().into(), |found| found.body)))
    }

    /// Nothing: Caddy would serve what lies beside the live one. The switch brings it along.
    async fn upload(&mut self, _: &Certificate, _: &Context) -> Result<(), Error> {
        Ok(())
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let api = self.api(context)?;
        let now = api.find().await?;
        // The answer to an earlier try may have been lost.
        if now.as_ref().and_then(|found| found.fingerprint.as_deref()) == Some(certificate.fingerprint()) {
            return Ok(());
        }
        let revision = |found: &Option<Found>| found.as_ref().map(|found| found.revision.clone());
        if revision(&now) != revision(&self.seen) {
            return Err(Error::new(ErrorKind::Conflict, "somebody else has changed the certificate in Caddy meanwhile"));
        }
        api.put(certificate, now.as_ref()).await
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        if snapshot.version != SNAPSHOT {
            return Err(Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy"));
        }
        let api = self.api(context)?;
        match api.find().await? {
            None if snapshot.bytes.is_empty() => Ok(()),
            Some(found) if snapshot.bytes.is_empty() => api.remove(&found).await,
            Some(found) if found.body == snapshot.bytes => Ok(()),
            found => api.put_back(&snapshot.bytes, found.as_ref()).await,
        }
    }

    /// There is one entry for the target, and it is in use.
    async fn prune(&mut self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

impl CaddyApiPush {
    fn api(&mut self, context: &Context) -> Result<Api, Error> {
        let api = match self.api.take() {
            Some(api) => api,
            None => Api::new(&self.settings, &self.target, context)?,
        };
        Ok(self.api.insert(api).clone())
    }
}

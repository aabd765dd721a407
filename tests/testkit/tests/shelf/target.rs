//! The deployment to a listener, in the calls that the engine puts in order.

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Rung, Snapshot,
    Target, Validation, Verify,
};

use super::Shelf;
use super::client::{Api, Labels, Listener, Stored};
use super::config::ShelfSettings;

/// The format of a snapshot: the ID of the listener's certificate, or nothing if it has none.
const SNAPSHOT_VERSION: u32 = 1;

/// One listener of a shelf.
#[derive(Debug)]
pub(super) struct ShelfTarget {
    name: String,
    settings: ShelfSettings,
}

impl ShelfTarget {
    /// A target of settings that were checked.
    pub(super) fn new(name: &str, settings: ShelfSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> Box<dyn Push> {
        Box::new(ShelfPush { target: self.name.clone(), settings: self.settings.clone(), api: None, seen: None })
    }
}

#[async_trait]
impl Target for ShelfTarget {
    fn capabilities(&self) -> Capabilities {
        Shelf::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(self.push())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Ok(Deployment::Push(self.push()))
    }
}

#[derive(Debug)]
struct ShelfPush {
    target: String,
    settings: ShelfSettings,
    api: Option<Api>,
    /// The listener as it was when it was last observed: what the switch relies on.
    seen: Option<Listener>,
}

#[async_trait]
impl Push for ShelfPush {
    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        let api = self.api(context)?;
        let listener = api.listener(&self.settings.listener).await?;
        let certificates = api.certificates().await?;
        let active = certificates.into_iter().find(|stored| Some(&stored.id) == listener.certificate.as_ref());
        let mut observed =
            Observed::new(active.as_ref().map(|stored| stored.fingerprint.clone()), Some(listener.revision.clone()));
        // Somebody else's certificate needs no labels of ours.
        observed.settled = active.is_none_or(|stored| stored.id != id_of(&stored.fingerprint) || self.is_ours(&stored));
        self.seen = Some(listener);
        Ok(observed)
    }

    async fn validate(&mut self, certificate: &Certificate, context: &Context) -> Result<Validation, Error> {
        match self.api(context)?.check(certificate).await? {
            None => Ok(Validation::Passed(Rung::V2)),
            Some(objection) => Err(Error::new(ErrorKind::ValidateFailed, format!("the shelf refuses it: {objection}"))),
        }
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let listener = self.api(context)?.listener(&self.settings.listener).await?;
        Ok(Snapshot::new(SNAPSHOT_VERSION, listener.certificate.unwrap_or_default().into_bytes()))
    }

    async fn upload(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let api = self.api(context)?;
        let id = id_of(certificate.fingerprint());
        let found = api.certificates().await?.into_iter().find(|stored| stored.id == id);
        let mut labels = found.map(|stored| stored.labels).unwrap_or_default();
        labels.extend(self.labels());
        api.put_certificate(&id, certificate, &labels).await?;
        api.put_key(&id, certificate).await
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let api = self.api(context)?;
        let id = id_of(certificate.fingerprint());
        let name = &self.settings.listener;
        // The answer to an earlier try may have been lost.
        if api.listener(name).await?.certificate.as_ref() == Some(&id) {
            return Ok(());
        }
        let seen = self.seen.as_ref().ok_or_else(|| Error::new(ErrorKind::Internal, "switched before it was observed"))?;
        api.switch(name, Some(&id), &seen.revision).await
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        let id = read(snapshot)?;
        let api = self.api(context)?;
        let listener = api.listener(&self.settings.listener).await?;
        if listener.certificate == id {
            return Ok(());
        }
        api.switch(&self.settings.listener, id.as_deref(), &listener.revision).await
    }

    async fn prune(&mut self, context: &Context) -> Result<(), Error> {
        let api = self.api(context)?;
        let active = api.listener(&self.settings.listener).await?.certificate;
        for stored in api.certificates().await? {
            if self.is_ours(&stored) && Some(&stored.id) != active.as_ref() {
                // Another listener may have it; then it stays.
                api.remove(&stored.id).await?;
            }
        }
        Ok(())
    }
}

impl ShelfPush {
    fn api(&mut self, context: &Context) -> Result<Api, Error> {
        let api = match self.api.take() {
            Some(api) => api,
            None => Api::new(&self.settings, context)?,
        };
        Ok(self.api.insert(api).clone())
    }

    fn labels(&self) -> Labels {
        [("managed-by", "certdeploy"), ("target", &self.target)].map(|(name, value)| (name.to_owned(), value.to_owned())).into()
    }

    fn is_ours(&self, stored: &Stored) -> bool {
        self.labels().iter().all(|(name, value)| stored.labels.get(name) == Some(value))
    }
}

fn id_of(fingerprint: &str) -> String {
    format!("certdeploy-{fingerprint}")
}

fn read(snapshot: &Snapshot) -> Result<Option<String>, Error> {
    let unreadable = || Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version");
    if snapshot.version != SNAPSHOT_VERSION {
        return Err(unreadable());
    }
    let id = std::str::from_utf8(snapshot.bytes.expose()).map_err(|error| unreadable().with_source(error))?;
    Ok(Some(id.to_owned()).filter(|id| !id.is_empty()))
}

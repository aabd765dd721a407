//! What is asked of an endpoint, and in which of the engine's steps.

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Rung, Snapshot,
    Target, Validation, Verify,
};
use serde::{Deserialize, Serialize};

use crate::Webhook;
use crate::client::{Api, Conditions, Found};
use crate::config::WebhookSettings;

/// The format of a snapshot: [`Saved`] as JSON.
const SNAPSHOT: u32 = 1;

/// What was live before. The pair itself is kept by the engine.
#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    fingerprint: Option<String>,
    deployment: DeploymentId,
}

/// Nanoseconds since 1970. A certificate that was taken back may be sent again: that is another request than the first one, which
/// an endpoint that remembers idempotency keys must not answer from memory.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
struct DeploymentId(u128);

impl DeploymentId {
    /// The same for every try of one request.
    fn idempotency_key(self, certificate: &Certificate) -> String {
        format!("{}-{}", certificate.fingerprint(), self.0)
    }
}

/// One certificate at one endpoint.
#[derive(Debug)]
pub(crate) struct WebhookTarget {
    name: String,
    settings: WebhookSettings,
}

#[async_trait]
impl Target for WebhookTarget {
    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Webhook::CAPABILITIES;
        capabilities.staged_validation = self.settings.dry_run.is_some();
        capabilities
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(self.push())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Ok(Deployment::Push(self.push()))
    }
}

impl WebhookTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: WebhookSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> Box<dyn Push> {
        Box::new(WebhookPush {
            target: self.name.clone(),
            settings: self.settings.clone(),
            api: None,
            seen: None,
            id: DeploymentId::default(),
        })
    }
}

/// The calls of one deployment.
#[derive(Debug)]
struct WebhookPush {
    target: String,
    settings: WebhookSettings,
    api: Option<Api>,
    /// What was live when it was last observed: what the switch relies on.
    seen: Option<Found>,
    id: DeploymentId,
}

#[async_trait]
impl Push for WebhookPush {
    fn keeps_pair(&self) -> bool {
        true
    }

    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        self.seen = self.api(context)?.find(context).await?;
        Ok(match &self.seen {
            Some(found) => Observed::new(found.fingerprint.clone(), found.etag.clone()),
            None => Observed::unknown(),
        })
    }

    async fn validate(&mut self, certificate: &Certificate, context: &Context) -> Result<Validation, Error> {
        match self.api(context)?.check(certificate, context).await? {
            None => Ok(Validation::Unavailable("the settings have no `dry_run`".to_owned())),
            Some(Ok(())) => Ok(Validation::Passed(Rung::V2)),
            Some(Err(objection)) => Err(Error::new(ErrorKind::ValidateFailed, format!("the endpoint refuses it: {objection}"))
                .with_next_step("read what the endpoint says; the certificate or the endpoint has to change")),
        }
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let found = self.api(context)?.find(context).await?;
        let since_1970 = context.host().now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        self.id = DeploymentId(since_1970.as_nanos());
        let saved = Saved { fingerprint: found.and_then(|found| found.fingerprint), deployment: self.id };
        let unwritable = |error| Error::new(ErrorKind::Internal, "the snapshot cannot be written").with_source(error);
        Ok(Snapshot::new(SNAPSHOT, serde_json::to_vec(&saved).map_err(unwritable)?))
    }

    /// Nothing: the request that hands a certificate over makes it live.
    async fn upload(&mut self, _: &Certificate, _: &Context) -> Result<(), Error> {
        Ok(())
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let (seen, key) = (self.seen.clone(), self.id.idempotency_key(certificate));
        let api = self.api(context)?;
        let now = api.find(context).await?;
        if let Some(now) = &now {
            // The answer to an earlier try may have been lost.
            if now.fingerprint.as_deref() == Some(certificate.fingerprint()) {
                return Ok(());
            }
            if seen.as_ref() != Some(now) {
                return Err(Error::new(ErrorKind::Conflict, "somebody else has switched the endpoint meanwhile"));
            }
        }
        let etag = now.as_ref().and_then(|now| now.etag.as_deref());
        let conditions = Conditions { idempotency_key: Some(&key), etag };
        let done = api.send(certificate, &conditions, context).await?;
        self.settle(done, certificate.fingerprint(), context).await
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        let of_another = || Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy");
        if snapshot.version != SNAPSHOT {
            return Err(of_another());
        }
        let saved: Saved = serde_json::from_slice(snapshot.bytes.expose()).map_err(|error| of_another().with_source(error))?;
        let api = self.api(context)?;
        let now = api.find(context).await?;
        if now.as_ref().is_some_and(|now| now.fingerprint == saved.fingerprint) {
            return Ok(());
        }
        let previous = snapshot.previous.as_ref().ok_or_else(|| {
            let message =
                "what was live before was not deployed from here, so that its key is not known: it cannot be sent again";
            Error::new(ErrorKind::RollbackFailed, message)
                .with_next_step("see what the endpoint has live, and correct it there; then run again")
        })?;
        let key = saved.deployment.idempotency_key(previous);
        let conditions = Conditions { idempotency_key: Some(&key), etag: now.as_ref().and_then(|now| now.etag.as_deref()) };
        let done = api.restore(previous, &conditions, context).await?;
        self.settle(done, previous.fingerprint(), context).await
    }

    /// What the endpoint keeps is its own.
    async fn prune(&mut self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

impl WebhookPush {
    fn api(&mut self, context: &Context) -> Result<&Api, Error> {
        let api = match self.api.take() {
            Some(api) => api,
            None => Api::new(&self.settings, &self.target, context)?,
        };
        Ok(self.api.insert(api))
    }

    /// Waits for what was only accepted, as far as `observe` shows it. The engine looks afterwards in any case.
    async fn settle(&mut self, done: bool, fingerprint: &str, context: &Context) -> Result<(), Error> {
        if done {
            return Ok(());
        }
        let at_most = self.settings.verify_timeout.duration();
        let api = self.api(context)?;
        let is_live = || async {
            let found = api.find(context).await?;
            Ok(found.is_none_or(|found| found.fingerprint.as_deref() == Some(fingerprint)))
        };
        context.wait_until(at_most, is_live).await.map(drop)
    }
}

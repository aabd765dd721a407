//! What is asked of a vault, and in which of the engine's steps.

use std::time::Duration;

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Snapshot, Target,
    Validation, Verify,
};
use serde::{Deserialize, Serialize};

use crate::AzureKeyvault;
use crate::client::{Api, Version};
use crate::config::AzureKeyvaultSettings;
use crate::{policy, problem};

/// The format of a snapshot: [`Saved`] as JSON.
const SNAPSHOT: u32 = 1;
/// Much longer than it takes the vault to recover a certificate.
const RECOVERY: Duration = Duration::from_secs(90);
const MANAGED_BY: &str = "managed-by";
const TARGET: &str = "certdeploy-target";

/// What was current before. The pair itself is kept by the engine.
#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    fingerprint: Option<String>,
}

/// One certificate of one vault.
#[derive(Debug)]
pub(crate) struct AzureKeyvaultTarget {
    name: String,
    settings: AzureKeyvaultSettings,
}

#[async_trait]
impl Target for AzureKeyvaultTarget {
    fn capabilities(&self) -> Capabilities {
        AzureKeyvault::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(self.push())
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        policy::check_key(certificate)?;
        Ok(Deployment::Push(self.push()))
    }
}

impl AzureKeyvaultTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: AzureKeyvaultSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> Box<dyn Push> {
        let api = Api::new(&self.settings);
        Box::new(AzureKeyvaultPush { target: self.name.clone(), settings: self.settings.clone(), api, seen: None })
    }
}

/// The calls of one deployment.
#[derive(Debug)]
struct AzureKeyvaultPush {
    target: String,
    settings: AzureKeyvaultSettings,
    api: Api,
    /// The current version when it was last observed: what the switch relies on.
    seen: Option<Version>,
}

#[async_trait]
impl Push for AzureKeyvaultPush {
    /// A vault gives keys back to whoever may read its secrets, which a deployment does not need to.
    fn keeps_pair(&self) -> bool {
        true
    }

    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        self.seen = self.api.find(context).await?;
        let seen = self.seen.as_ref();
        let mut observed = Observed::new(seen.map(|version| version.fingerprint.clone()), seen.map(|version| version.id.clone()));
        observed.settled = seen.is_none_or(|version| version.enabled);
        Ok(observed)
    }

    async fn validate(&mut self, _: &Certificate, context: &Context) -> Result<Validation, Error> {
        match self.api.find(context).await? {
            Some(Version { policy: Some(policy), .. }) => {
                if let Some(issuer) = policy::renews_itself(&policy) {
                    let name = &self.settings.certificate_name;
                    let message = format!("the vault itself renews `{name}`, from the issuer {issuer}");
                    return Err(Error::new(ErrorKind::PlanInvalid, message).with_next_step(
                        "take AutoRenew out of the certificate's lifetime actions, or deploy under another name",
                    ));
                }
            }
            Some(_) => {}
            None if !self.settings.recover_deleted && self.api.is_deleted(context).await? => {
                return Err(problem::deleted(&self.settings.certificate_name));
            }
            None => {}
        }
        Ok(Validation::Unavailable("a vault has no dry run".to_owned()))
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let saved = Saved { fingerprint: self.api.find(context).await?.map(|version| version.fingerprint) };
        let unwritable = |error| Error::new(ErrorKind::Internal, "the snapshot cannot be written").with_source(error);
        Ok(Snapshot::new(SNAPSHOT, serde_json::to_vec(&saved).map_err(unwritable)?))
    }

    /// The newest version is the current one, so that nothing can lie beside it. Only a name that was deleted is brought back.
    async fn upload(&mut self, _: &Certificate, context: &Context) -> Result<(), Error> {
        if self.seen.is_some() || !self.settings.recover_deleted || !self.api.is_deleted(context).await? {
            return Ok(());
        }
        self.api.recover(context).await?;
        let api = &self.api;
        let is_there = || async { Ok(api.find(context).await?.is_some()) };
        if !context.wait_until(RECOVERY, is_there).await? {
            return Err(Error::new(ErrorKind::Timeout, "the vault takes long to recover the certificate"));
        }
        Err(Error::new(ErrorKind::Conflict, "the name was recovered, and has a version again"))
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let now = self.api.find(context).await?;
        // The answer to an earlier try may have been lost.
        if now.as_ref().is_some_and(|now| now.enabled && now.fingerprint == certificate.fingerprint()) {
            return Ok(());
        }
        let id = |version: &Option<Version>| version.as_ref().map(|version| version.id.clone());
        if id(&now) != id(&self.seen) {
            return Err(Error::new(ErrorKind::Conflict, "somebody else has made a new version meanwhile"));
        }
        self.import(certificate, now.as_ref(), context).await
    }

    /// There is no way to an old version but to import it again. To disable the new one would leave those who ask for the current
    /// one with nothing.
    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        let of_another = || Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy");
        if snapshot.version != SNAPSHOT {
            return Err(of_another());
        }
        let saved: Saved = serde_json::from_slice(snapshot.bytes.expose()).map_err(|error| of_another().with_source(error))?;
        let now = self.api.find(context).await?;
        if now.as_ref().map(|now| &now.fingerprint) == saved.fingerprint.as_ref() {
            return Ok(());
        }
        let Some(previous) = &snapshot.previous else {
            let message = match saved.fingerprint {
                Some(_) => {
                    "what was current before was not deployed from here, so that its key is not known: the new version stays current"
                }
                None => "there was no version before, and a vault takes none away: the new version stays current",
            };
            return Err(Error::new(ErrorKind::RollbackFailed, message)
                .with_next_step("import the right certificate under this name in the vault; then run again"));
        };
        self.import(previous, now.as_ref(), context).await
    }

    /// A vault keeps all versions, and removes none of them.
    async fn prune(&mut self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

impl AzureKeyvaultPush {
    /// A new version, with policy and tags of the one before.
    async fn import(&mut self, certificate: &Certificate, before: Option<&Version>, context: &Context) -> Result<(), Error> {
        let policy = policy::for_import(before.and_then(|before| before.policy.as_ref()), certificate, &self.settings)?;
        let mut tags = before.map(|before| before.tags.clone()).unwrap_or_default();
        tags.extend(self.settings.tags.clone());
        tags.extend(
            [(MANAGED_BY, "certdeploy"), (TARGET, &self.target)].map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let made = self.api.import(certificate, &policy, &tags, context).await?;
        if made.fingerprint == certificate.fingerprint() {
            return Ok(());
        }
        Err(Error::new(ErrorKind::VerifyFailed, format!("the vault has made a version of another leaf: {}", made.fingerprint)))
    }
}

//! What is asked of IIS for bindings with a certificate of a store, and in which of the engine's steps.

use std::collections::BTreeSet;

use async_trait::async_trait;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Snapshot, Target,
    Validation, Verify,
};
use deploy_powershell::{
    Binding, BindingChange, FindBindings, Found, FoundBindings, Import, Mark, SavedName, SetBindings, Store, check_key,
    thumbprint,
};
use serde::{Deserialize, Serialize};

use crate::Iis;
use crate::bindings::{choose, mapped, shadows};
use crate::central_store::CentralStorePush;
use crate::config::IisSettings;

/// The format of a snapshot: [`Saved`], as JSON.
const SNAPSHOT: u32 = 1;

/// Bindings of one host, or files of its central store.
#[derive(Debug)]
pub(crate) struct IisTarget {
    name: String,
    settings: IisSettings,
}

#[async_trait]
impl Target for IisTarget {
    fn capabilities(&self) -> Capabilities {
        Iis::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(self.push())
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        check_key(certificate)?;
        Ok(Deployment::Push(self.push()))
    }
}

impl IisTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: IisSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> Box<dyn Push> {
        match &self.settings.central_store {
            Some(store) => Box::new(CentralStorePush::new(&self.settings, store)),
            None => Box::new(BindingsPush { mark: Mark::new(&self.name), settings: self.settings.clone(), seen: None }),
        }
    }
}

/// The calls of one deployment.
#[derive(Debug)]
struct BindingsPush {
    mark: Mark,
    settings: IisSettings,
    /// The host as it was when it was last observed: what the switch relies on.
    seen: Option<Look>,
}

/// What there is on the host.
#[derive(Debug)]
struct Look {
    certificates: Found,
    chosen: Vec<Binding>,
    /// SHA-256 of what http.sys serves for all of them; `None` if there is nothing, or not one thing.
    live: Option<String>,
    /// IIS has in its configuration what http.sys serves.
    settled: bool,
    shadows: Vec<String>,
}

/// What a snapshot has.
#[derive(Debug, Deserialize, Serialize)]
struct Saved {
    bindings: Vec<Binding>,
    names: Vec<SavedName>,
}

#[async_trait]
impl Push for BindingsPush {
    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        let look = self.look(context).await?;
        let mut observed = Observed::new(look.live.clone(), None);
        observed.settled = look.settled;
        self.seen = Some(look);
        Ok(observed)
    }

    async fn validate(&mut self, _: &Certificate, _: &Context) -> Result<Validation, Error> {
        let shadows = self.seen.iter().flat_map(|look| &look.shadows).map(String::as_str).collect::<Vec<_>>().join(", ");
        let warning = if shadows.is_empty() {
            String::new()
        } else {
            format!("; http.sys has mappings that hide host names from clients that come there: {shadows}")
        };
        Ok(Validation::Unavailable(format!("IIS has no dry run for a certificate{warning}")))
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let look = self.look(context).await?;
        let saved = Saved { bindings: look.chosen, names: look.certificates.names() };
        let saved = SecretBytes::from_json(&saved)
            .map_err(|error| Error::new(ErrorKind::Internal, "bindings that are no JSON").with_source(error))?;
        Ok(Snapshot::new(SNAPSHOT, saved))
    }

    async fn upload(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let found = self.store().find(&[], context).await?;
        let IisSettings { friendly_name, exportable, read_access, .. } = &self.settings;
        let how = Import { friendly_name, exportable: *exportable, read_access };
        self.store().import(certificate, &how, &found, context).await
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let look = self.look(context).await?;
        let new = thumbprint(certificate);
        // One that has it already was switched by an earlier try whose answer was lost.
        let unknown = |now: &&Binding| {
            let seen = self.seen.as_ref().and_then(|seen| seen.chosen.iter().find(|seen| same(seen, now)));
            now.thumbprint != new && seen.is_none_or(|seen| seen.thumbprint != now.thumbprint)
        };
        if let Some(binding) = look.chosen.iter().find(unknown) {
            let message = format!("somebody else has changed the binding {} meanwhile", binding.information);
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let to = |binding: Binding| BindingChange {
            site: binding.site,
            information: binding.information,
            from: Some(binding.thumbprint),
            to: new.clone(),
            store: self.settings.store.clone(),
        };
        if look.live.as_deref() != Some(certificate.fingerprint()) || !look.settled {
            let changes = look.chosen.into_iter().map(to).collect();
            self.settings.connection.call(&SetBindings { changes }, context).await?;
        }
        self.store().switch(&new, &look.certificates, context).await
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        let unreadable = || Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy");
        if snapshot.version != SNAPSHOT {
            return Err(unreadable());
        }
        let saved: Saved = serde_json::from_slice(snapshot.bytes.expose()).map_err(|error| unreadable().with_source(error))?;
        let now = self.settings.connection.call(&FindBindings {}, context).await?.result;
        let differs = |saved: &Binding| now.bindings.iter().any(|now| same(now, saved) && now.thumbprint != saved.thumbprint);
        let back = |binding: Binding| BindingChange {
            site: binding.site,
            information: binding.information,
            from: None,
            to: binding.thumbprint,
            store: binding.store,
        };
        let changes: Vec<BindingChange> = saved.bindings.into_iter().filter(differs).map(back).collect();
        if !changes.is_empty() {
            self.settings.connection.call(&SetBindings { changes }, context).await?;
        }
        let found = self.store().find(&[], context).await?;
        self.store().put_back(&saved.names, &found, context).await
    }

    async fn prune(&mut self, context: &Context) -> Result<(), Error> {
        self.store().retire(self.settings.retire_after.duration(), context).await
    }
}

impl BindingsPush {
    fn store(&self) -> Store<'_> {
        Store { connection: &self.settings.connection, name: &self.settings.store, mark: &self.mark }
    }

    async fn look(&self, context: &Context) -> Result<Look, Error> {
        let found = self.settings.connection.call(&FindBindings {}, context).await?.result;
        let thumbprints: BTreeSet<String> = found.mappings.iter().map(|mapping| mapping.thumbprint.clone()).collect();
        let thumbprints: Vec<String> = thumbprints.into_iter().filter(|thumbprint| !thumbprint.is_empty()).collect();
        let certificates = self.store().find(&thumbprints, context).await?;
        let ours: Vec<String> = certificates.ours.iter().map(|(certificate, _)| certificate.thumbprint.clone()).collect();
        let chosen = choose(&self.settings, &found, &ours)?;
        let live = self.live(&chosen, &found, &certificates, &thumbprints, context).await?;
        let settled = chosen.iter().all(|binding| mapped(binding, &found).is_none_or(|(served, _)| served == binding.thumbprint));
        let shadows = shadows(&chosen, &found);
        Ok(Look { certificates, chosen, live, settled, shadows })
    }

    /// SHA-256 of the one certificate that http.sys serves for all of them. It may be in another store than ours.
    async fn live(
        &self,
        chosen: &[Binding],
        found: &FoundBindings,
        certificates: &Found,
        thumbprints: &[String],
        context: &Context,
    ) -> Result<Option<String>, Error> {
        let served: Option<BTreeSet<(&str, &str)>> = chosen.iter().map(|binding| mapped(binding, found)).collect();
        let Some((thumbprint, store)) = served.as_ref().filter(|all| all.len() == 1).and_then(|all| all.first()) else {
            return Ok(None);
        };
        if store.eq_ignore_ascii_case(&self.settings.store) {
            return Ok(certificates.get(thumbprint).map(|certificate| certificate.sha256.clone()));
        }
        let there = Store { name: store, ..self.store() }.find(thumbprints, context).await?;
        Ok(there.get(thumbprint).map(|certificate| certificate.sha256.clone()))
    }
}

fn same(one: &Binding, other: &Binding) -> bool {
    one.site == other.site && one.information == other.information
}

//! What is asked of a cluster, and in which of the engine's steps.

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Rung, Snapshot,
    Target, Validation, Verify,
};
use serde::{Deserialize, Serialize};

use crate::K8s;
use crate::client::{Annotations, Client, Mode, Place, asked_for};
use crate::config::{K8sSettings, Workload};
use crate::object::{Body, Change, Encoded, Held, Pem};
use crate::refusal::missing_permissions;

/// The format of a snapshot: [`Kept`], as JSON.
const SNAPSHOT: u32 = 1;
/// What `kubectl rollout restart` sets.
const RESTARTED_AT: &str = "kubectl.kubernetes.io/restartedAt";

/// One certificate in the Secrets of one cluster.
#[derive(Debug)]
pub(crate) struct K8sTarget {
    name: String,
    settings: K8sSettings,
}

#[async_trait]
impl Target for K8sTarget {
    fn capabilities(&self) -> Capabilities {
        K8s::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(self.push())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Ok(Deployment::Push(self.push()))
    }
}

impl K8sTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: K8sSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> Box<dyn Push> {
        Box::new(K8sPush {
            mark: format!("certdeploy/{}", self.name),
            settings: self.settings.clone(),
            client: None,
            seen: Vec::new(),
            wanted: None,
            deleted: BTreeSet::new(),
        })
    }
}

/// The calls of one deployment.
#[derive(Debug)]
struct K8sPush {
    settings: K8sSettings,
    /// The annotation that says for which certificate a workload was restarted.
    mark: String,
    client: Option<Client>,
    /// The Secrets as they were when they were last observed: what the switch relies on.
    seen: Vec<Seen>,
    /// The leaf that is to be live, for a way back that leaves others' certificates alone.
    wanted: Option<String>,
    /// Where a Secret was deleted to be made again, and perhaps was not.
    deleted: BTreeSet<String>,
}

#[derive(Clone, Debug)]
struct Seen {
    namespace: String,
    secret: Option<Held>,
}

/// What a snapshot holds. It is written with [`Body`] and read as [`Held`], so that nothing is copied on the way.
#[derive(Serialize, Deserialize)]
struct Kept<S> {
    /// The leaf that was to be live: anything else is not ours to undo.
    wanted: Option<String>,
    places: Vec<KeptPlace<S>>,
}

#[derive(Serialize, Deserialize)]
struct KeptPlace<S> {
    namespace: String,
    secret: Option<S>,
    workloads: Vec<(Workload, Annotations)>,
}

#[async_trait]
impl Push for K8sPush {
    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        let client = self.client(context)?;
        self.deleted.clear();
        self.seen.clear();
        for namespace in self.namespaces(&client).await? {
            let secret = client.find(&namespace).await?;
            self.seen.push(Seen { namespace, secret });
        }
        let mut live = self.seen.iter().map(|seen| self.live(seen.secret.as_ref()));
        let first = live.next().flatten();
        if live.any(|other| other != first) {
            return Ok(Observed::mixed());
        }
        let revisions: Vec<&str> = self.seen.iter().filter_map(|seen| seen.secret.as_ref()?.revision()).collect();
        let mut observed = Observed::new(first, (!revisions.is_empty()).then(|| revisions.join(",")));
        observed.settled =
            self.seen.iter().all(|seen| seen.secret.as_ref().is_none_or(|found| found.is_as_wanted(&self.settings)))
                && self.has_restarted(&client, observed.fingerprint.as_deref()).await?;
        Ok(observed)
    }

    async fn validate(&mut self, certificate: &Certificate, context: &Context) -> Result<Validation, Error> {
        let client = self.client(context)?;
        self.wanted = Some(certificate.fingerprint().to_owned());
        self.ask_for_permissions(&client, certificate).await?;
        let pem = Pem::of(certificate);
        for Seen { namespace, secret } in &self.seen {
            match (self.change(namespace, secret.as_ref(), certificate)?, secret) {
                (None, _) => {}
                (Some(Change::Recreate), Some(found)) => client.delete(namespace, found, Mode::DryRun).await?,
                _ => self.apply(&client, namespace, pem.entries(&self.settings), secret.as_ref(), Mode::DryRun).await?,
            }
            for workload in &self.settings.restart {
                let place = Place { namespace, workload };
                client.annotate(&place, &self.marks(certificate, context), Mode::DryRun).await?;
            }
        }
        Ok(Validation::Passed(Rung::V2))
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let client = self.client(context)?;
        let mut places = Vec::with_capacity(self.seen.len());
        for Seen { namespace, secret } in &self.seen {
            let mut workloads = Vec::with_capacity(self.settings.restart.len());
            for workload in &self.settings.restart {
                let now = client.annotations(namespace, workload).await?;
                let kept = [RESTARTED_AT, &self.mark].map(|name| (name.to_owned(), now.get(name).cloned()));
                workloads.push((workload.clone(), Annotations::from(kept)));
            }
            places.push(KeptPlace { namespace: namespace.clone(), secret: secret.as_ref().map(Held::body), workloads });
        }
        let kept = SecretBytes::from_json(&Kept { wanted: self.wanted.clone(), places });
        let kept = kept.map_err(|error| Error::new(ErrorKind::Internal, "a snapshot cannot be written").with_source(error))?;
        Ok(Snapshot::new(SNAPSHOT, kept))
    }

    /// Nothing: a Secret has no place beside the live one. The switch brings it along.
    async fn upload(&mut self, _: &Certificate, _: &Context) -> Result<(), Error> {
        Ok(())
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let client = self.client(context)?;
        let pem = Pem::of(certificate);
        for seen in self.seen.clone() {
            if let Err(error) = self.switch(&client, &seen, &pem, certificate).await {
                // A request that something on the way has repeated is refused the second time.
                let is_done = error.kind() == ErrorKind::Conflict
                    && self.is_done(client.find(&seen.namespace).await?.as_ref(), certificate.fingerprint());
                if !is_done {
                    return Err(error);
                }
            }
        }
        for Seen { namespace, .. } in &self.seen {
            for workload in &self.settings.restart {
                let marked = client.annotations(namespace, workload).await?.get(&self.mark).cloned();
                if marked.as_deref() != Some(certificate.fingerprint()) {
                    let place = Place { namespace, workload };
                    client.annotate(&place, &self.marks(certificate, context), Mode::Real).await?;
                }
            }
        }
        Ok(())
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        if snapshot.version != SNAPSHOT {
            return Err(Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy"));
        }
        let client = self.client(context)?;
        // The error would quote what it does not understand.
        let kept: Kept<Held> = serde_json::from_slice(snapshot.bytes.expose())
            .map_err(|_| Error::new(ErrorKind::RollbackFailed, "the snapshot cannot be read"))?;
        // Every place is tried, so that one that fails does not keep the others from going back.
        let mut failed = None;
        for place in &kept.places {
            if let Err(error) = self.undo(&client, place, kept.wanted.as_ref()).await {
                failed.get_or_insert(error);
            }
        }
        failed.map_or(Ok(()), Err)
    }

    /// There is one Secret for the target in each namespace, and it is in use.
    async fn prune(&mut self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

impl K8sPush {
    fn client(&mut self, context: &Context) -> Result<Client, Error> {
        let client = match self.client.take() {
            Some(client) => client,
            None => Client::new(&self.settings, context)?,
        };
        Ok(self.client.insert(client).clone())
    }

    async fn namespaces(&self, client: &Client) -> Result<Vec<String>, Error> {
        let Some(selector) = &self.settings.namespace_selector else {
            return Ok(self.settings.namespaces.clone().unwrap_or_else(|| vec![client.namespace.clone()]));
        };
        let found = client.namespaces(selector).await?;
        if found.is_empty() {
            return Err(Error::new(ErrorKind::ConfigurationInvalid, format!("no namespace has the labels `{selector}`"))
                .with_next_step("correct `namespace_selector`, or label the namespaces; then run again"));
        }
        Ok(found)
    }

    fn live(&self, secret: Option<&Held>) -> Option<String> {
        Some(secret?.certificate(&self.settings)?.fingerprint().to_owned())
    }

    fn is_done(&self, now: Option<&Held>, fingerprint: &str) -> bool {
        self.live(now).as_deref() == Some(fingerprint) && now.is_some_and(|now| now.is_as_wanted(&self.settings))
    }

    async fn has_restarted(&self, client: &Client, live: Option<&str>) -> Result<bool, Error> {
        for Seen { namespace, .. } in &self.seen {
            for workload in &self.settings.restart {
                let marked = client.annotations(namespace, workload).await?.get(&self.mark).cloned();
                if live.is_some() && marked.as_deref() != live {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// A pod template with other annotations has its pods replaced; with the same ones it has not.
    fn marks(&self, certificate: &Certificate, context: &Context) -> Annotations {
        let now = humantime::format_rfc3339_seconds(context.host().now()).to_string();
        let fingerprint = certificate.fingerprint().to_owned();
        BTreeMap::from([(RESTARTED_AT.to_owned(), Some(now)), (self.mark.clone(), Some(fingerprint))])
    }

    /// What has to be done with one Secret; `None` where it has the certificate already.
    fn change(&self, namespace: &str, found: Option<&Held>, certificate: &Certificate) -> Result<Option<Change>, Error> {
        if self.is_done(found, certificate.fingerprint()) {
            return Ok(None);
        }
        Change::of(found, &self.settings, namespace).map(Some)
    }

    /// Whether all of it is allowed, the way back included; what reads has been tried already. A hint: admission has the last word.
    async fn ask_for_permissions(&self, client: &Client, certificate: &Certificate) -> Result<(), Error> {
        let mut missing = Vec::new();
        for Seen { namespace, secret } in &self.seen {
            let verbs: &[&str] = match (self.change(namespace, secret.as_ref(), certificate)?, secret) {
                (None, _) => &[],
                (Some(Change::Apply), Some(_)) => &["patch"],
                (Some(Change::Apply), None) => &["patch", "create", "delete"],
                (Some(Change::Recreate), _) => &["create", "delete"],
            };
            let of_secret = verbs.iter().map(|verb| client.asked(verb, namespace));
            let workloads = self.settings.restart.iter();
            let of_workloads = workloads.map(|workload| asked_for(workload, "patch", namespace));
            for asked in of_secret.chain(of_workloads) {
                if client.may(&asked).await? == Some(false) {
                    missing.push(asked.permission());
                }
            }
        }
        if missing.is_empty() { Ok(()) } else { Err(missing_permissions(&missing)) }
    }

    /// Gives one Secret the certificate, unless an earlier try has done so, whose answer was lost.
    async fn switch(&mut self, client: &Client, seen: &Seen, pem: &Pem, certificate: &Certificate) -> Result<(), Error> {
        let Seen { namespace, secret: was } = seen;
        let now = client.find(namespace).await?;
        if self.is_done(now.as_ref(), certificate.fingerprint()) {
            return Ok(());
        }
        let is_between = now.is_none() && self.deleted.contains(namespace);
        if !is_between && now.as_ref().and_then(Held::revision) != was.as_ref().and_then(Held::revision) {
            let message = format!("somebody else has changed the Secret in {namespace} meanwhile");
            return Err(Error::new(ErrorKind::Conflict, message));
        }
        let entries = pem.entries(&self.settings);
        match (Change::of(was.as_ref(), &self.settings, namespace)?, was) {
            (Change::Recreate, Some(was)) => {
                self.deleted.insert(namespace.clone());
                if let Some(now) = &now {
                    client.delete(namespace, now, Mode::Real).await?;
                }
                let mut body = was.body();
                body.type_name = self.settings.secret_type.name();
                body.data.extend(entries);
                client.create(namespace, &body).await
            }
            _ => self.apply(client, namespace, entries, now.as_ref(), Mode::Real).await,
        }
    }

    async fn apply(
        &self,
        client: &Client,
        namespace: &str,
        entries: BTreeMap<&str, Encoded<'_>>,
        found: Option<&Held>,
        mode: Mode,
    ) -> Result<(), Error> {
        // What we have made with another kind of request than this counts as somebody else's for the cluster.
        let names: Vec<&str> = entries.keys().copied().collect();
        let is_ours = found.is_some_and(|found| found.is_owned_by(&self.settings.field_manager, &names));
        let type_name = found.map_or(self.settings.secret_type.name(), Held::type_name);
        let body = Body::of_entries(namespace, &self.settings.secret, type_name, entries).on(found);
        client.apply(namespace, &body, self.settings.force_conflicts || is_ours, mode).await
    }

    /// Whether a Secret is as it was, as far as we change it.
    fn is_back(&self, was: Option<&Held>, now: Option<&Held>) -> bool {
        let names: Vec<&str> = self.settings.entries().into_iter().map(|(_, name)| name).collect();
        match (was, now) {
            (None, None) => true,
            (Some(was), Some(now)) => now.type_name() == was.type_name() && now.has_same(was, &names),
            _ => false,
        }
    }

    /// Brings one place back to what the snapshot has of it, unless somebody else has been there since.
    async fn undo(&self, client: &Client, place: &KeptPlace<Held>, wanted: Option<&String>) -> Result<(), Error> {
        let KeptPlace { namespace, secret: was, workloads } = place;
        let now = client.find(namespace).await?;
        if !self.is_back(was.as_ref(), now.as_ref()) {
            if now.is_some() && wanted.is_some() && self.live(now.as_ref()).as_ref() != wanted {
                let message = format!("somebody else has changed the Secret in {namespace} meanwhile; it was left alone");
                return Err(Error::new(ErrorKind::Conflict, message));
            }
            if let Err(error) = self.bring_back(client, namespace, was.as_ref(), now.as_ref()).await {
                let is_back =
                    error.kind() == ErrorKind::Conflict && self.is_back(was.as_ref(), client.find(namespace).await?.as_ref());
                if !is_back {
                    return Err(error);
                }
            }
        }
        for (workload, before) in workloads {
            let marked = client.annotations(namespace, workload).await?.get(&self.mark).cloned();
            if marked.as_ref() == wanted && before.get(&self.mark) != Some(&marked) {
                client.annotate(&Place { namespace, workload }, before, Mode::Real).await?;
            }
        }
        Ok(())
    }

    async fn bring_back(&self, client: &Client, namespace: &str, was: Option<&Held>, now: Option<&Held>) -> Result<(), Error> {
        match (was, now) {
            (None, None) => Ok(()),
            (None, Some(now)) => client.delete(namespace, now, Mode::Real).await,
            (Some(was), None) => client.create(namespace, &was.body()).await,
            (Some(was), Some(now)) if now.type_name() != was.type_name() || now.is_immutable() => {
                client.delete(namespace, now, Mode::Real).await?;
                client.create(namespace, &was.body()).await
            }
            (Some(was), Some(now)) => {
                let names = self.settings.entries().into_iter();
                let entries = names.filter_map(|(_, name)| Some((name, Encoded(was.entry(name)?))));
                self.apply(client, namespace, entries.collect(), Some(now), Mode::Real).await
            }
        }
    }
}

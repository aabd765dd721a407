//! What is asked of a BIG-IP, and in which of the engine's steps.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use async_trait::async_trait;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Retry, Rung,
    Snapshot, Target, Validation, Verify,
};
use serde::{Deserialize, Serialize};

use crate::F5;
use crate::client::{Api, Purpose};
use crate::config::F5Settings;
use crate::material::{self, Object, ObjectKind};
use crate::profile::{Kind, Pair, Place, Profile};

/// The format of a snapshot: [`Shown`] of every profile, as JSON.
const SNAPSHOT: u32 = 1;

/// Profiles of one BIG-IP.
#[derive(Debug)]
pub(crate) struct F5Target {
    name: String,
    settings: F5Settings,
}

#[async_trait]
impl Target for F5Target {
    fn capabilities(&self) -> Capabilities {
        F5::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(self.push(None))
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        let pair = material::pair(certificate, &self.name, self.settings.partition());
        Ok(Deployment::Push(self.push(Some(Wanted { fingerprint: certificate.fingerprint().to_owned(), pair }))))
    }
}

impl F5Target {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: F5Settings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self, wanted: Option<Wanted>) -> Box<dyn Push> {
        let (target, settings) = (self.name.clone(), self.settings.clone());
        Box::new(F5Push { target, settings, wanted, api: None, seen: Vec::new(), uploads: BTreeMap::new(), unsaved: true })
    }
}

/// The calls of one deployment.
#[derive(Debug)]
struct F5Push {
    target: String,
    settings: F5Settings,
    /// `None` where an interrupted deployment is settled.
    wanted: Option<Wanted>,
    api: Option<Arc<Api>>,
    /// The profiles as they were when they were last observed: what the switch relies on.
    seen: Vec<Profile>,
    /// What was uploaded and may still be there; whether all of it is.
    uploads: BTreeMap<String, bool>,
    /// What runs may not be what is saved, or what the other devices have. Of an interrupted deployment nobody knows.
    unsaved: bool,
}

#[derive(Debug)]
struct Wanted {
    fingerprint: String,
    pair: Pair,
}

/// What a profile showed.
#[derive(Debug, Deserialize, Serialize)]
struct Shown {
    place: Place,
    pair: Option<Pair>,
}

#[async_trait]
impl Push for F5Push {
    fn verify(&self) -> Verify {
        Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration())
    }

    /// The certificate that all profiles show. If they do not show one and the same, it is one that is not the wanted one, and rather
    /// one that somebody else has put there.
    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        let profiles = self.profiles(context).await?;
        let api = self.api(context)?;
        let mut fingerprints = BTreeMap::new();
        for pair in profiles.iter().filter_map(|profile| profile.pair.as_ref()) {
            if !fingerprints.contains_key(&pair.certificate) {
                fingerprints.insert(pair.certificate.clone(), api.fingerprint(&pair.certificate).await?);
            }
        }
        let is_in_sync = self.settings.sync_to.is_none() || api.sync_status().await?.is_in_sync();
        let shown = |profile: &Profile| fingerprints.get(&profile.pair.as_ref()?.certificate).cloned().flatten();
        let wanted = self.wanted.as_ref().map(|wanted| wanted.fingerprint.clone());
        let others = || profiles.iter().filter(|profile| shown(profile) != wanted);
        let other = others().find(|profile| !self.shows_ours(profile)).or(others().next());
        let mut observed = Observed::new(other.map_or(wanted.clone(), shown), None);
        observed.settled = is_in_sync && profiles.iter().all(|profile| self.is_settled(profile));
        self.seen = profiles;
        Ok(observed)
    }

    /// A transaction that is checked and has no effect. The new pair has to be uploaded for it.
    async fn validate(&mut self, certificate: &Certificate, context: &Context) -> Result<Validation, Error> {
        let profiles = self.profiles(context).await?;
        let api = self.api(context)?;
        if let Some(group) = &self.settings.sync_to {
            check_group(&api, group).await?;
        }
        let objects = self.objects(certificate);
        let missing = self.upload_missing(&objects, context).await?;
        let checked = check(&api, &missing, &profiles, &self.pair(certificate), context).await?;
        // Nobody cleans up after a run that dies before there is a record of it.
        self.discard(&api).await?;
        if checked {
            return Ok(Validation::Passed(Rung::V3));
        }
        Ok(Validation::Unavailable("the BIG-IP lost the transaction in which it was to check it".to_owned()))
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        let profiles = self.profiles(context).await?;
        let shown: Vec<Shown> = profiles.into_iter().map(|Profile { place, pair, .. }| Shown { place, pair }).collect();
        let json = SecretBytes::from_json(&shown)
            .map_err(|error| Error::new(ErrorKind::Internal, "the snapshot cannot be written as JSON").with_source(error))?;
        Ok(Snapshot::new(SNAPSHOT, json))
    }

    async fn upload(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let (api, objects) = (self.api(context)?, self.objects(certificate));
        for object in self.upload_missing(&objects, context).await? {
            api.create(object).await?;
        }
        self.discard(&api).await?;
        self.carry_over(&api, &self.pair(certificate).certificate).await
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let pair = self.pair(certificate);
        let profiles = self.profiles(context).await?;
        // The answer to an earlier try may have been lost.
        if profiles.iter().any(|profile| profile.pair.as_ref() != Some(&pair)) {
            if profiles != self.seen {
                return Err(Error::new(ErrorKind::Conflict, "somebody else has changed a profile of the target meanwhile"));
            }
            let changes: Vec<_> = profiles.iter().map(|profile| (profile, Some(&pair))).collect();
            self.switch(&changes, context).await?;
        }
        self.save(context).await
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        let (api, shown) = (self.api(context)?, read(snapshot)?);
        let mut profiles = Vec::with_capacity(shown.len());
        for Shown { place, .. } in &shown {
            profiles.push(api.profile(place).await?);
        }
        let all = profiles.iter().zip(shown.iter().map(|shown| shown.pair.as_ref()));
        // What somebody else has put there since then stays.
        let changes: Vec<_> = all.filter(|(profile, pair)| profile.pair.as_ref() != *pair && self.shows_ours(profile)).collect();
        if changes.is_empty() { Ok(()) } else { self.switch(&changes, context).await }
    }

    /// What is saved has to be what runs before anything goes that it may refer to, and afterwards.
    async fn prune(&mut self, context: &Context) -> Result<(), Error> {
        self.save(context).await?;
        let api = self.api(context)?;
        for name in api.uploads().await?.iter().filter(|name| material::is_our_upload(name, &self.target)) {
            api.discard(name).await?;
        }
        let pairs = self.profiles(context).await?.into_iter().filter_map(|profile| profile.pair);
        let in_use: BTreeSet<String> = pairs.flat_map(paths).collect();
        for kind in [ObjectKind::Certificate, ObjectKind::Key] {
            for path in api.list(kind).await? {
                if self.is_ours(&path) && !in_use.contains(&path) {
                    // Another profile may have it; then it stays.
                    self.unsaved |= api.remove(kind, &path).await?;
                }
            }
        }
        self.save(context).await
    }

    async fn close(&mut self, _: &Context) -> Result<(), Error> {
        let Some(api) = self.api.take() else { return Ok(()) };
        let discarded = self.discard(&api).await;
        discarded.and(api.log_out().await)
    }
}

impl F5Push {
    fn api(&mut self, context: &Context) -> Result<Arc<Api>, Error> {
        let api = match self.api.take() {
            Some(api) => api,
            None => Arc::new(Api::new(&self.settings, context)?),
        };
        Ok(Arc::clone(self.api.insert(api)))
    }

    async fn profiles(&mut self, context: &Context) -> Result<Vec<Profile>, Error> {
        let places = self.places();
        let api = self.api(context)?;
        let mut profiles = Vec::with_capacity(places.len());
        for place in &places {
            profiles.push(api.profile(place).await?);
        }
        Ok(profiles)
    }

    fn places(&self) -> Vec<Place> {
        let F5Settings { client_ssl, server_ssl, entry, .. } = &self.settings;
        let client_ssl =
            client_ssl.iter().map(|profile| Place { kind: Kind::ClientSsl, profile: profile.clone(), entry: entry.clone() });
        let server_ssl = server_ssl.iter().map(|profile| Place { kind: Kind::ServerSsl, profile: profile.clone(), entry: None });
        client_ssl.chain(server_ssl).collect()
    }

    /// What is ours has to be whole. What somebody else has put there, with the same certificate, is left alone.
    fn is_settled(&self, profile: &Profile) -> bool {
        match (&profile.pair, &self.wanted) {
            (Some(pair), Some(wanted)) => *pair == wanted.pair || !self.is_ours(&pair.certificate),
            _ => true,
        }
    }

    fn shows_ours(&self, profile: &Profile) -> bool {
        profile.pair.as_ref().is_some_and(|pair| material::is_ours(&pair.certificate, &self.target))
    }

    /// In the partition of the settings; what an earlier one has been left with stays there.
    fn is_ours(&self, path: &str) -> bool {
        path.starts_with(&format!("/{}/", self.settings.partition())) && material::is_ours(path, &self.target)
    }

    fn objects(&self, certificate: &Certificate) -> Vec<Object> {
        material::objects(certificate, &self.target, self.settings.partition())
    }

    fn pair(&self, certificate: &Certificate) -> Pair {
        material::pair(certificate, &self.target, self.settings.partition())
    }

    /// What is not there yet, of which the content is now.
    async fn upload_missing<'a>(&mut self, objects: &'a [Object], context: &Context) -> Result<Vec<&'a Object>, Error> {
        let api = self.api(context)?;
        let mut missing = Vec::new();
        for object in objects {
            if api.exists(object).await? {
                continue;
            }
            let is_there = self.uploads.entry(api.upload_name(object)).or_default();
            if !*is_there {
                api.upload(object).await?;
                *is_there = true;
            }
            missing.push(object);
        }
        Ok(missing)
    }

    /// Uploads are of no use any more when objects are made of them, and a private key is among them.
    async fn discard(&mut self, api: &Api) -> Result<(), Error> {
        while let Some(upload) = self.uploads.first_entry() {
            api.discard(upload.key()).await?;
            upload.remove();
        }
        Ok(())
    }

    /// How revocation is looked up is part of the old certificate's object, and would be lost with it.
    async fn carry_over(&self, api: &Api, new: &str) -> Result<(), Error> {
        let old: BTreeSet<&str> =
            self.seen.iter().filter_map(|profile| Some(profile.pair.as_ref()?.certificate.as_str())).collect();
        for path in old.into_iter().filter(|path| *path != new) {
            if let Some(revocation) = api.revocation(path).await? {
                return api.set_revocation(new, &revocation).await;
            }
        }
        Ok(())
    }

    /// All profiles in one transaction.
    async fn switch(&mut self, changes: &[(&Profile, Option<&Pair>)], context: &Context) -> Result<(), Error> {
        self.unsaved = true;
        let api = self.api(context)?;
        let transaction = api.begin(Purpose::Change).await?;
        let switched = async {
            for (profile, pair) in changes {
                api.show_in(&transaction, profile, *pair).await?;
            }
            if api.commit(&transaction, context).await? {
                return Ok(());
            }
            // Whoever tries again looks first.
            Err(Error::new(ErrorKind::Unavailable, "the BIG-IP does not say whether the transaction took effect")
                .with_retry(Retry::Later))
        };
        let switched: Result<(), Error> = switched.await;
        // Not if it may be under way, and its answer was lost.
        if switched.as_ref().is_err_and(|error| error.retry() == Retry::Never) {
            api.abandon(&transaction).await;
        }
        switched
    }

    /// And has the other devices take it, where that is asked for.
    async fn save(&mut self, context: &Context) -> Result<(), Error> {
        if !self.unsaved {
            return Ok(());
        }
        let api = self.api(context)?;
        if self.settings.save {
            api.save().await?;
        }
        if let Some(group) = &self.settings.sync_to {
            api.sync(group, self.settings.sync_timeout.duration(), context).await?;
        }
        self.unsaved = false;
        Ok(())
    }
}

async fn check(api: &Api, missing: &[&Object], profiles: &[Profile], pair: &Pair, context: &Context) -> Result<bool, Error> {
    let transaction = api.begin(Purpose::Check).await?;
    let checked = async {
        for object in missing {
            api.create_in(&transaction, object).await?;
        }
        for profile in profiles {
            api.show_in(&transaction, profile, Some(pair)).await?;
        }
        api.commit(&transaction, context).await
    };
    let checked = checked.await;
    api.abandon(&transaction).await;
    checked
}

/// A group that is not in sync has changes somewhere that somebody else has made: this device's configuration would replace them.
async fn check_group(api: &Api, group: &str) -> Result<(), Error> {
    api.find_group(group).await?;
    let status = api.sync_status().await?;
    if status.is_in_sync() {
        return Ok(());
    }
    let message = format!("the device group {group} is not in sync: {} ({})", status.status, status.summary);
    Err(Error::new(ErrorKind::PlanInvalid, message)
        .with_next_step("synchronise it by hand, in the right direction; then run again"))
}

fn paths(pair: Pair) -> impl Iterator<Item = String> {
    [pair.certificate, pair.key].into_iter().chain(pair.chain)
}

fn read(snapshot: &Snapshot) -> Result<Vec<Shown>, Error> {
    let unreadable = || Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy");
    if snapshot.version != SNAPSHOT {
        return Err(unreadable());
    }
    serde_json::from_slice(snapshot.bytes.expose()).map_err(|error| unreadable().with_source(error))
}

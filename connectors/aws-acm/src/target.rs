//! What is asked of ACM, and in which of the engine's steps.

use std::collections::BTreeSet;

use async_trait::async_trait;
use deploy_aws::Arn;
use deploy_core::certificate::KeyType;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Observed, Push, Recovery, Retry, Snapshot,
    Target, Validation, Verify,
};
use serde::{Deserialize, Serialize};

use crate::AwsAcm;
use crate::client::{Api, Detail, Import, Tags};
use crate::config::AwsAcmSettings;

/// The format of a snapshot: [`Saved`] as JSON.
const SNAPSHOT: u32 = 1;

/// After a lost answer, a new certificate is searched for so often before another one is made: a list may be behind.
const SEARCHES: u32 = 2;

/// So many of the ARNs that use a certificate are shown.
const SHOWN: usize = 3;

/// One certificate in ACM.
#[derive(Debug)]
pub(crate) struct AwsAcmTarget {
    name: String,
    settings: AwsAcmSettings,
}

#[async_trait]
impl Target for AwsAcmTarget {
    fn capabilities(&self) -> Capabilities {
        AwsAcm::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(Box::new(self.push()))
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Ok(Deployment::Push(Box::new(self.push())))
    }
}

impl AwsAcmTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: AwsAcmSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> AwsAcmPush {
        AwsAcmPush {
            mark: self.settings.mark(&self.name),
            settings: self.settings.clone(),
            api: None,
            noted: None,
            strangers: BTreeSet::new(),
            seen: None,
            sent: None,
            searches: 0,
        }
    }
}

/// The calls of one deployment.
#[derive(Debug)]
struct AwsAcmPush {
    settings: AwsAcmSettings,
    /// The tags by which the certificate is found; none if it is named.
    mark: Tags,
    api: Option<Api>,
    /// The ARN that an earlier run found.
    noted: Option<String>,
    /// Certificates without the mark: a search that breaks off goes on where it was.
    strangers: BTreeSet<String>,
    /// The certificate as it was when it was last observed: what the switch relies on.
    seen: Option<Found>,
    /// What was sent last.
    sent: Option<Sent>,
    /// How often the new certificate was searched for in vain since it was sent.
    searches: u32,
}

/// A certificate of ACM.
#[derive(Clone, Debug)]
struct Found {
    arn: String,
    fingerprint: String,
    detail: Detail,
    /// None of them, where nobody needs to know.
    tags: Tags,
}

/// A leaf that was sent to ACM.
#[derive(Debug)]
struct Sent {
    fingerprint: String,
    /// ACM has said that it took it.
    answered: bool,
}

/// What spares the next run the search, as long as it would search for the same.
#[derive(Deserialize, Serialize)]
struct Note {
    arn: String,
    found_by: Tags,
}

/// What was live. The key is not in it: the engine keeps the pair.
#[derive(Deserialize, Serialize)]
struct Saved {
    arn: Option<String>,
    fingerprint: Option<String>,
}

#[async_trait]
impl Push for AwsAcmPush {
    /// A certificate that nothing uses cannot be seen anywhere.
    fn verify(&self) -> Verify {
        let verify = Verify::from_setting(self.settings.verify.clone()).with_timeout(self.settings.verify_timeout.duration());
        match &self.seen {
            Some(seen) if seen.detail.in_use_by.is_empty() && verify != Verify::Waived => Verify::NotConfigured,
            _ => verify,
        }
    }

    fn keeps_pair(&self) -> bool {
        true
    }

    fn note(&self) -> Option<String> {
        let seen = self.seen.as_ref().filter(|_| !self.mark.is_empty())?;
        serde_json::to_string(&Note { arn: seen.arn.clone(), found_by: self.mark.clone() }).ok()
    }

    fn recall(&mut self, note: &str) {
        let note = serde_json::from_str::<Note>(note).ok();
        self.noted = note.filter(|note| note.found_by == self.mark).map(|note| note.arn);
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        self.seen = self.find(context).await?;
        let mut observed = Observed::new(self.seen.as_ref().map(|seen| seen.fingerprint.clone()), None);
        observed.settled = self.missing_tags().is_empty();
        Ok(observed)
    }

    async fn validate(&mut self, certificate: &Certificate, _: &Context) -> Result<Validation, Error> {
        let algorithm = algorithm(certificate.key_type()).ok_or_else(|| {
            let message = format!("ACM does not take a key of the type {}", certificate.key_type());
            Error::new(ErrorKind::MaterialRejected, message)
                .with_next_step("have a certificate issued for an RSA key of 1024 to 4096 bits, or on P-256, P-384 or P-521")
        })?;
        let Some(seen) = &self.seen else {
            return Ok(unavailable("it is the first one, so that nothing uses it yet, and nothing is looked for at `verify`"));
        };
        seen.check(certificate, algorithm)?;
        let users = &seen.detail.in_use_by;
        Ok(match users.len() {
            0 => unavailable(&format!("nothing uses {}, so that nothing is looked for at `verify`", seen.arn)),
            count => {
                let more = if count > SHOWN { ", ..." } else { "" };
                let shown = users[..count.min(SHOWN)].join(", ");
                unavailable(&format!("{} is used in {count} places, which take it up by themselves: {shown}{more}", seen.arn))
            }
        })
    }

    async fn snapshot(&mut self, _: &Context) -> Result<Snapshot, Error> {
        let seen = self.seen.as_ref();
        let saved = Saved { arn: seen.map(|seen| seen.arn.clone()), fingerprint: seen.map(|seen| seen.fingerprint.clone()) };
        let bytes = SecretBytes::from_json(&saved)
            .map_err(|error| Error::new(ErrorKind::Internal, "a snapshot that cannot be written").with_source(error))?;
        Ok(Snapshot::new(SNAPSHOT, bytes))
    }

    /// The tags, which ACM does not take together with an ARN. The certificate itself is replaced in one call.
    async fn upload(&mut self, _: &Certificate, context: &Context) -> Result<(), Error> {
        let missing = self.missing_tags();
        match &self.seen {
            Some(Found { arn, .. }) if !missing.is_empty() => {
                let arn = arn.clone();
                self.api(context).await?.add_tags(&arn, &missing).await
            }
            _ => Ok(()),
        }
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let now = self.find(context).await?;
        let new = certificate.fingerprint();
        let is = |found: &Option<Found>| found.as_ref().map(|found| (found.arn.clone(), found.fingerprint.clone()));
        match &now {
            // The answer to an earlier try may have been lost.
            Some(found) if found.fingerprint == new => return Ok(()),
            now if is(now) != is(&self.seen) => {
                return Err(Error::new(ErrorKind::Conflict, "somebody else has changed the certificate in ACM meanwhile"));
            }
            _ if self.was_taken(new) => return Err(not_yet()),
            None if self.sent.is_some() && self.searches < SEARCHES => {
                self.searches += 1;
                return Err(not_yet());
            }
            _ => {}
        }
        let tags = self.all_tags();
        let import = now.as_ref().map_or(Import::New(&tags), |found| Import::Onto(&found.arn));
        let arn = self.send(certificate, import, context).await?;
        if !self.mark.is_empty() {
            self.noted = Some(arn.clone());
        }
        let there = self.api(context).await?.fingerprint(&arn).await?;
        if there.as_deref() == Some(new) { Ok(()) } else { Err(not_yet()) }
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        let saved = serde_json::from_slice::<Saved>(snapshot.bytes.expose()).ok().filter(|_| snapshot.version == SNAPSHOT);
        let saved =
            saved.ok_or_else(|| Error::new(ErrorKind::RollbackFailed, "the snapshot is of another version of certdeploy"))?;
        let api = self.api(context).await?;
        let Some(arn) = saved.arn else { return self.take_back(&api, context).await };
        if api.fingerprint(&arn).await? == saved.fingerprint {
            return Ok(());
        }
        let Some(pair) = &snapshot.previous else {
            let message = format!("ACM gives no key back, and certdeploy has none of what {arn} was before");
            return Err(Error::new(ErrorKind::RollbackFailed, message).with_next_step(format!(
                "if the new certificate must not stay, import the old pair: `aws acm import-certificate --certificate-arn {arn} ...`; \
                 then run `certdeploy recover`"
            )));
        };
        if !self.was_taken(pair.fingerprint()) {
            self.send(pair, Import::Onto(&arn), context).await?;
        }
        if api.fingerprint(&arn).await? == saved.fingerprint { Ok(()) } else { Err(not_yet()) }
    }

    /// There is one certificate for the target, and it is live.
    async fn prune(&mut self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

impl AwsAcmPush {
    async fn api(&mut self, context: &Context) -> Result<Api, Error> {
        let api = match self.api.take() {
            Some(api) if api.lasts(context.host().now()) => api,
            _ => Api::open(&self.settings, context).await?,
        };
        Ok(self.api.insert(api).clone())
    }

    async fn send(&mut self, pair: &Certificate, import: Import<'_>, context: &Context) -> Result<String, Error> {
        let api = self.api(context).await?;
        let fingerprint = pair.fingerprint().to_owned();
        (self.sent, self.searches) = (Some(Sent { fingerprint: fingerprint.clone(), answered: false }), 0);
        let answer = api.import(pair, import).await;
        match &answer {
            Ok(_) => self.sent = Some(Sent { fingerprint, answered: true }),
            // Nobody knows whether it was taken.
            Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => {}
            Err(_) => self.sent = None,
        }
        answer
    }

    /// Whether ACM has said that it took this leaf, and nothing was sent after it.
    fn was_taken(&self, fingerprint: &str) -> bool {
        self.sent.as_ref().is_some_and(|sent| sent.answered && sent.fingerprint == fingerprint)
    }

    async fn find(&mut self, context: &Context) -> Result<Option<Found>, Error> {
        let api = self.api(context).await?;
        if let Some(arn) = &self.settings.arn {
            let missing = || {
                Error::new(ErrorKind::ConfigurationInvalid, format!("ACM has no certificate {arn}"))
                    .with_next_step("correct `arn`, or leave it out to have one imported; then run again")
            };
            return Ok(Some(self.look(&api, arn).await?.ok_or_else(missing)?));
        }
        let noted = self.look_at_noted(&api).await?;
        if noted.as_ref().is_some_and(|noted| self.sent.is_some() || self.is_marked(&noted.tags)) {
            return Ok(noted);
        }
        // One that has lost its tags is still what is attached everywhere, and gets them again. They count where another one has
        // them, or where this one was given to somebody else.
        let found = self.search(&api).await?;
        Ok(found.or(noted.filter(|noted| !self.is_given_away(&noted.tags))))
    }

    /// What was noted may be of another region, or gone.
    async fn look_at_noted(&self, api: &Api) -> Result<Option<Found>, Error> {
        match &self.noted {
            Some(arn) if arn.parse::<Arn>().is_ok_and(|arn| arn.region() == api.region()) => self.look(api, arn).await,
            _ => Ok(None),
        }
    }

    /// By the mark, through all that the account has in the region.
    async fn search(&mut self, api: &Api) -> Result<Option<Found>, Error> {
        let (mut marked, mut next) = (Vec::new(), None);
        loop {
            let page = api.list(next.as_deref()).await?;
            for summary in page.certificate_summary_list {
                let arn = summary.certificate_arn;
                if summary.r#type.is_some_and(|kind| kind != "IMPORTED") || self.strangers.contains(&arn) {
                    continue;
                }
                let tags = api.tags(&arn).await?.unwrap_or_default();
                if self.is_marked(&tags) {
                    marked.push(arn);
                } else {
                    self.strangers.insert(arn);
                }
            }
            next = page.next_token;
            if next.is_none() {
                break;
            }
        }
        // The next search begins anew: the tags of a new certificate may not have been there yet.
        self.strangers.clear();
        match marked.as_slice() {
            [] => Ok(None),
            [arn] => {
                self.noted = Some(arn.clone());
                self.look(api, arn).await
            }
            several => Err(Error::new(
                ErrorKind::PlanInvalid,
                format!("{} certificates in ACM have the tags of this target: {}", several.len(), several.join(", ")),
            )
            .with_next_step("name the right one as `arn`, or take the tags off the others; then run again")),
        }
    }

    /// Those that the certificate has not, or with another value.
    fn missing_tags(&self) -> Tags {
        let Some(seen) = &self.seen else { return Tags::new() };
        self.all_tags().into_iter().filter(|(key, value)| seen.tags.get(key) != Some(value)).collect()
    }

    fn is_marked(&self, tags: &Tags) -> bool {
        self.mark.iter().all(|(key, value)| tags.get(key) == Some(value))
    }

    fn is_given_away(&self, tags: &Tags) -> bool {
        self.mark.iter().any(|(key, value)| tags.get(key).is_some_and(|other| other != value))
    }

    /// `None` if it is not there, or not any more.
    async fn look(&self, api: &Api, arn: &str) -> Result<Option<Found>, Error> {
        let Some(detail) = api.describe(arn).await? else { return Ok(None) };
        if detail.r#type != "IMPORTED" {
            let message = format!("{arn} was not imported: it is {}, and renewed by ACM", detail.r#type);
            let step = "name a certificate that was imported; then run again";
            return Err(Error::new(ErrorKind::PlanInvalid, message).with_next_step(step));
        }
        let Some(fingerprint) = api.fingerprint(arn).await? else { return Ok(None) };
        let tags = match self.mark.is_empty() && self.settings.tags.is_empty() {
            true => Tags::new(),
            false => api.tags(arn).await?.unwrap_or_default(),
        };
        Ok(Some(Found { arn: arn.to_owned(), fingerprint, detail, tags }))
    }

    fn all_tags(&self) -> Tags {
        let mut tags = self.settings.tags.clone();
        tags.extend(self.mark.clone());
        tags
    }

    /// Removes the certificate that this deployment has made, if there is one now.
    async fn take_back(&mut self, api: &Api, context: &Context) -> Result<(), Error> {
        let Some(found) = self.find(context).await? else { return Ok(()) };
        if self.sent.as_ref().is_none_or(|sent| sent.fingerprint != found.fingerprint) {
            return Err(Error::new(ErrorKind::Conflict, format!("somebody else has imported {} meanwhile", found.arn)));
        }
        api.delete(&found.arn).await?;
        if api.describe(&found.arn).await?.is_none() { Ok(()) } else { Err(not_yet()) }
    }
}

impl Found {
    /// What ACM would refuse, before the key is sent
    /// (docs.aws.amazon.com/acm/latest/userguide/import-reimport.html).
    fn check(&self, certificate: &Certificate, algorithm: &str) -> Result<(), Error> {
        let Self { arn, detail, .. } = self;
        let there = detail.key_algorithm.replace('-', "_");
        if !there.is_empty() && there != algorithm {
            let message = format!("{arn} has a key of the type {there}, which no import can change to {algorithm}");
            return Err(Error::new(ErrorKind::PlanInvalid, message).with_next_step(
                "have a certificate issued for a key of the old type; or let a new one be imported, by another `found_by` or without \
                 `arn`, and attach it where the old one is",
            ));
        }
        let names = &detail.subject_alternative_names;
        if !names.is_empty() && !names.iter().any(|name| certificate.covers(name)) {
            let message = format!("{arn} is for {}, and the new certificate is for none of these names", names.join(", "));
            return Err(Error::new(ErrorKind::PlanInvalid, message).with_next_step(
                "see whether `arn` or `found_by` lead to the right certificate, and whether two targets have the same",
            ));
        }
        Ok(())
    }
}

fn unavailable(more: &str) -> Validation {
    Validation::Unavailable(format!("ACM has no dry run of an import; {more}"))
}

/// Reads may be a few seconds behind.
fn not_yet() -> Error {
    Error::new(ErrorKind::Unavailable, "ACM does not show yet what it was asked to do").with_retry(Retry::Later)
}

/// As ACM calls it (`KeyAlgorithm`); `None` for what it does not take.
fn algorithm(key_type: &KeyType) -> Option<&'static str> {
    Some(match key_type {
        KeyType::Rsa(1024) => "RSA_1024",
        KeyType::Rsa(2048) => "RSA_2048",
        KeyType::Rsa(3072) => "RSA_3072",
        KeyType::Rsa(4096) => "RSA_4096",
        KeyType::EcP256 => "EC_prime256v1",
        KeyType::EcP384 => "EC_secp384r1",
        KeyType::EcP521 => "EC_secp521r1",
        _ => return None,
    })
}

//! The requests of iControl REST that a deployment needs, and no policy.
//!
//! Sources: F5's iControl REST user guide; the articles "Demystifying iControl REST", parts 5 (uploads) and 7 (transactions).

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::{Duration, UNIX_EPOCH};

use deploy_core::secret::SecretBytes;
use deploy_core::{Context, Error, ErrorKind, Retry};
use deploy_http::{Request, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::config::F5Settings;
use crate::material::{Object, ObjectKind};
use crate::profile::{Pair, Place, Profile};
use crate::session::Session;

/// Where uploads are put.
const DOWNLOADS: &str = "/var/config/rest/downloads";
/// As much as F5's own clients send at once; 1 MiB is the most.
const CHUNK: usize = 512 << 10;
/// How long a commit may take that is answered before it is over.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(30);
/// What the daemon says of an object that a profile refers to.
const IN_USE: &str = "01071349";

/// The API of one BIG-IP.
#[derive(Debug)]
pub(crate) struct Api {
    session: Session,
    /// In the names of uploads, so that a plan and a deployment at once do not get in each other's way.
    run: u128,
}

/// A transaction that was begun: requests can be put into it, and take effect together.
#[derive(Debug)]
pub(crate) struct Transaction {
    id: String,
    purpose: Purpose,
}

/// What a transaction is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It takes effect.
    Change,
    /// It is checked, and has no effect.
    Check,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct State {
    trans_id: Number,
    state: String,
    #[serde(default)]
    failure_reason: String,
}

/// Long ones are text in some versions.
#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Number(u64),
    Text(String),
}

#[derive(Deserialize)]
struct Certificate {
    fingerprint: Option<String>,
}

/// How the BIG-IP asks whether a certificate is revoked, to staple the answer: `ocsp`, of which authority, and whom.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Revocation {
    #[serde(default)]
    cert_validation_options: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    issuer_cert: Option<String>,
    #[serde(default)]
    cert_validators_reference: Validators,
}

#[derive(Debug, Default, Deserialize, Serialize)]
struct Validators {
    #[serde(default)]
    items: Vec<Validator>,
}

#[derive(Debug, Deserialize, Serialize)]
struct Validator {
    /// The full path, where it is written.
    #[serde(rename(serialize = "name", deserialize = "fullPath"))]
    path: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Listed {
    full_path: String,
}

#[derive(Deserialize)]
struct List {
    /// Left out where there are none.
    #[serde(default)]
    items: Vec<Listed>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Create<'a> {
    name: &'a str,
    partition: &'a str,
    source_path: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Uploaded {
    remaining_byte_count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Run {
    #[serde(default)]
    command_result: String,
}

/// Statistics, as the API nests them.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statistics {
    entries: BTreeMap<String, Statistic>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Statistic {
    nested_stats: Option<Entries>,
}

#[derive(Deserialize)]
struct Entries {
    entries: BTreeMap<String, Value>,
}

/// Whether the devices of a group have the same configuration.
#[derive(Debug)]
pub(crate) struct SyncStatus {
    /// `In Sync`, `Changes Pending`, `Awaiting Initial Sync`, `Disconnected` and others.
    pub(crate) status: String,
    /// A sentence.
    pub(crate) summary: String,
}

impl SyncStatus {
    pub(crate) fn is_in_sync(&self) -> bool {
        self.status == "In Sync"
    }
}

impl Api {
    /// Connects to nothing yet.
    pub(crate) fn new(settings: &F5Settings, context: &Context) -> Result<Self, Error> {
        let now = context.host().now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(Self { session: Session::new(settings, context)?, run: now.as_nanos() })
    }

    /// Under which name [`Self::upload`] puts the content.
    pub(crate) fn upload_name(&self, object: &Object) -> String {
        format!("{}.{:x}", object.name, self.run)
    }

    pub(crate) async fn profile(&self, place: &Place) -> Result<Profile, Error> {
        let name = tilde(&place.profile);
        let path = ["mgmt", "tm", "ltm", "profile", place.kind.name(), &name];
        let answer = self.session.send(Request::get(&path)).await?;
        let what = format!("the {} profile {}", place.kind.name(), place.profile);
        Profile::read(place, answer.accept_existing(&[200], &what)?.json::<Map<String, Value>>()?)
    }

    /// SHA-256 of a certificate object's first certificate, in lowercase hexadecimal; `None` if there is no such object, or none
    /// that the BIG-IP tells it of.
    pub(crate) async fn fingerprint(&self, path: &str) -> Result<Option<String>, Error> {
        let answer = self.session.send(Request::get(&["mgmt", "tm", "sys", "file", "ssl-cert", &tilde(path)])).await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let Certificate { fingerprint } = answer.accept(&[200])?.json()?;
        let fingerprint = fingerprint.as_deref().and_then(|text| text.strip_prefix("SHA256/"));
        Ok(fingerprint.map(|hexadecimal| hexadecimal.replace(':', "").to_lowercase()))
    }

    /// `None`: of nobody, or there is no such object.
    pub(crate) async fn revocation(&self, path: &str) -> Result<Option<Revocation>, Error> {
        let request = Request::get(&["mgmt", "tm", "sys", "file", "ssl-cert", &tilde(path)]);
        let answer = self.session.send(request.with_query("expandSubcollections", "true")).await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let mut revocation: Revocation = answer.accept(&[200])?.json()?;
        revocation.cert_validation_options.retain(|option| option != "none");
        Ok(Some(revocation).filter(|revocation| !revocation.cert_validation_options.is_empty()))
    }

    /// A new object cannot be created with it.
    pub(crate) async fn set_revocation(&self, path: &str, revocation: &Revocation) -> Result<(), Error> {
        let request = Request::patch(&["mgmt", "tm", "sys", "file", "ssl-cert", &tilde(path)]).with_json(revocation);
        let answer = self.session.send(request).await?;
        if answer.status() == 400 {
            let message = format!(
                "the BIG-IP does not take the OCSP settings of the old certificate for the new one: {}",
                answer.message()
            );
            return Err(Error::new(ErrorKind::ValidateFailed, message)
                .with_next_step("change those of the old one, perhaps to another issuer's certificate; then run again"));
        }
        answer.accept(&[200]).map(drop)
    }

    pub(crate) async fn exists(&self, object: &Object) -> Result<bool, Error> {
        let path = ["mgmt", "tm", "sys", "file", object.kind.name(), &tilde(&object.path())];
        let answer = self.session.send(Request::get(&path)).await?;
        Ok(answer.accept(&[200, 404])?.status() == 200)
    }

    /// The full paths of all objects of a kind, in all partitions that the user may see.
    pub(crate) async fn list(&self, kind: ObjectKind) -> Result<Vec<String>, Error> {
        let answer = self.session.send(Request::get(&["mgmt", "tm", "sys", "file", kind.name()])).await?;
        let List { items } = answer.accept(&[200])?.json()?;
        Ok(items.into_iter().map(|listed| listed.full_path).collect())
    }

    /// Puts the content where [`Self::create`] finds it. A second time replaces what is there.
    pub(crate) async fn upload(&self, object: &Object) -> Result<(), Error> {
        self.upload_in_chunks(object, CHUNK).await
    }

    pub(crate) async fn upload_in_chunks(&self, object: &Object, chunk: usize) -> Result<(), Error> {
        let (name, content) = (self.upload_name(object), object.content.expose());
        for range in ranges(content.len(), chunk) {
            let request = Request::post(&["mgmt", "shared", "file-transfer", "uploads", &name])
                .with_header("content-range", format!("{}-{}/{}", range.start, range.end - 1, content.len()))
                .with_body("application/octet-stream", SecretBytes::from(&content[range.clone()]));
            let Uploaded { remaining_byte_count } = self.session.send(request).await?.accept(&[200])?.json()?;
            if remaining_byte_count.is_some_and(|left| left != (content.len() - range.end) as u64) {
                let message = format!("the BIG-IP has not taken all of the upload {name}");
                return Err(Error::new(ErrorKind::StageFailed, message).with_retry(Retry::Later));
            }
        }
        Ok(())
    }

    /// The names of all uploads that lie there.
    pub(crate) async fn uploads(&self) -> Result<Vec<String>, Error> {
        let found = self.run("unix-ls", DOWNLOADS).await?;
        Ok(found.split_whitespace().map(str::to_owned).collect())
    }

    /// Removes an upload, a private key perhaps; that it is not there is as good.
    pub(crate) async fn discard(&self, name: &str) -> Result<(), Error> {
        let said = self.run("unix-rm", &format!("{DOWNLOADS}/{name}")).await?;
        if said.starts_with("/bin/rm") && !said.contains("No such file") {
            return Err(Error::new(
                ErrorKind::StageFailed,
                format!("the BIG-IP cannot remove the upload {name}: {}", said.trim()),
            )
            .with_next_step(format!("remove {DOWNLOADS}/{name} from the BIG-IP: it may be a private key")));
        }
        Ok(())
    }

    /// Makes an object of what was uploaded. One that is there already is the same: its name says what is in it.
    pub(crate) async fn create(&self, object: &Object) -> Result<(), Error> {
        self.session.send(self.creation(object)).await?.accept(&[200, 409]).map(drop)
    }

    /// Whether it is gone; not if a profile uses it.
    pub(crate) async fn remove(&self, kind: ObjectKind, path: &str) -> Result<bool, Error> {
        let path = ["mgmt", "tm", "sys", "file", kind.name(), &tilde(path)];
        let answer = self.session.send(Request::delete(&path)).await?;
        if answer.status() == 400 && answer.message().contains(IN_USE) {
            return Ok(false);
        }
        answer.accept(&[200, 404]).map(|_| true)
    }

    pub(crate) async fn begin(&self, purpose: Purpose) -> Result<Transaction, Error> {
        let answer = self.session.send(Request::post(&["mgmt", "tm", "transaction"]).with_json(&json!({}))).await?;
        let State { trans_id, .. } = answer.accept(&[200])?.json()?;
        let id = match trans_id {
            Number::Number(number) => number.to_string(),
            Number::Text(text) => text,
        };
        Ok(Transaction { id, purpose })
    }

    /// As [`Self::create`], when the transaction takes effect.
    pub(crate) async fn create_in(&self, transaction: &Transaction, object: &Object) -> Result<(), Error> {
        self.put_in(transaction, self.creation(object)).await
    }

    /// Has a profile show a pair, when the transaction takes effect.
    pub(crate) async fn show_in(&self, transaction: &Transaction, profile: &Profile, pair: Option<&Pair>) -> Result<(), Error> {
        let Place { kind, profile: path, .. } = &profile.place;
        let request = Request::patch(&["mgmt", "tm", "ltm", "profile", kind.name(), &tilde(path)]);
        self.put_in(transaction, request.with_json(&profile.showing(pair))).await
    }

    async fn put_in(&self, transaction: &Transaction, request: Request) -> Result<(), Error> {
        let request = request.with_header("x-f5-rest-coordination-id", &transaction.id);
        transaction.done(self.session.send(request).await?).map(drop)
    }

    /// Ends it: all of it takes effect, or nothing. `false`: the BIG-IP does not know it any more, and it may have had its effect.
    pub(crate) async fn commit(&self, transaction: &Transaction, context: &Context) -> Result<bool, Error> {
        let body = json!({ "state": "VALIDATING", "validateOnly": transaction.purpose == Purpose::Check });
        let path = ["mgmt", "tm", "transaction", &transaction.id];
        let answer = self.session.send(Request::patch(&path).with_json(&body)).await?;
        if answer.status() == 404 {
            return Ok(false);
        }
        if transaction.is_over(answer)? {
            return Ok(true);
        }
        context.wait_until(COMMIT_TIMEOUT, || async { transaction.is_over(self.session.send(Request::get(&path)).await?) }).await
    }

    /// Has the BIG-IP forget a transaction, as it does by itself some time.
    pub(crate) async fn abandon(&self, transaction: &Transaction) {
        drop(self.session.send(Request::delete(&["mgmt", "tm", "transaction", &transaction.id])).await);
    }

    /// Saves what runs, so that a restart does not lose it.
    pub(crate) async fn save(&self) -> Result<(), Error> {
        let request = Request::post(&["mgmt", "tm", "sys", "config"]).with_json(&json!({ "command": "save" }));
        self.session.send(request).await?.accept(&[200]).map(drop)
    }

    pub(crate) async fn sync_status(&self) -> Result<SyncStatus, Error> {
        let answer = self.session.send(Request::get(&["mgmt", "tm", "cm", "sync-status"])).await?;
        let Statistics { entries } = answer.accept(&[200])?.json()?;
        let entries = entries.into_values().find_map(|entry| entry.nested_stats).map(|nested| nested.entries).unwrap_or_default();
        let text = |name: &str| entries.get(name).and_then(|entry| entry["description"].as_str()).unwrap_or("unknown").to_owned();
        Ok(SyncStatus { status: text("status"), summary: text("summary") })
    }

    pub(crate) async fn find_group(&self, group: &str) -> Result<(), Error> {
        let path = format!("~Common~{group}");
        let answer = self.session.send(Request::get(&["mgmt", "tm", "cm", "device-group", &path])).await?;
        answer.accept_existing(&[200], &format!("the device group {group}")).map(drop)
    }

    /// Has the other devices take this one's configuration, and waits until they have.
    pub(crate) async fn sync(&self, group: &str, at_most: Duration, context: &Context) -> Result<(), Error> {
        let body = json!({ "command": "run", "utilCmdArgs": format!("config-sync to-group {group}") });
        self.session.send(Request::post(&["mgmt", "tm", "cm"]).with_json(&body)).await?.accept(&[200])?;
        let ask = || async { self.sync_status().await.map(|status| status.is_in_sync()) };
        if context.wait_until(at_most, ask).await? {
            return Ok(());
        }
        let SyncStatus { status, summary } = self.sync_status().await?;
        let message = format!("the device group {group} is not in sync after {} s: {status} ({summary})", at_most.as_secs());
        Err(Error::new(ErrorKind::ReloadFailed, message)
            .with_next_step("see on the BIG-IP, under Device Management, what it recommends; then run again"))
    }

    pub(crate) async fn log_out(&self) -> Result<(), Error> {
        self.session.log_out().await
    }

    fn creation(&self, object: &Object) -> Request {
        let source_path = format!("file:{DOWNLOADS}/{}", self.upload_name(object));
        let body = Create { name: &object.name, partition: &object.partition, source_path: &source_path };
        Request::post(&["mgmt", "tm", "sys", "file", object.kind.name()]).with_json(&body)
    }

    async fn run(&self, utility: &str, arguments: &str) -> Result<String, Error> {
        let body = json!({ "command": "run", "utilCmdArgs": arguments });
        let answer = self.session.send(Request::post(&["mgmt", "tm", "util", utility]).with_json(&body)).await?;
        let Run { command_result } = answer.accept(&[200])?.json()?;
        Ok(command_result)
    }
}

impl Transaction {
    /// An error if it is over, and had no effect.
    fn is_over(&self, answer: Response) -> Result<bool, Error> {
        let answer = self.done(answer)?;
        let State { state, failure_reason, .. } = answer.json()?;
        match (state.as_str(), self.purpose) {
            ("COMPLETED", _) => Ok(true),
            ("FAILED", _) => Err(self.refused(&answer.shown(&failure_reason))),
            // What is only checked need not come to an end.
            ("STARTED", Purpose::Check) => Ok(true),
            _ => Ok(false),
        }
    }

    /// 400 is the daemon's objection to what is asked, and 404 says that the transaction is gone: another one can be begun.
    fn done(&self, answer: Response) -> Result<Response, Error> {
        match answer.status() {
            400 => Err(self.refused(&answer.message())),
            404 => {
                let message = format!("the BIG-IP does not know the transaction any more: {}", answer.message());
                Err(Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Later))
            }
            _ => answer.accept(&[200]),
        }
    }

    fn refused(&self, said: &str) -> Error {
        let kind = if self.purpose == Purpose::Check { ErrorKind::ValidateFailed } else { ErrorKind::ReloadFailed };
        Error::new(kind, format!("the BIG-IP does not take it, and has changed nothing: {said}"))
            .with_next_step("read what the BIG-IP says; the profile or the certificate has to change")
    }
}

/// `/Common/www` stands in a URL as `~Common~www`.
fn tilde(path: &str) -> String {
    path.replace('/', "~")
}

/// The parts of so many bytes, each of them at most this long.
fn ranges(length: usize, chunk: usize) -> impl Iterator<Item = Range<usize>> {
    (0..length).step_by(chunk).map(move |start| start..length.min(start + chunk))
}

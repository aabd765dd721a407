//! A stand-in for an endpoint that somebody has written to take certificates: strict about everything that a connector may get wrong.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "each test uses a part of it, and it is a test's"
)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deploy_testkit::stand_in::{Answer, Faults, HttpRequest, Record, StandIn};
use deploy_testkit::{Authority, Issued, Request, TlsServer};
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// The name that the certificate has there.
pub(crate) const NAME: &str = "front";
/// How long the time of a signature holds.
const SIGNATURE_HOLDS: Duration = Duration::from_secs(300);

/// An endpoint with a server that serves what it has live, and the files of a client.
pub(crate) struct Endpoint {
    stand_in: StandIn<State>,
    directory: PathBuf,
    pub(crate) token: String,
    pub(crate) signing_key: String,
}

pub(crate) struct State {
    token: String,
    signing_key: String,
    server: TlsServer,
    pub(crate) live: BTreeMap<String, Pair>,
    revision: u64,
    /// Takes what comes, says that it is live, and goes on serving what it has.
    pub(crate) frozen: bool,
    /// What is put there before the next change.
    pub(crate) overtaken_by: Option<Pair>,
    /// Answers 202, and does the work when it was asked so often.
    pub(crate) takes_its_time: Option<usize>,
    waiting: Option<Pair>,
    /// All idempotency keys: a repeated one is not worked on again.
    pub(crate) seen: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) private_key: String,
}

impl From<&Issued> for Pair {
    fn from(issued: &Issued) -> Self {
        Self { certificate: issued.fullchain_pem.clone(), private_key: issued.key_pem.clone() }
    }
}

impl Pair {
    pub(crate) fn sha256(&self) -> String {
        let leaf = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("it was checked");
        Sha256::digest(&leaf).iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
    }
}

impl Endpoint {
    /// Somebody else's certificate is live under another name.
    pub(crate) fn start(directory: &Path) -> Self {
        let authority = Authority::new();
        let issued = authority.issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
        let secret = |what: &str| format!("{what}-{}", &deploy_testkit::pki::fingerprint(issued.key_pem.as_bytes())[..24]);
        let (token, signing_key) = (secret("token"), secret("signing"));
        let other = Pair::from(&authority.issue(&Request::new(&["other.example.test"])));
        let state = State {
            token: token.clone(),
            signing_key: signing_key.clone(),
            server: TlsServer::builder().start(),
            live: [("other".to_owned(), other)].into(),
            revision: 1,
            frozen: false,
            overtaken_by: None,
            takes_its_time: None,
            waiting: None,
            seen: Vec::new(),
        };
        let endpoint =
            Self { stand_in: StandIn::start(&issued, state, answer), directory: directory.to_owned(), token, signing_key };
        for (name, text) in
            [("ca.pem", &authority.root_pem()), ("token", &endpoint.token), ("signing-key", &endpoint.signing_key)]
        {
            private_file(&directory.join(name), text);
        }
        endpoint
    }

    pub(crate) fn url(&self) -> String {
        self.stand_in.url()
    }

    pub(crate) fn faults(&self) -> &Faults {
        self.stand_in.faults()
    }

    pub(crate) fn record(&self) -> &Record {
        self.stand_in.record()
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        self.stand_in.with_state(work)
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Where the live certificate is served.
    pub(crate) fn address(&self) -> SocketAddr {
        self.with(|state| state.server.address())
    }

    /// The settings of a target for it, without `verify`.
    pub(crate) fn settings(&self) -> Value {
        let body = json!({ "certificate": "{fullchain}", "private_key": "{key}", "names": "{names}", "sha256": "{fingerprint}" });
        json!({
            "url": format!("{}/api", self.url()),
            "ca_file": self.file("ca.pem"),
            "authorization": { "bearer": format!("file:{}", self.file("token").display()) },
            "signature": { "secret": format!("file:{}", self.file("signing-key").display()), "prefix": "sha256=" },
            "send": { "method": "PUT", "path": "certificates/{target}", "json": body },
            "dry_run": { "path": "check", "json": body },
            "observe": { "path": "certificates/{target}", "fingerprint": "/sha256", "missing": true, "if_match": true },
        })
    }
}

pub(crate) fn private_file(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

fn answer(request: &HttpRequest, state: &mut State) -> Answer {
    respond(request, state).unwrap_or_else(|refusal| refusal)
}

fn refusal(status: u16, message: &str) -> Answer {
    Answer::new(status).with_json(&json!({ "error": message }))
}

fn respond(request: &HttpRequest, state: &mut State) -> Result<Answer, Answer> {
    if request.header("authorization") != Some(&format!("Bearer {}", state.token)) {
        return Err(refusal(401, "no token, or an unknown one"));
    }
    check_signature(request, &state.signing_key)?;
    let segments: Vec<&str> = request.path.split('/').collect();
    match (request.method.as_str(), &segments[..]) {
        ("GET", ["", "api", "certificates", name]) => {
            state.work();
            let pair = state.live.get(*name).ok_or_else(|| refusal(404, "nothing is live under this name"))?;
            let body = json!({ "name": name, "sha256": pair.sha256(), "pem": pair.certificate });
            Ok(Answer::new(200).with_header("ETag", format!("\"{}\"", state.revision)).with_json(&body))
        }
        ("POST", ["", "api", "check"]) => pair(request).map(|_| Answer::new(204)),
        ("PUT", ["", "api", "certificates", name]) => put(name, request, state),
        (_, ["", "api", "check" | "certificates", ..]) => Err(refusal(405, "not this method")),
        _ => Err(refusal(404, "there is nothing at this path")),
    }
}

/// HMAC-SHA-256 over `TIMESTAMP.BODY`.
fn check_signature(request: &HttpRequest, key: &str) -> Result<(), Answer> {
    let wrong = |message: &str| refusal(401, message);
    let timestamp = request.header("x-timestamp").ok_or_else(|| wrong("no timestamp"))?;
    let time: u64 = timestamp.parse().map_err(|_| wrong("the timestamp is no number"))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    if now.abs_diff(Duration::from_secs(time)) > SIGNATURE_HOLDS {
        return Err(wrong("the timestamp is too old"));
    }
    let signature = request.header("x-signature").and_then(|value| value.strip_prefix("sha256="));
    let signature = signature.ok_or_else(|| wrong("no signature"))?;
    let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
    mac.update(format!("{timestamp}.").as_bytes());
    mac.update(&request.body);
    let right: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    if signature == right { Ok(()) } else { Err(wrong("the signature is wrong")) }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body {
    certificate: String,
    private_key: String,
    names: Vec<String>,
    sha256: String,
}

fn pair(request: &HttpRequest) -> Result<Pair, Answer> {
    if request.header("content-type") != Some("application/json") {
        return Err(refusal(415, "only JSON is taken"));
    }
    let Body { certificate, private_key, names, sha256 } =
        serde_json::from_slice(&request.body).map_err(|error| refusal(400, &format!("line {}", error.line())))?;
    CertificateDer::from_pem_slice(certificate.as_bytes()).map_err(|_| refusal(422, "no certificate"))?;
    let pair = Pair { certificate, private_key };
    if pair.sha256().replace(':', "").to_lowercase() != sha256 || names.is_empty() {
        return Err(refusal(422, "the fingerprint is of another certificate, or it has no names"));
    }
    TlsServer::builder().start().set_pem(&pair.certificate, &pair.private_key).map_err(|error| refusal(422, &error))?;
    Ok(pair)
}

fn put(name: &str, request: &HttpRequest, state: &mut State) -> Result<Answer, Answer> {
    if let Some(theirs) = state.overtaken_by.take() {
        state.switch(name, theirs);
    }
    let pair = pair(request)?;
    let key = request.header("idempotency-key").ok_or_else(|| refusal(400, "no idempotency key"))?.to_owned();
    if state.seen.contains(&key) {
        return Ok(Answer::new(204));
    }
    if state.live.contains_key(name) {
        match request.header("if-match") {
            None => return Err(refusal(428, "say what is to be replaced")),
            Some(etag) if etag != format!("\"{}\"", state.revision) => return Err(refusal(412, "it is another one by now")),
            Some(_) => {}
        }
    }
    state.seen.push(key);
    if state.takes_its_time.is_some() {
        state.waiting = Some(pair);
        return Ok(Answer::new(202));
    }
    state.switch(name, pair);
    Ok(Answer::new(204))
}

impl State {
    pub(crate) fn switch(&mut self, name: &str, pair: Pair) {
        if name == NAME && !self.frozen {
            self.server.set_pem(&pair.certificate, &pair.private_key).expect("a pair that was checked");
        }
        self.revision += 1;
        self.live.insert(name.to_owned(), pair);
    }

    /// A step of the work that it takes its time for.
    fn work(&mut self) {
        match self.takes_its_time {
            Some(0) => {
                self.takes_its_time = None;
                self.waiting.take().into_iter().for_each(|pair| self.switch(NAME, pair));
            }
            Some(steps) if self.waiting.is_some() => self.takes_its_time = Some(steps - 1),
            _ => {}
        }
    }
}

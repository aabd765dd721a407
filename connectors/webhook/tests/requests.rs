//! What an endpoint gets, and what comes of it, with a stand-in that is checked by clients of somebody else's.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod endpoint;

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Connector as _, Context, ErrorKind, Job, Outcome, Registry, Report, Target, deploy};
use deploy_testkit::stand_in::{Answer, Fault};
use deploy_testkit::{Authority, Issued, Request, installed, provider};
use deploy_webhook::Webhook;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::endpoint::{Endpoint, NAME, Pair, private_file};

const HOST: &str = "www.example.test";

struct World {
    root: TempDir,
    authority: Authority,
    endpoint: Endpoint,
}

impl World {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        Self { endpoint: Endpoint::start(root.path()), authority: Authority::new(), root }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[HOST]))
    }

    async fn deploy(&self, settings: &Value, issued: &Issued) -> Report {
        let target = build(settings.clone()).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let context = Context::new(self.root.path().join("state"), provider());
        deploy(&[Job::new(NAME, Webhook::KIND, Arc::from(target), Arc::new(certificate))], &context).await.remove(0)
    }

    fn live(&self) -> Option<String> {
        let sha256 = self.endpoint.with(|state| state.live.get(NAME).map(Pair::sha256));
        sha256.map(|sha256| sha256.replace(':', "").to_lowercase())
    }

    fn key(&self) -> Option<String> {
        self.endpoint.with(|state| state.live.get(NAME).map(|pair| pair.private_key.clone()))
    }

    /// The changing requests that were sent, without the dry run.
    fn sent(&self) -> Vec<deploy_testkit::stand_in::HttpRequest> {
        let changing = self.endpoint.record().changing().into_iter().map(|exchange| exchange.request);
        changing.filter(|request| !request.path.ends_with("/check")).collect()
    }
}

fn build(settings: Value) -> Result<Box<dyn Target>, String> {
    let target = Registry::new().with::<Webhook>().get(Webhook::KIND).unwrap().build(NAME, settings);
    target.map_err(|error| format!("{}: {error}", error.path))
}

#[tokio::test(flavor = "multi_thread")]
async fn stand_in_and_connector_agree_with_clients_of_somebody_elses() {
    let python = installed("azure/bin/python").unwrap_or_else(|error| panic!("{error}"));
    let world = World::start();
    let (ours, theirs) = (world.issue(), world.issue());
    assert_eq!(world.deploy(&world.endpoint.settings(), &ours).await.outcome, Outcome::Changed);
    let sent = world.sent().remove(0);
    let order = json!({
        "url": world.endpoint.url(),
        "token": world.endpoint.token,
        "signing_key": world.endpoint.signing_key,
        "ca_file": world.endpoint.file("ca.pem"),
        "pair": { "certificate": theirs.fullchain_pem, "private_key": theirs.key_pem },
        "sent": {
            "body": String::from_utf8(sent.body.clone()).unwrap(),
            "signature": sent.header("x-signature"),
            "timestamp": sent.header("x-timestamp"),
        },
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let judged = json!({ "signed": true, "fingerprint": ours.fingerprint, "matches": true, "names": [HOST] });
    assert_eq!(told["sent"], judged);
    assert_eq!(told["seen_pem"], json!(ours.fingerprint));
    assert_eq!(told["seen"].as_str().unwrap().replace(':', "").to_lowercase(), ours.fingerprint);
    assert_eq!((&told["forged"], &told["put"]), (&json!(401), &json!(204)));
    // What they have put there is what the connector sees.
    let report = world.deploy(&world.endpoint.settings(), &theirs).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_way_back_sends_the_previous_pair_with_its_own_key_to_the_stand_in() {
    let world = World::start();
    let (settings, old) = (world.endpoint.settings(), world.issue());
    world.deploy(&settings, &old).await;
    // The endpoint takes the new one, and nobody serves it where it is looked for.
    let mut verified = settings.clone();
    let nowhere = deploy_testkit::own_address();
    verified["verify"] = json!([{ "connect": nowhere.to_string(), "server_name": HOST }]);
    verified["verify_timeout"] = json!("100ms");
    let new = world.issue();
    let report = world.deploy(&verified, &new).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!((world.live(), world.key()), (Some(old.fingerprint.clone()), Some(old.key_pem.clone())));
    // The same certificate once more is no replay of the first request.
    assert_eq!(world.deploy(&settings, &new).await.outcome, Outcome::Changed);
    assert_eq!(world.live(), Some(new.fingerprint));
    let keys: Vec<String> = world.sent().iter().map(|request| request.header("idempotency-key").unwrap().to_owned()).collect();
    let different: std::collections::BTreeSet<&String> = keys.iter().collect();
    assert_eq!((keys.len(), different.len()), (4, 4), "{keys:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_stand_in_with_a_certificate_of_somebody_elses_cannot_get_it_back_and_the_report_says_so() {
    let world = World::start();
    let (settings, theirs) = (world.endpoint.settings(), world.issue());
    world.endpoint.with(|state| state.switch(NAME, Pair::from(&theirs)));
    let report = world.deploy(&settings, &world.issue()).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(report.degraded.iter().any(|degraded| degraded.what == "restore"), "{report:?}");
    // Refused: what was live is live, and nothing has to be sent.
    world.endpoint.with(|state| state.switch(NAME, Pair::from(&theirs)));
    world.endpoint.faults().inject(Fault::answer(Answer::new(422)).changing().below("/api/certificates").times(1));
    assert_eq!(world.deploy(&settings, &world.issue()).await.outcome, Outcome::RolledBack);
    assert_eq!(world.live(), Some(theirs.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn way_back_can_be_another_request_to_the_stand_in() {
    let world = World::start();
    let mut settings = world.endpoint.settings();
    let mut restore = settings["send"].clone();
    restore["query"] = json!({ "reason": "back to {fingerprint}" });
    settings["restore"] = restore;
    let old = world.issue();
    world.deploy(&settings, &old).await;
    settings["verify"] = json!([{ "connect": deploy_testkit::own_address().to_string() }]);
    settings["verify_timeout"] = json!("100ms");
    world.deploy(&settings, &world.issue()).await;
    let path = world.sent().last().unwrap().path.clone();
    assert_eq!(path, format!("/api/certificates/front?reason=back+to+{}", old.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_stand_in_that_nobody_can_ask_gets_each_certificate_once() {
    let world = World::start();
    let mut settings = world.endpoint.settings();
    settings.as_object_mut().unwrap().remove("observe");
    settings.as_object_mut().unwrap().remove("dry_run");
    let issued = world.issue();
    let report = world.deploy(&settings, &issued).await;
    assert_eq!((report.outcome, world.live()), (Outcome::Unverified, Some(issued.fingerprint.clone())), "{report:?}");
    assert!(report.degraded.iter().any(|degraded| degraded.what == "verify"), "{report:?}");
    assert_eq!(world.deploy(&settings, &issued).await.outcome, Outcome::Unchanged);
    assert_eq!(world.endpoint.record().lines(), ["PUT /api/certificates/front 204"]);
    // With an endpoint to look at, it is a success like any other.
    settings["verify"] = json!([{ "connect": world.endpoint.address().to_string(), "server_name": HOST }]);
    world.endpoint.with(|state| drop(state.live.remove(NAME)));
    assert_eq!(world.deploy(&settings, &world.issue()).await.outcome, Outcome::Changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a5_stand_in_that_only_accepts_is_waited_for() {
    let world = World::start();
    let mut settings = world.endpoint.settings();
    settings["verify_timeout"] = json!("5s");
    world.endpoint.with(|state| state.takes_its_time = Some(3));
    let issued = world.issue();
    let report = world.deploy(&settings, &issued).await;
    assert_eq!((report.outcome, world.live()), (Outcome::Changed, Some(issued.fingerprint.clone())), "{report:?}");
    // One that never gets done is no success.
    settings["verify_timeout"] = json!("100ms");
    world.endpoint.with(|state| state.takes_its_time = Some(usize::MAX));
    let report = world.deploy(&settings, &world.issue()).await;
    assert_eq!((report.outcome, world.live()), (Outcome::RolledBack, Some(issued.fingerprint)), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_stand_in_behind_a_network_that_drops_delays_and_repeats_has_one_certificate_in_the_end() {
    let world = World::start();
    let faults = world.endpoint.faults();
    faults.inject(Fault::late(Duration::from_millis(50)).reading());
    faults.inject(Fault::close_before().changing().times(1));
    faults.inject(Fault::close_after().changing().below("/api/certificates").times(1));
    faults.inject(Fault::twice().changing());
    let issued = world.issue();
    let report = world.deploy(&world.endpoint.settings(), &issued).await;
    assert_eq!((report.outcome, world.live()), (Outcome::Changed, Some(issued.fingerprint)), "{report:?}");
    assert_eq!(world.endpoint.with(|state| state.seen.len()), 1, "one request was worked on");
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_of_pem_and_other_headers_reach_the_stand_in_as_they_are_configured() {
    let world = World::start();
    private_file(&world.endpoint.file("api-key"), "canary-of-an-api-key\n");
    let mut settings = world.endpoint.settings();
    settings["send"] = json!({ "path": "certificates/{target}/", "pem": ["key", "leaf", "chain"] });
    settings["headers"] =
        json!({ "x-tenant": "edge", "x-api-key": { "secret": format!("file:{}", world.endpoint.file("api-key").display()) } });
    settings["authorization"] =
        json!({ "user": "Aladdin", "password": format!("file:{}", world.endpoint.file("token").display()) });
    settings["idempotency_header"] = json!("");
    settings.as_object_mut().unwrap().remove("observe");
    settings.as_object_mut().unwrap().remove("dry_run");
    let issued = world.issue();
    let said = Answer::new(422).with_body("canary-of-an-api-key is no key");
    world.endpoint.faults().inject(Fault::answer(said));
    let report = world.deploy(&settings, &issued).await;
    let error = report.error.unwrap();
    assert!(!error.full_message().contains("canary"), "S1: {}", error.full_message());
    let request = world.sent().remove(0);
    assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/api/certificates/front/"));
    assert_eq!(request.header("content-type"), Some("application/x-pem-file"));
    assert_eq!((request.header("x-tenant"), request.header("x-api-key")), (Some("edge"), Some("canary-of-an-api-key")));
    assert!(request.header("authorization").unwrap().starts_with("Basic QWxhZGRpbjp"));
    assert_eq!(request.header("idempotency-key"), None);
    let text = String::from_utf8(request.body).unwrap();
    assert!(text.starts_with("-----BEGIN PRIVATE KEY-----") && text.ends_with(&issued.fullchain_pem), "{}", text.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn answer_of_the_stand_in_is_read_at_its_place_and_404_is_no_guess() {
    let world = World::start();
    let mut settings = world.endpoint.settings();
    settings["observe"] = json!({ "path": "certificates/{target}", "pem": "/pem" });
    let report = world.deploy(&settings, &world.issue()).await;
    assert_eq!(report.outcome, Outcome::Rejected);
    assert_eq!(report.error.unwrap().kind(), ErrorKind::ConfigurationInvalid, "the path may be wrong");
    assert_eq!(world.sent().len(), 0);
    settings["observe"]["missing"] = json!(true);
    let issued = world.issue();
    assert_eq!(world.deploy(&settings, &issued).await.outcome, Outcome::Changed);
    settings["observe"]["pem"] = json!("/certificate");
    let report = world.deploy(&settings, &issued).await;
    assert!(report.error.unwrap().full_message().contains("/certificate"));
}

#[test]
fn a7_settings_that_cannot_be_right_are_refused_by_name() {
    let with = |name: &str, value: Value| {
        let mut settings = json!({ "url": "https://deploy.example.com" });
        settings[name] = value;
        build(settings).map(drop).unwrap_err()
    };
    for (name, value, says) in [
        ("url", json!("http://deploy.example.com"), "url"),
        ("url", json!("https://deploy.example.com/?token=1"), "url"),
        ("ca_file", json!("ca.pem"), "ca_file"),
        ("send", json!({ "json": { "a": ["{fullchian}"] } }), "{fullchian}"),
        ("send", json!({ "json": {}, "pem": ["key"] }), "send.pem"),
        ("send", json!({ "pem": [] }), "send.pem"),
        ("send", json!({ "path": "a/../b" }), "send.path"),
        ("send", json!({ "path": "/a" }), "send.path"),
        ("send", json!({ "path": "a?b=c" }), "send.path"),
        ("send", json!({ "path": "{key}" }), "body only"),
        ("send", json!({ "method": "GET" }), "send.method"),
        ("observe", json!({ "path": "{fingerprint}" }), "observe"),
        ("observe", json!({ "fingerprint": "sha256" }), "observe.fingerprint"),
        ("observe", json!({ "fingerprint": "/a", "pem": "/b" }), "observe.pem"),
        ("headers", json!({ "x y": "z" }), "headers.x y"),
        ("headers", json!({ "x-y": "a\nb" }), "headers.x-y"),
        ("authorization", json!({ "bearer": "the token itself" }), "authorization"),
        ("authorization", json!({ "user": "a:b", "password": "env:PASSWORD" }), "authorization.user"),
        ("signature", json!({ "secret": "env:KEY", "header": "" }), "signature.header"),
        ("idempotency_header", json!("a b"), "idempotency_header"),
    ] {
        let error = with(name, value.clone());
        assert!(error.contains(says), "{name} = {value}: {error}");
        assert!(!error.contains("token itself"), "{error}");
    }
}

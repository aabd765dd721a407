//! The connector for the shelf, carried out by the engine: what a connector to an API has to get right.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

mod shelf;

use std::sync::Arc;
use std::time::{Duration, Instant};

use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, ErrorKind, Job, Live, Outcome, Registry, Report, Rung, Stage, Target, deploy, preview};
use deploy_testkit::events::Recorder;
use deploy_testkit::observe::served_fingerprint;
use deploy_testkit::shelf::Shelf;
use deploy_testkit::stand_in::{Answer, Fault};
use deploy_testkit::{Authority, Issued, Request};

struct World {
    directory: tempfile::TempDir,
    shelf: Shelf,
    authority: Authority,
    events: Recorder,
    context: Context,
    target: Arc<dyn Target>,
}

impl World {
    /// A shelf with a certificate of somebody else, and a listener without one.
    fn new() -> Self {
        let (directory, shelf, authority) = (tempfile::tempdir().unwrap(), Shelf::start(), Authority::new());
        shelf.add_listener("front");
        shelf.put("foreign", &authority.issue(&Request::new(&["foreign.example.test"])), &[("managed-by", "hand")]);
        let (events, token) = (Recorder::default(), shelf.writer_token().to_owned());
        let context = Context::new(directory.path().join("state"), deploy_testkit::provider())
            .with_events(events.sink())
            .with_variables(move |name| (name == "SHELF_TOKEN").then(|| SecretString::from(token.clone())));
        let ca_file = directory.path().join("ca.pem");
        std::fs::write(&ca_file, shelf.root_pem()).unwrap();
        let settings = serde_json::json!({
            "url": shelf.url(),
            "listener": "front",
            "token": "env:SHELF_TOKEN",
            "ca_file": ca_file,
            "verify": [{ "connect": shelf.listener_address("front").to_string() }],
        });
        let target = build(settings).into();
        Self { directory, shelf, authority, events, context, target }
    }

    /// Deployed once, with the requests forgotten.
    async fn renewed() -> (Self, Issued, Issued) {
        let world = Self::new();
        let (old, new) = (world.issue(), world.issue());
        assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
        world.shelf.record().clear();
        (world, old, new)
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.test"]))
    }

    fn job(&self, issued: &Issued) -> Job {
        Job::new("front", "shelf", Arc::clone(&self.target), Arc::new(certificate(issued)))
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        self.deploy_in(issued, &self.context).await
    }

    async fn deploy_in(&self, issued: &Issued, context: &Context) -> Report {
        let report = deploy(&[self.job(issued)], context).await.remove(0);
        let objects = self.shelf.objects();
        assert_eq!(objects.certificates["foreign"].labels["managed-by"], "hand", "P4, P7");
        report
    }

    fn served(&self) -> Result<String, String> {
        served_fingerprint(self.shelf.listener_address("front"), None)
    }

    /// What lies on the shelf, by ID.
    fn ids(&self) -> Vec<String> {
        self.shelf.objects().certificates.into_keys().collect()
    }
}

fn build(settings: serde_json::Value) -> Box<dyn Target> {
    let registry = Registry::new().with::<shelf::Shelf>();
    registry.get("shelf").unwrap().build("front", settings).unwrap()
}

fn id(issued: &Issued) -> String {
    format!("certdeploy-{}", issued.fingerprint)
}

#[tokio::test]
async fn first_deployment_is_seen_on_the_wire() {
    let world = World::new();
    let new = world.issue();
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.live, report.validated), (Outcome::Changed, Live::Applied, Rung::V6), "{report:?}");
    assert_eq!(world.served().as_ref(), Ok(&new.fingerprint));
    let labels = &world.shelf.objects().certificates[&id(&new)].labels;
    assert_eq!((labels["managed-by"].as_str(), labels["target"].as_str(), labels.len()), ("certdeploy", "front", 2));
    let changes: Vec<String> = world.shelf.record().lines().into_iter().filter(|line| !line.starts_with("GET ")).collect();
    let expected = [
        "POST /v1/check 204".to_owned(),
        format!("PUT /v1/certificates/{} 201", id(&new)),
        format!("PUT /v1/certificates/{}/key 204", id(&new)),
        "PUT /v1/listeners/front 200".to_owned(),
    ];
    assert_eq!(changes, expected);
    assert_eq!(world.events.stages("front").last(), Some(&Stage::Prune));
}

#[tokio::test]
async fn p1_what_is_live_already_is_only_looked_at() {
    let (world, old, new) = World::renewed().await;
    let before = world.shelf.objects();
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
    assert!(!world.shelf.record().exchanges().is_empty() && world.shelf.record().changing().is_empty());
    // A dry run of something new changes nothing, either.
    let preview = preview(&world.job(&new), &world.context).await;
    assert!(preview.error.is_none(), "{preview:?}");
    assert!(world.shelf.record().changing().iter().all(|exchange| exchange.request.path == "/v1/check"));
    assert_eq!(world.shelf.objects(), before);
    // Somebody put the same certificate there by hand: it is as good.
    world.shelf.put("by-hand", &new, &[]);
    world.shelf.activate("front", Some("by-hand"));
    world.shelf.record().clear();
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Unchanged);
    assert!(world.shelf.record().changing().is_empty());
}

#[tokio::test]
async fn p7_renewal_removes_what_it_replaces_and_nothing_else() {
    let (world, old, new) = World::renewed().await;
    // Theirs, or not only ours: labels of another target, half of the labels, and one that another listener has.
    let stays = world.issue();
    world.shelf.put("other-target", &stays, &[("managed-by", "certdeploy"), ("target", "back")]);
    world.shelf.put("half", &stays, &[("target", "front")]);
    world.shelf.put("in-use", &stays, &[("managed-by", "certdeploy"), ("target", "front")]);
    world.shelf.add_listener("back");
    world.shelf.activate("back", Some("in-use"));
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, &report.warnings), (Outcome::Changed, &Vec::new()), "{report:?}");
    assert_eq!(world.served().as_ref(), Ok(&new.fingerprint));
    let mut expected = [id(&new), "foreign".into(), "half".into(), "in-use".into(), "other-target".into()];
    expected.sort();
    assert_eq!(world.ids(), expected, "without {}", id(&old));
}

#[tokio::test]
async fn p4_labels_that_others_added_survive() {
    let (world, old, _) = World::renewed().await;
    // Somebody adds one and takes one of ours away.
    world.shelf.put(&id(&old), &old, &[("note", "edge"), ("target", "front")]);
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed, "the label is put back");
    let labels = &world.shelf.objects().certificates[&id(&old)].labels;
    assert_eq!((labels["note"].as_str(), labels["managed-by"].as_str()), ("edge", "certdeploy"));
}

#[tokio::test]
async fn p2_lost_answer_to_any_change_is_found_and_makes_no_second_object() {
    // The dry run, the certificate, the key, the switch, the removal.
    for number in 0..5 {
        let (world, _, new) = World::renewed().await;
        world.shelf.faults().inject(Fault::close_after().changing().after(number).times(1));
        let report = world.deploy(&new).await;
        assert_eq!(report.outcome, Outcome::Changed, "{number}: {report:?}");
        assert!(world.shelf.record().exchanges().iter().any(|exchange| exchange.status.is_none()), "{number}");
        assert_eq!(world.served().as_ref(), Ok(&new.fingerprint), "{number}");
        assert_eq!(world.ids(), [id(&new), "foreign".to_owned()], "{number}");
        assert!(!world.events.stages("front").contains(&Stage::RollBack), "{number}");
    }
}

#[tokio::test]
async fn p2_partial_upload_is_found_again() {
    let (world, old, new) = World::renewed().await;
    // The dry run and the certificate are taken, the key is not.
    world.shelf.faults().inject(Fault::answer(Answer::new(403)).changing().after(2));
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{report:?}");
    assert_eq!(world.shelf.objects().certificates[&id(&new)].key, None);
    assert_eq!(world.served(), Ok(old.fingerprint));
    world.shelf.faults().heal();
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Changed);
    assert_eq!(world.served().as_ref(), Ok(&new.fingerprint));
    assert_eq!(world.ids(), [id(&new), "foreign".to_owned()]);
}

#[tokio::test]
async fn p3_loser_of_a_race_looks_again_and_never_overwrites_unseen() {
    let (world, _, new) = World::renewed().await;
    world.shelf.overtake("front", Some("foreign"));
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let switches = |status: &str| {
        world.shelf.record().lines().iter().filter(|line| **line == format!("PUT /v1/listeners/front {status}")).count()
    };
    assert_eq!((switches("412"), switches("200")), (1, 1), "{:?}", world.shelf.record().lines());
    assert!(!world.events.stages("front").contains(&Stage::RollBack), "the other's switch is not ours to undo");
}

#[tokio::test]
async fn p3_loser_of_two_races_leaves_it_to_the_other() {
    let (world, _, new) = World::renewed().await;
    // Before each of the three changes of the first attempt, and before the first one of the second.
    for _ in 0..4 {
        world.shelf.overtake("front", Some("foreign"));
    }
    let report = world.deploy(&new).await;
    assert_eq!(report.error.as_ref().map(deploy_core::Error::kind), Some(ErrorKind::Conflict), "{report:?}");
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged));
    assert_eq!(world.shelf.objects().listeners["front"].as_deref(), Some("foreign"));
}

#[tokio::test]
async fn p5_listener_that_goes_on_serving_the_old_one_is_switched_back() {
    let (world, old, new) = World::renewed().await;
    let before = world.shelf.objects().listeners;
    world.shelf.freeze("front", true);
    let report = world.deploy_in(&new, &world.context.clone().with_timeout(Duration::from_secs(3))).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::VerifyFailed);
    assert_eq!(world.shelf.objects().listeners, before);
    assert_eq!(world.served(), Ok(old.fingerprint));
    world.shelf.freeze("front", false);
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Changed);
    assert_eq!(world.ids(), [id(&new), "foreign".to_owned()]);
}

#[tokio::test]
async fn p5_first_deployment_that_fails_leaves_the_listener_without_a_certificate() {
    let world = World::new();
    world.shelf.freeze("front", true);
    let context = world.context.clone().with_timeout(Duration::from_secs(3));
    let report = world.deploy_in(&world.issue(), &context).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(world.shelf.objects().listeners["front"], None);
}

#[tokio::test]
async fn p8_refusals_are_not_retried_and_say_what_is_missing() {
    for (answer, kind) in [
        (Answer::new(401), ErrorKind::Unauthenticated),
        (Answer::new(403).with_body("certificates.write"), ErrorKind::PermissionDenied),
        (Answer::new(422).with_body("too short a key"), ErrorKind::ValidateFailed),
    ] {
        let (world, old, new) = World::renewed().await;
        world.shelf.faults().inject(Fault::answer(answer.clone()).changing());
        let before = world.shelf.objects();
        let report = world.deploy(&new).await;
        assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{report:?}");
        let error = report.error.unwrap();
        assert_eq!(error.kind(), kind, "{error:?}");
        assert!(error.full_message().contains(std::str::from_utf8(&answer.body).unwrap()), "{error:?}");
        assert_eq!(world.shelf.record().changing().len(), 1);
        assert_eq!((world.shelf.objects(), world.served()), (before, Ok(old.fingerprint)));
    }
}

#[tokio::test]
async fn p8_token_that_may_only_read_is_told_apart() {
    let world = World::new();
    let token = world.shelf.reader_token().to_owned();
    let context = world.context.clone().with_variables(move |_| Some(SecretString::from(token.clone())));
    let report = world.deploy_in(&world.issue(), &context).await;
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied, "{error:?}");
    assert!(error.to_string().contains("certificates.write"), "{error}");
    let context = world.context.clone().with_variables(|_| Some(SecretString::from("wrong".to_owned())));
    let report = world.deploy_in(&world.issue(), &context).await;
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn p8_listener_that_does_not_exist_is_named() {
    let world = World::new();
    let settings = serde_json::json!({
        "url": world.shelf.url(), "listener": "back", "token": "env:SHELF_TOKEN", "ca_file": world.directory.path().join("ca.pem"),
    });
    let job = Job::new("back", "shelf", build(settings).into(), Arc::new(certificate(&world.issue())));
    let report = deploy(&[job], &world.context).await.remove(0);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid, "{error:?}");
    assert!(error.to_string().contains("the listener `back` does not exist"), "{error}");
}

#[tokio::test]
async fn p8_shelf_that_asks_for_time_gets_it() {
    for status in [429, 503] {
        let (world, _, new) = World::renewed().await;
        world.shelf.faults().inject(Fault::answer(Answer::new(status).with_header("Retry-After", "1")).changing().times(1));
        let report = world.deploy(&new).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        let times: Vec<Instant> = world.shelf.record().changing().iter().map(|exchange| exchange.at).collect();
        assert!(times[1] - times[0] >= Duration::from_secs(1), "{:?}", times[1] - times[0]);
    }
}

#[tokio::test]
async fn p9_shelf_with_an_unknown_certificate_is_told_nothing() {
    let (world, old, new) = World::renewed().await;
    world.shelf.faults().inject(Fault::untrusted_certificate());
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Unauthenticated);
    assert!(world.shelf.record().exchanges().is_empty());
    assert_eq!(world.served(), Ok(old.fingerprint));
}

#[tokio::test]
async fn s1_neither_token_nor_key_is_in_what_is_reported() {
    let (world, _, new) = World::renewed().await;
    let said = serde_json::json!({ "token": world.shelf.writer_token(), "key": new.key_pem });
    world.shelf.faults().inject(Fault::answer(Answer::new(403).with_json(&said)).below("/v1/listeners").changing());
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(report.error.as_ref().unwrap().full_message().matches("withheld").count(), 2, "{report:?}");
    let shown = format!("{report:?}{:?}{}{:?}", world.target, world.events.text(), world.shelf.record().exchanges());
    assert!(!shown.contains(world.shelf.writer_token()), "{shown}");
    assert!(new.key_pem.lines().filter(|line| !line.starts_with('-')).all(|line| !shown.contains(line)), "{shown}");
}

#[test]
fn settings_that_cannot_be_right_are_refused_without_a_network() {
    let registry = Registry::new().with::<shelf::Shelf>();
    let build = |key: &str, value: serde_json::Value| {
        let mut settings = serde_json::json!({ "url": "https://shelf.test", "listener": "front", "token": "env:TOKEN" });
        settings[key] = value;
        registry.get("shelf").unwrap().build("front", settings)
    };
    build("verify", serde_json::json!([])).unwrap();
    for (key, value, path) in [
        ("url", "http://shelf.test", "url"),
        ("listener", "", "listener"),
        ("token", "canary", "token"),
        ("ca_file", "ca.pem", "ca_file"),
    ] {
        let error = build(key, value.into()).unwrap_err();
        assert_eq!(error.path, path, "{error}");
        assert!(!error.to_string().contains("canary"));
    }
    build("unknown", true.into()).unwrap_err();
}

fn certificate(issued: &Issued) -> Certificate {
    Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(issued.key_pem.as_bytes())).unwrap()
}

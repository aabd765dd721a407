//! The worked examples, in Python and in shell, on the shelf: what the conformance suite does not ask.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests write files")]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deploy_core::secret::SecretBytes;
use deploy_core::{
    Certificate, Context, ErrorKind, Event, EventSink, Job, Live, Outcome, Registry, Report, Retry, Rung, Stage, deploy,
};
use deploy_exec::Exec;
use deploy_testkit::pki::{Authority, Issued, Request};
use deploy_testkit::shelf::Shelf;
use deploy_testkit::stand_in::{Answer, Fault};
use serde_json::{Value, json};

/// Each test runs with both.
const PROGRAMS: [&str; 2] = ["shelf.py", "shelf.sh"];

struct World {
    root: tempfile::TempDir,
    shelf: Shelf,
    authority: Authority,
    context: Context,
    program: &'static str,
}

impl World {
    fn new(program: &'static str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let shelf = Shelf::start();
        shelf.add_listener("front");
        fs::write(root.path().join("root.pem"), shelf.root_pem()).unwrap();
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        let world = Self { root, shelf, authority: Authority::new(), context, program };
        world.set_token(world.shelf.writer_token());
        world
    }

    /// Deployed once, with somebody else's certificate beside it, and the requests forgotten.
    async fn deployed(program: &'static str) -> (Self, Issued) {
        let world = Self::new(program);
        world.shelf.put("foreign", &world.issue(), &[("team", "edge")]);
        world.shelf.put("certdeploy-other", &world.issue(), &[("managed-by", "certdeploy"), ("target", "back")]);
        let old = world.issue();
        let report = world.deploy(&old).await;
        assert_eq!(report.outcome, Outcome::Changed, "{program}: {}", why(&report));
        world.shelf.record().clear();
        (world, old)
    }

    fn set_token(&self, token: &str) {
        let path = self.root.path().join("token");
        fs::write(&path, token).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.test"]))
    }

    fn settings(&self) -> Value {
        json!({
            "command": [example(self.program)],
            "settings": { "url": self.shelf.url(), "listener": "front", "ca_file": self.root.path().join("root.pem") },
            "secrets": { "token": format!("file:{}", self.root.path().join("token").display()) },
            "verify": [{ "connect": self.shelf.listener_address("front").to_string() }],
            "verify_timeout": "1s",
        })
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        self.deploy_with(issued, self.settings(), &self.context).await
    }

    async fn deploy_with(&self, issued: &Issued, settings: Value, context: &Context) -> Report {
        let registry = Registry::new().with::<Exec>();
        let target = registry.get("exec").unwrap().build("front", settings).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let report = deploy(&[Job::new("front", "exec", Arc::from(target), Arc::new(certificate))], context).await.remove(0);
        let whole = format!("{report:?} {}", why(&report));
        for token in [self.shelf.writer_token(), self.shelf.reader_token(), issued.key_pem.lines().nth(1).unwrap()] {
            assert!(!whole.contains(token), "S1: {whole}");
        }
        report
    }

    /// The next run does what this one could not, and the one after that has nothing to do.
    async fn ends_with(&self, new: &Issued) {
        self.shelf.faults().heal();
        let report = self.deploy(new).await;
        assert!(
            matches!(report.outcome, Outcome::Changed | Outcome::Repaired | Outcome::Unchanged),
            "{}: {}",
            self.program,
            why(&report)
        );
        assert_eq!(self.shelf.active("front").as_ref(), Some(&new.fingerprint), "{}", self.program);
        assert_eq!(self.deploy(new).await.outcome, Outcome::Unchanged, "{}", self.program);
        let of_new = self.shelf.objects().certificates.into_values().filter(|object| object.fingerprint == new.fingerprint);
        assert_eq!(of_new.count(), 1, "{}: P2", self.program);
    }

    fn ids(&self) -> Vec<String> {
        self.shelf.objects().certificates.into_keys().collect()
    }
}

fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/exec").join(name)
}

/// Without the engine, so that nobody else looks at the clock.
fn by_hand(program: &str, request: &Value) -> Value {
    use std::process::{Command, Stdio};
    let mut child = Command::new(example(program)).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(request.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{program}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn why(report: &Report) -> String {
    report.error.as_ref().map_or_else(String::new, |error| format!("{} Next: {}", error.full_message(), error.next_step()))
}

fn id(issued: &Issued) -> String {
    format!("certdeploy-{}", issued.fingerprint)
}

#[tokio::test]
async fn first_deployment_and_renewal_leave_one_certificate_and_everything_of_others() {
    for program in PROGRAMS {
        let (world, old) = World::deployed(program).await;
        let report = world.deploy(&old).await;
        assert_eq!(report.outcome, Outcome::Unchanged, "P1");
        assert_eq!(world.shelf.record().changing().len(), 0, "{program}: P1");
        let new = world.issue();
        let report = world.deploy(&new).await;
        assert_eq!((report.outcome, report.validated), (Outcome::Changed, Rung::V6), "{program}: {}", why(&report));
        assert_eq!(world.shelf.active("front"), Some(new.fingerprint.clone()));
        let mut expected = vec![id(&new), "certdeploy-other".to_owned(), "foreign".to_owned()];
        expected.sort();
        assert_eq!(world.ids(), expected, "{program}: P4, P7");
        let objects = world.shelf.objects();
        let labels: Vec<_> =
            objects.certificates[&id(&new)].labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(labels, ["managed-by=certdeploy", "target=front"], "{program}");
    }
}

#[tokio::test]
async fn p7_a_superseded_certificate_that_another_listener_uses_stays() {
    for program in PROGRAMS {
        let (world, old) = World::deployed(program).await;
        world.shelf.add_listener("back");
        world.shelf.activate("back", Some(&id(&old)));
        let report = world.deploy(&world.issue()).await;
        assert!(report.outcome == Outcome::Changed && report.warnings.is_empty(), "{program}: {report:?}");
        assert!(world.ids().contains(&id(&old)), "{program}");
    }
}

#[tokio::test]
async fn p8_refusals_have_their_kind_and_are_not_tried_again() {
    for program in PROGRAMS {
        let (world, old) = World::deployed(program).await;
        let new = world.issue();
        for (status, path, kind) in [
            (401, "/v1/", ErrorKind::Unauthenticated),
            (404, "/v1/listeners", ErrorKind::PlanInvalid),
            (422, "/v1/check", ErrorKind::ValidateFailed),
            (422, "/v1/certificates/", ErrorKind::MaterialRejected),
            (428, "/v1/certificates", ErrorKind::PlanInvalid),
            (302, "/v1/certificates", ErrorKind::PlanInvalid),
        ] {
            let answer = Answer::new(status).with_header("Location", "/elsewhere");
            let answer = answer.with_json(&json!({ "error": "as the test wants it" }));
            world.shelf.faults().inject(Fault::answer(answer).below(path));
            world.shelf.record().clear();
            let report = world.deploy(&new).await;
            let what = format!("{program}, {status} below {path}: {}", why(&report));
            assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{what}");
            assert_eq!(report.error.as_ref().map(|error| (error.kind(), error.retry())), Some((kind, Retry::Never)), "{what}");
            assert!(what.contains(&format!("{status} as the test wants it")), "{what}");
            let lines = world.shelf.record().lines();
            let met = lines.iter().filter(|line| line.contains(path) && line.contains(&status.to_string()));
            // The look after an upload that failed is a call of its own.
            assert!((1..=2).contains(&met.count()), "{what}: {lines:?}");
            assert_eq!(world.shelf.active("front").as_ref(), Some(&old.fingerprint), "{what}");
            world.shelf.faults().heal();
        }
        world.ends_with(&new).await;
    }
}

#[tokio::test]
async fn p8_a_retry_after_that_is_too_long_is_reported_with_its_kind() {
    for program in PROGRAMS {
        for (status, kind) in [(429, ErrorKind::RateLimited), (503, ErrorKind::Unavailable)] {
            let (world, _) = World::deployed(program).await;
            let answer = Answer::new(status).with_header("Retry-After", "3600").with_json(&json!({ "error": "slow down" }));
            world.shelf.faults().inject(Fault::answer(answer).changing());
            let report = world.deploy(&world.issue()).await;
            let found = report.error.as_ref().map(|error| (error.kind(), error.retry()));
            assert_eq!(found, Some((kind, Retry::After(Duration::from_secs(3600)))), "{program}, {status}: {}", why(&report));
        }
    }
}

#[tokio::test]
async fn p2_a_partial_upload_is_found_again_and_completed() {
    for program in PROGRAMS {
        let (world, old) = World::deployed(program).await;
        let new = world.issue();
        // The certificate is taken, its key is not.
        let answer = Answer::new(400).with_json(&json!({ "error": "not now" }));
        world.shelf.faults().inject(Fault::answer(answer).below(format!("/v1/certificates/{}/key", id(&new))));
        let report = world.deploy(&new).await;
        assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{program}: {}", why(&report));
        assert_eq!(world.shelf.objects().certificates[&id(&new)].key, None, "{program}: nothing was partial");
        assert_eq!(world.shelf.active("front"), Some(old.fingerprint));
        world.ends_with(&new).await;
        let puts = world.shelf.record().lines();
        let whole = puts.iter().filter(|line| line.starts_with(&format!("PUT /v1/certificates/{} ", id(&new))));
        assert_eq!(whole.count(), 1, "{program}: the certificate was sent twice: {puts:?}");
    }
}

#[tokio::test]
async fn p8_a_slow_answer_is_waited_for_and_none_at_all_is_a_timeout() {
    for program in PROGRAMS {
        let (world, _) = World::deployed(program).await;
        world.shelf.faults().inject(Fault::late(Duration::from_millis(700)).times(1));
        let new = world.issue();
        let report = world.deploy(&new).await;
        assert_eq!(report.outcome, Outcome::Changed, "{program}: {}", why(&report));

        world.shelf.faults().inject(Fault::never());
        let request = json!({
            "protocol": 1, "operation": "observe", "target": "front", "deadline_seconds": 2.0,
            "settings": world.settings()["settings"], "secrets": { "token": world.shelf.writer_token() },
        });
        let answer = by_hand(program, &request);
        assert_eq!(answer["error"]["kind"], json!("timeout"), "{program}: {answer}");
        assert_eq!(answer["error"]["retry"], json!("later"), "{program}: {answer}");
    }
}

#[tokio::test]
async fn p9_a_server_that_nobody_vouches_for_gets_no_token() {
    for program in PROGRAMS {
        let (world, _) = World::deployed(program).await;
        world.shelf.faults().inject(Fault::untrusted_certificate());
        let report = world.deploy(&world.issue()).await;
        let what = format!("{program}: {}", why(&report));
        let found = report.error.as_ref().map(|error| (error.kind(), error.retry()));
        assert_eq!(found, Some((ErrorKind::Unavailable, Retry::Never)), "{what}");
        assert!(what.contains("not who it should be") && what.contains("ca_file"), "{what}");
        assert_eq!(world.shelf.record().lines(), [""; 0], "{what}");

        // The public authorities do not know the shelf's.
        let mut settings = world.settings();
        settings["settings"].as_object_mut().unwrap().remove("ca_file");
        world.shelf.faults().heal();
        let report = world.deploy_with(&world.issue(), settings, &world.context).await;
        assert!(why(&report).contains("not who it should be"), "{program}: {}", why(&report));
    }
}

#[tokio::test]
async fn settings_that_cannot_be_right_are_faults_of_the_configuration() {
    for program in PROGRAMS {
        for (name, value) in
            [("url", json!("http://127.0.0.1:1")), ("listener", json!("")), ("ca_file", json!("/nonexistent/ca.pem"))]
        {
            let world = World::new(program);
            let mut settings = world.settings();
            settings["settings"][name] = value;
            let report = world.deploy_with(&world.issue(), settings, &world.context).await;
            assert_eq!(
                report.error.as_ref().unwrap().kind(),
                ErrorKind::ConfigurationInvalid,
                "{program}, {name}: {}",
                why(&report)
            );
            assert!(why(&report).contains(name), "{program}: {}", why(&report));
        }
        let world = World::new(program);
        world.set_token("two\nlines");
        let report = world.deploy(&world.issue()).await;
        assert_eq!(report.error.as_ref().unwrap().kind(), ErrorKind::ConfigurationInvalid, "{program}: {}", why(&report));
    }
    for program in PROGRAMS {
        let world = World::new(program);
        let mut settings = world.settings();
        settings["settings"]["listener"] = json!("no such/listener");
        let report = world.deploy_with(&world.issue(), settings, &world.context).await;
        assert_eq!(report.error.as_ref().unwrap().kind(), ErrorKind::PlanInvalid, "{program}: {}", why(&report));
    }
}

#[tokio::test]
async fn p4_going_back_leaves_what_somebody_else_has_switched_to() {
    for program in PROGRAMS {
        let (world, _) = World::deployed(program).await;
        let world = Arc::new(world);
        world.shelf.freeze("front", true);
        let events = AtRollBack(Arc::clone(&world));
        let context = world.context.clone().with_events(Arc::new(events));
        let report = world.deploy_with(&world.issue(), world.settings(), &context).await;
        assert_eq!((report.outcome, report.live), (Outcome::RollbackFailed, Live::Unknown), "{program}: {}", why(&report));
        assert!(why(&report).contains("somebody else has switched the listener"), "{program}: {}", why(&report));
        assert_eq!(world.shelf.objects().listeners["front"].as_deref(), Some("foreign"), "{program}");
    }
}

/// Somebody else switches between the failure and the way back.
struct AtRollBack(Arc<World>);

impl EventSink for AtRollBack {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Stage { stage: Stage::RollBack, .. }) {
            self.0.shelf.activate("front", Some("foreign"));
        }
    }
}

#[tokio::test]
async fn s1_token_and_key_are_in_no_argument_and_no_environment_of_any_process() {
    for program in PROGRAMS {
        let (world, _) = World::deployed(program).await;
        let bin = world.root.path().join("bin");
        fs::create_dir(&bin).unwrap();
        let seen = world.root.path().join("seen");
        for name in ["python3", "curl", "jq", "sed", "awk", "tr", "date", "cat"] {
            let text = format!(
                "#!/bin/sh\n/bin/cat /proc/$$/cmdline /proc/$$/environ >> {seen}\necho >> {seen}\nexec \"$(PATH=/usr/bin:/bin command -v {name})\" \"$@\"\n",
                seen = seen.display()
            );
            fs::write(bin.join(name), text).unwrap();
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut settings = world.settings();
        let path = format!("{}:/usr/bin:/bin", bin.display());
        settings["command"] = json!({ "command": [example(program)], "environment": { "PATH": path } });
        let new = world.issue();
        let report = world.deploy_with(&new, settings, &world.context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{program}: {}", why(&report));
        let seen = fs::read_to_string(&seen).unwrap();
        let expected = if program == "shelf.py" { "python3" } else { "--max-time" };
        assert!(seen.contains(expected), "{program}: nothing was seen: {seen}");
        for secret in new.key_pem.lines().filter(|line| !line.starts_with("-----")).chain([world.shelf.writer_token()]) {
            assert!(!seen.contains(secret), "{program}: {seen}");
        }
    }
}

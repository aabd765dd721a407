//! A program that does what it should, in the engine's frame: what it is asked and when, what it is given and where.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests look at files")]

mod common;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use common::{TOKEN, World};
use deploy_core::{ErrorKind, Event, EventSink, Live, Outcome, RecoveryScope, Rung, Stage, preview, recover};
use deploy_testkit::TlsServer;
use serde_json::{Value, json};

/// Keeps the request of this operation, as it came.
fn kept(operation: &str) -> Value {
    json!({ "settings": { "before": { operation: "(remote / 'request').write_text(json.dumps(request))" } } })
}

fn request(world: &World) -> Value {
    serde_json::from_slice(&fs::read(world.remote().join("request")).unwrap()).unwrap()
}

#[tokio::test]
async fn first_deployment_asks_in_order_and_the_second_only_looks() {
    let world = World::new();
    let new = world.issue();
    let report = world.deploy(&new, json!({})).await;
    assert_eq!((report.outcome, report.live, report.validated), (Outcome::Changed, Live::Applied, Rung::V5), "{report:?}");
    assert_eq!(
        world.calls(),
        ["describe", "observe", "validate", "snapshot", "upload", "activate", "observe", "prune"],
        "the handshake once, and first"
    );
    assert_eq!(world.live(), Some(new.fingerprint.clone()));
    world.forget_calls();
    assert_eq!(world.deploy(&new, json!({})).await.outcome, Outcome::Unchanged);
    assert_eq!(world.calls(), ["describe", "observe"], "P1");
}

#[tokio::test]
async fn a2_plan_only_looks() {
    let (world, old) = World::deployed().await;
    let preview = preview(&world.job(&world.issue(), world.settings(json!({}))), &world.context).await;
    assert!(preview.error.is_none(), "{preview:?}");
    assert_eq!((preview.fingerprint.served, preview.validated), (Some(old.fingerprint.clone()), Rung::V3));
    assert_eq!(world.calls(), ["describe", "observe", "validate"]);
    assert_eq!((world.live(), world.litter().len()), (Some(old.fingerprint), 0));
}

#[tokio::test]
async fn a4_success_is_what_is_seen_on_the_wire() {
    let world = World::new();
    let new = world.issue();
    let server = TlsServer::start(&new);
    let report = world.deploy(&new, json!({ "verify": [{ "connect": server.address().to_string() }] })).await;
    assert_eq!((report.outcome, report.validated), (Outcome::Changed, Rung::V6), "{report:?}");
}

#[tokio::test]
async fn what_a_program_cannot_do_is_not_asked_for_and_the_report_says_why_there_was_no_dry_run() {
    for capabilities in ["", ", capabilities={}", ", capabilities={'validate': False, 'prune': False}"] {
        let world = World::new();
        let code = format!("result(name='bare', version='0.1', protocols=[1, 2]{capabilities})");
        let report = world.deploy(&world.issue(), json!({ "settings": { "instead": { "describe": code } } })).await;
        assert_eq!((report.outcome, report.validated), (Outcome::Changed, Rung::V5), "{report:?}");
        assert_eq!((world.count("validate"), world.count("prune")), (0, 0), "{capabilities}");
        let why: Vec<&str> = report.degraded.iter().map(|degraded| degraded.why.as_str()).collect();
        assert!(why.len() == 1 && why[0].ends_with("program has no dry run"), "{why:?}");
    }
}

#[tokio::test]
async fn what_a_dry_run_looked_at_is_reported_as_such() {
    for (result, rung, reason) in [
        ("result(checked='configuration')", Rung::V3, None),
        ("result(checked='pair')", Rung::V2, None),
        ("result(checked='nothing', reason='the remote is read-only today')", Rung::V1, Some("the remote is read-only today")),
    ] {
        let world = World::new();
        // The upload is refused, so that no later rung hides this one.
        let more = json!({ "settings": { "instead": { "validate": result, "upload": "fail('plan_invalid')" } } });
        let report = world.deploy(&world.issue(), more).await;
        assert_eq!(report.validated, rung, "{result}: {report:?}");
        assert_eq!(report.degraded.first().map(|degraded| degraded.why.as_str()), reason, "{result}");
    }
}

#[tokio::test]
async fn a_remote_that_is_not_settled_is_deployed_to_again() {
    let (world, old) = World::deployed().await;
    let code = "result(fingerprint=live.read_text(), settled=(remote / 'bound').exists())";
    let more =
        json!({ "settings": { "instead": { "observe": code }, "before": { "activate": "(remote / 'bound').write_text('')" } } });
    assert_eq!(world.deploy(&old, more.clone()).await.outcome, Outcome::Changed);
    assert_eq!(world.count("activate"), 1);
    assert_eq!(world.deploy(&old, more).await.outcome, Outcome::Unchanged);
}

#[tokio::test]
async fn s1_secrets_and_key_come_on_standard_input_and_nowhere_else() {
    let (world, _) = World::deployed().await;
    let code = "with open(remote / 'seen', 'ab') as seen:
    for name in ['cmdline', 'environ']:
        seen.write(open(f'/proc/self/{name}', 'rb').read() + b'\\n')";
    let operations = ["describe", "observe", "validate", "snapshot", "upload", "activate", "prune"];
    let before: serde_json::Map<String, Value> = operations.iter().map(|name| ((*name).to_owned(), json!(code))).collect();
    let new = world.issue();
    let report = world.deploy(&new, json!({ "settings": { "before": before } })).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let seen = fs::read_to_string(world.remote().join("seen")).unwrap();
    assert_eq!(seen.lines().count(), 2 * 8, "cmdline and environ of eight calls: {seen}");
    for line in seen.lines() {
        let words: Vec<&str> = line.split('\0').filter(|word| !word.is_empty()).collect();
        let interpreter = words.len() == 2 && words[0].ends_with("python3") && words[1] == world.program.to_str().unwrap();
        let environment = words.len() == 2 && words.iter().all(|word| word.starts_with("PATH=") || *word == "LC_ALL=C");
        assert!(interpreter || environment, "{words:?}");
    }
    let key = new.key_pem.lines().nth(1).unwrap();
    assert!(!seen.contains(TOKEN) && !seen.contains(key));
}

#[tokio::test]
async fn each_request_has_what_its_operation_needs_and_no_more() {
    let certificate = ["validate", "upload", "activate"];
    for operation in ["describe", "observe", "validate", "snapshot", "upload", "activate", "prune"] {
        let (world, _) = World::deployed().await;
        let new = world.issue();
        assert_eq!(world.deploy(&new, kept(operation)).await.outcome, Outcome::Changed);
        let request = request(&world);
        assert_eq!(
            (&request["protocol"], &request["operation"], &request["target"]),
            (&json!(1), &json!(operation), &json!("front"))
        );
        let token = if operation == "describe" { Value::Null } else { json!(TOKEN) };
        assert_eq!(request["secrets"]["token"], token, "{operation}");
        assert_eq!(request["settings"]["remote"], json!(world.remote()), "{operation}");
        assert!(request.get("snapshot").is_none(), "{operation}");
        let revision = (operation == "activate").then(|| json!("7"));
        assert_eq!(request.get("revision"), revision.as_ref(), "{operation}");
        assert_eq!(request.get("certificate").is_some(), certificate.contains(&operation), "{operation}");
        if let Some(material) = request.get("certificate") {
            assert_eq!(material["fingerprint"], json!(new.fingerprint));
            assert_eq!(material["names"], json!(["www.example.test"]));
            assert_eq!(material["fullchain"], json!(new.fullchain_pem));
            assert_eq!(material["leaf"].as_str().unwrap().to_owned() + material["chain"].as_str().unwrap(), new.fullchain_pem);
            assert_eq!(material["key"], json!(new.key_pem));
            assert!(material["not_after"].as_str().unwrap().ends_with('Z'));
        }
    }
}

#[tokio::test]
async fn the_deadline_is_the_timeout_of_the_command_or_what_is_left_of_the_deployment() {
    for (timeout, whole, most, least) in [("7s", 60, 7.0, 6.99), ("60s", 20, 20.0, 10.0)] {
        let (world, _) = World::deployed().await;
        let mut more = kept("upload");
        more["command"] = json!({ "command": [world.program], "timeout": timeout });
        let context = world.context.clone().with_timeout(Duration::from_secs(whole));
        assert_eq!(world.deploy_in(&world.issue(), more, &context).await.outcome, Outcome::Changed);
        let seconds = request(&world)["deadline_seconds"].as_f64().unwrap();
        assert!(seconds <= most && seconds >= least, "{seconds} of {timeout} and {whole} s");
    }
}

#[tokio::test]
async fn p5_restore_gets_what_snapshot_gave_and_needs_no_secret_store() {
    let (world, old) = World::deployed().await;
    let token = world.root.path().join("token");
    let mut more = kept("restore");
    more["settings"]["instead"] = json!({
        "snapshot": "result(version=4294967295, data=base64.b64encode(bytes(range(256))).decode())",
        "activate": format!("switch(); os.unlink({:?}); fail('unavailable')", token.display().to_string()),
        "restore": format!("live.write_text('{}'); result()", old.fingerprint),
    });
    let report = world.deploy(&world.issue(), more).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    let request = request(&world);
    assert_eq!(request["snapshot"]["version"], json!(u32::MAX));
    let script =
        "import base64, json, sys; print(base64.b64decode(json.load(sys.stdin)['snapshot']['data']) == bytes(range(256)))";
    assert_eq!(python(script, &request), "True\n");
    assert_eq!(request["secrets"]["token"], json!(TOKEN), "fetched before it was gone");
    assert!(request.get("certificate").is_none());
}

#[tokio::test]
async fn killed_after_the_switch_is_found_by_the_next_run() {
    for recover_first in [false, true] {
        let (world, _) = World::deployed().await;
        let new = world.issue();
        let context = world.context.clone().with_events(Arc::new(DieAt(Stage::Verify)));
        let report = world.deploy_in(&new, json!({}), &context).await;
        assert_eq!((report.outcome, report.live), (Outcome::Failed, Live::Unknown), "{report:?}");
        assert_eq!(world.live().as_ref(), Some(&new.fingerprint));
        assert_eq!(world.litter().len(), 2, "journal and snapshot: {:?}", world.litter());
        world.forget_calls();
        if recover_first {
            let recovered = recover(&[world.job(&new, world.settings(json!({})))], RecoveryScope::Full, &world.context).await;
            assert!(recovered.len() == 1 && recovered[0].error.is_none(), "{recovered:?}");
        }
        let report = world.deploy(&new, json!({})).await;
        assert!(matches!(report.outcome, Outcome::Unchanged | Outcome::Repaired), "{report:?}");
        assert_eq!((world.count("upload"), world.count("activate"), world.count("restore")), (0, 0, 0));
        assert_eq!((world.live(), world.litter().len()), (Some(new.fingerprint), 0));
    }
}

#[tokio::test]
async fn killed_before_the_switch_is_begun_again() {
    let (world, old) = World::deployed().await;
    let new = world.issue();
    let context = world.context.clone().with_events(Arc::new(DieAt(Stage::Swap)));
    assert_eq!(world.deploy_in(&new, json!({}), &context).await.outcome, Outcome::Failed);
    assert_eq!(world.live(), Some(old.fingerprint));
    let report = world.deploy(&new, json!({})).await;
    assert!(matches!(report.outcome, Outcome::Changed | Outcome::Repaired), "{report:?}");
    assert_eq!((world.live(), world.litter().len()), (Some(new.fingerprint), 0));
}

#[tokio::test]
async fn f21_a_caller_who_stops_ends_the_program_and_what_it_had_begun() {
    let (world, old) = World::deployed().await;
    let cancellation = deploy_core::Cancellation::default();
    let context = world.context.clone().with_cancellation(cancellation.clone());
    let code = "import time\nswitch()\n(remote / 'switched').write_text('')\ntime.sleep(600)";
    let switched = world.remote().join("switched");
    let stopper = std::thread::spawn(move || {
        while !switched.exists() {
            std::thread::yield_now();
        }
        cancellation.cancel();
    });
    let report = world.deploy_in(&world.issue(), json!({ "settings": { "instead": { "activate": code } } }), &context).await;
    stopper.join().unwrap();
    assert_eq!((report.outcome, report.live), (Outcome::Interrupted, Live::RolledBack), "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Interrupted);
    assert_eq!(world.live(), Some(old.fingerprint));
}

/// Ends the engine's thread: nothing that it would have done afterwards is done.
struct DieAt(Stage);

impl EventSink for DieAt {
    fn event(&self, event: &Event) {
        assert!(!matches!(event, Event::Stage { stage, .. } if *stage == self.0), "the process dies");
    }
}

fn python(script: &str, input: &Value) -> String {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let mut child = Command::new("python3").args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

//! Programs that do what they should not: each is an error that names program and operation, and gets nothing past the engine.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests look at files")]

mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::{World, script};
use deploy_core::{ErrorKind, Live, Outcome, Report};
use deploy_testkit::TlsServer;
use serde_json::{Value, json};

fn instead(operation: &str, code: &str) -> Value {
    json!({ "settings": { "instead": { operation: code } } })
}

/// The kind, and message and causes as one line.
fn why(report: &Report) -> (ErrorKind, String) {
    let error = report.error.as_ref().unwrap_or_else(|| panic!("no error in {report:?}"));
    (error.kind(), error.full_message())
}

#[tokio::test]
async fn an_answer_that_is_none_is_refused_and_says_what_is_wrong_with_it() {
    use ErrorKind::{ConfigurationInvalid, Unavailable};
    for (code, kind, part) in [
        ("pass", Unavailable, "printed nothing"),
        ("print('  ')", Unavailable, "printed nothing"),
        ("print('all is well')", Unavailable, "not one JSON document"),
        ("print('{\"protocol\":1,\"res')", Unavailable, "not one JSON document"),
        ("sys.stdout.buffer.write(b'\\xff\\xfe')", Unavailable, "not one JSON document"),
        ("observe(); print(); observe()", Unavailable, "not one JSON document"),
        ("print('[]')", Unavailable, "form"),
        ("print('{\"result\":{}}')", Unavailable, "missing field `protocol`"),
        ("answer()", Unavailable, "neither a `result` nor an `error`"),
        ("answer(result=None)", Unavailable, "neither a `result` nor an `error`"),
        (
            "answer(result={'fingerprint': None}, error={'kind': 'timeout', 'message': 'm'})",
            Unavailable,
            "both a `result` and an `error`",
        ),
        ("answer(result={'fingerprint': None}, extra=1)", Unavailable, "unknown field `extra`"),
        ("result(fingerprint=None, extra=1)", Unavailable, "unknown field `extra`"),
        ("result()", Unavailable, "missing field `fingerprint`"),
        ("result(fingerprint=7)", Unavailable, "`result.fingerprint`"),
        ("result(fingerprint='AB' * 32)", Unavailable, "64 lowercase hexadecimal digits"),
        ("result(fingerprint='ab')", Unavailable, "64 lowercase hexadecimal digits"),
        ("fail('rollback_failed')", Unavailable, "unknown variant `rollback_failed`"),
        ("fail('timeout', retry={'after_seconds': -1})", Unavailable, "after_seconds"),
        ("print('{\"protocol\":2,\"outcome\":\"fine\"}')", ConfigurationInvalid, "speaks protocol 2"),
        ("print('x' * 70000)", Unavailable, "longer than 65536 bytes"),
        ("result(fingerprint=None, revision='x' * 70000)", Unavailable, "longer than 65536 bytes"),
        ("result(fingerprint=request['secrets']['token'], revision=request['secrets']['token'])", Unavailable, "64 lowercase"),
        ("fail(request['secrets']['token'])", Unavailable, "unknown variant"),
        ("print(request['secrets']['token'])", Unavailable, "not one JSON document"),
    ] {
        let world = World::new();
        let report = world.deploy(&world.issue(), instead("observe", code)).await;
        let (found, message) = why(&report);
        assert_eq!((found, report.outcome, report.live), (kind, Outcome::Rejected, Live::Unchanged), "{code}: {message}");
        assert!(message.contains(part), "{code}: {message}");
        assert!(message.contains("`observe`") && message.contains(world.program.to_str().unwrap()), "{code}: {message}");
        assert_eq!(world.calls(), ["describe", "observe"], "{code}: what is broken is not tried again");
    }
}

#[tokio::test]
async fn a_handshake_without_a_common_protocol_ends_everything_and_says_what_to_do() {
    for code in ["result(name='f', version='1', protocols=[2, 3])", "print('{\"protocol\":2}')"] {
        let world = World::new();
        let report = world.deploy(&world.issue(), instead("describe", code)).await;
        let (kind, message) = why(&report);
        assert_eq!((kind, report.outcome), (ErrorKind::ConfigurationInvalid, Outcome::Rejected), "{message}");
        assert!(message.contains("it speaks protocol 2"), "{message}");
        assert!(report.error.unwrap().next_step().contains("install a version of"), "{message}");
        assert_eq!(world.calls(), ["describe"]);
    }
}

#[tokio::test]
async fn an_exit_status_counts_whatever_was_printed() {
    for operation in ["describe", "observe", "validate", "snapshot", "upload"] {
        let (world, old) = World::deployed().await;
        let code = format!("{operation}(); sys.exit(3)");
        let report = world.deploy(&world.issue(), instead(operation, &code)).await;
        let (kind, message) = why(&report);
        assert_eq!((kind, report.outcome), (ErrorKind::Unavailable, Outcome::Rejected), "{operation}: {message}");
        assert!(message.contains("exit status 3, and it wrote nothing to standard error"), "{operation}: {message}");
        assert_eq!(world.live(), Some(old.fingerprint), "{operation}");
        assert_eq!(world.litter().len(), 0, "{operation}: {:?}", world.litter());
    }
}

#[tokio::test]
async fn p5_a_program_that_fails_or_dies_in_activate_is_rolled_back_whatever_it_did() {
    for code in [
        "sys.exit(3)",
        "switch(); sys.exit(3)",
        "switch(); os.kill(os.getpid(), 9)",
        "switch(); result(surprise=1)",
        "switch(); fail('unavailable')",
        "result()",
    ] {
        let (world, old) = World::deployed().await;
        let new = world.issue();
        let report = world.deploy(&new, instead("activate", code)).await;
        assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{code}: {report:?}");
        assert_eq!(world.live(), Some(old.fingerprint), "{code}");
        assert_eq!((world.count("restore"), world.litter().len()), (1, 0), "{code}");
        assert_eq!(world.deploy(&new, json!({})).await.outcome, Outcome::Changed, "{code}");
    }
}

#[tokio::test]
async fn a_restore_that_only_says_that_it_restored_needs_a_person() {
    let (world, _) = World::deployed().await;
    let code = json!({ "settings": { "instead": { "activate": "switch(); sys.exit(1)", "restore": "result()" } } });
    let new = world.issue();
    let report = world.deploy(&new, code).await;
    assert_eq!((report.outcome, report.live), (Outcome::RollbackFailed, Live::Unknown), "{report:?}");
    assert_eq!(world.deploy(&new, json!({})).await.outcome, Outcome::Repaired, "the next run settles what it finds");
    assert_eq!(world.live(), Some(new.fingerprint));
    assert_eq!(world.litter().len(), 0);
}

#[tokio::test]
async fn a4_a_program_that_calls_its_work_a_success_is_not_believed_where_somebody_can_look() {
    let (world, old) = World::deployed().await;
    let server = TlsServer::start(&old);
    let more = json!({ "verify": [{ "connect": server.address().to_string() }], "verify_timeout": "300ms" });
    let report = world.deploy(&world.issue(), more).await;
    assert_eq!((report.outcome, why(&report).0), (Outcome::RolledBack, ErrorKind::VerifyFailed), "{report:?}");
    assert_eq!(world.live(), Some(old.fingerprint));
}

#[tokio::test]
async fn an_upload_that_switches_is_found_out() {
    for after in ["result()", "sys.exit(1)"] {
        let (world, old) = World::deployed().await;
        let code = format!("(certificates / request['certificate']['fingerprint']).write_text(''); switch(); {after}");
        let more = json!({ "settings": { "instead": { "upload": code, "activate": "sys.exit(1)" } } });
        let report = world.deploy(&world.issue(), more).await;
        assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{after}: {report:?}");
        assert_eq!(world.live(), Some(old.fingerprint), "{after}");
    }
}

#[tokio::test]
async fn f40_a_program_that_hangs_is_ended_with_its_children() {
    let (world, old) = World::deployed().await;
    let code = "import subprocess, time
child = subprocess.Popen(['sleep', '600'])
(remote / 'pids').write_text(f'{os.getpid()} {child.pid}')
time.sleep(600)";
    let mut more = instead("upload", code);
    more["command"] = json!({ "command": [world.program], "timeout": "500ms" });
    let context = world.context.clone().with_timeout(Duration::from_secs(2));
    let report = world.deploy_in(&world.issue(), more, &context).await;
    let (kind, message) = why(&report);
    assert_eq!((kind, report.outcome), (ErrorKind::Timeout, Outcome::Rejected), "{message}");
    assert!(message.contains("`upload`") && message.contains("did not end within"), "{message}");
    assert_eq!(world.live(), Some(old.fingerprint));
    let pids = fs::read_to_string(world.remote().join("pids")).unwrap();
    for pid in pids.split(' ') {
        until(|| !is_running(pid), &format!("process {pid} to end"));
    }
}

#[tokio::test]
async fn p8_a_program_that_hangs_in_activate_is_rolled_back_although_the_time_is_over() {
    let (world, old) = World::deployed().await;
    let context = world.context.clone().with_timeout(Duration::from_secs(1));
    let code = "import time\nswitch()\ntime.sleep(600)";
    let report = world.deploy_in(&world.issue(), instead("activate", code), &context).await;
    assert_eq!((report.outcome, why(&report).0), (Outcome::RolledBack, ErrorKind::Timeout), "{report:?}");
    assert_eq!(world.live(), Some(old.fingerprint));
}

#[tokio::test]
async fn a_child_that_is_left_behind_with_standard_output_open_is_not_waited_for() {
    let world = World::new();
    let new = world.issue();
    let code = "import subprocess
child = subprocess.Popen(['sleep', '600'], start_new_session=True)
(remote / 'pids').write_text(str(child.pid))
observe()";
    let started = Instant::now();
    let report = world.deploy(&new, json!({ "settings": { "instead": { "observe": code } } })).await;
    let pid = fs::read_to_string(world.remote().join("pids")).unwrap();
    let left_behind = is_running(&pid);
    std::process::Command::new("kill").arg(&pid).status().unwrap();
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(left_behind, "the child ended by itself, so that nothing was shown");
    assert!(started.elapsed() < Duration::from_secs(60), "it was waited for");
}

#[tokio::test]
async fn much_on_standard_error_does_no_harm() {
    let world = World::new();
    let more = json!({ "settings": { "before": { "observe": "print('x' * 1000000, file=sys.stderr)" } } });
    assert_eq!(world.deploy(&world.issue(), more).await.outcome, Outcome::Changed);
}

#[tokio::test]
async fn s1_what_a_program_says_is_shown_without_the_key_and_the_secrets() {
    for (code, part) in [
        ("print('cannot: ' + request['certificate']['key'], file=sys.stderr); sys.exit(1)", "cannot: "),
        ("print(repr(request['certificate']['key']), 'is bad', file=sys.stderr); sys.exit(1)", "is bad"),
        (
            "print('key starts with ' + request['certificate']['key'][28:56] + '.', file=sys.stderr); sys.exit(1)",
            "key starts with ",
        ),
        ("print('401 for ' + request['secrets']['token'], file=sys.stderr); sys.exit(1)", "401 for [withheld]"),
        ("print('x' * 70000 + request['secrets']['token'] + '\\nend', file=sys.stderr); sys.exit(1)", "end"),
        (
            "fail('unauthenticated', 'bad ' + request['secrets']['token'], next_step='renew ' + request['secrets']['token'])",
            "bad [withheld]",
        ),
        ("fail('material_rejected', 'refused: ' + request['certificate']['key'])", "refused: "),
        ("result(whatever=request['certificate']['key'])", "unknown field"),
        ("print(json.dumps(request))", "missing field `result`|unknown field"),
    ] {
        let (world, _) = World::deployed().await;
        // `deploy` looks for token and key in all that comes back.
        let report = world.deploy(&world.issue(), instead("upload", code)).await;
        let (_, message) = why(&report);
        assert_eq!(report.outcome, Outcome::Rejected, "{code}: {message}");
        assert!(part.split('|').any(|part| message.contains(part)), "{code}: {message}");
    }
    let (world, _) = World::deployed().await;
    let code = "result(checked='nothing', reason='no ' + request['secrets']['token'] + ' ' + request['certificate']['key'])";
    let report = world.deploy(&world.issue(), instead("validate", code)).await;
    assert_eq!(report.outcome, Outcome::Changed);
    assert!(report.degraded.iter().any(|degraded| degraded.why.contains("no [withheld]")), "{report:?}");
}

#[tokio::test]
async fn a_program_that_cannot_be_started_is_a_fault_of_the_configuration() {
    let world = World::new();
    let directory = world.root.path();
    let closed = directory.join("closed");
    fs::write(&closed, "#!/bin/sh\n").unwrap();
    let orphan = script(directory, "orphan", "#!/nonexistent/interpreter\n");
    for command in ["certdeploy-test-no-such-program", "/nonexistent/program", closed.to_str().unwrap(), orphan.to_str().unwrap()]
    {
        let report = world.deploy(&world.issue(), json!({ "command": [command] })).await;
        let (kind, message) = why(&report);
        assert_eq!((kind, report.outcome), (ErrorKind::ConfigurationInvalid, Outcome::Rejected), "{command}: {message}");
        assert!(message.contains(command) && message.contains("`describe`"), "{message}");
    }
}

#[tokio::test]
async fn a_program_that_reads_nothing_is_heard_all_the_same() {
    let world = World::new();
    let program = script(
        world.root.path(),
        "deaf",
        "#!/bin/sh\necho '{\"protocol\":1,\"error\":{\"kind\":\"plan_invalid\",\"message\":\"not today\"}}'\n",
    );
    let report = world.deploy(&world.issue(), json!({ "command": [program] })).await;
    let (kind, message) = why(&report);
    assert_eq!(kind, ErrorKind::PlanInvalid, "{message}");
    assert!(message.contains("not today"), "{message}");
}

#[tokio::test]
async fn a_secret_that_is_not_there_stops_before_the_program_is_asked() {
    let world = World::new();
    fs::remove_file(world.root.path().join("token")).unwrap();
    let report = world.deploy(&world.issue(), json!({})).await;
    assert_eq!((report.outcome, why(&report).0), (Outcome::Rejected, ErrorKind::ConfigurationInvalid), "{report:?}");
    assert_eq!(world.calls(), ["describe"]);
}

#[tokio::test]
async fn p8_kinds_are_taken_over_and_only_what_passes_is_tried_again() {
    use ErrorKind::{
        ConfigurationInvalid, MaterialRejected, PermissionDenied, PlanInvalid, RateLimited, Unauthenticated, Unavailable,
        ValidateFailed,
    };
    for (kind, retry, expected, tries) in [
        ("unauthenticated", "'later'", Unauthenticated, 1),
        ("permission_denied", "'later'", PermissionDenied, 1),
        ("material_rejected", "'later'", MaterialRejected, 1),
        ("plan_invalid", "{'after_seconds': 1}", PlanInvalid, 1),
        ("configuration_invalid", "'later'", ConfigurationInvalid, 1),
        ("validate_failed", "'later'", ValidateFailed, 1),
        ("unavailable", "'never'", Unavailable, 1),
        ("rate_limited", "{'after_seconds': 0}", RateLimited, 5),
        ("timeout", "{'after_seconds': 0}", ErrorKind::Timeout, 5),
        ("rate_limited", "{'after_seconds': 3600}", RateLimited, 1),
    ] {
        let (world, old) = World::deployed().await;
        let code = format!("fail('{kind}', retry={retry}, next_step='ask \\x1b[31mthe vendor')");
        let report = world.deploy(&world.issue(), instead("upload", &code)).await;
        assert_eq!((why(&report).0, report.outcome), (expected, Outcome::Rejected), "{kind}: {report:?}");
        assert_eq!(world.count("upload"), tries, "{kind}, {retry}");
        assert_eq!(report.error.unwrap().next_step(), "ask [31mthe vendor", "no control characters");
        assert_eq!(world.live(), Some(old.fingerprint));
    }
}

#[tokio::test]
async fn p8_what_passes_is_waited_for_as_long_as_the_remote_asks() {
    let (world, _) = World::deployed().await;
    let code = "if (remote / 'again').exists():
    upload()
else:
    (remote / 'again').write_text('')
    fail('rate_limited', retry={'after_seconds': 1})";
    let started = Instant::now();
    let report = world.deploy(&world.issue(), instead("upload", code)).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(started.elapsed() >= Duration::from_secs(1));
    assert_eq!(world.count("upload"), 2);
}

#[tokio::test]
async fn p3_after_a_conflict_the_engine_looks_again_and_decides_again_once() {
    let (world, _) = World::deployed().await;
    let code = "if (remote / 'again').exists():
    activate()
else:
    (remote / 'again').write_text('')
    live.write_text('ab' * 32)
    fail('conflict', retry='later')";
    let report = world.deploy(&world.issue(), instead("activate", code)).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!((world.count("activate"), world.count("restore"), world.count("describe")), (2, 0, 1));
}

fn is_running(pid: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    // One that ended and was not waited for by its parent is still listed.
    !status.is_empty() && !status.contains("State:\tZ")
}

fn until(mut condition: impl FnMut() -> bool, what: &str) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "waited too long for {what}");
        std::thread::yield_now();
    }
}

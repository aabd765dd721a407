use super::super::json::{Finding, Fingerprint, Recovery};
use super::*;

fn strip(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

fn report() -> TargetReport {
    TargetReport {
        target: "front".to_owned(),
        kind: "nginx".to_owned(),
        outcome: "changed",
        stage: "prune",
        changed_files: vec!["/etc/x".to_owned()],
        fingerprint: Fingerprint { wanted: Some("a".repeat(64)), served: Some("a".repeat(64)) },
        not_after: Some("2027-01-15T08:00:00Z".to_owned()),
        duration_ms: 412,
        live: "applied",
        validated: "V6".to_owned(),
        degraded: Vec::new(),
        warnings: Vec::new(),
        error: None,
    }
}

#[test]
fn a_success_is_one_row() {
    let text = strip(&deploy(&Deploy { targets: vec![report()], error: None }));
    assert_eq!(
        text,
        "TARGET  KIND   OUTCOME  LIVE     CHECKED  SERVED        ENDS        TOOK\n\
         front   nginx  changed  applied  V6       aaaaaaaaaaaa  2027-01-15  412 ms\n"
    );
}

#[test]
fn a_failure_says_what_failed_why_what_is_live_and_what_to_do() {
    let error = TargetError {
        kind: "reload_failed",
        message: "unused here".to_owned(),
        retryable: false,
        next_step: Some("run `nginx -t`".to_owned()),
        chain: vec!["the reload failed".to_owned(), "exit status 1\nsecond \x1b[31mline".to_owned()],
    };
    let failed = TargetReport { outcome: "rolled_back", stage: "roll_back", live: "rolled_back", error: Some(error), ..report() };
    let text = strip(&deploy(&Deploy { targets: vec![failed], error: None }));
    let notes = text.split_once("\n\n").unwrap().1;
    assert_eq!(
        notes,
        "front: rolled_back at roll_back\n  failed: the reload failed\n  because: exit status 1\n      second \u{fffd}[31mline\n  \
         live now: the old certificate, put back\n  next: run `nginx -t`\n"
    );
}

#[test]
fn a_plan_is_a_diff_of_files() {
    let numbers = |mode: &str, sha: &str| FileNumbers { sha256: sha.repeat(64), size: 9, uid: 0, gid: 0, mode: mode.to_owned() };
    let file = |action: &str, before, after| PlannedFile {
        path: "/etc/x".to_owned(),
        real_path: None,
        action: action.to_owned(),
        before,
        after,
    };
    let target = TargetPlan {
        target: "front".to_owned(),
        kind: "nginx".to_owned(),
        state: "change".to_owned(),
        files: vec![
            file("create", None, Some(numbers("0600", "b"))),
            file("repair", Some(numbers("0644", "b")), Some(numbers("0640", "b"))),
            file("keep", Some(numbers("0644", "b")), Some(numbers("0644", "b"))),
        ],
        commands: vec!["nginx -t".to_owned()],
        fingerprint: Fingerprint::default(),
        not_after: None,
        validated: "V3".to_owned(),
        degraded: vec![Degradation { what: "reload".to_owned(), why: "not tried in a dry run".to_owned() }],
        warnings: Vec::new(),
        pending_recovery: None,
        error: None,
    };
    let text = strip(&plan(&Plan { targets: vec![target], error: None }));
    assert_eq!(
        text,
        "front: would change\n\
         \x20 + create  /etc/x\n\
         \x20     sha256: none -> bbbbbbbbbbbb\n\
         \x20     size: none -> 9\n\
         \x20     owner: none -> 0:0\n\
         \x20     mode: none -> 0600\n\
         \x20 ~ repair  /etc/x\n\
         \x20     mode: 0644 -> 0640\n\
         \x20 = keep    /etc/x\n\
         \x20 run: nginx -t\n\
         \x20 checked: up to V3\n\
         \x20 certificate: - -> -, ends -\n\
         \x20 not checked or not done: reload: not tried in a dry run\n"
    );
}

#[test]
fn debts_and_wrong_endpoints_show_in_the_status() {
    let target = TargetState {
        target: "front".to_owned(),
        kind: "nginx".to_owned(),
        wanted: None,
        on_disk: Some("c".repeat(64)),
        not_after: None,
        days_left: Some(12),
        served: vec![EndpointState {
            endpoint: "a:1".to_owned(),
            served: None,
            matches: false,
            problem: Some("refused".to_owned()),
        }],
        owed: Some("a reload".to_owned()),
        hold: None,
        sets: Vec::new(),
        error: None,
    };
    let text = strip(&status(&Status { targets: vec![target], error: None }));
    for part in
        ["front   nginx  12    -     cccccccccccc  1 of 1 wrong  yes   -\n", "  owed: a reload\n", "  a:1: refused (serves -)\n"]
    {
        assert!(text.contains(part), "{part:?} is missing in:\n{text}");
    }
}

#[test]
fn recovery_says_what_it_did() {
    assert_eq!(recover(&Recover { recovered: Vec::new(), error: None }), "nothing to recover\n");
    let recovery = Recovery {
        targets: vec!["front".to_owned()],
        id: "17".to_owned(),
        action: "put the old files back".to_owned(),
        live: "rolled_back",
        owed: true,
        error: None,
    };
    let text = strip(&recover(&Recover { recovered: vec![recovery], error: None }));
    assert!(
        text.starts_with(
            "\nfront: deployment 17\n  done: put the old files back\n  live now: the old certificate, put back\n  owed: "
        ),
        "{text}"
    );
}

#[test]
fn a_finding_has_its_advice_below() {
    let finding =
        Finding { check: "user".to_owned(), level: "warn", message: "not root".to_owned(), advice: Some("be root".to_owned()) };
    assert_eq!(strip(&doctor(&Doctor { findings: vec![finding] })), "warn user: not root\n     next: be root\n");
}

#[test]
fn durations_have_their_unit() {
    assert_eq!([0, 999, 1000, 12_345, 61_000].map(duration), ["0 ms", "999 ms", "1.0 s", "12.3 s", "1 min 1 s"]);
}

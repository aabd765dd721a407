//! What is known of a cluster: facts.py asks, with the Kubernetes client for Python, and this is what has to come of it. The
//! answers are those of a real API server (1.36) that were written down; a real one can be asked again with tests/real.rs.

use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

/// Asks the cluster of a kubeconfig, in a namespace.
pub(crate) fn check(kubeconfig: &Path, namespace: &str) {
    let python = deploy_testkit::installed("kubernetes/bin/python").unwrap_or_else(|error| panic!("{error}"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/facts.py");
    let output = Command::new(python).arg(script).arg(kubeconfig).arg(namespace).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let facts: Vec<(String, Value)> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let known = known();
    assert_eq!(facts.iter().map(|(name, _)| name).collect::<Vec<_>>(), known.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    let wrong: Vec<String> = std::iter::zip(facts, known)
        .filter(|((_, is), (_, expected))| is != expected)
        .map(|((name, is), (_, expected))| format!("{name}\n  is       {is}\n  expected {expected}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn known() -> Vec<(&'static str, Value)> {
    let ok = json!({ "code": 200 });
    let made = json!({ "code": 201 });
    let refused = |code: u16, reason: &str, causes: Value| json!({ "code": code, "reason": reason, "causes": causes });
    let overtaken = refused(409, "Conflict", json!([]));
    let owned = |fields: &[&str]| {
        let causes: Vec<Value> = fields.iter().map(|field| json!(["FieldManagerConflict", field])).collect();
        refused(409, "Conflict", json!(causes))
    };
    let invalid = |reason: &str, field: &str| refused(422, "Invalid", json!([[reason, field]]));
    let type_is_fixed = invalid("FieldValueInvalid", "type");
    let is_immutable = invalid("FieldValueForbidden", "data");
    vec![
        ("what_is_there_is_not_made_again", json!([made, refused(409, "AlreadyExists", json!([]))])),
        ("a_revision_that_is_over_is_refused", json!([ok, overtaken, overtaken])),
        ("what_is_the_same_keeps_its_revision", json!([ok, true])),
        ("apply_wants_a_manager", invalid("FieldValueRequired", "fieldManager")),
        ("a_dry_run_makes_nothing", json!([made, refused(404, "NotFound", json!([]))])),
        ("apply_makes_what_is_missing_and_owns_it", json!([made, ok, ["a"], { "certdeploy Apply": ["f:a"] }])),
        (
            "apply_of_what_somebody_else_owns_is_refused_until_it_is_forced",
            json!([owned(&[".data.a"]), ok, ["a", "theirs"], { "certdeploy Apply": ["f:a"], "somebody Update": ["f:theirs"] }]),
        ),
        ("apply_of_the_value_that_is_there_is_no_conflict", ok.clone()),
        (
            "a_manager_conflicts_with_itself_by_another_kind_of_request",
            json!([owned(&[".data.a"]), { "certdeploy Update": ["f:a"] }]),
        ),
        ("the_type_cannot_be_changed", json!([type_is_fixed, type_is_fixed])),
        ("tls_wants_both_entries_and_looks_at_neither", json!([invalid("FieldValueRequired", "data[tls.key]"), made])),
        (
            "one_that_is_immutable_changes_its_labels_only",
            json!([ok, [is_immutable, is_immutable, invalid("FieldValueForbidden", "immutable")], ok]),
        ),
        ("too_much_is_refused", invalid("FieldValueTooLong", "data")),
        ("only_the_one_that_is_meant_is_deleted", json!([overtaken, overtaken, ok])),
        ("what_was_deleted_is_not_applied_to", overtaken),
        ("a_namespace_that_is_missing_is_named", refused(404, "NotFound", json!([]))),
        ("permissions_can_be_asked_for", json!(true)),
    ]
}

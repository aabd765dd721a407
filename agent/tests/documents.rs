//! The documents of `--json` and the schemas in docs/schemas.

#![cfg(feature = "nginx")]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests write configurations, run the program, and fail by panicking"
)]

use std::fs;
use std::path::Path;
use std::process::Command;

use deploy_core::{FileAction, Live, Outcome, Rung, Stage, TargetState};
use serde_json::{Value, json};

const CONFIGURATION: &str = r#"
[[certificate]]
name = "www"
fullchain = "/nowhere/fullchain.pem"
key = "/nowhere/privkey.pem"

[[target]]
name = "front"
kind = "nginx"
certificate = "www"
fullchain = "/nowhere/www.crt"
key = "/nowhere/www.key"
"#;

/// What of `value` does not follow `schema`: the part of JSON Schema that the schemas of the documents use.
fn violations(value: &Value, schema: &Value, root: &Value, path: &str) -> Vec<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        return violations(value, root.pointer(reference.trim_start_matches('#')).expect("a definition"), root, path);
    }
    if let Some(variants) = schema["anyOf"].as_array() {
        let fits = variants.iter().any(|variant| violations(value, variant, root, path).is_empty());
        return if fits { Vec::new() } else { vec![format!("{path}: {value} fits no variant")] };
    }
    let mut found = Vec::new();
    let types: Vec<&str> = match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
        one => one.as_str().into_iter().collect(),
    };
    let actual = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    if !types.contains(&actual) {
        found.push(format!("{path}: {value} is no {types:?}"));
    }
    if let (Some(allowed), false) = (schema["enum"].as_array(), value.is_null())
        && !allowed.contains(value)
    {
        found.push(format!("{path}: {value} is none of {allowed:?}"));
    }
    for required in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(required).is_none() && value.is_object() {
            found.push(format!("{path}: {required} is missing"));
        }
    }
    for (name, child) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => found.extend(violations(child, schema, root, &format!("{path}.{name}"))),
            None => found.push(format!("{path}: {name} is not documented")),
        }
    }
    for (index, child) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(violations(child, &schema["items"], root, &format!("{path}[{index}]")));
    }
    found
}

fn schema(name: &str) -> Value {
    certdeploy::schemas().into_iter().find(|(known, _)| *known == name).expect("a schema").1.to_value()
}

fn assert_follows(name: &str, document: &Value) {
    let schema = schema(name);
    assert_eq!(violations(document, &schema, &schema, name), Vec::<String>::new(), "{document:#}");
}

/// The document of a command, on a configuration of one target.
fn document(configuration: &str, arguments: &[&str]) -> Value {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("certdeploy.toml");
    fs::write(&file, configuration).unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_certdeploy"));
    command.arg("--config").arg(file).arg("--state-dir").arg(directory.path().join("state")).args(arguments).arg("--json");
    let output = command.output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {output:?}"))
}

#[test]
fn the_documents_of_all_commands_follow_their_schemas() {
    for (arguments, name) in [
        (["check-config"].as_slice(), "check-config"),
        (&["connectors", "list"], "connectors"),
        (&["deploy"], "deploy"),
        (&["doctor"], "doctor"),
        (&["plan"], "plan"),
        (&["recover"], "recover"),
        (&["rollback", "front"], "deploy"),
        (&["status"], "status"),
        (&["verify"], "verify"),
        (&["deploy", "--target", "nobody"], "error"),
    ] {
        assert_follows(name, &document(CONFIGURATION, arguments));
    }
}

#[test]
fn failures_follow_the_schemas_too() {
    for command in ["deploy", "plan", "verify", "status", "doctor", "check-config"] {
        let document = document("nonsense = 1\n", &[command]);
        match command {
            "doctor" | "check-config" => assert_follows(command, &document),
            _ => {
                assert_follows("error", &document);
                assert_follows(command, &document);
            }
        }
    }
    assert_follows("recover", &document("nonsense = 1\n", &["recover", "--files-only"]));
}

#[test]
fn the_check_of_documents_finds_what_is_wrong() {
    let schema = schema("error");
    let check = |document: Value| violations(&document, &schema, &schema, "error").len();
    let right = json!({ "targets": [], "error": { "kind": "usage", "message": "m", "next_step": null } });
    assert_eq!(check(right.clone()), 0);
    for (pointer, wrong) in [("/error/kind", "other".into()), ("/error/message", 5.into()), ("/targets", Value::Null)] {
        let mut document = right.clone();
        *document.pointer_mut(pointer).unwrap() = wrong;
        assert_eq!(check(document), 1, "{pointer}");
    }
    assert_eq!(check(json!({ "targets": [], "more": 1 })), 2, "one is missing, one is not documented");
}

#[test]
fn the_schemas_in_the_documentation_are_current() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/schemas");
    for (name, schema) in certdeploy::schemas() {
        let wanted = serde_json::to_string_pretty(&schema).unwrap() + "\n";
        let found = fs::read_to_string(directory.join(format!("{name}.json"))).unwrap_or_default();
        assert_eq!(found, wanted, "docs/schemas/{name}.json is stale");
    }
}

#[test]
fn every_word_of_the_engine_is_documented() {
    use Outcome::{Changed, Failed, Interrupted, Locked, Rejected, Repaired, RollbackFailed, RolledBack, Unverified};
    use Stage::{Acknowledge, Check, Inspect, Journal, Lock, Prune, Recover, Reload, RollBack, Swap, Validate, Verify};

    let outcomes =
        [Changed, Failed, Interrupted, Locked, Rejected, Repaired, RollbackFailed, RolledBack, Outcome::Unchanged, Unverified];
    let stages =
        [Check, Lock, Recover, Inspect, Stage::Stage, Validate, Journal, Swap, Reload, Verify, RollBack, Acknowledge, Prune];
    let live = [Live::Applied, Live::RolledBack, Live::Unchanged, Live::Unknown];
    let rungs = [Rung::V0, Rung::V1, Rung::V2, Rung::V3, Rung::V4, Rung::V5, Rung::V6];
    let states = [TargetState::Unchanged, TargetState::Owed, TargetState::Drift, TargetState::Change];
    let actions = [FileAction::Create, FileAction::Keep, FileAction::Repair, FileAction::Remove, FileAction::Replace];
    for (name, pointer, words) in [
        ("deploy", "/$defs/TargetReport/properties/outcome/enum", json!(outcomes)),
        ("deploy", "/$defs/TargetReport/properties/stage/enum", json!(stages)),
        ("deploy", "/$defs/TargetReport/properties/live/enum", json!(live)),
        ("recover", "/$defs/Recovery/properties/live/enum", json!(live)),
        ("deploy", "/$defs/TargetReport/properties/validated/enum", json!(rungs)),
        ("plan", "/$defs/TargetPlan/properties/validated/enum", json!(rungs)),
        ("plan", "/$defs/TargetPlan/properties/state/enum", json!(states)),
        ("plan", "/$defs/PlannedFile/properties/action/enum", json!(actions)),
    ] {
        assert_eq!(schema(name).pointer(pointer), Some(&words), "{name}{pointer}");
    }
}

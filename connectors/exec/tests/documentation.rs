//! What the book says about the protocol is what is spoken.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests look at files")]

mod common;

use std::fs;
use std::path::Path;

use common::{World, script};
use deploy_core::{Outcome, Registry};
use deploy_exec::Exec;
use deploy_exec::protocol::{Answer, Check, Description, Done, Observation, Snapshot};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The blocks of the page that carry this word.
fn examples(word: &str) -> Vec<Value> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/exec-protocol.md");
    let page = fs::read_to_string(page).unwrap();
    let opening = format!("```json {word}\n");
    let blocks = page.split(&opening).skip(1).map(|rest| rest.split("```").next().unwrap());
    let examples: Vec<Value> = blocks.map(|block| serde_json::from_str(block).unwrap()).collect();
    assert!(!examples.is_empty(), "the page has no example of {word}");
    examples
}

fn is_result<R: DeserializeOwned>(word: &str) {
    for example in examples(word) {
        let answer: Answer<R> = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{example}: {error}"));
        assert!(answer.protocol == 1 && answer.result.is_some() && answer.error.is_none(), "{example}");
    }
}

#[test]
fn answers_of_the_book_are_answers() {
    is_result::<Description>("describe");
    is_result::<Observation>("observe");
    is_result::<Check>("validate");
    is_result::<Snapshot>("snapshot");
    is_result::<Done>("activate");
    for example in examples("error") {
        let answer: Answer<Done> = serde_json::from_value(example.clone()).unwrap_or_else(|error| panic!("{example}: {error}"));
        assert!(answer.protocol == 1 && answer.result.is_none() && answer.error.is_some(), "{example}");
    }
}

#[tokio::test]
async fn requests_of_the_book_have_the_fields_of_real_ones() {
    for example in examples("request") {
        let operation = example["operation"].as_str().unwrap();
        let (world, _) = World::deployed().await;
        let keep = "(remote / 'request').write_text(json.dumps(request))";
        let mut more = json!({ "settings": { "before": { operation: keep }, "instead": {} } });
        if operation == "restore" {
            more["settings"]["instead"]["activate"] = json!("switch(); fail('unavailable')");
        }
        let report = world.deploy(&world.issue(), more).await;
        assert!(matches!(report.outcome, Outcome::Changed | Outcome::RolledBack), "{report:?}");
        let real: Value = serde_json::from_slice(&fs::read(world.remote().join("request")).unwrap()).unwrap();
        assert_eq!(shape(&example, true), shape(&real, true), "{operation}");
    }
}

#[tokio::test]
async fn the_book_names_every_kind_of_error() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/exec-protocol.md")).unwrap();
    let schema = serde_json::to_value(deploy_exec::protocol::answer_schema()).unwrap();
    let kinds = schema["$defs"]["FailureKind"]["oneOf"].as_array().unwrap();
    assert_eq!(kinds.len(), 10);
    for kind in kinds {
        let name = kind["const"].as_str().unwrap();
        assert!(page.contains(&format!("| `{name}` |")), "{name} is not in the table");
        let world = World::new();
        let program = format!("#!/bin/sh\necho '{}'\n", json!({ "protocol": 1, "error": { "kind": name, "message": "m" } }));
        let report = world.deploy(&world.issue(), json!({ "command": [script(world.root.path(), "fails", &program)] })).await;
        assert_eq!(report.error.unwrap().kind().name(), name, "the name here and in reports");
    }
}

#[test]
fn the_configuration_of_the_book_is_one() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/exec.md")).unwrap();
    let blocks: Vec<&str> = page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let whole: toml::Table = toml::from_str(blocks[0]).unwrap();
    let mut target = whole["target"][0].as_table().unwrap().clone();
    for field in ["name", "certificate"] {
        target.remove(field).unwrap();
    }
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("exec"));
    let command: toml::Table = toml::from_str(blocks[1]).unwrap();
    for changed in [None, command.get("command")] {
        if let Some(command) = changed {
            target.insert("command".to_owned(), command.clone());
        }
        let settings = serde_json::to_value(&target).unwrap();
        Registry::new().with::<Exec>().get("exec").unwrap().build("shelf", settings).unwrap();
    }
    assert_eq!(blocks.len(), 2);
}

/// Names and types of all fields; of the operator's own tables, only that they are tables.
fn shape(value: &Value, top: bool) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(name, value)| {
                let free = top && (name == "settings" || name == "secrets");
                (name.clone(), if free { json!({}) } else { shape(value, false) })
            })
            .collect(),
        Value::Array(items) => items.first().map(|item| shape(item, false)).into_iter().collect(),
        Value::String(_) => json!("text"),
        Value::Number(_) => json!(1),
        other => other.clone(),
    }
}

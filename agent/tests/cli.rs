//! The program as a user meets it: arguments in, exit code and output out.

#![cfg(feature = "nginx")]
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests write configurations, run the program, and fail by panicking"
)]

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

const GOOD: &str = r#"
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

struct Setup {
    directory: tempfile::TempDir,
}

impl Setup {
    fn new(configuration: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("certdeploy.toml"), configuration).unwrap();
        Self { directory }
    }

    fn configuration(&self) -> PathBuf {
        self.directory.path().join("certdeploy.toml")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_certdeploy"));
        command
            .arg("--config")
            .arg(self.configuration())
            .arg("--state-dir")
            .arg(self.directory.path().join("state"))
            .args(arguments);
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// The one document on standard output.
fn document(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stdout)))
}

#[test]
fn a_right_configuration_passes() {
    let setup = Setup::new(GOOD);
    let output = setup.run(&["check-config"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("ok: 1 file, 1 certificate, 1 target\n"));
    let document = document(&setup.run(&["check-config", "--json"]));
    assert_eq!(document["valid"], json!(true));
    assert_eq!(document["targets"], json!([{ "target": "front", "kind": "nginx", "certificate": "www", "service": 1 }]));
    assert!(!setup.directory.path().join("state").exists(), "nothing is created");
}

#[test]
fn a7_a_wrong_configuration_exits_2_with_the_place() {
    let setup = Setup::new(&GOOD.replace("certificate = \"www\"", "certifcate = \"www\""));
    let output = setup.run(&["check-config"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
    let message = text(&output.stderr);
    assert!(
        message.contains("certdeploy.toml:10:1: target `front`: unknown field `certifcate`; did you mean `certificate`?"),
        "{message}"
    );
    assert!(message.contains("\nnext: "), "{message}");

    let document = document(&setup.run(&["check-config", "--json"]));
    assert_eq!((&document["valid"], &document["problems"][0]["line"]), (&json!(false), &json!(10)));
}

#[test]
fn a1_every_command_that_needs_a_configuration_prints_one_document_about_it() {
    let setup = Setup::new("nonsense = 1\n");
    for command in ["deploy", "plan", "verify", "status", "recover"] {
        let output = setup.run(&[command, "--json"]);
        assert_eq!(output.status.code(), Some(2), "{command}");
        let document = document(&output);
        assert_eq!(
            (&document["targets"], &document["error"]["kind"]),
            (&json!([]), &json!("configuration_invalid")),
            "{command}"
        );
    }
}

#[test]
fn a_missing_configuration_exits_2_and_says_what_to_do() {
    let setup = Setup::new(GOOD);
    fs::remove_file(setup.configuration()).unwrap();
    let output = setup.run(&["deploy"]);
    assert_eq!(output.status.code(), Some(2));
    let message = text(&output.stderr);
    assert!(message.contains("there is no such file") && message.contains("--config PATH"), "{message}");
}

#[test]
fn usage_errors_exit_2_and_name_the_nearest() {
    let setup = Setup::new(GOOD);
    for (arguments, part) in [
        (vec!["deploy", "--targt", "front"], "--target"),
        (vec!["deploy", "--target", "frnt"], "there is no target `frnt`; did you mean `front`?"),
        (vec!["deploy", "--certificate", "ww"], "there is no certificate `ww`; did you mean `www`?"),
        (vec!["rollback", "frnt"], "did you mean `front`?"),
        (vec!["rollback", "front", "--target", "front"], "leave --target and --certificate out"),
        (vec!["recover", "--target", "front"], "leave --target and --certificate out"),
        (vec!["connectors", "schema", "ngin"], "did you mean `nginx`?"),
        (vec!["deploy", "--timeout", "5"], "such as 90s"),
        (vec![], "Usage:"),
    ] {
        let output = setup.run(&arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(part), "{arguments:?}: {}", text(&output.stderr));
        assert!(output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn usage_errors_are_documents_too() {
    let setup = Setup::new(GOOD);
    for arguments in [["--json", "deploy", "--nonsense"], ["deploy", "--json", "--target=x"]] {
        let output = setup.run(&arguments);
        assert_eq!(output.status.code(), Some(2));
        let document = document(&output);
        assert_eq!((&document["targets"], &document["error"]["kind"]), (&json!([]), &json!("usage")));
    }
}

#[test]
fn connectors_are_listed_with_what_they_can_do() {
    let setup = Setup::new(GOOD);
    let document = document(&setup.run(&["connectors", "list", "--json"]));
    let nginx = document.as_array().unwrap().iter().find(|entry| entry["kind"] == "nginx").unwrap();
    assert_eq!((&nginx["rollback"], &nginx["staged_validation"]), (&json!(true), &json!(true)));
    let table = text(&setup.run(&["connectors", "list"]).stdout);
    assert!(table.starts_with("KIND ") && table.contains("\nnginx "), "{table}");
}

#[test]
fn the_schema_of_a_kind_is_printed() {
    let output = Setup::new(GOOD).run(&["connectors", "schema", "nginx"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(document(&output)["properties"]["fullchain"].is_object());
}

#[test]
fn help_and_version_exit_0() {
    let setup = Setup::new(GOOD);
    for flag in ["--help", "--version"] {
        let output = setup.run(&[flag]);
        assert_eq!(output.status.code(), Some(0));
        assert!(text(&output.stdout).contains("certdeploy"));
    }
}

#[test]
fn a_reader_that_goes_away_is_no_reason_to_panic() {
    let setup = Setup::new(GOOD);
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = setup.command(&["connectors", "list", "--json"]).stdout(Stdio::from(writer)).output().unwrap();
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
}

#[test]
fn output_that_is_no_terminal_has_no_colours() {
    let output = Setup::new("nonsense = 1\n").run(&["check-config"]);
    assert!(!output.stderr.contains(&0x1b), "{}", text(&output.stderr));
}

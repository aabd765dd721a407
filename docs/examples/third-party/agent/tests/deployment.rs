//! The program, with a configuration that names a standard connector's kind and the new one.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::path::Path;
use std::process::{Command, Output};

use deploy_testkit::{Authority, Issued, ReloadingServer, Request, observe, write_pair};
use serde_json::Value;

const NAME: &str = "www.example.test";

fn program(directory: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_example-agent"));
    command.arg("--config").arg(directory.join("certdeploy.toml")).arg("--state-dir").arg(directory.join("state"));
    command.args(arguments).env_clear().output().unwrap()
}

/// Deploys what the source has, and the server serves it when the program says so.
fn deploy(directory: &Path, server: &ReloadingServer, issued: &Issued) {
    write_pair(&directory.join("source"), issued);
    let output = program(directory, &["deploy", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["targets"][0]["outcome"], "changed", "{report}");
    assert_eq!(observe::served_fingerprint(server.address(), Some(NAME)).as_ref(), Ok(&issued.fingerprint));
}

#[test]
fn certificate_is_served_and_then_the_next() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    for name in ["source", "tls"] {
        std::fs::create_dir(directory.join(name)).unwrap();
    }
    let (fullchain, key) = (directory.join("tls/www.crt"), directory.join("tls/www.key"));
    let server = ReloadingServer::start(directory, &fullchain, &key).unwrap();
    let (source, address, pid_file) = (directory.join("source"), server.address(), server.pid_file());
    let configuration = format!(
        r#"[[certificate]]
name      = "www"
fullchain = {:?}
key       = {:?}

[[target]]
name        = "front"
kind        = "reloading"
certificate = "www"
fullchain   = {fullchain:?}
key         = {key:?}
reload      = {{ signal = "HUP", pid_file = {pid_file:?} }}
verify      = [{{ connect = "{address}", server_name = "{NAME}" }}]
"#,
        source.join("fullchain.pem"),
        source.join("privkey.pem"),
    );
    std::fs::write(directory.join("certdeploy.toml"), configuration).unwrap();

    let authority = Authority::new();
    let [first, second] = [(); 2].map(|()| authority.issue(&Request::new(&[NAME])));
    deploy(directory, &server, &first);
    deploy(directory, &server, &second);
}

#[test]
fn standard_connectors_are_there_and_so_is_the_new_one() {
    let directory = tempfile::tempdir().unwrap();
    let output = program(directory.path(), &["connectors", "list", "--json"]);
    assert!(output.status.success(), "{output:?}");
    let listed = String::from_utf8(output.stdout).unwrap();
    assert!(listed.contains("\"nginx\"") && listed.contains("\"reloading\""), "{listed}");
}

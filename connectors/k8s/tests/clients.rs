//! The stand-in, as clients of somebody else's see it: the Kubernetes client for Python, and kubectl where there is one.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "a test, with a world of its own"
)]

mod cluster;
mod facts;
mod world;

use std::path::Path;
use std::process::Command;

use deploy_core::status;
use deploy_testkit::{Authority, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, NAMESPACE, SECRET, pair};
use crate::world::World;

#[test]
fn the_stand_in_does_what_a_cluster_does() {
    let root = TempDir::new().unwrap();
    let cluster = Cluster::start();
    facts::check(&cluster.kubeconfig(root.path()), NAMESPACE);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_for_python_and_the_connector_see_the_same() {
    let world = World::new();
    let kubeconfig = world.cluster.kubeconfig(world.root.path());
    let view = || {
        let python = deploy_testkit::installed("kubernetes/bin/python").unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/view.py");
        let output = Command::new(python).arg(script).arg(&kubeconfig).args([NAMESPACE, SECRET]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    let ours = world.issue();
    world.changes(json!({}), &ours).await;
    let expected = |fingerprint: &str, managers: Value| json!({ "type": "kubernetes.io/tls", "entries": ["tls.crt", "tls.key"], "fingerprint": fingerprint, "key": true, "managers": managers });
    assert_eq!(view(), expected(&ours.fingerprint, json!({ "certdeploy": "Apply" })));

    let theirs = world.issue();
    world.cluster.put(NAMESPACE, SECRET, "kubernetes.io/tls", &pair(&theirs), "somebody");
    assert_eq!(view(), expected(&theirs.fingerprint, json!({ "somebody": "Update" })));
    let seen = status(&world.job(world.settings(&json!({})), &ours), &world.context).await;
    assert_eq!(seen.on_disk.as_ref(), Some(&theirs.fingerprint), "{seen:?}");
}

#[test]
fn kubectl_takes_the_stand_in_for_a_cluster() {
    let Ok(version) = Command::new("kubectl").args(["version", "--client"]).output() else {
        eprintln!("SKIPPED: there is no kubectl on this machine");
        return;
    };
    assert!(version.status.success());
    let root = TempDir::new().unwrap();
    let cluster = Cluster::start();
    let issued = Authority::new().issue(&Request::new(&["www.example.test"]));
    cluster.put(NAMESPACE, SECRET, "kubernetes.io/tls", &pair(&issued), "certdeploy");
    let kubeconfig = cluster.kubeconfig(root.path());
    let kubectl = |arguments: &[&str]| {
        let output = Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(arguments)
            .env("HOME", root.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let leaf = kubectl(&["get", "secret", SECRET, "--output", "jsonpath={.type} {.metadata.managedFields[0].manager}"]);
    assert_eq!(leaf, "kubernetes.io/tls certdeploy");
    kubectl(&["label", "secret", SECRET, "team=edge"]);
    assert_eq!(cluster.secret(NAMESPACE, SECRET).unwrap()["metadata"]["labels"]["team"], "edge");
}

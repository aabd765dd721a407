//! What stands on docs/k8s.md, with a stand-in for the cluster.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod cluster;
mod world;

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use deploy_core::Outcome;
use deploy_testkit::{Request, observe};
use serde_json::{Value, json};

use crate::world::World;

const NAME: &str = "www.example.com";

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/k8s.md")).unwrap()
}

/// The first code block of the page in this language.
fn block(language: &str) -> String {
    let page = page();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

/// YAML, read by somebody else's reader.
fn read_yaml(text: &str) -> Vec<Value> {
    let python = deploy_testkit::installed("kubernetes/bin/python").unwrap();
    let script = "import json, sys, yaml; print(json.dumps(list(yaml.safe_load_all(sys.stdin))))";
    let mut child = Command::new(python).args(["-c", script]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap()
}

fn contains(list: &Value, wanted: &Value) -> bool {
    list.as_array().is_none_or(|list| list.contains(wanted))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_as_it_stands_there_with_the_role_of_the_page() {
    let world = World::new();
    ["web", "shop"].iter().for_each(|namespace| world.cluster.add_workload(namespace, "deployments", "mail"));
    let kubeconfig = world.cluster.kubeconfig(world.root.path());
    let text = block("toml")
        .replace("/etc/certdeploy/kubeconfig", &kubeconfig.display().to_string())
        .replace("203.0.113.7:443", &world.cluster.ingress().to_string());
    let page: toml::Table = toml::from_str(&text).unwrap();
    let mut target = page["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("k8s"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    for _ in 0..2 {
        let issued = world.authority.issue(&Request::new(&[NAME]));
        let report = world.deploy_as(serde_json::to_value(&target).unwrap(), &issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(observe::served_fingerprint(world.cluster.ingress(), Some(NAME)).unwrap(), issued.fingerprint);
    }

    // Every permission that was asked for, for whatever the page speaks of, is in its roles.
    let restarted = world.authority.issue(&Request::new(&[NAME]));
    let more = json!({ "restart": ["deployment/mail"], "namespaces": ["web", "shop"] });
    world.changes(more, &restarted).await;
    let rules: Vec<Value> =
        read_yaml(&block("yaml")).iter().flat_map(|role| role["rules"].as_array().cloned().unwrap_or_default()).collect();
    let reviews: Vec<Value> = world
        .cluster
        .record()
        .changing()
        .iter()
        .filter(|exchange| exchange.request.path.ends_with("selfsubjectaccessreviews"))
        .map(|exchange| serde_json::from_slice::<Value>(&exchange.request.body).unwrap()["spec"]["resourceAttributes"].clone())
        .collect();
    assert!(reviews.len() >= 10, "{reviews:?}");
    for asked in reviews {
        let allowed = rules.iter().any(|rule| {
            contains(&rule["apiGroups"], &asked["group"])
                && contains(&rule["resources"], &asked["resource"])
                && contains(&rule["verbs"], &asked["verb"])
                && contains(&rule["resourceNames"], &asked["name"])
        });
        assert!(allowed, "the roles of the page do not allow {asked}");
    }
}

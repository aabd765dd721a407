//! Ways to a cluster, and how they fail, with a stand-in for the cluster.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod cluster;
mod world;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::{Connector as _, Error, ErrorKind, Outcome, Registry};
use deploy_k8s::K8s;
use deploy_testkit::{Authority, Request};
use serde_json::{Value, json};

use crate::cluster::{NAMESPACE, SECRET, write_private};
use crate::world::World;

impl World {
    /// A deployment with the kubeconfig changed like this.
    async fn with_kubeconfig(&self, change: impl Fn(&str) -> String) -> Result<(), Error> {
        let path = self.cluster.kubeconfig(self.root.path());
        write_private(&path, &change(&fs::read_to_string(&path).unwrap()));
        let report = self.deploy(json!({}), &self.issue()).await;
        report.error.map_or(Ok(()), Err)
    }

    /// With another user in it.
    async fn with_user(&self, user: &str) -> Result<(), Error> {
        self.with_kubeconfig(|text| text.replace(&format!("token: {}", self.cluster.token), &user.replace('\n', "\n    "))).await
    }

    fn program(&self, name: &str, script: &str) -> PathBuf {
        let path = self.root.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

#[track_caller]
fn is_invalid(result: Result<(), Error>, said: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid, "{}", error.full_message());
    assert!(error.full_message().contains(said), "{}", error.full_message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_may_stand_in_a_file_and_the_authority_too() {
    let world = World::new();
    write_private(&world.root.path().join("token"), &format!("{}\n", world.cluster.token));
    write_private(&world.root.path().join("ca.pem"), &world.cluster.root_pem);
    let data = format!("certificate-authority-data: {}", STANDARD.encode(&world.cluster.root_pem));
    let token = format!("token: {}", world.cluster.token);
    let change = |text: &str| text.replace(&token, "tokenFile: token").replace(&data, "certificate-authority: ca.pem");
    world.with_kubeconfig(change).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_context_has_another_namespace() {
    let world = World::new();
    let shop = "contexts:\n- name: there\n  context:\n    cluster: stand-in\n    user: certdeploy\n    namespace: shop\n";
    let path = world.cluster.kubeconfig(world.root.path());
    write_private(&path, &fs::read_to_string(&path).unwrap().replace("contexts:\n", shop));
    let new = world.issue();
    world.changes(json!({ "context": "there" }), &new).await;
    world.has("shop", &new);
    assert_eq!(world.cluster.secret(NAMESPACE, SECRET), None);
    let report = world.deploy(json!({ "context": "nowhere" }), &new).await;
    is_invalid(report.error.map_or(Ok(()), Err), "has no context `nowhere`");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_uses_its_service_account() {
    let mut world = World::new();
    let directory = world.root.path().join("serviceaccount");
    fs::create_dir(&directory).unwrap();
    for (name, text) in [("token", &world.cluster.token), ("ca.crt", &world.cluster.root_pem), ("namespace", &"shop".to_owned())]
    {
        fs::write(directory.join(name), text).unwrap();
    }
    let settings = json!({ "secret": SECRET, "service_account": directory });
    let outside = world.deploy_as(settings.clone(), &world.issue()).await;
    is_invalid(outside.error.map_or(Ok(()), Err), "this is no pod");

    let (host, port) = world
        .cluster
        .url()
        .trim_start_matches("https://")
        .split_once(':')
        .map(|(host, port)| (host.to_owned(), port.to_owned()))
        .unwrap();
    world = world.with_variables(&[("KUBERNETES_SERVICE_HOST", host), ("KUBERNETES_SERVICE_PORT", port)]);
    let new = world.issue();
    assert_eq!(world.deploy_as(settings, &new).await.outcome, Outcome::Changed);
    world.has("shop", &new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_plugin_is_told_what_is_asked_and_gives_a_token() {
    let world = World::new().with_variables(&[("HOME", "/srv/certdeploy".to_owned()), ("UNRELATED", "canary".to_owned())]);
    let told = world.root.path().join("told");
    world.program("plugin", &format!(
        "echo \"$KUBERNETES_EXEC_INFO\" > {0}\necho \"$1 $HOME $STAGE $UNRELATED\" >> {0}\n\
         echo '{{\"apiVersion\":\"client.authentication.k8s.io/v1\",\"kind\":\"ExecCredential\",\"status\":{{\"token\":\"'{1}'\"}}}}'",
        told.display(), world.cluster.token
    ));
    let user = "exec:\n  apiVersion: client.authentication.k8s.io/v1\n  command: ./plugin\n  args: [get-token]\n  \
                interactiveMode: IfAvailable\n  provideClusterInfo: true\n  env:\n  - name: STAGE\n    value: test";
    world.with_user(user).await.unwrap();
    let told = fs::read_to_string(told).unwrap();
    let (info, rest) = told.split_once('\n').unwrap();
    assert_eq!(rest, "get-token /srv/certdeploy test \n");
    let info: Value = serde_json::from_str(info).unwrap();
    assert_eq!((&info["kind"], &info["spec"]["interactive"]), (&json!("ExecCredential"), &json!(false)));
    assert_eq!(info["spec"]["cluster"]["server"], world.cluster.url());
    assert_eq!(info["spec"]["cluster"]["certificate-authority-data"], STANDARD.encode(&world.cluster.root_pem));
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_a_credential_plugin_that_fails_shows_no_token() {
    let world = World::new();
    let exec = "exec:\n  apiVersion: client.authentication.k8s.io/v1\n  command: ./plugin";
    for (script, kind) in [
        (format!("echo '{{\"status\":{{\"token\":\"{}\"}}'", world.cluster.token), ErrorKind::Unauthenticated),
        (format!("echo {}; echo 'log in first' >&2; exit 1", world.cluster.token), ErrorKind::Unavailable),
    ] {
        world.program("plugin", &script);
        let error = world.with_user(exec).await.unwrap_err();
        let shown = format!("{} {error:?}", error.full_message());
        assert_eq!(error.kind(), kind, "{shown}");
        assert!(!shown.contains(&world.cluster.token), "{shown}");
    }
    is_invalid(world.with_user(&format!("{exec}\n  interactiveMode: Always")).await, "wants to ask somebody");
    is_invalid(world.with_user(&exec.replace("io/v1", "io/v1alpha1")).await, "another protocol");
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_who_is_unknown_or_says_nothing_is_told_so() {
    let world = World::new();
    let unknown = world.with_user("token: of-somebody-else").await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Unauthenticated, "{}", unknown.full_message());
    // With a certificate that the cluster does not ask for, nobody asks.
    let ours = Authority::new().issue(&Request::new(&["certdeploy"]));
    let pair = [("certificate", &ours.fullchain_pem), ("key", &ours.key_pem)];
    let pair = pair.map(|(what, pem)| format!("client-{what}-data: {}", STANDARD.encode(pem))).join("\n");
    let anonymous = world.with_user(&pair).await.unwrap_err();
    assert_eq!(anonymous.kind(), ErrorKind::Unauthenticated, "{}", anonymous.full_message());
    assert!(anonymous.full_message().contains("system:anonymous"), "{}", anonymous.full_message());
    is_invalid(world.with_user(pair.lines().next().unwrap()).await, "belong together");
    is_invalid(world.with_user("extensions: []").await, "neither a token nor a client certificate");
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_nothing_weakens_the_proof_of_who_the_cluster_is() {
    let world = World::new();
    let with = |setting: &'static str| move |text: &str| text.replace("    server:", &format!("    {setting}\n    server:"));
    is_invalid(world.with_kubeconfig(with("insecure-skip-tls-verify: true")).await, "insecure-skip-tls-verify");
    is_invalid(world.with_kubeconfig(with("proxy-url: http://proxy.example.test")).await, "proxy-url");
    is_invalid(world.with_kubeconfig(|text| text.replace("https://", "http://somewhere.example.test:")).await, "URL of the API");
    let other = STANDARD.encode(Authority::new().root_pem());
    let authority = STANDARD.encode(&world.cluster.root_pem);
    let error = world.with_kubeconfig(|text| text.replace(&authority, &other)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", error.full_message());
    assert!(world.cluster.record().exchanges().is_empty(), "nobody was told the token");

    let error = world.with_kubeconfig(with("tls-server-name: other.example.test")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated, "{}", error.full_message());
    world.with_kubeconfig(with("tls-server-name: kubernetes.default.svc")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn s5_a_kubeconfig_that_everybody_can_read_is_refused_and_a_broken_one_is_not_shown() {
    let world = World::new();
    is_invalid(world.with_kubeconfig(|text| text.replace("apiVersion: v1", "apiVersion: [")).await, "is no kubeconfig");
    let path = world.cluster.kubeconfig(world.root.path());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let report = world.deploy(json!({}), &world.issue()).await;
    is_invalid(report.error.map_or(Ok(()), Err), "can be read or written by every user");
}

#[test]
fn settings_that_cannot_be_right_are_refused_with_their_name() {
    for (more, path, said) in [
        (json!({ "secret": "Www" }), "secret", "cannot be a name"),
        (json!({ "secret": "../x" }), "secret", "cannot be a name"),
        (json!({ "namespaces": [] }), "namespaces", "is empty"),
        (json!({ "namespaces": ["web", "a/b"] }), "namespaces[1]", "cannot be a name"),
        (json!({ "namespaces": ["web"], "namespace_selector": "a=b" }), "namespace_selector", "one of the two"),
        (json!({ "namespace_selector": " " }), "namespace_selector", "every namespace"),
        (json!({ "type": "kubernetes.io/dockercfg" }), "type", "unknown variant"),
        (json!({ "fullchain": "server.pem" }), "fullchain", "tls.crt"),
        (json!({ "type": "Opaque", "key": "a b" }), "key", "cannot be an entry"),
        (json!({ "type": "Opaque", "key": "tls.crt" }), "key", "two entries"),
        (json!({ "ca": "tls.key" }), "ca", "two entries"),
        (json!({ "kubeconfig": "config" }), "kubeconfig", "absolute"),
        (json!({ "field_manager": "" }), "field_manager", "1 to 128"),
        (json!({ "restart": ["pod/web"] }), "restart[0]", "is no workload"),
        (json!({ "verify": [{ "connect": "nowhere" }] }), "verify[0]", ""),
    ] {
        let mut settings = json!({ "secret": SECRET, "kubeconfig": Path::new("/etc/certdeploy/kubeconfig") });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let error = Registry::new().with::<K8s>().get(K8s::KIND).unwrap().build("front", settings).unwrap_err();
        assert!(error.path.starts_with(path) && error.to_string().contains(said), "{more}: {} {error}", error.path);
    }
    let alone = json!({ "secret": SECRET, "context": "there" });
    let error = Registry::new().with::<K8s>().get(K8s::KIND).unwrap().build("front", alone).unwrap_err();
    assert_eq!(error.path, "context");
    let noted = json!({ "secret": SECRET, "restart": ["deployment/web"] });
    let error = Registry::new().with::<K8s>().get(K8s::KIND).unwrap().build("_front", noted).unwrap_err();
    assert_eq!(error.path, "restart");
}

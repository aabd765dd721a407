//! The same with a real API server, where one can be had. Nothing of this runs by itself: say
//! `cargo test --package deploy-k8s --test real -- --ignored` with
//!
//! - `KUBECONFIG`, whose context may do everything with Secrets in the namespace `default`; or
//! - `TEST_ASSET_KUBE_APISERVER` and `TEST_ASSET_ETCD`, the programs (as for envtest), which are started here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod facts;

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Outcome, Registry, Report, deploy};
use deploy_k8s::K8s;
use deploy_testkit::{Authority, Issued, Request, provider};
use serde_json::{Value, json};
use tempfile::TempDir;

const NAMESPACE: &str = "default";
const SECRET: &str = "certdeploy-test-www";

#[test]
#[ignore = "needs a real cluster: KUBECONFIG, or TEST_ASSET_KUBE_APISERVER and TEST_ASSET_ETCD"]
fn a_real_cluster_does_what_the_stand_in_does() {
    let root = TempDir::new().unwrap();
    let cluster = Cluster::find(root.path());
    facts::check(&cluster.kubeconfig, NAMESPACE);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs a real cluster: KUBECONFIG, or TEST_ASSET_KUBE_APISERVER and TEST_ASSET_ETCD"]
async fn a_real_cluster_gets_certificates_and_keeps_what_is_of_others() {
    let root = TempDir::new().unwrap();
    let cluster = Cluster::find(root.path());
    let context = Context::new(root.path().join("state"), provider());
    let authority = Authority::new();
    let issue = || authority.issue(&Request::new(&["www.example.test"]));
    cluster.kubectl(&["delete", "secret", SECRET, "--ignore-not-found"]);
    let settings = |more: Value| {
        let mut settings = json!({ "secret": SECRET, "namespaces": [NAMESPACE], "kubeconfig": cluster.kubeconfig });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    let changed = |report: Report| assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let new = issue();
    changed(run(settings(json!({})), &new, &context).await);
    assert_eq!(run(settings(json!({})), &new, &context).await.outcome, Outcome::Unchanged);
    cluster.kubectl(&["label", "secret", SECRET, "team=edge"]);
    changed(run(settings(json!({})), &issue(), &context).await);
    changed(run(settings(json!({ "type": "Opaque", "recreate": true })), &issue(), &context).await);
    changed(run(settings(json!({ "type": "Opaque" })), &issue(), &context).await);
    let shown = cluster.kubectl(&["get", "secret", SECRET, "--output", "jsonpath={.type} {.metadata.labels.team}"]);
    assert_eq!(shown, "Opaque edge");
    cluster.kubectl(&["delete", "secret", SECRET]);
}

async fn run(settings: Value, issued: &Issued, context: &Context) -> Report {
    let target = Registry::new().with::<K8s>().get("k8s").unwrap().build("front", settings).unwrap();
    let key = SecretBytes::from(issued.key_pem.as_bytes());
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
    deploy(&[Job::new("front", "k8s", Arc::from(target), Arc::new(certificate))], context).await.remove(0)
}

/// One that was there, or one of our own, which ends with the test.
struct Cluster {
    kubeconfig: PathBuf,
    processes: Vec<Child>,
}

impl Cluster {
    fn find(root: &Path) -> Self {
        let variable = |name: &str| env::var_os(name).map(PathBuf::from);
        let kubeconfig = root.join("kubeconfig");
        if let Some(given) = variable("KUBECONFIG") {
            private(&kubeconfig, &fs::read_to_string(given).unwrap());
            return Self { kubeconfig, processes: Vec::new() };
        }
        let program = |name| variable(name).unwrap_or_else(|| panic!("neither KUBECONFIG nor {name} is set"));
        let (api, etcd) = (program("TEST_ASSET_KUBE_APISERVER"), program("TEST_ASSET_ETCD"));
        let [peers, clients, secure] = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let authority = Authority::new();
        let server = authority.issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
        for (name, text) in [("server.crt", &server.fullchain_pem), ("server.key", &server.key_pem)] {
            private(&root.join(name), text);
        }
        private(&root.join("tokens"), "only-for-this-test,admin,admin,system:masters\n");
        let start = |program: &Path, arguments: &[String]| {
            let log = fs::File::create(root.join(program.file_name().unwrap()).with_extension("log")).unwrap();
            Command::new(program).args(arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap()
        };
        let (at, path) = (|port| format!("http://127.0.0.1:{port}"), |name| root.join(name).display().to_string());
        let etcd = start(
            &etcd,
            &[
                format!("--data-dir={}", path("etcd-data")),
                format!("--listen-client-urls={}", at(clients)),
                format!("--advertise-client-urls={}", at(clients)),
                format!("--listen-peer-urls={}", at(peers)),
            ],
        );
        let api = start(
            &api,
            &[
                format!("--etcd-servers={}", at(clients)),
                format!("--secure-port={secure}"),
                "--bind-address=127.0.0.1".to_owned(),
                "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
                "--authorization-mode=RBAC".to_owned(),
                format!("--token-auth-file={}", path("tokens")),
                format!("--tls-cert-file={}", path("server.crt")),
                format!("--tls-private-key-file={}", path("server.key")),
                "--service-account-issuer=https://localhost".to_owned(),
                format!("--service-account-key-file={}", path("server.key")),
                format!("--service-account-signing-key-file={}", path("server.key")),
            ],
        );
        private(&root.join("ca.pem"), &authority.root_pem());
        private(
            &kubeconfig,
            &format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters:\n- name: real\n  cluster:\n    server: https://127.0.0.1:{secure}\n    certificate-authority: {}\n\
             contexts:\n- name: here\n  context:\n    cluster: real\n    user: admin\n\
             users:\n- name: admin\n  user:\n    token: only-for-this-test\n",
                path("ca.pem")
            ),
        );
        let cluster = Self { kubeconfig, processes: vec![api, etcd] };
        let end = Instant::now() + Duration::from_secs(60);
        while !cluster.try_kubectl(&["get", "namespace", NAMESPACE]).status.success() {
            assert!(Instant::now() < end, "the API server does not come up; its log is in {}", root.display());
            std::thread::sleep(Duration::from_millis(200));
        }
        cluster
    }

    fn kubectl(&self, arguments: &[&str]) -> String {
        let output = self.try_kubectl(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn try_kubectl(&self, arguments: &[&str]) -> std::process::Output {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(["--namespace", NAMESPACE]).args(arguments);
        command.output().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for process in &mut self.processes {
            drop(process.kill());
            drop(process.wait());
        }
    }
}

fn private(path: &Path, text: &str) {
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

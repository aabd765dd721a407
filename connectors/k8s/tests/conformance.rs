//! The conformance suite, with a stand-in for the API server of a cluster as its world.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod cluster;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::Period;
use deploy_k8s::{K8s, K8sSettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::stand_in::{self, Answer};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Request, observe};
use serde_json::json;

use crate::cluster::{Cluster, NAMESPACE, SECRET, pair};

const SECRETS: &str = "/api/v1/namespaces/web/secrets";

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// Two namespaces, in both of which somebody else has put something into the Secret.
struct World {
    cluster: Cluster,
    kubeconfig: PathBuf,
}

impl Harness for World {
    type Connector = K8s;

    const FAULTS: &'static [Fault] = &[
        Fault::CheckerRefuses,
        Fault::CheckerHangs,
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::Unauthenticated,
        Fault::Forbidden,
        Fault::Missing,
        Fault::Overtaken,
        Fault::RateLimited,
        Fault::Busy,
        Fault::DropsBefore,
        Fault::DropsAfter,
        Fault::Silent,
        Fault::UntrustedTls,
        Fault::ArrivesTwice,
        Fault::Slow,
    ];

    const PERMISSION: &'static str = "`patch` on secrets in the namespace web";

    fn start(directory: &Path) -> Result<Self, String> {
        let cluster = Cluster::start();
        let other = Authority::new().issue(&Request::new(&["other.example.test"]));
        cluster.put("kube-system", "other-tls", "kubernetes.io/tls", &pair(&other), "kubectl-create");
        cluster.put("web", "password", "Opaque", &[("password", b"of somebody else")], "helm");
        let kubeconfig = cluster.kubeconfig(directory);
        Ok(Self { cluster, kubeconfig })
    }

    fn settings(&self) -> K8sSettings {
        let mut settings = K8sSettings::new(SECRET);
        settings.kubeconfig = Some(self.kubeconfig.clone());
        settings.namespaces = Some(vec![NAMESPACE.to_owned(), "shop".to_owned()]);
        settings.ca = Some("ca.crt".to_owned());
        settings.verify = Some(vec![Endpoint::new(self.cluster.ingress().to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(1));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.cluster.ingress(), Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        self.cluster.state()
    }

    fn foreign(&self) -> Tree {
        self.state().retain(|path| !path.ends_with(SECRET))
    }

    fn break_with(&mut self, fault: Fault) {
        let inject = |fault: stand_in::Fault| self.cluster.faults().inject(fault);
        let error = |code: u16, reason: &str, message: &str| {
            Answer::new(code).with_json(&json!({
                "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": message,
            }))
        };
        let busy = |code, reason| error(code, reason, "not now").with_header("Retry-After", "1");
        // The path tells a dry run from the real thing only by its query. What is certdeploy's is forced.
        let dry = format!("{SECRETS}/{SECRET}?fieldManager=certdeploy&fieldValidation=Strict&force=true&dryRun=All");
        let refused = || error(422, "Invalid", "Secret \"www-tls\" is invalid: told to fail");
        let real = || stand_in::Fault::answer(refused()).changing().below(SECRETS).after(1);
        match fault {
            Fault::CheckerRefuses => self.cluster.refuse_with(Some("told to refuse")),
            Fault::CheckerHangs => inject(stand_in::Fault::never().below(dry)),
            Fault::ReloadFails => inject(real().times(1)),
            Fault::ReloadAlwaysFails => {
                self.cluster.freeze(true);
                inject(real().after(2));
            }
            Fault::ReloadHangs => inject(stand_in::Fault::never().changing().below(SECRETS).after(1).times(1)),
            Fault::Ignored => self.cluster.freeze(true),
            Fault::Unauthenticated => inject(stand_in::Fault::answer(error(401, "Unauthorized", "Unauthorized"))),
            Fault::Forbidden => {
                for verb in ["patch", "delete"] {
                    self.cluster.deny(verb, "secrets", NAMESPACE);
                }
            }
            Fault::Missing => {
                let gone = error(404, "NotFound", "namespaces \"web\" not found");
                inject(stand_in::Fault::answer(gone).below("/api/v1/namespaces/web"));
            }
            Fault::Overtaken => {
                let theirs = Authority::new().issue(&Request::new(&[NAME]));
                self.cluster.overtake(NAMESPACE, SECRET, &pair(&theirs), "certdeploy");
            }
            Fault::RateLimited => inject(stand_in::Fault::answer(busy(429, "TooManyRequests")).times(1)),
            Fault::Busy => inject(stand_in::Fault::answer(busy(503, "ServiceUnavailable")).times(1)),
            Fault::DropsBefore => inject(stand_in::Fault::close_before().changing().below(SECRETS).after(1).times(1)),
            Fault::DropsAfter => inject(stand_in::Fault::close_after().changing().below(SECRETS).after(1).times(1)),
            Fault::Silent => inject(stand_in::Fault::never()),
            Fault::UntrustedTls => inject(stand_in::Fault::untrusted_certificate()),
            Fault::ArrivesTwice => inject(stand_in::Fault::twice().changing()),
            Fault::Slow => inject(stand_in::Fault::late(Duration::from_millis(100))),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.cluster.faults().heal();
        self.cluster.allow_everything();
        self.cluster.refuse_with(None);
        self.cluster.freeze(false);
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        vec![(self.cluster.token.clone(), self.kubeconfig.clone())]
    }
}

//! A cluster, a state directory, and what a deployment to it needs.

#![allow(dead_code, reason = "every test uses a part of it")]

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Connector as _, Context, Error, Job, Outcome, Preview, Registry, Report, deploy, preview};
use deploy_k8s::K8s;
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, Request, provider};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cluster::{Cluster, NAMESPACE, SECRET, pair};

pub(crate) struct World {
    pub(crate) root: TempDir,
    pub(crate) authority: Authority,
    pub(crate) cluster: Cluster,
    pub(crate) context: Context,
    kubeconfig: PathBuf,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = TempDir::new().unwrap();
        let cluster = Cluster::start();
        let kubeconfig = cluster.kubeconfig(root.path());
        let context = Context::new(root.path().join("state"), provider()).with_timeout(Duration::from_secs(20));
        Self { authority: Authority::new(), cluster, context, kubeconfig, root }
    }

    /// With a Secret in `web` that somebody else has made.
    pub(crate) fn with_secret_of(manager: &str) -> (Self, Issued) {
        let world = Self::new();
        let old = world.issue();
        world.cluster.put(NAMESPACE, SECRET, "kubernetes.io/tls", &pair(&old), manager);
        (world, old)
    }

    pub(crate) fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    /// The namespace of the context, with these settings besides.
    pub(crate) fn settings(&self, more: &Value) -> Value {
        let mut settings = json!({ "secret": SECRET, "kubeconfig": self.kubeconfig });
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    }

    /// Where the ingress has to be seen serving it.
    pub(crate) fn verified(&self) -> Value {
        json!([{ "connect": self.cluster.ingress().to_string(), "server_name": NAME }])
    }

    pub(crate) fn job(&self, settings: Value, issued: &Issued) -> Job {
        let target = Registry::new().with::<K8s>().get(K8s::KIND).unwrap().build("front", settings).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        Job::new("front", K8s::KIND, Arc::from(target), Arc::new(certificate))
    }

    pub(crate) async fn deploy_as(&self, settings: Value, issued: &Issued) -> Report {
        let report = deploy(&[self.job(settings, issued)], &self.context).await.remove(0);
        let shown = format!("{report:?}");
        assert!(!shown.contains(&self.cluster.token), "S1: {shown}");
        report
    }

    pub(crate) async fn deploy(&self, more: Value, issued: &Issued) -> Report {
        self.deploy_as(self.settings(&more), issued).await
    }

    pub(crate) async fn changes(&self, more: Value, issued: &Issued) {
        let report = self.deploy(more, issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    }

    /// The error of a deployment that leaves everything as it was.
    pub(crate) async fn refused(&self, more: Value) -> Error {
        let before = self.cluster.state();
        let report = self.deploy(more, &self.issue()).await;
        assert_eq!(before, self.cluster.state(), "{report:?}");
        report.error.unwrap()
    }

    pub(crate) async fn preview(&self, more: Value, issued: &Issued) -> Preview {
        preview(&self.job(self.settings(&more), issued), &self.context).await
    }

    /// Whether the Secret of a namespace has this certificate, with its own key.
    #[track_caller]
    pub(crate) fn has(&self, namespace: &str, issued: &Issued) {
        let entry = |name| self.cluster.entry(namespace, SECRET, name).map(|value| String::from_utf8(value).unwrap());
        let key = SecretBytes::from(entry("tls.key").unwrap().as_bytes());
        let certificate = Certificate::from_pem(entry("tls.crt").unwrap().as_bytes(), &key).unwrap();
        assert_eq!(certificate.fingerprint(), issued.fingerprint, "{namespace}");
    }

    pub(crate) fn with_variables(mut self, variables: &[(&str, String)]) -> Self {
        let variables: Vec<(String, String)> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
        self.context = self.context.with_variables(move |name| {
            let found = variables.iter().find(|(other, _)| other == name);
            found.map(|(_, value)| SecretString::from(value.clone()))
        });
        self
    }
}

//! Whole deployments to a stand-in for a BIG-IP.
#![allow(dead_code, clippy::unwrap_used, clippy::disallowed_methods, reason = "each test uses a part of it")]

use std::sync::Arc;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Connector as _, Context, Job, Outcome, Preview, Registry, Report, deploy, preview};
use deploy_f5::F5;
use deploy_testkit::stand_in::{Exchange, Fault};
use deploy_testkit::{Authority, Issued, Request, provider};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::big_ip::{ADMINISTRATOR, BigIp};

pub(crate) const NAME: &str = "www.example.test";
pub(crate) const WWW: &str = "/Common/www";
pub(crate) const API: &str = "/Common/api";
pub(crate) const BACKEND: &str = "/Common/backend";

pub(crate) struct World {
    pub(crate) root: TempDir,
    pub(crate) authority: Authority,
    pub(crate) big_ip: BigIp,
    pub(crate) context: Context,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let context = Context::new(root.path().join("state"), provider());
        Self { big_ip: BigIp::start(root.path()), authority: Authority::new(), context, root }
    }

    /// A first certificate is deployed; the record is empty.
    pub(crate) async fn renewed(settings: impl Fn(&Self) -> Value) -> (Self, Value, Issued, Issued) {
        let world = Self::new();
        let (settings, old, new) = (settings(&world), world.issue(), world.issue());
        let report = world.deploy(&settings, &old).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        world.big_ip.stand_in().record().clear();
        (world, settings, old, new)
    }

    pub(crate) fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    /// For one profile, without endpoints.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "url": self.big_ip.url(),
            "ca_file": self.big_ip.ca_file,
            "username": ADMINISTRATOR,
            "password": format!("file:{}", self.big_ip.password_file.display()),
            "client_ssl": [WWW],
            "sync_timeout": "400ms",
        })
    }

    /// And endpoints.
    pub(crate) fn verified(&self) -> Value {
        let endpoint = json!({ "connect": self.big_ip.address(WWW).to_string(), "server_name": NAME });
        with(self.settings(), &json!({ "verify": [endpoint], "verify_timeout": "500ms" }))
    }

    /// For three profiles.
    pub(crate) fn three(&self) -> Value {
        with(self.settings(), &json!({ "client_ssl": [WWW, API], "server_ssl": [BACKEND] }))
    }

    pub(crate) async fn deploy(&self, settings: &Value, issued: &Issued) -> Report {
        self.deploy_in(settings, issued, &self.context).await
    }

    pub(crate) async fn deploy_in(&self, settings: &Value, issued: &Issued, context: &Context) -> Report {
        deploy(&[job(settings, issued)], context).await.remove(0)
    }

    pub(crate) async fn preview(&self, settings: &Value, issued: &Issued) -> Preview {
        preview(&job(settings, issued), &self.context).await
    }

    pub(crate) fn inject(&self, fault: Fault) {
        self.big_ip.stand_in().faults().inject(fault);
    }

    pub(crate) fn exchanges(&self, method: &str, path: &str) -> Vec<Exchange> {
        let mut exchanges = self.big_ip.stand_in().record().exchanges();
        exchanges.retain(|exchange| exchange.request.method == method && exchange.request.path.starts_with(path));
        exchanges
    }

    /// The commits that were to take effect.
    pub(crate) fn commits(&self) -> usize {
        let is_commit = |exchange: &&Exchange| String::from_utf8_lossy(&exchange.request.body).contains("\"validateOnly\":false");
        self.exchanges("PATCH", "/mgmt/tm/transaction/").iter().filter(is_commit).count()
    }

    /// The paths of certificates, keys and intermediates of this target.
    pub(crate) fn ours(&self) -> Vec<String> {
        let config = self.big_ip.config();
        let mut all: Vec<String> = config.certificates.into_keys().chain(config.keys.into_keys()).collect();
        all.retain(|path| path.contains("/certdeploy-front-") && !path.contains("front-2-"));
        all.sort();
        all
    }
}

/// Some of the settings replaced.
pub(crate) fn with(mut settings: Value, more: &Value) -> Value {
    for (name, value) in more.as_object().unwrap() {
        settings[name] = value.clone();
    }
    settings
}

pub(crate) fn job(settings: &Value, issued: &Issued) -> Job {
    let target = Registry::new().with::<F5>().get(F5::KIND).unwrap().build("front", settings.clone()).unwrap();
    let key = SecretBytes::from(issued.key_pem.as_bytes());
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
    Job::new("front", F5::KIND, Arc::from(target), Arc::new(certificate))
}

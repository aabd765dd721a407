//! A stand-in for ACM, a target that deploys to it, and what comes of that.
#![allow(dead_code, reason = "each test has use for a part of it")]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use deploy_aws_acm::AwsAcm;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Connector as _, Context, Error, Job, Live, Outcome, Registry, Report, deploy};
use deploy_testkit::conformance::NAME;
use deploy_testkit::stand_in::Fault;
use deploy_testkit::{Authority, Issued, Request, provider};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::acm::{Acm, KEY_ID, REGION, SECRET};

pub(crate) struct World {
    pub(crate) root: TempDir,
    pub(crate) authority: Authority,
    pub(crate) acm: Acm,
    pub(crate) settings: Value,
    pub(crate) variables: BTreeMap<String, String>,
}

impl World {
    pub(crate) fn start() -> Self {
        let (root, acm) = (TempDir::new().unwrap(), Acm::start());
        let file = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::write(&path, text).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            path
        };
        let (secret, ca_file) = (file("secret", SECRET), file("ca.pem", &acm.root_pem));
        let settings = json!({
            "region": REGION,
            "endpoint": acm.url(),
            "ca_file": ca_file,
            "access_key": { "id": KEY_ID, "secret": format!("file:{}", secret.display()) },
        });
        Self { root, authority: Authority::new(), acm, settings, variables: BTreeMap::new() }
    }

    /// One that names its certificate.
    pub(crate) fn with_arn(arn: impl FnOnce(&Self) -> String) -> (Self, String) {
        let mut world = Self::start();
        let arn = arn(&world);
        world.settings.as_object_mut().unwrap().remove("region");
        world.settings["arn"] = json!(arn);
        (world, arn)
    }

    pub(crate) fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    pub(crate) fn context(&self) -> Context {
        let variables = self.variables.clone();
        Context::new(self.state(), provider()).with_variables(move |name| variables.get(name).cloned().map(SecretString::from))
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.root.path().join("state")
    }

    pub(crate) fn job(&self, issued: &Issued) -> Job {
        let target = Registry::new().with::<AwsAcm>().get(AwsAcm::KIND).unwrap().build("front", self.settings.clone()).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        Job::new("front", AwsAcm::KIND, Arc::from(target), Arc::new(certificate))
    }

    pub(crate) async fn deploy(&self, issued: &Issued) -> Report {
        self.acm.record().clear();
        deploy(&[self.job(issued)], &self.context()).await.remove(0)
    }

    pub(crate) async fn deployed(&self, issued: &Issued) -> Report {
        let report = self.deploy(issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
        report
    }

    pub(crate) async fn refused(&self, issued: &Issued) -> Error {
        let report = self.deploy(issued).await;
        assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{}", told(&report));
        report.error.unwrap()
    }

    /// The ARN of the only certificate.
    pub(crate) fn only(&self) -> String {
        let arns = self.acm.arns();
        assert_eq!(arns.len(), 1, "{arns:?}");
        arns[0].clone()
    }

    pub(crate) fn imports(&self) -> usize {
        self.acm.bodies("ImportCertificate").len()
    }

    pub(crate) fn inject(&self, operation: &str, fault: Fault) {
        self.acm.faults().inject(fault.with_header("x-amz-target", format!("CertificateManager.{operation}")));
    }
}

pub(crate) fn told(report: &Report) -> String {
    format!("{report:?}: {}", report.error.as_ref().map(Error::full_message).unwrap_or_default())
}

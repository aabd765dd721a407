//! The conformance suite, with a stand-in for ACM and a load balancer that takes up what is imported.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod acm;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_aws::AccessKey;
use deploy_aws_acm::{AwsAcm, AwsAcmSettings};
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::Period;
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::pki::KeyKind;
use deploy_testkit::stand_in::{self, Answer};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Request, observe};

use crate::acm::api::refusal;
use crate::acm::{Acm, KEY_ID, REGION, SECRET};

fn main() -> ExitCode {
    conformance::run::<World>()
}

struct World {
    acm: Acm,
    directory: PathBuf,
    balancer: SocketAddr,
}

impl Harness for World {
    type Connector = AwsAcm;

    const FAULTS: &'static [Fault] = &[
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::ServesAnother,
        Fault::Unauthenticated,
        Fault::Forbidden,
        Fault::Overtaken,
        Fault::RateLimited,
        Fault::Busy,
        Fault::DropsBefore,
        Fault::DropsAfter,
        Fault::ArrivesTwice,
        Fault::Slow,
        Fault::Silent,
        Fault::UntrustedTls,
    ];

    const PERMISSION: &'static str = "acm:ImportCertificate";

    /// Certificates of others are there: one imported by hand, one for another target, and one of ACM's own.
    fn start(directory: &Path) -> Result<Self, String> {
        let (acm, authority) = (Acm::start(), Authority::new());
        let issue = |name: &str| authority.issue(&Request::new(&[name]));
        acm.add(&issue("other.example.test"), &[("team", "edge")]);
        acm.add(&issue("third.example.test"), &[("certdeploy-target", "another")]);
        acm.with(|state| state.add(&issue("amazon.example.test"), "AMAZON_ISSUED", &[("certdeploy-target", "front")]));
        let balancer = acm.with(|state| {
            state.balanced = Some(NAME.to_owned());
            state.balancer.address()
        });
        let world = Self { acm, directory: directory.to_owned(), balancer };
        for (path, text) in [(world.secret(), SECRET), (world.ca_file(), world.acm.root_pem.as_str())] {
            std::fs::write(&path, text).map_err(|error| error.to_string())?;
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).map_err(|error| error.to_string())?;
        }
        Ok(world)
    }

    fn settings(&self) -> AwsAcmSettings {
        let mut settings = AwsAcmSettings::new();
        settings.region = Some(REGION.to_owned());
        settings.endpoint = Some(self.acm.url());
        settings.ca_file = Some(self.ca_file());
        settings.access_key = Some(AccessKey::new(KEY_ID, SecretRef::File(self.secret())));
        settings.verify = Some(vec![Endpoint::new(self.balancer.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(1));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.balancer, Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        self.acm.tree()
    }

    fn foreign(&self) -> Tree {
        let ours: Vec<PathBuf> = self.acm.with(|state| {
            let mark = |stored: &acm::Stored| stored.tags.get("certdeploy-target").is_some_and(|target| target == "front");
            let ours = state.certificates.iter().filter(|(_, stored)| mark(stored) && stored.kind == "IMPORTED");
            ours.map(|(arn, _)| PathBuf::from(arn)).collect()
        });
        self.state().retain(|path| !ours.iter().any(|ours| ours == path))
    }

    fn break_with(&mut self, fault: Fault) {
        let inject = |fault: stand_in::Fault| self.acm.faults().inject(fault);
        let import = |fault: stand_in::Fault| fault.with_header("x-amz-target", "CertificateManager.Import");
        let error = |name: &str, message: &str| stand_in::Fault::answer(refusal(name, message));
        match fault {
            Fault::ReloadFails => inject(import(error("ValidationException", "told to fail")).times(1)),
            Fault::ReloadAlwaysFails => {
                self.acm.with(|state| state.frozen = true);
                inject(import(error("ValidationException", "told to fail")).after(1));
            }
            Fault::ReloadHangs => inject(import(stand_in::Fault::never()).times(1)),
            Fault::Ignored => self.acm.with(|state| state.frozen = true),
            Fault::ServesAnother => {
                let another = Authority::new().issue(&Request::new(&[NAME]));
                self.acm.with(|state| state.another = Some(another));
            }
            Fault::Unauthenticated => {
                inject(error("UnrecognizedClientException", "The security token included in the request is invalid."));
            }
            Fault::Forbidden => {
                let message = "User: arn:aws:iam::123456789012:user/deploy is not authorized to perform: acm:ImportCertificate on \
                               resource: arn:aws:acm:eu-central-1:123456789012:certificate/* because no identity-based policy allows it";
                inject(import(error("AccessDeniedException", message)));
            }
            Fault::Overtaken => {
                let theirs = Authority::new().issue(&Request::new(&[NAME]));
                self.acm.with(|state| state.overtaking = Some(theirs));
            }
            Fault::RateLimited => inject(error("ThrottlingException", "Rate exceeded").times(1)),
            Fault::Busy => inject(stand_in::Fault::answer(Answer::new(503).with_header("Retry-After", "1")).times(1)),
            Fault::DropsBefore => inject(import(stand_in::Fault::close_before()).times(1)),
            Fault::DropsAfter => inject(import(stand_in::Fault::close_after()).times(1)),
            Fault::ArrivesTwice => inject(import(stand_in::Fault::twice())),
            Fault::Slow => inject(stand_in::Fault::late(Duration::from_millis(100))),
            Fault::Silent => inject(stand_in::Fault::never()),
            Fault::UntrustedTls => inject(stand_in::Fault::untrusted_certificate()),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.acm.faults().heal();
        self.acm.with(|state| {
            (state.frozen, state.another, state.overtaking) = (false, None, None);
            state.balance();
        });
    }

    /// A certificate is there already when the suite comes with another kind of key, and no import changes that.
    fn serves(kind: KeyKind) -> bool {
        kind == KeyKind::EcP256
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        vec![(SECRET.to_owned(), self.secret())]
    }
}

impl World {
    fn secret(&self) -> PathBuf {
        self.directory.join("secret")
    }

    fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }
}

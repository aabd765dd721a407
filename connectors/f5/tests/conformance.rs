//! The conformance suite, with a stand-in for a BIG-IP as its world.
#![allow(clippy::panic, clippy::unwrap_used, reason = "a test, with a world of its own")]

mod big_ip;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::Period;
use deploy_f5::{F5, F5Settings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::stand_in::{self, Answer};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, KeyKind, Request};
use serde_json::json;

use crate::big_ip::{ADMINISTRATOR, BigIp, PASSWORD, entry};

const PROFILE: &str = "/Common/www";

fn main() -> ExitCode {
    conformance::run::<World>()
}

struct World(BigIp);

impl World {
    fn inject(&self, fault: stand_in::Fault) {
        self.0.stand_in().faults().inject(fault);
    }
}

impl Harness for World {
    type Connector = F5;

    const FAULTS: &'static [Fault] = &[
        Fault::CheckerRefuses,
        Fault::CheckerHangs,
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::ServesAnother,
        Fault::Unauthenticated,
        Fault::Forbidden,
        Fault::Missing,
        Fault::Overtaken,
        Fault::RateLimited,
        Fault::Busy,
        Fault::DropsBefore,
        Fault::DropsAfter,
        Fault::ArrivesTwice,
        Fault::Slow,
        Fault::Silent,
        Fault::UntrustedTls,
        Fault::PartialUpload,
    ];

    const PERMISSION: &'static str = "/mgmt/shared/file-transfer/uploads/";

    fn start(directory: &Path) -> Result<Self, String> {
        Ok(Self(BigIp::start(directory)))
    }

    fn settings(&self) -> F5Settings {
        let password = format!("file:{}", self.0.password_file.display()).parse().unwrap();
        let mut settings = F5Settings::new(self.0.url(), ADMINISTRATOR, password);
        settings.ca_file = Some(self.0.ca_file.clone());
        settings.client_ssl = vec![PROFILE.to_owned()];
        settings.verify = Some(vec![Endpoint::new(self.0.address(PROFILE).to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(1));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        self.0.served(PROFILE)
    }

    fn state(&self) -> Tree {
        self.0.state()
    }

    fn foreign(&self) -> Tree {
        self.0.state().retain(|path| {
            let path = path.to_string_lossy();
            let ours = path.contains("/certdeploy-front-") && !path.contains("/certdeploy-front-2-");
            !ours && !path.ends_with(PROFILE)
        })
    }

    fn break_with(&mut self, fault: Fault) {
        let error = |status: u16, text: &str| Answer::new(status).with_json(&json!({ "code": status, "message": text }));
        let (files, transactions) = ("/mgmt/tm/sys/file/", "/mgmt/tm/transaction");
        match fault {
            Fault::CheckerRefuses => self.0.with(|device| device.trouble.refused_checks = 1),
            Fault::CheckerHangs => self.inject(stand_in::Fault::never().below(format!("{transactions}/"))),
            Fault::ReloadFails => self.0.with(|device| device.trouble.refused_commits = 1),
            Fault::ReloadAlwaysFails => self.0.with(|device| {
                device.trouble.is_frozen = true;
                device.trouble.commits_left = Some(1);
            }),
            // The first two requests end the check.
            Fault::ReloadHangs => {
                self.inject(stand_in::Fault::never().changing().below(format!("{transactions}/")).after(2).times(1));
            }
            Fault::Ignored => self.0.with(|device| device.trouble.is_frozen = true),
            Fault::ServesAnother => {
                let other = Authority::new().issue(&Request::new(&[NAME]));
                self.0.with(|device| device.trouble.serves = Some(other));
            }
            Fault::Unauthenticated => self.inject(stand_in::Fault::answer(error(401, "Authentication failed."))),
            Fault::Forbidden => self.0.with(|device| device.users.get_mut(ADMINISTRATOR).unwrap().is_administrator = false),
            Fault::Missing => {
                let text = "01020036:3: The requested ClientSSL Profile (/Common/www) was not found.";
                self.inject(stand_in::Fault::answer(error(404, text)).below("/mgmt/tm/ltm/profile/"));
            }
            Fault::Overtaken => self.0.with(|device| {
                device.trouble.overtaking.push_back((PROFILE.to_owned(), vec![entry("default", "/Common/others")]));
            }),
            Fault::RateLimited => {
                self.inject(stand_in::Fault::answer(error(429, "not now").with_header("Retry-After", "1")).times(1))
            }
            Fault::Busy => self.inject(stand_in::Fault::answer(error(503, "not now").with_header("Retry-After", "1")).times(1)),
            Fault::DropsBefore | Fault::DropsAfter => {
                for place in ["/mgmt/shared/file-transfer/", files, transactions, "/mgmt/tm/ltm/", "/mgmt/tm/sys/config"] {
                    let dropped = if fault == Fault::DropsBefore {
                        stand_in::Fault::close_before()
                    } else {
                        stand_in::Fault::close_after()
                    };
                    self.inject(dropped.changing().below(place).times(1));
                }
                // The commit.
                let dropped =
                    if fault == Fault::DropsBefore { stand_in::Fault::close_before() } else { stand_in::Fault::close_after() };
                self.inject(dropped.changing().below(format!("{transactions}/")).after(3).times(1));
            }
            Fault::ArrivesTwice => self.inject(stand_in::Fault::twice().changing()),
            Fault::Slow => self.inject(stand_in::Fault::late(Duration::from_millis(20))),
            Fault::Silent => self.inject(stand_in::Fault::never()),
            Fault::UntrustedTls => self.inject(stand_in::Fault::untrusted_certificate()),
            Fault::PartialUpload => {
                self.inject(stand_in::Fault::answer(error(500, "told to break off")).changing().below(files).after(3))
            }
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.0.stand_in().faults().heal();
        self.0.with(|device| {
            device.trouble = big_ip::device::Trouble::default();
            device.users.get_mut(ADMINISTRATOR).unwrap().is_administrator = true;
            device.serve();
        });
    }

    /// F5 documents RSA, DSA and ECDSA.
    fn serves(key: KeyKind) -> bool {
        key != KeyKind::Ed25519
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        vec![(PASSWORD.to_owned(), self.0.password_file.clone())]
    }
}

//! The conformance suite, with stand-ins for a vault and for Microsoft Entra ID as its world, and a server that follows the vault.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod cloud;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_azure_keyvault::{AzureKeyvault, AzureKeyvaultSettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME as HOST};
use deploy_testkit::stand_in::{self, Answer};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, KeyKind, Request, observe};
use serde_json::json;

use crate::cloud::{Cloud, NAME, Named, Pair, refusal};

fn main() -> ExitCode {
    conformance::run::<World>()
}

struct World(Cloud);

fn issue(name: &str) -> Pair {
    let issued = Authority::new().issue(&Request::new(&[name]));
    Pair { fullchain: issued.fullchain_pem, key: issued.key_pem }
}

impl Harness for World {
    type Connector = AzureKeyvault;

    const FAULTS: &'static [Fault] = &[
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
        Fault::ArrivesTwice,
        Fault::Slow,
        Fault::Silent,
        Fault::UntrustedTls,
    ];

    const PERMISSION: &'static str = "certificates/import";

    /// A certificate of somebody else is there.
    fn start(directory: &Path) -> Result<Self, String> {
        let cloud = Cloud::start(directory);
        let policy = json!({ "issuer": { "name": "Self" } });
        cloud.vault.with_state(|vault| {
            vault.add("by-hand", issue("other.example.test"), policy, [("team".to_owned(), "edge".to_owned())].into(), true);
        });
        Ok(Self(cloud))
    }

    fn settings(&self) -> AzureKeyvaultSettings {
        let mut settings = self.0.settings();
        let address = self.0.vault.with_state(|vault| vault.server.address());
        settings["verify"] = json!([{ "connect": address.to_string(), "server_name": HOST }]);
        settings["verify_timeout"] = json!("2s");
        serde_json::from_value(settings).unwrap()
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.0.vault.with_state(|vault| vault.server.address()), Some(HOST)).ok()
    }

    /// What is current: a vault keeps every version that there ever was, also those of a way back.
    fn state(&self) -> Tree {
        let names = self.0.vault.with_state(|vault| vault.names.clone());
        let current = |Named { versions, policy }: Named| {
            let version = versions.last().unwrap();
            format!("{:?} {:?} {} {policy}", version.pair, version.tags, version.enabled)
        };
        Tree::of_objects(names.into_iter().map(|(name, named)| (name, current(named).into_bytes())))
    }

    fn foreign(&self) -> Tree {
        self.state().retain(|path| path != Path::new(NAME))
    }

    fn break_with(&mut self, fault: Fault) {
        let inject = |fault: stand_in::Fault| self.0.vault.faults().inject(fault);
        let throttled = |status: u16| {
            let answer = refusal(status, "Throttled", "Request was not processed because too many requests were received.", None);
            stand_in::Fault::answer(answer.with_header("Retry-After", "1")).times(1)
        };
        let refuse = || stand_in::Fault::answer(refusal(400, "BadParameter", "told to fail", None)).changing();
        match fault {
            Fault::ReloadFails => inject(refuse().times(1)),
            Fault::ReloadAlwaysFails => {
                self.0.vault.with_state(|vault| vault.frozen = true);
                inject(refuse().after(1));
            }
            Fault::ReloadHangs => inject(stand_in::Fault::never().changing().times(1)),
            Fault::Ignored => self.0.vault.with_state(|vault| vault.frozen = true),
            Fault::Unauthenticated => {
                let body = json!({ "error": "invalid_client", "error_description": "AADSTS7000222: The provided client secret keys are expired." });
                self.0.login.faults().inject(stand_in::Fault::answer(Answer::new(401).with_json(&body)));
            }
            Fault::Forbidden => {
                let message =
                    "The user, group or application does not have certificates import permission on key vault 'example'.";
                inject(stand_in::Fault::answer(refusal(403, "Forbidden", message, Some("AccessDenied"))).changing());
            }
            Fault::Missing => inject(stand_in::Fault::answer(refusal(404, "ResourceNotFound", "gone", None)).changing()),
            Fault::Overtaken => {
                let theirs = issue(HOST);
                self.0.vault.with_state(|vault| vault.overtaken_by = Some(theirs));
            }
            Fault::RateLimited => inject(throttled(429)),
            Fault::Busy => inject(throttled(503)),
            Fault::DropsBefore => inject(stand_in::Fault::close_before().changing().times(1)),
            Fault::DropsAfter => inject(stand_in::Fault::close_after().changing().times(1)),
            Fault::ArrivesTwice => inject(stand_in::Fault::twice().changing()),
            Fault::Slow => inject(stand_in::Fault::late(Duration::from_millis(100))),
            Fault::Silent => inject(stand_in::Fault::never()),
            Fault::UntrustedTls => inject(stand_in::Fault::untrusted_certificate()),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.0.vault.faults().heal();
        self.0.login.faults().heal();
        self.0.vault.with_state(|vault| {
            (vault.frozen, vault.overtaken_by) = (false, None);
            vault.follow();
        });
    }

    fn serves(kind: KeyKind) -> bool {
        kind != KeyKind::Ed25519
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        vec![(self.0.secret.clone(), self.0.file("secret"))]
    }
}

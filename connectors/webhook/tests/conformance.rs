//! The conformance suite, with a stand-in for an endpoint as its world.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod endpoint;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_testkit::conformance::{self, Fault, Harness, NAME as HOST};
use deploy_testkit::stand_in::{self, Answer};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Request, observe};
use deploy_webhook::{Webhook, WebhookSettings};
use serde_json::json;

use crate::endpoint::{Endpoint, NAME, Pair};

fn main() -> ExitCode {
    conformance::run::<World>()
}

struct World(Endpoint);

impl Harness for World {
    type Connector = Webhook;

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
        Fault::ArrivesTwice,
        Fault::Slow,
        Fault::Silent,
        Fault::UntrustedTls,
    ];

    const PERMISSION: &'static str = "certificates.write";

    fn start(directory: &Path) -> Result<Self, String> {
        Ok(Self(Endpoint::start(directory)))
    }

    fn settings(&self) -> WebhookSettings {
        let mut settings = self.0.settings();
        settings["verify"] = json!([{ "connect": self.0.address().to_string(), "server_name": HOST }]);
        settings["verify_timeout"] = json!("2s");
        serde_json::from_value(settings).unwrap()
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.0.address(), Some(HOST)).ok()
    }

    fn state(&self) -> Tree {
        let pairs = self.0.with(|state| state.live.clone());
        Tree::of_objects(pairs.into_iter().map(|(name, pair)| (name, format!("{pair:?}").into_bytes())))
    }

    fn foreign(&self) -> Tree {
        self.state().retain(|path| path != Path::new(NAME))
    }

    fn break_with(&mut self, fault: Fault) {
        let inject = |fault: stand_in::Fault| self.0.faults().inject(fault);
        let error = |status: u16, text: &str| Answer::new(status).with_json(&json!({ "error": text }));
        let (check, certificates) = ("/api/check", "/api/certificates");
        let switch = |fault: stand_in::Fault| fault.changing().below(certificates);
        let wait = |status: u16| stand_in::Fault::answer(error(status, "not now").with_header("Retry-After", "1")).times(1);
        match fault {
            Fault::CheckerRefuses => inject(stand_in::Fault::answer(error(422, "told to refuse")).below(check)),
            Fault::CheckerHangs => inject(stand_in::Fault::never().below(check)),
            Fault::ReloadFails => inject(switch(stand_in::Fault::answer(error(422, "told to fail"))).times(1)),
            Fault::ReloadAlwaysFails => {
                self.0.with(|state| state.frozen = true);
                inject(switch(stand_in::Fault::answer(error(422, "told to fail"))).after(1));
            }
            Fault::ReloadHangs => inject(switch(stand_in::Fault::never()).times(1)),
            Fault::Ignored => self.0.with(|state| state.frozen = true),
            Fault::Unauthenticated => inject(stand_in::Fault::answer(error(401, "unknown token"))),
            Fault::Forbidden => inject(switch(stand_in::Fault::answer(error(403, Self::PERMISSION)))),
            Fault::Missing => inject(switch(stand_in::Fault::answer(error(404, "no such name")))),
            Fault::Overtaken => {
                let theirs = Pair::from(&Authority::new().issue(&Request::new(&[HOST])));
                self.0.with(|state| state.overtaken_by = Some(theirs));
            }
            Fault::RateLimited => inject(wait(429)),
            Fault::Busy => inject(wait(503)),
            Fault::DropsBefore => inject(switch(stand_in::Fault::close_before()).times(1)),
            Fault::DropsAfter => inject(switch(stand_in::Fault::close_after()).times(1)),
            Fault::ArrivesTwice => inject(stand_in::Fault::twice().changing()),
            Fault::Slow => inject(stand_in::Fault::late(Duration::from_millis(100))),
            Fault::Silent => inject(stand_in::Fault::never()),
            Fault::UntrustedTls => inject(stand_in::Fault::untrusted_certificate()),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.0.faults().heal();
        self.0.with(|state| {
            state.frozen = false;
            state.overtaken_by = None;
            if let Some(pair) = state.live.get(NAME).cloned() {
                state.switch(NAME, pair);
            }
        });
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        let secret = |text: &String, file| (text.clone(), self.0.file(file));
        vec![secret(&self.0.token, "token"), secret(&self.0.signing_key, "signing-key")]
    }
}

//! The conformance suite, with a real Caddy as its world, and something before its admin API that can be told to fail.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod caddy;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use deploy_caddy_api::{CaddyApi, CaddyApiSettings};
use deploy_core::probe::Endpoint;
use deploy_core::settings::Period;
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::stand_in::{self, Answer, HttpRequest, StandIn};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Request, observe};
use serde_json::json;

use crate::caddy::{Caddy, LOADED, ask, entry};

const ID: &str = "ours";

fn main() -> ExitCode {
    conformance::run::<World>()
}

struct World {
    caddy: Caddy,
    gate: StandIn<Gate>,
}

/// What stands before Caddy's socket.
struct Gate {
    socket: std::path::PathBuf,
    /// Changes are taken, and do nothing.
    frozen: bool,
    /// What was taken, and is said to be there.
    claimed: Option<Vec<u8>>,
    /// What somebody else does before the next change.
    overtaken_by: Option<serde_json::Value>,
}

impl Gate {
    fn pass(&mut self, request: &HttpRequest) -> Answer {
        if request.is_changing() {
            if let Some(entry) = self.overtaken_by.take() {
                assert_eq!(ask(&self.socket, "PATCH", &format!("/id/{ID}"), &[], entry.to_string().as_bytes()).status, 200);
            }
            if self.frozen {
                self.claimed = Some(request.body.clone());
                return Answer::new(200);
            }
        }
        if let Some(claimed) = &self.claimed {
            return Answer::new(200).with_header("Etag", "\"claimed\"").with_body(claimed.clone());
        }
        let wanted = ["if-match", "content-type"];
        let headers: Vec<(&str, &str)> = wanted.iter().filter_map(|name| Some((*name, request.header(name)?))).collect();
        ask(&self.socket, &request.method, &request.path, &headers, &request.body)
    }
}

impl Harness for World {
    type Connector = CaddyApi;

    const FAULTS: &'static [Fault] = &[
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::Forbidden,
        Fault::Overtaken,
        Fault::Busy,
        Fault::DropsBefore,
        Fault::DropsAfter,
        Fault::ArrivesTwice,
        Fault::Slow,
        Fault::Silent,
    ];

    const PERMISSION: &'static str = "host not allowed";

    /// A certificate of somebody else is loaded already.
    fn start(directory: &Path) -> Result<Self, String> {
        let other = Authority::new().issue(&Request::new(&["other.example.test"]));
        let caddy = Caddy::start(directory, &[entry("theirs", &other)])?;
        let gate = Gate { socket: caddy.socket.clone(), frozen: false, claimed: None, overtaken_by: None };
        Ok(Self { caddy, gate: StandIn::start_plain(gate, |request, gate: &mut Gate| gate.pass(request)) })
    }

    fn settings(&self) -> CaddyApiSettings {
        let mut settings = CaddyApiSettings::new();
        settings.admin = self.gate.url().trim_start_matches("http://").to_owned().try_into().unwrap();
        settings.id = Some(ID.to_owned());
        settings.verify = Some(vec![Endpoint::new(self.caddy.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(2));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.caddy.address, Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        let loaded: Vec<serde_json::Value> = serde_json::from_slice(&self.caddy.get(LOADED).body).unwrap();
        let certificates = loaded.iter().map(|entry| (format!("certificates/{}", entry["@id"]), entry.to_string().into_bytes()));
        Tree::of_objects(certificates.chain([("http".to_owned(), self.caddy.get("/config/apps/http").body)]))
    }

    fn foreign(&self) -> Tree {
        self.state().retain(|path| !path.to_string_lossy().contains(ID))
    }

    fn break_with(&mut self, fault: Fault) {
        let inject = |fault: stand_in::Fault| self.gate.faults().inject(fault);
        let error = |status, text: &str| Answer::new(status).with_json(&json!({ "error": text }));
        let refused = || stand_in::Fault::answer(error(500, "loading new config: told to fail")).changing();
        match fault {
            Fault::ReloadFails => inject(refused().times(1)),
            Fault::ReloadAlwaysFails => {
                self.gate.with_state(|gate| gate.frozen = true);
                inject(refused().after(1));
            }
            Fault::ReloadHangs => inject(stand_in::Fault::never().changing().times(1)),
            Fault::Ignored => self.gate.with_state(|gate| gate.frozen = true),
            Fault::Forbidden => inject(stand_in::Fault::answer(error(403, "host not allowed: here")).changing()),
            Fault::Overtaken => {
                let theirs = entry(ID, &Authority::new().issue(&Request::new(&[NAME])));
                self.gate.with_state(|gate| gate.overtaken_by = Some(theirs));
            }
            Fault::Busy => inject(stand_in::Fault::answer(error(503, "not now").with_header("Retry-After", "1")).times(1)),
            Fault::DropsBefore => inject(stand_in::Fault::close_before().changing().times(1)),
            Fault::DropsAfter => inject(stand_in::Fault::close_after().changing().times(1)),
            Fault::ArrivesTwice => inject(stand_in::Fault::twice().changing()),
            Fault::Slow => inject(stand_in::Fault::late(Duration::from_millis(100))),
            Fault::Silent => inject(stand_in::Fault::never()),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.gate.faults().heal();
        self.gate.with_state(|gate| (gate.frozen, gate.claimed) = (false, None));
    }
}

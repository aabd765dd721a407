//! The conformance suite, with a real HAProxy that gets its certificates over its socket.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::path::Path;
use std::process::ExitCode;

use deploy_core::settings::CommandSetting;
use deploy_haproxy::{Haproxy, HaproxySettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME, Work};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Order, Request, ScriptedCommand, observe};

use crate::server::gate::Gate;
use crate::server::{HAPROXY, Server, socket};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A HAProxy with an empty `crt` directory, and something before its socket and its checker that can be told to fail.
struct World {
    server: Server,
    checker: ScriptedCommand,
    gate: Gate,
}

impl Harness for World {
    type Connector = Haproxy;

    const FAULTS: &'static [Fault] = &[
        Fault::CheckerRefuses,
        Fault::CheckerHangs,
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::ServesAnother,
    ];

    fn start(directory: &Path) -> Result<Self, String> {
        let server = Server::start(directory)?;
        let issued = Authority::new().issue(&Request::new(&[NAME]));
        let another = issued.fullchain_pem.clone() + &issued.key_pem;
        Ok(Self {
            checker: ScriptedCommand::new(directory, "haproxy", &[HAPROXY.to_owned()]),
            gate: Gate::open(&directory.join("gate.sock"), &server.admin(), another),
            server,
        })
    }

    fn settings(&self) -> HaproxySettings {
        let mut settings = self.server.settings();
        let arguments = self.server.check_command().into_iter().skip(1);
        settings.validate = CommandSetting::Arguments(self.checker.command().into_iter().chain(arguments).collect());
        settings.runtime = vec![socket(&self.gate.path)];
        settings.crt_list = Some(self.server.directory.join("tls").display().to_string());
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.server.address, Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(&self.server.directory.join("tls")).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        match fault {
            Fault::CheckerRefuses => self.checker.accept_only_as_now(std::slice::from_ref(&self.server.combined)),
            Fault::CheckerHangs => self.checker.order(Order::Hang),
            Fault::ReloadFails => self.gate.order(Order::FailOnce),
            Fault::ReloadAlwaysFails => self.gate.order(Order::Fail),
            Fault::ReloadHangs => self.gate.order(Order::HangOnce),
            Fault::Ignored => self.gate.order(Order::Ignore),
            Fault::ServesAnother => self.gate.order(Order::OtherOnce),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.checker.heal();
        self.gate.heal();
    }

    fn begin_work(&self) -> Option<Work> {
        server::half_a_request(self.server.address)
    }
}

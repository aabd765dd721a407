//! The conformance suite, with a real HAProxy that is reloaded.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::path::Path;
use std::process::ExitCode;

use deploy_core::settings::{CommandSetting, ReloadSetting};
use deploy_haproxy::{Haproxy, HaproxySettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME, Work};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Order, Request, ScriptedCommand, observe};

use crate::server::{HAPROXY, Server};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A HAProxy with an empty `crt` directory, and commands before its own that can be told to fail.
struct World {
    server: Server,
    checker: ScriptedCommand,
    reload: ScriptedCommand,
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
        let another = directory.join("another.pem");
        let issued = Authority::new().issue(&Request::new(&[NAME]));
        std::fs::write(&another, issued.fullchain_pem.clone() + &issued.key_pem).map_err(|error| error.to_string())?;
        server.configure("wanted.cfg", &format!("crt {}/tls", directory.display()))?;
        server.configure("another.cfg", &format!("crt {}", another.display()))?;
        let [reload, other] = ["wanted.cfg", "another.cfg"].map(|name| server.reload_command(name));
        Ok(Self {
            checker: ScriptedCommand::new(directory, "haproxy", &[HAPROXY.to_owned()]),
            reload: ScriptedCommand::with_other(directory, "reload", &reload, &other),
            server,
        })
    }

    fn settings(&self) -> HaproxySettings {
        let mut settings = self.server.settings();
        let arguments = self.server.check_command().into_iter().skip(1);
        settings.validate = CommandSetting::Arguments(self.checker.command().into_iter().chain(arguments).collect());
        settings.reload = Some(ReloadSetting::Command(CommandSetting::Arguments(self.reload.command())));
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
            other => assert!(self.reload.break_reload(other), "{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        [&self.checker, &self.reload].iter().for_each(|command| command.heal());
    }

    fn begin_work(&self) -> Option<Work> {
        server::half_a_request(self.server.address)
    }
}

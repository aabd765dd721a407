//! The conformance suite, with a real lighttpd as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_lighttpd::{Lighttpd, LighttpdSettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Order, Request, ScriptedCommand, observe, write_pair};

use crate::server::{LIGHTTPD, Server};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A lighttpd that the first reload starts, and commands before its own that can be told to fail.
struct World {
    server: Server,
    checker: ScriptedCommand,
    reload: ScriptedCommand,
    restart: ScriptedCommand,
}

impl Harness for World {
    type Connector = Lighttpd;

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
        let server = Server::prepare(directory)?;
        let another = directory.join("another");
        std::fs::create_dir(&another).map_err(|error| format!("{}: {error}", another.display()))?;
        let (fullchain, key) = write_pair(&another, &Authority::new().issue(&Request::new(&[NAME])));
        server.configure("another.conf", &fullchain, &key)?;
        let [reload, other] = ["wanted.conf", "another.conf"].map(|name| server.command("reload-or-restart", name));
        Ok(Self {
            checker: ScriptedCommand::new(directory, "lighttpd", &[LIGHTTPD.to_owned()]),
            reload: ScriptedCommand::with_other(directory, "reload", &reload, &other),
            restart: ScriptedCommand::new(directory, "restart", &server.command("restart", "wanted.conf")),
            server,
        })
    }

    fn settings(&self) -> LighttpdSettings {
        let mut settings = LighttpdSettings::new(&self.server.fullchain, &self.server.key);
        let arguments = self.server.check_command().into_iter().skip(1);
        settings.validate = CommandSetting::Arguments(self.checker.command().into_iter().chain(arguments).collect());
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.restart = CommandSetting::Arguments(self.restart.command());
        settings.verify = Some(vec![Endpoint::new(self.server.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(3));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.server.address, Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(&self.server.directory.join("tls")).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        let files = || [self.server.fullchain.clone(), self.server.key.clone()];
        match fault {
            Fault::CheckerRefuses => self.checker.accept_only_as_now(&files()),
            Fault::CheckerHangs => self.checker.order(Order::Hang),
            Fault::ReloadAlwaysFails => [&self.reload, &self.restart].iter().for_each(|command| command.order(Order::Fail)),
            other => assert!(self.reload.break_reload(other), "{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        [&self.checker, &self.reload, &self.restart].iter().for_each(|command| command.heal());
    }
}

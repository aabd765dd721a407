//! The conformance suite, with a real Caddy as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::path::Path;
use std::process::ExitCode;

use deploy_caddy::{Caddy, CaddySettings};
use deploy_core::settings::{CommandSetting, ReloadSetting};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Order, Request, ScriptedCommand, observe, write_pair};

use crate::server::{CADDY, Server};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A Caddy whose first reload brings up the site, and commands before its own that can be told to fail.
struct World {
    server: Server,
    checker: ScriptedCommand,
    reload: ScriptedCommand,
}

impl Harness for World {
    type Connector = Caddy;

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
        let another = directory.join("other");
        std::fs::create_dir(&another).map_err(|error| format!("{}: {error}", another.display()))?;
        let (fullchain, key) = write_pair(&another, &Authority::new().issue(&Request::new(&[NAME])));
        server.configure("another", &fullchain, &key)?;
        let mut other = server.reload_command();
        if let Some(configuration) = other.last_mut() {
            *configuration = directory.join("another").display().to_string();
        }
        other.extend(["--adapter", "caddyfile"].map(str::to_owned));
        Ok(Self {
            checker: ScriptedCommand::new(directory, "caddy", &[CADDY.to_owned()]),
            reload: ScriptedCommand::with_other(directory, "reload", &server.reload_command(), &other),
            server,
        })
    }

    fn settings(&self) -> CaddySettings {
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
        let files = || [self.server.fullchain.clone(), self.server.key.clone()];
        match fault {
            Fault::CheckerRefuses => self.checker.accept_only_as_now(&files()),
            Fault::CheckerHangs => self.checker.order(Order::Hang),
            other => assert!(self.reload.break_reload(other), "{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        [&self.checker, &self.reload].iter().for_each(|command| command.heal());
    }
}

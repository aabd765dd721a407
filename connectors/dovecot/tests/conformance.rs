//! The conformance suite, with a real Dovecot as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::{Endpoint, StartTls};
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_dovecot::{Dovecot, DovecotSettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Order, ScriptedCommand, observe};

use crate::server::{NEEDS_ROOT, Server, can_start};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A Dovecot that the first reload makes serve TLS, and commands before its own that can be told to fail.
struct World {
    server: Server,
    /// What Dovecot serves while nothing is deployed.
    own: Option<Vec<Vec<u8>>>,
    checker: ScriptedCommand,
    reload: ScriptedCommand,
}

impl Harness for World {
    type Connector = Dovecot;

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
        server.configure_own("another.conf")?;
        let [wanted, other] = ["wanted.conf", "another.conf"].map(|name| server.command("reload", name));
        let checker = ScriptedCommand::new(directory, "check", &server.check_command());
        let reload = ScriptedCommand::with_other(directory, "reload", &wanted, &other);
        let own = observe::served_chain(server.imaps, Some(NAME)).ok();
        Ok(Self { server, own, checker, reload })
    }

    fn settings(&self) -> DovecotSettings {
        let endpoint = |address: SocketAddr| Endpoint::new(address.to_string()).with_server_name(NAME);
        let mut settings = DovecotSettings::new(&self.server.fullchain, &self.server.key);
        settings.validate = CommandSetting::Arguments(self.checker.command());
        settings.shadow = CommandSetting::Arguments(self.server.shadow_command());
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.pid_file = self.server.pid_file();
        settings.verify = Some(vec![endpoint(self.server.imap).with_starttls(StartTls::Imap), endpoint(self.server.imaps)]);
        settings.verify_timeout = Period::new(Duration::from_secs(2));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.server.imaps, Some(NAME)).ok().filter(|chain| Some(chain) != self.own.as_ref())
    }

    fn state(&self) -> Tree {
        Tree::of(&self.server.directory.join("tls")).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        match fault {
            Fault::CheckerRefuses => self.checker.accept_only_as_now(&[self.server.fullchain.clone(), self.server.key.clone()]),
            Fault::CheckerHangs => self.checker.order(Order::Hang),
            other => assert!(self.reload.break_reload(other), "{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        [&self.checker, &self.reload].iter().for_each(|command| command.heal());
    }

    fn left_out(_: &str) -> Option<&'static str> {
        (!can_start()).then_some(NEEDS_ROOT)
    }
}

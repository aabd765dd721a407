//! The conformance suite, with a real Postfix as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::{Endpoint, StartTls};
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_postfix::{Postfix, PostfixSettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Order, Request, ScriptedCommand, observe};

use crate::server::{NEEDS_ROOT, Server, can_start, chain_setting};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A Postfix that runs without a certificate, and commands before its own that can be told to fail.
struct World {
    server: Server,
    checker: ScriptedCommand,
    reload: ScriptedCommand,
}

impl Harness for World {
    type Connector = Postfix;

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
        std::fs::write(&another, issued.key_pem + &issued.fullchain_pem).map_err(|error| error.to_string())?;
        server.configure("another.cf", &chain_setting(&another))?;
        let [wanted, other] = ["wanted.cf", "another.cf"].map(|name| server.command("reload", name));
        // Quicker than `postfix check`, which sees as little of a certificate.
        let etc = directory.join("etc").display().to_string();
        let checker = ScriptedCommand::new(directory, "check", &["/usr/sbin/postconf", "-n", "-c", &etc].map(str::to_owned));
        let reload = ScriptedCommand::with_other(directory, "reload", &wanted, &other);
        Ok(Self { server, checker, reload })
    }

    fn settings(&self) -> PostfixSettings {
        let endpoint = |address: std::net::SocketAddr| Endpoint::new(address.to_string()).with_server_name(NAME);
        let mut settings = PostfixSettings::new(&self.server.chain_file);
        settings.validate = CommandSetting::Arguments(self.checker.command());
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.verify = Some(vec![endpoint(self.server.smtp).with_starttls(StartTls::Smtp), endpoint(self.server.smtps)]);
        settings.verify_timeout = Period::new(Duration::from_secs(2));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.server.smtps, Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(&self.server.directory.join("tls")).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        match fault {
            Fault::CheckerRefuses => self.checker.accept_only_as_now(std::slice::from_ref(&self.server.chain_file)),
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

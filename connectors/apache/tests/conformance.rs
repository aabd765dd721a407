//! The conformance suite, with a real Apache as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use deploy_apache::{Apache, ApacheSettings};
use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_testkit::conformance::{self, Fault, Harness, NAME, Work};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Order, Request, ScriptedCommand, observe, write_pair};

use crate::server::{APACHE, Server};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// An Apache that the first reload starts, and commands before its own that can be told to fail.
struct World {
    server: Server,
    checker: ScriptedCommand,
    reload: ScriptedCommand,
    restart: ScriptedCommand,
}

impl Harness for World {
    type Connector = Apache;

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
        let [reload, other] = ["wanted.conf", "another.conf"].map(|name| server.command("graceful", name));
        Ok(Self {
            checker: ScriptedCommand::new(directory, "apache", &[APACHE.to_owned()]),
            reload: ScriptedCommand::with_other(directory, "reload", &reload, &other),
            restart: ScriptedCommand::new(directory, "restart", &server.command("graceful", "wanted.conf")),
            server,
        })
    }

    fn settings(&self) -> ApacheSettings {
        let mut settings = ApacheSettings::new(&self.server.fullchain, &self.server.key);
        let arguments = self.server.check_command().into_iter().skip(1);
        settings.validate = CommandSetting::Arguments(self.checker.command().into_iter().chain(arguments).collect());
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.shadow = CommandSetting::Arguments(self.server.shadow_command());
        settings.pid_file = Some(self.server.pid_file());
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

    /// Half a request, whose other half comes when the process that took it is to be replaced.
    fn begin_work(&self) -> Option<Work> {
        let mut stream = observe::connect(self.server.address, Some(NAME)).ok()?;
        stream.write_all(b"GET /none HTTP/1.1\r\nHost: www.example.test\r\n").ok()?;
        stream.flush().ok()?;
        Some(Box::new(move || {
            let mut answer = String::new();
            let finished = stream.write_all(b"Connection: close\r\n\r\n").and_then(|()| stream.flush());
            let ended = finished.and_then(|()| stream.read_to_string(&mut answer));
            if answer.starts_with("HTTP/1.1 404") { Ok(()) } else { Err(format!("Apache answered {answer:?} ({ended:?})")) }
        }))
    }
}

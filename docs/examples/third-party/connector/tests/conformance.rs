//! The conformance suite, with the real server as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{ReloadingServer, ScriptedCommand, observe};
use example_connector::{Reloading, ReloadingSettings};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A server for two files, and a command that has it read them.
struct World {
    server: ReloadingServer,
    reload: ScriptedCommand,
    tls: PathBuf,
}

impl World {
    fn files(tls: &Path) -> (PathBuf, PathBuf) {
        (tls.join("www.crt"), tls.join("www.key"))
    }
}

impl Harness for World {
    type Connector = Reloading;

    const FAULTS: &'static [Fault] = &[Fault::ReloadFails, Fault::ReloadAlwaysFails, Fault::ReloadHangs, Fault::Ignored];

    fn start(directory: &Path) -> Result<Self, String> {
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| format!("{}: {error}", tls.display()))?;
        let (fullchain, key) = Self::files(&tls);
        let server = ReloadingServer::start(directory, &fullchain, &key)?;
        let reload = ScriptedCommand::new(directory, "reload", &server.reload_command());
        Ok(Self { server, reload, tls })
    }

    fn settings(&self) -> ReloadingSettings {
        let (fullchain, key) = Self::files(&self.tls);
        let mut settings = ReloadingSettings::new(fullchain, key);
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.verify = Some(vec![Endpoint::new(self.server.address().to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(3));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.server.address(), Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(&self.tls).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        assert!(self.reload.break_reload(fault), "{fault:?} is not one of FAULTS");
    }

    fn heal(&mut self) {
        self.reload.heal();
    }
}

//! The conformance suite, with a server that reads two files when it is told.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_files::{FileContent, FileSetting, Files, FilesSettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Order, ReloadingServer, ScriptedCommand, observe};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A server for two files, a command that has it read them, and a checker that is content with everything.
struct World {
    server: ReloadingServer,
    validate: ScriptedCommand,
    reload: ScriptedCommand,
    tls: PathBuf,
}

impl World {
    fn files(tls: &Path) -> [PathBuf; 2] {
        ["www.crt", "www.key"].map(|name| tls.join(name))
    }
}

impl Harness for World {
    type Connector = Files;

    const FAULTS: &'static [Fault] =
        &[Fault::CheckerHangs, Fault::ReloadFails, Fault::ReloadAlwaysFails, Fault::ReloadHangs, Fault::Ignored];

    fn start(directory: &Path) -> Result<Self, String> {
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| format!("{}: {error}", tls.display()))?;
        let [fullchain, key] = Self::files(&tls);
        let server = ReloadingServer::start(directory, &fullchain, &key)?;
        let validate = ScriptedCommand::new(directory, "validate", &["true".to_owned()]);
        let reload = ScriptedCommand::new(directory, "reload", &server.reload_command());
        Ok(Self { server, validate, reload, tls })
    }

    fn settings(&self) -> FilesSettings {
        let [fullchain, key] = Self::files(&self.tls);
        let mut settings =
            FilesSettings::new([FileSetting::new(key, FileContent::Key), FileSetting::new(fullchain, FileContent::Fullchain)]);
        settings.validate = CommandSetting::Arguments(self.validate.command());
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
        match fault {
            Fault::CheckerHangs => self.validate.order(Order::Hang),
            other => assert!(self.reload.break_reload(other), "{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.validate.heal();
        self.reload.heal();
    }
}

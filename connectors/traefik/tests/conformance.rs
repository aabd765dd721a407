//! The conformance suite, with a stand-in for Traefik as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod stand_in;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_testkit::conformance::{self, Fault, Harness, NAME, Work};
use deploy_testkit::tree::Tree;
use deploy_testkit::{ScriptedCommand, observe};
use deploy_traefik::{Traefik, TraefikSettings};

use crate::stand_in::StandInTraefik;

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A stand-in that runs, and a reload that it does not need and that can be told to fail.
struct World {
    traefik: StandInTraefik,
    reload: ScriptedCommand,
    directory: PathBuf,
}

impl Harness for World {
    type Connector = Traefik;

    const FAULTS: &'static [Fault] =
        &[Fault::ReloadFails, Fault::ReloadAlwaysFails, Fault::ReloadHangs, Fault::Ignored, Fault::ServesAnother];

    fn start(directory: &Path) -> Result<Self, String> {
        let told = directory.join("told").display().to_string();
        let tell = ["sh", "-c", "touch \"$0\"; while [ -e \"$0\" ]; do sleep 0.005; done", &told].map(str::to_owned);
        let reload = ScriptedCommand::with_other(directory, "reload", &["true".to_owned()], &tell);
        Ok(Self { traefik: StandInTraefik::start(directory)?, reload, directory: directory.to_owned() })
    }

    fn settings(&self) -> TraefikSettings {
        let traefik = &self.traefik;
        let mut settings = TraefikSettings::new(&traefik.fullchain, &traefik.key, &traefik.dynamic);
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.verify = Some(vec![Endpoint::new(traefik.address().to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(2));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        self.traefik.served_chain(NAME)
    }

    fn state(&self) -> Tree {
        let [tls, dynamic] = ["tls", "dynamic"].map(|name| Tree::of(&self.directory.join(name)).visible());
        tls.and(dynamic)
    }

    fn left_out(case: &str) -> Option<&'static str> {
        match case {
            "crash::f28_reload_that_is_owed_is_paid" => Some("Traefik takes files up by itself: no reload is ever owed"),
            "deployment::f30_symbolic_link_survives_a_renewal" => {
                Some("Traefik does not see what happens behind a link: `dynamic` must be none. tests/watching.rs has the others")
            }
            _ => None,
        }
    }

    fn break_with(&mut self, fault: Fault) {
        assert!(self.reload.break_reload(fault), "{fault:?} is not one of FAULTS");
        self.traefik.set_deaf(fault == Fault::Ignored);
    }

    fn heal(&mut self) {
        self.reload.heal();
        self.traefik.set_deaf(false);
    }

    /// A connection with a handshake, whose answer is read when the certificate is another one.
    fn begin_work(&self) -> Option<Work> {
        let mut stream = observe::connect(self.traefik.address(), Some(NAME)).ok()?;
        stream.flush().ok()?;
        Some(Box::new(move || {
            let mut answer = String::new();
            let ended = stream.read_to_string(&mut answer);
            if answer == "ok\n" { Ok(()) } else { Err(format!("the stand-in answered {answer:?} ({ended:?})")) }
        }))
    }
}

//! The conformance suite, with a real Envoy as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_envoy::{Envoy, EnvoySettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME, Work};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Request, ScriptedCommand, observe, write_pair};
use serde_json::json;

use crate::server::{SECRET, Server};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// An Envoy that the first `reload` starts: a command that does nothing to one that runs, and that can be told to fail.
struct World {
    server: Server,
    reload: ScriptedCommand,
}

impl Harness for World {
    type Connector = Envoy;

    const FAULTS: &'static [Fault] =
        &[Fault::ReloadFails, Fault::ReloadAlwaysFails, Fault::ReloadHangs, Fault::Ignored, Fault::ServesAnother];

    fn start(directory: &Path) -> Result<Self, String> {
        let server = Server::prepare(directory)?;
        let another = directory.join("another");
        std::fs::create_dir(&another).map_err(|error| format!("{}: {error}", another.display()))?;
        let (fullchain, key) = write_pair(&another, &Authority::new().issue(&Request::new(&[NAME])));
        let sds = json!({ "resources": [{
            "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            "name": SECRET,
            "tls_certificate": { "certificate_chain": { "filename": fullchain }, "private_key": { "filename": key } },
        }]});
        let path = another.join("www.json");
        std::fs::write(&path, sds.to_string()).map_err(|error| format!("{}: {error}", path.display()))?;
        server.configure("another.json", &path)?;
        let frozen = directory.join("frozen");
        std::fs::create_dir(&frozen).map_err(|error| format!("{}: {error}", frozen.display()))?;
        server.configure("frozen.json", &frozen.join("www.json"))?;
        let [reload, other] = ["wanted.json", "another.json"].map(|name| server.start_command(name));
        Ok(Self { reload: ScriptedCommand::with_other(directory, "reload", &reload, &other), server })
    }

    fn settings(&self) -> EnvoySettings {
        let mut settings = EnvoySettings::new(&self.server.sds, SECRET);
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.verify = Some(vec![Endpoint::new(self.server.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(2));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.server.address, Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(&self.server.directory.join("tls")).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        assert!(self.reload.break_reload(fault), "{fault:?} is not one of FAULTS");
        if fault == Fault::Ignored {
            // It watches by itself, so that it has to look elsewhere.
            let frozen = self.server.directory.join("frozen/www.json");
            std::fs::copy(&self.server.sds, frozen).unwrap_or_else(|error| panic!("{error}"));
            self.server.start("frozen.json");
        }
    }

    fn heal(&mut self) {
        self.reload.heal();
    }

    fn left_out(case: &str) -> Option<&'static str> {
        match case {
            "crash::f28_reload_that_is_owed_is_paid" => Some("Envoy takes files up by itself, so that no reload is ever owed"),
            "deployment::f30_symbolic_link_survives_a_renewal" => {
                Some("Envoy does not see what happens behind a link: it is refused")
            }
            _ => None,
        }
    }

    /// The old secret, where Envoy is to look at nothing else.
    fn keeps_keys_in(&self) -> Vec<PathBuf> {
        vec![self.server.directory.join("frozen")]
    }

    /// Half a request, whose other half comes when the connection's certificate is not the one that is served any more.
    fn begin_work(&self) -> Option<Work> {
        let mut stream = observe::connect(self.server.address, Some(NAME)).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example.test\r\n").ok()?;
        stream.flush().ok()?;
        Some(Box::new(move || {
            let mut answer = String::new();
            let finished = stream.write_all(b"Connection: close\r\n\r\n").and_then(|()| stream.flush());
            let ended = finished.and_then(|()| stream.read_to_string(&mut answer));
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("Envoy answered {answer:?} ({ended:?})")) }
        }))
    }
}

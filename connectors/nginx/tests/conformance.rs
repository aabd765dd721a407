//! The conformance suite, with a real nginx as its world.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, with a world of its own"
)]

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_nginx::{Nginx, NginxSettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME, Work};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, NginxConfig, Order, Request, ScriptedCommand, observe, write_pair};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// An nginx that serves two files, and the commands that check it and reload it.
struct World {
    nginx: deploy_testkit::Nginx,
    validate: ScriptedCommand,
    reload: ScriptedCommand,
    tls: PathBuf,
}

impl World {
    fn files(tls: &Path) -> (PathBuf, PathBuf) {
        (tls.join("www.crt"), tls.join("www.key"))
    }
}

impl Harness for World {
    type Connector = Nginx;

    const FAULTS: &'static [Fault] = &[
        Fault::CheckerRefuses,
        Fault::CheckerHangs,
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::ServesAnother,
    ];

    /// Before the first deployment nginx serves plain HTTP; the configuration for TLS is there already, and names files that
    /// are not.
    fn start(directory: &Path) -> Result<Self, String> {
        let [tls, home, other] = ["tls", "nginx", "other"].map(|name| directory.join(name));
        for new in [&tls, &other] {
            std::fs::create_dir(new).map_err(|error| format!("{}: {error}", new.display()))?;
        }
        let nginx = deploy_testkit::Nginx::start(&home, &NginxConfig::plain())?;
        let (fullchain, key) = Self::files(&tls);
        nginx.set_config(&NginxConfig::tls(NAME, &fullchain, &key).line("ssl_protocols TLSv1.2 TLSv1.3;"));
        // For what serves something else: the same configuration with another pair.
        let right = home.join("right.conf");
        std::fs::copy(nginx.config_path(), &right).map_err(|error| error.to_string())?;
        let pair = write_pair(&other, &Authority::new().issue(&Request::new(&[NAME])));
        let text = std::fs::read_to_string(&right).map_err(|error| error.to_string())?;
        let wrong = home.join("wrong.conf");
        let text = text.replace(fullchain.to_str().unwrap(), pair.0.to_str().unwrap());
        std::fs::write(&wrong, text.replace(key.to_str().unwrap(), pair.1.to_str().unwrap()))
            .map_err(|error| error.to_string())?;

        let reload_with = |configuration: &Path| {
            let reload: String = nginx.reload_command().iter().map(|word| format!(" '{word}'")).collect();
            let copy = format!("cp '{}' '{}'", configuration.display(), nginx.config_path().display());
            ["sh", "-c", &format!("{copy} && exec{reload}")].map(str::to_owned)
        };
        let validate = ScriptedCommand::new(directory, "validate", &nginx.validate_command());
        let reload = ScriptedCommand::with_other(directory, "reload", &reload_with(&right), &reload_with(&wrong));
        Ok(Self { nginx, validate, reload, tls })
    }

    fn settings(&self) -> NginxSettings {
        let (fullchain, key) = Self::files(&self.tls);
        let mut settings = NginxSettings::new(fullchain, key);
        settings.validate = CommandSetting::Arguments(self.validate.command());
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.verify = Some(vec![Endpoint::new(self.nginx.address().to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(3));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.nginx.address(), Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(&self.tls).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        match fault {
            Fault::CheckerRefuses => {
                let (fullchain, key) = Self::files(&self.tls);
                self.validate.accept_only_as_now(&[fullchain, key]);
            }
            Fault::CheckerHangs => self.validate.order(Order::Hang),
            other => assert!(self.reload.break_reload(other), "{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.validate.heal();
        self.reload.heal();
    }

    /// Half a request, whose other half comes when the workers that took it have been replaced.
    fn begin_work(&self) -> Option<Work> {
        let mut stream = observe::connect(self.nginx.address(), Some(NAME)).ok()?;
        stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example.test\r\n").ok()?;
        stream.flush().ok()?;
        Some(Box::new(move || {
            let mut answer = String::new();
            let finished = stream.write_all(b"Connection: close\r\n\r\n").and_then(|()| stream.flush());
            // nginx ends such a connection without TLS's own goodbye.
            let _end = finished.and_then(|()| stream.read_to_string(&mut answer));
            if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("nginx answered {answer:?}")) }
        }))
    }
}

//! The conformance suite, with a stand-in for a Windows host and WinRM as its world.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

#[path = "../../support/powershell/tests/windows/mod.rs"]
mod windows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::Period;
use deploy_iis::{BindingName, Iis, IisSettings};
use deploy_powershell::{Connection, Script};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::stand_in::{self, Answer};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, KeyKind, Request};

use crate::windows::{Host, PASSWORD, Serves, Switch, Windows};

const SITE: &str = "Default Web Site";

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A host whose site has a binding without a certificate, and sites, bindings and certificates of others.
struct World {
    windows: Windows,
    site: &'static str,
}

impl Harness for World {
    type Connector = Iis;

    const FAULTS: &'static [Fault] = &[
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::ServesAnother,
        Fault::Unauthenticated,
        Fault::Forbidden,
        Fault::Missing,
        Fault::Overtaken,
        Fault::RateLimited,
        Fault::Busy,
        Fault::DropsBefore,
        Fault::DropsAfter,
        Fault::ArrivesTwice,
        Fault::Slow,
        Fault::Silent,
        Fault::UntrustedTls,
    ];

    const PERMISSION: &'static str = "administrator";

    fn start(directory: &Path) -> Result<Self, String> {
        let mut host = Host::new(Serves::Binding("10.0.0.1", 443, NAME), Script::SetBindings);
        host.brief = true;
        let authority = Authority::new();
        let [other, wide] = ["other.example.test", "wide.example.test"].map(|name| authority.issue(&Request::new(&[name])));
        let other = host.import("My", &other, "by hand");
        let wide = host.import("WebHosting", &wide, "[certdeploy:front2 live]");
        // HTTP/2, OCSP stapling and QUIC are switched off with flags that this project does not know.
        host.bind(SITE, &format!("*:443:{NAME}"), 1 | 4 | 8 | 16, None);
        host.bind(SITE, "*:443:other.example.test", 1, Some((&other, "My")));
        host.bind("Intranet", "*:8443:", 0, Some((&wide, "WebHosting")));
        Ok(Self { windows: Windows::start(directory, host), site: SITE })
    }

    fn settings(&self) -> IisSettings {
        let mut settings = IisSettings::new(Connection::Winrm(self.windows.settings()), vec![BindingName::new(self.site, NAME)]);
        settings.retire_after = Period::new(Duration::from_millis(1));
        settings.verify = Some(vec![Endpoint::new(self.windows.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(1));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        self.windows.served(NAME)
    }

    fn state(&self) -> Tree {
        self.windows.state()
    }

    /// The binding itself, too: only the record of http.sys changes.
    fn foreign(&self) -> Tree {
        let ours = self.windows.with(|host| {
            let of_target = host.stores["My"].iter().filter(|(_, stored)| stored.friendly_name.contains("[certdeploy:front "));
            of_target.map(|(thumbprint, _)| PathBuf::from(format!("store/My/{thumbprint}"))).collect::<Vec<_>>()
        });
        let mapping = PathBuf::from(format!("mapping/!443!{NAME}"));
        self.state().retain(|path| path != mapping && !ours.iter().any(|ours| ours == path))
    }

    fn break_with(&mut self, fault: Fault) {
        let inject = |fault: stand_in::Fault| self.windows.winrm.faults().inject(fault);
        let switch = |switch: Switch| self.windows.with(|host| host.switch = switch);
        match fault {
            Fault::ReloadFails => switch(Switch::FailsOnce),
            Fault::ReloadAlwaysFails => {
                self.windows.with(|host| host.frozen = true);
                switch(Switch::FailsLater(false));
            }
            Fault::ReloadHangs => switch(Switch::NeverAnswers),
            Fault::Ignored => self.windows.with(|host| host.frozen = true),
            Fault::ServesAnother => switch(Switch::ServesAnother("!443!other.example.test")),
            Fault::Unauthenticated => inject(stand_in::Fault::answer(Answer::new(401).with_header("WWW-Authenticate", "Basic"))),
            Fault::Forbidden => self.windows.with(|host| host.elevated = false),
            Fault::Missing => self.site = "Elsewhere",
            Fault::Overtaken => self.windows.with(|host| {
                host.overtaken_by = Some(Box::new(|host| {
                    let (thumbprint, store, _) = host.mappings["!443!other.example.test"].clone();
                    let ours = host.mappings.get_mut(&format!("!443!{NAME}")).unwrap();
                    (ours.0, ours.1) = (thumbprint, store);
                }));
            }),
            Fault::RateLimited => inject(stand_in::Fault::answer(windows::quota_fault()).times(1)),
            Fault::Busy => inject(stand_in::Fault::answer(Answer::new(503).with_header("Retry-After", "1")).times(1)),
            Fault::DropsBefore => switch(Switch::Dropped { done: false }),
            Fault::DropsAfter => switch(Switch::Dropped { done: true }),
            Fault::ArrivesTwice => self.windows.with(|host| host.doubles = true),
            Fault::Slow => inject(stand_in::Fault::late(Duration::from_millis(100))),
            Fault::Silent => inject(stand_in::Fault::never()),
            Fault::UntrustedTls => inject(stand_in::Fault::untrusted_certificate()),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.site = SITE;
        self.windows.winrm.faults().heal();
        self.windows.with(Host::heal);
    }

    /// Windows has RSA and the NIST curves.
    fn serves(kind: KeyKind) -> bool {
        kind != KeyKind::Ed25519
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        vec![(PASSWORD.to_owned(), self.windows.password_file())]
    }
}

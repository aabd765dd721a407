//! The conformance suite, with a stand-in for a Windows host and WinRM as its world.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

#[path = "../../support/powershell/tests/windows/mod.rs"]
mod windows;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::Period;
use deploy_powershell::{Connection, Script};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::stand_in::{self, Answer};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, KeyKind, Request};
use deploy_windows_store::{WindowsStore, WindowsStoreSettings};

use crate::windows::{Host, PASSWORD, Serves, Switch, Windows};

const LIVE: &str = "[certdeploy:front live";

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A host with certificates of others, and a service that takes the one that is live for the target.
struct World {
    windows: Windows,
    store: &'static str,
}

impl Harness for World {
    type Connector = WindowsStore;

    const FAULTS: &'static [Fault] = &[
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
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
        let mut host = Host::new(Serves::Named(LIVE.to_owned()), Script::NameCertificates);
        host.brief = true;
        let authority = Authority::new();
        for (store, friendly_name) in
            [("My", "by hand"), ("My", "Shop [certdeploy:front2 live]"), ("WebHosting", "[certdeploy:front live]")]
        {
            host.import(store, &authority.issue(&Request::new(&["other.example.test"])), friendly_name);
        }
        Ok(Self { windows: Windows::start(directory, host), store: "My" })
    }

    fn settings(&self) -> WindowsStoreSettings {
        let mut settings = WindowsStoreSettings::new(Connection::Winrm(self.windows.settings()));
        settings.store = self.store.to_owned();
        settings.read_access = vec!["IIS AppPool\\shop".to_owned()];
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

    fn foreign(&self) -> Tree {
        let ours = self.windows.with(|host| {
            let of_target = host.stores["My"].iter().filter(|(_, stored)| stored.friendly_name.contains("[certdeploy:front "));
            of_target.map(|(thumbprint, _)| PathBuf::from(format!("store/My/{thumbprint}"))).collect::<Vec<_>>()
        });
        self.state().retain(|path| !ours.iter().any(|ours| ours == path))
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
            Fault::Unauthenticated => inject(stand_in::Fault::answer(Answer::new(401).with_header("WWW-Authenticate", "Basic"))),
            Fault::Forbidden => self.windows.with(|host| host.elevated = false),
            Fault::Missing => self.store = "Elsewhere",
            Fault::Overtaken => self.windows.with(|host| {
                host.overtaken_by = Some(Box::new(|host| {
                    let live = host.stores.get_mut("My").unwrap().values_mut().find(|stored| stored.friendly_name.contains(LIVE));
                    live.unwrap().friendly_name.insert_str(0, "renamed ");
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
        self.store = "My";
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

//! What Apache does with files that it cannot use, and what becomes of it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests that start a real Apache")]

mod server;

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use deploy_apache::{Apache, ApacheSettings};
use deploy_core::certificate::PemFiles;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_core::{Connector as _, Context, ErrorKind, Job, Outcome, Report, Rung, Stage, Target, deploy};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, KeyKind, Request, ScriptedCommand, observe, provider, write_pair};
use tempfile::TempDir;

use crate::server::Server;

const OTHER_NAME: &str = "other.example.test";

/// A server, a source of certificates, and a command that starts the server again.
struct World {
    /// Ends before the directory goes, in which it is told to.
    server: Server,
    directory: TempDir,
    authority: Authority,
    start: ScriptedCommand,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let server = Server::prepare(directory.path()).unwrap();
        std::fs::create_dir(directory.path().join("source")).unwrap();
        let start = ScriptedCommand::new(directory.path(), "start", &server.command("graceful", "wanted.conf"));
        Self { server, directory, authority: Authority::new(), start }
    }

    fn settings(&self) -> ApacheSettings {
        let mut settings = ApacheSettings::new(&self.server.fullchain, &self.server.key);
        settings.validate = CommandSetting::Arguments(self.server.check_command());
        settings.shadow = CommandSetting::Arguments(self.server.shadow_command());
        settings.reload = self.reload("graceful", "wanted.conf");
        settings.restart = CommandSetting::Arguments(self.start.command());
        settings.pid_file = Some(self.server.pid_file());
        settings.verify = Some(vec![Endpoint::new(self.server.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(20));
        settings
    }

    fn reload(&self, action: &str, configuration: &str) -> ReloadSetting {
        ReloadSetting::Command(CommandSetting::Arguments(self.server.command(action, configuration)))
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME, OTHER_NAME]))
    }

    fn deploy(&self, settings: ApacheSettings, issued: &Issued) -> Report {
        let source = self.directory.path().join("source");
        write_pair(&source, issued);
        let target: Arc<dyn Target> = Apache::build("front", settings).unwrap().into();
        let source = PemFiles::new(source.join("fullchain.pem"), source.join("privkey.pem"));
        let context = Context::new(self.directory.path().join("state"), provider());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(deploy(&[Job::new("front", Apache::KIND, target, Arc::new(source))], &context)).remove(0)
    }

    fn served(&self, name: &str) -> Option<String> {
        observe::served_fingerprint(self.server.address, Some(name)).ok()
    }

    fn deployed(&self) -> Issued {
        let issued = self.issue();
        let report = self.deploy(self.settings(), &issued);
        assert_eq!((report.outcome, report.validated), (Outcome::Changed, Rung::V6), "{report:?}");
        assert_eq!(self.served(NAME).as_ref(), Some(&issued.fingerprint));
        issued
    }
}

#[test]
fn a_configuration_that_apache_does_not_start_with_anyway_says_nothing_of_the_new_files() {
    let world = World::new();
    world.deployed();
    // Another host has a certificate and a key that do not match, which `-t` accepts.
    let broken = world.directory.path().join("broken");
    std::fs::create_dir(&broken).unwrap();
    let (certificate, key) = write_pair(&broken, &world.issue().with_key_of(&world.issue()));
    let host = |certificate: &Path, key: &Path| {
        format!("SSLEngine on\nSSLCertificateFile {certificate:?}\nSSLCertificateKeyFile {key:?}\n")
    };
    let hosts = [(NAME, &*host(&world.server.fullchain, &world.server.key)), (OTHER_NAME, &*host(&certificate, &key))];
    for name in ["wanted.conf", "httpd.conf"] {
        world.server.configure_hosts(name, &hosts).unwrap();
    }
    let check = world.server.check_command();
    assert!(Command::new(&check[0]).args(&check[1..]).status().unwrap().success());

    let report = world.deploy(world.settings(), &world.issue());
    let shadow = report.degraded.iter().find(|it| it.what == "shadow").unwrap_or_else(|| panic!("{report:?}"));
    assert!(shadow.why.contains("exit status 1"), "{shadow:?}");
    // The reload then ends Apache, and with this configuration nobody can start it.
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{report:?}");
    assert!(report.error.unwrap().full_message().contains("the server ended in the reload"));
}

#[test]
fn every_virtual_host_is_looked_at_in_private_and_live() {
    let world = World::new();
    let Server { fullchain, key, .. } = &world.server;
    let host = format!("SSLEngine on\nSSLCertificateFile {fullchain:?}\nSSLCertificateKeyFile {key:?}\n");
    for name in ["wanted.conf", "httpd.conf"] {
        world.server.configure_hosts(name, &[(NAME, &host), (OTHER_NAME, &host)]).unwrap();
    }
    let mut settings = world.settings();
    let endpoint = |name| Endpoint::new(world.server.address.to_string()).with_server_name(name);
    settings.verify = Some(vec![endpoint(NAME), endpoint(OTHER_NAME)]);
    for _ in 0..2 {
        let issued = world.issue();
        let report = world.deploy(settings.clone(), &issued);
        assert_eq!((report.outcome, report.degraded.len()), (Outcome::Changed, 0), "{report:?}");
        assert_eq!([NAME, OTHER_NAME].map(|name| world.served(name)), [(); 2].map(|()| Some(issued.fingerprint.clone())));
    }
}

#[test]
fn the_chain_can_be_in_a_file_of_its_own() {
    let world = World::new();
    let [leaf, chain] = ["leaf", "chain"].map(|name| world.directory.path().join("tls").join(name));
    let host = format!(
        "SSLEngine on\nSSLCertificateFile {leaf:?}\nSSLCertificateChainFile {chain:?}\nSSLCertificateKeyFile {:?}\n",
        world.server.key
    );
    world.server.configure_hosts("wanted.conf", &[(NAME, &host)]).unwrap();
    world.server.configure_hosts("httpd.conf", &[(NAME, &host)]).unwrap();
    let mut settings = world.settings();
    (settings.fullchain, settings.leaf, settings.chain) = (None, Some(leaf), Some(chain));
    let issued = world.issue();
    let report = world.deploy(settings, &issued);
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(observe::served_chain(world.server.address, Some(NAME)).unwrap().len(), 2, "leaf and intermediate");
}

#[test]
fn a_certificate_that_apache_does_not_start_with_is_refused_before_the_switch() {
    let world = World::new();
    let old = world.deployed();
    // OpenSSL takes the elliptic key at this level, and no RSA key of 2048 bits. `apache2 -t` does not ask.
    let Server { fullchain, key, .. } = &world.server;
    let host = format!(
        "SSLEngine on\nSSLCipherSuite DEFAULT@SECLEVEL=3\nSSLCertificateFile {fullchain:?}\nSSLCertificateKeyFile {key:?}\n"
    );
    for name in ["wanted.conf", "httpd.conf"] {
        world.server.configure_hosts(name, &[(NAME, &host)]).unwrap();
    }
    let short = world.authority.issue(&Request::new(&[NAME, OTHER_NAME]).key(KeyKind::Rsa2048));
    let report = world.deploy(world.settings(), &short);
    assert_eq!((report.outcome, report.stage), (Outcome::Rejected, Stage::Validate), "{report:?}");
    let message = report.error.unwrap().full_message();
    assert!(message.contains("a private copy of the server"), "{message}");
    assert_eq!(std::fs::read_to_string(fullchain).unwrap(), old.fullchain_pem);
    assert_eq!((world.start.runs(), world.served(NAME)), (0, Some(old.fingerprint)));

    let long = world.issue();
    let report = world.deploy(world.settings(), &long);
    assert_eq!((report.outcome, report.degraded.len()), (Outcome::Changed, 0), "{report:?}");
    assert_eq!(world.served(NAME), Some(long.fingerprint));
}

#[test]
fn apache_that_ended_in_a_reload_is_started_with_the_old_certificate() {
    let world = World::new();
    let old = world.deployed();
    // The signal is sent, and what Apache then reads names a file that is not there.
    world.server.configure("broken.conf", &world.directory.path().join("missing"), &world.server.key).unwrap();
    let mut settings = world.settings();
    settings.shadow = CommandSetting::Arguments(Vec::new());
    settings.reload = world.reload("signal", "broken.conf");
    let report = world.deploy(settings, &world.issue());
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    let error = report.error.unwrap();
    assert_eq!((error.kind(), error.stage()), (ErrorKind::ReloadFailed, Some(Stage::Verify)), "{error:?}");
    assert!(error.full_message().contains("the server ended in the reload"), "{}", error.full_message());
    assert_eq!(world.start.runs(), 1);
    assert_eq!(world.served(NAME), Some(old.fingerprint));
}

//! Certificates that a real HAProxy gets over its socket while it runs.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::sync::Arc;

use deploy_core::settings::{CommandSetting, ReloadSetting};
use deploy_core::{Certificate, Connector as _, Target, secret::SecretBytes};
use deploy_core::{Context, ErrorKind, Job, Outcome, Report, Stage, deploy};
use deploy_haproxy::{Haproxy, HaproxySettings};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, Order, Request, observe, own_address, provider};
use tempfile::TempDir;

use crate::server::gate::Gate;
use crate::server::{Server, ask, socket};

/// A HAProxy that serves a first certificate, and settings for its socket.
struct World {
    root: TempDir,
    authority: Authority,
    server: Server,
    settings: HaproxySettings,
}

impl World {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        let server = Server::start(root.path()).unwrap();
        Self::with(root, server)
    }

    fn with(root: TempDir, server: Server) -> Self {
        let mut settings = server.settings();
        settings.runtime = vec![socket(&server.admin())];
        settings.crt_list = Some(server.combined.parent().unwrap().display().to_string());
        Self { root, authority: Authority::new(), server, settings }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    fn deploy(&self, issued: &Issued) -> Report {
        self.deploy_with(&self.settings, issued)
    }

    fn deploy_with(&self, settings: &HaproxySettings, issued: &Issued) -> Report {
        let target: Arc<dyn Target> = Haproxy::build("front", settings.clone()).unwrap().into();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let context = Context::new(self.root.path().join("state"), provider());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(deploy(&[Job::new("front", Haproxy::KIND, target, Arc::new(certificate))], &context)).remove(0)
    }

    fn deployed(&self, issued: &Issued) {
        let report = self.deploy(issued);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(self.served(), issued.fingerprint);
    }

    fn served(&self) -> String {
        observe::served_fingerprint(self.server.address, Some(NAME)).unwrap()
    }

    fn rolled_back(&self, report: &Report, old: &Issued, said: &str) {
        assert_eq!((report.outcome, &self.served()), (Outcome::RolledBack, &old.fingerprint), "{report:?}");
        let error = report.error.as_ref().unwrap();
        assert!(error.full_message().contains(said), "{}", error.full_message());
        assert_eq!(fs::read_to_string(&self.server.combined).unwrap(), combined(old));
        assert_eq!(self.open_transaction(), None);
    }

    fn open_transaction(&self) -> Option<String> {
        self.server.ask("show ssl cert\n").lines().find_map(|line| line.strip_prefix('*')).map(str::to_owned)
    }
}

fn combined(issued: &Issued) -> String {
    issued.fullchain_pem.clone() + &issued.key_pem
}

/// More than a buffer of HAProxy holds.
fn large(world: &World) -> Issued {
    let issued = world.authority.issue_deep(&Request::new(&[NAME]), 30);
    assert!(combined(&issued).len() > 16384, "{}", combined(&issued).len());
    issued
}

#[test]
fn no_connection_is_dropped_in_fifty_renewals() {
    let mut world = World::start();
    world.settings.validate = CommandSetting::Arguments(Vec::new());
    world.deployed(&world.issue());
    let worker = world.server.worker();
    let mut client = BufReader::new(observe::connect(world.server.address, Some(NAME)).unwrap());
    for turn in 0..50 {
        world.deployed(&world.issue());
        client.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: www.example.test\r\n\r\n").unwrap();
        let (mut line, mut length) = (String::new(), 0);
        while line != "\r\n" {
            line.clear();
            assert_ne!(client.read_line(&mut line).unwrap(), 0, "the connection was closed after {turn} renewals");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
        }
        let mut body = vec![0; length];
        client.read_exact(&mut body).unwrap();
        assert_eq!(body, b"ok");
    }
    assert_eq!(world.server.worker(), worker);
}

#[test]
fn a_restart_serves_what_was_deployed_over_the_socket() {
    let mut world = World::start();
    let [first, second] = [world.issue(), world.issue()];
    world.deployed(&first);
    world.deployed(&second);
    world.server.restart().unwrap();
    assert_eq!(world.served(), second.fingerprint);
}

#[test]
fn a_mismatch_is_refused_at_the_commit_and_aborted() {
    let world = World::start();
    let old = world.issue();
    world.deployed(&old);
    // The engine lets no such pair through, so that something between it and HAProxy makes one.
    let mixed = world.issue().fullchain_pem + &world.issue().key_pem;
    let gate = Gate::open(&world.root.path().join("gate.sock"), &world.server.admin(), mixed);
    let mut settings = world.settings.clone();
    settings.runtime = vec![socket(&gate.path)];
    gate.order(Order::OtherOnce);
    let report = world.deploy_with(&settings, &world.issue());
    world.rolled_back(&report, &old, "inconsistencies between private key and certificate");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::ReloadFailed);
}

#[test]
fn a_transaction_of_somebody_else_is_left_alone() {
    let world = World::start();
    let old = world.issue();
    world.deployed(&old);
    let other = world.server.directory.join("tls/other.pem").display().to_string();
    assert!(world.server.ask(&format!("new ssl cert {other}\n")).contains("New empty"));
    let begun = format!("set ssl cert {other} <<\n{}\n", combined(&world.issue()));
    assert!(ask(&world.server.admin(), begun.as_bytes()).unwrap().contains("created"));

    let report = world.deploy(&world.issue());
    assert_eq!((report.outcome, world.served()), (Outcome::RolledBack, old.fingerprint), "{report:?}");
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.next_step().contains(&other), "{}", error.next_step());
    assert_eq!(world.open_transaction().as_deref(), Some(&*other));
}

#[test]
fn an_unknown_name_is_added_to_the_crt_list() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("tls")).unwrap();
    let list = root.path().join("list.txt");
    fs::write(&list, "").unwrap();
    let server = Server::start_with(root.path(), &format!("crt-list {}", list.display()), &[]).unwrap();
    let mut world = World::with(root, server);
    world.settings.crt_list = Some(list.display().to_string());
    let first = world.issue();
    world.deployed(&first);
    let listed = world.server.ask(&format!("show ssl crt-list {}\n", list.display()));
    assert!(listed.contains(&world.server.combined.display().to_string()), "{listed}");
    world.deployed(&world.issue());
}

#[test]
fn an_unknown_name_without_a_list_is_an_error_that_says_what_to_do() {
    let mut world = World::start();
    world.settings.crt_list = None;
    let report = world.deploy(&world.issue());
    assert_eq!((report.outcome, report.stage), (Outcome::RolledBack, Stage::RollBack), "{report:?}");
    let error = report.error.unwrap();
    assert!(error.next_step().contains("runtime_path"), "{}", error.next_step());
    assert!(!world.server.combined.exists());
}

#[test]
fn an_unknown_name_is_loaded_by_the_reload_that_is_configured() {
    let mut world = World::start();
    world.settings.crt_list = None;
    world.settings.master_socket = Some(socket(&world.server.master()));
    let worker = world.server.worker();
    world.deployed(&world.issue());
    assert_ne!(world.server.worker(), worker);
    let worker = world.server.worker();
    world.deployed(&world.issue());
    assert_eq!(world.server.worker(), worker, "HAProxy knows the name now, and needs no reload");
}

#[test]
fn haproxy_may_have_another_name_for_the_file() {
    let root = TempDir::new().unwrap();
    let tls = root.path().join("tls");
    fs::create_dir(&tls).unwrap();
    let link = root.path().join("as it; sees");
    std::os::unix::fs::symlink(&tls, &link).unwrap();
    let server = Server::start_with(root.path(), &format!("crt '{}'", link.display()), &[]).unwrap();
    let mut world = World::with(root, server);
    world.settings.crt_list = Some(link.display().to_string());
    world.settings.runtime_path = Some(link.join("www.pem").display().to_string());
    let first = world.issue();
    world.deployed(&first);
    world.deployed(&world.issue());
    let listed = world.server.ask("show ssl cert\n");
    assert!(listed.contains(&link.join("www.pem").display().to_string()), "{listed}");
}

#[test]
fn what_does_not_fit_the_buffer_takes_a_reload() {
    let mut world = World::start();
    world.deployed(&world.issue());
    let worker = world.server.worker();
    world.settings.master_socket = Some(socket(&world.server.master()));
    world.deployed(&large(&world));
    assert_ne!(world.server.worker(), worker);
}

#[test]
fn what_does_not_fit_the_buffer_is_an_error_where_no_reload_is_configured() {
    let world = World::start();
    let old = world.issue();
    world.deployed(&old);
    let report = world.deploy(&large(&world));
    world.rolled_back(&report, &old, "do not fit its buffer");
    assert!(report.error.unwrap().next_step().contains("tune.bufsize"));
}

#[test]
fn a_socket_without_level_admin_is_an_error_that_says_so() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("tls")).unwrap();
    let operator = root.path().join("operator.sock");
    let line = format!("stats socket {} level operator", operator.display());
    let tls = format!("crt {}/tls", root.path().display());
    let server = Server::start_with(root.path(), &tls, &[&line]).unwrap();
    let mut world = World::with(root, server);
    let old = world.issue();
    world.deployed(&old);
    world.settings.runtime = vec![socket(&operator)];
    let report = world.deploy(&world.issue());
    assert_eq!((report.outcome, world.served()), (Outcome::RolledBack, old.fingerprint), "{report:?}");
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.next_step().contains("level admin"), "{}", error.next_step());
}

#[test]
fn haproxy_is_told_over_a_port() {
    let root = TempDir::new().unwrap();
    fs::create_dir(root.path().join("tls")).unwrap();
    let port = own_address();
    let line = format!("stats socket ipv4@{port} level admin");
    let server = Server::start_with(root.path(), &format!("crt {}/tls", root.path().display()), &[&line]).unwrap();
    let mut world = World::with(root, server);
    world.settings.runtime = vec![port.to_string().try_into().unwrap()];
    world.deployed(&world.issue());
    world.deployed(&world.issue());
}

#[test]
fn a_file_that_haproxy_would_not_serve_is_refused_before_the_switch() {
    let mut world = World::start();
    world.settings.shadow = CommandSetting::Arguments(world.server.shadow_command());
    let old = world.issue();
    for issued in [&world.issue(), &old] {
        let report = world.deploy(issued);
        assert_eq!((report.outcome, report.degraded.len()), (Outcome::Changed, 0), "{report:?}");
        assert_eq!(world.served(), issued.fingerprint);
    }
    // After a restart, HAProxy would look elsewhere. `haproxy -c` has nothing against that.
    let elsewhere = world.root.path().join("elsewhere.pem");
    fs::write(&elsewhere, combined(&world.issue())).unwrap();
    world.server.configure("haproxy.cfg", &format!("crt {}", elsewhere.display())).unwrap();
    let report = world.deploy(&world.issue());
    assert_eq!((report.outcome, report.stage), (Outcome::Rejected, Stage::Validate), "{report:?}");
    let message = report.error.unwrap().full_message();
    assert!(message.contains("a private copy of the server"), "{message}");
    assert_eq!((world.served(), fs::read_to_string(&world.server.combined).unwrap()), (old.fingerprint.clone(), combined(&old)));
}

/// Two HAProxys that serve one file.
struct Two {
    first: World,
    second: Server,
    _root: TempDir,
}

impl Two {
    fn start() -> Self {
        let (mut first, root) = (World::start(), TempDir::new().unwrap());
        let tls = format!("crt {}", first.server.combined.parent().unwrap().display());
        let second = Server::start_with(root.path(), &tls, &[]).unwrap();
        first.settings.runtime.push(socket(&second.admin()));
        first.settings.verify.as_mut().unwrap().extend(second.settings().verify.unwrap());
        Self { first, second, _root: root }
    }

    fn served(&self) -> [String; 2] {
        [self.first.served(), observe::served_fingerprint(self.second.address, Some(NAME)).unwrap()]
    }
}

#[test]
fn every_socket_is_told() {
    let two = Two::start();
    for _ in 0..2 {
        let issued = two.first.issue();
        two.first.deployed(&issued);
        assert_eq!(two.served(), [issued.fingerprint.clone(), issued.fingerprint]);
    }
}

#[test]
fn one_dead_socket_rolls_all_back() {
    let mut two = Two::start();
    let old = two.first.issue();
    two.first.deployed(&old);
    two.first.settings.runtime.push(socket(&two.first.root.path().join("dead.sock")));
    let report = two.first.deploy(&two.first.issue());
    two.first.rolled_back(&report, &old, "dead.sock");
    assert_eq!(two.served(), [old.fingerprint.clone(), old.fingerprint]);
    assert!(report.error.unwrap().next_step().contains("start HAProxy"));
}

/// What F38 is about: HAProxy loads whatever it finds in the directory.
#[test]
fn f38_nothing_but_the_live_file_is_ever_in_the_directory() {
    let mut world = World::start();
    world.settings.crt_list = None;
    world.settings.runtime = Vec::new();
    world.settings.master_socket = Some(socket(&world.server.master()));
    let live = vec![world.server.combined.display().to_string()];
    for turn in 0..10 {
        world.deployed(&world.issue());
        let answer = world.server.ask("show ssl cert\n");
        let loaded: Vec<String> = answer.lines().filter(|line| line.starts_with('/')).map(str::to_owned).collect();
        assert_eq!(loaded, live, "after {turn} renewals");
    }
    let tls = world.server.directory.join("tls");
    let names = fs::read_dir(&tls).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let (hidden, shown): (Vec<String>, Vec<String>) = names.partition(|name| name.starts_with('.'));
    assert_eq!((hidden.len(), shown), (1, vec!["www.pem".to_owned()]), "the backups are in a hidden directory: {hidden:?}");
}

#[test]
fn the_master_says_that_a_reload_failed_and_the_old_worker_goes_on() {
    let mut world = World::start();
    world.settings.runtime = Vec::new();
    world.settings.crt_list = None;
    world.settings.validate = CommandSetting::Arguments(Vec::new());
    world.settings.master_socket = Some(socket(&world.server.master()));
    let old = world.issue();
    world.deployed(&old);
    let configuration = world.server.directory.join("haproxy.cfg");
    let right = fs::read_to_string(&configuration).unwrap();
    fs::write(&configuration, "nonsense\n").unwrap();
    let report = world.deploy(&world.issue());
    assert_eq!((report.outcome, world.served()), (Outcome::RolledBack, old.fingerprint), "{report:?}");
    assert!(report.error.unwrap().full_message().contains("HAProxy could not load its configuration"));
    fs::write(&configuration, right).unwrap();
    world.deployed(&world.issue());
}

#[test]
fn a_master_that_somebody_else_has_just_reloaded_is_waited_for() {
    let mut world = World::start();
    world.settings.runtime = Vec::new();
    world.settings.crt_list = None;
    world.settings.validate = CommandSetting::Arguments(Vec::new());
    world.settings.master_socket = Some(socket(&world.server.master()));
    for _ in 0..3 {
        world.server.signal_a_reload();
        world.deployed(&world.issue());
    }
}

#[test]
fn a_failed_reload_by_a_signal_shows_in_what_is_served() {
    let mut world = World::start();
    world.settings.runtime = Vec::new();
    world.settings.crt_list = None;
    world.settings.validate = CommandSetting::Arguments(Vec::new());
    fs::write(world.server.directory.join("broken.cfg"), "nonsense\n").unwrap();
    world.server.configure("wanted.cfg", &format!("crt {}/tls", world.server.directory.display())).unwrap();
    let reload = |name| Some(ReloadSetting::Command(CommandSetting::Arguments(world.server.reload_command(name))));
    let (wanted, broken) = (reload("wanted.cfg"), reload("broken.cfg"));
    world.settings.reload = wanted;
    let old = world.issue();
    world.deployed(&old);
    world.settings.reload = broken;
    world.settings.verify_timeout = deploy_core::settings::Period::new(std::time::Duration::from_millis(500));
    let report = world.deploy(&world.issue());
    assert_eq!((report.outcome, world.served()), (Outcome::RolledBack, old.fingerprint), "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::VerifyFailed);
}

//! The configuration of docs/dovecot.md as it stands there, and what a real Dovecot does with what is bad.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests that start a real Dovecot")]

mod server;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use deploy_core::command::Command;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Error, ErrorKind, Job, Look, Outcome, Registry, Report, Rung, Stage, deploy};
use deploy_dovecot::Dovecot;
use deploy_testkit::{Authority, Issued, KeyKind, Order, Request, ScriptedCommand, observe, provider};
use tempfile::TempDir;

use crate::server::{Server, can_start};

const NAME: &str = "mail.example.com";

/// Its server ends before its directory goes.
struct World {
    server: Server,
    authority: Authority,
    context: Context,
    root: TempDir,
}

impl World {
    /// A Dovecot that has the lines of the page in `wanted.conf`, and does not run.
    fn prepare() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("world");
        fs::create_dir(&directory).unwrap();
        let server = Server::prepare(&directory).unwrap();
        server.configure_own("first.conf").unwrap();
        let context = Context::new(root.path().join("state"), provider());
        let world = Self { server, authority: Authority::new(), context, root };
        world.server.configure("wanted.conf", &world.adapted(&block("ini 10-ssl.conf"))).unwrap();
        world
    }

    fn start() -> Self {
        let world = Self::prepare();
        world.server.run("start", "first.conf").unwrap();
        world
    }

    fn adapted(&self, text: &str) -> String {
        let server = &self.server;
        let text = text.replace("/etc/dovecot/tls", server.directory.join("tls").to_str().unwrap());
        let ports = [(110, server.pop3), (143, server.imap), (993, server.imaps), (995, server.pop3s), (4190, server.sieve)];
        ports.iter().fold(text, |text, (port, address)| text.replace(&format!("\"127.0.0.1:{port}\""), &format!("\"{address}\"")))
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    /// The target of the page, but for the commands, whose defaults are for the Dovecot of the machine.
    async fn deploy(&self, issued: &Issued, reload: &[String]) -> Report {
        let mut target = toml::from_str::<toml::Table>(&self.adapted(&block("toml"))).unwrap()["target"][0].clone();
        let target = target.as_table_mut().unwrap();
        assert_eq!(target.remove("kind").unwrap().as_str(), Some("dovecot"));
        ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
        target.insert("validate".to_owned(), self.server.check_command().into());
        target.insert("reload".to_owned(), reload.to_vec().into());
        target.insert("shadow".to_owned(), self.server.shadow_command().into());
        target.insert("pid_file".to_owned(), self.server.pid_file().display().to_string().into());
        target.insert("verify_timeout".to_owned(), "2s".into());
        let settings = serde_json::to_value(target).unwrap();
        let target = Registry::new().with::<Dovecot>().get("dovecot").unwrap().build("dovecot", settings).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        deploy(&[Job::new("dovecot", "dovecot", Arc::from(target), Arc::new(certificate))], &self.context).await.remove(0)
    }

    fn reload(&self) -> Vec<String> {
        self.server.command("reload", "wanted.conf")
    }

    #[track_caller]
    fn assert_served(&self, issued: &Issued) {
        for address in [self.server.imaps, self.server.pop3s] {
            let served = observe::served_fingerprint(address, Some(NAME));
            assert_eq!(served.as_ref(), Ok(&issued.fingerprint), "{}", self.server.log());
        }
    }
}

/// The code block of the page that begins with this.
fn block(opening: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/dovecot.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{opening}\n")).unwrap_or_else(|| panic!("the page has no {opening}"));
    rest.split("```").next().unwrap().to_owned()
}

fn kind(report: &Report) -> Option<ErrorKind> {
    report.error.as_ref().map(Error::kind)
}

#[tokio::test]
async fn five_ports_of_the_page_live_through_a_renewal() {
    if !can_start() {
        return;
    }
    let world = World::start();
    for _ in 0..2 {
        let issued = world.issue();
        let report = world.deploy(&issued, &world.reload()).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}\n{}", world.server.log());
        world.assert_served(&issued);
        assert_eq!(world.deploy(&issued, &world.reload()).await.outcome, Outcome::Unchanged);
    }
}

#[tokio::test]
async fn bad_pair_is_seen_and_rolled_back_although_checker_and_reload_accept_it() {
    if !can_start() {
        return;
    }
    let world = World::start();
    let old = world.issue();
    assert_eq!(world.deploy(&old, &world.reload()).await.outcome, Outcome::Changed);

    // The reload makes Dovecot load a key that does not belong to the certificate, once.
    let wrong = world.root.path().join("wrong");
    fs::create_dir(&wrong).unwrap();
    let (fullchain, key) = deploy_testkit::write_pair(&wrong, &world.issue().with_key_of(&world.issue()));
    world.server.configure("wrong.conf", &server::ssl_settings(&fullchain, &key)).unwrap();
    let other = world.server.command("reload", "wrong.conf");
    let breaking = ScriptedCommand::with_other(world.root.path(), "breaking", &world.reload(), &other);
    breaking.order(Order::OtherOnce);
    let report = world.deploy(&world.issue(), &breaking.command()).await;
    assert_eq!((report.outcome, kind(&report)), (Outcome::RolledBack, Some(ErrorKind::VerifyFailed)), "{report:?}");
    assert!(world.server.log().contains("Key is for a different cert"), "{}", world.server.log());
    world.assert_served(&old);
}

#[tokio::test]
async fn certificate_that_dovecot_cannot_use_is_refused_before_the_switch() {
    if !can_start() {
        return;
    }
    let world = World::start();
    let old = world.issue();
    assert_eq!(world.deploy(&old, &world.reload()).await.outcome, Outcome::Changed);

    // OpenSSL takes the elliptic key at this level, and no RSA key of 2048 bits. `doveconf -n` does not ask.
    let strict = world.adapted(&block("ini 10-ssl.conf")) + "ssl_cipher_list = DEFAULT@SECLEVEL=3\n";
    for name in ["wanted.conf", "dovecot.conf"] {
        world.server.configure(name, &strict).unwrap();
    }
    let short = world.authority.issue(&Request::new(&[NAME]).key(KeyKind::Rsa2048));
    let report = world.deploy(&short, &world.reload()).await;
    assert_eq!((report.outcome, report.stage), (Outcome::Rejected, Stage::Validate), "{report:?}");
    let message = report.error.unwrap().full_message();
    assert!(message.contains("a private copy of the server"), "{message}");
    assert_eq!(fs::read_to_string(&world.server.fullchain).unwrap(), old.fullchain_pem);
    world.assert_served(&old);

    let long = world.issue();
    let report = world.deploy(&long, &world.reload()).await;
    assert_eq!((report.outcome, report.validated, report.degraded.len()), (Outcome::Changed, Rung::V6, 0), "{report:?}");
    world.assert_served(&long);
}

#[test]
fn what_dovecot_shows_of_its_configuration_is_understood() {
    if !can_start() {
        return;
    }
    let world = World::prepare();
    let used = world.server.directory.join("wanted.conf").display().to_string();
    let look = Look::new(&world.context).with_command(Command::new(["doveconf", "-nP", "-c", &used]));
    let found = Registry::new().with::<Dovecot>().get("dovecot").unwrap().discover(&look).unwrap();
    let [found] = &found[..] else { panic!("{found:?}") };
    let expected = serde_json::json!({
        "fullchain": world.server.fullchain,
        "key": world.server.key,
        "verify": [{ "connect": world.server.imap.to_string(), "starttls": "imap" }],
    });
    assert_eq!(serde_json::Value::Object(found.settings.clone()), expected);
}

#[tokio::test]
async fn configuration_that_dovecot_cannot_read_is_found_before_anything_changes() {
    if !can_start() {
        return;
    }
    let world = World::prepare();
    world.server.configure("dovecot.conf", "no_such_setting = yes").unwrap();
    let report = world.deploy(&world.issue(), &world.reload()).await;
    assert_eq!((report.outcome, kind(&report)), (Outcome::Rejected, Some(ErrorKind::ValidateFailed)), "{report:?}");
    assert!(!world.server.key.exists());
}

#[tokio::test]
async fn dovecot_that_does_not_run_cannot_be_reloaded_and_nothing_stays() {
    if !can_start() {
        return;
    }
    let world = World::prepare();
    world.server.configure_own("dovecot.conf").unwrap();
    let report = world.deploy(&world.issue(), &world.reload()).await;
    assert_eq!((report.outcome, kind(&report)), (Outcome::RolledBack, Some(ErrorKind::ReloadFailed)), "{report:?}");
    assert!(!world.server.fullchain.exists() && !world.server.key.exists());
}

#[test]
fn dovecot_does_not_start_without_its_files() {
    if !can_start() {
        return;
    }
    let world = World::prepare();
    world.server.configure("missing.conf", &server::ssl_settings(&world.server.fullchain, &world.server.key)).unwrap();
    let error = world.server.run("start", "missing.conf").unwrap_err();
    assert!(error.contains("Can't open file"), "{error}");
}

//! Postfix and Dovecot with one certificate, as docs/postfix.md has them: one transaction with two reloads.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that starts real servers")]

#[path = "../../dovecot/tests/server/mod.rs"]
mod dovecot;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, ErrorKind, Job, Outcome, Registry, Report, deploy};
use deploy_testkit::{Authority, Issued, Order, Request, ScriptedCommand, observe, provider};
use tempfile::TempDir;
use toml::Table;

const NAME: &str = "mail.example.com";

/// Its servers end before their directory goes.
struct World {
    postfix: server::Server,
    dovecot: dovecot::Server,
    reloads: [ScriptedCommand; 2],
    targets: Vec<Table>,
    authority: Authority,
    context: Context,
    _root: TempDir,
}

impl World {
    fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = |name: &str| -> PathBuf {
            let directory = root.path().join(name);
            fs::create_dir(&directory).unwrap();
            directory
        };
        let postfix = server::Server::start(&directory("postfix")).unwrap();
        let dovecot = dovecot::Server::start(&directory("dovecot")).unwrap();
        let reload = |name, command: Vec<String>| ScriptedCommand::new(root.path(), name, &command);
        let reloads = [
            reload("reload-postfix", postfix.command("reload", "wanted.cf")),
            reload("reload-dovecot", dovecot.command("reload", "wanted.conf")),
        ];
        let text = block("toml together")
            .replace("/etc/postfix/tls", postfix.chain_file.parent().unwrap().to_str().unwrap())
            .replace("/etc/dovecot/tls", dovecot.key.parent().unwrap().to_str().unwrap())
            .replace("127.0.0.1:25\"", &format!("{}\"", postfix.smtp))
            .replace("127.0.0.1:993\"", &format!("{}\"", dovecot.imaps));
        let mut targets: Vec<Table> = toml::from_str::<Table>(&text).unwrap().remove("target").unwrap().try_into().unwrap();
        for (target, reload) in targets.iter_mut().zip(&reloads) {
            assert_eq!(target.remove("service").unwrap().as_str(), Some("mail"), "what makes them one transaction");
            assert_eq!(target.remove("certificate").unwrap().as_str(), Some("mail"));
            target.insert("reload".to_owned(), reload.command().into());
            target.insert("verify_timeout".to_owned(), "2s".into());
        }
        targets[1].insert("validate".to_owned(), dovecot.check_command().into());
        targets[1].insert("shadow".to_owned(), dovecot.shadow_command().into());
        targets[1].insert("pid_file".to_owned(), dovecot.pid_file().display().to_string().into());
        let context = Context::new(root.path().join("state"), provider());
        Self { postfix, dovecot, reloads, targets, authority: Authority::new(), context, _root: root }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    /// As the program does it with targets of one service: all of them in one call.
    async fn deploy(&self, issued: &Issued) -> Vec<Report> {
        let registry = Registry::new().with::<deploy_postfix::Postfix>().with::<deploy_dovecot::Dovecot>();
        let jobs = self.targets.clone().into_iter().map(|mut target| {
            let [kind, name] = ["kind", "name"].map(|field| target.remove(field).unwrap().as_str().unwrap().to_owned());
            let settings = serde_json::to_value(target).unwrap();
            let target = registry.get(&kind).unwrap().build(&name, settings).unwrap();
            let key = SecretBytes::from(issued.key_pem.as_bytes());
            let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
            Job::new(name, kind, Arc::from(target), Arc::new(certificate))
        });
        deploy(&jobs.collect::<Vec<_>>(), &self.context).await
    }

    fn served(&self) -> [Result<String, String>; 2] {
        [self.postfix.smtps, self.dovecot.imaps].map(|address| observe::served_fingerprint(address, Some(NAME)))
    }

    fn runs(&self) -> [usize; 2] {
        [self.reloads[0].runs(), self.reloads[1].runs()]
    }
}

/// The code block of the page that begins with this.
fn block(opening: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/postfix.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{opening}\n")).unwrap_or_else(|| panic!("the page has no {opening}"));
    rest.split("```").next().unwrap().to_owned()
}

fn outcomes(reports: &[Report]) -> Vec<Outcome> {
    reports.iter().map(|report| report.outcome).collect()
}

#[tokio::test]
async fn one_certificate_is_one_transaction_with_two_reloads() {
    if !server::can_start() {
        return;
    }
    let world = World::start();
    let issued = world.issue();
    let reports = world.deploy(&issued).await;
    assert_eq!(outcomes(&reports), [Outcome::Changed; 2], "{reports:?}");
    assert_eq!(world.served(), [Ok(issued.fingerprint.clone()), Ok(issued.fingerprint.clone())]);
    assert_eq!(world.runs(), [1, 1]);
    assert_eq!(outcomes(&world.deploy(&issued).await), [Outcome::Unchanged; 2]);
    assert_eq!(world.runs(), [1, 1]);
}

#[tokio::test]
async fn failed_reload_of_dovecot_takes_postfix_back_and_each_is_tried_by_itself() {
    if !server::can_start() {
        return;
    }
    let world = World::start();
    let old = world.issue();
    assert_eq!(outcomes(&world.deploy(&old).await), [Outcome::Changed; 2]);

    // Both there, both back, and then both alone: Dovecot fails only the first time.
    world.reloads[1].order(Order::FailOnce);
    let new = world.issue();
    let reports = world.deploy(&new).await;
    assert_eq!(outcomes(&reports), [Outcome::Changed; 2], "{reports:?}");
    assert!(reports.iter().all(|report| report.warnings.iter().any(|warning| warning.contains("by itself"))), "{reports:?}");
    assert_eq!(world.runs(), [1 + 3, 1 + 3]);

    // A Dovecot that stays broken goes back, and does not keep Postfix from being renewed.
    world.reloads[1].order(Order::Fail);
    let newest = world.issue();
    let reports = world.deploy(&newest).await;
    assert_eq!(outcomes(&reports), [Outcome::Changed, Outcome::RolledBack], "{reports:?}");
    assert_eq!(reports[1].error.as_ref().map(deploy_core::Error::kind), Some(ErrorKind::ReloadFailed));
    assert_eq!(world.served(), [Ok(newest.fingerprint), Ok(new.fingerprint)]);
}

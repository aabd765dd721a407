//! How a real Caddy is made to read its files again, and when it does not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use deploy_caddy::{Admin, Caddy, CaddySettings};
use deploy_core::secret::SecretBytes;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_core::{Certificate, Connector as _, Context, ErrorKind, Job, Outcome, Report, Target, deploy};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, Request, observe, own_address, provider, write_pair};
use tempfile::TempDir;

use crate::server::Server;

/// A Caddy that serves a first certificate.
struct World {
    root: TempDir,
    authority: Authority,
    server: Server,
    settings: CaddySettings,
    first: Issued,
}

impl World {
    async fn start(admin: Option<String>) -> Self {
        let root = TempDir::new().unwrap();
        let server = match admin {
            Some(admin) => Server::start_with(root.path(), admin),
            None => Server::start(root.path()),
        };
        let (server, authority) = (server.unwrap(), Authority::new());
        let first = authority.issue(&Request::new(&[NAME]));
        let world = Self { settings: server.settings(), root, authority, server, first };
        let report = world.deploy(&world.first).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        world
    }

    /// From now on Caddy is told over its admin API.
    fn over_the_admin_api(&mut self) {
        self.settings.reload = None;
        self.settings.admin = Some(Admin::try_from(self.server.admin.clone()).unwrap());
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        let target: Arc<dyn Target> = Caddy::build("front", self.settings.clone()).unwrap().into();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let context = Context::new(self.root.path().join("state"), provider());
        deploy(&[Job::new("front", Caddy::KIND, target, Arc::new(certificate))], &context).await.remove(0)
    }

    async fn renews(&self) {
        let new = self.issue();
        let report = self.deploy(&new).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(self.served(), new.fingerprint);
    }

    fn served(&self) -> String {
        observe::served_fingerprint(self.server.address, Some(NAME)).unwrap()
    }

    fn is_as_at_first(&self, report: &Report) {
        assert_eq!((report.outcome, self.served()), (Outcome::RolledBack, self.first.fingerprint.clone()), "{report:?}");
        assert_eq!(fs::read_to_string(&self.server.fullchain).unwrap(), self.first.fullchain_pem);
        assert_eq!(fs::read_to_string(&self.server.key).unwrap(), self.first.key_pem);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_without_force_does_nothing_and_is_no_success() {
    let mut world = World::start(None).await;
    let mut command = world.server.reload_command();
    command.retain(|word| word != "--force");
    world.settings.reload = Some(ReloadSetting::Command(CommandSetting::Arguments(command)));
    world.settings.verify_timeout = Period::new(Duration::from_millis(500));
    let report = world.deploy(&world.issue()).await;
    world.is_as_at_first(&report);
    assert_eq!(report.error.unwrap().kind(), ErrorKind::VerifyFailed);
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_is_told_over_a_unix_socket() {
    let mut world = World::start(None).await;
    world.over_the_admin_api();
    world.renews().await;
    world.renews().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caddy_is_told_over_a_port() {
    let mut world = World::start(Some(own_address().to_string())).await;
    world.over_the_admin_api();
    world.renews().await;
    world.renews().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_changed_over_the_admin_api_stays() {
    let mut world = World::start(None).await;
    world.over_the_admin_api();
    let [tls, grace] = [("apps/tls/certificates/load_files", "[]"), ("apps/http/grace_period", "7000000000")];
    server::admin(&world.server.admin, "POST", &format!("/config/{}", grace.0), grace.1).unwrap();
    let files = server::admin(&world.server.admin, "GET", &format!("/config/{}", tls.0), "").unwrap();
    world.renews().await;
    assert!(server::admin(&world.server.admin, "GET", &format!("/config/{}", grace.0), "").unwrap().contains(grace.1));
    assert_eq!(server::admin(&world.server.admin, "GET", &format!("/config/{}", tls.0), "").unwrap(), files);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caddy_cannot_load_is_rolled_back() {
    let mut world = World::start(None).await;
    // Caddy loads all its certificates or none: here it is another site's that is gone.
    let other = world.root.path().join("other");
    fs::create_dir(&other).unwrap();
    let (fullchain, key) = write_pair(&other, &world.issue());
    let text = fs::read_to_string(world.server.caddyfile()).unwrap();
    let site =
        format!("https://other.example.test:{} {{\n\ttls {} {}\n}}\n", own_address().port(), fullchain.display(), key.display());
    fs::write(world.server.caddyfile(), text + &site).unwrap();
    world.renews().await;
    world.first = world.issue();
    assert_eq!(world.deploy(&world.first).await.outcome, Outcome::Changed);

    fs::remove_file(key).unwrap();
    world.settings.validate = CommandSetting::Arguments(Vec::new());
    world.over_the_admin_api();
    let report = world.deploy(&world.issue()).await;
    world.is_as_at_first(&report);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ReloadFailed);
    assert!(error.full_message().contains("no such file"), "{}", error.full_message());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caddy_that_does_not_listen_is_an_error_that_says_so() {
    let mut world = World::start(None).await;
    world.settings.reload = None;
    world.settings.admin = Some(Admin::Unix(world.root.path().join("dead.sock")));
    let report = world.deploy(&world.issue()).await;
    world.is_as_at_first(&report);
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.next_step().contains("start Caddy"), "{}", error.next_step());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caddy_that_loads_no_files_is_an_error_that_says_so() {
    let root = TempDir::new().unwrap();
    let server = Server::start(root.path()).unwrap();
    let (settings, authority) = (server.settings(), Authority::new());
    let first = authority.issue(&Request::new(&[NAME]));
    let mut world = World { root, authority, server, settings, first };
    world.over_the_admin_api();
    let report = world.deploy(&world.first).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    let error = report.error.unwrap();
    assert!(error.full_message().contains("loads no certificates from files"), "{}", error.full_message());
    assert!(!world.server.key.exists());
}

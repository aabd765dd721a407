//! Certificates in the configuration of a real Caddy, by its admin API.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod caddy;

use std::fs;
use std::sync::Arc;

use deploy_caddy_api::CaddyApi;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Connector as _, Context, ErrorKind, Job, Outcome, Registry, Report, deploy};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, Request, observe, provider, write_pair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::caddy::{Caddy, LOADED, ask, entry};

struct World {
    root: TempDir,
    authority: Authority,
    caddy: Caddy,
}

impl World {
    fn start(loaded: &[Value]) -> Self {
        let root = TempDir::new().unwrap();
        Self { caddy: Caddy::start(root.path(), loaded).unwrap(), authority: Authority::new(), root }
    }

    fn issue(&self, name: &str) -> Issued {
        self.authority.issue(&Request::new(&[name]))
    }

    fn settings(&self, name: &str) -> Value {
        json!({
            "admin": format!("unix/{}", self.caddy.socket.display()),
            "verify": [{ "connect": self.caddy.address.to_string(), "server_name": name }],
            "verify_timeout": "2s",
        })
    }

    async fn deploy(&self, settings: Value, issued: &Issued) -> Report {
        let target = Registry::new().with::<CaddyApi>().get(CaddyApi::KIND).unwrap().build("front", settings).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let context = Context::new(self.root.path().join("state"), provider());
        deploy(&[Job::new("front", CaddyApi::KIND, Arc::from(target), Arc::new(certificate))], &context).await.remove(0)
    }

    fn loaded(&self) -> Vec<Value> {
        serde_json::from_slice(&self.caddy.get(LOADED).body).unwrap()
    }

    fn served(&self, name: &str) -> String {
        observe::served_fingerprint(self.caddy.address, Some(name)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caddy_without_certificates_gets_its_first_one() {
    let world = World::start(&[]);
    for _ in 0..2 {
        let issued = world.issue(NAME);
        let report = world.deploy(world.settings(NAME), &issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(world.served(NAME), issued.fingerprint);
        assert_eq!(world.loaded(), [entry("certdeploy-front", &issued)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_and_the_entries_of_others_stay() {
    let authority = Authority::new();
    let [ours, theirs] = [NAME, "other.example.test"].map(|name| authority.issue(&Request::new(&[name])));
    let mut tagged = entry("certdeploy-front", &ours);
    tagged["tags"] = json!(["front", "edge"]);
    let world = World::start(&[entry("theirs", &theirs), tagged]);
    let new = world.issue(NAME);
    let report = world.deploy(world.settings(NAME), &new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let mut tagged = entry("certdeploy-front", &new);
    tagged["tags"] = json!(["front", "edge"]);
    assert_eq!(world.loaded(), [entry("theirs", &theirs), tagged]);
    assert_eq!((world.served(NAME), world.served("other.example.test")), (new.fingerprint, theirs.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_caddy_cannot_load_leaves_the_old_one() {
    let world = World::start(&[]);
    let old = world.issue(NAME);
    assert_eq!(world.deploy(world.settings(NAME), &old).await.outcome, Outcome::Changed);
    // Caddy loads its whole configuration or nothing: here it is a file of somebody else's that is gone.
    let (certificate, key) = write_pair(world.root.path(), &world.issue("other.example.test"));
    let theirs = json!([{ "certificate": certificate, "key": key }]).to_string();
    let put = ask(&world.caddy.socket, "PUT", "/config/apps/tls/certificates/load_files", &[], theirs.as_bytes());
    assert_eq!(put.status, 200);
    fs::remove_file(key).unwrap();

    let report = world.deploy(world.settings(NAME), &world.issue(NAME)).await;
    assert_eq!((report.outcome, world.served(NAME)), (Outcome::RolledBack, old.fingerprint.clone()), "{report:?}");
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ReloadFailed);
    assert!(error.full_message().contains("no such file"), "{}", error.full_message());
    assert_eq!(world.loaded(), [entry("certdeploy-front", &old)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caddy_that_does_not_listen_is_an_error() {
    let world = World::start(&[]);
    let mut settings = world.settings(NAME);
    settings["admin"] = json!(format!("unix/{}/dead.sock", world.root.path().display()));
    let report = world.deploy(settings, &world.issue(NAME)).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Unavailable);
}

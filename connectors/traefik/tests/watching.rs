//! What a watcher with Traefik's documented rules notices and serves; and the page as pasted.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests that start a stand-in for Traefik")]

mod stand_in;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretBytes;
use deploy_core::settings::Period;
use deploy_core::{Certificate, Connector as _, Context, ErrorKind, Job, Live, Outcome, Report, Target, deploy};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, Request};
use deploy_traefik::{Traefik, TraefikSettings};
use tempfile::TempDir;

use crate::stand_in::StandInTraefik;

struct World {
    root: TempDir,
    traefik: StandInTraefik,
    settings: TraefikSettings,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        let traefik = StandInTraefik::start(root.path()).unwrap();
        let mut settings = TraefikSettings::new(&traefik.fullchain, &traefik.key, &traefik.dynamic);
        settings.verify = Some(vec![Endpoint::new(traefik.address().to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(2));
        Self { root, traefik, settings, authority: Authority::new() }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        self.deploy_with(self.settings.clone(), issued).await
    }

    async fn deploy_with(&self, settings: TraefikSettings, issued: &Issued) -> Report {
        let target: Arc<dyn Target> = Traefik::build("front", settings).unwrap().into();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let context = Context::new(self.root.path().join("state"), deploy_testkit::provider());
        deploy(&[Job::new("front", Traefik::KIND, target, Arc::new(certificate))], &context).await.remove(0)
    }

    fn serves(&self, issued: &Issued) -> bool {
        self.traefik.served(NAME).as_ref() == Some(&issued.fingerprint)
    }

    fn wait_for(&self, what: &str, is_so: impl Fn(&Self) -> bool) {
        let end = Instant::now() + Duration::from_secs(10);
        while !is_so(self) {
            assert!(Instant::now() < end, "never came true: {what}");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watched_file_is_put_there_anew_last_and_with_the_same_bytes() {
    let world = World::new();
    let text = fs::read_to_string(&world.traefik.dynamic).unwrap();
    for _ in 0..3 {
        let issued = world.issue();
        let report = world.deploy(&issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert!(world.serves(&issued));
        assert_eq!(report.changed_files.last(), Some(&world.traefik.dynamic));
        let rebuilds = world.traefik.rebuilds();
        assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged);
        assert_eq!(world.traefik.rebuilds(), rebuilds, "nothing changed, and it was told");
    }
    assert_eq!(fs::read_to_string(&world.traefik.dynamic).unwrap(), text);
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_files_alone_are_not_noticed() {
    let world = World::new();
    let [first, second] = [(); 2].map(|()| world.issue());
    world.deploy(&first).await;
    let rebuilds = world.traefik.rebuilds();
    replace(&world.traefik.fullchain, &second.fullchain_pem);
    replace(&world.traefik.key, &second.key_pem);
    assert!(world.serves(&first));
    assert_eq!(world.traefik.rebuilds(), rebuilds);
    let third = world.issue();
    assert_eq!(world.deploy(&third).await.outcome, Outcome::Changed);
    assert!(world.serves(&third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_pair_falls_to_the_default_certificate_and_the_next_deployment_mends_it() {
    let world = World::new();
    let [first, second, third] = [(); 3].map(|()| world.issue());
    world.deploy(&first).await;
    replace(&world.traefik.key, &second.key_pem);
    replace(&world.traefik.dynamic, &fs::read_to_string(&world.traefik.dynamic).unwrap());
    world.wait_for("the default certificate", |world| world.traefik.served(NAME) == Some(world.traefik.default_certificate()));
    assert_eq!(world.deploy(&third).await.outcome, Outcome::Changed);
    assert!(world.serves(&third));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dynamic_configuration_that_traefik_would_not_use_is_refused_with_the_lines_to_write() {
    let world = World::new();
    let text = fs::read_to_string(&world.traefik.dynamic).unwrap();
    for other in [None, Some(""), Some(&*text.replace("www.key", "other.key"))] {
        match other {
            None => fs::remove_file(&world.traefik.dynamic).unwrap(),
            Some(other) => fs::write(&world.traefik.dynamic, other).unwrap(),
        }
        let report = world.deploy(&world.issue()).await;
        assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{report:?}");
        let error = report.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
        assert!(error.next_step().contains("[[tls.certificates]]\ncertFile = \"/"), "{}", error.next_step());
    }
    assert!(!world.traefik.key.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn links_are_followed_to_certificate_and_key_and_refused_for_the_watched_file() {
    let world = World::new();
    let real = world.root.path().join("real.key");
    fs::write(&real, "").unwrap();
    symlink(&real, &world.traefik.key).unwrap();
    let issued = world.issue();
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Changed);
    assert!(world.serves(&issued) && world.traefik.key.is_symlink());

    let moved = world.root.path().join("moved.toml");
    fs::rename(&world.traefik.dynamic, &moved).unwrap();
    symlink(&moved, &world.traefik.dynamic).unwrap();
    let error = world.deploy(&world.issue()).await.error.unwrap();
    assert!(error.full_message().contains("is a symbolic link"), "{}", error.full_message());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_api_says_whether_the_certificate_is_loaded() {
    let world = World::new();
    let mut settings = world.settings.clone();
    (settings.api, settings.verify) = (Some(world.traefik.api_url()), Some(Vec::new()));
    settings.verify_timeout = Period::new(Duration::from_millis(300));
    let first = world.issue();
    assert_eq!(world.deploy_with(settings.clone(), &first).await.outcome, Outcome::Changed);
    assert!(world.serves(&first));

    world.traefik.set_deaf(true);
    let report = world.deploy_with(settings.clone(), &world.issue()).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    let error = report.error.unwrap();
    assert!(error.full_message().contains("does not have the new certificate"), "{}", error.full_message());
    assert_eq!(fs::read_to_string(&world.traefik.fullchain).unwrap(), first.fullchain_pem);

    // A Traefik before 3.7 knows no such path.
    settings.api = Some(format!("{}/old", world.traefik.api_url()));
    let error = world.deploy_with(settings, &world.issue()).await.error.unwrap();
    assert!(error.full_message().contains("/api/certificates of Traefik 3.7 or later does not exist"), "{error:?}");
}

/// The block of the page in this language that holds this word.
fn block(language: &str, word: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/traefik.md")).unwrap();
    let opening = format!("```{language}\n");
    let blocks = page.split(&opening).skip(1).filter_map(|rest| rest.split("```").next());
    blocks.filter(|block| block.contains(word)).map(str::to_owned).next().unwrap_or_else(|| panic!("the page has no {word}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_as_pasted_with_the_stand_in() {
    let world = World::new();
    let [tls, dynamic] = [&world.traefik.key, &world.traefik.dynamic].map(|path| path.parent().unwrap().to_str().unwrap());
    let adapted = |text: String| {
        let text = text.replace("/etc/traefik/tls", tls).replace("/etc/traefik/dynamic", dynamic);
        text.replace("127.0.0.1:443", &world.traefik.address().to_string())
            .replace("http://127.0.0.1:8080", &world.traefik.api_url())
    };
    fs::write(&world.traefik.dynamic, adapted(block("toml", "tls.certificates"))).unwrap();
    let mut page: toml::Table = toml::from_str(&adapted(block("toml", "[[target]]"))).unwrap();
    let mut target = page["target"].as_array_mut().unwrap().remove(0).as_table().unwrap().clone();
    ["name", "kind", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    let settings: TraefikSettings = target.try_into().unwrap();
    for _ in 0..2 {
        let issued = world.authority.issue(&Request::new(&["www.example.com"]));
        let report = world.deploy_with(settings.clone(), &issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert!(world.serves(&issued));
        assert_eq!(world.deploy_with(settings.clone(), &issued).await.outcome, Outcome::Unchanged);
    }
}

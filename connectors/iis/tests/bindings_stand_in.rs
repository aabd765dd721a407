//! Bindings of IIS, with a stand-in for a Windows host.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

#[path = "../../support/powershell/tests/windows/deployment.rs"]
mod deployment;
#[path = "../../support/powershell/tests/windows/mod.rs"]
mod windows;

use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::Period;
use deploy_core::{ErrorKind, Outcome, Report};
use deploy_iis::{BindingName, Iis, IisSettings};
use deploy_powershell::{Connection, Script};
use deploy_testkit::tree::assert_same;
use deploy_testkit::{Authority, Issued, Request};
use tempfile::TempDir;

use crate::deployment::{deploy_to, settings_of_page};
use crate::windows::{Host, Serves, Switch, Windows, thumbprint};

const NAME: &str = "www.example.com";
const SITE: &str = "Default Web Site";
const RECORD: &str = "!443!www.example.com";

struct World {
    root: TempDir,
    authority: Authority,
    windows: Windows,
}

impl World {
    /// With a certificate of somebody else in the store `WebHosting`, which the site has.
    fn start() -> (Self, Issued) {
        let root = TempDir::new().unwrap();
        let authority = Authority::new();
        let mut host = Host::new(Serves::Binding("10.0.0.5", 443, NAME), Script::SetBindings);
        let old = authority.issue(&Request::new(&[NAME]));
        let thumbprint = host.import("WebHosting", &old, "by hand");
        host.bind(SITE, "*:443:www.example.com", 1 | 4, Some((&thumbprint, "WebHosting")));
        (Self { windows: Windows::start(root.path(), host), authority, root }, old)
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    fn settings(&self) -> IisSettings {
        let mut settings = IisSettings::new(Connection::Winrm(self.windows.settings()), vec![BindingName::new(SITE, NAME)]);
        settings.verify = Some(vec![Endpoint::new(self.windows.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(1));
        settings
    }

    async fn deploy(&self, settings: &IisSettings, issued: &Issued) -> Report {
        deploy_to::<Iis>("shop", serde_json::to_value(settings).unwrap(), issued, self.root.path()).await
    }

    fn has(&self, record: &str) -> (String, String) {
        self.windows
            .with(|host| host.mappings.get(record).map(|(thumbprint, store, _)| (thumbprint.clone(), store.clone())).unwrap())
    }

    fn mine(&self, issued: &Issued) -> (String, String) {
        (thumbprint(&issued.leaf_der), "My".to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_with_the_stand_in_as_it_stands_there() {
    let (world, _) = World::start();
    let mut settings = settings_of_page("iis.md", &world.windows);
    assert_eq!(settings["verify"][0]["connect"], "web1.example.com:443");
    settings["verify"][0]["connect"] = world.windows.address.to_string().into();
    for _ in 0..2 {
        let issued = world.issue();
        let report = deploy_to::<Iis>("shop", settings.clone(), &issued, world.root.path()).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(world.has(RECORD), world.mine(&issued));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_and_what_else_a_binding_has_stay_as_they_are() {
    let (world, _) = World::start();
    assert_eq!(world.deploy(&world.settings(), &world.issue()).await.outcome, Outcome::Changed);
    world.windows.with(|host| {
        assert_eq!(host.bindings[0].flags, 1 | 4);
        assert_eq!(host.mappings[RECORD].2, "clientcert=negotiate");
        assert!(!host.ran.is_empty());
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_what_somebody_else_had_put_there_comes_back() {
    let (world, old) = World::start();
    let before = world.windows.state();
    for switch in [Switch::FailsOnce, Switch::Works] {
        world.windows.with(|host| (host.switch, host.frozen) = (switch, switch == Switch::Works));
        let report = world.deploy(&world.settings(), &world.issue()).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
        assert_same(&before, &world.windows.state());
        assert_eq!(world.windows.served(NAME).unwrap()[0], old.leaf_der);
        world.windows.with(Host::heal);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_follow_the_certificate_that_they_had() {
    let (world, old) = World::start();
    let other = world.authority.issue(&Request::new(&["other.example.com"]));
    world.windows.with(|host| {
        let old = thumbprint(&old.leaf_der);
        let other = host.import("My", &other, "");
        host.bind("Shop", "*:8443:www.example.com", 1, Some((&old, "WebHosting")));
        host.bind("Shop", "*:443:other.example.com", 1, Some((&other, "My")));
    });
    let mut settings = world.settings();
    settings.bindings.clear();
    settings.replaces = Some(thumbprint(&old.leaf_der).to_lowercase());
    for _ in 0..2 {
        let issued = world.issue();
        let report = world.deploy(&settings, &issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!((world.has(RECORD), world.has("!8443!www.example.com")), (world.mine(&issued), world.mine(&issued)));
        assert_eq!(world.has("!443!other.example.com"), world.mine(&other));
    }
    // Another one has got the old certificate meanwhile: it belongs to them, and the next run has something to do.
    world.windows.with(|host| {
        host.bind("Late", "*:9443:www.example.com", 1, Some((&thumbprint(&old.leaf_der), "WebHosting")));
    });
    let issued = world.issue();
    assert_eq!(world.deploy(&settings, &issued).await.outcome, Outcome::Changed);
    assert_eq!(world.has("!9443!www.example.com"), world.mine(&issued));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_the_certificate_unasked() {
    let (world, old) = World::start();
    world.windows.with(|host| {
        let old = thumbprint(&old.leaf_der);
        host.bind("Wide", "*:8443:", 0, Some((&old, "WebHosting")));
        host.bind("Wider", "*:8443:wider.example.com", 0, Some((&old, "WebHosting")));
    });
    let before = world.windows.state();
    let mut settings = world.settings();
    let mut wide = BindingName::new("Wide", "");
    wide.port = 8443;
    settings.bindings = vec![wide];
    let report = world.deploy(&settings, &world.issue()).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::ConfigurationInvalid));
    assert!(error.to_string().contains("*:8443:wider.example.com of the site Wider"), "{error}");
    assert_same(&before, &world.windows.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_a_mapping_that_hides_the_name_is_reported_and_seen_on_the_wire() {
    let (world, old) = World::start();
    world.windows.with(|host| {
        host.mappings.insert("10.0.0.5!443".to_owned(), (thumbprint(&old.leaf_der), "WebHosting".to_owned(), String::new()));
    });
    let before = world.windows.state();
    let report = world.deploy(&world.settings(), &world.issue()).await;
    assert_eq!((report.outcome, report.error.as_ref().unwrap().kind()), (Outcome::RolledBack, ErrorKind::VerifyFailed));
    assert!(report.degraded.iter().any(|degraded| degraded.why.contains("10.0.0.5:443")), "{:?}", report.degraded);
    assert_same(&before, &world.windows.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_bindings_that_do_not_agree_are_brought_together() {
    let (world, _) = World::start();
    let issued = world.issue();
    let mut settings = world.settings();
    let mut second = BindingName::new(SITE, NAME);
    second.port = 8443;
    world.windows.with(|host| host.bind(SITE, "*:8443:www.example.com", 1, None));
    assert_eq!(world.deploy(&settings, &issued).await.outcome, Outcome::Changed);
    settings.bindings.push(second);
    let report = world.deploy(&settings, &issued).await;
    assert_eq!(report.outcome, Outcome::Changed, "the certificate is right, and one binding is not: {report:?}");
    assert_eq!(world.has("!8443!www.example.com"), world.mine(&issued));
    assert_eq!(world.deploy(&settings, &issued).await.outcome, Outcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_binding_whose_certificate_has_no_key_is_no_success() {
    let (world, _) = World::start();
    world.windows.with(|host| {
        host.overtaken_by = Some(Box::new(|host| {
            let ours = host.stores.get_mut("My").unwrap().values_mut().find(|stored| stored.friendly_name.contains("shop"));
            ours.unwrap().key_pem = None;
        }));
    });
    let before = world.windows.state();
    let report = world.deploy(&world.settings(), &world.issue()).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::RolledBack, ErrorKind::ReloadFailed));
    assert!(error.to_string().contains("0x80070520"), "{error}");
    assert_same(&before, &world.windows.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_iis_says_so() {
    let (world, _) = World::start();
    world.windows.with(|host| host.has_iis = false);
    let report = world.deploy(&world.settings(), &world.issue()).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::ConfigurationInvalid));
    assert!(error.to_string().contains("WebAdministration"), "{error}");
}

//! What a certificate store is like over the years, with a stand-in for a Windows host.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

#[path = "../../support/powershell/tests/windows/deployment.rs"]
mod deployment;
#[path = "../../support/powershell/tests/windows/mod.rs"]
mod windows;

use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::Period;
use deploy_core::{ErrorKind, Outcome, Report};
use deploy_powershell::{Connection, Script};
use deploy_testkit::{Authority, Issued, KeyKind, Request};
use deploy_windows_store::{WindowsStore, WindowsStoreSettings};
use tempfile::TempDir;

use crate::deployment::{deploy_to, settings_of_page};
use crate::windows::{Host, Serves, Stored, Windows, thumbprint};

struct World {
    root: TempDir,
    authority: Authority,
    windows: Windows,
}

impl World {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        let host = Host::new(Serves::Named("[certdeploy:db live".to_owned()), Script::NameCertificates);
        Self { windows: Windows::start(root.path(), host), authority: Authority::new(), root }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["db.example.com"]))
    }

    fn settings(&self) -> WindowsStoreSettings {
        let mut settings = WindowsStoreSettings::new(Connection::Winrm(self.windows.settings()));
        settings.verify = Some(vec![Endpoint::new(self.windows.address.to_string()).with_server_name("db.example.com")]);
        settings.verify_timeout = Period::new(Duration::from_secs(1));
        settings
    }

    async fn deploy(&self, settings: WindowsStoreSettings, issued: &Issued) -> Report {
        self.deploy_as("db", settings, issued).await
    }

    async fn deploy_as(&self, name: &str, settings: WindowsStoreSettings, issued: &Issued) -> Report {
        deploy_to::<WindowsStore>(name, serde_json::to_value(settings).unwrap(), issued, self.root.path()).await
    }

    fn stored(&self, issued: &Issued) -> Option<Stored> {
        self.windows.with(|host| host.stores["My"].get(&thumbprint(&issued.leaf_der)).cloned())
    }

    fn name_of(&self, issued: &Issued) -> String {
        self.stored(issued).unwrap().friendly_name
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_with_the_stand_in_as_it_stands_there() {
    let world = World::start();
    world.windows.with(|host| host.accounts.insert("NT SERVICE\\MSSQLSERVER".to_owned(), "S-1-5-80-7".to_owned()));
    let settings = settings_of_page("windows-store.md", &world.windows);
    for _ in 0..2 {
        let issued = world.issue();
        let report = deploy_to::<WindowsStore>("db", settings.clone(), &issued, world.root.path()).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        let stored = world.stored(&issued).unwrap();
        assert_eq!((stored.friendly_name.as_str(), stored.exportable), ("[certdeploy:db live]", false));
        assert!(stored.readers.contains("S-1-5-80-7"));
        assert_eq!(world.windows.served("db.example.com").unwrap()[0], issued.leaf_der);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_the_certificate_before_stays_for_its_grace_and_goes_with_its_key_afterwards() {
    let world = World::start();
    let certificates = [world.issue(), world.issue(), world.issue()];
    let mut settings = world.settings();
    settings.friendly_name = "Gr\u{fc}ner Laden".to_owned();
    for issued in &certificates {
        assert_eq!(world.deploy(settings.clone(), issued).await.outcome, Outcome::Changed);
    }
    assert_eq!(world.name_of(&certificates[2]), "Gr\u{fc}ner Laden [certdeploy:db live]");
    for issued in &certificates[..2] {
        assert!(world.name_of(issued).starts_with("Gr\u{fc}ner Laden [certdeploy:db replaced 20"), "{}", world.name_of(issued));
    }
    // Somebody made a mapping for the first one meanwhile.
    let used = thumbprint(&certificates[0].leaf_der);
    world.windows.with(|host| host.mappings.insert("0.0.0.0!5986".to_owned(), (used, "My".to_owned(), String::new())));
    settings.retire_after = Period::new(Duration::from_millis(1));
    assert_eq!(world.deploy(settings, &world.issue()).await.outcome, Outcome::Changed);
    assert!(world.stored(&certificates[0]).is_some(), "http.sys uses it");
    assert!(world.stored(&certificates[1]).is_none() && world.stored(&certificates[2]).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_could_read_the_key_can_read_the_next_one() {
    let world = World::start();
    let [old, new] = [world.issue(), world.issue()];
    let mut settings = world.settings();
    settings.read_access = vec!["IIS AppPool\\shop".to_owned()];
    world.deploy(settings.clone(), &old).await;
    // By hand, later on.
    let old_thumbprint = thumbprint(&old.leaf_der);
    world.windows.with(|host| {
        host.stores.get_mut("My").unwrap().get_mut(&old_thumbprint).unwrap().readers.insert("S-1-5-21-5".to_owned());
    });
    settings.read_access = vec!["S-1-5-20".to_owned()];
    assert_eq!(world.deploy(settings.clone(), &new).await.outcome, Outcome::Changed);
    assert_eq!(world.stored(&new).unwrap().readers, ["S-1-5-20", "S-1-5-21-5", "S-1-5-82-1"].map(str::to_owned).into());

    settings.read_access = vec!["NT SERVICE\\nobody".to_owned()];
    let report = world.deploy(settings, &world.issue()).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::ConfigurationInvalid));
    assert!(error.to_string().contains("NT SERVICE\\nobody"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_what_was_imported_by_hand_is_taken_over_and_never_removed() {
    let world = World::start();
    let [by_hand, next, last] = [world.issue(), world.issue(), world.issue()];
    world.windows.with(|host| host.import("My", &by_hand, "by hand"));
    let mut settings = world.settings();
    settings.retire_after = Period::new(Duration::from_millis(1));
    assert_eq!(world.deploy(settings.clone(), &by_hand).await.outcome, Outcome::Changed);
    assert_eq!(world.name_of(&by_hand), "by hand [certdeploy:db live adopted]");
    assert_eq!(world.stored(&by_hand).unwrap().provider, "by hand", "its key is the one that it had");
    for issued in [&next, &last] {
        assert_eq!(world.deploy(settings.clone(), issued).await.outcome, Outcome::Changed);
    }
    assert_eq!(world.name_of(&by_hand), "by hand");
    assert!(world.stored(&next).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_two_targets_can_have_one_certificate() {
    let world = World::start();
    let [one, two] = [world.issue(), world.issue()];
    let mut settings = world.settings();
    settings.retire_after = Period::new(Duration::from_millis(1));
    let mut unseen = settings.clone();
    unseen.verify = None;
    assert_eq!(world.deploy(settings.clone(), &one).await.outcome, Outcome::Changed);
    assert_eq!(world.deploy_as("db2", unseen, &one).await.outcome, Outcome::Changed);
    assert_eq!(world.name_of(&one), "[certdeploy:db live] [certdeploy:db2 live]");
    assert_eq!(world.deploy(settings, &two).await.outcome, Outcome::Changed);
    assert_eq!(world.name_of(&one), "[certdeploy:db2 live]", "the other one needs it");
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_a_service_that_does_not_take_it_up_gets_everything_back() {
    let world = World::start();
    let [old, new] = [world.issue(), world.issue()];
    world.deploy(world.settings(), &old).await;
    let before = world.windows.state();
    world.windows.with(|host| host.frozen = true);
    let report = world.deploy(world.settings(), &new).await;
    assert_eq!((report.outcome, report.error.unwrap().kind()), (Outcome::RolledBack, ErrorKind::VerifyFailed));
    deploy_testkit::tree::assert_same(&before, &world.windows.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn windows_server_2016_gets_a_pfx_that_it_can_read() {
    let world = World::start();
    world.windows.with(|host| host.build = 14_393);
    let issued = world.authority.issue(&Request::new(&["db.example.com"]).key(KeyKind::Rsa2048));
    let mut settings = world.settings();
    settings.exportable = true;
    assert_eq!(world.deploy(settings, &issued).await.outcome, Outcome::Changed);
    let stored = world.stored(&issued).unwrap();
    assert_eq!((stored.exportable, stored.provider.as_str()), (true, "CNG"));
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_right_are_named() {
    let world = World::start();
    let build = |change: fn(&mut WindowsStoreSettings)| {
        let mut settings = world.settings();
        change(&mut settings);
        let settings = serde_json::to_value(settings).unwrap();
        let registry = deploy_core::Registry::new().with::<WindowsStore>();
        registry.get("windows-store").unwrap().build("db", settings).unwrap_err().path
    };
    let winrm = |change: fn(&mut deploy_powershell::WinrmSettings)| {
        let mut settings = world.windows.settings();
        change(&mut settings);
        let settings = serde_json::json!({ "connection": { "winrm": settings } });
        let registry = deploy_core::Registry::new().with::<WindowsStore>();
        registry.get("windows-store").unwrap().build("db", settings).unwrap_err().path
    };
    assert_eq!(build(|settings| settings.store = "My\\..\\x".to_owned()), "store");
    assert_eq!(build(|settings| settings.friendly_name = "[certdeploy:db live]".to_owned()), "friendly_name");
    assert_eq!(build(|settings| settings.read_access = vec![" ".to_owned()]), "read_access");
    assert_eq!(winrm(|settings| settings.host = "http://web1".to_owned()), "connection.winrm.host");
    assert_eq!(winrm(|settings| settings.user = None), "connection.winrm.user");
    assert_eq!(winrm(|settings| settings.user = Some("CORP\\deploy".to_owned())), "connection.winrm.user");
    assert_eq!(winrm(|settings| settings.client_certificate = Some("/etc/x".into())), "connection.winrm.user");
}

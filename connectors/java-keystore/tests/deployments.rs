//! What a deployment does with the stores that keytool made, and what it refuses. The tests with a JVM and with Tomcat are in
//! `tests/servers`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests write files")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, ErrorKind, Job, Outcome, Registry, Report, deploy, rollback};
use deploy_java_keystore::JavaKeystore;
use deploy_keystore::{KeyEntry, Keystore};
use deploy_testkit::{Authority, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Made by keytool of Java 17: a key `other`, a trusted certificate `ca`, and in the PKCS#12 a secret key.
const STORES: [&[u8]; 3] = [
    include_bytes!("../../support/keystore/tests/data/keytool.jks"),
    include_bytes!("../../support/keystore/tests/data/keytool.p12"),
    include_bytes!("../../support/keystore/tests/data/keytool-legacy.p12"),
];
const PASSWORD: &str = "password-of-store";

/// A directory with a password in a file, and settings.
struct World {
    root: TempDir,
    settings: Value,
    context: Context,
    authority: Authority,
}

impl World {
    fn new(store: Option<&[u8]>) -> Self {
        let root = TempDir::new().unwrap();
        let path = root.path().join("store");
        if let Some(store) = store {
            fs::write(&path, store).unwrap();
        }
        let password = format!("file:{}", root.path().join("password").display());
        let settings = json!({ "path": path, "password": password, "alias": "WWW", "verify": [] });
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        let world = Self { root, settings, context, authority: Authority::new() };
        world.set_password(PASSWORD);
        world
    }

    fn set_password(&self, password: &str) {
        let path = self.root.path().join("password");
        fs::write(&path, password).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn store(&self) -> PathBuf {
        self.root.path().join("store")
    }

    fn issue(&self) -> Certificate {
        let issued = self.authority.issue(&Request::new(&["www.example.com"]));
        Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(issued.key_pem.as_bytes())).unwrap()
    }

    fn job(&self, certificate: &Certificate) -> Job {
        let entry = *Registry::new().with::<JavaKeystore>().get("java-keystore").unwrap();
        let target = entry.build("front", self.settings.clone()).unwrap();
        Job::new("front", "java-keystore", Arc::from(target), Arc::new(certificate.clone()))
    }

    async fn deploy(&self, certificate: &Certificate) -> Report {
        deploy(&[self.job(certificate)], &self.context).await.remove(0)
    }

    async fn refuses(&self) -> (ErrorKind, String) {
        let before = fs::read(self.store()).ok();
        let report = self.deploy(&self.issue()).await;
        assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
        assert_eq!(fs::read(self.store()).ok(), before);
        let error = report.error.unwrap();
        (error.kind(), error.full_message())
    }

    /// Whether the store holds the certificate with its key under the alias.
    fn holds(&self, certificate: &Certificate) -> bool {
        let password = SecretString::from(PASSWORD.to_owned());
        let mut store = Keystore::open(&fs::read(self.store()).unwrap(), &password).unwrap();
        let entry = KeyEntry::new("www", certificate, &password);
        !store.put(&entry, None, UNIX_EPOCH, deploy_testkit::provider().secure_random).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_put_beside_others_once_for_each_certificate() {
    for store in STORES {
        let world = World::new(Some(store));
        for _ in 0..2 {
            let certificate = world.issue();
            let report = world.deploy(&certificate).await;
            assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
            assert!(world.holds(&certificate));
            let bytes = fs::read(world.store()).unwrap();
            assert_eq!(world.deploy(&certificate).await.outcome, Outcome::Unchanged);
            assert_eq!(fs::read(world.store()).unwrap(), bytes);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_brings_the_store_back_and_holds() {
    for store in STORES {
        let world = World::new(Some(store));
        let certificate = world.issue();
        world.deploy(&certificate).await;
        let report = rollback(&world.job(&certificate), None, &world.context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(fs::read(world.store()).unwrap(), store);
        assert_eq!(world.deploy(&certificate).await.outcome, Outcome::Unchanged, "held");
        assert_eq!(fs::read(world.store()).unwrap(), store);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_behind_a_link_is_read_and_replaced_there() {
    let world = World::new(None);
    let real = world.root.path().join("real");
    fs::write(&real, STORES[1]).unwrap();
    std::os::unix::fs::symlink(&real, world.store()).unwrap();
    let certificate = world.issue();
    let report = world.deploy(&certificate).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.store().is_symlink());
    assert!(world.holds(&certificate));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_with_another_password_is_told_from_a_damaged_one() {
    for store in STORES {
        let mut world = World::new(Some(store));
        world.set_password("another-password");
        let (kind, message) = world.refuses().await;
        assert_eq!(kind, ErrorKind::ConfigurationInvalid);
        assert!(message.contains("does not open with the configured password"), "{message}");
        assert!(!message.contains("another-password"), "{message}");

        world.set_password(PASSWORD);
        world.settings["alias"] = json!("other");
        world.settings["key_password"] = json!("env:KEY");
        world.context = world.context.with_variables(|_| Some(SecretString::from("not-its-password".to_owned())));
        let (kind, message) = world.refuses().await;
        assert_eq!(kind, ErrorKind::ConfigurationInvalid);
        assert!(message.contains("the key under the alias \"other\" has another one"), "{message}");

        fs::write(world.store(), &store[..store.len() / 2]).unwrap();
        let (kind, message) = world.refuses().await;
        assert_eq!(kind, ErrorKind::TargetAlreadyBroken);
        assert!(message.contains("is damaged"), "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn passwords_that_java_does_not_take_are_refused() {
    let world = World::new(None);
    world.set_password("short");
    assert!(world.refuses().await.1.contains("keytool takes none under 6 characters"));
    world.set_password("p\u{e4}ssword of store");
    assert!(world.refuses().await.1.contains("printable ASCII"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_type_than_the_setting_and_an_alias_of_another_kind_are_refused() {
    let mut world = World::new(Some(STORES[0]));
    world.settings["type"] = json!("pkcs12");
    assert!(world.refuses().await.1.contains("is a JKS, and the settings say a PKCS#12"));
    world.settings["type"] = json!("jks");
    world.settings["alias"] = json!("CA");
    assert!(world.refuses().await.1.contains("has a trusted certificate under the alias"));
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let entry = *Registry::new().with::<JavaKeystore>().get("java-keystore").unwrap();
    let good = json!({ "path": "/etc/store", "password": "env:PASSWORD", "alias": "www" });
    assert!(entry.build("front", good.clone()).is_ok());
    for (setting, value) in [
        ("alias", json!("")),
        ("alias", json!("w\u{f6}rld")),
        ("mode", json!("0644")),
        ("password", json!("changeit")),
        ("path", json!("store")),
        ("type", json!("jceks")),
    ] {
        let mut settings = good.clone();
        settings[setting] = value;
        let error = format!("{:?}", entry.build("front", settings).unwrap_err());
        assert!(error.contains(setting) && !error.contains("changeit"), "{error}");
    }
    let both = json!({ "path": "/s", "password": "env:P", "alias": "www", "type": "jks", "encryption": "legacy" });
    assert!(format!("{:?}", entry.build("front", both).unwrap_err()).contains("encryption"));
}

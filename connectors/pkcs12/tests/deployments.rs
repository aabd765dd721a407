//! What a deployment makes of the file, as OpenSSL reads it.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests write files and start openssl")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, ErrorKind, Job, Outcome, Registry, Report, deploy, rollback};
use deploy_pkcs12::Pkcs12;
use deploy_testkit::{Authority, Issued, Request};
use tempfile::TempDir;
use toml::Table;

/// A directory with a password in a file, and the target of the documentation's page in it.
struct World {
    root: TempDir,
    settings: Table,
    context: Context,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let root = TempDir::new().unwrap();
        for name in ["etc/exampled", "etc/certdeploy/secrets"] {
            fs::create_dir_all(root.path().join(name)).unwrap();
        }
        let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/pkcs12.md")).unwrap();
        let block = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
        let block = block.replace("/etc/", &format!("{}/etc/", root.path().display()));
        let mut settings = toml::from_str::<Table>(&block).unwrap()["target"][0].as_table().unwrap().clone();
        assert_eq!(settings.remove("kind").unwrap().as_str(), Some("pkcs12"));
        ["name", "certificate"].iter().for_each(|field| drop(settings.remove(*field).unwrap()));
        // There is no exampled: no such group, nobody to be told, and nobody to be asked.
        settings.remove("group").unwrap();
        settings.extend(toml::from_str::<Table>("reload = []\nverify = []").unwrap());
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        let world = Self { root, settings, context, authority: Authority::new() };
        world.set_password("a password");
        world
    }

    fn set_password(&self, password: &str) {
        let path = self.root.path().join("etc/certdeploy/secrets/exampled");
        fs::write(&path, password).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn set(&mut self, more: &str) {
        self.settings.extend(toml::from_str::<Table>(more).unwrap());
    }

    fn file(&self) -> PathBuf {
        self.root.path().join("etc/exampled/www.p12")
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.com"]))
    }

    fn job(&self, issued: &Issued) -> Job {
        let settings = serde_json::to_value(&self.settings).unwrap();
        let target = Registry::new().with::<Pkcs12>().get("pkcs12").unwrap().build("front", settings).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        Job::new("front", "pkcs12", Arc::from(target), Arc::new(certificate))
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        deploy(&[self.job(issued)], &self.context).await.remove(0)
    }

    /// What OpenSSL finds in the file, and what it says about how it was encrypted.
    fn read(&self, options: &[&str]) -> (String, String) {
        let password = format!("file:{}", self.root.path().join("etc/certdeploy/secrets/exampled").display());
        let mut command = Command::new("openssl");
        command.args(["pkcs12", "-nodes", "-info", "-passin", &password, "-in"]).arg(self.file()).args(options);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap())
    }

    fn holds(&self, issued: &Issued) -> bool {
        let read = Certificate::from_combined_pem(&SecretBytes::from(self.read(&[]).0.into_bytes())).unwrap();
        read.fullchain_pem() == issued.fullchain_pem.as_bytes() && read.key_pem().expose() == issued.key_pem.as_bytes()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_file_of_the_page_has_key_and_chain_and_is_not_written_twice() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    let report = world.deploy(&old).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&old));
    assert!(world.read(&[]).0.contains("friendlyName: www.example.com"));
    assert_eq!(fs::metadata(world.file()).unwrap().permissions().mode() & 0o777, 0o640);
    let bytes = fs::read(world.file()).unwrap();
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
    assert_eq!(fs::read(world.file()).unwrap(), bytes);
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Changed);
    assert!(world.holds(&new));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_brings_the_bytes_back_and_holds_although_new_ones_are_random() {
    let world = World::new();
    let (old, new, newest) = (world.issue(), world.issue(), world.issue());
    world.deploy(&old).await;
    let bytes = fs::read(world.file()).unwrap();
    world.deploy(&new).await;
    let report = rollback(&world.job(&new), None, &world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(fs::read(world.file()).unwrap(), bytes);

    assert_eq!(world.deploy(&new).await.outcome, Outcome::Unchanged, "held");
    assert_eq!(fs::read(world.file()).unwrap(), bytes);
    assert_eq!(world.deploy(&newest).await.outcome, Outcome::Changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn modern_and_legacy_are_what_openssl_says_they_are() {
    let mut world = World::new();
    let issued = world.issue();
    world.deploy(&issued).await;
    let (_, read) = world.read(&[]);
    assert!(read.contains("MAC: sha256, Iteration 10000") && read.contains("AES-256-CBC") && !read.contains("3-Key"), "{read}");

    world.set("encryption = \"legacy\"");
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Changed);
    let (_, read) = world.read(&["-legacy"]);
    assert!(read.contains("MAC: sha1, Iteration 10000") && read.contains("pbeWithSHA1And3-KeyTripleDES-CBC"), "{read}");
    assert!(!read.contains("AES"), "{read}");
    assert!(world.holds(&issued), "it is read without -legacy, too");
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged);

    // What is there stays as it is where the setting says nothing.
    world.settings.remove("encryption");
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
    assert!(world.read(&[]).1.contains("MAC: sha1"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_another_password_is_refused_and_left_alone() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    let bytes = fs::read(world.file()).unwrap();
    world.set_password("another password");
    let report = world.deploy(&world.issue()).await;
    let error = report.error.as_ref().unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::ConfigurationInvalid), "{report:?}");
    assert!(error.full_message().contains("does not open with the configured password"), "{report:?}");
    assert_eq!(fs::read(world.file()).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_cut_off_is_written_anew() {
    let world = World::new();
    let issued = world.issue();
    world.deploy(&issued).await;
    let bytes = fs::read(world.file()).unwrap();
    fs::write(world.file(), &bytes[..bytes.len() / 2]).unwrap();
    let report = world.deploy(&issued).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&issued));
}

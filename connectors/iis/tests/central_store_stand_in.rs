//! The central certificate store of IIS, with a stand-in for a Windows host.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

#[path = "../../support/powershell/tests/windows/deployment.rs"]
mod deployment;
#[path = "../../support/powershell/tests/windows/mod.rs"]
mod windows;

use deploy_core::{ErrorKind, Outcome, Report};
use deploy_iis::Iis;
use deploy_powershell::Script;
use deploy_testkit::tree::assert_same;
use deploy_testkit::{Authority, Issued, Request};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::deployment::deploy_to;
use crate::windows::{Host, Serves, Switch, Windows};

const FILE: &str = "D:\\certs\\www.example.com.pfx";
const WILDCARD: &str = "D:\\certs\\_.example.com.pfx";
const STORE_PASSWORD: &str = "password-of-the-central-store";

struct World {
    root: TempDir,
    authority: Authority,
    windows: Windows,
}

impl World {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        std::fs::write(root.path().join("ccs"), STORE_PASSWORD).unwrap();
        std::fs::set_permissions(root.path().join("ccs"), std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut host = Host::new(Serves::File(FILE.to_owned(), STORE_PASSWORD.to_owned()), Script::WriteFiles);
        host.folders.insert("D:\\certs".to_owned());
        host.files.insert("D:\\certs\\other.example.com.pfx".to_owned(), b"of others".to_vec());
        Self { windows: Windows::start(root.path(), host), authority: Authority::new(), root }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.com", "*.example.com"]))
    }

    fn settings(&self) -> Value {
        json!({
            "connection": { "winrm": self.windows.settings() },
            "central_store": {
                "folder": "D:\\certs",
                "names": ["www.example.com", "*.example.com"],
                "password": format!("file:{}", self.root.path().join("ccs").display()),
            },
            "verify": [{ "connect": self.windows.address.to_string(), "server_name": "www.example.com" }],
            "verify_timeout": "1s",
        })
    }

    async fn deploy(&self, settings: Value, issued: &Issued) -> Report {
        deploy_to::<Iis>("farm", settings, issued, self.root.path()).await
    }

    fn served(&self) -> Option<Vec<u8>> {
        self.windows.served("www.example.com").map(|mut chain| chain.remove(0))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_named_after_hosts_and_served() {
    let world = World::start();
    for _ in 0..2 {
        let issued = world.issue();
        let report = world.deploy(world.settings(), &issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(world.served(), Some(issued.leaf_der.clone()));
        let files: Vec<String> = world.windows.with(|host| host.files.keys().cloned().collect());
        assert_eq!(files, [WILDCARD, "D:\\certs\\other.example.com.pfx", FILE]);
        assert_eq!(world.deploy(world.settings(), &issued).await.outcome, Outcome::Unchanged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_the_files_of_before_come_back_to_the_byte() {
    let world = World::start();
    assert_eq!(world.deploy(world.settings(), &world.issue()).await.outcome, Outcome::Changed);
    let before = world.windows.state();
    world.windows.with(|host| host.frozen = true);
    let report = world.deploy(world.settings(), &world.issue()).await;
    assert_eq!((report.outcome, report.error.unwrap().kind()), (Outcome::RolledBack, ErrorKind::VerifyFailed));
    assert_same(&before, &world.windows.state());

    // Before the first deployment there was nothing.
    let world = World::start();
    let before = world.windows.state();
    world.windows.with(|host| host.frozen = true);
    assert_eq!(world.deploy(world.settings(), &world.issue()).await.outcome, Outcome::RolledBack);
    assert_same(&before, &world.windows.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_a_lost_answer_is_no_failure_and_a_file_that_is_missing_is_written_again() {
    let world = World::start();
    let issued = world.issue();
    world.windows.with(|host| host.switch = Switch::Dropped { done: true });
    assert_eq!(world.deploy(world.settings(), &issued).await.outcome, Outcome::Changed);
    world.windows.with(|host| host.heal());
    world.windows.with(|host| host.files.remove(WILDCARD).unwrap());
    assert_eq!(world.deploy(world.settings(), &issued).await.outcome, Outcome::Changed);
    assert!(world.windows.with(|host| host.files.contains_key(WILDCARD)));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_a_file_that_changes_meanwhile_is_looked_at_again() {
    let world = World::start();
    let [one, two] = [world.issue(), world.issue()];
    assert_eq!(world.deploy(world.settings(), &one).await.outcome, Outcome::Changed);
    world.windows.with(|host| {
        host.overtaken_by = Some(Box::new(|host| drop(host.files.remove(WILDCARD))));
    });
    assert_eq!(world.deploy(world.settings(), &two).await.outcome, Outcome::Changed);
    assert_eq!(world.served(), Some(two.leaf_der));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_open_and_what_is_not_there_is_named() {
    let world = World::start();
    world.windows.with(|host| host.files.insert(FILE.to_owned(), b"no PFX".to_vec()));
    let before = world.windows.state();
    let error = world.deploy(world.settings(), &world.issue()).await.error.unwrap();
    assert!(error.to_string().contains(FILE), "{error}");
    assert_same(&before, &world.windows.state());

    let world = World::start();
    let mut settings = world.settings();
    settings["central_store"]["folder"] = json!("E:\\certs");
    let report = world.deploy(settings, &world.issue()).await;
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    assert!(error.to_string().contains("E:\\certs"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_cannot_be_right_are_named() {
    let world = World::start();
    let refused = |change: &dyn Fn(&mut Value)| {
        let mut settings = world.settings();
        change(&mut settings);
        deploy_core::Registry::new().with::<Iis>().get("iis").unwrap().build("farm", settings).unwrap_err().path
    };
    for folder in ["\\\\files\\certs", "certs", "D:\\", "D:\\certs\\"] {
        assert_eq!(refused(&|settings| settings["central_store"]["folder"] = json!(folder)), "central_store.folder", "{folder}");
    }
    for name in ["", "..\\x", "a/b", "www.*.com"] {
        assert_eq!(refused(&|settings| settings["central_store"]["names"] = json!([name])), "central_store.names", "{name}");
    }
    assert_eq!(refused(&|settings| settings["replaces"] = json!("AA")), "central_store");
    assert_eq!(refused(&|settings| settings["central_store"] = Value::Null), "bindings");
}

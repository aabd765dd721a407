//! The configuration of docs/apache.md as it stands there, with Debian's `apachectl` and all of its defaults.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test that starts a real Apache")]

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use deploy_apache::Apache;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Outcome, Registry, Report, deploy};
use deploy_testkit::nginx::free_port;
use deploy_testkit::{Authority, Issued, Request, observe};
use serde_json::{Value, json};

const NAME: &str = "www.example.com";

/// An `/etc/apache2` of our own, which `apachectl` takes for it when a variable says so. Apache ends with it.
struct World {
    root: tempfile::TempDir,
    address: SocketAddr,
    settings: Value,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
        let path = |name: &str| root.path().join(name).display().to_string();
        let (tls, etc) = (path("tls"), path("etc"));
        ["tls", "etc", "run", "html"].iter().for_each(|name| fs::create_dir(root.path().join(name)).unwrap());
        let adapted = |text: String| {
            let text = text.replace("/etc/apache2/tls", &tls).replace("/var/www/html", &path("html"));
            text.replace("127.0.0.1:443", &address.to_string()).replace("*:443", &address.to_string())
        };
        let modules = ["mpm_event", "authz_core", "ssl"]
            .map(|module| format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n"))
            .concat();
        let configuration = format!(
            "{modules}User www-data\nGroup www-data\nServerName localhost\nPidFile {0}\nErrorLog {1}\nListen {address}\n{2}",
            path("run/apache2.pid"),
            path("error.log"),
            adapted(block("apache"))
        );
        fs::write(root.path().join("etc/apache2.conf"), configuration).unwrap();
        let variables = format!("export APACHE_RUN_DIR={0} APACHE_LOCK_DIR={0}\n", path("run"));
        fs::write(root.path().join("etc/envvars"), variables).unwrap();
        let mut page: toml::Table = toml::from_str(&adapted(block("toml"))).unwrap();
        let mut target = page["target"].as_array_mut().unwrap().remove(0).as_table().unwrap().clone();
        ["name", "kind", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
        let mut settings = serde_json::to_value(&target).unwrap();
        // The defaults, told where this Apache has its files.
        let with_variable =
            |argument: &str| json!({ "command": ["apachectl", argument], "environment": { "APACHE_CONFDIR": etc } });
        for (setting, argument) in
            [("validate", "configtest"), ("shadow", "-DFOREGROUND"), ("reload", "graceful"), ("restart", "start")]
        {
            settings[setting] = with_variable(argument);
        }
        settings["pid_file"] = json!(path("run/apache2.pid"));
        Self { root, address, settings }
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        let target = Registry::new().with::<Apache>().get("apache").unwrap().build("front", self.settings.clone()).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let context = Context::new(self.root.path().join("state"), deploy_testkit::provider());
        deploy(&[Job::new("front", "apache", Arc::from(target), Arc::new(certificate))], &context).await.remove(0)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(Command::new("apachectl").arg("stop").env("APACHE_CONFDIR", self.root.path().join("etc")).status());
    }
}

/// The first block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/apache.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("the page has no {language}"));
    rest.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_as_pasted() {
    let world = World::new();
    let authority = Authority::new();
    for _ in 0..2 {
        let issued = authority.issue(&Request::new(&[NAME]));
        let report = world.deploy(&issued).await;
        assert_eq!((report.outcome, report.degraded.len()), (Outcome::Changed, 0), "{report:?}");
        assert_eq!(observe::served_fingerprint(world.address, Some(NAME)), Ok(issued.fingerprint.clone()));
        assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged);
    }
}

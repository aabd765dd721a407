//! What stands on docs/caddy.md, with a real Caddy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;

use deploy_caddy::Caddy;
use deploy_core::command::Command;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Look, Outcome, Registry, deploy};
use deploy_testkit::{Authority, Request, observe, provider};
use tempfile::TempDir;

use crate::server::Server;

const NAME: &str = "www.example.com";

/// The only code block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/caddy.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_as_it_stands_there() {
    let root = TempDir::new().unwrap();
    let place = root.path().display().to_string();
    let server = Server::start(root.path()).unwrap();
    let address = server.address;
    let site = format!("{NAME}:{} {{\n\tbind {}\n", address.port(), address.ip());
    let site = block("caddyfile").replace("/etc/caddy", &place).replace(&format!("{NAME} {{\n"), &site);
    fs::write(server.caddyfile(), server::options(&server.admin) + &site).unwrap();

    let text = block("toml").replace("/etc/caddy", &place).replace("127.0.0.1:443", &address.to_string());
    let page: toml::Table = toml::from_str(&text).unwrap();
    let mut target = page["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("caddy"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    if fs::metadata(root.path()).unwrap().uid() != 0 {
        target.remove("group").unwrap();
    }
    // The defaults name Debian's own Caddyfile.
    target.insert("validate".to_owned(), toml::Value::try_from(server.check_command()).unwrap());
    target.insert("reload".to_owned(), toml::Value::try_from(server.reload_command()).unwrap());
    let settings = serde_json::to_value(target).unwrap();
    let context = Context::new(root.path().join("state"), provider());
    let authority = Authority::new();
    for _ in 0..2 {
        let issued = authority.issue(&Request::new(&[NAME]));
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let target = Registry::new().with::<Caddy>().get("caddy").unwrap().build("front", settings.clone()).unwrap();
        let job = Job::new("front", "caddy", Arc::from(target), Arc::new(certificate));
        let report = deploy(&[job], &context).await.remove(0);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(observe::served_fingerprint(address, Some(NAME)).unwrap(), issued.fingerprint);
    }
}

#[test]
fn what_caddy_shows_of_its_configuration_is_understood() {
    let root = TempDir::new().unwrap();
    let caddyfile = root.path().join("Caddyfile");
    fs::write(&caddyfile, block("caddyfile") + "other.example.com {\n\trespond ok\n}\n").unwrap();
    let context = Context::new(root.path().join("state"), provider());
    let command = Command::new(["caddy", "adapt", "--config", caddyfile.to_str().unwrap()]);
    let look = Look::new(&context).with_command(command);
    let found = Registry::new().with::<Caddy>().get("caddy").unwrap().discover(&look).unwrap();
    let [found] = &found[..] else { panic!("{found:?}") };
    assert_eq!(found.names, [NAME]);
    let expected = serde_json::json!({
        "fullchain": "/etc/caddy/tls/www.crt",
        "key": "/etc/caddy/tls/www.key",
        "verify": [{ "connect": "127.0.0.1:443", "server_name": NAME }],
    });
    assert_eq!(serde_json::Value::Object(found.settings.clone()), expected);
}

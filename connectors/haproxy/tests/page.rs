//! What stands on docs/haproxy.md, with a real HAProxy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod server;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Outcome, Registry, deploy};
use deploy_haproxy::Haproxy;
use deploy_testkit::{Authority, Request, observe, provider};
use tempfile::TempDir;

use crate::server::Server;

const NAME: &str = "www.example.com";

/// The only code block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/haproxy.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_as_it_stands_there() {
    let root = TempDir::new().unwrap();
    let place = root.path().display();
    fs::create_dir(root.path().join("tls")).unwrap();
    let server = Server::start_with_sections(root.path(), |address| {
        block("haproxy").replace("/etc/haproxy", &place.to_string()).replace(":443", &address.to_string())
    })
    .unwrap();

    let text = block("toml")
        .replace("/etc/haproxy", &place.to_string())
        .replace("/run/haproxy", &place.to_string())
        .replace("127.0.0.1:443", &server.address.to_string());
    let page: toml::Table = toml::from_str(&text).unwrap();
    let mut target = page["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("haproxy"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    // The default names Debian's own configuration.
    let check = server.check_command();
    target.insert("validate".to_owned(), toml::Value::try_from(check).unwrap());
    let settings = serde_json::to_value(target).unwrap();
    let context = Context::new(root.path().join("state"), provider());
    let authority = Authority::new();
    for _ in 0..2 {
        let issued = authority.issue(&Request::new(&[NAME]));
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let target = Registry::new().with::<Haproxy>().get("haproxy").unwrap().build("front", settings.clone()).unwrap();
        let job = Job::new("front", "haproxy", Arc::from(target), Arc::new(certificate));
        let report = deploy(&[job], &context).await.remove(0);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(observe::served_fingerprint(server.address, Some(NAME)).unwrap(), issued.fingerprint);
    }
}

//! The configuration of docs/envoy.md as it stands there.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test that starts a real Envoy")]

mod server;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Outcome, Registry, Report, deploy};
use deploy_envoy::Envoy;
use deploy_testkit::{Authority, Issued, Request, observe};
use serde_json::{Value, json};

use crate::server::Server;

const NAME: &str = "www.example.com";

/// The page's Envoy, with its files and its addresses in a world of our own.
fn world(directory: &Path) -> (Server, Value) {
    let server = Server::prepare(directory).unwrap();
    let adapted = |text: String| {
        let socket = |address: std::net::SocketAddr| format!("address: {}, port_value: {}", address.ip(), address.port());
        let text = text.replace("/etc/envoy/sds/www.json", server.sds.to_str().unwrap());
        let text = text.replace("address: 0.0.0.0, port_value: 443", &socket(server.address));
        let text = text.replace("address: 127.0.0.1, port_value: 9901", &socket(server.admin));
        text.replace("127.0.0.1:443", &server.address.to_string()).replace("127.0.0.1:9901", &server.admin.to_string())
    };
    fs::write(directory.join("wanted.yaml"), adapted(block("yaml"))).unwrap();
    let mut page: toml::Table = toml::from_str(&adapted(block("toml"))).unwrap();
    let mut target = page["target"].as_array_mut().unwrap().remove(0).as_table().unwrap().clone();
    ["name", "kind", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    let mut settings = serde_json::to_value(&target).unwrap();
    settings["reload"] = json!(server.start_command("wanted.yaml"));
    (server, settings)
}

async fn run(server: &Server, settings: &Value, issued: &Issued) -> Report {
    let target = Registry::new().with::<Envoy>().get("envoy").unwrap().build("front", settings.clone()).unwrap();
    let key = SecretBytes::from(issued.key_pem.as_bytes());
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
    let context = Context::new(server.directory.join("state"), deploy_testkit::provider());
    deploy(&[Job::new("front", "envoy", Arc::from(target), Arc::new(certificate))], &context).await.remove(0)
}

/// The first block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/envoy.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap_or_else(|| panic!("the page has no {language}"));
    rest.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_page_works_as_pasted() {
    let directory = tempfile::tempdir().unwrap();
    let (server, settings) = world(directory.path());
    let authority = Authority::new();
    for _ in 0..2 {
        let issued = authority.issue(&Request::new(&[NAME]));
        let report = run(&server, &settings, &issued).await;
        let degraded: Vec<_> = report.degraded.iter().map(|it| it.what.as_str()).collect();
        assert_eq!((report.outcome, degraded), (Outcome::Changed, vec!["validate"]), "there is no checker: {report:?}");
        assert_eq!(observe::served_fingerprint(server.address, Some(NAME)), Ok(issued.fingerprint.clone()));
        assert_eq!(run(&server, &settings, &issued).await.outcome, Outcome::Unchanged);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_nobody_starts_is_unverified_until_it_runs() {
    let directory = tempfile::tempdir().unwrap();
    let (server, mut settings) = world(directory.path());
    ["reload", "admin"].iter().for_each(|setting| drop(settings.as_object_mut().unwrap().remove(*setting)));
    settings["verify_timeout"] = json!("1s");
    let issued = Authority::new().issue(&Request::new(&[NAME]));
    assert_eq!(run(&server, &settings, &issued).await.outcome, Outcome::Unverified);
    server.start("wanted.yaml");
    let report = run(&server, &settings, &issued).await;
    assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
}

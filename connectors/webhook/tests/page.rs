//! What stands on docs/webhook.md, with the stand-in for an endpoint.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod endpoint;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Outcome, Registry, deploy};
use deploy_testkit::{Authority, Request, observe, provider};
use deploy_webhook::Webhook;
use tempfile::TempDir;

use crate::endpoint::Endpoint;

/// The first code block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/webhook.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_as_it_stands_there() {
    let root = TempDir::new().unwrap();
    let endpoint = Endpoint::start(root.path());
    let text = block("toml")
        .replace("https://deploy.example.com", &endpoint.url())
        .replace("www.example.com:443", &endpoint.address().to_string())
        .replace("/etc/certdeploy/deploy-token", &endpoint.file("token").display().to_string())
        .replace("/etc/certdeploy/deploy-hmac", &endpoint.file("signing-key").display().to_string());
    let page: toml::Table = toml::from_str(&text).unwrap();
    let mut target = page["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("webhook"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    // The stand-in's certificate is of an authority of its own.
    target.insert("ca_file".to_owned(), endpoint.file("ca.pem").display().to_string().into());
    let settings = serde_json::to_value(target).unwrap();
    let context = Context::new(root.path().join("state"), provider());
    let authority = Authority::new();
    for _ in 0..2 {
        let issued = authority.issue(&Request::new(&["www.example.com"]));
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let target = Registry::new().with::<Webhook>().get("webhook").unwrap().build("front", settings.clone()).unwrap();
        let report = deploy(&[Job::new("front", "webhook", Arc::from(target), Arc::new(certificate))], &context).await.remove(0);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(observe::served_fingerprint(endpoint.address(), Some("www.example.com")).unwrap(), issued.fingerprint);
    }
}

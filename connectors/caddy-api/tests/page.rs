//! What stands on docs/caddy-api.md, with a real Caddy.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod caddy;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use deploy_caddy_api::CaddyApi;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Outcome, Registry, deploy};
use deploy_testkit::{Authority, Request, observe, own_address, provider};
use tempfile::TempDir;

use crate::caddy::Caddy;

const NAME: &str = "www.example.com";

/// The only code block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/caddy-api.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_as_it_stands_there() {
    let root = TempDir::new().unwrap();
    let (place, address) = (root.path().display().to_string(), own_address());
    let ours = |text: String| text.replace("127.0.0.1:443", &address.to_string()).replace("/run/caddy", &place);
    let configuration = ours(block("json")).replace(":443", &address.to_string());
    let caddy = Caddy::start_with(root.path(), address, &configuration).unwrap();

    let page: toml::Table = toml::from_str(&ours(block("toml"))).unwrap();
    let mut target = page["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("caddy-api"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    let settings = serde_json::to_value(target).unwrap();
    let context = Context::new(root.path().join("state"), provider());
    let authority = Authority::new();
    for _ in 0..2 {
        let issued = authority.issue(&Request::new(&[NAME]));
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let target = Registry::new().with::<CaddyApi>().get("caddy-api").unwrap().build("front", settings.clone()).unwrap();
        let job = Job::new("front", "caddy-api", Arc::from(target), Arc::new(certificate));
        let report = deploy(&[job], &context).await.remove(0);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(observe::served_fingerprint(caddy.address, Some(NAME)).unwrap(), issued.fingerprint);
    }
}

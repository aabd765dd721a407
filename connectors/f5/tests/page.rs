//! What stands on docs/f5.md, with the stand-in.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod big_ip;
mod world;

use std::fs;
use std::path::Path;

use deploy_core::Outcome;
use deploy_testkit::Request;

use crate::world::{WWW, World, job};

/// The only code block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/f5.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_as_it_stands_there_with_a_stand_in() {
    let world = World::new();
    let page = block("toml")
        .replace("https://bigip1.example.com", &world.big_ip.url())
        .replace("192.0.2.10:443", &world.big_ip.address(WWW).to_string())
        .replace("/etc/certdeploy/bigip-ca.pem", &world.big_ip.ca_file.display().to_string())
        .replace("/etc/certdeploy/bigip-password", &world.big_ip.password_file.display().to_string());
    let page: toml::Table = toml::from_str(&page).unwrap();
    let mut target = page["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("f5"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    let settings = serde_json::to_value(target).unwrap();
    for _ in 0..2 {
        let issued = world.authority.issue(&Request::new(&["www.example.com"]));
        let report = deploy_core::deploy(&[job(&settings, &issued)], &world.context).await.remove(0);
        assert_eq!((report.outcome, report.warnings.len()), (Outcome::Changed, 0), "{report:?}");
        assert_eq!(world.big_ip.served_fingerprint(WWW), issued.fingerprint);
    }
}

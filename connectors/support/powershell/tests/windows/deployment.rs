//! A whole deployment to the stand-in, as an agent makes it.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::disallowed_methods, reason = "tests share it, each a part")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Connector, Context, Job, Registry, Report, deploy};
use deploy_testkit::{Issued, provider};
use serde_json::Value;

use crate::windows::{PASSWORD, USER, Windows};

/// Deploys to a target of this name; the state directory lies below `root`.
pub async fn deploy_to<C: Connector>(name: &str, settings: Value, issued: &Issued, root: &Path) -> Report {
    let target = Registry::new().with::<C>().get(C::KIND).unwrap().build(name, settings).unwrap();
    let key = SecretBytes::from(issued.key_pem.as_bytes());
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
    let context = Context::new(root.join("state"), provider()).with_timeout(Duration::from_secs(30));
    deploy(&[Job::new(name, C::KIND, Arc::from(target), Arc::new(certificate))], &context).await.remove(0)
}

/// The settings of the only target of a page, with the stand-in in the place of its host.
pub fn settings_of_page(page: &str, windows: &Windows) -> Value {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page)).unwrap();
    let block = page.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let configuration: toml::Table = toml::from_str(block).unwrap();
    let mut target = configuration["target"][0].as_table().unwrap().clone();
    for field in ["name", "kind", "certificate"] {
        target.remove(field).unwrap();
    }
    let mut settings = serde_json::to_value(target).unwrap();
    let winrm = &mut settings["connection"]["winrm"];
    assert!(winrm["password"].as_str().unwrap().starts_with("file:/etc/certdeploy/"));
    for (field, value) in [
        ("host", "127.0.0.1".into()),
        ("port", windows.winrm.address().port().into()),
        ("password", format!("file:{}", windows.password_file().display()).into()),
        ("ca_file", windows.ca_file().display().to_string().into()),
    ] {
        winrm[field] = value;
    }
    let user = winrm["user"].as_str().unwrap().to_owned();
    assert_ne!(user, USER);
    windows.with(|host| host.user = (user, PASSWORD.to_owned()));
    settings
}

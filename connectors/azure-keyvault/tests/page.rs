//! What stands on docs/azure-keyvault.md, with stand-ins for a vault and for the metadata service of a virtual machine.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod cloud;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use deploy_azure_keyvault::AzureKeyvault;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, Job, Outcome, Registry, deploy};
use deploy_testkit::{Authority, Request, provider};
use tempfile::TempDir;

use crate::cloud::{Cloud, RESOURCE};

/// The first code block of the page in this language.
fn block(language: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/azure-keyvault.md")).unwrap();
    let (_, rest) = page.split_once(&format!("```{language}\n")).unwrap();
    rest.split("```").next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_as_it_stands_there() {
    let root = TempDir::new().unwrap();
    let cloud = Cloud::start(root.path());
    let text = block("toml").replace("https://example.vault.azure.net", &cloud.vault.url());
    let page: toml::Table = toml::from_str(&text).unwrap();
    let mut target = page["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("azure-keyvault"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    // The stand-in is at an address of its own, with an authority of its own.
    target.insert("resource".to_owned(), RESOURCE.into());
    target.insert("ca_file".to_owned(), cloud.file("ca.pem").display().to_string().into());
    let settings = serde_json::to_value(target).unwrap();
    let metadata = cloud.metadata.url();
    let context = Context::new(root.path().join("state"), provider())
        .with_variables(move |name| (name == "AZURE_POD_IDENTITY_AUTHORITY_HOST").then(|| SecretString::from(metadata.clone())));
    let authority = Authority::new();
    for number in 1..3 {
        let issued = authority.issue(&Request::new(&["www.example.com"]));
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let target =
            Registry::new().with::<AzureKeyvault>().get("azure-keyvault").unwrap().build("front", settings.clone()).unwrap();
        let report =
            deploy(&[Job::new("front", "azure-keyvault", Arc::from(target), Arc::new(certificate))], &context).await.remove(0);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        let versions = cloud.vault.with_state(|vault| vault.names["www-example-com"].versions.clone());
        assert_eq!(versions.len(), number);
        assert_eq!(versions.last().unwrap().pair.leaf(), issued.leaf_der);
    }
}

//! What stands on docs/aws-acm.md, with a stand-in for ACM.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod acm;

use std::fs;
use std::path::Path;
use std::sync::Arc;

use deploy_aws_acm::AwsAcm;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, Job, Outcome, Registry, deploy};
use deploy_testkit::{Authority, Request, provider};
use tempfile::TempDir;

use crate::acm::{Acm, KEY_ID, SECRET};

/// The code blocks of the page in this language.
fn blocks(language: &str) -> Vec<String> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/aws-acm.md")).unwrap();
    let fence = format!("```{language}\n");
    page.split(&fence).skip(1).map(|block| block.split("```").next().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_configuration_of_the_page_works_as_it_stands_there_with_a_stand_in() {
    let (root, acm) = (TempDir::new().unwrap(), Acm::start());
    let balancer = acm.with(|state| {
        state.balanced = Some("www.example.com".to_owned());
        state.balancer.address()
    });
    let page: toml::Table = toml::from_str(&blocks("toml")[0].replace("www.example.com:443", &balancer.to_string())).unwrap();
    let mut target = page["target"][0].as_table().unwrap().clone();
    assert_eq!(target.remove("kind").unwrap().as_str(), Some("aws-acm"));
    ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
    // The name is the address here, and nobody vouches for the stand-in but its own root.
    target["verify"][0].as_table_mut().unwrap().insert("server_name".to_owned(), "www.example.com".into());
    let ca_file = root.path().join("ca.pem");
    fs::write(&ca_file, &acm.root_pem).unwrap();
    target.insert("ca_file".to_owned(), ca_file.display().to_string().into());
    let settings = serde_json::to_value(target).unwrap();

    let authority = Authority::new();
    acm.add(&authority.issue(&Request::new(&["other.example.com"])), &[("certdeploy-target", "other")]);
    let url = acm.url();
    let context = Context::new(root.path().join("state"), provider()).with_variables(move |name| {
        let value = match name {
            "AWS_ACCESS_KEY_ID" => KEY_ID,
            "AWS_SECRET_ACCESS_KEY" => SECRET,
            "AWS_ENDPOINT_URL_ACM" => &url,
            _ => return None,
        };
        Some(SecretString::from(value.to_owned()))
    });
    for _ in 0..2 {
        let issued = authority.issue(&Request::new(&["www.example.com"]));
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let target = Registry::new().with::<AwsAcm>().get("aws-acm").unwrap().build("shop", settings.clone()).unwrap();
        let job = Job::new("shop", "aws-acm", Arc::from(target), Arc::new(certificate));
        let report = deploy(&[job], &context).await.remove(0);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(acm.arns().len(), 2);
        assert_eq!(acm.leaf(&acm.arns()[1]), Some(issued.fingerprint));
    }

    // The policy of the page allows what was asked for, and no more than one call that only a way back makes.
    let policy: serde_json::Value = serde_json::from_str(&blocks("json")[0]).unwrap();
    let allowed = policy["Statement"].as_array().unwrap().iter().flat_map(|statement| statement["Action"].as_array().unwrap());
    let allowed: Vec<&str> = allowed.filter_map(|action| action.as_str()?.strip_prefix("acm:")).collect();
    let asked = acm.operations();
    assert!(asked.iter().all(|operation| allowed.contains(&operation.as_str())), "{asked:?} of {allowed:?}");
    let never: Vec<_> = allowed.iter().filter(|action| !asked.iter().any(|operation| operation == *action)).collect();
    assert_eq!(never, [&"AddTagsToCertificate", &"DeleteCertificate"]);
}

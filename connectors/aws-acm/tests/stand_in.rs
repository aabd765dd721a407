//! Whole deployments to a stand-in for ACM: what its documentation warns of, and what a network does.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod acm;
mod world;

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use deploy_aws_acm::AwsAcm;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Connector as _, ErrorKind, Job, Live, Outcome, Registry, Report, Rung, deploy, preview, status};
use deploy_testkit::Request;
use deploy_testkit::conformance::NAME;
use deploy_testkit::pki::KeyKind;
use deploy_testkit::stand_in::{Answer, Fault};
use serde_json::{Value, json};

use crate::acm::ACCOUNT;
use crate::acm::api::refusal;
use crate::world::{World, told};

#[tokio::test(flavor = "multi_thread")]
async fn first_import_is_tagged_and_found_again_without_a_list() {
    let mut world = World::start();
    world.settings["tags"] = json!({ "Owner": "web team" });
    world.deployed(&world.issue()).await;
    let arn = world.only();
    assert_eq!(json!(world.acm.tags(&arn)), json!({ "Owner": "web team", "certdeploy-target": "front" }));
    // The ARN was noted: no list any more, and no second certificate.
    let new = world.issue();
    world.deployed(&new).await;
    assert_eq!((world.only(), world.acm.leaf(&arn)), (arn.clone(), Some(new.fingerprint.clone())));
    let operations = world.acm.operations();
    assert!(!operations.iter().any(|operation| operation == "ListCertificates"), "{operations:?}");
    let arns: Vec<Value> = world.acm.bodies("ImportCertificate").iter().map(|body| body["CertificateArn"].clone()).collect();
    assert_eq!(arns, [json!(arn)]);
    // Without the note the tag is enough.
    fs::remove_dir_all(world.state()).unwrap();
    let newer = world.issue();
    world.deployed(&newer).await;
    assert_eq!((world.only(), world.acm.leaf(&arn)), (arn, Some(newer.fingerprint)));
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_second_run_asks_for_the_certificate_and_nothing_else() {
    let world = World::start();
    let issued = world.issue();
    world.deployed(&issued).await;
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged);
    assert_eq!(world.acm.operations(), ["DescribeCertificate", "GetCertificate", "ListTagsForCertificate"]);

    let (world, _) = World::with_arn(|world| world.acm.add(&issued, &[]));
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged);
    assert_eq!(world.acm.operations(), ["DescribeCertificate", "GetCertificate"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_tags_are_set_apart_from_an_arn_and_those_of_others_stay() {
    let (mut world, arn) = World::with_arn(|world| world.acm.add(&world.issue(), &[("team", "edge"), ("Stage", "test")]));
    world.settings["tags"] = json!({ "Owner": "web team", "Stage": "production" });
    let issued = world.issue();
    world.deployed(&issued).await;
    assert_eq!(json!(world.acm.tags(&arn)), json!({ "team": "edge", "Owner": "web team", "Stage": "production" }));
    let body = &world.acm.bodies("ImportCertificate")[0];
    assert_eq!((&body["Tags"], &body["CertificateArn"]), (&Value::Null, &json!(arn)));
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged);
    // A tag that somebody changed is put right, and the certificate is not sent for that.
    world.acm.with(|state| state.certificates.get_mut(&arn).unwrap().tags.insert("Owner".to_owned(), "nobody".to_owned()));
    world.deployed(&issued).await;
    assert_eq!((world.acm.tags(&arn)["Owner"].as_str(), world.imports()), ("web team", 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn search_sees_every_kind_of_key_on_every_page() {
    let mut world = World::start();
    world.settings["found_by"] = json!({ "Service": "shop", "Stage": "production" });
    for number in 0..4 {
        let other = world.authority.issue(&Request::new(&[format!("{number}.example.test").as_str()]).key(KeyKind::Rsa2048));
        world.acm.add(&other, &[("Service", "shop"), ("Stage", "test")]);
    }
    let issue = |kind| world.authority.issue(&Request::new(&[NAME]).key(kind));
    let arn = world.acm.add(&issue(KeyKind::EcP384), &[("Service", "shop"), ("Stage", "production")]);
    world.acm.add(&issue(KeyKind::EcP256), &[("Stage", "production")]);
    let new = issue(KeyKind::EcP384);
    world.deployed(&new).await;
    assert_eq!((world.acm.leaf(&arn), world.acm.arns().len()), (Some(new.fingerprint), 6));
    let lists = world.acm.bodies("ListCertificates");
    let tokens: Vec<&Value> = lists.iter().map(|list| &list["NextToken"]).collect();
    assert_eq!(tokens, [&Value::Null, &json!("page-2"), &json!("page-4")]);
    let all = json!(["RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1"]);
    assert!(lists.iter().all(|list| list["Includes"]["keyTypes"] == all), "{lists:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn search_that_is_throttled_goes_on_where_it_was() {
    let world = World::start();
    for number in 0..3 {
        world.acm.add(&world.authority.issue(&Request::new(&[format!("{number}.example.test").as_str()])), &[]);
    }
    world.inject("ListTags", Fault::answer(refusal("ThrottlingException", "Rate exceeded")).after(2).times(1));
    world.deployed(&world.issue()).await;
    let asked = world.acm.bodies("ListTagsForCertificate");
    let arns: Vec<&Value> = asked.iter().map(|body| &body["CertificateArn"]).collect();
    let known: Vec<_> = world.acm.arns().into_iter().take(3).map(Value::from).collect();
    let [first, second, third] = [&known[0], &known[1], &known[2]];
    assert_eq!(arns[..4], [first, second, third, third], "it goes on with the one that was refused");
}

#[tokio::test(flavor = "multi_thread")]
async fn note_does_not_outlive_the_tags_that_it_was_found_by_or_the_certificate() {
    let mut world = World::start();
    world.deployed(&world.issue()).await;
    let first = world.only();
    world.settings["found_by"] = json!({ "Service": "shop" });
    world.deployed(&world.issue()).await;
    assert_eq!(world.acm.arns().len(), 2);
    let second = world.acm.arns().into_iter().find(|arn| *arn != first).unwrap();
    // Somebody deletes it: a new one is made, and noted.
    world.acm.with(|state| state.certificates.remove(&second));
    let issued = world.issue();
    world.deployed(&issued).await;
    assert_eq!(world.acm.arns().len(), 2);
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged);
    assert_eq!(world.acm.operations(), ["DescribeCertificate", "GetCertificate", "ListTagsForCertificate"]);
    // Somebody moves the tags to another one: that is the certificate now.
    world.acm.with(|state| {
        let mark = |stored: &&mut acm::Stored| stored.tags.contains_key("Service");
        state.certificates.values_mut().find(mark).unwrap().tags.clear();
        state.certificates.get_mut(&first).unwrap().tags.insert("Service".to_owned(), "shop".to_owned());
    });
    let issued = world.issue();
    world.deployed(&issued).await;
    assert_eq!((world.acm.arns().len(), world.acm.leaf(&first)), (2, Some(issued.fingerprint)));
}

#[tokio::test(flavor = "multi_thread")]
async fn certificate_that_has_lost_its_tags_gets_them_again_and_one_that_was_given_away_does_not() {
    let world = World::start();
    world.deployed(&world.issue()).await;
    let arn = world.only();
    let tag = |owner: Option<&str>| {
        world.acm.with(|state| {
            let tags = &mut state.certificates.get_mut(&arn).unwrap().tags;
            tags.clear();
            tags.extend(owner.map(|owner| ("certdeploy-target".to_owned(), owner.to_owned())));
        });
    };
    tag(None);
    let issued = world.issue();
    world.deployed(&issued).await;
    assert_eq!((world.only(), world.acm.leaf(&arn)), (arn.clone(), Some(issued.fingerprint.clone())));
    assert_eq!(json!(world.acm.tags(&arn)), json!({ "certdeploy-target": "front" }));
    // Also where nothing else is to be done.
    tag(None);
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Changed);
    assert_eq!((world.imports(), json!(world.acm.tags(&arn))), (0, json!({ "certdeploy-target": "front" })));
    tag(Some("another"));
    world.deployed(&world.issue()).await;
    assert_eq!((world.acm.arns().len(), world.acm.leaf(&arn)), (2, Some(issued.fingerprint)));
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_lost_answer_of_a_first_import_makes_no_second_certificate() {
    let world = World::start();
    let issued = world.issue();
    world.inject("Import", Fault::close_after().times(1));
    world.deployed(&issued).await;
    assert_eq!((world.acm.leaf(&world.only()), world.imports()), (Some(issued.fingerprint), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_first_import_that_is_not_listed_yet_is_waited_for() {
    let world = World::start();
    let issued = world.issue();
    world.inject("Import", Fault::close_after().times(1));
    // The first search is before the import, the next two are behind it.
    let empty = Answer::new(200).with_body(r#"{"CertificateSummaryList":[]}"#);
    world.inject("ListCertificates", Fault::answer(empty).after(2).times(2));
    world.deployed(&issued).await;
    assert_eq!((world.acm.leaf(&world.only()), world.imports()), (Some(issued.fingerprint), 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_new_certificate_whose_tags_are_not_there_yet_is_no_stranger() {
    let world = World::start();
    world.inject("Import", Fault::close_after().times(1));
    world.inject("ListTags", Fault::answer(Answer::new(200).with_body("{}")).times(1));
    world.deployed(&world.issue()).await;
    assert_eq!((world.acm.arns().len(), world.imports()), (1, 1), "{:?}", world.acm.operations());
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_import_that_reads_do_not_show_yet_is_sent_once() {
    let (world, arn) = World::with_arn(|world| world.acm.add(&world.issue(), &[]));
    let issued = world.issue();
    world.acm.with(|state| state.lag = 5);
    world.deployed(&issued).await;
    assert_eq!((world.acm.leaf(&arn), world.imports()), (Some(issued.fingerprint), 1));

    let world = World::start();
    world.acm.with(|state| state.lag = 3);
    world.deployed(&world.issue()).await;
    assert_eq!((world.acm.arns().len(), world.imports()), (1, 1), "{:?}", world.acm.operations());
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_network_that_drops_delays_and_repeats_is_no_failure() {
    let world = World::start();
    let issued = world.issue();
    world.inject("ListCertificates", Fault::close_before().times(1));
    world.inject("Import", Fault::close_after().times(1));
    world.inject("Describe", Fault::late(Duration::from_millis(200)).times(1));
    world.inject("Get", Fault::close_after().times(1));
    world.deployed(&issued).await;
    assert_eq!(world.acm.leaf(&world.only()), Some(issued.fingerprint));

    let new = world.issue();
    world.inject("Describe", Fault::close_after().times(1));
    world.inject("Import", Fault::close_before().times(1));
    world.inject("Import", Fault::twice().times(1));
    world.inject("Get", Fault::twice().times(2));
    world.deployed(&new).await;
    assert_eq!(world.acm.leaf(&world.only()), Some(new.fingerprint));
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed, "and nothing is left over");
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_certificate_that_somebody_else_has_replaced_is_looked_at_again() {
    let (world, arn) = World::with_arn(|world| world.acm.add(&world.issue(), &[]));
    let (theirs, ours) = (world.issue(), world.issue());
    world.acm.with(|state| state.overtaking = Some(theirs));
    world.deployed(&ours).await;
    assert_eq!((world.acm.leaf(&arn), world.imports()), (Some(ours.fingerprint), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_way_back_sends_the_previous_pair_with_its_own_key() {
    let mut world = World::start();
    let balancer = world.acm.with(|state| {
        state.balanced = Some(NAME.to_owned());
        state.balancer.address()
    });
    world.settings["verify"] = json!([{ "connect": balancer.to_string(), "server_name": NAME }]);
    world.settings["verify_timeout"] = json!("1s");
    let old = world.issue();
    let report = world.deployed(&old).await;
    assert_eq!(report.validated, Rung::V6);
    let before = world.acm.tree();
    world.acm.with(|state| state.frozen = true);
    let report = world.deploy(&world.issue()).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{}", told(&report));
    assert!(before.differences(&world.acm.tree()).is_empty());
    assert_eq!(world.acm.leaf(&world.only()), Some(old.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_without_the_old_key_the_report_says_plainly_what_is_live() {
    let (mut world, arn) = World::with_arn(|world| {
        world.acm.with(|state| state.balanced = Some(NAME.to_owned()));
        world.acm.add(&world.issue(), &[])
    });
    let balancer = world.acm.with(|state| state.balancer.address());
    world.settings["verify"] = json!([{ "connect": balancer.to_string(), "server_name": NAME }]);
    world.settings["verify_timeout"] = json!("500ms");
    world.acm.with(|state| state.frozen = true);
    let new = world.issue();
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{}", told(&report));
    assert_eq!((world.acm.leaf(&arn), world.imports()), (Some(new.fingerprint), 1), "nothing was sent under the old name");
    let error = report.error.as_ref().unwrap();
    let said = format!("{} {}", error.full_message(), error.next_step());
    assert!(said.contains("gives no key back") && said.contains("certdeploy"), "{said}");
    assert!(report.degraded.iter().any(|degraded| degraded.what == "restore"), "{:?}", report.degraded);
}

#[tokio::test(flavor = "multi_thread")]
async fn first_import_that_fails_is_taken_back_unless_something_uses_it() {
    let mut world = World::start();
    world.acm.with(|state| (state.balanced, state.frozen) = (Some(NAME.to_owned()), true));
    let balancer = world.acm.with(|state| state.balancer.address());
    world.settings["verify"] = json!([{ "connect": balancer.to_string(), "server_name": NAME }]);
    world.settings["verify_timeout"] = json!("500ms");
    let report = world.deploy(&world.issue()).await;
    assert_eq!((report.outcome, world.acm.arns().len()), (Outcome::RolledBack, 0), "{}", told(&report));

    world.inject("Delete", Fault::answer(refusal("ResourceInUseException", "Certificate is in use.")));
    let report = world.deploy(&world.issue()).await;
    assert_eq!((report.outcome, world.acm.arns().len()), (Outcome::RollbackFailed, 1), "{}", told(&report));
    assert!(report.error.unwrap().full_message().contains("ResourceInUseException"));
}

#[tokio::test(flavor = "multi_thread")]
async fn use_of_the_certificate_is_reported_and_decides_whether_it_is_looked_for() {
    let mut world = World::start();
    // Nobody answers there: it would fail if it was looked at.
    world.settings["verify"] = json!([{ "connect": "127.0.0.1:9", "server_name": NAME }]);
    let why = |report: &Report| report.degraded.iter().find(|degraded| degraded.what == "validate").unwrap().why.clone();
    let report = world.deployed(&world.issue()).await;
    assert_eq!(report.validated, Rung::V5);
    assert!(why(&report).contains("nothing uses it yet"), "{}", why(&report));
    let report = world.deployed(&world.issue()).await;
    assert!(why(&report).contains("so that nothing is looked for at `verify`"), "{}", why(&report));

    world.settings.as_object_mut().unwrap().remove("verify");
    let users = [1, 2, 3, 4].map(|number| format!("arn:aws:cloudfront::{ACCOUNT}:distribution/E{number}"));
    world.acm.with(|state| state.certificates.values_mut().next().unwrap().in_use_by = users.to_vec());
    let report = world.deployed(&world.issue()).await;
    assert!(why(&report).contains("is used in 4 places") && why(&report).contains(&users[2]), "{}", why(&report));
    assert!(!why(&report).contains(&users[3]), "{}", why(&report));
}

#[tokio::test(flavor = "multi_thread")]
async fn chain_is_sent_without_leaf_and_root_and_left_out_where_there_is_none() {
    let world = World::start();
    let issued = world.authority.issue_deep(&Request::new(&[NAME]), 2);
    let job = |fullchain: String| {
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(fullchain.as_bytes(), &key).unwrap();
        let registry = Registry::new().with::<AwsAcm>();
        let target = registry.get(AwsAcm::KIND).unwrap().build("front", world.settings.clone()).unwrap();
        Job::new("front", AwsAcm::KIND, Arc::from(target), Arc::new(certificate))
    };
    let with_root = job(format!("{}{}", issued.fullchain_pem, world.authority.root_pem()));
    let report = deploy(&[with_root], &world.context()).await.remove(0);
    assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
    let sent = world.acm.with(|state| state.certificates.values().next().unwrap().material.clone());
    let plain = |pem: &str| pem.replace("\r\n", "\n");
    assert_eq!((plain(&sent.leaf), plain(&sent.chain)), (plain(&issued.leaf_pem), plain(&issued.chain_pem)));

    let alone = world.authority.issue(&Request::new(&[NAME]));
    let key = SecretBytes::from(alone.key_pem.as_bytes());
    let certificate = Certificate::from_pem(alone.leaf_pem.as_bytes(), &key).unwrap();
    let target = Registry::new().with::<AwsAcm>().get(AwsAcm::KIND).unwrap().build("front", world.settings.clone()).unwrap();
    let report =
        deploy(&[Job::new("front", AwsAcm::KIND, Arc::from(target), Arc::new(certificate))], &world.context()).await.remove(0);
    assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
    assert_eq!(world.acm.bodies("ImportCertificate")[1]["CertificateChain"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_key_that_acm_takes_is_imported_and_no_other_is_sent() {
    let world = World::start();
    for kind in [KeyKind::Rsa2048, KeyKind::Rsa3072, KeyKind::Rsa4096, KeyKind::EcP256, KeyKind::EcP384, KeyKind::EcP521] {
        fs::remove_dir_all(world.state()).unwrap_or_default();
        world.acm.with(|state| state.certificates.clear());
        let issued = world.authority.issue(&Request::new(&[NAME]).key(kind));
        world.deployed(&issued).await;
        assert_eq!(world.acm.leaf(&world.only()), Some(issued.fingerprint.clone()), "{kind:?}");
        assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged, "{kind:?}");
    }
    let error = world.refused(&world.authority.issue(&Request::new(&[NAME]).key(KeyKind::Ed25519))).await;
    assert_eq!((error.kind(), world.imports()), (ErrorKind::MaterialRejected, 0), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_looking_changes_nothing() {
    let world = World::start();
    let issued = world.issue();
    preview(&world.job(&issued), &world.context()).await;
    assert!(world.acm.arns().is_empty());
    world.deployed(&issued).await;
    world.acm.record().clear();
    let seen = status(&world.job(&issued), &world.context()).await;
    assert_eq!(seen.on_disk, Some(issued.fingerprint));
    preview(&world.job(&world.issue()), &world.context()).await;
    let reads = ["DescribeCertificate", "GetCertificate", "ListTagsForCertificate"];
    assert!(world.acm.operations().iter().all(|operation| reads.contains(&operation.as_str())), "{:?}", world.acm.operations());
}

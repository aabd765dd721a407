//! What a deployment finds in the profiles and partitions of a stand-in, and what it leaves there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test, with a world of its own")]

mod big_ip;
mod world;

use deploy_core::{Connector as _, ErrorKind, Live, Outcome, Registry};
use deploy_f5::F5;
use deploy_testkit::{KeyKind, Request};
use serde_json::{Value, json};

use crate::big_ip::config::entries;
use crate::big_ip::entry;
use crate::world::{NAME, WWW, World, with};

/// The path of an object of an entry of a profile.
fn named(world: &World, profile: &str, entry: &str, field: &str) -> String {
    let profile = world.big_ip.client_ssl(profile);
    let entry = entries(&profile).find(|other| other["name"] == entry).unwrap();
    entry[field].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_named_by_what_is_in_them_and_superseded_ones_go() {
    let (world, settings, old, new) = World::renewed(World::settings).await;
    let name = |issued: &deploy_testkit::Issued, suffix| format!("/Common/certdeploy-front-{}{suffix}", issued.fingerprint);
    assert_eq!(named(&world, WWW, "default", "cert"), name(&old, ".crt"));
    let chain = named(&world, WWW, "default", "chain");
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.warnings.len()), (Outcome::Changed, 0), "{report:?}");
    assert_eq!(named(&world, WWW, "default", "cert"), name(&new, ".crt"));
    assert_eq!(named(&world, WWW, "default", "key"), name(&new, ".key"));
    assert_eq!(named(&world, WWW, "default", "chain"), chain, "the same intermediates stay one object");
    let mut whole = [name(&new, ".crt"), chain, name(&new, ".key")];
    whole.sort();
    assert_eq!(world.ours(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_other_pairs_of_a_profile_and_its_other_fields_stay() {
    let world = World::new();
    let rsa = world.authority.issue(&Request::new(&[NAME]).key(KeyKind::Rsa2048));
    world.big_ip.put("Common", "rsa", &rsa);
    world.big_ip.add_client_ssl("/Common/both", &[entry("rsa", "/Common/rsa"), entry("ecdsa", "/Common/default")]);
    let before = world.big_ip.client_ssl("/Common/both");
    let settings = with(world.settings(), &json!({ "client_ssl": ["/Common/both"] }));
    let error = world.deploy(&settings, &world.issue()).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::PlanInvalid);
    assert!(error.full_message().contains("rsa, ecdsa") && error.next_step().contains("`entry`"), "{error:?}");

    let settings = with(settings, &json!({ "entry": "ecdsa" }));
    let report = world.deploy(&settings, &world.issue()).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let mut after = world.big_ip.client_ssl("/Common/both");
    let rest = |profile: &serde_json::Map<String, Value>| entries(profile).next().cloned();
    assert_eq!(rest(&after), rest(&before), "the RSA pair, with its usage");
    assert!(named(&world, "/Common/both", "ecdsa", "cert").contains("certdeploy-front-"));
    after.insert("certKeyChain".to_owned(), before["certKeyChain"].clone());
    assert_eq!(after, before);

    // One that is not there is added, and taken away again where it was a mistake.
    let settings = with(settings, &json!({ "entry": "third" }));
    let state = world.big_ip.state();
    let report = world.deploy(&settings, &world.issue()).await;
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "two pairs of one kind: {report:?}");
    assert!(report.error.unwrap().full_message().contains("01070317:3"));
    deploy_testkit::tree::assert_same(&state, &world.big_ip.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn entry_that_was_added_is_taken_away_on_the_way_back() {
    let world = World::new();
    world.big_ip.add_client_ssl("/Common/ecdsa", &[entry("ecdsa", "/Common/default")]);
    let before = world.big_ip.state();
    let rsa = world.authority.issue(&Request::new(&[NAME]).key(KeyKind::Rsa2048));
    let endpoint = json!([{ "connect": world.big_ip.address(WWW).to_string() }]);
    let settings = with(
        world.settings(),
        &json!({ "client_ssl": ["/Common/ecdsa"], "entry": "rsa", "verify": endpoint, "verify_timeout": "300ms" }),
    );
    let report = world.deploy(&settings, &rsa).await;
    assert_eq!((report.outcome, world.commits()), (Outcome::RolledBack, 2), "{report:?}");
    deploy_testkit::tree::assert_same(&before, &world.big_ip.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn profile_that_could_not_be_brought_back_is_refused_with_advice() {
    let secured = with(entry("default", "/Common/default"), &json!({ "passphrase": "$M$Ap$x" }));
    for (fields, message, advice) in [
        (json!({ "inheritCertkeychain": "true" }), "its parent's", "give it one in `cert-key-chain`"),
        (json!({ "certKeyChain": [secured] }), "passphrase", "a key without one"),
    ] {
        let world = World::new();
        world.big_ip.with(|device| {
            let profile = device.config.client_ssl.get_mut(WWW).unwrap();
            profile.extend(fields.as_object().unwrap().clone());
        });
        let report = world.deploy(&world.settings(), &world.issue()).await;
        let error = report.error.unwrap();
        assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::PlanInvalid), "{error:?}");
        assert!(error.to_string().contains(message) && error.next_step().contains(advice), "{error}: {}", error.next_step());
        assert_eq!(world.big_ip.stand_in().record().changing().len(), 2, "logging in and out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_profile_that_does_not_exist_is_named() {
    let world = World::new();
    let settings = with(world.settings(), &json!({ "client_ssl": [WWW, "/Shop/missing"] }));
    let error = world.deploy(&settings, &world.issue()).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    assert!(error.to_string().contains("the client-ssl profile /Shop/missing does not exist"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_lie_in_the_partition_of_the_profiles_or_in_common() {
    for (profiles, partition) in [(json!(["/Shop/cart"]), "/Shop/"), (json!(["/Shop/cart", WWW]), "/Common/")] {
        let world = World::new();
        world.big_ip.add_client_ssl("/Shop/cart", &[entry("default", "/Common/default")]);
        let settings = with(world.settings(), &json!({ "client_ssl": profiles }));
        for _ in 0..2 {
            let report = world.deploy(&settings, &world.issue()).await;
            assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
            assert!(world.ours().len() == 3 && world.ours().iter().all(|path| path.starts_with(partition)), "{:?}", world.ours());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ocsp_settings_of_the_old_certificate_are_those_of_the_new_one() {
    let (world, settings, old, new) = World::renewed(World::settings).await;
    let name = |issued: &deploy_testkit::Issued| format!("/Common/certdeploy-front-{}.crt", issued.fingerprint);
    let responder = json!({ "items": [{ "name": "responder", "partition": "Common", "fullPath": "/Common/responder" }] });
    let ocsp =
        json!({ "certValidationOptions": ["ocsp"], "issuerCert": "/Common/others.crt", "certValidatorsReference": responder });
    world.big_ip.with(|device| device.config.revocation.insert(name(&old), ocsp.as_object().unwrap().clone()));
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.warnings.len()), (Outcome::Changed, 0), "{report:?}");
    let carried = world.big_ip.config().revocation;
    assert_eq!((carried.len(), Value::Object(carried[&name(&new)].clone())), (1, ocsp));

    // What the BIG-IP does not take is said before the switch.
    world.big_ip.with(|device| {
        device.config.revocation.get_mut(&name(&new)).unwrap().insert("issuerCert".to_owned(), "/Common/gone.crt".into())
    });
    let report = world.deploy(&settings, &world.issue()).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, report.live, error.kind()), (Outcome::Rejected, Live::Unchanged, ErrorKind::ValidateFailed));
    assert!(error.to_string().contains("OCSP") && error.to_string().contains("/Common/gone.crt"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p7_superseded_pair_that_another_profile_uses_stays() {
    let (world, settings, old, new) = World::renewed(World::settings).await;
    let pair = format!("/Common/certdeploy-front-{}", old.fingerprint);
    world.big_ip.add_client_ssl("/Common/borrower", &[entry("default", &pair)]);
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.warnings.len()), (Outcome::Changed, 0), "{report:?}");
    assert!(world.ours().contains(&format!("{pair}.crt")) && world.ours().contains(&format!("{pair}.key")));
    world.big_ip.with(|device| device.config.client_ssl.remove("/Common/borrower"));
    world.deploy(&settings, &world.issue()).await;
    assert_eq!(world.ours().len(), 3, "{:?}", world.ours());
}

#[tokio::test(flavor = "multi_thread")]
async fn profile_that_shows_another_key_than_ours_is_put_right() {
    let (world, settings, old, _) = World::renewed(World::settings).await;
    let chain = named(&world, WWW, "default", "chain");
    let mut changed = world.big_ip.client_ssl(WWW);
    changed["certKeyChain"][0]["chain"] = "none".into();
    world.big_ip.with(|device| device.config.client_ssl.insert(WWW.to_owned(), changed));
    let report = world.deploy(&settings, &old).await;
    assert_eq!((report.outcome, named(&world, WWW, "default", "chain")), (Outcome::Changed, chain), "{report:?}");
    assert_eq!(world.deploy(&settings, &old).await.outcome, Outcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn p1_the_same_certificate_under_the_names_of_others_is_left_alone() {
    let world = World::new();
    let issued = world.issue();
    world.big_ip.put("Common", "by-hand", &issued);
    world.big_ip.add_client_ssl(WWW, &[entry("default", "/Common/by-hand")]);
    let before = world.big_ip.state();
    let report = world.deploy(&world.settings(), &issued).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "{report:?}");
    deploy_testkit::tree::assert_same(&before, &world.big_ip.state());
}

#[test]
fn settings_that_cannot_be_right_are_refused_without_a_network() {
    let registry = Registry::new().with::<F5>();
    let build = |more: &Value| {
        let settings =
            json!({ "url": "https://bigip1.test", "username": "u", "password": "env:P", "client_ssl": ["/Common/www"] });
        registry.get(F5::KIND).unwrap().build("front", with(settings, more))
    };
    build(&json!({ "partition": "Common", "client_ssl": ["/Shop/a", "/Common/folder/b"], "entry": "rsa" })).unwrap();
    for (more, path) in [
        (json!({ "url": "http://bigip1.test" }), "url"),
        (json!({ "ca_file": "ca.pem" }), "ca_file"),
        (json!({ "username": "" }), "username"),
        (json!({ "password": "canary" }), "password"),
        (json!({ "client_ssl": [] }), "client_ssl"),
        (json!({ "client_ssl": ["www"] }), "client_ssl[0]"),
        (json!({ "client_ssl": ["/Common/a~b"] }), "client_ssl[0]"),
        (json!({ "client_ssl": ["/Common/www", "/Common/www"] }), "client_ssl[1]"),
        (json!({ "client_ssl": ["/Common/clientssl"] }), "client_ssl[0]"),
        (json!({ "server_ssl": ["/Common/serverssl"] }), "server_ssl[0]"),
        (json!({ "entry": "a b" }), "entry"),
        (json!({ "partition": "Shop" }), "partition"),
        (json!({ "sync_to": "group force-full-load-push" }), "sync_to"),
    ] {
        let error = build(&more).unwrap_err();
        assert_eq!(error.path, path, "{error}");
        assert!(!error.to_string().contains("canary"));
    }
}

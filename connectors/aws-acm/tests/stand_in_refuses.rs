//! What a stand-in for ACM refuses, and what a deployment makes of it; and who it believes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod acm;
mod world;

use std::time::{Duration, Instant};

use deploy_core::{ErrorKind, Outcome, Retry};
use deploy_testkit::Request;
use deploy_testkit::conformance::NAME;
use deploy_testkit::pki::KeyKind;
use deploy_testkit::stand_in::{Answer, Fault};
use serde_json::json;

use crate::acm::api::refusal;
use crate::acm::signature::Key;
use crate::acm::{ACCOUNT, REGION, SECRET};
use crate::world::{World, told};

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_are_refused_leave_the_old_certificate() {
    let (mut world, arn) = World::with_arn(|world| world.acm.add(&world.issue(), &[]));
    world.settings["tags"] = json!({ "Owner": "web team" });
    let before = world.acm.leaf(&arn);
    world.inject("AddTags", Fault::answer(refusal("TagPolicyException", "Owner has to be one of: a, b")).times(1));
    let error = world.refused(&world.issue()).await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::ConfigurationInvalid, Retry::Never));
    assert_eq!((world.acm.leaf(&arn), world.imports()), (before, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn several_certificates_with_the_tags_are_refused_by_name() {
    let world = World::start();
    let arns: Vec<String> = (0..2).map(|_| world.acm.add(&world.issue(), &[("certdeploy-target", "front")])).collect();
    let error = world.refused(&world.issue()).await;
    assert_eq!(error.kind(), ErrorKind::PlanInvalid);
    assert!(arns.iter().all(|arn| error.to_string().contains(arn)), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_import_cannot_change_is_refused_before_the_key_is_sent() {
    let (world, _) = World::with_arn(|world| world.acm.add(&world.issue(), &[]));
    for (request, said) in [
        (Request::new(&[NAME]).key(KeyKind::EcP384), "EC_prime256v1"),
        (Request::new(&[NAME]).key(KeyKind::Rsa2048), "RSA_2048"),
        (Request::new(&["other.example.test"]), NAME),
    ] {
        let error = world.refused(&world.authority.issue(&request)).await;
        assert_eq!((error.kind(), error.retry(), world.imports()), (ErrorKind::PlanInvalid, Retry::Never, 0), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    let (world, _) = World::with_arn(|world| world.acm.with(|state| state.add(&world.issue(), "AMAZON_ISSUED", &[])));
    let error = world.refused(&world.issue()).await;
    assert_eq!((error.kind(), world.imports()), (ErrorKind::PlanInvalid, 0), "{error}");
    assert!(error.to_string().contains("AMAZON_ISSUED"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_certificate_that_is_named_and_not_there_is_refused() {
    let (world, arn) =
        World::with_arn(|_| format!("arn:aws:acm:{REGION}:{ACCOUNT}:certificate/12345678-0000-0000-0000-000000000000"));
    let error = world.refused(&world.issue()).await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::ConfigurationInvalid, Retry::Never));
    assert!(error.to_string().contains(&arn) && world.imports() == 0, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_every_error_of_acm_has_its_kind_and_whether_trying_again_helps() {
    let (world, arn) = World::with_arn(|world| world.acm.add(&world.issue(), &[]));
    let new = world.issue();
    let never = |kind| (kind, Retry::Never);
    for (name, expected) in [
        ("AccessDeniedException", never(ErrorKind::PermissionDenied)),
        ("InvalidArgsException", never(ErrorKind::MaterialRejected)),
        ("InvalidArnException", never(ErrorKind::ConfigurationInvalid)),
        ("InvalidDomainValidationOptionsException", never(ErrorKind::MaterialRejected)),
        ("InvalidParameterException", never(ErrorKind::MaterialRejected)),
        ("InvalidStateException", never(ErrorKind::PlanInvalid)),
        ("InvalidTagException", never(ErrorKind::ConfigurationInvalid)),
        ("LimitExceededException", never(ErrorKind::PlanInvalid)),
        ("RequestInProgressException", never(ErrorKind::PlanInvalid)),
        ("ResourceNotFoundException", never(ErrorKind::ConfigurationInvalid)),
        ("ServiceQuotaExceededException", never(ErrorKind::PlanInvalid)),
        ("TagPolicyException", never(ErrorKind::ConfigurationInvalid)),
        ("TooManyTagsException", never(ErrorKind::ConfigurationInvalid)),
        ("ValidationException", never(ErrorKind::MaterialRejected)),
        ("ExpiredTokenException", never(ErrorKind::Unauthenticated)),
        ("InvalidSignatureException", never(ErrorKind::Unauthenticated)),
        ("SomethingNewException", never(ErrorKind::PlanInvalid)),
        ("com.amazonaws.acm#LimitExceededException:http://internal/", never(ErrorKind::PlanInvalid)),
    ] {
        world.inject("Import", Fault::answer(refusal(name, "as AWS says")).times(1));
        let report = world.deploy(&new).await;
        let error = report.error.as_ref().unwrap();
        assert_eq!((error.kind(), error.retry()), expected, "{name}: {}", told(&report));
        assert_eq!((report.outcome, world.imports()), (Outcome::RolledBack, 1), "{name}: {}", told(&report));
        assert!(error.full_message().contains("as AWS says"), "{name}: {}", error.full_message());
        assert!(!error.next_step().is_empty());
    }
    // Those that trying again helps against, which the engine does; and those of others than ACM.
    for answer in [
        refusal("ThrottlingException", "Rate exceeded"),
        refusal("InternalServerException", "once more"),
        refusal("ConflictException", "Another change of the certificate is under way."),
        Answer::new(503).with_body("a proxy"),
    ] {
        world.inject("Import", Fault::answer(answer).times(1));
        let issued = world.issue();
        world.deployed(&issued).await;
        assert_eq!((world.acm.leaf(&arn), world.imports()), (Some(issued.fingerprint), 2));
    }
    // After a conflict the engine looks once more.
    world.inject("Describe", Fault::answer(refusal("ResourceInUseException", "in use")).times(2));
    assert_eq!(world.refused(&new).await.kind(), ErrorKind::Conflict);
    world.inject("Describe", Fault::answer(Answer::new(403).with_body("a proxy")).times(1));
    assert_eq!(world.refused(&new).await.kind(), ErrorKind::PermissionDenied);
    world.inject("Describe", Fault::answer(Answer::new(200).with_body("<html>a portal</html>")).times(1));
    assert_eq!(world.refused(&new).await.kind(), ErrorKind::Unavailable);
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_throttled_call_waits_for_a_second() {
    let world = World::start();
    world.inject("Import", Fault::answer(refusal("ThrottlingException", "Rate exceeded")).times(1));
    let started = Instant::now();
    world.deployed(&world.issue()).await;
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_signed_for_the_region_of_the_arn() {
    for (partition, region) in [("aws", "eu-central-1"), ("aws-us-gov", "us-gov-west-1"), ("aws-cn", "cn-north-1")] {
        let (world, arn) = World::with_arn(|world| {
            world.acm.with(|state| (state.partition, state.region) = (partition.to_owned(), region.to_owned()));
            world.acm.add(&world.issue(), &[])
        });
        assert!(arn.starts_with(&format!("arn:{partition}:acm:{region}:")));
        let issued = world.issue();
        world.deployed(&issued).await;
        assert_eq!(world.acm.leaf(&arn), Some(issued.fingerprint));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_temporary_credentials_are_signed_with_their_token_which_nobody_sees() {
    let mut world = World::start();
    world.settings.as_object_mut().unwrap().remove("access_key");
    let key = Key { id: "ASIATEMPORARY".to_owned(), secret: SECRET.to_owned(), token: Some("session-canary-token".to_owned()) };
    world.acm.with(|state| state.keys = vec![key]);
    for (name, value) in
        [("AWS_ACCESS_KEY_ID", "ASIATEMPORARY"), ("AWS_SECRET_ACCESS_KEY", SECRET), ("AWS_SESSION_TOKEN", "session-canary-token")]
    {
        world.variables.insert(name.to_owned(), value.to_owned());
    }
    world.deployed(&world.issue()).await;
    // AWS shows the canonical request where the signature is wrong, and the token is in it.
    world.variables.insert("AWS_SECRET_ACCESS_KEY".to_owned(), "another-canary-secret".to_owned());
    let error = world.refused(&world.issue()).await;
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unauthenticated, Retry::Never));
    let shown = format!("{error:?} {}", error.full_message());
    assert!(shown.contains("InvalidSignatureException") && shown.contains("clock"), "{shown}");
    assert!(!shown.contains("canary"), "{shown}");
    world.variables.insert("AWS_SESSION_TOKEN".to_owned(), "stale-canary-token".to_owned());
    assert_eq!(world.refused(&world.issue()).await.kind(), ErrorKind::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn region_and_endpoint_come_from_the_environment_where_the_settings_have_none() {
    let mut world = World::start();
    for name in ["region", "endpoint"] {
        world.settings.as_object_mut().unwrap().remove(name);
    }
    let error = world.refused(&world.issue()).await;
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    world.variables.insert("AWS_REGION".to_owned(), REGION.to_owned());
    world.variables.insert("AWS_ENDPOINT_URL_ACM".to_owned(), world.acm.url());
    world.deployed(&world.issue()).await;
    assert_eq!(world.acm.arns().len(), 1);
}

//! Sessions at a stand-in, and what it refuses to whom.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test, with a world of its own")]

mod big_ip;
mod world;

use std::time::Duration;

use deploy_core::secret::SecretString;
use deploy_core::{ErrorKind, Live, Outcome, Retry};
use deploy_testkit::stand_in::{Answer, Fault};
use serde_json::{Value, json};

use crate::big_ip::{OPERATOR, PASSWORD};
use crate::world::{WWW, World, with};

const LOGIN: &str = "/mgmt/shared/authn/login";
const TOKENS: &str = "/mgmt/shared/authz/tokens/";

impl World {
    fn sessions(&self) -> usize {
        self.big_ip.with(|device| device.tokens.len())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_run_logs_in_once_and_ends_its_session() {
    let (world, settings, old, new) = World::renewed(World::settings).await;
    let logins = || std::mem::replace(&mut world.exchanges("POST", LOGIN).len(), 0);
    assert_eq!(world.sessions(), 0, "after a first deployment");
    assert_eq!(world.deploy(&settings, &old).await.outcome, Outcome::Unchanged);
    assert_eq!((world.sessions(), logins()), (0, 1), "where there is nothing to do");
    assert!(world.preview(&settings, &new).await.error.is_none());
    assert_eq!((world.sessions(), logins()), (0, 2), "after a plan");
    world.big_ip.with(|device| device.trouble.refused_commits = 1);
    assert_eq!(world.deploy(&settings, &new).await.outcome, Outcome::RolledBack);
    assert_eq!((world.sessions(), logins()), (0, 3), "after going back");
    world.inject(Fault::never().below("/mgmt/tm/transaction/"));
    let report = world.deploy_in(&settings, &new, &world.context.clone().with_timeout(Duration::from_millis(700))).await;
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Timeout);
    assert_eq!((world.sessions(), logins()), (0, 4), "when the time is over");
    assert!(world.big_ip.with(|device| device.downloads.is_empty()), "a key lies about");
    let sent = world.big_ip.stand_in().record().exchanges();
    assert!(sent.iter().all(|exchange| exchange.request.header("authorization").is_none()), "a password in every request");
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_expires_is_opened_anew_whenever_it_does() {
    // From the first look to the clean-up.
    for requests in [1, 8, 16, 24, 32] {
        let (world, settings, _, new) = World::renewed(World::settings).await;
        world.big_ip.with(|device| device.trouble.tokens_last = Some(requests));
        let report = world.deploy(&settings, &new).await;
        assert_eq!((report.outcome, report.warnings.len()), (Outcome::Changed, 0), "after {requests}: {report:?}");
        assert_eq!((world.sessions(), world.exchanges("POST", LOGIN).len()), (0, 2), "after {requests}");
        assert_eq!((world.big_ip.served_fingerprint(WWW), world.ours().len()), (new.fingerprint, 3), "after {requests}");
        assert!(world.big_ip.with(|device| device.downloads.is_empty()), "after {requests}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn session_that_is_about_to_expire_is_renewed_before_it_does() {
    let (world, settings, _, new) = World::renewed(World::settings).await;
    world.big_ip.with(|device| device.token_lifetime = Duration::from_secs(1));
    world.inject(Fault::answer(Answer::new(500)).below(TOKENS));
    world.inject(Fault::late(Duration::from_millis(950)).below("/mgmt/tm/sys/file/").times(1));
    let report = world.deploy(&settings, &new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let refused =
        world.big_ip.stand_in().record().exchanges().into_iter().filter(|exchange| exchange.status == Some(401)).count();
    assert_eq!((refused, world.exchanges("POST", LOGIN).len()), (0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn session_lives_as_long_as_the_deployment_may_take() {
    let (world, settings, _, new) = World::renewed(World::settings).await;
    for (limit, asked) in [(60, None), (3600, Some(3600..=3720)), (90_000, Some(36_000..=36_000))] {
        world.big_ip.stand_in().record().clear();
        let report = world.deploy_in(&settings, &new, &world.context.clone().with_timeout(Duration::from_secs(limit))).await;
        assert!(report.error.is_none(), "{report:?}");
        let seconds = world.exchanges("PATCH", TOKENS).first().map(|exchange| {
            assert_eq!(exchange.status, Some(200), "{exchange:?}");
            serde_json::from_slice::<Value>(&exchange.request.body).unwrap()["timeout"].as_u64().unwrap()
        });
        match (seconds, asked) {
            (None, None) => {}
            (Some(seconds), Some(asked)) => assert!(asked.contains(&seconds), "{limit}: {seconds}"),
            other => panic!("{limit}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_wrong_password_is_tried_once() {
    let world = World::new();
    let settings = with(world.settings(), &json!({ "password": "env:PASSWORD" }));
    let context = world.context.clone().with_variables(|_| Some(SecretString::from("canary-that-is-wrong".to_owned())));
    let report = world.deploy_in(&settings, &world.issue(), &context).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, error.kind(), error.retry()), (Outcome::Rejected, ErrorKind::Unauthenticated, Retry::Never));
    assert!(!format!("{error:?} {}", error.full_message()).contains("canary"));
    assert_eq!(world.big_ip.stand_in().record().exchanges().len(), 1, "a user can be locked out");
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_too_many_sessions_are_no_reason_to_log_in_again() {
    let world = World::new();
    world.big_ip.with(|device| device.most_tokens = 0);
    let error = world.deploy(&world.settings(), &world.issue()).await.error.unwrap();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::RateLimited, Retry::Never), "{error:?}");
    assert!(error.next_step().contains("20 minutes"), "{}", error.next_step());
    assert_eq!(world.big_ip.stand_in().record().exchanges().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_unknown_log_in_provider_is_said() {
    let world = World::new();
    let settings = with(world.settings(), &json!({ "login_provider": "elsewhere" }));
    let error = world.deploy(&settings, &world.issue()).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.full_message().contains("loginProviderName is invalid"), "{}", error.full_message());
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_user_without_the_role_is_told_from_an_expired_session() {
    let (world, settings, old, new) = World::renewed(World::settings).await;
    let report = world.deploy(&with(settings, &json!({ "username": OPERATOR })), &new).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, report.live, error.kind()), (Outcome::Rejected, Live::Unchanged, ErrorKind::PermissionDenied));
    assert!(error.to_string().contains("resource=/mgmt/shared/file-transfer/uploads/"), "{error}");
    assert_eq!((world.sessions(), world.exchanges("POST", LOGIN).len()), (0, 1));
    assert_eq!(world.big_ip.served_fingerprint(WWW), old.fingerprint);
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_device_that_restarts_or_is_busy_is_asked_again() {
    let restarting =
        "<html><head><title>BIG-IP&reg;- Redirect</title></head><body>Configuration Utility restarting...</body></html>";
    let busy =
        json!({ "code": 400, "message": "There is an active asynchronous task executing.", "errorStack": [], "apiError": 26 });
    for answer in
        [Answer::new(200).with_header("Content-Type", "text/html").with_body(restarting), Answer::new(400).with_json(&busy)]
    {
        let (world, settings, _, new) = World::renewed(World::settings).await;
        world.inject(Fault::answer(answer.clone()).times(2));
        world.inject(Fault::answer(answer).below("/mgmt/tm/transaction").times(1));
        let report = world.deploy(&settings, &new).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_upload_that_comes_back_in_an_error_is_not_shown() {
    let (world, settings, _, new) = World::renewed(World::settings).await;
    // Without its first line nothing says that it is a key.
    let echo: String = new.key_pem.lines().skip(1).collect();
    world.inject(Fault::answer(Answer::new(400).with_body(echo.clone())).below("/mgmt/shared/file-transfer/"));
    let report = world.deploy(&settings, &new).await;
    let error = report.error.as_ref().unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::PlanInvalid));
    assert!(error.full_message().contains("answered 400"), "{}", error.full_message());
    assert!(!format!("{report:?} {}", error.full_message()).contains(&echo[..32]));
    assert!(!format!("{report:?}").contains(PASSWORD));
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_of_a_run_that_was_killed_are_removed_and_others_stay() {
    let (world, settings, _, new) = World::renewed(World::settings).await;
    let ours = format!("certdeploy-front-{}.key.18f3a2", "a".repeat(64));
    let others = ["image.iso".to_owned(), format!("certdeploy-front-2-{}.key.18f3a2", "a".repeat(64))];
    world.big_ip.with(|device| {
        let all = others.iter().chain([&ours]);
        device.downloads.extend(all.map(|name| (name.clone(), b"bytes".to_vec())));
    });
    assert_eq!(world.deploy(&settings, &new).await.outcome, Outcome::Changed);
    let left: Vec<String> = world.big_ip.with(|device| device.downloads.keys().cloned().collect());
    assert!(left.len() == 2 && others.iter().all(|name| left.contains(name)), "{left:?}");
}

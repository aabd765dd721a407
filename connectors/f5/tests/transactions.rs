//! The switch of several profiles of a stand-in, in one transaction.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test, with a world of its own")]

mod big_ip;
mod world;

use std::time::Duration;

use deploy_core::{ErrorKind, Live, Outcome};
use deploy_testkit::stand_in::{Answer, Fault};
use serde_json::{Value, json};

use crate::big_ip::config::entries;
use crate::big_ip::entry;
use crate::world::{API, BACKEND, WWW, World};

const PROFILES: &str = "/mgmt/tm/ltm/profile/";

#[tokio::test(flavor = "multi_thread")]
async fn p6_all_profiles_of_a_stand_in_switch_in_one_transaction() {
    let (world, settings, _, new) = World::renewed(World::three).await;
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.warnings.len()), (Outcome::Changed, 0), "{report:?}");
    assert_eq!([WWW, API].map(|profile| world.big_ip.served_fingerprint(profile)), [(); 2].map(|()| new.fingerprint.clone()));

    // Three for the check, and three for the switch.
    let members = world.exchanges("PATCH", PROFILES);
    let transactions: Vec<&str> =
        members.iter().map(|member| member.request.header("X-F5-REST-Coordination-Id").unwrap()).collect();
    let [check, switch] = [transactions[0], transactions[3]];
    assert_ne!(check, switch);
    assert_eq!(transactions, [check, check, check, switch, switch, switch]);
    let commits = world.exchanges("PATCH", "/mgmt/tm/transaction/");
    let sent = |index: usize| serde_json::from_slice::<Value>(&commits[index].request.body).unwrap();
    assert_eq!([sent(0), sent(1)], [true, false].map(|only| json!({ "state": "VALIDATING", "validateOnly": only })));
    assert!(commits[1].request.path.ends_with(switch));
    for exchange in world.big_ip.stand_in().record().exchanges() {
        let is_member = exchange.request.header("X-F5-REST-Coordination-Id").is_some();
        let may_be = exchange.request.is_changing()
            && ["/mgmt/tm/ltm/", "/mgmt/tm/sys/file/"].iter().any(|place| exchange.request.path.starts_with(place));
        assert!(may_be || !is_member, "no member: {exchange:?}");
    }

    // Certificate, key and intermediates, of one deployment.
    let config = world.big_ip.config();
    let backend = &config.server_ssl[BACKEND];
    for entry in [WWW, API].map(|profile| entries(&config.client_ssl[profile]).next().unwrap().clone()) {
        assert!(["cert", "key", "chain"].iter().all(|field| entry[*field] == backend[*field]), "{entry:?} {backend:?}");
    }
    assert_eq!(world.ours().len(), 3, "{:?}", world.ours());
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_member_that_a_stand_in_refuses_changes_no_profile() {
    let (world, settings, old, new) = World::renewed(World::three).await;
    let before = world.big_ip.state();
    let refusal =
        json!({ "code": 400, "message": "01070734:3: Configuration error: told to refuse", "errorStack": [], "apiError": 3 });
    // The second profile, after the check.
    let refused =
        Fault::answer(Answer::new(400).with_json(&refusal)).changing().below(format!("{PROFILES}client-ssl/~Common~api"));
    world.inject(refused.after(1).times(1));
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ReloadFailed);
    assert!(error.full_message().contains("01070734:3"), "{}", error.full_message());
    assert_eq!(world.commits(), 0, "what is refused is not committed");
    deploy_testkit::tree::assert_same(&before, &world.big_ip.state());
    assert_eq!([WWW, API].map(|profile| world.big_ip.served_fingerprint(profile)), [(); 2].map(|()| old.fingerprint.clone()));
    assert!(world.big_ip.with(|device| device.transactions.is_empty()), "a transaction is left open");
}

#[tokio::test(flavor = "multi_thread")]
async fn p6_a_commit_that_a_stand_in_refuses_changes_no_profile() {
    let (world, settings, old, new) = World::renewed(World::three).await;
    let before = world.big_ip.state();
    world.big_ip.with(|device| device.trouble.refused_commits = 1);
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert!(report.error.unwrap().full_message().contains("transaction failed:01070734:3"));
    deploy_testkit::tree::assert_same(&before, &world.big_ip.state());
    assert_eq!([WWW, API].map(|profile| world.big_ip.served_fingerprint(profile)), [(); 2].map(|()| old.fingerprint.clone()));
    assert_eq!(world.deploy(&settings, &new).await.outcome, Outcome::Changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_p6_all_profiles_go_back_in_one_transaction() {
    let (world, settings, old, new) = World::renewed(World::three).await;
    let before = world.big_ip.state();
    let endpoint = json!([{ "connect": world.big_ip.address(API).to_string() }]);
    let settings = world::with(settings, &json!({ "verify": endpoint, "verify_timeout": "300ms" }));
    world.big_ip.with(|device| device.trouble.serves = Some(world.issue()));
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::VerifyFailed);
    assert_eq!(world.commits(), 2, "one to switch, one to go back");
    deploy_testkit::tree::assert_same(&before, &world.big_ip.state());
    assert_eq!([WWW, API].map(|profile| world.big_ip.served_fingerprint(profile)), [(); 2].map(|()| old.fingerprint.clone()));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_p4_way_back_leaves_what_somebody_else_has_put_there() {
    let (world, settings, old, new) = World::renewed(World::three).await;
    world.inject(Fault::answer(Answer::new(403)).below("/mgmt/tm/sys/config").times(1));
    let theirs = entry("default", "/Common/others");
    world.big_ip.with(|device| device.trouble.after_commit = Some((API.to_owned(), vec![theirs.clone()])));
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RollbackFailed, Live::Unknown), "somebody has to look: {report:?}");
    assert_eq!(world.big_ip.served_fingerprint(WWW), old.fingerprint);
    assert_eq!(world.big_ip.client_ssl(API)["certKeyChain"], json!([theirs]));
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_run_of_a_stand_in_has_no_effect_and_says_why_it_refuses() {
    let (world, settings, _, new) = World::renewed(World::three).await;
    let before = world.big_ip.state();
    let preview = world.preview(&settings, &new).await;
    assert!(preview.error.is_none(), "{preview:?}");
    assert_eq!(preview.validated, deploy_core::Rung::V3);
    world.big_ip.with(|device| device.trouble.refused_checks = 1);
    let error = world.preview(&settings, &new).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ValidateFailed, "{error:?}");
    assert!(error.full_message().contains("told to refuse"));
    assert_eq!(world.commits(), 0);
    deploy_testkit::tree::assert_same(&before, &world.big_ip.state());
    assert!(world.big_ip.with(|device| device.transactions.is_empty() && device.tokens.is_empty()));
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_that_takes_its_time_is_waited_for() {
    let (world, settings, _, new) = World::renewed(World::settings).await;
    world.big_ip.with(|device| device.slow_commits = 3);
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, world.big_ip.served_fingerprint(WWW)), (Outcome::Changed, new.fingerprint), "{report:?}");
    assert_eq!((world.commits(), world.exchanges("GET", "/mgmt/tm/transaction/").len()), (1, 6), "three times for each commit");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_commit_whose_answer_was_lost_is_not_repeated() {
    for times in [1, 2] {
        let (world, settings, _, new) = World::renewed(World::settings).await;
        // The check is committed and abandoned before.
        world.inject(Fault::close_after().changing().below("/mgmt/tm/transaction/").after(2).times(times));
        let report = world.deploy(&settings, &new).await;
        assert_eq!((report.outcome, report.live), (Outcome::Changed, Live::Applied), "{report:?}");
        assert_eq!((world.commits(), world.big_ip.served_fingerprint(WWW)), (1, new.fingerprint));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn transaction_that_expired_is_begun_anew() {
    let (world, settings, _, new) = World::renewed(World::settings).await;
    let gone = json!({ "code": 404, "message": "Missing transaction ID for this call.", "restOperationId": 1 });
    world.inject(Fault::answer(Answer::new(404).with_json(&gone)).changing().below(PROFILES).after(1).times(1));
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, world.big_ip.served_fingerprint(WWW)), (Outcome::Changed, new.fingerprint), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_transactions_that_are_over_at_once_are_given_up() {
    let (world, settings, old, new) = World::renewed(World::settings).await;
    world.big_ip.with(|device| device.transaction_lifetime = Duration::ZERO);
    let report = world.deploy(&settings, &new).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, report.live, error.kind()), (Outcome::Rejected, Live::Unchanged, ErrorKind::Unavailable));
    assert!(error.full_message().contains("Missing transaction ID"), "{}", error.full_message());
    assert_eq!(world.big_ip.served_fingerprint(WWW), old.fingerprint);
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_p8_network_that_drops_delays_and_duplicates_is_survived() {
    let (world, settings, _, new) = World::renewed(World::verified).await;
    let places = ["/mgmt/shared/authn/", "/mgmt/shared/file-transfer/", "/mgmt/tm/sys/file/", "/mgmt/tm/transaction", PROFILES];
    for (index, place) in places.into_iter().enumerate() {
        world.inject(Fault::late(Duration::from_millis(30)).below(place).times(1));
        world.inject(Fault::twice().changing().below(place).times(1));
        let dropped = if index % 2 == 0 { Fault::close_after() } else { Fault::close_before() };
        world.inject(dropped.changing().below(place).after(index).times(1));
    }
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.live), (Outcome::Changed, Live::Applied), "{report:?}");
    assert_eq!(world.big_ip.served_fingerprint(WWW), new.fingerprint);
    assert_eq!(world.ours().len(), 3, "{:?}", world.ours());
    assert!(world.big_ip.with(|device| device.downloads.is_empty()));
}

//! What a restart of a stand-in brings back, and what its peer gets.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test, with a world of its own")]

mod big_ip;
mod world;

use deploy_core::{ErrorKind, Live, Outcome, RecoveryScope};
use deploy_testkit::stand_in::{Answer, Fault};
use serde_json::{Value, json};

use crate::big_ip::device::Group;
use crate::world::{WWW, World, with};

const GROUP: &str = "failover-group";

impl World {
    /// Two devices that are in sync.
    fn paired(&self) -> Value {
        self.big_ip.with(|device| {
            device.group = Some(Group { name: GROUP.to_owned(), peer: device.config.clone(), says: None, slow: 0, left: 0 });
        });
        with(self.settings(), &json!({ "sync_to": GROUP }))
    }

    fn group<T>(&self, work: impl FnOnce(&mut Group) -> T) -> T {
        self.big_ip.with(|device| work(device.group.as_mut().unwrap()))
    }

    fn syncs(&self) -> usize {
        self.exchanges("POST", "/mgmt/tm/cm").len()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_after_a_deployment_keeps_the_new_certificate() {
    let (world, settings, _, new) = World::renewed(World::settings).await;
    assert_eq!(world.deploy(&settings, &new).await.outcome, Outcome::Changed);
    assert_eq!(world.big_ip.with(|device| device.saved.clone()), world.big_ip.config(), "superseded objects and all");
    world.big_ip.restart();
    assert_eq!(world.big_ip.served_fingerprint(WWW), new.fingerprint);
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_after_a_rollback_keeps_the_old_certificate() {
    let (world, settings, old, new) = World::renewed(World::verified).await;
    world.big_ip.with(|device| device.trouble.serves = Some(world.issue()));
    assert_eq!(world.deploy(&settings, &new).await.outcome, Outcome::RolledBack);
    assert_eq!(world.big_ip.with(|device| device.saved.clone()), world.big_ip.config());
    world.big_ip.restart();
    assert_eq!(world.big_ip.served_fingerprint(WWW), old.fingerprint);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_saved_where_that_is_not_wanted() {
    let world = World::new();
    let before = world.big_ip.with(|device| device.saved.clone());
    let report = world.deploy(&with(world.settings(), &json!({ "save": false })), &world.issue()).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(world.big_ip.with(|device| device.saved.clone()), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_that_cannot_be_saved_is_no_success() {
    let (world, settings, old, new) = World::renewed(World::settings).await;
    let before = world.big_ip.state();
    world.inject(
        Fault::answer(Answer::new(403).with_json(&json!({ "code": 403, "message": "no" }))).below("/mgmt/tm/sys/config").times(1),
    );
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::PermissionDenied);
    assert_eq!(world.big_ip.served_fingerprint(WWW), old.fingerprint);
    deploy_testkit::tree::assert_same(&before, &world.big_ip.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_switched_before_a_crash_is_saved_by_recover() {
    let (world, settings, _, new) = World::renewed(World::settings).await;
    // As if the process died here: the answer never comes, and neither does the end of the run.
    let saving = "/mgmt/tm/sys/config";
    world.inject(Fault::never().below(saving).times(1));
    let (job, context) = (world::job(&settings, &new), world.context.clone());
    let run = tokio::spawn(async move { deploy_core::deploy(&[job], &context).await });
    world.big_ip.stand_in().record().wait_until(|exchanges| exchanges.iter().any(|exchange| exchange.request.path == saving));
    let record = world.root.path().join("state/vault/front.push");
    let begun = std::fs::read(&record).unwrap();
    let snapshot = std::fs::read(record.with_extension("snapshot")).unwrap();
    world.context.cancellation().cancel();
    run.await.unwrap();

    // What a dead process leaves.
    world.big_ip.stand_in().faults().heal();
    let world =
        World { context: deploy_core::Context::new(world.root.path().join("other"), deploy_testkit::provider()), ..world };
    let report = world.deploy(&with(settings.clone(), &json!({ "save": false })), &new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_ne!(world.big_ip.with(|device| device.saved.clone()), world.big_ip.config());
    let vault = world.root.path().join("other/vault");
    write_private(&vault.join("front.push"), &begun);
    write_private(&vault.join("front.snapshot"), &snapshot);

    let recovered = deploy_core::recover(&[world::job(&settings, &new)], RecoveryScope::Full, &world.context).await;
    assert!(recovered.len() == 1 && recovered[0].error.is_none(), "{recovered:?}");
    assert_eq!(world.big_ip.with(|device| device.saved.clone()), world.big_ip.config());
    assert_eq!(world.big_ip.served_fingerprint(WWW), new.fingerprint);
}

fn write_private(path: &std::path::Path, bytes: &[u8]) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap().write_all(bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_gets_the_new_certificate_and_is_waited_for() {
    let (world, settings, _, new) = World::renewed(World::paired).await;
    world.group(|group| group.slow = 2);
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.warnings.len()), (Outcome::Changed, 0), "{report:?}");
    assert_eq!(world.group(|group| group.peer.clone()), world.big_ip.config());
    let sent = world.exchanges("POST", "/mgmt/tm/cm");
    assert_eq!(
        serde_json::from_slice::<Value>(&sent[0].request.body).unwrap(),
        json!({ "command": "run", "utilCmdArgs": format!("config-sync to-group {GROUP}") })
    );
    assert_eq!(world.deploy(&settings, &new).await.outcome, Outcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn group_that_is_not_in_sync_is_refused_before_anything_is_uploaded() {
    for says in ["Awaiting Initial Sync", "Changes Pending", "Disconnected", "Sync Failure"] {
        let (world, settings, old, new) = World::renewed(World::paired).await;
        world.group(|group| group.says = Some(says));
        for certificate in [&old, &new] {
            let report = world.deploy(&settings, certificate).await;
            let error = report.error.unwrap();
            assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::PlanInvalid), "{error:?}");
            assert!(error.to_string().contains(says) && error.to_string().contains(GROUP), "{error}");
        }
        assert_eq!((world.syncs(), world.exchanges("POST", "/mgmt/shared/file-transfer/").len()), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peer_that_does_not_take_it_is_no_success() {
    let (world, settings, old, new) = World::renewed(World::paired).await;
    let before = world.big_ip.state();
    // It is in sync when it is looked at first, in `observe` and in the check.
    world.inject(Fault::answer(sync_status("Sync Failure")).below("/mgmt/tm/cm/sync-status").after(2).times(30));
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ReloadFailed);
    assert!(error.to_string().contains("Sync Failure"), "{error}");
    assert_eq!(world.big_ip.served_fingerprint(WWW), old.fingerprint);
    world.big_ip.stand_in().faults().heal();
    // The clean-up was not for sure, either; nothing but objects that nobody uses is left.
    let left = before.differences(&world.big_ip.state());
    assert!(left.iter().all(|line| line.contains("/certdeploy-front-")), "{left:?}");
    assert_eq!(world.deploy(&settings, &new).await.outcome, Outcome::Changed);
    assert_eq!(world.group(|group| group.peer.clone()), world.big_ip.config());
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_device_group_that_does_not_exist_is_named() {
    let (world, settings, _, new) = World::renewed(World::paired).await;
    let error = world.deploy(&with(settings, &json!({ "sync_to": "another" })), &new).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    assert!(error.to_string().contains("the device group another does not exist"), "{error}");
}

fn sync_status(status: &str) -> Answer {
    let entries = json!({ "status": { "description": status }, "summary": { "description": "told to say so" } });
    Answer::new(200).with_json(
        &json!({ "entries": { "https://localhost/mgmt/tm/cm/sync-status/0": { "nestedStats": { "entries": entries } } } }),
    )
}

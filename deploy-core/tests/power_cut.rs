//! What a power cut can leave where the file system keeps no order between directories: each state is made by hand.
//! The proof of power cuts finds them by itself; these say what is to come of each.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files, and start processes"
)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::World;
use common::crash::CrashWorld;
use common::wrapped::{Op, Wrapped};
use deploy_core::{Live, Outcome, Recovered, RecoveryScope, recover};
use deploy_testkit::pki::Issued;

#[tokio::test]
#[ignore = "run by the other tests, in a process of its own, to be killed"]
async fn inner() {
    common::crash::inner().await;
}

/// A world where `old` is deployed and a deployment of `new` died at `at`.
async fn died(at: &str) -> (CrashWorld, Issued, Issued) {
    let world = CrashWorld::new();
    let (old, new) = (world.issue(), world.issue());
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
    assert!(world.deploy_and_die(&new, at), "{at} was never reached");
    (world, old, new)
}

fn settled(mut recovered: Vec<Recovered>) -> Recovered {
    assert!(recovered.len() == 1 && recovered[0].error.is_none(), "{recovered:?}");
    recovered.remove(0)
}

#[tokio::test]
async fn r3_journal_whose_hidden_directory_was_lost_is_settled() {
    let (world, old, new) = died("swap 1").await;
    fs::remove_dir_all(world.root.path().join("tls/.certdeploy")).unwrap();
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::Unchanged);
    assert!(world.holds(&old) && world.journals().is_empty());
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Changed);
}

#[tokio::test]
async fn r5_commit_whose_rename_was_half_done_is_finished() {
    let (world, _, new) = died("reload 1").await;
    let journal = world.journals().remove(0);
    fs::hard_link(&journal, world.root.path().join("state/targets/front-00000002.set")).unwrap();
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::Applied);
    assert_eq!(world.journals(), Vec::<PathBuf>::new());
    assert!(world.recover(&new).await.is_empty());
}

#[tokio::test]
async fn r5_switch_whose_rename_was_half_done_leaves_no_second_name() {
    let (world, _, new) = died("reload 1").await;
    fs::hard_link(world.key(), world.hidden().join("00000002.1.new")).unwrap();
    assert_eq!(settled(world.recover(&new).await).live, Live::Applied);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn f31_second_name_that_a_half_done_switch_left_is_no_foreign_hard_link() {
    let (world, _, new) = died("reload 1").await;
    assert_eq!(settled(world.recover(&new).await).live, Live::Applied);
    fs::hard_link(world.key(), world.hidden().join("00000002.1.new")).unwrap();
    let next = world.issue();
    let report = world.deploy(&next).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&next));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn marker_that_came_back_hides_no_later_set() {
    let world = World::new();
    let marker = world.root.path().join("state/targets/front.json");
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
    let before = fs::read(&marker).unwrap();
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
    fs::write(&marker, before).unwrap();
    let next = world.issue();
    let report = world.deploy(&next).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&next));
    assert_eq!(world.sets(), 3);
    assert_eq!(world.stray_backups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn owner_file_of_zeros_is_written_again() {
    let world = World::new();
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
    let owner = world.tls().join(".certdeploy/owner");
    let whole = fs::read(&owner).unwrap();
    for torn in [vec![0; whole.len()], [&whole[..9], &vec![0; whole.len() - 9]].concat(), Vec::new()] {
        fs::write(&owner, torn).unwrap();
        let report = world.deploy(&world.issue()).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(fs::read(&owner).unwrap(), whole);
    }
}

#[tokio::test]
async fn f37_directories_that_a_killed_run_made_are_synced_by_the_next() {
    let world = CrashWorld::new();
    let new = world.issue();
    assert!(world.deploy_and_die(&new, "validate 1"));
    let synced = |host: &Wrapped| {
        let log = host.log();
        log.into_iter().filter(|(op, _)| *op == Op::Sync).map(|(_, path)| path).collect::<Vec<_>>()
    };
    let host = Arc::new(Wrapped::default());
    let context = world.context.clone().with_host(Arc::<Wrapped>::clone(&host));
    let report = deploy_core::deploy(&[world.job(&new)], &context).await.remove(0);
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let synced = synced(&host);
    assert!(synced.contains(&world.root.path().join("state")), "{synced:?}");
    assert!(synced.contains(&world.root.path().to_owned()), "{synced:?}");
    assert!(synced.contains(&world.root.path().join("tls/.certdeploy/owner")), "{synced:?}");
}

#[tokio::test]
async fn r15_service_that_started_before_recovery_is_told_after_a_reboot() {
    let (world, old, new) = died("verify 1").await;
    world.hang_up(&new);
    // As a machine that lost a part of the switch, and whose service started all the same.
    fs::remove_file(world.key()).unwrap();
    fs::hard_link(world.hidden().join("00000002.1.old"), world.key()).unwrap();
    let host = Arc::new(Wrapped::default());
    *host.boot.lock().unwrap() = Some("another boot".to_owned());
    let context = world.context.clone().with_host(host);
    let recovered = settled(recover(&[world.job(&new)], RecoveryScope::Full, &context).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert!(world.holds(&old));
    assert_eq!(world.served(), Some(old.fingerprint));
}

#[tokio::test]
async fn f34_repaired_owner_and_mode_are_put_on_the_medium() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::new();
    let issued = world.issue();
    let plan = || {
        let mut plan = world.plan(&issued);
        plan.files[1].mode = Some(deploy_core::settings::Mode::new(0o640));
        plan
    };
    assert_eq!(plan().apply(&world.context).await.outcome, Outcome::Changed);
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o600)).unwrap();
    let host = Arc::new(Wrapped::default());
    assert_eq!(plan().apply(&world.context_on(&host)).await.outcome, Outcome::Repaired);
    let log = host.log();
    let set = log.iter().position(|(op, path)| *op == Op::SetMetadata && *path == world.key());
    let synced = log.iter().position(|(op, path)| *op == Op::Sync && *path == world.key());
    assert!(set.is_some() && synced > set, "{log:?}");
}

#[tokio::test]
async fn f34_repaired_mode_of_a_generation_is_put_on_the_medium() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::with_generations();
    let issued = world.issue();
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Changed);
    let generation = world.tls().join("www/generation-00000001");
    fs::set_permissions(&generation, fs::Permissions::from_mode(0o700)).unwrap();
    let host = Arc::new(Wrapped::default());
    assert_eq!(world.plan(&issued).apply(&world.context_on(&host)).await.outcome, Outcome::Repaired);
    let log = host.log();
    let set = log.iter().position(|(op, path)| *op == Op::SetDirectoryMode && *path == generation);
    let synced = log.iter().position(|(op, path)| *op == Op::Sync && *path == generation);
    assert!(set.is_some() && synced > set, "{log:?}");
}

#[tokio::test]
async fn f11_generations_of_a_target_whose_marker_was_lost_are_closed_and_removed() {
    use std::os::unix::fs::PermissionsExt as _;
    let world = World::with_generations();
    let mut last = world.issue();
    for _ in 0..3 {
        last = world.issue();
        assert_eq!(world.plan(&last).with_backups(1).apply(&world.context).await.outcome, Outcome::Changed);
    }
    fs::remove_file(world.root.path().join("state/targets/front.json")).unwrap();
    // As a run that was killed before its journal was written.
    fs::create_dir(world.tls().join("www/generation-00000004")).unwrap();
    let later = Arc::new(Wrapped::default());
    *later.clock.lock().unwrap() = Some(SystemTime::now() + Duration::from_secs(2 * 60 * 60));
    let report = world.plan(&last).with_backups(1).apply(&world.context_on(&later)).await;
    assert_eq!((report.outcome, report.warnings.len()), (Outcome::Unchanged, 0), "{report:?}");
    let mode = |number: u64| {
        let found = fs::metadata(world.tls().join(format!("www/generation-{number:08}")));
        found.ok().map(|found| found.permissions().mode() & 0o7777)
    };
    assert_eq!([1, 2, 3, 4].map(mode), [None, Some(0o700), Some(0o755), None]);
}

#[tokio::test]
async fn f31_claim_of_generations_whose_rename_was_half_done_leaves_no_second_name() {
    let world = CrashWorld::with_generations();
    let new = world.issue();
    assert!(world.deploy_and_die(&new, "validate 1"));
    let hidden = world.layout.directory().unwrap().join(".certdeploy");
    fs::hard_link(hidden.join("owner"), hidden.join("owner.new")).unwrap();
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Changed);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

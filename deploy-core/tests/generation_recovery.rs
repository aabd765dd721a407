//! The layout `generation` where a process dies: at every event, before every change, and again in recovery.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files, and start processes"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::crash::CrashWorld;
use common::wrapped::{Fault, Op, Wrapped};
use deploy_core::command::Command;
use deploy_core::{ErrorKind, Live, Outcome, Recovered, RecoveryScope, Reload, recover};
use deploy_testkit::pki::Issued;

#[tokio::test]
#[ignore = "run by the other tests, in a process of its own, to be killed"]
async fn inner() {
    common::crash::inner().await;
}

fn only(recovered: Vec<Recovered>) -> Recovered {
    let count = recovered.len();
    assert_eq!(count, 1, "{recovered:?}");
    recovered.into_iter().next().unwrap()
}

fn settled(recovered: Vec<Recovered>) -> Recovered {
    let recovered = only(recovered);
    assert!(recovered.error.is_none() && !recovered.owed, "{recovered:?}");
    recovered
}

fn directory(world: &CrashWorld) -> PathBuf {
    world.layout.directory().unwrap().to_owned()
}

fn current(world: &CrashWorld) -> Option<PathBuf> {
    fs::read_link(directory(world).join("current")).ok()
}

/// A world where `old` is deployed and a deployment of `new` died at `at`.
async fn died(at: &str) -> (CrashWorld, Issued, Issued) {
    let world = CrashWorld::with_generations();
    let (old, new) = (world.issue(), world.issue());
    let report = world.deploy(&old).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.deploy_and_die(&new, at), "{at} was never reached");
    (world, old, new)
}

/// Others cannot enter a generation that is being filled.
fn is_closed_until_whole(world: &CrashWorld, what: &str) {
    let mut tree = BTreeMap::new();
    common::collect(world.root.path(), &mut tree);
    let is_generation =
        |path: &&PathBuf| fs::symlink_metadata(path).unwrap().is_dir() && path.to_string_lossy().contains("generation-");
    for path in tree.keys().filter(is_generation) {
        let whole = ["www.crt", "www.key"].iter().all(|name| tree.contains_key(&path.join(name)));
        assert!(whole || tree[path].mode & 0o7777 == 0o700, "{what}: {} can be entered", path.display());
    }
}

/// Nothing is a mixture at any moment, before any recovery; nor can others read a key.
fn is_whole(world: &CrashWorld, old: Option<&Issued>, new: &Issued, what: &str) {
    let is_old = old.map_or_else(|| current(world).is_none(), |old| world.holds(old));
    assert!(is_old || world.holds(new), "{what}: a mixture");
    let mut tree = BTreeMap::new();
    common::collect(world.root.path(), &mut tree);
    let key = |issued: &Issued| issued.key_pem.lines().nth(1).unwrap().as_bytes().to_vec();
    let keys: Vec<Vec<u8>> = old.into_iter().chain([new]).map(key).collect();
    for (path, entry) in &tree {
        let has_key = keys.iter().any(|key| entry.bytes.windows(key.len()).any(|window| window == key));
        assert!(!has_key || entry.mode & 0o7777 == 0o600, "{what}: {} can be read", path.display());
    }
}

async fn ends_with_new(world: &CrashWorld, new: &Issued, what: &str) {
    let report = world.deploy(new).await;
    let good = matches!(report.outcome, Outcome::Changed | Outcome::Repaired | Outcome::Unchanged);
    assert!(good, "{what}: {report:?}");
    assert!(world.holds(new), "{what}");
    assert_eq!(world.served(), Some(new.fingerprint.clone()), "{what}");
    assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{what}");
    let mode = fs::metadata(directory(world)).map(|found| std::os::unix::fs::MetadataExt::mode(&found) & 0o7777).unwrap();
    assert_eq!(mode, 0o755, "{what}");
    let report = world.deploy(new).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "{what}: {report:?}");
}

/// Kills a deployment at every step of one kind, recovers, and deploys again.
async fn kill_everywhere(kind: &str, renewal: bool, recover_first: bool) -> usize {
    for number in if kind == "event" { 1.. } else { 0.. } {
        let world = CrashWorld::with_generations();
        let (old, new) = (world.issue(), world.issue());
        if renewal {
            assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
        }
        let old = Some(&old).filter(|_| renewal);
        let what = format!("{kind} {number}, renewal {renewal}");
        if !world.deploy_and_die(&new, &format!("{kind} {number}")) {
            return number;
        }
        is_whole(&world, old, &new, &what);
        is_closed_until_whole(&world, &what);
        if recover_first {
            for recovered in world.recover(&new).await {
                assert!(recovered.error.is_none(), "{what}: {recovered:?}");
            }
            is_whole(&world, old, &new, &what);
            assert_eq!(world.journals(), Vec::<PathBuf>::new(), "{what}");
            assert_eq!(world.recover(&new).await.len(), 0, "{what}: a second recovery has nothing to do");
        }
        ends_with_new(&world, &new, &what).await;
    }
    unreachable!("every deployment ends")
}

#[tokio::test]
async fn f28_killed_at_every_event_of_a_first_deployment_of_generations() {
    assert!(kill_everywhere("event", false, true).await > 10);
}

#[tokio::test]
async fn f28_killed_at_every_event_of_a_renewal_of_generations() {
    assert!(kill_everywhere("event", true, true).await > 10);
}

#[tokio::test]
async fn s2_f28_killed_before_every_change_of_a_first_deployment_of_generations() {
    assert!(kill_everywhere("operation", false, false).await > 15);
}

#[tokio::test]
async fn s2_f28_killed_before_every_change_of_a_renewal_of_generations() {
    assert!(kill_everywhere("operation", true, true).await > 10);
}

#[tokio::test]
async fn recovery_of_a_first_deployment_that_is_killed_at_every_change_converges() {
    for number in 0.. {
        let world = CrashWorld::with_generations();
        let new = world.issue();
        assert!(world.deploy_and_die(&new, "swapped 1"));
        let what = format!("operation {number}");
        let killed = world.recover_and_die(&new, &what);
        is_whole(&world, None, &new, &what);
        ends_with_new(&world, &new, &what).await;
        if !killed {
            assert!(number >= 2, "{number}");
            break;
        }
    }
}

/// A world with a journal that has ROLLBACK in it while all is new: the way back died before it flipped.
async fn died_on_the_way_back() -> (CrashWorld, Issued, Issued) {
    let (world, old, new) = died("reload 1").await;
    let host = Arc::new(Wrapped::default());
    host.set_fault(Some(Fault { at: 0, once: false, only: &[Op::Symlink, Op::Rename], errno: rustix::io::Errno::IO }));
    let context = world.context.clone().with_host(host);
    let failing = world.target().hooks.with_reload(Reload::Command(Command::new(["false"])));
    let job = world.job_with(world.target().with_hooks(failing), &new);
    let recovered = only(recover(&[job], RecoveryScope::Full, &context).await);
    assert_eq!(recovered.error.unwrap().kind(), ErrorKind::RollbackFailed);
    assert!(world.holds(&new));
    (world, old, new)
}

#[tokio::test]
async fn r6_way_back_that_is_killed_at_every_change_ends_with_the_old_generation() {
    for number in 0.. {
        let (world, old, new) = died_on_the_way_back().await;
        let what = format!("operation {number}");
        let killed = world.recover_and_die(&new, &what);
        is_whole(&world, Some(&old), &new, &what);
        for recovered in world.recover(&new).await {
            assert!(recovered.error.is_none(), "{what}: {recovered:?}");
        }
        assert!(world.holds(&old), "{what}");
        assert_eq!(world.served(), Some(old.fingerprint.clone()), "{what}");
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{what}");
        if !killed {
            assert!(number >= 4, "{number}");
            ends_with_new(&world, &new, &what).await;
            break;
        }
    }
}

#[tokio::test]
async fn r1_generation_without_a_journal_is_swept_by_the_next_run() {
    let (world, old, new) = died("validate 1").await;
    assert_eq!(world.journals(), Vec::<PathBuf>::new());
    assert_eq!(world.litter(), [directory(&world).join("generation-00000002")]);
    assert_eq!(world.recover(&new).await.len(), 0);
    assert!(world.holds(&old));
    ends_with_new(&world, &new, "R1").await;
}

#[tokio::test]
async fn r3_journal_without_a_flip_is_swept_and_the_old_state_is_acknowledged() {
    let (world, old, new) = died("swap 1").await;
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::Unchanged);
    assert!(world.holds(&old));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
    ends_with_new(&world, &new, "R3").await;
}

#[tokio::test]
async fn r5_flipped_generation_is_kept_reloaded_and_seen() {
    for at in ["swapped 1", "swapped 2", "reload 1", "verify 1", "acknowledge 1"] {
        let (world, _, new) = died(at).await;
        let recovered = settled(world.recover(&new).await);
        assert_eq!(recovered.live, Live::Applied, "{at}");
        assert!(world.holds(&new), "{at}");
        assert_eq!(world.served(), Some(new.fingerprint.clone()), "{at}");
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{at}");
        assert_eq!(world.deploy(&new).await.outcome, Outcome::Unchanged, "{at}");
    }
}

#[tokio::test]
async fn r5_files_only_keeps_the_flip_and_the_debt() {
    let (world, _, new) = died("swapped 1").await;
    let recovered = only(recover(&[world.job(&new)], RecoveryScope::FilesOnly, &world.context).await);
    assert!(recovered.owed && recovered.error.is_none(), "{recovered:?}");
    assert_eq!(world.journals().len(), 1);
    assert!(world.holds(&new));
    assert_ne!(world.served(), Some(new.fingerprint.clone()), "nobody was told");
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
    assert_eq!(world.served(), Some(new.fingerprint.clone()));
}

#[tokio::test]
async fn r5_flip_whose_reload_fails_goes_back() {
    let (world, old, new) = died("reload 1").await;
    let failing = world.target().hooks.with_reload(Reload::Command(Command::new(["false"])));
    let job = world.job_with(world.target().with_hooks(failing), &new);
    let recovered = only(recover(&[job], RecoveryScope::Full, &world.context).await);
    assert_eq!((recovered.live, recovered.error.is_none()), (Live::RolledBack, true), "{recovered:?}");
    assert!(world.holds(&old));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    ends_with_new(&world, &new, "after the way back").await;
}

#[tokio::test]
async fn r10_f35_what_somebody_else_did_to_the_link_or_to_a_file_is_never_undone() {
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("another link", |place| {
            fs::remove_file(place.join("current")).unwrap();
            symlink("/somewhere/else", place.join("current")).unwrap();
        }),
        ("no link", |place| fs::remove_file(place.join("current")).unwrap()),
        ("a directory", |place| {
            fs::remove_file(place.join("current")).unwrap();
            fs::create_dir(place.join("current")).unwrap();
        }),
        ("a file of the new generation", |place| fs::write(place.join("current/www.crt"), "somebody else's").unwrap()),
        ("a file that is gone", |place| fs::remove_file(place.join("current/www.key")).unwrap()),
    ];
    for (name, change) in changes {
        let (world, _, new) = died("reload 1").await;
        change(&directory(&world));
        let tree = || {
            let mut tree = BTreeMap::new();
            common::collect(&directory(&world), &mut tree);
            tree
        };
        let before = tree();
        let error = only(world.recover(&new).await).error.unwrap();
        assert_eq!((error.kind(), error.live()), (ErrorKind::Conflict, Live::Unknown), "{name}: {error:?}");
        assert!(error.next_step().contains("ln -sfn generation-00000001"), "{name}: {error:?}");
        let report = world.deploy(&new).await;
        assert!(report.error.is_some(), "{name}: {report:?}");
        assert_eq!(world.journals().len(), 1, "{name}");
        assert!(tree() == before, "{name}");
    }
}

#[tokio::test]
async fn r11_old_generation_that_is_not_what_it_was_is_not_brought_back() {
    for lost in [true, false] {
        let (world, _, new) = died_on_the_way_back().await;
        let old = directory(&world).join("generation-00000001");
        if lost {
            fs::remove_dir_all(&old).unwrap();
        } else {
            fs::write(old.join("www.crt"), "not what it was").unwrap();
        }
        let error = only(world.recover(&new).await).error.unwrap();
        assert_eq!(error.live(), Live::Unknown, "{error:?}");
        assert!(error.full_message().contains("backup"), "{}", error.full_message());
        assert!(world.holds(&new));
        assert_eq!(world.journals().len(), 1);
    }
}

#[tokio::test]
async fn r14_replaced_directory_of_generations_is_left_alone() {
    let (world, _, new) = died("reload 1").await;
    let (place, kept) = (directory(&world), world.root.path().join("kept"));
    fs::rename(&place, &kept).unwrap();
    fs::create_dir(&place).unwrap();
    assert_eq!(only(world.recover(&new).await).error.unwrap().kind(), ErrorKind::Conflict);
    assert_eq!(world.journals().len(), 1);
    // Back at its place, it can be settled.
    fs::remove_dir(&place).unwrap();
    fs::rename(&kept, &place).unwrap();
    settled(world.recover(&new).await);
    assert!(world.holds(&new));
}

#[tokio::test]
async fn target_that_is_gone_is_settled_with_the_recorded_hooks() {
    let (world, _, new) = died("reload 1").await;
    let recovered = settled(recover(&[], RecoveryScope::Full, &world.context).await);
    assert_eq!(recovered.live, Live::Applied);
    assert_eq!(world.served(), Some(new.fingerprint.clone()));
}

#[tokio::test]
async fn r15_after_a_reboot_the_old_generation_needs_no_reload() {
    let (world, old, new) = died_on_the_way_back().await;
    let host = Arc::new(Wrapped::default());
    *host.boot.lock().unwrap() = Some("another boot".to_owned());
    let context = world.context.clone().with_host(host);
    let recovered = settled(recover(&[world.job(&new)], RecoveryScope::FilesOnly, &context).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert!(world.holds(&old));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

//! Deployments whose process dies, and what the next one makes of it: rules R1 to R16 and the probe table.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files, and start processes"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use common::World;
use common::crash::{CrashWorld, certificate};
use common::wrapped::{Fault, Op, Wrapped};
use deploy_core::command::Command;
use deploy_core::{ErrorKind, Hooks, Job, Live, Outcome, Recovered, RecoveryScope, Reload, Verify, deploy, recover};
use deploy_testkit::pki::Issued;
use sha2::{Digest as _, Sha256};

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

/// A world where `old` is deployed and a deployment of `new` died at `at`.
async fn died(at: &str) -> (CrashWorld, Issued, Issued) {
    let world = CrashWorld::new();
    let (old, new) = (world.issue(), world.issue());
    let report = world.deploy(&old).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.deploy_and_die(&new, at), "{at} was never reached");
    (world, old, new)
}

async fn ends_with_new(world: &CrashWorld, new: &Issued, what: &str) {
    let report = world.deploy(new).await;
    let good = matches!(report.outcome, Outcome::Changed | Outcome::Repaired | Outcome::Unchanged);
    assert!(good, "{what}: {report:?}");
    assert!(world.holds(new), "{what}");
    assert_eq!(world.served(), Some(new.fingerprint.clone()), "{what}");
    assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{what}");
    let report = world.deploy(new).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "{what}: {report:?}");
}

/// Kills a deployment at every step of one kind, recovers, and deploys again.
async fn kill_everywhere(kind: &str, renewal: bool, recover_first: bool) -> usize {
    for number in if kind == "event" { 1.. } else { 0.. } {
        let world = CrashWorld::new();
        let (old, new) = (world.issue(), world.issue());
        if renewal {
            assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
        }
        let what = format!("{kind} {number}, renewal {renewal}");
        if !world.deploy_and_die(&new, &format!("{kind} {number}")) {
            return number;
        }
        if recover_first {
            for recovered in world.recover(&new).await {
                assert!(recovered.error.is_none(), "{what}: {recovered:?}");
            }
            let is_old = if renewal { world.holds(&old) } else { !world.crt().exists() && !world.key().exists() };
            assert!(is_old || world.holds(&new), "{what}: a mixture");
            assert_eq!(world.journals(), Vec::<PathBuf>::new(), "{what}");
            assert_eq!(world.recover(&new).await.len(), 0, "{what}: a second recovery has nothing to do");
        }
        ends_with_new(&world, &new, &what).await;
    }
    unreachable!("every deployment ends")
}

#[tokio::test]
async fn f28_killed_at_every_event_of_a_first_deployment() {
    assert!(kill_everywhere("event", false, true).await > 10);
}

#[tokio::test]
async fn f28_killed_at_every_event_of_a_renewal() {
    assert!(kill_everywhere("event", true, true).await > 10);
}

#[tokio::test]
async fn f28_killed_before_every_change_of_a_first_deployment() {
    assert!(kill_everywhere("operation", false, false).await > 15);
}

#[tokio::test]
async fn f28_killed_before_every_change_of_a_renewal() {
    assert!(kill_everywhere("operation", true, true).await > 10);
}

#[tokio::test]
async fn recovery_that_is_killed_at_every_change_converges() {
    for number in 0.. {
        let (world, old, new) = died("swapped 1").await;
        if !world.recover_and_die(&new, &format!("operation {number}")) {
            assert!(number >= 4, "{number}");
            break;
        }
        settled_or_nothing(world.recover(&new).await);
        assert!(world.holds(&old), "operation {number}");
        assert_eq!(world.served(), Some(old.fingerprint.clone()), "operation {number}");
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "operation {number}");
        ends_with_new(&world, &new, &format!("operation {number}")).await;
    }
}

fn settled_or_nothing(recovered: Vec<Recovered>) {
    for recovered in recovered {
        assert!(recovered.error.is_none(), "{recovered:?}");
    }
}

#[tokio::test]
async fn r1_staging_files_without_a_journal_are_swept_by_the_next_run() {
    let (world, old, new) = died("validate 1").await;
    assert_eq!(world.journals(), Vec::<PathBuf>::new());
    assert!(!world.litter().is_empty());
    assert_eq!(world.recover(&new).await.len(), 0);
    assert!(world.holds(&old));
    ends_with_new(&world, &new, "R1").await;
}

#[tokio::test]
async fn r2_torn_first_line_means_that_nothing_was_switched() {
    for length in [0, 3, 5, 40, 300] {
        let (world, old, new) = died("swap 1").await;
        let journal = world.journals().remove(0);
        let bytes = fs::read(&journal).unwrap();
        fs::write(&journal, &bytes[..length]).unwrap();
        let recovered = settled(world.recover(&new).await);
        assert_eq!((recovered.live, recovered.targets), (Live::Unchanged, vec!["front".to_owned()]), "{length}");
        assert!(world.holds(&old) && world.journals().is_empty(), "{length}");
        ends_with_new(&world, &new, &format!("R2 with {length} bytes")).await;
    }
}

#[tokio::test]
async fn journal_of_an_unknown_version_is_left_alone_and_nothing_is_touched() {
    let (world, _, new) = died("swapped 1").await;
    let journal = world.journals().remove(0);
    fs::write(&journal, "CDJ9\nwhatever").unwrap();
    let (crt, key) = (fs::read(world.crt()).unwrap(), fs::read(world.key()).unwrap());
    let recovered = only(world.recover(&new).await);
    assert_eq!(recovered.error.unwrap().kind(), ErrorKind::StateInvalid);
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(fs::read(&journal).unwrap(), b"CDJ9\nwhatever");
    assert_eq!((fs::read(world.crt()).unwrap(), fs::read(world.key()).unwrap()), (crt, key));
}

#[tokio::test]
async fn journal_that_cannot_be_read_keeps_no_other_from_being_settled() {
    let (world, old, new) = died("swapped 1").await;
    let bad = world.root.path().join("state/journal/another-00000001.jnl");
    fs::write(&bad, "CDJ9\nwhatever").unwrap();
    let recovered = world.recover(&new).await;
    assert_eq!(recovered.len(), 2, "{recovered:?}");
    assert_eq!(recovered[0].targets, ["another"]);
    assert_eq!(recovered[0].error.as_ref().unwrap().kind(), ErrorKind::StateInvalid);
    assert!(recovered[1].error.is_none(), "{recovered:?}");
    assert!(world.holds(&old));
    assert_eq!(world.journals(), [bad]);
}

#[tokio::test]
async fn r3_all_old_is_swept_and_the_marker_comes_back() {
    let (world, old, new) = died("swap 1").await;
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::Unchanged);
    assert!(world.holds(&old) && world.journals().is_empty());
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged, "the old state was acknowledged, and is again");
    ends_with_new(&world, &new, "R3").await;
}

#[tokio::test]
async fn r4_mixture_goes_back_to_the_very_same_files() {
    let world = CrashWorld::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    fs::set_permissions(world.crt(), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(world.crt(), Some(12), Some(34)).expect("this test needs root");
    let facts = || fs::metadata(world.crt()).map(|file| (file.ino(), file.uid(), file.gid(), file.mode())).unwrap();
    let before = facts();
    assert!(world.deploy_and_die(&new, "swapped 1"));
    assert_eq!(fs::read(world.crt()).unwrap(), certificate(&new).fullchain_pem(), "a mixture on disk");
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert!(world.holds(&old));
    assert_eq!(facts(), before);
    assert_eq!(world.served(), Some(old.fingerprint));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn r5_all_new_is_kept_reloaded_and_seen() {
    for at in ["swapped 2", "reload 1", "verify 1", "acknowledge 1"] {
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
async fn r5_files_only_keeps_the_new_files_and_the_debt() {
    let (world, _, new) = died("reload 1").await;
    let recovered = only(recover(&[world.job(&new)], RecoveryScope::FilesOnly, &world.context).await);
    assert!(recovered.owed && recovered.error.is_none(), "{recovered:?}");
    assert_eq!(world.journals().len(), 1);
    assert!(world.holds(&new));
    assert_ne!(world.served(), Some(new.fingerprint.clone()), "nobody was told");
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
    assert_eq!(world.served(), Some(new.fingerprint.clone()));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn r4_files_only_puts_a_mixture_back_and_keeps_the_debt() {
    let (world, old, new) = died("swapped 1").await;
    let recovered = only(recover(&[world.job(&new)], RecoveryScope::FilesOnly, &world.context).await);
    assert!(recovered.owed && recovered.error.is_none(), "{recovered:?}");
    assert!(world.holds(&old));
    assert_eq!(world.journals().len(), 1);
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

/// Hooks whose reload fails, so that a deployment goes back.
fn failing_hooks(world: &CrashWorld) -> Hooks {
    world.target().hooks.with_reload(Reload::Command(Command::new(["false"])))
}

/// A world with a journal that has ROLLBACK in it and all new files: the way back died before its first step.
async fn died_on_the_way_back() -> (CrashWorld, Issued, Issued) {
    let (world, old, new) = died("reload 1").await;
    let host = Arc::new(Wrapped::default());
    // The first fault hits the link that brings a file back, after the record of the way back.
    host.set_fault(Some(Fault { at: 0, once: false, only: &[Op::Link, Op::Create, Op::Rename], errno: rustix::io::Errno::IO }));
    let context = world.context.clone().with_host(host);
    let job = world.job_with(world.target().with_hooks(failing_hooks(&world)), &new);
    let recovered = only(recover(&[job], RecoveryScope::Full, &context).await);
    assert_eq!(recovered.error.unwrap().kind(), ErrorKind::RollbackFailed);
    assert!(world.holds(&new));
    let journal = fs::read_to_string(&world.journals()[0]).unwrap();
    assert!(journal.contains(" ROLLBACK "), "{journal}");
    (world, old, new)
}

#[tokio::test]
async fn r6_way_back_that_was_begun_is_gone_although_all_is_new() {
    let (world, old, new) = died_on_the_way_back().await;
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert!(world.holds(&old));
    assert_eq!(world.served(), Some(old.fingerprint.clone()));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn r16_error_of_the_disk_stops_recovery_which_can_be_repeated() {
    let (world, old, new) = died("swapped 1").await;
    let host = Arc::new(Wrapped::default());
    let context = world.context.clone().with_host(host.clone());
    for at in 0..20 {
        host.set_fault(Some(Fault { at, once: true, only: &[], errno: rustix::io::Errno::IO }));
        let recovered = only(recover(&[world.job(&new)], RecoveryScope::Full, &context).await);
        if recovered.error.is_none() {
            break;
        }
        assert!(!world.journals().is_empty() || host.hit().iter().any(|(_, path)| path.ends_with("front.json")), "{at}");
    }
    settled_or_nothing(world.recover(&new).await);
    assert!(world.holds(&old));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn r7_finished_way_back_still_owes_the_reload() {
    let (world, old, new) = died("verify 1").await;
    // The server has the new files already when everything goes back.
    world.hang_up(&new);
    let broken = Hooks::new()
        .with_reload(Reload::Command(Command::new(["false"])))
        .with_verify(Verify::Endpoints { endpoints: vec![wrong_endpoint()], timeout: Duration::from_millis(100) });
    let job = world.job_with(world.target().with_hooks(broken), &new);
    let recovered = only(recover(&[job], RecoveryScope::Full, &world.context).await);
    assert!(recovered.error.is_some(), "{recovered:?}");
    assert!(world.holds(&old));
    assert_eq!(world.served(), Some(new.fingerprint.clone()));
    assert_eq!(world.journals().len(), 1, "the debt stays where the next run finds it");
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert_eq!(world.served(), Some(old.fingerprint.clone()));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

fn wrong_endpoint() -> deploy_core::probe::Endpoint {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    deploy_core::probe::Endpoint::new(closed.to_string())
}

#[tokio::test]
async fn r8_r9_deployment_that_died_after_its_commit_is_done_whatever_somebody_changed_since() {
    let (world, _, new) = died("finished 1").await;
    assert_eq!(world.journals(), Vec::<PathBuf>::new());
    fs::write(world.crt(), "somebody else's").unwrap();
    assert_eq!(world.recover(&new).await.len(), 0, "there is no journal any more");
    assert_eq!(fs::read(world.crt()).unwrap(), b"somebody else's");
}

#[tokio::test]
async fn r1_staged_name_beside_the_backups_of_its_set_is_swept_by_the_next_renewal() {
    let world = CrashWorld::new();
    let (old, new, newer) = (world.issue(), world.issue(), world.issue());
    for issued in [&old, &new] {
        assert_eq!(world.deploy(issued).await.outcome, Outcome::Changed);
    }
    fs::hard_link(world.key(), world.hidden().join("00000002.1.new")).unwrap();
    let report = world.deploy(&newer).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn r5_half_done_rename_of_the_journal_or_of_a_staged_file_is_finished() {
    let (world, _, new) = died("verify 1").await;
    let journal = world.journals().remove(0);
    fs::hard_link(world.key(), world.hidden().join("00000002.1.new")).unwrap();
    fs::hard_link(journal, world.root.path().join("state/targets/front-00000002.set")).unwrap();
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::Applied);
    assert!(world.holds(&new));
    assert_eq!(fs::metadata(world.key()).unwrap().nlink(), 1);
    assert_eq!(world.journals(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn r10_f35_foreign_file_is_never_overwritten_and_the_rest_waits_for_a_person() {
    let (world, _, new) = died("swapped 2").await;
    fs::write(world.crt(), "somebody else's").unwrap();
    let recovered = only(world.recover(&new).await);
    let error = recovered.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert_eq!(fs::read(world.crt()).unwrap(), b"somebody else's");
    assert_eq!(fs::read(world.key()).unwrap(), certificate(&new).key_pem().expose(), "left alone, too");
    assert!(fs::read_to_string(&world.journals()[0]).unwrap().contains(" CONFLICT "));
    let report = world.deploy(&new).await;
    assert_eq!(fs::read(world.crt()).unwrap(), b"somebody else's", "{report:?}");
    assert!(report.error.is_some(), "{report:?}");
}

#[tokio::test]
async fn r10_others_go_back_where_that_makes_a_pair() {
    let (world, old, new) = died("swapped 2").await;
    // Somebody brought the old chain back by hand, in another form.
    let text = format!("# put back by hand\n{}", old.fullchain_pem);
    fs::write(world.crt(), &text).unwrap();
    let recovered = settled(world.recover(&new).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert_eq!(fs::read_to_string(world.crt()).unwrap(), text);
    assert_eq!(fs::read(world.key()).unwrap(), certificate(&old).key_pem().expose());
    assert_eq!(world.served(), Some(old.fingerprint.clone()));
}

#[tokio::test]
async fn r10_f35_missing_file_is_nobody_elses_and_goes_back() {
    for at in ["swapped 1", "swapped 2"] {
        let (world, old, new) = died(at).await;
        fs::remove_file(world.key()).unwrap();
        let recovered = settled(world.recover(&new).await);
        assert_eq!(recovered.live, Live::RolledBack, "{at}");
        assert!(world.holds(&old), "{at}");
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{at}");
        ends_with_new(&world, &new, at).await;
    }
}

#[tokio::test]
async fn r11_lost_or_changed_backup_keeps_everything_and_says_so() {
    for lost in [true, false] {
        let (world, old, new) = died("swapped 1").await;
        let backup = world.hidden().join("00000002.0.old");
        if lost {
            fs::remove_file(&backup).unwrap();
        } else {
            fs::remove_file(&backup).unwrap();
            fs::write(&backup, "not what it was").unwrap();
        }
        let recovered = only(world.recover(&new).await);
        let error = recovered.error.unwrap();
        assert_eq!(error.live(), Live::Unknown, "{error:?}");
        assert!(error.full_message().contains("backup"), "{}", error.full_message());
        assert_eq!(fs::read(world.crt()).unwrap(), certificate(&new).fullchain_pem());
        assert_eq!(fs::read(world.key()).unwrap(), certificate(&old).key_pem().expose());
        assert_eq!(world.journals().len(), 1);
        assert_eq!(backup.exists(), !lost, "what is left of it is evidence");
    }
}

#[tokio::test]
async fn r13_first_deployment_that_died_in_the_middle_leaves_no_file() {
    let world = CrashWorld::new();
    let new = world.issue();
    assert!(world.deploy_and_die(&new, "swapped 1"));
    assert!(world.crt().exists());
    settled(world.recover(&new).await);
    assert!(!world.crt().exists() && !world.key().exists());
    ends_with_new(&world, &new, "R13").await;
}

#[tokio::test]
async fn r13_foreign_file_where_there_was_none_is_kept() {
    let world = CrashWorld::new();
    let new = world.issue();
    assert!(world.deploy_and_die(&new, "swapped 1"));
    fs::write(world.key(), "somebody else's").unwrap();
    let recovered = only(world.recover(&new).await);
    assert_eq!(recovered.error.unwrap().kind(), ErrorKind::Conflict);
    assert_eq!(fs::read(world.key()).unwrap(), b"somebody else's");
}

#[tokio::test]
async fn r13_first_deployment_whose_server_cannot_reload_without_its_files_is_settled() {
    let world = CrashWorld::new();
    let new = world.issue();
    assert!(world.deploy_and_die(&new, "swapped 1"));
    let hooks = world.target().hooks.with_reload(Reload::Command(Command::new(["cat", world.crt().to_str().unwrap()])));
    let job = world.job_with(world.target().with_hooks(hooks), &new);
    settled(recover(&[job], RecoveryScope::Full, &world.context).await);
    assert!(!world.crt().exists());
    ends_with_new(&world, &new, "a first deployment").await;
}

#[tokio::test]
async fn r14_replaced_directory_is_left_alone() {
    let (world, old, new) = died("swapped 1").await;
    let (tls, kept) = (world.root.path().join("tls"), world.root.path().join("kept"));
    fs::rename(&tls, &kept).unwrap();
    fs::create_dir(&tls).unwrap();
    fs::write(world.crt(), &old.fullchain_pem).unwrap();
    fs::write(world.key(), &old.key_pem).unwrap();
    let recovered = only(world.recover(&new).await);
    assert_eq!(recovered.error.unwrap().kind(), ErrorKind::Conflict);
    assert!(world.holds(&old));
    assert_eq!(world.journals().len(), 1);
    // Back at its place, it can be settled.
    fs::remove_dir_all(&tls).unwrap();
    fs::rename(&kept, &tls).unwrap();
    settled(world.recover(&new).await);
    assert!(world.holds(&old));
}

#[tokio::test]
async fn r14_device_may_have_another_number_after_a_reboot_and_only_then() {
    let (world, old, new) = died("swapped 1").await;
    renumber_devices(&world.journals()[0]);
    let recovered = only(world.recover(&new).await);
    assert_eq!(recovered.error.unwrap().kind(), ErrorKind::Conflict);

    let host = Arc::new(Wrapped::default());
    *host.boot.lock().unwrap() = Some("another boot".to_owned());
    let context = world.context.clone().with_host(host);
    let recovered = settled(recover(&[world.job(&new)], RecoveryScope::FilesOnly, &context).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert!(world.holds(&old));
    ends_with_new(&world, &new, "R14").await;
}

/// Writes a journal as if the file system had had another device number then.
fn renumber_devices(journal: &Path) {
    let text = fs::read_to_string(journal).unwrap();
    let (start, json) = text.split_once(" BEGIN ").unwrap();
    let mut begin: serde_json::Value = serde_json::from_str(json).unwrap();
    for file in begin["files"].as_array_mut().unwrap() {
        file["directory_id"][0] = 4711.into();
    }
    let (magic, first) = start.split_once('\n').unwrap();
    let rest = format!("{} BEGIN {begin}", first.split_once(' ').unwrap().1);
    // The chain of the first line: an empty one before it, and its own, each after its length.
    let chained = [&0_u64.to_be_bytes()[..], &(rest.len() as u64).to_be_bytes(), rest.as_bytes()].concat();
    let check: String = Sha256::digest(chained)[..8].iter().map(|byte| format!("{byte:02x}")).collect();
    fs::write(journal, format!("{magic}\n{check} {rest}\n")).unwrap();
}

#[tokio::test]
async fn r15_after_a_reboot_old_files_need_no_reload() {
    let (world, old, new) = died("swapped 1").await;
    let host = Arc::new(Wrapped::default());
    *host.boot.lock().unwrap() = Some("another boot".to_owned());
    let context = world.context.clone().with_host(host);
    // It would fail if it were run.
    let job = world.job_with(world.target().with_hooks(failing_hooks(&world)), &new);
    let recovered = settled(recover(&[job], RecoveryScope::FilesOnly, &context).await);
    assert_eq!(recovered.live, Live::RolledBack);
    assert!(world.holds(&old));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn r15_after_a_reboot_new_files_are_kept_and_proven() {
    let (world, _, new) = died("reload 1").await;
    let host = Arc::new(Wrapped::default());
    *host.boot.lock().unwrap() = Some("another boot".to_owned());
    let context = world.context.clone().with_host(host);
    let recovered = settled(recover(&[world.job(&new)], RecoveryScope::Full, &context).await);
    assert_eq!(recovered.live, Live::Applied);
    assert_eq!(world.served(), Some(new.fingerprint.clone()));
}

#[tokio::test]
async fn probe_table_new_on_disk_and_served_needs_no_reload() {
    let (world, _, new) = died("verify 1").await;
    world.hang_up(&new);
    let job = world.job_with(world.target().with_hooks(failing_hooks(&world)), &new);
    let recovered = settled(recover(&[job], RecoveryScope::Full, &world.context).await);
    assert_eq!(recovered.live, Live::Applied);
}

#[tokio::test]
async fn probe_table_new_on_disk_and_old_served_reloads_and_goes_back_where_that_fails() {
    let (world, old, new) = died("reload 1").await;
    let job = world.job_with(world.target().with_hooks(failing_hooks(&world)), &new);
    let recovered = only(recover(&[job], RecoveryScope::Full, &world.context).await);
    assert_eq!((recovered.live, recovered.error.is_none()), (Live::RolledBack, true), "{recovered:?}");
    assert!(world.holds(&old));
    assert_eq!(world.served(), Some(old.fingerprint.clone()));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn probe_table_unreachable_before_and_after_is_kept_with_a_debt_of_proof() {
    let world = CrashWorld::new();
    let new = world.issue();
    assert!(world.deploy_and_die(&new, "reload 1"));
    let endpoints = vec![wrong_endpoint()];
    let hooks = world.target().hooks.with_verify(Verify::Endpoints { endpoints, timeout: Duration::from_millis(300) });
    let context = world.context.clone().with_timeout(Duration::from_secs(2));
    let job = world.job_with(world.target().with_hooks(hooks), &new);
    let recovered = only(recover(&[job], RecoveryScope::Full, &context).await);
    assert!(recovered.error.is_none(), "{recovered:?}");
    assert!(world.holds(&new));
}

#[tokio::test]
async fn probe_table_old_on_disk_and_new_served_reloads_until_the_old_is_back() {
    let (world, old, new) = died("verify 1").await;
    world.hang_up(&new);
    // As a way back that died after its renames: old files, the new certificate served.
    fs::rename(world.crt(), world.root.path().join("aside.crt")).unwrap();
    fs::rename(world.key(), world.root.path().join("aside.key")).unwrap();
    fs::hard_link(world.hidden().join("00000002.0.old"), world.crt()).unwrap();
    fs::hard_link(world.hidden().join("00000002.1.old"), world.key()).unwrap();
    let journal = world.journals().remove(0);
    assert!(journal.exists());
    let recovered = settled(world.recover(&new).await);
    assert_ne!(recovered.live, Live::Applied);
    assert!(world.holds(&old));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    ends_with_new(&world, &new, "old on disk").await;
}

#[tokio::test]
async fn hooks_of_now_win_over_the_recorded_ones() {
    let (world, _, new) = died("reload 1").await;
    let told = world.root.path().join("told");
    let script = format!("touch {}; kill -HUP $(cat {})", told.display(), world.root.path().join("pid").display());
    let hooks = world.target().hooks.with_reload(Reload::Command(Command::new(["sh", "-c", &script])));
    let job = world.job_with(world.target().with_hooks(hooks), &new);
    settled(recover(&[job], RecoveryScope::Full, &world.context).await);
    assert!(told.exists());
    assert_eq!(world.served(), Some(new.fingerprint.clone()));
}

#[tokio::test]
async fn target_that_is_gone_is_settled_with_the_recorded_hooks() {
    let (world, _, new) = died("reload 1").await;
    let recovered = settled(recover(&[], RecoveryScope::Full, &world.context).await);
    assert_eq!(recovered.live, Live::Applied);
    assert_eq!(world.served(), Some(new.fingerprint.clone()));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn bad_source_never_keeps_a_broken_target_broken() {
    let (world, old, new) = died("swapped 1").await;
    let source = deploy_core::PemFiles::new(world.root.path().join("none.pem"), world.root.path().join("none.key"));
    let job = Job::new("front", "files", Arc::new(world.target()), Arc::new(source));
    let report = deploy(&[job], &world.context).await.remove(0);
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert!(report.warnings.iter().any(|warning| warning.contains("interrupted")), "{report:?}");
    assert!(world.holds(&old));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    assert_ne!(world.served(), Some(new.fingerprint));
}

#[tokio::test]
async fn a2_dry_run_after_a_crash_names_what_is_pending_and_changes_nothing() {
    for (at, pending) in [("validate 1", false), ("swap 1", true), ("swapped 1", true), ("reload 1", true)] {
        let (world, _, new) = died(at).await;
        let tree = || {
            let mut tree = std::collections::BTreeMap::new();
            common::collect(world.root.path(), &mut tree);
            tree
        };
        let before = tree();
        let preview = deploy_core::preview(&world.job(&new), &world.context).await;
        assert!(preview.error.is_none(), "{at}: {preview:?}");
        assert_eq!(preview.pending_recovery.is_some(), pending, "{at}: {preview:?}");
        assert!(tree() == before, "{at}");
    }
}

#[tokio::test]
async fn live_owner_is_left_alone_by_recovery() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let context = world.context.clone().with_timeout(Duration::from_millis(50));
    let (crt, during) = (world.crt(), Arc::new(std::sync::Mutex::new(Vec::new())));
    let seen = during.clone();
    let runtime = tokio::runtime::Handle::current();
    world.events.at_each(move |event| {
        if matches!(event, deploy_core::Event::Swapped { path, .. } if *path == crt) {
            let context = context.clone();
            let recovered = std::thread::scope(|scope| {
                let work = scope.spawn(|| runtime.block_on(recover(&[], RecoveryScope::Full, &context)));
                work.join().unwrap()
            });
            seen.lock().unwrap().extend(recovered);
        }
    });
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let during = during.lock().unwrap();
    assert_eq!(during.len(), 1);
    assert_eq!(during[0].error.as_ref().unwrap().kind(), ErrorKind::Locked);
    assert_eq!(world.reload.undone.load(Ordering::SeqCst), 0);
}

//! Files that cannot be replaced and are written over: in step with their other names, and repaired after a crash.

#![allow(clippy::disallowed_methods, clippy::panic, clippy::unwrap_used, reason = "tests make and look at files")]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::World;
use common::crash::CrashWorld;
use common::wrapped::{Fault, Op, Wrapped};
use deploy_core::{Outcome, Report};
use deploy_testkit::pki::Issued;
use rustix::io::Errno;

/// Gives both files a second name elsewhere.
fn peers(root: &Path, files: [PathBuf; 2]) -> [PathBuf; 2] {
    files.map(|file| {
        let peer = root.join(file.file_name().unwrap());
        fs::hard_link(file, &peer).unwrap();
        peer
    })
}

fn hold(files: &[PathBuf; 2], issued: &Issued) -> bool {
    let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
    read(&files[0]) == issued.fullchain_pem && read(&files[1]) == issued.key_pem
}

async fn deploy(world: &World, issued: &Issued) -> Report {
    world.plan(issued).with_in_place_allowed(true).apply(&world.context).await
}

#[tokio::test]
async fn f31_hard_links_stay_in_step_where_the_operator_allows_writing_in_place() {
    let world = World::new();
    let (first, second, third) = (world.issue(), world.issue(), world.issue());
    assert_eq!(world.deploy(&first).await.outcome, Outcome::Changed);
    let peers = peers(world.root.path(), [world.crt(), world.key()]);
    let inode = fs::metadata(world.key()).unwrap().ino();
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o644)).unwrap();

    let report = deploy(&world, &second).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(report.degraded.iter().filter(|it| it.what == "atomic").count(), 2, "{report:?}");
    assert!(world.holds(&second) && hold(&peers, &second));
    let status = fs::metadata(world.key()).unwrap();
    assert_eq!((status.ino(), status.mode() & 0o777), (inode, 0o640), "the same file, and no key is open to all");
    assert_eq!(deploy(&world, &second).await.outcome, Outcome::Unchanged);

    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let report = deploy(&world, &third).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert!(world.holds(&second) && hold(&peers, &second));
    assert_eq!(world.served().as_deref(), Some(second.fingerprint.as_str()));
    assert!(world.litter().is_empty() && world.stray_backups().is_empty(), "{:?}", world.litter());
}

#[tokio::test]
async fn f36_a_disk_that_fills_up_in_the_middle_of_a_file_costs_nothing() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
    let peers = peers(world.root.path(), [world.crt(), world.key()]);
    for at in 0..4 {
        let host = Arc::new(Wrapped::default());
        host.set_fault(Some(Fault { at, once: true, only: &[Op::Overwrite], errno: Errno::NOSPC }));
        let report = world.plan(&new).with_in_place_allowed(true).apply(&world.context_on(&host)).await;
        assert!(matches!(report.outcome, Outcome::Rejected | Outcome::RolledBack), "{at}: {report:?}");
        assert_eq!(host.hit().len(), 1);
        assert!(world.holds(&old) && hold(&peers, &old), "{at}");
    }
    assert_eq!(deploy(&world, &new).await.outcome, Outcome::Changed);
}

#[tokio::test]
async fn f35_what_somebody_else_wrote_is_not_taken_for_a_half_written_file() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
    let _peers = peers(world.root.path(), [world.crt(), world.key()]);
    let crt = world.crt();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    world.events.at_each(move |event| {
        if matches!(event, deploy_core::Event::Stage { stage: deploy_core::Stage::Reload, .. }) {
            fs::write(&crt, "somebody else's\n").unwrap();
        }
    });
    let report = deploy(&world, &new).await;
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{report:?}");
    assert_eq!(fs::read_to_string(world.crt()).unwrap(), "somebody else's\n");
}

#[tokio::test]
async fn r12_a_kill_before_any_change_and_in_the_middle_of_a_file_is_repaired() {
    let mut number = 0;
    loop {
        let world = CrashWorld::new();
        let (old, new) = (world.issue(), world.issue());
        assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
        let peers = peers(world.root.path(), [world.crt(), world.key()]);
        if !world.deploy_and_die(&new, &format!("operation {number}")) {
            break;
        }
        world.recover(&new).await;
        let is_old = world.holds(&old) && hold(&peers, &old);
        let is_new = world.holds(&new) && hold(&peers, &new);
        assert!(is_old || is_new, "killed at operation {number}: a mixture is left");
        let expected = if is_old { &old } else { &new };
        assert_eq!(world.served().as_ref(), Some(&expected.fingerprint), "operation {number}");
        assert!(world.journals().is_empty(), "operation {number}");
        assert_eq!(world.deploy(&new).await.error.map(|error| error.full_message()), None, "operation {number}");
        assert!(world.holds(&new) && hold(&peers, &new) && world.litter().is_empty(), "operation {number}: {:?}", world.litter());
        number += 1;
    }
    assert!(number > 15, "only {number} operations were tried");
}

#[tokio::test]
#[ignore = "the process that other tests kill"]
async fn inner() {
    common::crash::inner().await;
}

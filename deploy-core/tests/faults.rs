//! A machine that fails: every changing operation of a deployment, with every error that a disk is known for.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::World;
use common::wrapped::{Fault, Op, Wrapped};
use deploy_core::command::Command;
use deploy_core::{ErrorKind, Live, Outcome, Plan, PlanFile, Report, Role, Validate};
use deploy_testkit::pki::Issued;
use rustix::io::Errno;

/// What a fault comes upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scene {
    /// No file was there.
    First,
    /// Three deployments were there, so that a set has to go.
    Renewal,
    /// The reload of the new files fails, so that everything goes back.
    RollBack,
    /// Two files and one that is to disappear.
    Removal,
}

/// Every scene in both layouts.
const SCENES: [(Scene, fn() -> World); 8] = [
    (Scene::First, World::new),
    (Scene::Renewal, World::new),
    (Scene::RollBack, World::new),
    (Scene::Removal, World::new),
    (Scene::First, World::with_generations),
    (Scene::Renewal, World::with_generations),
    (Scene::RollBack, World::with_generations),
    (Scene::Removal, World::with_generations),
];

struct Stage {
    world: World,
    host: Arc<Wrapped>,
    new: Issued,
    scene: Scene,
}

impl Stage {
    async fn set(scene: Scene, world: fn() -> World) -> Self {
        let world = world();
        let (old, new) = (world.issue(), world.issue());
        if scene != Scene::First {
            let report = world.plan(&old).with_backups(1).with_file(extra(&world)).apply(&world.context).await;
            assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        }
        Self { host: Arc::new(Wrapped::default()), world, new, scene }
    }

    fn plan(&self) -> Plan {
        let plan = self.world.plan(&self.new).with_backups(1);
        match self.scene {
            Scene::Removal => plan.with_file(PlanFile::absent(self.world.place("extra.pem"), Role::Opaque)),
            _ => plan.with_file(extra(&self.world)),
        }
    }

    async fn run(&self) -> Report {
        self.plan().apply(&self.world.context_on(&self.host)).await
    }

    fn forget_fault(&self) {
        self.host.set_fault(None);
        self.world.reload.fail_forward.store(false, Ordering::SeqCst);
    }
}

fn extra(world: &World) -> PlanFile {
    PlanFile::new(world.place("extra.pem"), Role::Opaque, &b"dh parameters"[..])
}

/// Fails operation 0, 1, 2... until a run meets no fault any more. Returns how many there were.
async fn sweep((scene, world): (Scene, fn() -> World), errno: Errno, once: bool, only: &'static [Op]) -> usize {
    let mut problems = Vec::new();
    let mut at = 0;
    while let Some(found) = one_fault(scene, world, Fault { at, once, only, errno }).await {
        problems.extend(found);
        at += 1;
    }
    assert!(problems.is_empty(), "{} problems in {at} runs:\n{}", problems.len(), problems.join("\n\n"));
    at
}

/// Collects what is wrong instead of stopping at the first, so that one run shows the whole picture.
struct Problems(Vec<String>);

impl Problems {
    fn unless(&mut self, fine: bool, what: impl std::fmt::Display) {
        if !fine {
            self.0.push(what.to_string());
        }
    }
}

/// One deployment that meets a fault, and two after it that meet none. `None`: the fault was never reached.
async fn one_fault(scene: Scene, world: fn() -> World, fault: Fault) -> Option<Vec<String>> {
    let stage = Stage::set(scene, world).await;
    let before = stage.world.visible();
    stage.world.reload.fail_forward.store(scene == Scene::RollBack, Ordering::SeqCst);
    stage.host.set_fault(Some(fault));
    let report = stage.run().await;
    let hit = stage.host.hit();
    if hit.is_empty() {
        return None;
    }
    let what = format!("{scene:?} {:?} {fault:?}, {hit:?}: {report:?}", stage.world.layout);
    let mut problems = Problems(Vec::new());
    during(&stage, &fault, &before, &report, &what, &mut problems);

    stage.forget_fault();
    let next = stage.run().await;
    let good = matches!(next.outcome, Outcome::Changed | Outcome::Repaired | Outcome::Unchanged);
    problems.unless(good, format!("NEXT RUN {next:?} after {what}"));
    problems.unless(stage.world.holds(&stage.new), format!("NEXT RUN leaves other files after {what}"));
    let removed = !stage.world.place("extra.pem").exists();
    problems.unless(removed == (scene == Scene::Removal), format!("NEXT RUN extra file after {what}"));
    problems.unless(stage.world.served().as_ref() == Some(&stage.new.fingerprint), format!("NEXT RUN not served after {what}"));
    let last = stage.run().await;
    problems.unless(last.outcome == Outcome::Unchanged, format!("THIRD RUN {last:?} after {what}"));
    // The next marker that is written takes the rest of an earlier one with it; there is no secret in it.
    let mut litter = stage.world.litter();
    litter.retain(|path| fault.once || !path.ends_with("applied/.front.new"));
    problems.unless(litter.is_empty(), format!("LITTER {litter:?} after {what}"));
    let stray = stage.world.stray_backups();
    problems.unless(stray.is_empty(), format!("STRAY {stray:?} after {what}"));
    Some(problems.0)
}

/// What must hold right after the run that met the fault.
fn during(stage: &Stage, fault: &Fault, before: &Tree, report: &Report, what: &str, problems: &mut Problems) {
    let is_old = stage.world.visible() == *before;
    match report.outcome {
        Outcome::Changed => {
            problems.unless(stage.world.holds(&stage.new) && report.live == Live::Applied, format!("NOT NEW {what}"))
        }
        Outcome::Rejected | Outcome::RolledBack => problems.unless(is_old, format!("NOT OLD {what}")),
        // The way back failed, too, and a person is told what to do.
        Outcome::RollbackFailed => {
            let step = report.error.as_ref().map(|error| error.next_step()).unwrap_or_default();
            problems.unless(report.live == Live::Unknown && step.contains("recover"), format!("NO ADVICE {what}"));
            problems.unless(!fault.once || stage.scene == Scene::RollBack, format!("GAVE UP {what}"));
        }
        _ => problems.unless(false, format!("OUTCOME {what}")),
    }
    if let Some(error) = &report.error {
        problems.unless(error.kind() != ErrorKind::Internal, format!("INTERNAL {what}"));
        let told = std::io::Error::from(fault.errno).to_string();
        let named = error.full_message().contains(&told) || error.kind() == ErrorKind::ReloadFailed;
        problems.unless(named, format!("CAUSE LOST {what}"));
    }
    let removal_failed = stage.host.hit().iter().any(|(op, _)| matches!(op, Op::RemoveChild | Op::Unlink));
    if matches!(report.outcome, Outcome::Rejected | Outcome::RolledBack) && !removal_failed {
        problems.unless(stage.world.litter().is_empty(), format!("LITTER AT ONCE {:?} {what}", stage.world.litter()));
        let stray = stage.world.stray_backups();
        problems.unless(stray.is_empty(), format!("STRAY AT ONCE {stray:?} {what}"));
    }
}

type Tree = std::collections::BTreeMap<PathBuf, common::Entry>;

#[tokio::test(flavor = "multi_thread")]
async fn f23_f36_full_disk_at_any_one_operation_leaves_all_old_or_all_new() {
    for scene in SCENES {
        let faults = sweep(scene, Errno::NOSPC, true, &[]).await;
        assert!(faults > 15, "{:?}: {faults}", scene.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f36_disk_error_at_any_one_operation_leaves_all_old_or_all_new() {
    for scene in SCENES {
        sweep(scene, Errno::IO, true, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f36_file_system_that_turns_read_only_for_good_is_survived() {
    for scene in SCENES {
        sweep(scene, Errno::ROFS, false, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f36_quota_that_is_used_up_for_good_is_survived() {
    // Names can be removed and replaced on a full disk; only what needs new blocks or inodes fails.
    const GROWING: &[Op] = &[Op::Append, Op::Create, Op::CreateChild, Op::Link, Op::Symlink];
    for scene in SCENES {
        sweep(scene, Errno::DQUOT, false, GROWING).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f36_owner_that_cannot_be_set_on_a_drifted_file_is_reported() {
    let stage = Stage::set(Scene::First, World::new).await;
    stage.run().await;
    fs::set_permissions(stage.world.key(), fs::Permissions::from_mode(0o640)).unwrap();
    let mut plan = stage.plan();
    plan.files[1] = plan.files[1].clone().with_mode(Some(deploy_core::settings::Mode::new(0o600)));
    stage.host.set_fault(Some(Fault { at: 0, once: true, only: &[Op::SetMetadata], errno: Errno::PERM }));
    let report = plan.clone().apply(&stage.world.context_on(&stage.host)).await;
    assert_eq!(stage.host.hit().len(), 1);
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{report:?}");
    stage.host.set_fault(None);
    assert_eq!(plan.apply(&stage.world.context_on(&stage.host)).await.outcome, Outcome::Repaired);
    assert_eq!(fs::metadata(stage.world.key()).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn f37_no_name_is_switched_before_everything_it_needs_is_synced() {
    let stage = Stage::set(Scene::Renewal, World::new).await;
    let report = stage.run().await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let log = stage.host.log();
    let live = |path: &PathBuf| path.parent() == Some(stage.world.tls().as_path());
    let swaps: Vec<usize> =
        (0..log.len()).filter(|&i| matches!(log[i].0, Op::Rename | Op::RenameNew) && live(&log[i].1)).collect();
    let syncs: Vec<usize> = (0..log.len()).filter(|&i| log[i].0 == Op::Sync).collect();
    let staged = log
        .iter()
        .rposition(|(op, path)| {
            *op == Op::Create && path.to_string_lossy().ends_with(".new") && path.starts_with(stage.world.tls())
        })
        .unwrap();
    let journal = log.iter().position(|(op, path)| *op == Op::Append && path.to_string_lossy().ends_with(".jnl")).unwrap();
    assert_eq!(swaps.len(), 2, "{log:?}");
    assert!(syncs.iter().any(|&sync| sync > staged && sync > journal && sync < swaps[0]), "{log:?}");
    assert!(syncs.iter().any(|&sync| sync > swaps[1]), "{log:?}");
}

fn refusing(world: &World, issued: &Issued) -> Plan {
    let mut plan = world.plan(issued);
    // It passes on the old files, so that the new ones are to blame.
    let grep = Command::new(["grep", "-q", "-F", "the new one is not in here", world.crt().to_str().unwrap()]);
    plan.hooks.validate = Some(Validate::new(grep));
    plan
}

#[tokio::test]
async fn f2_f16_validator_that_refuses_leaves_every_name_as_before_however_often() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let checker = world.root.path().join("checker");
    let script = format!("#!/bin/sh\ncmp -s {} {}\n", world.crt().display(), world.root.path().join("wanted").display());
    fs::write(&checker, script).unwrap();
    fs::set_permissions(&checker, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(world.root.path().join("wanted"), &old.fullchain_pem).unwrap();
    let before = world.tree();
    for _ in 0..5 {
        let mut plan = world.plan(&new);
        plan.hooks.validate = Some(Validate::new(Command::new([checker.as_os_str()])));
        let report = plan.apply(&world.context).await;
        // Where no private view can be had, the checker looks after the switch, and everything goes back.
        assert!(matches!(report.outcome, Outcome::Rejected | Outcome::RolledBack), "{report:?}");
        assert_eq!(report.error.unwrap().kind(), ErrorKind::ValidateFailed);
        assert_eq!(world.tree(), before);
    }
    assert_eq!(copies_of_key(&world, &new), Vec::<PathBuf>::new());
    assert_eq!(world.served(), Some(old.fingerprint));
    assert_eq!(world.reload.applied(), 1);
}

#[tokio::test]
async fn f2_validator_that_refuses_a_first_deployment_leaves_no_name() {
    let world = World::new();
    let new = world.issue();
    for _ in 0..3 {
        let report = refusing(&world, &new).apply(&world.context).await;
        assert!(matches!(report.outcome, Outcome::Rejected | Outcome::RolledBack), "{report:?}");
        assert!(world.visible().is_empty(), "{:?}", world.visible().keys());
        assert_eq!(copies_of_key(&world, &new), Vec::<PathBuf>::new());
        assert_eq!(world.litter(), Vec::<PathBuf>::new());
    }
    // The private directory stays, with a note of whose it is, and nothing else, however often it fails.
    let files: Vec<PathBuf> = world.tree().into_keys().filter(|path| path.is_file()).collect();
    assert_eq!(files, vec![world.tls().join(".certdeploy/owner")]);
}

/// Every file in the whole world that has the bytes of a key in it.
fn copies_of_key(world: &World, issued: &Issued) -> Vec<PathBuf> {
    let mut tree = std::collections::BTreeMap::new();
    common::collect(world.root.path(), &mut tree);
    let needle = issued.key_pem.lines().nth(1).unwrap().as_bytes().to_vec();
    let holds = |bytes: &[u8]| bytes.windows(needle.len()).any(|window| window == needle);
    tree.into_iter().filter(|(_, entry)| holds(&entry.bytes)).map(|(path, _)| path).collect()
}

#[tokio::test]
async fn lost_marker_forgets_neither_the_numbers_nor_the_sets() {
    let world = World::new();
    let (one, two) = (world.issue(), world.issue());
    world.deploy(&one).await;
    world.deploy(&two).await;
    fs::remove_file(world.root.path().join("state/targets/front.json")).unwrap();
    assert_eq!(world.deploy(&two).await.outcome, Outcome::Unchanged, "adopted");
    for _ in 0..4 {
        let report = world.deploy(&world.issue()).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    }
    assert_eq!(world.sets(), 3);
    assert_eq!(world.stray_backups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn s1_journal_sets_markers_and_history_never_hold_a_key() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    world.deploy(&new).await;
    let state = world.root.path().join("state");
    for issued in [&old, &new] {
        let copies = copies_of_key(&world, issued);
        assert!(!copies.is_empty(), "the live file or the backup has it");
        assert!(copies.iter().all(|path| !path.starts_with(&state)), "{copies:?}");
    }
}

#[tokio::test]
async fn f38_s3_backups_are_at_most_as_open_as_the_original_and_lie_in_private_directories() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    world.deploy(&world.issue()).await;
    let mut seen = 0;
    for (path, entry) in world.tree() {
        let hidden = path.strip_prefix(world.tls()).unwrap().starts_with(".certdeploy");
        if hidden && path.is_dir() {
            assert_eq!(entry.mode & 0o7777, 0o700, "{}", path.display());
        }
        if path.to_string_lossy().ends_with(".1.old") {
            seen += 1;
            assert_eq!(entry.mode & 0o7777, 0o600, "{}", path.display());
        }
    }
    assert_eq!(seen, 1);
}

#[tokio::test]
async fn f33_user_attributes_and_setgid_directories_survive() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    fs::set_permissions(world.tls(), fs::Permissions::from_mode(0o2755)).unwrap();
    std::os::unix::fs::chown(world.tls(), None, Some(77)).expect("this test needs root");
    let set = xattr::set(world.key(), "user.certdeploy.test", b"kept");
    if set.as_ref().is_err_and(|error| error.raw_os_error() == Some(Errno::OPNOTSUPP.raw_os_error())) {
        return;
    }
    set.unwrap();
    let before = fs::metadata(world.key()).unwrap();
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(xattr::get(world.key(), "user.certdeploy.test").unwrap().as_deref(), Some(&b"kept"[..]));
    let after = fs::metadata(world.key()).unwrap();
    assert_eq!((after.gid(), after.mode()), (before.gid(), before.mode()), "an existing file keeps its group");
    assert_eq!(fs::metadata(world.tls()).unwrap().mode() & 0o7777, 0o2755);

    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let inode = after.ino();
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::RolledBack);
    assert_eq!(xattr::get(world.key(), "user.certdeploy.test").unwrap().as_deref(), Some(&b"kept"[..]));
    assert_eq!(fs::metadata(world.key()).unwrap().ino(), inode, "it is the very same file");
}

//! The layout `generation`, from the outside: what stands on disk, what readers see, what is kept and for how long.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files"
)]

mod common;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use common::World;
use common::wrapped::{Fault, Op, Wrapped};
use deploy_core::command::Command;
use deploy_core::settings::Mode;
use deploy_core::{ErrorKind, Event, Layout, Live, Outcome, Plan, PlanFile, Role, Rung, Stage, Validate, Verify};
use deploy_testkit::pki::Issued;
use rustix::fs::{CWD, OFlags, openat};

fn directory(world: &World) -> PathBuf {
    world.layout.directory().unwrap().to_owned()
}

/// Where the link leads.
fn current(world: &World) -> Option<String> {
    fs::read_link(directory(world).join("current")).ok().map(|target| target.to_str().unwrap().to_owned())
}

/// The generations that are there, with their modes.
fn generations(world: &World) -> Vec<(String, u32)> {
    let mut found: Vec<(String, u32)> = fs::read_dir(directory(world))
        .unwrap()
        .flatten()
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().mode() & 0o7777))
        .filter(|(name, _)| name.starts_with("generation-"))
        .collect();
    found.sort();
    found
}

fn names(world: &World) -> Vec<String> {
    generations(world).into_iter().map(|(name, _)| name).collect()
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// A host whose clock is this far ahead.
fn later(by: Duration) -> Arc<Wrapped> {
    let host = Arc::new(Wrapped::default());
    *host.clock.lock().unwrap() = Some(SystemTime::now() + by);
    host
}

const AFTER_GRACE: Duration = Duration::from_secs(2 * 60 * 60);

#[tokio::test]
async fn f1_first_deployment_makes_the_directory_the_generation_and_the_link() {
    let world = World::with_generations();
    let issued = world.issue();
    let report = world.deploy(&issued).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!((report.live, report.validated), (Live::Applied, Rung::V6));
    assert_eq!(report.changed_files, [world.crt(), world.key()]);
    assert!(world.holds(&issued));
    assert_eq!(world.served(), Some(issued.fingerprint.clone()));
    assert_eq!(current(&world).as_deref(), Some("generation-00000001"));
    let place = directory(&world);
    assert_eq!([mode(&place), mode(&place.join("current")), mode(&place.join(".certdeploy"))], [0o755, 0o755, 0o700]);
    assert_eq!((mode(&world.crt()), mode(&world.key())), (0o644, 0o600));
    assert_eq!(fs::read_dir(&place).unwrap().count(), 3);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a3_second_run_is_unchanged_and_writes_nothing() {
    let world = World::with_generations();
    let issued = world.issue();
    for round in 0..2 {
        let issued = if round == 0 { world.issue() } else { issued.clone() };
        assert_eq!(world.deploy(&issued).await.outcome, Outcome::Changed);
        let mut before = std::collections::BTreeMap::new();
        common::collect(world.root.path(), &mut before);
        let host = Arc::new(Wrapped::default());
        let report = world.plan(&issued).apply(&world.context_on(&host)).await;
        assert_eq!(report.outcome, Outcome::Unchanged, "{report:?}");
        assert_eq!(host.log(), []);
        let mut after = std::collections::BTreeMap::new();
        common::collect(world.root.path(), &mut after);
        assert!(before == after);
    }
}

#[tokio::test]
async fn renewal_switches_the_link_and_leaves_the_old_files_where_they_are() {
    let world = World::with_generations();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let inode = fs::metadata(world.key()).unwrap().ino();
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&new));
    assert_eq!(world.served(), Some(new.fingerprint.clone()));
    assert_eq!(current(&world).as_deref(), Some("generation-00000002"));
    let before = directory(&world).join("generation-00000001");
    assert_eq!(fs::read(before.join("www.crt")).unwrap(), old.fullchain_pem.as_bytes());
    assert_eq!(fs::metadata(before.join("www.key")).unwrap().ino(), inode);
}

#[tokio::test]
async fn f37_a_renewal_takes_two_rounds_of_syncs_and_flips_between_them() {
    let world = World::with_generations();
    world.deploy(&world.issue()).await;
    let host = Arc::new(Wrapped::default());
    let report = world.plan(&world.issue()).apply(&world.context_on(&host)).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let log = host.log();
    let position = |op: Op, name: &str| log.iter().position(|(other, path)| *other == op && path.ends_with(name)).unwrap();
    let syncs: Vec<usize> = (0..log.len()).filter(|&at| log[at].0 == Op::Sync).collect();
    let flip = position(Op::Rename, "current");
    assert_eq!(syncs.len(), 2, "{log:?}");
    assert!(position(Op::Create, "www.key") < syncs[0] && syncs[0] < flip && flip < syncs[1], "{log:?}");
    assert!(log.iter().position(|(op, _)| *op == Op::Append).unwrap() < syncs[0], "the journal comes first: {log:?}");
    // Two files, the generation, the directory, the journal and its directory; then the directory once more.
    assert_eq!(host.count("synced"), 7);
}

/// Ends the readers also where a test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Reads both files through one descriptor of `current`, as often as it can; says how often it could, and how often it had
/// to start over.
fn reader(current: &Path, stop: &AtomicBool) -> Result<(usize, usize), String> {
    let (mut reads, mut again) = (0, 0);
    while !stop.load(Ordering::Relaxed) {
        let directory = openat(CWD, current, OFlags::RDONLY | OFlags::DIRECTORY, rustix::fs::Mode::empty())
            .map_err(|error| format!("current cannot be opened: {error}"))?;
        let read = |name: &str| {
            let mut text = String::new();
            let file = openat(&directory, name, OFlags::RDONLY, rustix::fs::Mode::empty()).ok()?;
            fs::File::from(file).read_to_string(&mut text).unwrap();
            Some(text)
        };
        match (read("one"), read("other")) {
            (Some(one), Some(other)) if one == other && !one.is_empty() => reads += 1,
            (None, _) | (_, None) => again += 1,
            (one, other) => return Err(format!("{one:?} together with {other:?}")),
        }
    }
    Ok((reads, again))
}

/// Deploys sixty times while others read. What the readers had to start over is returned.
fn deploy_to_readers(fails: impl Fn(usize) -> bool) -> usize {
    let world = World::with_generations();
    let file = |name: &str, text: &str| PlanFile::new(world.place(name), Role::Opaque, text.as_bytes());
    world.reload.ignore.store(true, Ordering::SeqCst);
    let deploy = |text: &str| {
        let mut plan = Plan::new("front").with_file(file("one", text)).with_file(file("other", text));
        plan.hooks.reload = Some(deploy_core::Reload::Call(world.reload.clone()));
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        runtime.block_on(plan.with_layout(world.layout.clone()).with_backups(1).apply(&world.context)).outcome
    };
    assert_eq!(deploy("0"), Outcome::Unverified);
    let (stop, path) = (AtomicBool::new(false), directory(&world).join("current"));
    std::thread::scope(|scope| {
        let stopping = Stop(&stop);
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| reader(&path, &stop))).collect();
        for number in 1..=60 {
            world.reload.fail_forward.store(fails(number), Ordering::SeqCst);
            // Nobody can look.
            let expected = if fails(number) { Outcome::RolledBack } else { Outcome::Unverified };
            assert_eq!(deploy(&number.to_string()), expected, "{number}");
        }
        drop(stopping);
        let counts: Vec<(usize, usize)> = readers.into_iter().map(|reader| reader.join().unwrap().unwrap()).collect();
        assert!(counts.iter().all(|(reads, _)| *reads > 100), "{counts:?}");
        counts.iter().map(|(_, again)| again).sum()
    })
}

#[test]
fn f15_a_reader_that_opens_the_directory_once_never_sees_a_mixed_pair_nor_a_missing_file() {
    assert_eq!(deploy_to_readers(|_| false), 0);
}

#[test]
fn f15_a_reader_of_a_deployment_that_failed_starts_over_and_never_sees_a_mixed_pair() {
    deploy_to_readers(|number| number % 2 == 0);
}

#[tokio::test]
async fn f3_failed_reload_flips_back_and_the_old_files_are_served() {
    let world = World::with_generations();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let before = world.tree();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(world.tree(), before);
    assert_eq!(world.served(), Some(old.fingerprint.clone()));
    assert_eq!(world.reload.undone(), 1);
    world.reload.fail_forward.store(false, Ordering::SeqCst);
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Changed);
    assert_eq!(world.served(), Some(new.fingerprint));
}

#[tokio::test]
async fn f22_first_deployment_that_fails_leaves_no_link_and_no_generation() {
    let world = World::with_generations();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!((current(&world), generations(&world)), (None, vec![]));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    world.reload.fail_forward.store(false, Ordering::SeqCst);
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
}

#[tokio::test]
async fn f26_failed_reload_without_backups_flips_back_all_the_same() {
    let world = World::with_generations();
    let (old, new) = (world.issue(), world.issue());
    world.plan(&old).with_backups(0).apply(&world.context).await;
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let report = world.plan(&new).with_backups(0).apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert!(world.holds(&old));
    assert_eq!(names(&world), ["generation-00000001"]);
}

#[tokio::test]
async fn f6_f7_f8_owner_and_mode_are_kept_from_the_generation_before_unless_overridden() {
    let world = World::with_generations();
    world.deploy(&world.issue()).await;
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(world.key(), Some(12), Some(34)).expect("this test needs root");
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let key = fs::metadata(world.key()).unwrap();
    assert_eq!((key.uid(), key.gid(), key.mode() & 0o7777), (12, 34, 0o640));
    let issued = world.issue();
    let extra = world.place("dh.pem");
    let mut plan = world.plan(&issued).with_file(PlanFile::new(&extra, Role::Opaque, &b"parameters"[..]));
    plan.files[1] = plan.files[1].clone().with_group(Some("56".to_owned()));
    plan.apply(&world.context).await;
    let key = fs::metadata(world.key()).unwrap();
    assert_eq!((key.uid(), key.gid(), key.mode() & 0o7777), (12, 56, 0o640));
    assert_eq!(mode(&extra), 0o600);
}

#[tokio::test]
async fn f24_f25_one_differing_file_makes_a_generation_of_all_and_is_the_only_one_reported() {
    let world = World::with_generations();
    let issued = world.issue();
    let extra = world.place("extra.pem");
    let plan = |bytes: &[u8]| world.plan(&issued).with_file(PlanFile::new(&extra, Role::Opaque, bytes));
    plan(b"one").apply(&world.context).await;
    let report = plan(b"two").apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(report.changed_files, std::slice::from_ref(&extra));
    assert!(world.holds(&issued));
    assert_eq!(fs::read(&extra).unwrap(), b"two");
    assert_eq!(world.reload.applied(), 2);
}

#[tokio::test]
async fn f34_drift_of_modes_is_repaired_in_place_without_a_reload() {
    let world = World::with_generations();
    let issued = world.issue();
    let plan = || {
        let mut plan = world.plan(&issued);
        plan.files[1] = plan.files[1].clone().with_mode(Some(Mode::new(0o600)));
        plan
    };
    plan().apply(&world.context).await;
    let generation = directory(&world).join("generation-00000001");
    for (path, drifted, wanted) in [(world.key(), 0o644, 0o600), (generation.clone(), 0o700, 0o755)] {
        fs::set_permissions(&path, fs::Permissions::from_mode(drifted)).unwrap();
        let report = plan().apply(&world.context).await;
        assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
        assert_eq!(mode(&path), wanted);
        assert_eq!(plan().apply(&world.context).await.outcome, Outcome::Unchanged);
    }
    assert_eq!(world.reload.applied(), 1);
    assert_eq!(names(&world), ["generation-00000001"]);
}

#[tokio::test]
async fn f5_forced_run_on_equal_content_runs_the_hooks_and_makes_no_generation() {
    let world = World::with_generations();
    let issued = world.issue();
    world.deploy(&issued).await;
    let report = world.plan(&issued).apply(&world.context.clone().with_force(true)).await;
    assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
    assert_eq!(world.reload.applied(), 2);
    assert_eq!(names(&world), ["generation-00000001"]);
}

#[tokio::test]
async fn f35_link_that_was_changed_between_inspection_and_switch_is_a_conflict_and_stays() {
    let world = World::with_generations();
    world.deploy(&world.issue()).await;
    world.deploy(&world.issue()).await;
    let link = directory(&world).join("current");
    world.events.at_each(move |event| {
        if matches!(event, Event::Stage { stage: Stage::Journal, .. }) {
            fs::remove_file(&link).unwrap();
            symlink("generation-00000001", &link).unwrap();
        }
    });
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Conflict);
    assert_eq!(current(&world).as_deref(), Some("generation-00000001"));
    assert_eq!(names(&world), ["generation-00000001", "generation-00000002"]);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn f35_link_that_appears_before_the_first_switch_is_a_conflict_and_stays() {
    for stage in [Stage::Journal, Stage::Swap] {
        let world = World::with_generations();
        let link = directory(&world).join("current");
        let (path, place) = (link.clone(), world.tls());
        world.events.at_each(move |event| {
            if matches!(event, Event::Stage { stage: now, .. } if *now == stage) {
                symlink(&place, &path).unwrap();
            }
        });
        let report = world.deploy(&world.issue()).await;
        assert!(matches!(report.outcome, Outcome::Rejected | Outcome::RollbackFailed), "{stage:?}: {report:?}");
        assert_eq!(fs::read_link(&link).unwrap(), world.tls(), "{stage:?}");
        fs::remove_file(&link).unwrap();
        world.events.at_each(|_| {});
        let report = world.deploy(&world.issue()).await;
        assert_eq!(report.outcome, Outcome::Changed, "{stage:?}: {report:?}");
    }
}

#[tokio::test]
async fn f35_file_of_the_current_generation_that_somebody_changes_meanwhile_is_a_conflict() {
    let world = World::with_generations();
    world.deploy(&world.issue()).await;
    let path = world.crt();
    world.events.at_each(move |event| {
        if matches!(event, Event::Stage { stage: Stage::Journal, .. }) {
            fs::write(&path, "somebody else's").unwrap();
        }
    });
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(fs::read(world.crt()).unwrap(), b"somebody else's");
}

#[tokio::test]
async fn f35_link_that_was_changed_between_switch_and_rollback_is_left_alone() {
    let world = World::with_generations();
    world.deploy(&world.issue()).await;
    let link = directory(&world).join("current");
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    world.events.at_each(move |event| {
        if matches!(event, Event::Stage { stage: Stage::RollBack, .. }) {
            fs::remove_file(&link).unwrap();
            symlink("/somewhere/else", &link).unwrap();
        }
    });
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{report:?}");
    assert!(report.error.unwrap().next_step().contains("ln -sfn generation-00000001"));
    assert_eq!(current(&world).as_deref(), Some("/somewhere/else"));
}

#[tokio::test]
async fn directory_that_is_not_for_generations_is_refused_with_the_way_out() {
    type Prepare = fn(&Path);
    let cases: [(&str, Prepare, &str); 7] = [
        (
            "files of the operator",
            |place| {
                fs::create_dir(place).unwrap();
                fs::write(place.join("www.crt"), "x").unwrap();
            },
            "`www.crt`",
        ),
        (
            "current is a directory",
            |place| {
                fs::create_dir_all(place.join("current")).unwrap();
                fs::write(place.join("current/www.crt"), "x").unwrap();
            },
            "`current`",
        ),
        (
            "current is somebody's link",
            |place| {
                fs::create_dir(place).unwrap();
                symlink("..", place.join("current")).unwrap();
            },
            "`current`",
        ),
        (
            "current leads to nothing",
            |place| {
                fs::create_dir(place).unwrap();
                symlink("generation-00000007", place.join("current")).unwrap();
            },
            "cannot be opened",
        ),
        ("a regular file", |place| fs::write(place, "x").unwrap(), "not a directory"),
        ("a link to nowhere", |place| symlink("nowhere", place).unwrap(), "does not exist"),
        ("a name like ours", |place| fs::create_dir_all(place.join("generation-1")).unwrap(), "`generation-1`"),
    ];
    for (name, prepare, expected) in cases {
        let world = World::with_generations();
        prepare(&directory(&world));
        let before = world.tree();
        let report = world.deploy(&world.issue()).await;
        assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{name}: {report:?}");
        let error = report.error.unwrap();
        assert!(error.full_message().contains(expected), "{name}: {}", error.full_message());
        assert!(!error.next_step().is_empty(), "{name}: {error:?}");
        assert_eq!(world.tree(), before, "{name}");
    }
}

#[tokio::test]
async fn directory_of_somebody_else_is_refused_and_one_that_was_given_up_is_taken_over() {
    let world = World::with_generations();
    let issued = world.issue();
    world.deploy(&issued).await;
    let before = world.tree();
    let mut other = world.plan(&world.issue());
    other.name = "another".to_owned();
    let report = other.clone().apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    let message = report.error.unwrap().full_message();
    assert!(message.contains("the generations of the target front"), "{message}");
    let beside = Plan::new("beside").with_file(PlanFile::new(directory(&world).join("x"), Role::Opaque, &b"x"[..]));
    assert_eq!(beside.apply(&world.context).await.outcome, Outcome::Rejected, "it is for generations and nothing else");
    let elsewhere = deploy_core::Context::new(world.root.path().join("other-state"), deploy_testkit::provider());
    let report = world.plan(&world.issue()).apply(&elsewhere).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(world.tree(), before);

    fs::remove_dir_all(directory(&world).join(".certdeploy")).unwrap();
    assert_eq!(other.apply(&world.context).await.outcome, Outcome::Changed);
    assert_eq!(current(&world).as_deref(), Some("generation-00000002"), "numbers go on");
}

#[tokio::test]
async fn directory_of_single_files_is_not_taken_for_generations() {
    let world = World::with_generations();
    fs::create_dir(directory(&world)).unwrap();
    let path = directory(&world).join("x");
    let single = Plan::new("single").with_file(PlanFile::new(&path, Role::Opaque, &b"x"[..]));
    assert_eq!(single.apply(&world.context).await.outcome, Outcome::Unverified);
    fs::remove_file(path).unwrap();
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert!(report.error.unwrap().full_message().contains("for single files"));
}

#[tokio::test]
async fn empty_directory_is_taken_with_the_mode_that_it_has() {
    for (given, then) in [(0o750, 0o750), (0o700, 0o755)] {
        let world = World::with_generations();
        fs::create_dir(directory(&world)).unwrap();
        fs::set_permissions(directory(&world), fs::Permissions::from_mode(given)).unwrap();
        assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
        assert_eq!(mode(&directory(&world)), then);
    }
}

#[tokio::test]
async fn directory_behind_a_link_is_the_directory() {
    let world = World::with_generations();
    let real = world.root.path().join("real");
    fs::create_dir(&real).unwrap();
    symlink(&real, directory(&world)).unwrap();
    for _ in 0..2 {
        let issued = world.issue();
        assert_eq!(world.deploy(&issued).await.outcome, Outcome::Changed);
        assert!(world.holds(&issued));
    }
    assert!(real.join("current/www.key").exists());
}

#[tokio::test]
async fn directory_that_others_can_write_to_is_refused_for_a_key() {
    for place in ["tls", "tls/www", "tls/www/generation-00000001"] {
        let world = World::with_generations();
        world.deploy(&world.issue()).await;
        fs::set_permissions(world.root.path().join(place), fs::Permissions::from_mode(0o777)).unwrap();
        let report = world.deploy(&world.issue()).await;
        assert_eq!(report.outcome, Outcome::Rejected, "{place}: {report:?}");
        assert!(report.error.unwrap().full_message().contains("no safe place for a key"), "{place}");
    }
}

#[tokio::test]
async fn f18_path_that_is_not_directly_in_current_is_refused() {
    let world = World::with_generations();
    let place = directory(&world);
    for path in [place.join("www.key"), place.join("current/keys/www.key"), place.join("current"), world.tls().join("www.key")] {
        let plan = world.plan(&world.issue()).with_file(PlanFile::new(&path, Role::Opaque, &b"x"[..]));
        let report = plan.apply(&world.context).await;
        assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
        let error = report.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::PlanInvalid);
        assert!(error.to_string().contains("is not directly in"), "{error}");
    }
    for place in ["tls", "/", "/tmp/../tls"] {
        let plan = world.plan(&world.issue()).with_layout(Layout::Generation(place.into()));
        assert_eq!(plan.apply(&world.context).await.outcome, Outcome::Rejected, "{place}");
    }
    assert!(world.tree().is_empty());
}

/// A checker that accepts if it sees these files at the final paths, while through the root of this process the link and
/// the files are still the old ones.
fn checker(world: &World, sees: &Issued, others_see: Option<&Issued>) -> Validate {
    let wanted = world.root.path().join("wanted");
    fs::write(&wanted, format!("{}{}", sees.fullchain_pem, sees.key_pem)).unwrap();
    let both = |root: &str| format!("cat {root}{} {root}{}", world.crt().display(), world.key().display());
    let outside = format!("/proc/{}/root", std::process::id());
    let old = world.root.path().join("old");
    let others = match others_see {
        Some(issued) => {
            fs::write(&old, format!("{}{}", issued.fullchain_pem, issued.key_pem)).unwrap();
            format!("{} | cmp - {}", both(&outside), old.display())
        }
        None => format!("test ! -e {outside}{}", directory(world).join("current").display()),
    };
    let script = format!(
        "test -e {1} || {{ {0} | cmp - {2} && {3}; }}",
        both(""),
        world.root.path().join("switched").display(),
        wanted.display(),
        others
    );
    Validate::new(Command::new(["sh", "-c", &script]))
}

#[tokio::test]
async fn validator_sees_the_new_files_at_their_final_paths_while_others_see_the_old_ones() {
    // From a user namespace nobody can look at the root of another process.
    let capabilities = rustix::thread::capabilities(None).unwrap().effective;
    assert!(capabilities.contains(rustix::thread::CapabilitySet::SYS_ADMIN), "this test needs CAP_SYS_ADMIN");
    let world = World::with_generations();
    let (first, second) = (world.issue(), world.issue());
    let switched = world.root.path().join("switched");
    let mark = switched.clone();
    world.events.at_each(move |event| match event {
        Event::Stage { stage: Stage::Swap, .. } => fs::write(&mark, "").unwrap(),
        Event::Stage { stage: Stage::Check, .. } => drop(fs::remove_file(&mark)),
        _ => {}
    });
    for (new, old) in [(&first, None), (&second, Some(&first))] {
        let mut plan = world.plan(new);
        plan.hooks.validate = Some(checker(&world, new, old));
        let report = plan.apply(&world.context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert!(report.degraded.is_empty(), "{report:?}");
    }
}

#[tokio::test]
async fn f2_validator_that_refuses_leaves_nothing_but_the_claim() {
    let world = World::with_generations();
    for _ in 0..3 {
        let mut plan = world.plan(&world.issue());
        plan.hooks.validate = Some(Validate::new(Command::new(["false"])));
        let report = plan.apply(&world.context).await;
        assert!(matches!(report.outcome, Outcome::Rejected | Outcome::RolledBack), "{report:?}");
        let files: Vec<PathBuf> = world.tree().into_keys().filter(|path| !path.is_dir()).collect();
        assert_eq!(files, [directory(&world).join(".certdeploy/owner")]);
        assert_eq!(generations(&world), []);
    }
}

#[tokio::test]
async fn f11_generations_of_kept_sets_stay_and_older_ones_go_after_the_time_of_grace() {
    let world = World::with_generations();
    let mut last = world.issue();
    for round in 1..=6 {
        last = world.issue();
        let report = world.plan(&last).with_backups(2).apply(&world.context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        // None of them is older than the time of grace, so that all are as open as they were.
        assert_eq!(generations(&world).len(), round);
        assert!(generations(&world).iter().all(|(_, mode)| *mode == 0o755));
    }
    assert_eq!(world.sets(), 2);
    let plan = || world.plan(&last).with_backups(2);
    let host = later(Duration::from_secs(30 * 60));
    assert_eq!(plan().apply(&world.context_on(&host)).await.outcome, Outcome::Unchanged);
    assert_eq!((generations(&world).len(), host.log()), (6, vec![]));

    let host = later(AFTER_GRACE);
    let report = plan().apply(&world.context_on(&host)).await;
    assert_eq!((report.outcome, report.warnings.len()), (Outcome::Unchanged, 0), "{report:?}");
    let expected = [("generation-00000004", 0o700), ("generation-00000005", 0o700), ("generation-00000006", 0o755)];
    assert_eq!(generations(&world), expected.map(|(name, mode)| (name.to_owned(), mode)));
    let host = later(AFTER_GRACE);
    assert_eq!(plan().apply(&world.context_on(&host)).await.outcome, Outcome::Unchanged);
    assert_eq!(host.log(), [], "there is nothing more to do");
}

#[tokio::test]
async fn f11_a_renewal_after_the_time_of_grace_closes_and_removes_what_came_before() {
    let world = World::with_generations();
    let now = || world.plan(&world.issue()).with_backups(1);
    now().apply(&world.context).await;
    now().apply(&world.context).await;
    let report = now().apply(&world.context_on(&later(AFTER_GRACE))).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    // The third follows the second by the clock of the file system, which has not moved: it is closed, too.
    assert_eq!(names(&world), ["generation-00000002", "generation-00000003"]);
    assert_eq!(world.sets(), 1);
    let first = world.plan(&world.issue()).with_backups(0).apply(&world.context_on(&later(AFTER_GRACE))).await;
    assert_eq!(first.outcome, Outcome::Changed);
    assert_eq!((names(&world).len(), world.sets()), (1, 0), "nothing is kept");
}

#[tokio::test]
async fn f12_clock_that_stepped_back_closes_and_removes_nothing() {
    let world = World::with_generations();
    for _ in 0..3 {
        world.plan(&world.issue()).with_backups(0).apply(&world.context).await;
    }
    let host = Arc::new(Wrapped::default());
    *host.clock.lock().unwrap() = Some(SystemTime::UNIX_EPOCH);
    let issued = world.issue();
    let report = world.plan(&issued).with_backups(0).apply(&world.context_on(&host)).await;
    // In 1970 no certificate is valid yet.
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    *host.clock.lock().unwrap() = Some(SystemTime::now() - AFTER_GRACE / 4);
    let report = world.plan(&issued).with_backups(0).apply(&world.context_on(&host)).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(generations(&world).len(), 4);
}

#[tokio::test]
async fn f13_what_is_not_a_generation_is_never_removed() {
    let world = World::with_generations();
    world.plan(&world.issue()).with_backups(0).apply(&world.context).await;
    let place = directory(&world);
    fs::create_dir(place.join("generation-00000001.mine")).unwrap();
    fs::create_dir(place.join("generation-1")).unwrap();
    fs::write(place.join("generation-00000099"), "a file").unwrap();
    fs::create_dir_all(place.join("generation-00000001/mine")).unwrap();
    for _ in 0..2 {
        let host = later(AFTER_GRACE);
        let report = world.plan(&world.issue()).with_backups(0).apply(&world.context_on(&host)).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert!(report.warnings.iter().any(|warning| warning.contains("cannot be looked after")), "{report:?}");
    }
    assert_eq!(names(&world).len(), 5, "those three, one with something in it, and the current one: {:?}", names(&world));
    for name in ["generation-00000001.mine", "generation-1", "generation-00000099", "generation-00000001/mine"] {
        assert!(place.join(name).exists(), "{name}");
    }
}

#[tokio::test]
async fn f13_generation_that_was_live_is_not_removed_because_somebody_took_the_link_back() {
    let world = World::with_generations();
    for _ in 0..3 {
        world.plan(&world.issue()).with_backups(1).apply(&world.context).await;
    }
    let link = directory(&world).join("current");
    for to in [Some("generation-00000002"), None] {
        fs::remove_file(&link).unwrap();
        if let Some(to) = to {
            symlink(to, &link).unwrap();
        }
        let mut plan = world.plan(&world.issue());
        plan.hooks.validate = Some(Validate::new(Command::new(["false"])));
        let report = plan.apply(&world.context_on(&later(AFTER_GRACE))).await;
        assert_ne!(report.outcome, Outcome::Changed, "{report:?}");
        assert!(names(&world).contains(&"generation-00000003".to_owned()), "{to:?}: {:?}", names(&world));
        assert_eq!(current(&world).as_deref(), to);
    }
}

#[tokio::test]
async fn f13_a_number_that_is_written_in_another_way_is_not_ours() {
    let world = World::with_generations();
    world.deploy(&world.issue()).await;
    fs::create_dir(directory(&world).join("generation-000000001")).unwrap();
    fs::create_dir(directory(&world).join("generation-00000007.link")).unwrap();
    world.deploy(&world.issue()).await;
    let report = world.plan(&world.issue()).with_backups(0).apply(&world.context_on(&later(AFTER_GRACE))).await;
    assert_eq!((report.outcome, report.warnings), (Outcome::Changed, vec![]));
    assert_eq!(names(&world), ["generation-000000001", "generation-00000003", "generation-00000007.link"]);
}

fn job(world: &World, issued: &Issued) -> deploy_core::Job {
    let mut target = common::crash::FilesTarget::new(world.root.path(), world.server.address(), world.layout.clone());
    target.hooks = world.hooks();
    deploy_core::Job::new("front", "files", Arc::new(target), Arc::new(common::crash::certificate(issued)))
}

#[tokio::test]
async fn rollback_deploys_the_files_of_a_kept_generation_as_a_new_one() {
    let world = World::with_generations();
    let issued: Vec<Issued> = (0..3).map(|_| world.issue()).collect();
    world.deploy(&issued[0]).await;
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o640)).unwrap();
    for issued in &issued[1..] {
        assert_eq!(world.deploy(issued).await.outcome, Outcome::Changed);
        fs::set_permissions(world.key(), fs::Permissions::from_mode(0o600)).unwrap();
    }
    // By then the old ones are closed.
    world.plan(&issued[2]).apply(&world.context_on(&later(AFTER_GRACE))).await;
    assert_eq!(generations(&world)[0], ("generation-00000001".to_owned(), 0o700));
    let report = deploy_core::rollback(&job(&world, &issued[2]), Some("2"), &world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&issued[0]));
    assert_eq!(mode(&world.key()), 0o640);
    assert_eq!(current(&world).as_deref(), Some("generation-00000004"));
    assert_eq!(fs::metadata(world.key()).unwrap().nlink(), 1);
    assert_eq!(world.served(), Some(issued[0].fingerprint.clone()));
    let report = deploy_core::deploy(&[job(&world, &issued[2])], &world.context).await.remove(0);
    assert_eq!(report.outcome, Outcome::Unchanged, "held: {report:?}");
    let status = deploy_core::status(&job(&world, &issued[2]), &world.context).await;
    assert_eq!((status.hold.as_ref(), status.sets.len()), (Some(&issued[2].fingerprint), 3), "{status:?}");
    assert_eq!(status.on_disk.as_ref(), Some(&issued[0].fingerprint));
    let report = deploy_core::rollback(&job(&world, &issued[2]), None, &world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&issued[2]));
}

#[tokio::test]
async fn rollback_of_a_first_deployment_leaves_no_file() {
    let world = World::with_generations();
    let issued = world.issue();
    let mut plan = world.plan(&issued);
    (plan.hooks.reload, plan.hooks.verify) = (None, Verify::Waived);
    assert_eq!(plan.apply(&world.context).await.outcome, Outcome::Changed);
    let mut target = common::crash::FilesTarget::new(world.root.path(), world.server.address(), world.layout.clone());
    target.hooks = deploy_core::Hooks::new().with_verify(Verify::Waived);
    let job = deploy_core::Job::new("front", "files", Arc::new(target), Arc::new(common::crash::certificate(&issued)));
    let report = deploy_core::rollback(&job, None, &world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(!world.crt().exists() && !world.key().exists());
    assert_eq!(fs::read_dir(directory(&world).join("current")).unwrap().count(), 0);
}

#[tokio::test]
async fn rollback_whose_generation_was_removed_is_refused() {
    let world = World::with_generations();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    world.deploy(&new).await;
    fs::remove_dir_all(directory(&world).join("generation-00000001")).unwrap();
    let report = deploy_core::rollback(&job(&world, &new), None, &world.context).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert!(world.holds(&new));
}

#[tokio::test]
async fn a2_dry_run_shows_the_checker_the_new_files_and_makes_nothing() {
    let world = World::with_generations();
    let (first, second) = (world.issue(), world.issue());
    for (issued, deployed) in [(&first, false), (&second, true)] {
        if deployed {
            world.deploy(&first).await;
        }
        let before = world.tree();
        let mut target = common::crash::FilesTarget::new(world.root.path(), world.server.address(), world.layout.clone());
        fs::write(world.root.path().join("wanted"), &issued.fullchain_pem).unwrap();
        let wanted = world.root.path().join("wanted");
        target.hooks = world.hooks().with_validate(Validate::new(Command::new([
            "cmp",
            wanted.to_str().unwrap(),
            world.crt().to_str().unwrap(),
        ])));
        let job = deploy_core::Job::new("front", "files", Arc::new(target), Arc::new(common::crash::certificate(issued)));
        let preview = deploy_core::preview(&job, &world.context).await;
        assert!(preview.error.is_none(), "{preview:?}");
        assert_eq!((preview.state, preview.validated), (deploy_core::TargetState::Change, Rung::V3), "{preview:?}");
        assert_eq!(preview.files.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), [world.crt(), world.key()]);
        assert_eq!(preview.files.iter().all(|file| file.before.is_some()), deployed);
        assert_eq!(world.tree(), before);
    }
}

#[tokio::test]
async fn a_changed_layout_is_deployed_and_rolled_back_like_any_other_change() {
    let mut world = World::with_generations();
    let issued = world.issue();
    let generation = std::mem::replace(&mut world.layout, Layout::Replace);
    let mut plan = world.plan(&issued);
    (plan.hooks.reload, plan.hooks.verify) = (None, Verify::Waived);
    assert_eq!(plan.apply(&world.context).await.outcome, Outcome::Changed);
    let single = world.crt();
    world.layout = generation;
    let report = world.deploy(&issued).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&issued) && single.exists());
    assert_eq!(current(&world).as_deref(), Some("generation-00000002"));
}

#[tokio::test]
async fn lost_state_directory_repeats_no_number_and_keeps_what_is_live() {
    let world = World::with_generations();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    world.deploy(&new).await;
    fs::remove_dir_all(world.root.path().join("state")).unwrap();
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "adopted: {report:?}");
    let newest = world.issue();
    assert_eq!(world.deploy(&newest).await.outcome, Outcome::Changed);
    assert_eq!(current(&world).as_deref(), Some("generation-00000003"));
    let report = deploy_core::rollback(&job(&world, &newest), None, &world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&new));
}

/// Two targets of one service, with generations in these directories; the server loads the files of the first.
fn pair_of_jobs(world: &World, directories: [&str; 2], issued: &Issued) -> Vec<deploy_core::Job> {
    let job = |(name, directory): (&str, &str)| {
        let layout = Layout::Generation(world.tls().join(directory));
        let mut target = common::crash::FilesTarget::new(world.root.path(), world.server.address(), layout.clone());
        [target.crt, target.key] = ["www.crt", "www.key"].map(|file| world.tls().join(directory).join("current").join(file));
        (target.name, target.layout, target.hooks) = (name.to_owned(), layout, world.hooks());
        deploy_core::Job::new(name, "files", Arc::new(target), Arc::new(common::crash::certificate(issued)))
    };
    ["front", "back"].into_iter().zip(directories).map(job).collect()
}

#[tokio::test]
async fn two_targets_of_a_service_have_their_own_directories_one_reload_and_one_way_back() {
    let world = World::with_generations();
    let links = || ["www", "other"].map(|name| fs::read_link(world.tls().join(name).join("current")).ok());
    let expected =
        |id: u64| [Some(PathBuf::from(format!("generation-{id:08}"))), Some(PathBuf::from(format!("generation-{id:08}")))];
    let reports = deploy_core::deploy(&pair_of_jobs(&world, ["www", "other"], &world.issue()), &world.context).await;
    assert!(reports.iter().all(|report| report.outcome == Outcome::Changed), "{reports:?}");
    assert_eq!((links(), world.reload.applied()), (expected(1), 1));
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let new = world.issue();
    let reports = deploy_core::deploy(&pair_of_jobs(&world, ["www", "other"], &new), &world.context).await;
    assert!(reports.iter().all(|report| report.outcome == Outcome::RolledBack), "{reports:?}");
    assert_eq!(links(), expected(1));
    assert_eq!(world.stray_backups(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn two_targets_with_one_directory_are_refused_before_anything_is_made() {
    let world = World::with_generations();
    let jobs = pair_of_jobs(&world, ["www", "www"], &world.issue());
    let reports = deploy_core::deploy(&jobs, &world.context).await;
    let kinds: Vec<ErrorKind> = reports.iter().map(|report| report.error.as_ref().unwrap().kind()).collect();
    assert_eq!(kinds, [ErrorKind::ConfigurationInvalid; 2]);
    assert!(world.tree().is_empty());
}

#[tokio::test]
async fn f36_old_generations_that_cannot_be_closed_or_removed_are_told_of_and_left_for_the_next_run() {
    for at in 0.. {
        let world = World::with_generations();
        let issued: Vec<Issued> = (0..4).map(|_| world.issue()).collect();
        for issued in &issued {
            world.plan(issued).with_backups(1).apply(&world.context).await;
        }
        let plan = || world.plan(&issued[3]).with_backups(1);
        let host = later(AFTER_GRACE);
        host.set_fault(Some(Fault { at, once: true, only: &[], errno: rustix::io::Errno::IO }));
        let report = plan().apply(&world.context_on(&host)).await;
        assert_eq!(report.outcome, Outcome::Unchanged, "{at}: {report:?}");
        assert!(world.holds(&issued[3]), "{at}");
        let hit = host.hit();
        assert_eq!(report.warnings.len(), hit.len(), "{hit:?}: {report:?}");
        assert_eq!(plan().apply(&world.context_on(&later(AFTER_GRACE))).await.outcome, Outcome::Unchanged, "{hit:?}");
        let expected = [("generation-00000003", 0o700), ("generation-00000004", 0o755)];
        assert_eq!(generations(&world), expected.map(|(name, mode)| (name.to_owned(), mode)), "{hit:?}");
        if hit.is_empty() {
            assert!(at > 8, "{at}");
            break;
        }
    }
}

//! Deployments of files, from the outside: what is served, what is on disk, what the report says.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use common::World;
use common::crash::certificate;
use deploy_core::command::Command;
use deploy_core::settings::Mode;
use deploy_core::{
    Capabilities, Certificate, Context, Deployment, Destination, Error, ErrorKind, Event, Hooks, Job, LinkPolicy, Live, Outcome,
    Plan, PlanFile, Recovery, Reload, Role, Rung, Stage, Target, Verify, deploy,
};

#[tokio::test]
async fn f1_first_deployment_is_changed_and_seen_on_the_wire() {
    let world = World::new();
    let issued = world.issue();
    let report = world.deploy(&issued).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!((report.live, report.validated), (Live::Applied, Rung::V6));
    assert_eq!(world.served().as_deref(), Some(issued.fingerprint.as_str()));
    assert_eq!(fs::metadata(world.key()).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(fs::metadata(world.crt()).unwrap().permissions().mode() & 0o7777, 0o644);
    assert_eq!(world.reload.applied(), 1);
    assert!(world.litter().is_empty(), "{:?}", world.litter());
}

#[tokio::test]
async fn a3_second_run_is_unchanged_and_writes_nothing() {
    let world = World::new();
    let issued = world.issue();
    world.deploy(&issued).await;
    let (before, history) = (world.tree(), fs::read(world.root.path().join("state/history.jsonl")).unwrap());
    let report = world.deploy(&issued).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "{report:?}");
    assert_eq!(world.tree(), before);
    assert_eq!(fs::read(world.root.path().join("state/history.jsonl")).unwrap(), history);
    assert_eq!(world.reload.applied(), 1);
}

#[tokio::test]
async fn f5_forced_run_on_equal_content_runs_the_hooks_once() {
    let world = World::new();
    let issued = world.issue();
    world.deploy(&issued).await;
    let report = world.plan(&issued).apply(&world.context.clone().with_force(true)).await;
    assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
    assert_eq!(world.reload.applied(), 2);
}

#[tokio::test]
async fn renewal_replaces_the_certificate_and_keeps_three_states() {
    let world = World::new();
    for _ in 0..6 {
        let issued = world.issue();
        let report = world.deploy(&issued).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(world.served().as_deref(), Some(issued.fingerprint.as_str()));
    }
    let backups = world.tree().into_keys().filter(|path| path.extension().is_some_and(|ending| ending == "old")).count();
    assert_eq!(backups, 3 * 2, "three deployments of two files");
    assert!(world.litter().is_empty());
}

#[tokio::test]
async fn f3_failed_reload_puts_the_old_files_back_and_they_are_served() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let before = world.tree();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(report.error.as_ref().unwrap().kind(), ErrorKind::ReloadFailed);
    assert_eq!(report.error.as_ref().unwrap().stage(), Some(Stage::Reload));
    assert_eq!(world.tree(), before);
    assert_eq!(world.served(), Some(old.fingerprint.clone()));
    assert_eq!(world.reload.undone(), 1);
    world.reload.fail_forward.store(false, Ordering::SeqCst);
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Changed);
}

#[tokio::test]
async fn f4_rollback_whose_reload_fails_too_needs_a_person_and_is_settled_later() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    world.reload.fail_back.store(true, Ordering::SeqCst);
    let mut blind = world.plan(&new);
    blind.hooks.verify = Verify::NotConfigured;
    let report = blind.apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{report:?}");
    let error = report.error.unwrap();
    assert!(error.next_step().contains("certdeploy recover"), "{error:?}");
    assert_eq!(fs::read(world.crt()).unwrap(), old.fullchain_pem.as_bytes());
    world.reload.fail_forward.store(false, Ordering::SeqCst);
    world.reload.fail_back.store(false, Ordering::SeqCst);
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.litter().is_empty(), "{:?}", world.litter());
}

#[tokio::test]
async fn f4_rollback_whose_reload_fails_is_a_rollback_where_the_old_certificate_is_seen() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let before = world.tree();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    world.reload.fail_back.store(true, Ordering::SeqCst);
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert!(report.warnings.iter().any(|warning| warning.contains("telling the service")), "{:?}", report.warnings);
    assert_eq!(world.tree(), before);
    assert_eq!(world.served(), Some(old.fingerprint.clone()));
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
}

#[tokio::test]
async fn steps_of_a_reload_run_in_order_and_all_of_them_again_on_the_way_back() {
    let world = World::new();
    let index = world.root.path().join("index");
    let make_index = Reload::Command(Command::new(["cp".as_ref(), world.key().as_os_str(), index.as_os_str()]));
    let plan = |issued| {
        let mut plan = world.plan(issued);
        plan.hooks.reload = Some(Reload::Steps(vec![make_index.clone(), Reload::Call(world.reload.clone())]));
        plan
    };
    let (old, new) = (world.issue(), world.issue());
    let report = plan(&old).apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(fs::read_to_string(&index).unwrap(), old.key_pem);

    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let mut seen = plan(&new);
    let kept = world.root.path().join("kept");
    let keep = Reload::Command(Command::new(["cp".as_ref(), "-n".as_ref(), index.as_os_str(), kept.as_os_str()]));
    seen.hooks.reload = Some(Reload::Steps(vec![make_index.clone(), keep, Reload::Call(world.reload.clone())]));
    let report = seen.apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(fs::read_to_string(&kept).unwrap(), new.key_pem, "the step before saw the new files");
    assert_eq!(fs::read_to_string(&index).unwrap(), old.key_pem);
    assert_eq!(world.served(), Some(old.fingerprint));
}

#[tokio::test]
async fn step_of_a_reload_that_fails_ends_it() {
    let world = World::new();
    let mut plan = world.plan(&world.issue());
    let fails = Reload::Command(Command::new(["false"]));
    plan.hooks.reload = Some(Reload::Steps(vec![fails, Reload::Call(world.reload.clone())]));
    let report = plan.apply(&world.context).await;
    assert_eq!(report.error.map(|error| error.kind()), Some(ErrorKind::ReloadFailed));
    assert_eq!(world.served(), None);
    assert!(!world.key().exists());
}

#[tokio::test]
async fn a5_server_that_goes_on_serving_the_old_certificate_is_rolled_back() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    world.reload.ignore.store(true, Ordering::SeqCst);
    let mut plan = world.plan(&new);
    plan.hooks.verify = Verify::Endpoints { endpoints: vec![world.endpoint()], timeout: std::time::Duration::from_millis(300) };
    let report = plan.apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::VerifyFailed);
    assert_eq!(fs::read(world.key()).unwrap(), old.key_pem.as_bytes());
}

#[tokio::test]
async fn f22_first_deployment_that_fails_leaves_no_file() {
    let world = World::new();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let report = world.deploy(&world.issue()).await;
    // The server has no certificate to go back to, and its reload says so: that is as it was before.
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert!(!world.crt().exists() && !world.key().exists());
    assert!(world.litter().is_empty(), "{:?}", world.litter());
    world.reload.fail_forward.store(false, Ordering::SeqCst);
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
}

#[tokio::test]
async fn f26_failed_reload_without_backups_restores_all_the_same() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.plan(&old).with_backups(0).apply(&world.context).await;
    let before = world.visible();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let report = world.plan(&new).with_backups(0).apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(world.visible(), before);
}

#[tokio::test]
async fn f29_rollback_runs_although_the_time_is_up() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    world.reload.ignore.store(true, Ordering::SeqCst);
    let context = world.context.clone().with_timeout(std::time::Duration::from_millis(400));
    let report = world.plan(&new).apply(&context).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(fs::read(world.crt()).unwrap(), old.fullchain_pem.as_bytes());
}

#[tokio::test]
async fn m1_key_of_another_certificate_is_refused_before_anything_is_written() {
    let world = World::new();
    let old = world.issue();
    world.deploy(&old).await;
    let before = world.tree();
    let mismatched = world.issue().with_key_of(&world.issue());
    let report = world.deploy(&mismatched).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::MaterialRejected);
    assert_eq!(world.tree(), before);
    assert_eq!(world.served(), Some(old.fingerprint));
}

#[tokio::test]
async fn m1_key_file_beside_a_combined_one_has_to_fit_as_well() {
    let world = World::new();
    let (issued, other) = (world.issue(), world.issue());
    let combined = format!("{}{}", issued.fullchain_pem, issued.key_pem);
    let plan = |key: &deploy_testkit::Issued| {
        Plan::new("both").with_file(PlanFile::new(world.crt(), Role::Combined, combined.as_bytes())).with_file(PlanFile::new(
            world.key(),
            Role::Key,
            key.key_pem.as_bytes(),
        ))
    };
    let report = plan(&other).apply(&world.context).await;
    assert_eq!(report.error.map(|error| error.kind()), Some(ErrorKind::MaterialRejected));
    assert!(!world.key().exists());
    assert_eq!(plan(&issued).apply(&world.context).await.outcome, Outcome::Unverified);
}

#[tokio::test]
async fn s2_a_default_mode_opens_a_certificate_to_every_user_and_no_key() {
    let world = World::new();
    let plan = |world: &World| {
        let mut plan = world.plan(&world.issue());
        plan.defaults = deploy_core::Defaults::new(None, None, Some(Mode::new(0o664)));
        plan
    };
    let first = plan(&world);
    assert_eq!(first.clone().apply(&world.context).await.outcome, Outcome::Changed);
    assert_eq!([world.crt(), world.key()].map(|path| path.metadata().unwrap().permissions().mode() & 0o777), [0o664, 0o660]);
    assert_eq!(first.apply(&world.context).await.outcome, Outcome::Unchanged, "and nothing is to be closed");
}

#[tokio::test]
async fn f6_f7_owner_and_mode_are_kept_unless_overridden_each_by_itself() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(world.key(), Some(12), Some(34)).expect("this test needs root");
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let key = fs::metadata(world.key()).unwrap();
    assert_eq!((key.uid(), key.gid(), key.mode() & 0o7777), (12, 34, 0o640));
    let issued = world.issue();
    let mut plan = world.plan(&issued);
    plan.files[1] = plan.files[1].clone().with_group(Some("56".to_owned()));
    plan.apply(&world.context).await;
    let key = fs::metadata(world.key()).unwrap();
    assert_eq!((key.uid(), key.gid(), key.mode() & 0o7777), (12, 56, 0o640));
}

#[tokio::test]
async fn f27_rollback_restores_owner_and_mode_of_the_old_file() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o640)).unwrap();
    std::os::unix::fs::chown(world.key(), Some(12), Some(34)).expect("this test needs root");
    let before = world.visible();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    let mut plan = world.plan(&new);
    plan.files[1] = plan.files[1].clone().with_mode(Some(Mode::new(0o600))).with_owner(Some("0".to_owned()));
    assert_eq!(plan.apply(&world.context).await.outcome, Outcome::RolledBack);
    assert_eq!(world.visible(), before);
}

#[tokio::test]
async fn f34_drift_of_mode_is_repaired_without_a_reload() {
    let world = World::new();
    let issued = world.issue();
    let plan = || {
        let mut plan = world.plan(&issued);
        plan.files[1] = plan.files[1].clone().with_mode(Some(Mode::new(0o600)));
        plan
    };
    plan().apply(&world.context).await;
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o644)).unwrap();
    let report = plan().apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
    assert_eq!(fs::metadata(world.key()).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(world.reload.applied(), 1);
    assert_eq!(plan().apply(&world.context).await.outcome, Outcome::Unchanged);
}

#[tokio::test]
async fn s2_a_key_that_was_open_to_every_user_is_closed_and_a_certificate_is_not() {
    let world = World::new();
    let issued = world.issue();
    world.deploy(&issued).await;
    let mode = |path: PathBuf| fs::metadata(path).unwrap().mode() & 0o7777;
    for issued in [issued, world.issue()] {
        fs::set_permissions(world.key(), fs::Permissions::from_mode(0o644)).unwrap();
        let report = world.deploy(&issued).await;
        assert!(report.warnings.iter().any(|warning| warning.contains("was open to every user")), "{report:?}");
        assert_eq!((mode(world.crt()), mode(world.key())), (0o644, 0o640));
    }
}

#[tokio::test]
async fn f30_symlink_stays_and_the_file_behind_it_changes() {
    let world = World::new();
    let real = world.root.path().join("real");
    fs::create_dir(&real).unwrap();
    world.deploy(&world.issue()).await;
    fs::rename(world.crt(), real.join("chain.pem")).unwrap();
    symlink(real.join("chain.pem"), world.crt()).unwrap();
    let issued = world.issue();
    let report = world.deploy(&issued).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(fs::read_link(world.crt()).unwrap(), real.join("chain.pem"));
    assert_eq!(fs::read(real.join("chain.pem")).unwrap(), issued.fullchain_pem.as_bytes());
}

/// Makes its file from what is there: one more line each time. Somebody else adds one after the first look.
#[derive(Debug)]
struct Adds {
    path: PathBuf,
    looks: AtomicUsize,
}

#[async_trait]
impl Target for Adds {
    fn capabilities(&self) -> Capabilities {
        Capabilities::FILES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(Hooks::new())
    }

    async fn prepare(&self, _: &Certificate, context: &Context) -> Result<Deployment, Error> {
        let found = Destination::read(&self.path, LinkPolicy::Follow, context)?;
        let old = found.bytes.as_ref().map_or(b"".as_slice(), |bytes| bytes.expose());
        let plan = Plan::new("front")
            .with_read(&found.path, found.bytes.as_ref().map(|bytes| bytes.expose()))
            .with_file(PlanFile::new(&self.path, Role::Opaque, [old, b"ours\n"].concat()))
            .with_hooks(Hooks::new().with_verify(Verify::Waived));
        if self.looks.fetch_add(1, Ordering::SeqCst) == 0 {
            fs::write(&found.path, [old, b"theirs\n"].concat()).unwrap();
        }
        Ok(Deployment::Files(plan))
    }
}

#[tokio::test]
async fn f35_file_that_a_plan_was_made_from_is_looked_at_again_where_somebody_changed_it() {
    for link in [false, true] {
        let world = World::new();
        let (path, real) = (world.tls().join("list"), world.tls().join(if link { "real" } else { "list" }));
        fs::write(&real, "first\n").unwrap();
        if link {
            symlink("real", &path).unwrap();
        }
        let target = Arc::new(Adds { path: path.clone(), looks: AtomicUsize::new(0) });
        let job = Job::new("front", "test", target.clone(), Arc::new(certificate(&world.issue())));
        let report = deploy(&[job], &world.context).await.remove(0);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(fs::read_to_string(&real).unwrap(), "first\ntheirs\nours\n");
        assert_eq!((target.looks.load(Ordering::SeqCst), path.is_symlink()), (2, link));
    }
}

#[tokio::test]
async fn f30_dangling_symlink_is_refused() {
    let world = World::new();
    symlink(world.root.path().join("nowhere/x"), world.crt()).unwrap();
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert!(report.error.unwrap().to_string().contains("does not exist"));
}

#[tokio::test]
async fn f31_foreign_hard_link_is_refused() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    fs::hard_link(world.crt(), world.root.path().join("other")).unwrap();
    let before = world.tree();
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert!(report.error.unwrap().to_string().contains("hard link"));
    assert_eq!(world.tree(), before);
}

#[tokio::test]
async fn f18_f19_bad_plans_are_refused_before_any_file_is_opened() {
    let world = World::new();
    let issued = world.issue();
    let file = |path: &std::path::Path| PlanFile::new(path, Role::Opaque, &b"x"[..]);
    let cases: Vec<(&str, Plan, &str)> = vec![
        ("no files", Plan::new("front"), "no files"),
        ("empty path", Plan::new("front").with_file(file("".as_ref())), "empty path"),
        ("relative", Plan::new("front").with_file(file("a/b".as_ref())), "not an absolute path"),
        ("twice", world.plan(&issued).with_file(file(&world.crt())), "twice"),
        ("bad name", Plan::new("../front").with_file(file(&world.crt())), "cannot be the name"),
        ("directory", Plan::new("front").with_file(file(&world.tls())), "is a directory"),
        ("no parent", Plan::new("front").with_file(file(&world.tls().join("none/x"))), "does not exist"),
        ("alias", world.plan(&issued).with_file(file(&world.tls().join("../tls/www.crt"))), "two names of one file"),
    ];
    for (name, plan, expected) in cases {
        let report = plan.apply(&world.context).await;
        assert_eq!(report.outcome, Outcome::Rejected, "{name}: {report:?}");
        let error = report.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::PlanInvalid, "{name}");
        assert!(error.to_string().contains(expected), "{name}: {error}");
        assert!(world.tree().is_empty(), "{name}");
    }
}

#[tokio::test]
async fn f19_fifo_is_refused_without_blocking() {
    let world = World::new();
    rustix::fs::mknodat(rustix::fs::CWD, world.crt(), rustix::fs::FileType::Fifo, rustix::fs::Mode::from_bits_truncate(0o600), 0)
        .unwrap();
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert!(report.error.unwrap().to_string().contains("named pipe"));
}

#[tokio::test]
async fn f20_cancelled_before_the_start_creates_nothing() {
    let world = World::new();
    world.context.cancellation().cancel();
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Interrupted, "{report:?}");
    assert!(world.tree().is_empty());
}

#[tokio::test]
async fn f21_cancelled_at_any_stage_leaves_the_old_state() {
    for stage in
        [Stage::Lock, Stage::Inspect, Stage::Stage, Stage::Validate, Stage::Journal, Stage::Swap, Stage::Reload, Stage::Verify]
    {
        let world = World::new();
        let (old, new) = (world.issue(), world.issue());
        world.deploy(&old).await;
        let (before, marker) = (world.tree(), fs::read(world.root.path().join("state/targets/front.json")).unwrap());
        let cancellation = world.context.cancellation().clone();
        world.events.at_each(move |event| {
            if matches!(event, Event::Stage { stage: now, .. } if *now == stage) {
                cancellation.cancel();
            }
        });
        let report = world.deploy(&new).await;
        // What is seen on the wire at the last look counts: then the deployment is done.
        if report.outcome == Outcome::Changed {
            assert_eq!(stage, Stage::Verify);
            continue;
        }
        assert_eq!(report.outcome, Outcome::Interrupted, "{stage:?}: {report:?}");
        assert_eq!(world.tree(), before, "{stage:?}");
        assert_eq!(fs::read(world.root.path().join("state/targets/front.json")).unwrap(), marker, "{stage:?}");
        assert_eq!(world.served(), Some(old.fingerprint.clone()), "{stage:?}");
        assert!(world.litter().is_empty(), "{stage:?}: {:?}", world.litter());
    }
}

#[tokio::test]
async fn f24_f25_only_the_differing_file_is_rewritten_and_hooks_run_once() {
    let world = World::new();
    let issued = world.issue();
    let extra = world.tls().join("extra.pem");
    let plan = |bytes: &[u8]| world.plan(&issued).with_file(PlanFile::new(&extra, Role::Opaque, bytes));
    plan(b"one").apply(&world.context).await;
    let inode = fs::metadata(world.key()).unwrap().ino();
    let report = plan(b"two").apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(report.changed_files, vec![extra]);
    assert_eq!(fs::metadata(world.key()).unwrap().ino(), inode);
    assert_eq!(world.reload.applied(), 2);
}

#[tokio::test]
async fn f35_change_between_inspection_and_switch_is_a_conflict_and_stays() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    let path = world.crt();
    world.events.at_each(move |event| {
        if matches!(event, Event::Stage { stage: Stage::Journal, .. }) {
            fs::write(&path, "somebody else's").unwrap();
        }
    });
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Conflict);
    assert_eq!(fs::read(world.crt()).unwrap(), b"somebody else's");
    assert!(world.litter().is_empty());
}

#[tokio::test]
async fn f35_change_between_switch_and_rollback_is_left_alone() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    let path = world.crt();
    world.reload.fail_forward.store(true, Ordering::SeqCst);
    world.events.at_each(move |event| {
        if matches!(event, Event::Stage { stage: Stage::RollBack, .. }) {
            fs::write(&path, "somebody else's").unwrap();
        }
    });
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{report:?}");
    assert_eq!(fs::read(world.crt()).unwrap(), b"somebody else's");
}

#[tokio::test]
async fn a4_without_verify_a_change_is_unverified_and_the_next_run_unchanged() {
    let world = World::new();
    let issued = world.issue();
    let plan = || {
        let mut plan = world.plan(&issued);
        plan.hooks.verify = Verify::NotConfigured;
        plan
    };
    assert_eq!(plan().apply(&world.context).await.outcome, Outcome::Unverified);
    assert_eq!(plan().apply(&world.context).await.outcome, Outcome::Unchanged);
    let other = world.issue();
    let mut waived = world.plan(&other);
    waived.hooks.verify = Verify::Waived;
    assert_eq!(waived.apply(&world.context).await.outcome, Outcome::Changed);
}

#[tokio::test]
async fn ruling_2_equal_bytes_without_marker_are_adopted_where_they_are_served() {
    let world = World::new();
    let issued = world.issue();
    world.deploy(&issued).await;
    fs::remove_file(world.root.path().join("state/targets/front.json")).unwrap();
    let report = world.deploy(&issued).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "{report:?}");
    assert_eq!(world.reload.applied(), 1);
    fs::remove_file(world.root.path().join("state/targets/front.json")).unwrap();
    let mut blind = world.plan(&issued);
    blind.hooks.verify = Verify::NotConfigured;
    assert_eq!(blind.apply(&world.context).await.outcome, Outcome::Repaired);
    assert_eq!(world.reload.applied(), 2);
}

#[tokio::test]
async fn a8_every_run_has_one_final_event_and_every_outcome_but_unchanged_one_line_of_history() {
    let world = World::new();
    let issued = world.issue();
    world.deploy(&issued).await;
    world.deploy(&issued).await;
    world.deploy(&world.issue().with_key_of(&issued)).await;
    assert_eq!(world.events.finished(), 3);
    let history = fs::read_to_string(world.root.path().join("state/history.jsonl")).unwrap();
    assert_eq!(history.lines().count(), 2, "{history}");
}

#[tokio::test]
async fn m4_certificate_that_loses_a_name_is_refused_unless_forced() {
    let world = World::new();
    let wide = world.authority.issue(&deploy_testkit::pki::Request::new(&[common::NAME, "mail.example.test"]));
    world.deploy(&wide).await;
    let narrow = world.issue();
    let report = world.deploy(&narrow).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    let report = world.plan(&narrow).apply(&world.context.clone().with_force(true)).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
}

#[tokio::test]
async fn verify_address_that_refuses_stops_a_renewal_before_anything_changes() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    let before = world.tree();
    let issued = world.issue();
    let mut plan = world.plan(&issued);
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    plan.hooks.verify = Verify::endpoints([deploy_core::probe::Endpoint::new(closed.to_string())]);
    let report = plan.apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(report.error.unwrap().kind(), ErrorKind::Unavailable);
    assert_eq!(world.tree(), before);
}

#[tokio::test]
async fn marker_or_set_with_the_largest_number_is_an_error_and_no_overflow() {
    let world = World::new();
    let old = world.issue();
    world.deploy(&old).await;
    let targets = world.root.path().join("state/targets");
    let marker = fs::read_to_string(targets.join("front.json")).unwrap();
    let largest = marker.replace("\"sequence\": 1", &format!("\"sequence\": {}", u64::MAX));
    assert_ne!(largest, marker);
    fs::write(targets.join("front.json"), largest).unwrap();
    let before = world.tree();
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.error.unwrap().kind(), ErrorKind::StateInvalid);
    assert_eq!(world.tree(), before);
    fs::remove_file(targets.join("front.json")).unwrap();
    fs::write(targets.join(format!("front-{}.set", u64::MAX)), "CDJ1\n").unwrap();
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.error.unwrap().kind(), ErrorKind::StateInvalid);
    assert_eq!(world.tree(), before);
}

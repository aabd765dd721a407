//! One at a time, across threads and processes; retention; and what a pass costs.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files, and start processes"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::World;
use common::crash::CrashWorld;
use common::wrapped::Wrapped;
use deploy_core::{ErrorKind, Event, EventSink, Outcome, Plan, PlanFile, Report, Retry, Role, Stage, Verify};

#[tokio::test]
#[ignore = "run by the other tests, in a process of its own"]
async fn inner() {
    if std::env::var("CRASH_WORK").as_deref() == Ok("hold") {
        return hold().await;
    }
    common::crash::inner().await;
}

/// Holds the locks of a deployment until the process is killed, and says so by a file.
async fn hold() {
    let root = PathBuf::from(std::env::var("CRASH_ROOT").unwrap());
    let events = Arc::new(Holder(root.join("held")));
    let context = deploy_core::Context::new(root.join("state"), deploy_testkit::provider()).with_events(events);
    opaque("front", &[&root.join("tls/www.crt")], "held").apply(&context).await;
}

struct Holder(PathBuf);

impl EventSink for Holder {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Stage { stage: Stage::Inspect, .. }) {
            fs::write(&self.0, std::process::id().to_string()).unwrap();
            loop {
                std::thread::park();
            }
        }
    }
}

fn opaque(name: &str, paths: &[&Path], text: &str) -> Plan {
    let file = |path: &&Path| PlanFile::new(*path, Role::Opaque, text.as_bytes());
    let mut plan = Plan::new(name);
    plan.files = paths.iter().map(file).collect();
    plan.hooks.verify = Verify::Waived;
    plan
}

/// Counts how many deployments are past the lock at the same time.
#[derive(Default)]
struct Overlap {
    inside: AtomicUsize,
    most: AtomicUsize,
}

impl EventSink for Overlap {
    fn event(&self, event: &Event) {
        match event {
            Event::Stage { stage: Stage::Inspect, .. } => {
                let now = self.inside.fetch_add(1, Ordering::SeqCst) + 1;
                self.most.fetch_max(now, Ordering::SeqCst);
            }
            Event::Stage { stage: Stage::Acknowledge, .. } => drop(self.inside.fetch_sub(1, Ordering::SeqCst)),
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f9_deployments_of_one_file_serialise_within_a_process() {
    let world = World::new();
    let path = world.tls().join("shared");
    let overlap = Arc::new(Overlap::default());
    let context = world.context.clone().with_events(overlap.clone());
    let runs: Vec<_> = (0..8)
        .map(|number| {
            let (context, path) = (context.clone(), path.clone());
            // Different targets, so that it is the file that is locked.
            tokio::spawn(
                async move { opaque(&format!("target-{number}"), &[&path], &format!("text {number}")).apply(&context).await },
            )
        })
        .collect();
    for run in runs {
        let report = run.await.unwrap();
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    }
    assert_eq!(overlap.most.load(Ordering::SeqCst), 1);
    assert!(fs::read_to_string(&path).unwrap().starts_with("text "));
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_two_names_of_one_file_have_one_lock() {
    let world = World::new();
    fs::create_dir(world.root.path().join("other")).unwrap();
    let real = world.tls().join("real");
    fs::write(&real, "first").unwrap();
    let (link, directory_link) = (world.root.path().join("other/link"), world.root.path().join("other/tls"));
    symlink(&real, &link).unwrap();
    symlink(world.tls(), &directory_link).unwrap();
    let names = [real.clone(), link, directory_link.join("real"), world.tls().join("../tls/real"), world.tls().join("./real")];
    let overlap = Arc::new(Overlap::default());
    let context = world.context.clone().with_events(overlap.clone());
    let runs: Vec<_> = names
        .into_iter()
        .enumerate()
        .map(|(number, name)| {
            let context = context.clone();
            tokio::spawn(async move { opaque(&format!("t{number}"), &[&name], &format!("text {number}")).apply(&context).await })
        })
        .collect();
    for run in runs {
        let report = run.await.unwrap();
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    }
    assert_eq!(overlap.most.load(Ordering::SeqCst), 1);
    assert!(fs::read_to_string(&real).unwrap().starts_with("text "));
}

/// A process that holds the lock of `tls/www.crt` until it is killed.
fn holder(world: &CrashWorld) -> std::process::Child {
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "inner", "--ignored", "--test-threads=1"])
        .env("CRASH_WORK", "hold")
        .env("CRASH_ROOT", world.root.path())
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let end = Instant::now() + Duration::from_secs(20);
    while !world.root.path().join("held").exists() {
        assert!(Instant::now() < end, "the other process never got its locks");
        std::thread::yield_now();
    }
    child
}

#[tokio::test]
async fn f10_waiter_honours_its_deadline_names_the_holder_and_goes_on_when_that_is_killed() {
    let world = CrashWorld::new();
    let mut child = holder(&world);
    let path = world.crt();
    for name in ["front", "another"] {
        let context = world.context.clone().with_timeout(Duration::from_millis(150));
        let started = Instant::now();
        let report = opaque(name, &[&path], "ours").apply(&context).await;
        assert!(started.elapsed() >= Duration::from_millis(150) && started.elapsed() < Duration::from_secs(5));
        assert_eq!(report.outcome, Outcome::Locked, "{report:?}");
        let error = report.error.unwrap();
        assert_eq!((error.kind(), error.retry(), error.stage()), (ErrorKind::Locked, Retry::Later, Some(Stage::Lock)));
        assert!(error.to_string().contains(&format!("process {}", child.id())), "{error}");
        assert!(!path.exists());
    }
    let context = world.context.clone();
    let waiting = tokio::spawn({
        let path = path.clone();
        async move { opaque("another", &[&path], "ours").apply(&context).await }
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let report: Report = waiting.await.unwrap();
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
}

#[tokio::test]
async fn f17_f31_second_names_that_a_killed_run_of_another_target_left_hold_nobody_up() {
    second_names_hold_nobody_up(|_| {}).await;
}

#[tokio::test]
async fn f17_f31_second_names_beside_a_journal_that_was_never_written_hold_nobody_up() {
    // It died between making the journal and writing into it.
    second_names_hold_nobody_up(|world| fs::write(world.root.path().join("state/journal/front-00000002.jnl"), "").unwrap()).await;
}

async fn second_names_hold_nobody_up(more: impl Fn(&CrashWorld)) {
    let world = CrashWorld::new();
    let (first, second, third) = (world.issue(), world.issue(), world.issue());
    assert_eq!(world.deploy(&first).await.outcome, Outcome::Changed);
    assert!(world.deploy_and_die(&second, "validate 1"));
    assert_eq!(fs::metadata(world.key()).unwrap().nlink(), 2, "it died between the links and the journal");
    more(&world);
    let mut target = world.target();
    target.name = "another".to_owned();
    let certificate = Arc::new(common::crash::certificate(&third));
    let job = deploy_core::Job::new("another", "files", Arc::new(target), certificate);
    let preview = deploy_core::preview(&job, &world.context).await;
    assert!(preview.error.is_none(), "{preview:?}");
    assert_eq!(fs::metadata(world.key()).unwrap().nlink(), 2, "a look changes nothing");
    let report = deploy_core::deploy(&[job], &world.context).await.remove(0);
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(world.holds(&third));
    assert_eq!(world.deploy(&second).await.outcome, Outcome::Changed);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn f20_cancellation_while_waiting_is_heard() {
    let world = CrashWorld::new();
    let mut child = holder(&world);
    let cancellation = deploy_core::Cancellation::default();
    let context = world.context.clone().with_cancellation(cancellation.clone());
    let path = world.crt();
    let waiting = tokio::spawn(async move { opaque("another", &[&path], "ours").apply(&context).await });
    cancellation.cancel();
    let report = waiting.await.unwrap();
    assert_eq!(report.outcome, Outcome::Interrupted, "{report:?}");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn f9_opposite_order_over_overlapping_plans_never_deadlocks() {
    let world = World::new();
    let (a, b) = (world.tls().join("a"), world.tls().join("b"));
    let run = |name: &'static str, paths: [PathBuf; 2]| {
        let context = world.context.clone();
        tokio::spawn(async move {
            for round in 0..100 {
                let text = format!("{name} {round}");
                let report = opaque(name, &[&paths[0], &paths[1]], &text).with_backups(0).apply(&context).await;
                assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
            }
        })
    };
    let (one, two) = (run("one", [a.clone(), b.clone()]), run("two", [b.clone(), a.clone()]));
    one.await.unwrap();
    two.await.unwrap();
    assert_eq!(fs::read(&a).unwrap(), fs::read(&b).unwrap(), "both of one run");
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

fn backups(world: &World) -> BTreeSet<String> {
    let old = |path: &PathBuf| path.extension().is_some_and(|ending| ending == "old");
    world.tree().into_keys().filter(old).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

#[tokio::test]
async fn f11_retention_keeps_the_last_sets_and_none_where_none_is_asked_for() {
    let world = World::new();
    let path = world.tls().join("x");
    for number in 0..7 {
        let report = opaque("front", &[&path], &format!("text {number}")).with_backups(2).apply(&world.context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    }
    assert_eq!(backups(&world), ["00000006.0.old", "00000007.0.old"].map(str::to_owned).into());
    assert_eq!(world.sets(), 2);
    opaque("front", &[&path], "last").with_backups(0).apply(&world.context).await;
    assert_eq!(backups(&world), BTreeSet::new());
    assert_eq!(world.sets(), 0);
}

#[tokio::test]
async fn f11_recovery_that_keeps_the_new_files_keeps_no_more_sets_than_a_success() {
    let world = CrashWorld::new();
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
    for _ in 0..5 {
        let issued = world.issue();
        assert!(world.deploy_and_die(&issued, "reload 1"));
        let recovered = world.recover(&issued).await;
        assert!(recovered.iter().all(|recovered| recovered.error.is_none()), "{recovered:?}");
        assert!(world.holds(&issued), "it keeps what was in place");
    }
    let names = fs::read_dir(world.root.path().join("state/targets")).unwrap().flatten().map(|entry| entry.path());
    let sets: BTreeSet<PathBuf> = names.filter(|path| path.extension().is_some_and(|ending| ending == "set")).collect();
    assert_eq!(sets.len(), 3, "{sets:?}");
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn f12_clock_that_steps_back_never_prunes_the_newest() {
    let world = World::new();
    let path = world.tls().join("x");
    let host = Arc::new(Wrapped::default());
    let context = world.context_on(&host);
    let now = SystemTime::now();
    for (number, days) in [30_u64, 20, 10, 5, 0].into_iter().enumerate() {
        *host.clock.lock().unwrap() = Some(now - Duration::from_secs((30 - days) * 86_400));
        let report = opaque("front", &[&path], &format!("text {number}")).with_backups(1).apply(&context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    }
    let kept = backups(&world);
    assert_eq!(kept, ["00000005.0.old".to_owned()].into());
    let backup = world.tree().into_iter().find(|(path, _)| path.ends_with("00000005.0.old")).unwrap().1;
    assert_eq!(backup.bytes, b"text 3", "what was there before the last deployment");
}

#[tokio::test]
async fn f13_files_of_others_with_similar_names_are_never_pruned() {
    let world = World::new();
    let path = world.tls().join("x");
    opaque("front", &[&path], "text").with_backups(0).apply(&world.context).await;
    let foreign = [
        world.tls().join("x.old"),
        world.tls().join("00000001.0.old"),
        world.tls().join(".certdeploy/front-00000000"),
        world.tls().join(".certdeploy/00000001.0.old"),
        world.root.path().join("state/targets/frontier-00000001.set"),
    ];
    for foreign in &foreign {
        fs::write(foreign, "not ours").unwrap();
    }
    let other = world.tls().join(".certdeploy/frontier-12345678");
    fs::create_dir(&other).unwrap();
    fs::write(other.join("00000001.0.old"), "not ours").unwrap();
    for number in 0..4 {
        let report = opaque("front", &[&path], &format!("text {number}")).with_backups(1).apply(&world.context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    }
    for foreign in foreign.iter().chain([&other.join("00000001.0.old")]) {
        assert_eq!(fs::read(foreign).unwrap(), b"not ours", "{}", foreign.display());
    }
}

/// What a pass visits in a directory with this many neighbours and that many other targets.
async fn cost(neighbours: usize, others: usize) -> (usize, usize, usize) {
    let world = World::new();
    for number in 0..neighbours {
        fs::write(world.tls().join(format!("neighbour-{number}")), "x").unwrap();
    }
    let host = Arc::new(Wrapped::default());
    let context = world.context_on(&host);
    for number in 0..others {
        let path = world.tls().join(format!("other-{number}"));
        opaque(&format!("other-{number}"), &[&path], "x").apply(&context).await;
        opaque(&format!("other-{number}"), &[&path], "y").apply(&context).await;
    }
    let path = world.tls().join("x");
    for number in 0..5 {
        opaque("front", &[&path], &format!("text {number}")).apply(&context).await;
    }
    host.set_fault(None);
    opaque("front", &[&path], "last").apply(&context).await;
    let (listed, all) = (host.count("listed"), host.count_of_all());
    host.set_fault(None);
    let report = opaque("front", &[&path], "last").apply(&context).await;
    assert_eq!(report.outcome, Outcome::Unchanged);
    assert_eq!((host.count("changes"), host.count("run"), host.count("listed")), (0, 0, 0), "an idle pass");
    (listed, all, host.count_of_all())
}

#[tokio::test]
async fn f41_cost_does_not_grow_with_neighbours_or_with_other_targets() {
    assert_eq!(cost(0, 0).await, cost(200, 12).await);
}

#[tokio::test]
async fn f41_cost_does_not_grow_with_the_number_of_deployments() {
    let world = World::new();
    let path = world.tls().join("x");
    let host = Arc::new(Wrapped::default());
    let context = world.context_on(&host);
    let mut costs = Vec::new();
    for number in 0..20 {
        host.set_fault(None);
        opaque("front", &[&path], &format!("text {number}")).apply(&context).await;
        costs.push(host.count_of_all());
    }
    assert_eq!(costs[5..].iter().collect::<BTreeSet<_>>().len(), 1, "{costs:?}");
}

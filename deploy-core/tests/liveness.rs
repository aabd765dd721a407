//! A server that ends in a reload although nobody says so, and files that are written anew because another one changed.

#![allow(
    clippy::disallowed_methods,
    clippy::panic,
    clippy::unwrap_used,
    reason = "tests make and look at files, and end a process"
)]

mod common;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::World;
use deploy_core::settings::Mode;
use deploy_core::{Context, Error, ErrorKind, Event, Hooks, Live, Outcome, Plan, PlanFile, Reload, ReloadCall, Role, Verify};

/// A process that stands for the server, and its pid file.
#[derive(Debug)]
struct Process {
    child: Mutex<Option<Child>>,
    pid_file: PathBuf,
    ends: bool,
}

impl Process {
    fn start(directory: &Path, ends: bool) -> Arc<Self> {
        let child = Command::new("sleep").arg("60").spawn().unwrap();
        let pid_file = directory.join("server.pid");
        fs::write(&pid_file, format!("{}\n", child.id())).unwrap();
        Arc::new(Self { child: Mutex::new(Some(child)), pid_file, ends })
    }

    fn end(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

#[async_trait]
impl ReloadCall for Process {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        if self.ends {
            self.end();
        }
        Ok(())
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

fn hooks(world: &World, process: &Arc<Process>) -> Hooks {
    let started = world.root.path().join("started");
    Hooks::new()
        .with_reload(Reload::Call(process.clone()))
        .with_pid_files([world.root.path().join("no.pid"), process.pid_file.clone()])
        .with_restart(deploy_core::command::Command::new(["touch".into(), started.into_os_string()]))
}

#[tokio::test]
async fn a5_a_server_that_ends_in_its_reload_is_rolled_back_and_started_where_nobody_can_look() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    let first = Process::start(world.root.path(), false);
    let waived = |process: &Arc<Process>| hooks(&world, process).with_verify(Verify::Waived);
    let report = world.plan(&old).with_hooks(waived(&first)).apply(&world.context).await;
    assert_eq!((report.outcome, report.degraded.len()), (Outcome::Changed, 1), "only the checker is missing: {report:?}");

    let second = Process::start(world.root.path(), true);
    let report = world.plan(&new).with_hooks(waived(&second)).apply(&world.context).await;
    // The command that stands for the start starts nothing, and that is seen, too.
    assert_eq!((report.outcome, report.live), (Outcome::RollbackFailed, Live::Unknown), "{report:?}");
    let message = report.error.unwrap().full_message();
    assert!(message.contains("the server ended in the reload") && message.contains("server.pid"), "{message}");
    assert!(world.holds(&old));
    assert!(world.root.path().join("started").exists());
}

#[tokio::test]
async fn a5_a_server_that_is_gone_is_not_waited_for_until_the_end() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
    let process = Process::start(world.root.path(), true);
    let verify = Verify::endpoints([world.endpoint()]).with_timeout(Duration::from_secs(60));
    let started = Instant::now();
    let report = world.plan(&new).with_hooks(hooks(&world, &process).with_verify(verify)).apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(report.error.as_ref().map(Error::kind), Some(ErrorKind::ReloadFailed));
    assert!(started.elapsed() < Duration::from_secs(30), "it was waited for: {:?}", started.elapsed());
    assert_eq!(world.served().as_deref(), Some(old.fingerprint.as_str()));
}

#[tokio::test]
async fn a_pid_file_that_names_nobody_proves_nothing_and_the_report_says_so() {
    let world = World::new();
    let issued = world.issue();
    let hooks = Hooks::new()
        .with_reload(Reload::Call(world.reload.clone()))
        .with_pid_files([world.root.path().join("no.pid")])
        .with_verify(Verify::Waived);
    let report = world.plan(&issued).with_hooks(hooks).apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(report.degraded.iter().any(|it| it.what == "liveness"), "{report:?}");
}

#[tokio::test]
async fn f25_a_touched_file_is_new_whenever_another_one_changes_and_else_left_alone() {
    let world = World::new();
    let watched = world.tls().join("dynamic.toml");
    fs::write(&watched, "# the operator's\n").unwrap();
    let inode = || fs::metadata(&watched).unwrap().ino();
    let plan = |issued: &_| -> Plan {
        world.plan(issued).with_file(PlanFile::new(&watched, Role::Opaque, fs::read(&watched).unwrap()).touched())
    };
    let (first, second) = (world.issue(), world.issue());

    let mut seen = vec![inode()];
    for issued in [&first, &second] {
        let report = plan(issued).apply(&world.context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert!(!seen.contains(&inode()), "it was not written anew");
        seen.push(inode());
    }
    assert_eq!(plan(&second).apply(&world.context).await.outcome, Outcome::Unchanged);
    assert_eq!(Some(&inode()), seen.last());
    fs::set_permissions(world.key(), fs::Permissions::from_mode(0o640)).unwrap();
    let with_mode = |mut plan: Plan| {
        plan.files.iter_mut().filter(|file| file.role == Role::Key).for_each(|file| file.mode = Some(Mode::new(0o600)));
        plan
    };
    assert_eq!(with_mode(plan(&second)).apply(&world.context).await.outcome, Outcome::Repaired);
    assert_eq!(Some(&inode()), seen.last(), "a mode is no news for who reads the file");

    world.reload.fail_forward.store(true, std::sync::atomic::Ordering::SeqCst);
    let before = inode();
    let report = plan(&first).apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!((inode(), fs::read_to_string(&watched).unwrap()), (before, "# the operator's\n".to_owned()));
    let restored = world.events.events.lock().unwrap().iter().rev().find_map(|event| match event {
        Event::Restored { path, .. } => Some(path.clone()),
        _ => None,
    });
    assert_eq!(restored, Some(watched), "who watches it reads the others then, so that it comes last on the way back, too");
}

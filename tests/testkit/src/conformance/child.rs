//! Deployments in a process of their own, which is killed where a case wants it.

use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deploy_core::{Event, EventSink};
use serde::{Deserialize, Serialize};

use super::harness::Harness;
use super::world::{context, job, target};

/// The variable by which this program is asked to be the child.
const VARIABLE: &str = "DEPLOY_TESTKIT_CHILD";

#[derive(Serialize, Deserialize)]
struct Work {
    settings: serde_json::Value,
    pair: PathBuf,
    state: PathBuf,
    world: PathBuf,
    dies_at: usize,
}

/// Starts this very program again, to deploy the pair in a directory and to die at an event; says whether it did.
pub(crate) fn run(settings: serde_json::Value, pair: PathBuf, state: PathBuf, world: PathBuf, dies_at: usize) -> bool {
    let work = Work { settings, pair, state, world, dies_at };
    let output = Command::new(std::env::current_exe().expect("this program"))
        .env(VARIABLE, serde_json::to_string(&work).expect("plain data"))
        .stdin(Stdio::null())
        .output()
        .expect("this program starts");
    let killed = output.status.signal() == Some(9);
    assert!(killed || output.status.success(), "the child: {output:?}");
    killed
}

/// Does what [`run`] started this program for; `false` if it was started for something else.
pub(crate) fn is_child<H: Harness>() -> bool {
    let Ok(work) = std::env::var(VARIABLE) else { return false };
    let work: Work = serde_json::from_str(&work).expect("what the parent wrote");
    let events = Arc::new(Killer { dies_at: work.dies_at, seen: AtomicUsize::new(0) });
    let context = context::<H>(&work.state, &work.world).with_events(events);
    let job = job::<H::Connector>(
        Arc::from(target::<H::Connector>(work.settings)),
        work.pair.join("fullchain.pem"),
        work.pair.join("privkey.pem"),
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    drop(runtime.block_on(deploy_core::deploy(&[job], &context)));
    true
}

struct Killer {
    dies_at: usize,
    seen: AtomicUsize,
}

impl EventSink for Killer {
    fn event(&self, _: &Event) {
        if self.seen.fetch_add(1, Ordering::SeqCst) + 1 == self.dies_at {
            rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("our own process");
        }
    }
}

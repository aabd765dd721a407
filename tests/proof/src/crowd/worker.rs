//! What one process of a crowd does.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deploy_core::{Context, Error, Reload, ReloadCall};
use deploy_testkit::{Authority, observe};
use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};

use super::ground::{Ground, MarkedTarget};
use super::ledger::What;
use crate::NAME;
use crate::counted::{Counted, Trouble};
use crate::mark::{Mark, Marked};

/// Deployments, one after the other in each thread.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Work {
    pub(super) ground: Ground,
    pub(super) first: u64,
    pub(super) deployments: u64,
    pub(super) threads: u64,
    pub(super) seed: u64,
    /// The process is killed before this change to anything.
    pub(super) dies_at: Option<u64>,
    /// Its locks lock nothing.
    pub(super) lock_nothing: bool,
}

/// Does the work. Needs a runtime with several threads where the work has.
///
/// # Panics
///
/// When something that belongs to the test can't be done.
pub async fn work(work: Work) {
    let host = Arc::new(Counted::default());
    if let Some(number) = work.dies_at {
        host.make_trouble(number, Trouble::Killed);
    }
    if work.lock_nothing {
        host.lock_nothing();
    }
    let context = Context::new(work.ground.state(), deploy_testkit::provider()).with_host(host);
    let threads = (0..work.threads).map(|thread| {
        let (ground, context) = (work.ground.clone(), context.clone());
        let mut random = Rng::with_seed(work.seed.wrapping_add(thread));
        let numbers = (work.first + thread..work.first + work.deployments).step_by(usize::try_from(work.threads).unwrap());
        tokio::spawn(async move {
            for number in numbers {
                let targets = ground.targets();
                deploy(&ground, &targets[random.usize(0..targets.len())], number, &context).await;
            }
        })
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.await.expect("a thread that ends well");
    }
}

/// Deploys to every target once, undisturbed; the numbers start here.
pub(super) async fn once_each(ground: &Ground, first: u64) {
    let context = Context::new(ground.state(), deploy_testkit::provider());
    for (target, number) in ground.targets().iter().zip(first..) {
        deploy(ground, target, number, &context).await;
    }
}

/// A new certificate of this process's own authority.
#[must_use]
pub fn marked(number: u64) -> Marked {
    static AUTHORITY: OnceLock<Authority> = OnceLock::new();
    Marked::issue(AUTHORITY.get_or_init(Authority::new), number)
}

async fn deploy(ground: &Ground, target: &MarkedTarget, number: u64, context: &Context) {
    let marked = marked(number);
    let process = std::process::id();
    let mut hooks = ground.hooks();
    if ground.server.is_some() {
        hooks.reload = Some(Reload::Call(Arc::new(Tell { ground: ground.clone(), number })));
    }
    let job = target.job(&marked, hooks);
    let fingerprint = marked.mark.fingerprint.clone();
    ground.note(process, number, What::Started { target: target.name.to_owned(), fingerprint });
    let report = deploy_core::deploy(&[job], context).await.remove(0);
    let (outcome, error) = (report.outcome.name().to_owned(), report.error.map(|error| error.full_message()));
    let settled = report.warnings.iter().filter(|warning| warning.contains("interrupted")).count();
    ground.note(process, number, What::Ended { outcome, error, settled: u64::try_from(settled).unwrap() });
}

/// Tells the server, and writes down what is on disk and what is served then: in the middle of the deployment, while nobody
/// else may be at work.
#[derive(Debug)]
struct Tell {
    ground: Ground,
    number: u64,
}

impl Tell {
    fn tell(&self) {
        let critical = File::create(self.ground.critical()).expect("a file of the test");
        let alone = critical.try_lock().is_ok();
        let on_disk = || [self.ground.crt(), self.ground.key()].map(|path| Mark::at(&path).map(|mark| mark.number));
        let disk = on_disk();
        hang_up(&self.ground.pid_file());
        let wanted = Mark::at(&self.ground.crt()).map(|mark| mark.fingerprint);
        let served = wait_for(&self.ground, wanted.as_deref());
        let disk = if on_disk() == disk { disk } else { [None, None] };
        let served = served.filter(|_| alone);
        self.ground.note(std::process::id(), self.number, What::Told { disk, served, alone });
    }
}

#[async_trait]
impl ReloadCall for Tell {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        self.tell();
        Ok(())
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        self.tell();
        Ok(())
    }
}

/// Has the server whose number stands there load its files.
///
/// # Panics
///
/// When there is none.
pub fn hang_up(pid_file: &Path) {
    let text = std::fs::read_to_string(pid_file).expect("the server has said its number");
    let pid = text.trim().parse().ok().and_then(Pid::from_raw).expect("a number");
    kill_process(pid, Signal::HUP).expect("the server runs");
}

/// What is served, as soon as it is what is wanted, or after a while.
fn wait_for(ground: &Ground, wanted: Option<&str>) -> Option<String> {
    let address = ground.server?;
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let served = observe::served_fingerprint(address, Some(NAME)).ok();
        if served.as_deref() == wanted || Instant::now() > deadline {
            return served;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

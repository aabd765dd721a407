//! Many processes, each with many threads, that deploy different certificates to targets which share files; some of the
//! processes are killed. The test program itself is what runs in them: see [`Crowd::new`].

mod ground;
mod ledger;
pub mod readers;
mod worker;

pub use ground::{Ground, Layout, MarkedTarget};
pub use ledger::{Entry, Ledger, What};
pub use worker::{Work, hang_up, marked, work};

use std::os::unix::process::ExitStatusExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deploy_core::{Context, Job, Recovered, RecoveryScope};
use fastrand::Rng;

use crate::site::serve;
use crate::{Tally, observer};

/// Everything ends within this time, or waits for something that never comes.
const DEADLINE: Duration = Duration::from_secs(120);

/// What the operations of a deployment that change something amount to, roughly: where in a process's life it is killed.
const CHANGES: u64 = 22;

/// The ground, its server, and who works there.
#[derive(Debug)]
pub struct Crowd {
    /// Where they deploy to.
    pub ground: Ground,
    /// Has all of them work without locks: a fault that the checks have to find.
    pub lock_nothing: bool,
    server: Option<Child>,
    random: Rng,
    next: u64,
    root: tempfile::TempDir,
}

/// How many there are of everything.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Size {
    /// Deployments in all.
    pub deployments: u64,
    /// Processes at the same time.
    pub processes: usize,
    /// Deployments of one process.
    pub each: u64,
    /// Threads of one process.
    pub threads: u64,
    /// Of so many processes, one is not killed; 1 kills none.
    pub spared: u64,
}

impl Size {
    /// With two threads in each process, and one process of four spared.
    #[must_use]
    pub fn new(deployments: u64, processes: usize, each: u64) -> Self {
        Self { deployments, processes, each, threads: 2, spared: 4 }
    }

    /// With another share of processes that are not killed.
    #[must_use]
    pub fn with_spared(mut self, one_of: u64) -> Self {
        self.spared = one_of;
        self
    }
}

impl Crowd {
    /// A ground with a first deployment. With `served`, a real server takes every deployment up and is asked for it.
    ///
    /// The test program has to have a test called `inner`, ignored, that hands what stands in `PROOF_WORK` to [`work()`].
    ///
    /// # Panics
    ///
    /// When it can't be set up.
    pub async fn new(layout: Layout, served: bool, seed: u64) -> Self {
        let mut crowd = Self::on_one_target(layout, served, seed).await;
        crowd.ground.share();
        crowd
    }

    /// The same with one target only.
    ///
    /// # Panics
    ///
    /// As [`Self::new`].
    pub async fn on_one_target(layout: Layout, served: bool, seed: u64) -> Self {
        let root = tempfile::Builder::new().prefix("certdeploy-proof-").tempdir().expect("a directory");
        let mut ground = Ground::new(root.path(), layout);
        let mut server = None;
        if served {
            let (child, address) = serve(&ground.crt(), &ground.key(), &ground.pid_file(), "127.0.0.1:0");
            ground.server = Some(address);
            server = Some(child);
        }
        work(Work { ground: ground.clone(), first: 1, deployments: 1, threads: 1, seed, dies_at: None, lock_nothing: false })
            .await;
        Self { ground, lock_nothing: false, server, random: Rng::with_seed(seed), next: 2, root }
    }

    /// Has so many deployments made, and waits for the end of them all.
    ///
    /// # Panics
    ///
    /// When a process can't be started.
    pub fn run(&mut self, size: Size, tally: &mut Tally) {
        let last = self.next + size.deployments;
        let deadline = Instant::now() + DEADLINE;
        let mut running: Vec<Child> = Vec::new();
        while self.next < last || !running.is_empty() {
            while self.next < last && running.len() < size.processes {
                running.push(self.start(size, tally));
            }
            running.retain_mut(|child| !self.has_ended(child, tally));
            if Instant::now() > deadline {
                tally.violation(format!("{} processes wait for each other", running.len()));
                running.iter_mut().for_each(|child| child.kill().expect("it was not waited for yet"));
                break;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Has one deployment made that is killed somewhere, most of the time; returns its number.
    ///
    /// # Panics
    ///
    /// As [`Self::run`].
    pub fn kill_one(&mut self, tally: &mut Tally) -> u64 {
        let number = self.next;
        self.run(Size { threads: 1, ..Size::new(1, 1, 1).with_spared(u64::MAX) }, tally);
        number
    }

    /// Checks what everybody reported.
    ///
    /// # Panics
    ///
    /// When the ledger can't be read.
    pub fn check_reports(&self, tally: &mut Tally) {
        Ledger::read(&self.ground.ledger()).check(tally);
    }

    /// Settles what was interrupted, checks what is there then, and has every target deployed to once more.
    ///
    /// # Panics
    ///
    /// When the ledger can't be read.
    pub async fn check_at_rest(&mut self, tally: &mut Tally) {
        for recovered in self.recover().await {
            tally.add("interrupted deployments settled", 1);
            tally.expect(recovered.error.is_none(), || format!("not recovered: {recovered:?}"));
        }
        self.check_files(tally);
        worker::once_each(&self.ground, self.next).await;
        self.next += 3;
        self.check_files(tally);
        let litter = observer::litter(self.root.path());
        tally.expect(litter.is_empty(), || format!("left behind: {litter:?}"));
    }

    async fn recover(&self) -> Vec<Recovered> {
        let any = marked(0);
        let jobs: Vec<Job> = self.ground.targets().iter().map(|target| target.job(&any, self.ground.hooks())).collect();
        let context = Context::new(self.ground.state(), deploy_testkit::provider());
        deploy_core::recover(&jobs, RecoveryScope::Full, &context).await
    }

    fn check_files(&self, tally: &mut Tally) {
        Ledger::read(&self.ground.ledger()).check_files(&self.ground, tally);
        if let Some(address) = self.ground.server {
            let served = deploy_testkit::observe::served_fingerprint(address, Some(crate::NAME)).ok();
            let on_disk = crate::mark::Mark::at(&self.ground.crt()).map(|mark| mark.fingerprint);
            tally.expect(served.is_some() && served == on_disk, || format!("on disk is {on_disk:?}, served is {served:?}"));
        }
    }

    /// The number of the next deployment, for one that is made by the test itself.
    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next - 1
    }

    fn start(&mut self, size: Size, tally: &mut Tally) -> Child {
        let spared = self.random.u64(0..size.spared) == 0;
        let dies_at = self.random.u64(0..CHANGES * size.each);
        let work = Work {
            ground: self.ground.clone(),
            first: self.next,
            deployments: size.each,
            threads: size.threads,
            seed: self.random.u64(..),
            dies_at: (!spared).then_some(dies_at),
            lock_nothing: self.lock_nothing,
        };
        self.next += size.each;
        tally.add("processes", 1);
        Command::new(std::env::current_exe().expect("the test program"))
            .args(["--exact", "inner", "--ignored", "--nocapture", "--test-threads=1"])
            .env("PROOF_WORK", serde_json::to_string(&work).expect("plain data"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .expect("the test program can be started again")
    }

    fn has_ended(&self, child: &mut Child, tally: &mut Tally) -> bool {
        let Some(status) = child.try_wait().expect("a child can be asked") else { return false };
        if status.signal() == Some(9) {
            tally.add("kills", 1);
            self.ground.note(child.id(), 0, What::Died);
        } else {
            tally.expect(status.success(), || format!("a process failed: {status}"));
        }
        true
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

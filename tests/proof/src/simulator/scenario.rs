//! What is done on a simulated machine before it crashes, and what the engine says when it is done undisturbed.

use std::sync::Arc;

use deploy_core::{Context, Outcome, Recovered, RecoveryScope, Report};
use rustls::crypto::CryptoProvider;
use tokio::runtime::Runtime;

use super::disk::Disk;
use super::fault::Fault;
use super::log::Event;
use super::machine::{Machine, STATE};
use super::setup::{Refusal, Setup};

/// The shipped engine, and all that it needs to run on simulated machines.
pub struct Engine {
    setup: Arc<Setup>,
    runtime: Runtime,
    provider: Arc<CryptoProvider>,
    fault: Option<Fault>,
    refuses_links: bool,
}

impl Engine {
    /// For a setup.
    ///
    /// # Panics
    ///
    /// When there is no runtime.
    #[must_use]
    pub fn new(setup: Setup) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        Self { setup: Arc::new(setup), runtime, provider: deploy_testkit::provider(), fault: None, refuses_links: false }
    }

    /// With a seeded fault in all machines.
    #[must_use]
    pub fn with_fault(mut self, fault: Option<Fault>) -> Self {
        self.fault = fault;
        self
    }

    /// On machines that refuse hard links, so that old files are copied.
    #[must_use]
    pub fn without_links(mut self) -> Self {
        self.refuses_links = true;
        self
    }

    /// What is deployed.
    #[must_use]
    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    /// A machine that has just started from a disk.
    #[must_use]
    pub fn boot(&self, disk: &Disk, boot: u64, refusal: Refusal) -> Arc<Machine> {
        let machine = self.equipped(Machine::new(disk.clone(), boot), refusal);
        // A server starts if its files fit, whatever a checker thinks.
        machine.serve(self.setup.live(disk).ok());
        machine
    }

    /// A machine on which all of this has happened since it started from a disk, and whose process was killed then.
    #[must_use]
    pub fn after(&self, disk: &Disk, events: &[Event], boot: u64, refusal: Refusal) -> Arc<Machine> {
        self.equipped(Machine::after(disk, events, boot), refusal)
    }

    fn equipped(&self, machine: Machine, refusal: Refusal) -> Arc<Machine> {
        let setup = Arc::clone(&self.setup);
        let commands = move |disk: &Disk, _: &_, view: Option<&deploy_core::staged_view::StagedView>| {
            setup.check(disk, view.map(|view| view.files.as_slice()), refusal)
        };
        Arc::new(machine.with_commands(Arc::new(commands)).with_fault(self.fault).refusing_links(self.refuses_links))
    }

    /// Deploys a generation.
    ///
    /// # Panics
    ///
    /// When the engine reports nothing.
    #[must_use]
    pub fn deploy(&self, machine: &Arc<Machine>, generation: usize, refusal: Refusal) -> Report {
        let job = self.setup.job(machine, generation, refusal);
        let reports = self.runtime.block_on(deploy_core::deploy(&[job], &self.context(machine)));
        reports.into_iter().next().expect("a report for the job")
    }

    /// Goes back to the state before the last deployment; `generation` is the one that is configured.
    #[must_use]
    pub fn roll_back(&self, machine: &Arc<Machine>, generation: usize, refusal: Refusal) -> Report {
        let job = self.setup.job(machine, generation, refusal);
        self.runtime.block_on(deploy_core::rollback(&job, None, &self.context(machine)))
    }

    /// Settles what was interrupted.
    #[must_use]
    pub fn recover(&self, machine: &Arc<Machine>, generation: usize, scope: RecoveryScope, refusal: Refusal) -> Vec<Recovered> {
        machine.begin_recovery();
        let job = self.setup.job(machine, generation, refusal);
        self.runtime.block_on(deploy_core::recover(&[job], scope, &self.context(machine)))
    }

    fn context(&self, machine: &Arc<Machine>) -> Context {
        Context::new(STATE, Arc::clone(&self.provider)).with_host(Arc::<Machine>::clone(machine))
    }
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Engine").field("setup", &self.setup).field("fault", &self.fault).finish_non_exhaustive()
    }
}

/// What is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Work {
    /// A generation is deployed.
    Deploy(usize),
    /// The operator goes back to the state before the last deployment, which was of this generation.
    GoBack(usize),
}

/// A history: deployments that succeeded and were on the medium long ago, and then work during which the machine crashes.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Scenario {
    /// These were deployed, in order, and are on the medium.
    pub settled: Vec<usize>,
    /// These were deployed a moment ago.
    pub recent: Vec<usize>,
    /// Done when the crash comes.
    pub work: Work,
    /// What the service refuses meanwhile.
    pub refusal: Refusal,
    /// Whether it still does when the machine has crashed.
    pub persistent: bool,
    /// Whether it crashes only after all of it.
    pub ended: bool,
}

impl Scenario {
    /// A first deployment of a generation.
    #[must_use]
    pub fn deployment(generation: usize) -> Self {
        let refusal = Refusal::default();
        Self { settled: Vec::new(), recent: Vec::new(), work: Work::Deploy(generation), refusal, persistent: false, ended: false }
    }

    /// After these deployments, long ago.
    #[must_use]
    pub fn after(mut self, settled: &[usize]) -> Self {
        self.settled = settled.to_vec();
        self
    }

    /// After these deployments, a moment ago.
    #[must_use]
    pub fn soon_after(mut self, recent: &[usize]) -> Self {
        self.recent = recent.to_vec();
        self
    }

    /// Going back instead, after the last of the deployments before it.
    #[must_use]
    pub fn going_back(mut self, from: usize) -> Self {
        self.work = Work::GoBack(from);
        self
    }

    /// Crashing only when the work has ended.
    #[must_use]
    pub fn once_it_has_ended(mut self) -> Self {
        self.ended = true;
        self
    }

    /// While the service refuses something.
    #[must_use]
    pub fn refused(mut self, refusal: Refusal, persistent: bool) -> Self {
        (self.refusal, self.persistent) = (refusal, persistent);
        self
    }
}

/// A scenario that was run to its end.
#[derive(Debug)]
#[non_exhaustive]
pub struct Run {
    /// The disk that it began on.
    pub start: Disk,
    /// All that happened since.
    pub log: Vec<Event>,
    /// Where the work begins in it.
    pub from: usize,
    /// The generation that was live when the work began.
    pub old: usize,
    /// The generation that the work is for.
    pub new: usize,
}

impl Scenario {
    /// Runs it undisturbed.
    ///
    /// # Panics
    ///
    /// When the engine does not do what it is to do on a machine that works.
    #[must_use]
    pub fn run(&self, engine: &Engine) -> Run {
        let setup = engine.setup();
        let machine = engine.boot(&setup.disk(), 1, Refusal::default());
        for generation in &self.settled {
            assert_eq!(engine.deploy(&machine, *generation, Refusal::default()).outcome, Outcome::Changed);
        }
        let start = machine.disk();
        let machine = engine.boot(&start, 1, self.refusal);
        let deploy = |generation: usize, expected: &[Outcome], refusal: Refusal| {
            let report = engine.deploy(&machine, generation, refusal);
            assert!(expected.contains(&report.outcome), "{report:?}");
            machine.note(Event::Returned(setup.live(&machine.disk()).expect("a generation")));
        };
        let done = [Outcome::Changed, Outcome::Repaired];
        self.recent.iter().for_each(|generation| deploy(*generation, &done, Refusal::default()));
        let (from, old) = (machine.events(), setup.live(&machine.disk()).expect("a generation"));
        match self.work {
            Work::Deploy(generation) if self.refusal == Refusal::default() => deploy(generation, &done, self.refusal),
            Work::Deploy(generation) => deploy(generation, &[Outcome::RolledBack], self.refusal),
            Work::GoBack(generation) => {
                let report = engine.roll_back(&machine, generation, self.refusal);
                assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
                machine.note(Event::Returned(setup.live(&machine.disk()).expect("a generation")));
            }
        }
        let live = setup.live(&machine.disk()).expect("a generation");
        let new = match self.work {
            Work::Deploy(generation) => generation,
            Work::GoBack(_) => live,
        };
        let fits = if self.refusal == Refusal::default() { live == new && live != old } else { live == old };
        assert!(fits, "{self:?} ends with generation {live}");
        Run { start, log: machine.log(), from, old, new }
    }
}

//! Every crash of a run, what recovery makes of it, and what an observer who reads the disk by himself says to that.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use deploy_core::{Outcome, RecoveryScope, Report};
use fastrand::Rng;

use crate::Form;

use super::crash::{Caps, Crash, Model};
use super::disk::Disk;
use super::log::Event;
use super::machine::Machine;
use super::scenario::{Engine, Run, Scenario};
use super::setup::{GENERATIONS, Refusal};

/// How much is tried.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Effort {
    /// For crashes of the run itself.
    pub caps: Caps,
    /// For crashes of what follows a crash.
    pub nested: Caps,
    /// Of the disks that differ, one in so many is crashed in its recovery, too; 0 for none.
    pub crash_recovery_of: usize,
    /// Of the points at which the process is killed, one in so many is followed by a power cut in what comes next; 0 for none.
    pub cut_after_kill_at: usize,
    /// Of the disks that differ after recovery, one in so many is deployed to.
    pub deploy_to: usize,
    /// Of the disks that differ, one in so many is settled the way of the boot unit, too: files first.
    pub files_first_for: usize,
}

impl Effort {
    /// As much as a quarter of an hour on two cores takes for all scenarios of the proof.
    #[must_use]
    pub fn full() -> Self {
        let (caps, nested) = (Caps::new(512, 4), Caps::new(12, 2));
        Self { caps, nested, crash_recovery_of: 200, cut_after_kill_at: 2, deploy_to: 20, files_first_for: 5 }
    }

    /// A sample.
    #[must_use]
    pub fn sample() -> Self {
        let (caps, nested) = (Caps::new(12, 3), Caps::new(6, 1));
        Self { caps, nested, crash_recovery_of: 100, cut_after_kill_at: 10, deploy_to: 24, files_first_for: 10 }
    }

    /// As much as a form of a proof takes.
    #[must_use]
    pub fn of(form: Form) -> Self {
        form.pick(Self::sample(), Self::full())
    }
}

/// What was found, per crash model.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Found {
    /// States after a crash that were looked at.
    pub states: BTreeMap<Model, u64>,
    /// Those that broke a promise.
    pub violations: BTreeMap<Model, u64>,
    /// What was wrong, how often, and where first.
    pub problems: BTreeMap<String, (u64, String)>,
    /// Points of the run at which it crashed.
    pub points: u64,
    /// Disks that differ among the states.
    pub disks: u64,
}

impl Found {
    /// All states.
    #[must_use]
    pub fn all_states(&self) -> u64 {
        self.states.values().sum()
    }

    /// All violations.
    #[must_use]
    pub fn all_violations(&self) -> u64 {
        self.violations.values().sum()
    }
}

/// Runs a scenario, crashes it everywhere and says what was found.
#[must_use]
pub fn explore(engine: &Engine, scenario: &Scenario, models: &[Model], effort: Effort) -> Found {
    let run = scenario.run(engine);
    let refusal = if scenario.persistent { scenario.refusal } else { Refusal::default() };
    let mut explorer = Explorer {
        engine,
        effort,
        refusal,
        models,
        new: run.new,
        random: Rng::with_seed(7),
        settled: HashMap::new(),
        followed: HashMap::new(),
        found: Found::default(),
    };
    explorer.crash_everywhere(&run, if scenario.ended { run.log.len() } else { run.from });
    explorer.found.disks = explorer.settled.len() as u64;
    explorer.found
}

struct Explorer<'a> {
    engine: &'a Engine,
    effort: Effort,
    refusal: Refusal,
    models: &'a [Model],
    new: usize,
    random: Rng,
    /// By the likeness of a disk, since machines that nobody can tell apart are settled once; and by whether a crash in its
    /// recovery was thought of.
    settled: HashMap<(u64, bool), Rc<Settled>>,
    followed: HashMap<u64, Rc<Vec<String>>>,
    found: Found,
}

/// What recovery made of a machine.
#[derive(Debug, Default)]
struct Settled {
    /// The generations that it, or a recovery of its crashed recovery, ended with.
    ends: BTreeSet<usize>,
    problems: BTreeSet<String>,
}

/// The boot of the run, and of everything after a power cut.
const FIRST_BOOT: u64 = 1;

/// Between two deployments nobody reads any more what the first one replaced.
const LONG_AFTER: Duration = Duration::from_secs(2 * 60 * 60);

impl Explorer<'_> {
    fn crash_everywhere(&mut self, run: &Run, from: usize) {
        for point in from..=run.log.len() {
            let events = &run.log[..point];
            let allowed = allowed(events, run.old, run.new);
            self.found.points += 1;
            for model in self.models.iter().copied() {
                match model {
                    Model::Kill => self.kill(run, point, &allowed),
                    // A sync only takes states away.
                    _ if events.len() > run.from && events.last().is_some_and(Event::is_sync) => {}
                    _ => self.cut(&run.start, events, model, &allowed, self.effort.caps),
                }
            }
        }
    }

    /// The power is cut: every disk that there may be is settled by itself.
    fn cut(&mut self, start: &Disk, events: &[Event], model: Model, allowed: &BTreeSet<usize>, caps: Caps) {
        let crash = Crash::after(start, events, model);
        let mut disks = Vec::new();
        crash.states(caps, &mut self.random, &mut |disk| disks.push(disk));
        for disk in disks {
            let settled = self.settle(&disk, true);
            self.judge(model, events, allowed, &settled);
        }
    }

    /// The process is killed: the machine goes on, and so may be killed or cut again.
    fn kill(&mut self, run: &Run, point: usize, allowed: &BTreeSet<usize>) {
        let events = &run.log[..point];
        let machine = self.engine.after(&run.start, events, FIRST_BOOT, self.refusal);
        let settled = self.settle_machine(&machine, RecoveryScope::Full);
        self.judge(Model::Kill, events, allowed, &settled);
        if self.effort.cut_after_kill_at == 0 || !(point - run.from).is_multiple_of(self.effort.cut_after_kill_at) {
            return;
        }
        let recovery = self.engine.after(&run.start, events, FIRST_BOOT, self.refusal);
        let recovered = self.engine.recover(&recovery, self.new, RecoveryScope::Full, self.refusal);
        if let (true, Ok(live)) = (recovered.iter().all(|one| one.error.is_none()), self.engine.setup().live(&recovery.disk())) {
            recovery.note(Event::Returned(live));
        }
        self.cut_what_follows(run, &recovery.log(), point, allowed);
        if self.refusal != Refusal::default() {
            return;
        }
        let deployment = self.engine.after(&run.start, events, FIRST_BOOT, Refusal::default());
        if is_success(&self.engine.deploy(&deployment, self.new, Refusal::default())) {
            deployment.note(Event::Returned(self.new));
            self.cut_what_follows(run, &deployment.log(), point, &BTreeSet::from([run.old, run.new]));
        }
    }

    /// Crashes of what came after a kill at `point`.
    fn cut_what_follows(&mut self, run: &Run, log: &[Event], point: usize, before: &BTreeSet<usize>) {
        for next in point + 1..=log.len() {
            let events = &log[..next];
            if events.last().is_some_and(Event::is_sync) {
                continue;
            }
            let allowed = match events[point..].iter().rev().find(|event| decides(event)) {
                Some(_) => allowed(&events[point..], run.old, run.new),
                None => before.clone(),
            };
            for model in self.models.iter().copied() {
                match model {
                    Model::Kill => {
                        let machine = self.engine.after(&run.start, events, FIRST_BOOT, self.refusal);
                        let settled = self.settle_machine(&machine, RecoveryScope::Full);
                        self.judge(model, events, &allowed, &settled);
                    }
                    _ => self.cut(&run.start, events, model, &allowed, self.effort.nested),
                }
            }
        }
    }

    fn judge(&mut self, model: Model, events: &[Event], allowed: &BTreeSet<usize>, settled: &Settled) {
        *self.found.states.entry(model).or_default() += 1;
        let wrong: Vec<usize> = settled.ends.difference(allowed).copied().collect();
        if settled.problems.is_empty() && wrong.is_empty() {
            return;
        }
        *self.found.violations.entry(model).or_default() += 1;
        let mut problems = settled.problems.clone();
        if !wrong.is_empty() {
            problems.insert(format!("ends with generations {wrong:?}, and only {allowed:?} may be live"));
        }
        for problem in problems {
            let place = || {
                format!(
                    "{}, after event {} ({})",
                    model.name(),
                    events.len(),
                    events.last().map_or_else(String::new, Event::brief)
                )
            };
            self.found.problems.entry(problem).or_insert_with(|| (0, place())).0 += 1;
        }
    }

    /// A disk after a power cut: the machine boots, and recovery runs.
    fn settle(&mut self, disk: &Disk, may_crash_again: bool) -> Rc<Settled> {
        let key = (disk.likeness(), may_crash_again);
        if let Some(known) = self.settled.get(&key) {
            return Rc::clone(known);
        }
        let number = self.settled.len();
        let machine = self.engine.boot(disk, FIRST_BOOT + 1, self.refusal);
        let mut settled = self.settle_machine(&machine, RecoveryScope::Full);
        if number.is_multiple_of(self.effort.files_first_for) {
            let machine = self.engine.boot(disk, FIRST_BOOT + 1, self.refusal);
            settled.extend(self.settle_machine(&machine, RecoveryScope::FilesOnly));
        }
        let every = self.effort.crash_recovery_of;
        if may_crash_again && every > 0 && number.is_multiple_of(every) {
            settled.extend(self.crash_recovery(disk));
        }
        let settled = Rc::new(settled);
        self.settled.insert(key, Rc::clone(&settled));
        settled
    }

    /// The recovery of a disk crashes, too, at each of its events.
    fn crash_recovery(&mut self, disk: &Disk) -> Settled {
        let machine = self.engine.boot(disk, FIRST_BOOT + 1, self.refusal);
        drop(self.engine.recover(&machine, self.new, RecoveryScope::Full, self.refusal));
        let end = self.engine.setup().live(&machine.disk());
        let log = machine.log();
        let mut all = Settled::default();
        for point in 1..=log.len() {
            let events = &log[..point];
            let has_ended = point == log.len();
            if !has_ended && !events.last().is_some_and(Event::changes_something) {
                continue;
            }
            let announced = events.iter().any(|event| matches!(event, Event::WayBack));
            for (model, settled) in self.settle_again(disk, events) {
                *self.found.states.entry(model).or_default() += 1;
                if let Ok(end) = &end
                    && (has_ended || announced)
                    && settled.ends != BTreeSet::from([*end])
                {
                    all.problems.insert(format!("recovery ends with generation {end}; crashed, with {:?}", settled.ends));
                }
                all.extend(Settled { ends: settled.ends.clone(), problems: settled.problems.clone() });
            }
        }
        all
    }

    /// What comes of a recovery that was killed or cut after these events.
    fn settle_again(&mut self, disk: &Disk, events: &[Event]) -> Vec<(Model, Rc<Settled>)> {
        let machine = self.engine.after(disk, events, FIRST_BOOT + 1, self.refusal);
        let mut all = vec![(Model::Kill, Rc::new(self.settle_machine(&machine, RecoveryScope::Full)))];
        for model in Model::POWER {
            let mut disks = Vec::new();
            let crash = Crash::after(disk, events, model);
            crash.states(self.effort.nested, &mut self.random, &mut |disk| disks.push(disk));
            all.extend(disks.iter().map(|disk| (model, self.settle(disk, false))));
        }
        all
    }

    /// Recovers a machine and looks at what is there then: with his own eyes, twice, and after further deployments.
    fn settle_machine(&mut self, machine: &Arc<Machine>, scope: RecoveryScope) -> Settled {
        let mut settled = Settled::default();
        let setup = self.engine.setup();
        let mut problem = |text: String| settled.problems.extend([text]);
        let recovered = self.engine.recover(machine, self.new, scope, self.refusal);
        for one in recovered.iter().filter(|one| one.error.is_some()) {
            problem(format!("recovery failed: {}", one.action));
        }
        if scope == RecoveryScope::FilesOnly {
            match setup.live(&machine.disk()) {
                Ok(generation) => machine.serve(Some(generation)),
                Err(mixture) => problem(format!("after the boot unit, {mixture}")),
            }
            for one in self.engine.recover(machine, self.new, RecoveryScope::Full, self.refusal) {
                if one.error.is_some() {
                    problem(format!("recovery after the boot unit failed: {}", one.action));
                }
            }
        }
        match setup.live(&machine.disk()) {
            Ok(generation) => {
                let served = machine.serves();
                if served != Some(generation) {
                    problem(format!("generation {generation} is live, and {served:?} is served"));
                }
                settled.ends.insert(generation);
            }
            Err(mixture) => problem(mixture),
        }
        let journals = machine.disk().paths().into_iter().filter(|(path, _)| path.extension().is_some_and(|end| end == "jnl"));
        settled.problems.extend(journals.map(|(path, _)| format!("{} is left", path.display())));
        settled.problems.extend(self.recover_again(machine));
        let disk = machine.disk();
        if self.found.states.values().sum::<u64>().is_multiple_of(self.effort.deploy_to as u64) || !settled.problems.is_empty() {
            settled.problems.extend(self.follow(&disk).iter().cloned());
        }
        settled
    }

    /// A second recovery finds nothing and writes nothing.
    fn recover_again(&self, machine: &Arc<Machine>) -> Vec<String> {
        let before = machine.events();
        let again = self.engine.recover(machine, self.new, RecoveryScope::Full, self.refusal);
        let mut problems: Vec<String> =
            again.iter().map(|one| format!("a second recovery found {:?}: {}", one.id, one.action)).collect();
        if machine.log()[before..].iter().any(Event::changes_something) {
            problems.push("a second recovery wrote something".to_owned());
        }
        problems
    }

    /// Deployments on what recovery left: of the same generation, and of those after it, until the oldest backups go.
    fn follow(&mut self, disk: &Disk) -> Rc<Vec<String>> {
        let likeness = disk.likeness();
        if let Some(known) = self.followed.get(&likeness) {
            return Rc::clone(known);
        }
        let setup = self.engine.setup();
        let machine = self.engine.boot(disk, FIRST_BOOT + 2, Refusal::default());
        let mut problems = Vec::new();
        let (next, last) = (GENERATIONS - 3, GENERATIONS - 1);
        for generation in [self.new].into_iter().chain(next..=last) {
            machine.wait(LONG_AFTER);
            let report = self.engine.deploy(&machine, generation, Refusal::default());
            let now = machine.disk();
            if !is_success(&report) {
                let error = report.error.as_ref().map(deploy_core::Error::full_message);
                problems.push(format!("a deployment of generation {generation} ended {}: {error:?}", report.outcome.name()));
            }
            match setup.live(&now) {
                Ok(live) if live == generation && machine.serves() == Some(generation) => {}
                live => {
                    problems.push(format!("a deployment of generation {generation} left {live:?}, {:?} served", machine.serves()))
                }
            }
            let litter = setup.litter(&now, generation == last && setup.backups() <= next - self.new);
            if !litter.is_empty() && report.outcome != Outcome::Unchanged {
                problems.push(format!("a deployment of generation {generation} left {}", litter.join(", ")));
            }
        }
        let problems = Rc::new(problems);
        self.followed.insert(likeness, Rc::clone(&problems));
        problems
    }
}

impl Settled {
    fn extend(&mut self, other: Self) {
        self.ends.extend(other.ends);
        self.problems.extend(other.problems);
    }
}

fn is_success(report: &Report) -> bool {
    matches!(report.outcome, Outcome::Changed | Outcome::Repaired | Outcome::Unchanged)
}

fn decides(event: &Event) -> bool {
    matches!(event, Event::Begun | Event::WayBack | Event::Returned(_))
}

/// The generations that may be live after a crash here.
fn allowed(events: &[Event], old: usize, new: usize) -> BTreeSet<usize> {
    match events.iter().rev().find(|event| decides(event)) {
        Some(Event::Returned(generation)) => BTreeSet::from([*generation]),
        Some(Event::WayBack) => BTreeSet::from([old]),
        _ => BTreeSet::from([old, new]),
    }
}

//! A thousand renewals of one target, most of which go wrong in some way: what is live is always that of the last success, and
//! nothing grows - no backups, sets, journals, files, history, descriptors, threads, memory, nor the operations of a renewal.
//!
//! The engine runs in this one process, so that its descriptors and its memory can be counted; a run that is killed is a process
//! of its own. The short form makes 150 renewals, the full one 1500, with what goes wrong chosen from a fixed seed. The real
//! program's part of it is `long_run_program`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a fixture that can't be set up ends the test, and tests start processes and make files"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use deploy_core::command::Command;
use deploy_core::{Context, Error, ErrorKind, Hooks, Outcome, Reload, ReloadCall, Report, Validate, Verify};
use deploy_proof::counted::{Counted, Trouble};
use deploy_proof::crowd::{Crowd, Layout, hang_up, marked, work};
use deploy_proof::footprint::Footprint;
use deploy_proof::mark::Mark;
use deploy_proof::{Form, NAME, Tally, observer};
use deploy_testkit::observe;
use fastrand::Rng;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the other tests, in a process of its own"]
async fn inner() {
    let text = std::env::var("PROOF_WORK").expect("for the outer test to set");
    work(serde_json::from_str(&text).unwrap()).await;
}

/// What goes wrong in a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    BadMaterial,
    DiskFull(u64),
    Killed,
    Nothing,
    ReloadFails,
    ReloadLies,
    ValidatorFails,
}

impl Wrong {
    fn any(random: &mut Rng) -> Self {
        match random.u8(0..20) {
            0 | 1 => Self::BadMaterial,
            2 | 3 => Self::DiskFull(random.u64(0..22)),
            4 | 5 => Self::Killed,
            6 | 7 => Self::ReloadFails,
            8 => Self::ReloadLies,
            9..12 => Self::ValidatorFails,
            _ => Self::Nothing,
        }
    }

    /// How a run may end in which this goes wrong.
    fn allows(self, outcome: Outcome) -> bool {
        match self {
            Self::BadMaterial | Self::ValidatorFails => outcome == Outcome::Rejected,
            Self::ReloadFails | Self::ReloadLies => outcome == Outcome::RolledBack,
            Self::Nothing => outcome == Outcome::Changed,
            // It depends on when. Without space for a link, the way back is left to the next run.
            Self::DiskFull(_) => !matches!(outcome, Outcome::Failed | Outcome::Unverified | Outcome::Unchanged),
            Self::Killed => true,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f11_f38_f41_a_thousand_renewals_with_failures_leave_no_trace_but_the_last_success() {
    let mut tally = Tally::new("long-run/engine");
    let mut run = LongRun::new().await;
    let mut random = Rng::with_seed(8);
    for _ in 0..Form::asked().pick(150, 1500) {
        run.renew(Wrong::any(&mut random), &mut tally).await;
    }
    run.end(&mut tally).await;
    run.check_bounds(&mut tally);
    tally.finish();
}

struct LongRun {
    crowd: Crowd,
    host: Arc<Counted>,
    context: Context,
    /// Which deployments may be live: one, but after a kill.
    live: BTreeSet<u64>,
    /// The last renewal was undisturbed, and left nothing to settle.
    steady: bool,
    /// The operations of each undisturbed renewal after another one.
    operations: Vec<u64>,
    footprints: Vec<Footprint>,
}

/// As much history as there is space for before the file is turned over, but for a few lines: that happens in every form.
const HISTORY: usize = (1 << 20) - 4096;

/// How many earlier deployments are kept.
const SETS: u64 = 3;

/// After so many renewals there are as many sets as are kept, and the history was turned over.
const WARM: usize = 20;

impl LongRun {
    async fn new() -> Self {
        let crowd = Crowd::on_one_target(Layout::Replace, true, 8).await;
        let host = Arc::new(Counted::default());
        let context = Context::new(crowd.ground.state(), deploy_testkit::provider()).with_host(Arc::<Counted>::clone(&host));
        std::fs::write(crowd.ground.state().join("history.jsonl"), "{}\n".repeat(HISTORY / 3)).unwrap();
        let (operations, footprints) = (Vec::new(), Vec::new());
        Self { crowd, host, context, live: BTreeSet::from([1]), steady: false, operations, footprints }
    }

    async fn renew(&mut self, wrong: Wrong, tally: &mut Tally) {
        tally.add("renewals survived", 1);
        tally.add("failures injected", u64::from(wrong != Wrong::Nothing));
        if wrong == Wrong::Killed {
            self.live.insert(self.crowd.kill_one(tally));
            self.steady = false;
            return;
        }
        let number = self.crowd.next_number();
        let before = self.host.operations();
        let report = self.deploy(number, wrong).await;
        self.host.end_trouble();
        let cost = self.host.operations() - before;
        tally.expect(wrong.allows(report.outcome), || format!("{number}, {wrong:?}: {report:?}"));
        let settled = report.warnings.iter().filter(|warning| warning.contains("interrupted")).count();
        tally.add("interrupted deployments settled", u64::try_from(settled).unwrap());
        let footprint = Footprint::take(&self.crowd.ground.directory(), &self.crowd.ground.state());
        self.footprints.push(footprint);
        if footprint.journals > 0 {
            tally.expect(matches!(wrong, Wrong::DiskFull(_)), || format!("{number}, {wrong:?}: not settled: {report:?}"));
            self.live.insert(number);
            self.steady = false;
            return;
        }
        if report.outcome == Outcome::Changed {
            self.live = BTreeSet::from([number]);
            let is_pruned = footprint.sets <= SETS && footprint.hidden_files <= SETS * 2 + 1;
            tally.expect(is_pruned, || format!("after the success of {number}: {footprint:?}"));
        }
        self.check_live(number, tally);
        // What a killed run staged goes when the next one stages; this one may have ended before that.
        if !matches!(wrong, Wrong::BadMaterial | Wrong::DiskFull(_)) {
            let litter = observer::litter(&self.crowd.ground.directory());
            tally.expect(litter.is_empty(), || format!("after {number}: {litter:?}"));
        }
        let undisturbed = wrong == Wrong::Nothing;
        if undisturbed && self.steady && self.footprints.len() > WARM {
            self.operations.push(cost);
        }
        self.steady = undisturbed;
    }

    async fn deploy(&self, number: u64, wrong: Wrong) -> Report {
        let mut marked = marked(number);
        match wrong {
            Wrong::BadMaterial => marked = marked.with_key_of(&deploy_proof::crowd::marked(number)),
            Wrong::DiskFull(at) => self.host.make_trouble(at, Trouble::DiskFull),
            _ => {}
        }
        let job = self.crowd.ground.targets()[0].job(&marked, self.hooks(wrong));
        deploy_core::deploy(&[job], &self.context).await.remove(0)
    }

    fn hooks(&self, wrong: Wrong) -> Hooks {
        let checker = if wrong == Wrong::ValidatorFails { "false" } else { "true" };
        let mut hooks = self.crowd.ground.hooks().with_validate(Validate::new(Command::new([checker])));
        if matches!(wrong, Wrong::ReloadFails | Wrong::ReloadLies) {
            let pid_file = self.crowd.ground.pid_file();
            hooks.reload = Some(Reload::Call(Arc::new(BadReload { pid_file, lies: wrong == Wrong::ReloadLies })));
        }
        if let (Wrong::ReloadLies, Verify::Endpoints { timeout, .. }) = (wrong, &mut hooks.verify) {
            // The way back has to be seen within it, too.
            *timeout = Duration::from_secs(2);
        }
        hooks
    }

    /// Both files are of one deployment that may be live, and that is served.
    fn check_live(&mut self, number: u64, tally: &mut Tally) {
        let ground = &self.crowd.ground;
        let (crt, key) = (Mark::at(&ground.crt()), Mark::at(&ground.key()));
        tally.expect(crt.is_some() && crt == key, || format!("after {number}: {crt:?} with the key of {key:?}"));
        let Some(live) = crt else { return };
        tally.expect(self.live.contains(&live.number), || format!("after {number}: {} instead of {:?}", live.number, self.live));
        self.live = BTreeSet::from([live.number]);
        let served = observe::served_fingerprint(ground.server.unwrap(), Some(NAME)).ok();
        tally.expect(served.as_ref() == Some(&live.fingerprint), || format!("after {number}: {served:?} is served"));
    }

    /// A success, and everything that may go wrong after it: it is still there.
    async fn end(&mut self, tally: &mut Tally) {
        let last = self.crowd.next_number() + 1;
        for wrong in [Wrong::Nothing, Wrong::BadMaterial, Wrong::ValidatorFails, Wrong::ReloadFails, Wrong::ReloadLies] {
            self.renew(wrong, tally).await;
        }
        let live = Mark::at(&self.crowd.ground.crt()).map(|mark| mark.number);
        tally.expect(live == Some(last), || format!("{live:?} is live after the last success, {last}"));
    }

    fn check_bounds(&self, tally: &mut Tally) {
        let most =
            |of: &[Footprint], what: usize| of.iter().map(|footprint| footprint.numbers()[what].1).max().unwrap_or_default();
        let (early, all) = (&self.footprints[..self.footprints.len() / 3], &self.footprints[..]);
        // Two files of each set, and their owner; two lock files, a marker, the sets. A run that is killed after its commit
        // leaves a set more, until the next success.
        let limits = [SETS * 2 + 5, 64 << 10, SETS + 5, 64 << 10, SETS + 2, 0, (2 << 20) + (64 << 10)];
        for (what, (name, _)) in Footprint::default().numbers().into_iter().enumerate() {
            // What the process has grows at first: buffers, threads of the runtime.
            let limit = limits.get(what).copied().unwrap_or(most(early, what) + most(early, what) / 10 + 2);
            let most = most(all, what);
            tally.add(&format!("most {name}"), most);
            tally.expect(most <= limit, || format!("{most} {name}, more than {limit}"));
        }
        let turned = self.crowd.ground.state().join("history.1.jsonl").exists();
        tally.expect(turned, || "the history was never turned over".to_owned());
        let (fewest, most) = (self.operations.iter().min(), self.operations.iter().max());
        tally.add("fewest host operations of an undisturbed renewal", fewest.copied().unwrap_or_default());
        tally.add("most host operations of an undisturbed renewal", most.copied().unwrap_or_default());
        tally.expect(most.is_some() && fewest == most, || format!("the cost is not the same: {:?}", self.operations));
    }
}

/// A reload that fails, or says that it worked and does nothing. The way back works.
#[derive(Debug)]
struct BadReload {
    pid_file: PathBuf,
    lies: bool,
}

#[async_trait]
impl ReloadCall for BadReload {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        if self.lies { Ok(()) } else { Err(Error::new(ErrorKind::ReloadFailed, "told to fail")) }
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        hang_up(&self.pid_file);
        Ok(())
    }
}

//! API targets, in the same frame: lock, recover, observe, validate, snapshot, journal, push, verify, acknowledge; on
//! failure restore.

use std::time::{Duration, Instant};

use crate::certificate::Certificate;
use crate::context::Context;
use crate::engine::block_on;
use crate::engine::deploy::finish;
use crate::engine::group::{check_time, outcome};
use crate::engine::job::Job;
use crate::engine::overview::{Recovered, RecoveryScope};
use crate::engine::push_journal::{Begun, PushJournal};
use crate::engine::rollback::{LIMIT, rollback_failed};
use crate::error::{Error, ErrorKind, Retry};
use crate::event::Event;
use crate::hooks::Verify;
use crate::lock::{self, LockKeys};
use crate::probe::wait_for;
use crate::push::{Observed, Push, Snapshot, Validation};
use crate::report::{Live, Outcome, Report, Rung, Stage};
use crate::state::{LazyState, Marker, State, Verified, invalid, read_marker};
use crate::target::Recovery;

/// Several tries of one call, where the error says that it can help.
const TRIES: u32 = 5;
/// What a remote gets to end a session in.
const CLOSING: Duration = Duration::from_secs(5);

/// Deploys by calls.
pub(super) fn deploy(
    certificate: &Certificate,
    push: Box<dyn Push>,
    report: Report,
    started: Instant,
    context: &Context,
) -> Report {
    let mut frame = Frame::new(push, report, context);
    frame.report.fingerprint.wanted = Some(certificate.fingerprint().to_owned());
    frame.report.not_after = Some(certificate.not_after());
    if let Err(error) = frame.run(certificate) {
        frame.report.outcome = outcome(&error);
        frame.report.live = error.live();
        frame.report.error = Some(error.at(frame.report.stage));
    }
    frame.close();
    finish(frame.report, started, context, &LazyState::default())
}

/// One call, repeated where the error says that it can help, within the deadline.
macro_rules! call {
    ($push:expr, $context:expr => $call:ident($($argument:expr)?)) => {{
        let (push, context): (&mut dyn Push, &Context) = (&mut *$push, $context);
        retrying(context, || block_on(context.within(push.$call($($argument,)? context))))
    }};
}

struct Frame<'a> {
    context: &'a Context,
    push: Box<dyn Push>,
    report: Report,
    /// The leaf that is live, as far as anybody can tell.
    live: Option<String>,
    /// The remote does not say what is live.
    unknown: bool,
}

impl<'a> Frame<'a> {
    fn new(push: Box<dyn Push>, report: Report, context: &'a Context) -> Self {
        Self { context, push, report, live: None, unknown: false }
    }

    fn run(&mut self, certificate: &Certificate) -> Result<(), Error> {
        self.enter(Stage::Check);
        certificate.check_validity(self.context.host().now())?;
        certificate.check_with_provider(self.context.provider())?;
        self.reached(Rung::V1);
        self.enter(Stage::Lock);
        let state = State::open(self.context)?;
        let keys = LockKeys::of_targets([self.report.target.clone()]);
        let _locks = lock::acquire(self.context, &state, &keys)?;
        let journal = PushJournal::open(self.context, &state, &self.report.target)?;
        self.live = remembered(&mut *self.push, &self.report.target, self.context)?;
        self.recover(&state, &journal)?;
        match self.attempt(certificate, &state, &journal) {
            // Somebody else was faster: look again and decide again, once.
            Err(error) if error.kind() == ErrorKind::Conflict && error.live() == Live::Unchanged => {
                self.attempt(certificate, &state, &journal)
            }
            result => result,
        }
    }

    fn attempt(&mut self, certificate: &Certificate, state: &State, journal: &PushJournal<'_>) -> Result<(), Error> {
        self.enter(Stage::Inspect);
        let observed = self.observe()?;
        let marker = read_marker(self.context, &self.report.target)?;
        let settled = marker.as_ref().is_some_and(|marker| marker.settles(certificate.fingerprint()));
        if is(&observed, certificate.fingerprint()) && observed.settled && !self.context.force() {
            if !settled {
                // It may have died between the switch and the look, or somebody else switched.
                self.look(certificate)?;
                self.acknowledge(certificate, state, journal);
                self.report.outcome = Outcome::Unchanged;
                self.report.live = Live::Unchanged;
            }
            return Ok(());
        }
        self.enter(Stage::Validate);
        match validate(&mut *self.push, certificate, self.context)? {
            Validation::Passed(rung) => self.reached(rung),
            Validation::Unavailable(why) => self.report.degrade("validate", why),
        }
        self.enter(Stage::Journal);
        let snapshot = call!(self.push, self.context => snapshot())?;
        let snapshot = self.with_previous(snapshot, observed.fingerprint.as_deref(), journal)?;
        journal.begin(&observed, certificate, &snapshot)?;
        self.enter(Stage::Stage);
        if let Err(error) = check_time(self.context).and_then(|()| call!(self.push, self.context => upload(certificate))) {
            if self.switched_already(&observed, certificate) {
                return Err(self.roll_back(error, observed.fingerprint.as_deref(), &snapshot, journal));
            }
            journal.end()?;
            return Err(error);
        }
        if let Err(error) = self.switch(certificate) {
            if self.lost_a_race(&error, certificate) {
                journal.end()?;
                return Err(error);
            }
            return Err(self.roll_back(error, observed.fingerprint.as_deref(), &snapshot, journal));
        }
        self.acknowledge(certificate, state, journal);
        journal.end()?;
        self.enter(Stage::Prune);
        self.prune(self.context);
        Ok(())
    }

    /// With the pair that was live, where the push wants it.
    fn with_previous(&mut self, mut snapshot: Snapshot, old: Option<&str>, journal: &PushJournal<'_>) -> Result<Snapshot, Error> {
        if let (true, Some(old)) = (self.push.keeps_pair(), old) {
            snapshot.previous = journal.kept(old)?;
            if snapshot.previous.is_none() {
                let why =
                    "the live certificate was not deployed from here, so that its key is not known and it cannot be brought back";
                self.report.degrade("restore", why);
            }
        }
        Ok(snapshot)
    }

    /// What was superseded, or what was uploaded and had to be taken back.
    fn prune(&mut self, context: &Context) {
        if let Err(error) = call!(self.push, context => prune()) {
            self.warn(format!("what nothing uses any more could not be removed: {}", error.full_message()));
        }
    }

    fn close(&mut self) {
        if let Err(error) = close(&mut *self.push, self.context) {
            self.warn(format!("what was left open at the remote could not be ended: {}", error.full_message()));
        }
    }

    /// The remote refused the switch because somebody else had just made one: that is not ours to undo. What is switched in part
    /// is.
    fn lost_a_race(&mut self, error: &Error, certificate: &Certificate) -> bool {
        error.kind() == ErrorKind::Conflict
            && self.report.stage == Stage::Swap
            && self.observe().is_ok_and(|observed| !is(&observed, certificate.fingerprint()) && !observed.mixed)
    }

    /// A failed upload says nothing about what is live: an implementation that switches in it is found out, although the
    /// caller's time may be over. Another certificate than the new one is somebody else's work.
    fn switched_already(&mut self, before: &Observed, certificate: &Certificate) -> bool {
        let context = self.context.undisturbed(LIMIT);
        let new = certificate.fingerprint();
        !is(before, new) && block_on(context.within(self.push.observe(&context))).is_ok_and(|now| is(&now, new))
    }

    fn switch(&mut self, certificate: &Certificate) -> Result<(), Error> {
        self.enter(Stage::Swap);
        let switched = call!(self.push, self.context => activate(certificate));
        let observed = match switched {
            Ok(()) => {
                self.live = Some(certificate.fingerprint().to_owned());
                self.enter(Stage::Verify);
                self.observe()?
            }
            Err(error) => self.overtaken_by_itself(&error, certificate).ok_or(error)?,
        };
        if !is(&observed, certificate.fingerprint()) {
            let message = match &observed.fingerprint {
                Some(live) => format!("the remote says that {live} is live, not the new certificate"),
                None => "the remote says that no certificate is live".to_owned(),
            };
            return Err(Error::new(ErrorKind::VerifyFailed, message).with_next_step("look at the remote's own log"));
        }
        self.look(certificate)
    }

    /// A request that something on the way has repeated is refused the second time, because the first one made the change.
    fn overtaken_by_itself(&mut self, error: &Error, certificate: &Certificate) -> Option<Observed> {
        let observed = if error.kind() == ErrorKind::Conflict { self.observe().ok() } else { None };
        observed.filter(|observed| is(observed, certificate.fingerprint()) && observed.settled)
    }

    /// The remote says that it is live; the endpoints have to agree.
    fn look(&mut self, certificate: &Certificate) -> Result<(), Error> {
        self.enter(Stage::Verify);
        if !self.unknown {
            self.reached(Rung::V5);
        }
        let Verify::Endpoints { endpoints, timeout } = self.push.verify() else { return Ok(()) };
        let deadline = (Instant::now() + timeout).min(self.context.deadline());
        for endpoint in &endpoints {
            wait_for(endpoint, certificate.fingerprint(), self.context.provider(), deadline, Some(self.context.cancellation()))
                .map_err(|failure| {
                let kind = if failure.is_interrupted() { ErrorKind::Interrupted } else { ErrorKind::VerifyFailed };
                Error::new(kind, format!("{endpoint} does not serve the new certificate")).with_source(failure)
            })?;
        }
        self.reached(Rung::V6);
        Ok(())
    }

    fn roll_back(&mut self, cause: Error, old: Option<&str>, snapshot: &Snapshot, journal: &PushJournal<'_>) -> Error {
        let cause = cause.at(self.report.stage);
        self.enter(Stage::RollBack);
        match self.restore(old, snapshot) {
            Ok(()) => {
                if let Err(error) = journal.end() {
                    self.warn(format!("left for the next run to clean up: {}", error.full_message()));
                }
                self.prune(&self.context.undisturbed(LIMIT));
                cause.with_live(Live::RolledBack)
            }
            Err(error) => rollback_failed(&cause, vec![error]),
        }
    }

    fn restore(&mut self, old: Option<&str>, snapshot: &Snapshot) -> Result<(), Error> {
        let context = self.context.undisturbed(LIMIT);
        let restored = call!(self.push, &context => restore(snapshot));
        // Here too the first one of two requests may have made the change that the second one is refused for.
        if restored.as_ref().is_err_and(|error| error.kind() != ErrorKind::Conflict) {
            return restored;
        }
        if restored.is_ok() {
            self.live = old.map(str::to_owned);
        }
        let observed = self.observe_in(&context)?;
        if observed.fingerprint.as_deref() == old {
            return Ok(());
        }
        restored?;
        Err(Error::new(ErrorKind::RollbackFailed, "the remote does not have the old certificate live again")
            .with_next_step("switch it back with the remote's own tools"))
    }

    /// Finishes or undoes what a dead process began.
    fn recover(&mut self, state: &State, journal: &PushJournal<'_>) -> Result<(), Error> {
        let Some((begun, snapshot)) = journal.read()? else { return Ok(()) };
        self.enter(Stage::Recover);
        let action = self.settle(&begun, snapshot, state, journal)?;
        self.warn(format!("an interrupted deployment was found: {action}"));
        self.report.recovered = true;
        Ok(())
    }

    fn settle(
        &mut self,
        begun: &Begun,
        snapshot: Option<Snapshot>,
        state: &State,
        journal: &PushJournal<'_>,
    ) -> Result<&'static str, Error> {
        let observed = self.observe()?;
        let action = if is(&observed, &begun.new) {
            "the remote has its certificate live"
        } else if observed.unknown {
            // With the marker the next run would take the old certificate for the live one.
            let path = state.targets.path();
            let removed = state.remove_marker(self.context.host(), &self.report.target);
            removed.map_err(|error| invalid(path, "cannot be cleaned up", error))?;
            self.live = None;
            "the remote does not say whether it took the certificate; the next deployment sends one again"
        } else if observed.fingerprint == begun.old && !observed.mixed {
            "the remote still has the old certificate live"
        } else if observed.fingerprint.is_some() {
            "somebody else has switched the remote since then; it was left alone"
        } else {
            let lost = || Error::new(ErrorKind::RollbackFailed, "the snapshot of the old state is gone").with_live(Live::Unknown);
            let snapshot = self.with_previous(snapshot.ok_or_else(lost)?, begun.old.as_deref(), journal)?;
            self.restore(begun.old.as_deref(), &snapshot).map_err(|error| error.with_live(Live::Unknown))?;
            "the old state was brought back"
        };
        journal.end()?;
        self.prune(self.context);
        Ok(action)
    }

    fn acknowledge(&mut self, certificate: &Certificate, state: &State, journal: &PushJournal<'_>) {
        self.enter(Stage::Acknowledge);
        if self.push.keeps_pair()
            && let Err(error) = journal.keep(certificate)
        {
            self.warn(format!("the pair could not be kept for the way back: {}", error.full_message()));
        }
        let nobody_looked = self.unknown && self.push.verify() == Verify::NotConfigured;
        let marker = Marker {
            version: Marker::VERSION,
            plan: certificate.fingerprint().to_owned(),
            leaf: Some(certificate.fingerprint().to_owned()),
            reloaded: true,
            verified: if nobody_looked { Verified::Nobody } else { Verified::Seen },
            note: self.push.note(),
            ..Marker::default()
        };
        if let Err(error) = state.write_marker(self.context.host(), &self.report.target, &marker) {
            self.warn(format!("the marker could not be written: {error}"));
        }
        if nobody_looked {
            self.report.degrade("verify", "the remote does not say what is live, and there is no endpoint to look at");
        }
        self.report.outcome = if nobody_looked { Outcome::Unverified } else { Outcome::Changed };
        self.report.live = Live::Applied;
    }

    fn observe(&mut self) -> Result<Observed, Error> {
        self.observe_in(self.context)
    }

    fn observe_in(&mut self, context: &Context) -> Result<Observed, Error> {
        let mut observed = call!(self.push, context => observe())?;
        self.unknown = observed.unknown;
        if observed.unknown {
            observed.fingerprint.clone_from(&self.live);
        } else {
            self.live.clone_from(&observed.fingerprint);
            self.report.fingerprint.served.clone_from(&observed.fingerprint);
        }
        Ok(observed)
    }

    fn enter(&mut self, stage: Stage) {
        self.report.stage = stage;
        self.context.emit(&Event::Stage { target: self.report.target.clone(), stage });
    }

    fn reached(&mut self, rung: Rung) {
        self.report.validated = self.report.validated.max(rung);
    }

    fn warn(&mut self, message: String) {
        self.context.emit(&Event::Warning { target: self.report.target.clone(), message: message.clone() });
        self.report.warn(message);
    }
}

fn is(observed: &Observed, fingerprint: &str) -> bool {
    observed.fingerprint.as_deref() == Some(fingerprint)
}

/// What is live, for whoever only looks.
pub(super) fn observe(push: &mut dyn Push, target: &str, context: &Context) -> Result<Observed, Error> {
    let acknowledged = remembered(push, target, context)?;
    let mut observed = call!(push, context => observe())?;
    if observed.unknown {
        observed.fingerprint = acknowledged;
    }
    Ok(observed)
}

/// The leaf whose deployment was acknowledged last. What was noted then goes back to the push.
fn remembered(push: &mut dyn Push, target: &str, context: &Context) -> Result<Option<String>, Error> {
    let marker = read_marker(context, target)?;
    if let Some(note) = marker.as_ref().and_then(|marker| marker.note.as_deref()) {
        push.recall(note);
    }
    Ok(marker.filter(|marker| marker.reloaded).and_then(|marker| marker.leaf))
}

/// Tries again only where the error says that it can help, and never sooner than the remote asks.
fn retrying<T>(context: &Context, mut attempt: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut pause = Duration::from_millis(200);
    for number in 1.. {
        let error = match attempt() {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let wait = match error.retry() {
            Retry::Never => return Err(error),
            Retry::Later => pause,
            Retry::After(wait) => wait,
        };
        if number >= TRIES || Instant::now() + wait >= context.deadline() {
            return Err(error);
        }
        if context.cancellation().wait(wait) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted while waiting for the remote").with_source(error));
        }
        pause *= 2;
    }
    Err(Error::new(ErrorKind::Internal, "tried too often"))
}

/// Settles every interrupted push of these jobs.
pub(super) fn recover_all(jobs: &[Job], scope: RecoveryScope, context: &Context, state: &State) -> Vec<Recovered> {
    if scope == RecoveryScope::FilesOnly {
        return Vec::new();
    }
    jobs.iter()
        .filter_map(|job| recover(job, context, state).transpose())
        .map(|done| done.unwrap_or_else(|(name, error)| Recovered::failed(vec![name], error)))
        .collect()
}

/// After the last call, for whoever only looks, too.
pub(super) fn close(push: &mut dyn Push, context: &Context) -> Result<(), Error> {
    let context = context.undisturbed(CLOSING);
    block_on(context.within(push.close(&context)))
}

/// What the remote's own dry run says, for whoever only looks.
pub(super) fn validate(push: &mut dyn Push, certificate: &Certificate, context: &Context) -> Result<Validation, Error> {
    call!(push, context => validate(certificate))
}

fn recover(job: &Job, context: &Context, state: &State) -> Result<Option<Recovered>, (String, Error)> {
    let named = |error: Error| (job.name.clone(), error);
    let Recovery::Push(push) = job.target.recovery() else { return Ok(None) };
    let keys = LockKeys::of_targets([job.name.clone()]);
    let _locks = lock::acquire(context, state, &keys).map_err(named)?;
    let journal = PushJournal::open(context, state, &job.name).map_err(named)?;
    let Some((begun, snapshot)) = journal.read().map_err(named)? else { return Ok(None) };
    let mut frame = Frame::new(push, Report::new(&job.name, &job.kind), context);
    frame.live = remembered(&mut *frame.push, &job.name, context).map_err(named)?;
    let settled = frame.settle(&begun, snapshot, state, &journal);
    frame.close();
    let action = settled.map_err(named)?;
    let left: String = frame.report.warnings.iter().map(|warning| format!("; {warning}")).collect();
    let live = match &frame.live {
        Some(live) if *live == begun.new => Live::Applied,
        None if frame.unknown => Live::Unknown,
        _ => Live::RolledBack,
    };
    Ok(Some(Recovered::new(vec![begun.target], job.name.clone(), format!("{action}{left}"), live)))
}

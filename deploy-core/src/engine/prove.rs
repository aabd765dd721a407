//! Stages 9 and 10: the target is told, and then asked as a client would ask.

use std::time::{Duration, Instant};

use crate::command::{Command, CommandError, Limits};
use crate::context::Context;
use crate::engine::block_on;
use crate::engine::group::{Group, Member};
use crate::engine::inspect::reached;
use crate::engine::liveness::{Settled, Watch};
use crate::error::{Error, ErrorKind, Retry};
use crate::hooks::{Reload, Verify};
use crate::probe::{Endpoint, probe, wait_for, wait_while};
use crate::report::{Rung, Stage};
use crate::state::Verified;

/// How long old workers may go on answering after a reload: seen at 200 ms with nginx, and at 1.5 s elsewhere.
const OLD_WORKERS: Duration = Duration::from_millis(1500);

/// No single look takes longer than this.
const GLANCE: Duration = Duration::from_secs(5);

impl Group<'_> {
    /// What every endpoint serves now; a target that cannot be seen at all is not touched by a renewal.
    pub(super) fn take_baseline(&mut self) -> Result<(), Error> {
        for member in &mut self.members {
            let endpoints = member.plan.hooks.verify.list().0.to_vec();
            for endpoint in &endpoints {
                let served = glance(self.context, member, endpoint)?;
                member.baseline.push(served);
            }
            if member.report.fingerprint.served.is_none() {
                member.report.fingerprint.served = member.baseline.iter().flatten().next().cloned();
            }
        }
        Ok(())
    }

    /// Tells every service once.
    pub(super) fn reload(&mut self) -> Result<(), Error> {
        self.enter(Stage::Reload);
        self.told = true;
        let host = self.context.host();
        for member in &mut self.members {
            member.watch = Watch::begin(host, &member.plan.hooks.pid_files);
        }
        self.reloads().iter().try_for_each(|reload| tell(self.context, reload, Direction::Forward))
    }

    /// Waits until every endpoint of every member serves the new leaf.
    pub(super) fn verify(&mut self) -> Result<(), Error> {
        self.enter(Stage::Verify);
        for member in &mut self.members {
            verify(self.context, member)?;
        }
        Ok(())
    }
}

/// Whether the files go forward to the new or back to the old ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Back,
    Forward,
}

/// Tells a target that its files have changed.
pub(super) fn tell(context: &Context, reload: &Reload, direction: Direction) -> Result<(), Error> {
    match reload {
        Reload::Command(command) => run(context, command),
        Reload::Signal { signal, pid_file } => {
            let failed = |problem: &str| Error::new(ErrorKind::ReloadFailed, format!("{} {problem}", pid_file.display()));
            let read = context.host().read_path(pid_file, 64).map_err(|error| failed("cannot be read").with_source(error))?;
            let (bytes, _) =
                read.ok_or_else(|| failed("does not exist").with_next_step("start the server, or correct pid_file"))?;
            let process =
                std::str::from_utf8(bytes.expose()).ok().and_then(|text| text.trim().parse::<u32>().ok()).filter(|&pid| pid > 1);
            let process = process.ok_or_else(|| failed("holds no process number"))?;
            context.host().signal(process, *signal).map_err(|error| {
                failed(&format!("names process {process}, which could not be signalled"))
                    .with_source(error)
                    .with_next_step("start the server, or correct pid_file")
            })
        }
        Reload::Call(call) => block_on(context.within(match direction {
            Direction::Forward => call.apply(context),
            Direction::Back => call.undo(context),
        })),
        Reload::Steps(steps) => steps.iter().try_for_each(|step| tell(context, step, direction)),
    }
}

/// Runs a reload or restart command.
pub(super) fn run(context: &Context, command: &Command) -> Result<(), Error> {
    let failed = |message: String| Error::new(ErrorKind::ReloadFailed, message);
    let limits = Limits::new(context.deadline(), Some(context.cancellation()));
    let output = context.host().run(command, None, &limits).map_err(|error| {
        let kind = if matches!(error, CommandError::Interrupted) { ErrorKind::Interrupted } else { ErrorKind::ReloadFailed };
        Error::new(kind, format!("`{}` did not do its work", command.display()))
            .with_source(error)
            .with_next_step("run it by hand and read what it says; correct `reload` if it is the wrong command")
    })?;
    if output.success() {
        return Ok(());
    }
    Err(failed(format!("`{}` failed: {}", command.display(), output.verdict()))
        .with_next_step("run it by hand and read what it says; correct `reload` if it is the wrong command"))
}

/// Sees that the server goes on running and, where there are endpoints, that all of them serve the new leaf.
pub(super) fn verify(context: &Context, member: &mut Member) -> Result<(), Error> {
    let Verify::Endpoints { endpoints, timeout } = member.plan.hooks.verify.clone() else { return survives(context, member) };
    let Some(wanted) = member.report.fingerprint.wanted.clone() else {
        member.report.degrade("verify", "the files hold no leaf whose fingerprint could be compared");
        return survives(context, member);
    };
    let deadline = (Instant::now() + timeout).min(context.deadline());
    let mut seen = true;
    for (index, endpoint) in endpoints.iter().enumerate() {
        let mut watch = member.watch.take();
        let mut lives = || !watch.as_mut().is_some_and(|watch| watch.has_ended(context.host()));
        let looked = wait_while(endpoint, &wanted, context.provider(), deadline, Some(context.cancellation()), &mut lives);
        let lives = lives();
        member.watch = watch;
        match looked {
            Ok(_) => member.report.fingerprint.served = Some(wanted.clone()),
            Err(failure) if failure.is_interrupted() => {
                return Err(
                    Error::new(ErrorKind::Interrupted, "interrupted while waiting for the new certificate").with_source(failure)
                );
            }
            Err(failure) => {
                if let Some(watch) = member.watch.as_ref().filter(|_| !lives) {
                    return Err(watch.ended().with_source(failure));
                }
                let never_seen = member.baseline.get(index).is_some_and(Option::is_none)
                    && failure.served.is_none()
                    && failure.is_unreachable();
                if !never_seen && !failure.is_inconclusive() {
                    member.report.fingerprint.served = failure.served.clone();
                    return Err(unverified(endpoint, failure));
                }
                seen = false;
                member.warn(context, format!("nobody could see whether {endpoint} serves the new certificate: {failure}"));
            }
        }
    }
    if seen {
        reached(member, Rung::V6);
    } else {
        member.report.degrade("verify", "an endpoint cannot be seen from here");
    }
    Ok(())
}

/// Where nothing can be seen of a server, it has to go on running at least.
fn survives(context: &Context, member: &mut Member) -> Result<(), Error> {
    let Some(watch) = &mut member.watch else { return Ok(()) };
    if watch.settle(context)? == Settled::NeverSeen {
        member
            .report
            .degrade("liveness", "the pid file names no process that runs, so that nobody could see whether it still does");
    }
    Ok(())
}

/// What was seen of a member whose verification did not fail.
pub(super) fn verified(member: &Member) -> Verified {
    match &member.plan.hooks.verify {
        Verify::Waived => Verified::Waived,
        Verify::NotConfigured => Verified::Nobody,
        Verify::Endpoints { .. } if member.report.validated == Rung::V6 => Verified::Seen,
        Verify::Endpoints { .. } => Verified::Nobody,
    }
}

/// Whether every endpoint serves this leaf right now.
pub(super) fn serves(baseline: &[Option<String>], leaf: Option<&str>) -> bool {
    !baseline.is_empty() && leaf.is_some() && baseline.iter().all(|served| served.as_deref() == leaf)
}

/// What an endpoint serves. Right after somebody else's reload an old worker may still answer: where the last deployment was
/// seen on the wire, its certificate is waited for, for a moment.
fn glance(context: &Context, member: &mut Member, endpoint: &Endpoint) -> Result<Option<String>, Error> {
    let deadline = (Instant::now() + GLANCE).min(context.deadline());
    let expected = member.old_leaf.clone().filter(|old| member.was_seen() && member.marker_leaf() == Some(old));
    if let Some(expected) = expected {
        let moment = (Instant::now() + OLD_WORKERS).min(deadline);
        if wait_for(endpoint, &expected, context.provider(), moment, Some(context.cancellation())).is_ok() {
            return Ok(Some(expected));
        }
    }
    let problem = match probe(endpoint, context.provider(), deadline, Some(context.cancellation())) {
        Ok(observations) => return Ok(observations.first().map(|observation| observation.fingerprint.clone())),
        Err(problem) => problem,
    };
    let renewal = member.files.iter().all(|file| file.before.is_some());
    if renewal && !context.force() && problem.unreachable() {
        return Err(Error::new(
            ErrorKind::Unavailable,
            format!("the verify address {endpoint} does not answer, so that nobody could see whether a deployment succeeds"),
        )
        .with_source(problem)
        .with_retry(Retry::Later)
        .with_next_step("start the server or correct `verify`; --force deploys all the same"));
    }
    member.warn(context, format!("{endpoint} shows no certificate now: {problem}"));
    Ok(None)
}

fn unverified(endpoint: &Endpoint, failure: crate::probe::VerifyFailure) -> Error {
    let message = match &failure.served {
        Some(served) => format!("{endpoint} still serves {served}, not the new certificate"),
        None => format!("{endpoint} does not serve the new certificate"),
    };
    Error::new(ErrorKind::VerifyFailed, message).with_source(failure).with_next_step(
        "read the server's log: a reload that answers 0 can still have been refused (busy port, other user's key)",
    )
}

/// Waits until the endpoints serve again what they served before, as long as the server runs.
pub(super) fn verify_old(
    context: &Context,
    endpoints: &[Endpoint],
    baseline: &[Option<String>],
    timeout: Duration,
    lives: &mut dyn FnMut() -> bool,
) -> Result<(), Error> {
    let deadline = (Instant::now() + timeout).min(context.deadline());
    for (endpoint, served) in endpoints.iter().zip(baseline) {
        let Some(old) = served else { continue };
        wait_while(endpoint, old, context.provider(), deadline, None, lives).map_err(|failure| {
            Error::new(ErrorKind::VerifyFailed, format!("{endpoint} does not serve the old certificate again"))
                .with_source(failure)
        })?;
    }
    Ok(())
}

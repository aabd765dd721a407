//! Looking, and nothing else.

use std::time::{Duration, Instant};

use crate::certificate::read_leaf;
use crate::context::Context;
use crate::engine::acknowledge::set_name;
use crate::engine::job::Job;
use crate::engine::overview::{EndpointStatus, SetStatus, TargetStatus, Verification};
use crate::engine::push::{close, observe};
use crate::engine::{block_on, group};
use crate::error::Error;
use crate::hooks::Verify;
use crate::journal;
use crate::plan::Plan;
use crate::probe::{Endpoint, probe};
use crate::state::{Marker, TARGETS, read_marker};
use crate::target::{Deployment, Recovery};

const GLANCE: Duration = Duration::from_secs(5);
const SIZE_LIMIT: u64 = 64 << 20;

/// See [`crate::verify`].
pub(super) fn verify(job: &Job, context: &Context) -> Verification {
    let mut verification = Verification::new(&job.name, &job.kind);
    match job.certificate.load(context.host()) {
        Ok(loaded) => verification.wanted = Some(loaded.certificate.fingerprint().to_owned()),
        Err(error) => verification.error = Some(error),
    }
    let verify = hooks(job);
    verification.configured = matches!(verify, Verify::Endpoints { .. });
    verification.endpoints = ask(&verify, verification.wanted.as_deref(), context);
    verification
}

/// See [`crate::status`].
pub(super) fn status(job: &Job, context: &Context) -> TargetStatus {
    let mut status = TargetStatus::new(&job.name, &job.kind);
    if let Err(error) = fill(&mut status, job, context) {
        status.error = Some(error);
    }
    status.served = ask(&hooks(job), status.wanted.as_deref(), context);
    status
}

fn fill(status: &mut TargetStatus, job: &Job, context: &Context) -> Result<(), Error> {
    let marker = read_marker(context, &job.name)?;
    status.hold = marker.as_ref().and_then(|marker| marker.hold.as_ref()).and_then(|hold| hold.leaf.clone());
    status.sets = marker.as_ref().map(|marker| sets(marker, &job.name, context)).transpose()?.unwrap_or_default();
    status.owed = owed(marker.as_ref(), &job.name, context)?;
    let loaded = job.certificate.load(context.host())?;
    status.wanted = Some(loaded.certificate.fingerprint().to_owned());
    match block_on(job.target.prepare(&loaded.certificate, context))? {
        Deployment::Files(plan) => {
            on_disk(status, &plan, context);
            let differs = marker.as_ref().is_some_and(|marker| marker.plan != group::plan_digest(&plan));
            if differs && status.on_disk == status.wanted && status.owed.is_none() {
                status.owed = Some("files or settings changed since the last deployment".to_owned());
            }
        }
        Deployment::Push(mut push) => {
            let observed = observe(&mut *push, &job.name, context);
            // A session that stays open ends by itself some time: no reason to say nothing of what was seen.
            drop(close(&mut *push, context));
            status.on_disk = observed?.fingerprint;
        }
    }
    Ok(())
}

fn on_disk(status: &mut TargetStatus, plan: &Plan, context: &Context) {
    let Some(file) = plan.files.iter().find(|file| file.role.holds_leaf()) else { return };
    let followed = crate::secret::read_source_file(context.host(), &file.path, SIZE_LIMIT);
    if let Some((fingerprint, not_after)) = followed.ok().and_then(|(bytes, _)| read_leaf(bytes.expose())) {
        status.on_disk = Some(fingerprint);
        status.not_after = Some(not_after);
    }
}

fn owed(marker: Option<&Marker>, target: &str, context: &Context) -> Result<Option<String>, Error> {
    let path = context.state_directory().join("journal");
    if let Ok(directory) = context.host().open_directory(&path) {
        let journals = journal::read_all(context.host(), &directory)?;
        if let Some(journal) = journals.iter().find(|journal| journal.targets().iter().any(|name| name == target)) {
            let what = if journal.conflict { "a person has to decide about" } else { "the next run settles" };
            return Ok(Some(format!("{what} an interrupted deployment ({})", journal.file.to_string_lossy())));
        }
    }
    Ok(match marker {
        Some(marker) if marker.reloaded => None,
        _ => Some("no deployment of this target has been acknowledged".to_owned()),
    })
}

fn sets(marker: &Marker, target: &str, context: &Context) -> Result<Vec<SetStatus>, Error> {
    let path = context.state_directory().join(TARGETS);
    let Ok(directory) = context.host().open_directory(&path) else { return Ok(Vec::new()) };
    let mut sets = Vec::new();
    for &id in &marker.sets {
        let Some(set) = journal::read(context.host(), &directory, &set_name(target, id))? else { continue };
        let Some(begin) = set.begin else { continue };
        let fingerprint = begin.members.first().and_then(|member| member.old_leaf.clone());
        sets.push(SetStatus { id: id.to_string(), created: begin.started, fingerprint });
    }
    Ok(sets)
}

fn hooks(job: &Job) -> Verify {
    match job.target.recovery() {
        Recovery::Files(hooks) => hooks.verify,
        Recovery::Push(push) => push.verify(),
    }
}

fn ask(verify: &Verify, wanted: Option<&str>, context: &Context) -> Vec<EndpointStatus> {
    verify.list().0.iter().map(|endpoint| ask_one(endpoint, wanted, context)).collect()
}

fn ask_one(endpoint: &Endpoint, wanted: Option<&str>, context: &Context) -> EndpointStatus {
    let deadline = (Instant::now() + GLANCE).min(context.deadline());
    let name = endpoint.to_string();
    let observations = match probe(endpoint, context.provider(), deadline, Some(context.cancellation())) {
        Ok(observations) => observations,
        Err(problem) => return EndpointStatus { endpoint: name, served: None, matches: false, problem: Some(chain(&problem)) },
    };
    let wrong = observations.iter().find(|seen| Some(seen.fingerprint.as_str()) != wanted || seen.handshake.is_err());
    let problem = wrong.map(|seen| match &seen.handshake {
        Err(problem) => format!("{}: the handshake fails: {problem}", seen.address),
        Ok(()) => format!("{} serves another certificate", seen.address),
    });
    let served = wrong.or(observations.first()).map(|seen| seen.fingerprint.clone());
    EndpointStatus { endpoint: name, served, matches: wrong.is_none(), problem }
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

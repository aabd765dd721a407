//! From jobs to reports: what was interrupted is settled, then the material is read, then plans and pushes are carried out.

use std::time::Instant;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::engine::group::{Member, check_time};
use crate::engine::job::Job;
use crate::engine::overview::RecoveryScope;
use crate::engine::service::{Again, together};
use crate::engine::{block_on, check, generation, inspect, push, recover};
use crate::error::Error;
use crate::event::Event;
use crate::history;
use crate::plan::Plan;
use crate::report::{Live, Outcome, Report, Stage};
use crate::state::{LazyState, Marker, invalid, read_marker};
use crate::target::Deployment;

/// See [`crate::deploy`].
pub(super) fn deploy(jobs: &[Job], context: &Context) -> Vec<Report> {
    let state = LazyState::default();
    let mut reports: Vec<Option<Report>> = jobs.iter().map(|_| None).collect();
    let mut plans: Vec<(usize, Member)> = Vec::new();
    for (index, job) in jobs.iter().enumerate() {
        let mut report = Report::new(&job.name, &job.kind);
        let started = Instant::now();
        let marker = settle_first(job, context, &mut report);
        let prepared = marker.and_then(|marker| prepare(job, context, &mut report).map(|prepared| (marker, prepared)));
        match prepared {
            Ok((marker, (Deployment::Files(plan), _))) => {
                let mut member = Member::new(plan, &job.kind);
                member.report = report;
                member.started = started;
                member.marker = marker;
                plans.push((index, member));
            }
            Ok((_, (Deployment::Push(target), certificate))) => {
                reports[index] = Some(push::deploy(&certificate, target, report, started, context));
            }
            Err(error) => reports[index] = Some(refused(report, error, started, context, &state)),
        }
    }
    let (indices, members): (Vec<usize>, Vec<Member>) = plans.into_iter().unzip();
    let again = |name: &str| {
        let job = jobs.iter().find(|job| job.name == name)?;
        match prepare(job, context, &mut Report::new(&job.name, &job.kind)) {
            Ok((Deployment::Files(plan), _)) => Some(plan),
            _ => None,
        }
    };
    for (index, report) in indices.into_iter().zip(apply(members, context, &state, &again)) {
        reports[index] = Some(report);
    }
    reports.into_iter().flatten().collect()
}

/// A plan by itself.
pub(super) fn apply_one(plan: Plan, kind: &str, context: &Context) -> Report {
    let name = plan.name.clone();
    let mut member = Member::new(plan, kind);
    let state = LazyState::default();
    match check::check_name(&name).and_then(|()| context.host().reach()).and_then(|()| read_marker(context, &name)) {
        Ok(marker) => member.marker = marker,
        Err(error) => return refused(member.report, error, member.started, context, &state),
    }
    apply(vec![member], context, &state, &|_| None).pop().unwrap_or_else(|| Report::new(name, kind))
}

/// Settles what was interrupted, before any new material is read.
fn settle_first(job: &Job, context: &Context, report: &mut Report) -> Result<Option<Marker>, Error> {
    check::check_name(&job.name)?;
    context.host().reach()?;
    let marker = read_marker(context, &job.name)?;
    if marker.as_ref().is_some_and(|marker| marker.reloaded) {
        return Ok(marker);
    }
    for recovered in recover::recover_target(job, RecoveryScope::Full, context)? {
        report.warn(format!("an interrupted deployment was found: {}", recovered.action));
        report.recovered = true;
        if let Some(error) = recovered.error {
            return Err(error);
        }
    }
    read_marker(context, &job.name)
}

/// Reads the material, then asks the connector.
fn prepare(job: &Job, context: &Context, report: &mut Report) -> Result<(Deployment, Certificate), Error> {
    let loaded = job.certificate.load(context.host())?;
    loaded.warnings.into_iter().for_each(|warning| report.warn(warning));
    let deployment = block_on(job.target.prepare(&loaded.certificate, context))?;
    Ok((deployment, loaded.certificate))
}

fn refused(mut report: Report, error: Error, started: Instant, context: &Context, state: &LazyState) -> Report {
    report.outcome = super::group::outcome(&error);
    report.live = error.live();
    report.error = Some(error.at(report.stage));
    finish(report, started, context, state)
}

/// Carries out the plans of one service.
fn apply(members: Vec<Member>, context: &Context, state: &LazyState, again: Again<'_>) -> Vec<Report> {
    let mut done: Vec<Member> = Vec::new();
    let order: Vec<String> = members.iter().map(|member| member.plan.name.clone()).collect();
    let mut open: Vec<Member> = Vec::new();
    for mut member in members {
        match begin(&mut member, context, state) {
            Ok(true) => open.push(member),
            Ok(false) => done.push(member),
            Err(error) => {
                member.fail(error);
                done.push(member);
            }
        }
    }
    if !open.is_empty() {
        done.extend(together(open, context, state, again));
    }
    let mut reports: Vec<Report> = Vec::with_capacity(done.len());
    for name in order {
        if let Some(index) = done.iter().position(|member| member.plan.name == name) {
            let member = done.swap_remove(index);
            reports.push(finish(member.report, member.started, context, state));
        }
    }
    reports
}

/// Checks a member; says whether there may be something to do.
fn begin(member: &mut Member, context: &Context, state: &LazyState) -> Result<bool, Error> {
    member.enter(context, Stage::Check);
    check_time(context)?;
    check::check(member, context)?;
    if let Err(error) = generation::retire_later(context, state, member) {
        member.warn(context, error.full_message());
    }
    if inspect::is_settled(member, context) {
        member.report.fingerprint.served = member.report.fingerprint.wanted.clone().filter(|_| member.was_seen());
        return Ok(false);
    }
    check::handshake(member, context)?;
    let hold = member.marker.as_ref().and_then(|marker| marker.hold.as_ref());
    if hold.is_some_and(|hold| hold.plan == member.digest) && !context.force() && !member.plan.going_back {
        member.warn(context, "held: this certificate was rolled back; a new one, or --force, ends the hold");
        return Ok(false);
    }
    Ok(true)
}

/// The last event, and one line of history for everything but "nothing to do".
pub(super) fn finish(mut report: Report, started: Instant, context: &Context, state: &LazyState) -> Report {
    report.duration = started.elapsed();
    if report.outcome == Outcome::Unchanged && report.recovered {
        report.outcome = Outcome::Repaired;
        report.live = Live::Applied;
    }
    if report.outcome != Outcome::Unchanged
        && let Err(error) = write_history(context, &report, state)
    {
        report.warn(format!("the history could not be written: {}", error.full_message()));
    }
    let duration_ms = u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX);
    context.emit(&Event::Finished { target: report.target.clone(), outcome: report.outcome, duration_ms });
    report
}

fn write_history(context: &Context, report: &Report, state: &LazyState) -> Result<(), Error> {
    let line = serde_json::json!({
        "at": humantime::format_rfc3339_seconds(context.host().now()).to_string(),
        "target": report.target,
        "outcome": report.outcome,
        "stage": report.stage,
        "live": report.live,
        "wanted": report.fingerprint.wanted,
        "served": report.fingerprint.served,
        "error": report.error.as_ref().map(Error::full_message),
    });
    let state = state.open(context)?;
    history::append(context.host(), &state.root, &line).map_err(|error| invalid(state.root.path(), "takes no history", error))
}

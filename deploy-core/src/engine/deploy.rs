//! The order of the stages.

use std::time::Instant;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::destination::{Place, Resolver};
use crate::engine::group::{Group, Member, check_time};
use crate::engine::job::Job;
use crate::engine::overview::{FileAction, RecoveryScope, TargetState};
use crate::engine::{block_on, check, inspect, prove, push, recover, stage};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::host::Identity;
use crate::journal;
use crate::lock::{self, LockKeys, Locks};
use crate::plan::Plan;
use crate::report::{Live, Outcome, Report, Stage};
use crate::state::{LazyState, Marker, State, Verified, invalid, read_marker};
use crate::target::Deployment;

/// Prepares a plan anew if what it rests on has changed.
type Again<'a> = &'a dyn Fn(&str) -> Option<Plan>;

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
    match check::check_name(&name).and_then(|()| read_marker(context, &name)) {
        Ok(marker) => member.marker = marker,
        Err(error) => return refused(member.report, error, member.started, context, &state),
    }
    apply(vec![member], context, &state, &|_| None).pop().unwrap_or_else(|| Report::new(name, kind))
}

/// Settles what was interrupted, before any new material is read.
fn settle_first(job: &Job, context: &Context, report: &mut Report) -> Result<Option<Marker>, Error> {
    check::check_name(&job.name)?;
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
        match begin(&mut member, context) {
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
fn begin(member: &mut Member, context: &Context) -> Result<bool, Error> {
    member.enter(context, Stage::Check);
    check_time(context)?;
    check::check(member, context)?;
    if inspect::is_settled(member, context) {
        member.report.fingerprint.served = member.report.fingerprint.wanted.clone().filter(|_| seen(member));
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

fn seen(member: &Member) -> bool {
    member.marker.as_ref().is_some_and(|marker| marker.verified == Verified::Seen)
}

/// One deployment of all; if it fails and everything is back, each by itself.
fn together(members: Vec<Member>, context: &Context, state: &LazyState, again: Again<'_>) -> Vec<Member> {
    let retry: Vec<Member> = if members.len() > 1 { members.iter().map(Member::fresh).collect() } else { Vec::new() };
    let done = once(members, context, state, again);
    let misconfigured = |error: &Error| error.kind() == ErrorKind::ConfigurationInvalid;
    let failed = |member: &Member| {
        matches!(member.report.outcome, Outcome::RolledBack | Outcome::Rejected)
            && !member.report.error.as_ref().is_some_and(misconfigured)
    };
    if retry.is_empty() || !done.iter().any(failed) || context.cancellation().is_cancelled() {
        return done;
    }
    let mut alone = Vec::with_capacity(done.len());
    for (mut member, fresh) in done.into_iter().map(|member| {
        let fresh = retry.iter().find(|fresh| fresh.plan.name == member.plan.name).map(Member::fresh);
        (member, fresh)
    }) {
        match fresh.filter(|_| failed(&member)) {
            None => alone.push(member),
            Some(mut fresh) => {
                fresh.marker = member.marker.take();
                fresh.warn(
                    context,
                    "the deployment together with the other targets of the service failed; it was tried by itself",
                );
                alone.extend(once(vec![fresh], context, state, again));
            }
        }
    }
    alone
}

/// Locks, settles, looks, and does what is to be done.
fn once(mut members: Vec<Member>, context: &Context, state: &LazyState, again: Again<'_>) -> Vec<Member> {
    let result = state.open(context).and_then(|state| locked(&mut members, context, state, again));
    if let Err(error) = result {
        share(&mut members, error);
    }
    members
}

/// Every member that has not ended by itself ends with the group's error; the first carries its causes.
fn share(members: &mut [Member], error: Error) {
    let mut open: Vec<&mut Member> = members.iter_mut().filter(|member| !member.has_ended()).collect();
    let error = match open.first() {
        Some(first) => error.at(first.report.stage),
        None => return,
    };
    for member in open.iter_mut().skip(1) {
        member.fail(error.summary());
    }
    if let Some(first) = open.into_iter().next() {
        first.fail(error);
    }
}

fn locked(members: &mut Vec<Member>, context: &Context, state: &State, again: Again<'_>) -> Result<(), Error> {
    let host = context.host();
    let us = host
        .identity()
        .map_err(|error| Error::new(ErrorKind::Internal, "the system does not say who we are").with_source(error))?;
    members.iter_mut().for_each(|member| member.enter(context, Stage::Lock));
    let (locks, places) = lock(members, context, state, &us)?;
    for (member, places) in members.iter_mut().zip(places) {
        member.enter(context, Stage::Inspect);
        let looked = look(member, context, state, &us, places, again);
        if let Err(error) = looked {
            member.fail(error);
        }
    }
    let (mut ended, open): (Vec<Member>, Vec<Member>) = std::mem::take(members)
        .into_iter()
        .partition(|member| member.report.error.is_some() || member.state == TargetState::Unchanged);
    let mut group = Group { context, state, members: open, id: 0, journal: None, told: false };
    let result = if group.members.is_empty() { Ok(()) } else { carry_out(&mut group, &us) };
    let mut open = std::mem::take(&mut group.members);
    if let Err(error) = result {
        share(&mut open, error);
    }
    ended.extend(open);
    *members = ended;
    drop(locks);
    Ok(())
}

/// Takes the locks of the members and of every interrupted deployment that overlaps with them, and settles those.
fn lock(members: &mut [Member], context: &Context, state: &State, us: &Identity) -> Result<(Locks, Vec<Vec<Place>>), Error> {
    let targets: Vec<String> = members.iter().map(|member| member.plan.name.clone()).collect();
    let mut resolvers: Vec<Resolver> = members.iter().map(|_| Resolver::default()).collect();
    let mut locate = |members: &[Member], keys: &mut LockKeys| -> Result<Vec<Vec<Place>>, Error> {
        members
            .iter()
            .zip(&mut resolvers)
            .map(|(member, resolver)| inspect::locate(member, context, us, resolver, keys))
            .collect()
    };
    let mut all = LockKeys::of_targets(targets.iter().cloned());
    let mut places = locate(members, &mut all)?;
    loop {
        let (locks, waited) = lock::acquire(context, state, &all)?;
        let journals = recover::overlapping(context, state, &targets, &all)?;
        let others = journals.iter().map(recover::keys).fold(LockKeys::default(), |mut keys, own| {
            keys.extend(own);
            keys
        });
        if !others.is_subset(&all) {
            all.extend(others);
            continue;
        }
        let stale = waited || !journals.is_empty();
        for journal in journals {
            settle_before(members, context, state, journal)?;
        }
        if stale {
            let mut now = LockKeys::default();
            places = locate(members, &mut now)?;
            if !now.is_subset(&all) {
                all.extend(now);
                continue;
            }
        }
        one_writer_each(members, &places)?;
        for member in members.iter_mut() {
            // Another run may have ended between the first look and the lock.
            member.marker = read_marker(context, &member.plan.name)?;
        }
        return Ok((locks, places));
    }
}

/// Two members must not write one file.
fn one_writer_each(members: &[Member], places: &[Vec<Place>]) -> Result<(), Error> {
    let all: Vec<(&Member, &Place)> =
        members.iter().zip(places).flat_map(|(member, own)| own.iter().map(move |place| (member, place))).collect();
    for (index, (member, place)) in all.iter().enumerate() {
        if let Some((other, _)) = all[..index].iter().find(|(_, other)| other.same(place)) {
            return Err(Error::new(
                ErrorKind::ConfigurationInvalid,
                format!("the targets {} and {} both write {}", other.name(), member.name(), place.path().display()),
            )
            .with_next_step("give every target files of its own"));
        }
    }
    Ok(())
}

fn settle_before(members: &mut [Member], context: &Context, state: &State, journal: journal::Journal) -> Result<(), Error> {
    members.iter_mut().for_each(|member| member.enter(context, Stage::Recover));
    let hooks = |target: &str| members.iter().find(|member| member.plan.name == target).map(|member| member.plan.hooks.clone());
    let recovered = recover::settle(context, state, journal, &hooks, RecoveryScope::Full);
    for member in members.iter_mut() {
        member.warn(context, format!("an interrupted deployment was found: {}", recovered.action));
        member.report.recovered = true;
        member.marker = read_marker(context, &member.plan.name)?;
    }
    recovered.error.map_or(Ok(()), Err)
}

/// Inspects, preparing once more if what the plan rests on has changed.
fn look(
    member: &mut Member,
    context: &Context,
    state: &State,
    us: &Identity,
    mut places: Vec<Place>,
    again: Again<'_>,
) -> Result<(), Error> {
    stage::sweep_second_names(member, context, state, us, &mut places)?;
    if inspect::reads_hold(member, context)? {
        return inspect::inspect(member, context, us, places);
    }
    let conflict = || {
        Error::new(ErrorKind::Conflict, "a file that the plan was made from changes all the time")
            .with_next_step("find out who writes it; then run again")
    };
    let plan = again(&member.plan.name).ok_or_else(conflict)?;
    member.digest = super::group::plan_digest(&plan);
    member.plan = plan;
    let places = inspect::locate(member, context, us, &mut Resolver::default(), &mut LockKeys::default())?;
    if !inspect::reads_hold(member, context)? {
        return Err(conflict());
    }
    inspect::inspect(member, context, us, places)
}

/// From the baseline to the acknowledgement.
fn carry_out(group: &mut Group<'_>, us: &Identity) -> Result<(), Error> {
    group.check_time()?;
    find_sets(group)?;
    if group.members.iter().all(|member| member.state == TargetState::Drift) {
        return repair(group);
    }
    group.take_baseline()?;
    if group.members.iter().all(|member| member.state != TargetState::Change) {
        return pay(group);
    }
    change(group, us)
}

/// Owner and mode only: nobody has to be told.
fn repair(group: &mut Group<'_>) -> Result<(), Error> {
    group.enter(Stage::Stage);
    repair_files(group)?;
    let seen: Vec<bool> = group.members.iter().map(seen).collect();
    for (member, seen) in group.members.iter_mut().zip(seen) {
        // The bytes are those that were seen then.
        if seen {
            inspect::reached(member, crate::report::Rung::V6);
        }
    }
    group.acknowledge(false);
    group.members.iter_mut().for_each(|member| member.report.outcome = Outcome::Repaired);
    Ok(())
}

fn repair_files(group: &mut Group<'_>) -> Result<(), Error> {
    let host = group.context.host();
    for member in &mut group.members {
        for file in &mut member.files {
            stage::repair(host, file)?;
            if file.action == FileAction::Repair {
                member.report.changed_files.push(file.path.clone());
            }
        }
    }
    Ok(())
}

/// The files are right; a reload or a look is owed.
fn pay(group: &mut Group<'_>) -> Result<(), Error> {
    repair_files(group)?;
    let context = group.context;
    let forced = context.force();
    let served = |member: &Member| prove::serves(&member.baseline, member.report.fingerprint.wanted.as_deref());
    if !forced && group.members.iter().all(served) {
        for member in &mut group.members {
            inspect::reached(member, crate::report::Rung::V6);
        }
        let adopt: Vec<bool> = group.members.iter().map(|member| !member.was_told()).collect();
        group.acknowledge(false);
        for (member, adopt) in group.members.iter_mut().zip(adopt) {
            if adopt && member.report.changed_files.is_empty() {
                member.report.outcome = Outcome::Unchanged;
                member.report.live = Live::Unchanged;
            }
        }
        return Ok(());
    }
    let looks_only = |member: &Member| member.was_told() && member.baseline.iter().all(Option::is_none);
    if forced || !group.members.iter().all(looks_only) {
        group.validate_live()?;
        // A crash or a failure from here on leaves the debt where the next run finds it.
        for member in &group.members {
            group
                .state
                .remove_marker(group.host(), member.name())
                .map_err(|error| invalid(group.state.targets.path(), "cannot be written", error))?;
        }
        group.reload()?;
    }
    group.verify()?;
    group.acknowledge(false);
    Ok(())
}

/// New bytes.
fn change(group: &mut Group<'_>, us: &Identity) -> Result<(), Error> {
    group.id = next_id(group);
    let mut round = Vec::new();
    let prepared = stage_and_record(group, us, &mut round);
    if let Err(error) = prepared {
        group.unstage();
        if let Some(journal) = group.journal.take() {
            let _swept_by_recovery = group.host().unlink(&group.state.journal, &journal.file);
        }
        return Err(error);
    }
    match switch_and_prove(group) {
        Ok(()) => group.acknowledge(true),
        Err(error) => return Err(group.roll_back(error)),
    }
    Ok(())
}

fn stage_and_record(group: &mut Group<'_>, us: &Identity, round: &mut Vec<crate::host::SyncPoint>) -> Result<(), Error> {
    group.stage(us, round)?;
    group.check_time()?;
    group.validate()?;
    group.check_time()?;
    group.record(std::mem::take(round))?;
    group.check_time()
}

fn switch_and_prove(group: &mut Group<'_>) -> Result<(), Error> {
    group.switch()?;
    group.check_time()?;
    group.validate_live()?;
    group.check_time()?;
    group.reload()?;
    group.check_time()?;
    group.verify()
}

/// Numbers grow and never repeat, whatever the clock does.
fn next_id(group: &Group<'_>) -> u64 {
    let sequence = |member: &Member| member.marker.as_ref().map_or(0, |marker| marker.sequence);
    group.members.iter().map(sequence).max().unwrap_or_default() + 1
}

/// Where a marker was lost, the sets and the last number are found by looking: a new marker must not forget them.
fn find_sets(group: &mut Group<'_>) -> Result<(), Error> {
    for index in 0..group.members.len() {
        if group.members[index].marker.is_none() {
            let sets = group.state.sets_of(group.host(), group.members[index].name())?;
            let last = sets.last().copied();
            group.members[index].marker = last.map(|sequence| Marker { sequence, sets, ..Marker::default() });
        }
    }
    Ok(())
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
    state.append_history(context.host(), &line).map_err(|error| invalid(state.root.path(), "takes no history", error))
}

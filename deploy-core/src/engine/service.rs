//! One deployment of everything that shares a service: locked, settled, looked at, carried out.

use crate::context::Context;
use crate::destination::{Place, Resolver};
use crate::engine::acknowledge::set_name;
use crate::engine::group::{Group, Member, plan_digest};
use crate::engine::overview::{FileAction, RecoveryScope, TargetState};
use crate::engine::{generation, inspect, prove, recover, second_names, stage};
use crate::error::{Error, ErrorKind};
use crate::host::{Identity, SyncPoint};
use crate::journal::Journal;
use crate::lock::{self, LockKeys, Locks};
use crate::plan::Plan;
use crate::report::{Live, Outcome, Rung, Stage};
use crate::state::{LazyState, Marker, State, invalid, read_marker_again};

/// Prepares a plan anew if what it rests on has changed.
pub(super) type Again<'a> = &'a dyn Fn(&str) -> Option<Plan>;

/// One deployment of all; if it fails and everything is back, each by itself.
pub(super) fn together(members: Vec<Member>, context: &Context, state: &LazyState, again: Again<'_>) -> Vec<Member> {
    let mut retry: Vec<Member> = if members.len() > 1 { members.iter().map(Member::fresh).collect() } else { Vec::new() };
    let done = once(members, context, state, again);
    let misconfigured = |error: &Error| error.kind() == ErrorKind::ConfigurationInvalid;
    let failed = |member: &Member| {
        matches!(member.report.outcome, Outcome::RolledBack | Outcome::Rejected)
            && !member.report.error.as_ref().is_some_and(misconfigured)
    };
    if context.cancellation().is_cancelled() {
        return done;
    }
    let mut ended = Vec::with_capacity(done.len());
    for member in done {
        let Some(index) = retry.iter().position(|fresh| failed(&member) && fresh.name() == member.name()) else {
            ended.push(member);
            continue;
        };
        let mut fresh = retry.swap_remove(index);
        fresh.marker = member.marker;
        fresh.warn(context, "the deployment together with the other targets of the service failed; it was tried by itself");
        ended.extend(once(vec![fresh], context, state, again));
    }
    ended
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
            member.marker = read_marker_again(context, &member.plan.name, member.marker.take())?;
        }
        return Ok((locks, places));
    }
}

/// Two members must not write one file.
fn one_writer_each(members: &[Member], places: &[Vec<Place>]) -> Result<(), Error> {
    let all: Vec<(&Member, &Place)> =
        members.iter().zip(places).flat_map(|(member, own)| own.iter().map(move |place| (member, place))).collect();
    for (index, (member, place)) in all.iter().enumerate() {
        let clashes = |(other, there): &&(&Member, &Place)| {
            there.same(place) || (other.name() != member.name() && there.shares_generations(place))
        };
        if let Some((other, _)) = all[..index].iter().find(clashes) {
            return Err(Error::new(
                ErrorKind::ConfigurationInvalid,
                format!("the targets {} and {} both write {}", other.name(), member.name(), place.path().display()),
            )
            .with_next_step("give every target files of its own"));
        }
    }
    Ok(())
}

fn settle_before(members: &mut [Member], context: &Context, state: &State, journal: Journal) -> Result<(), Error> {
    members.iter_mut().for_each(|member| member.enter(context, Stage::Recover));
    let hooks = |target: &str| members.iter().find(|member| member.plan.name == target).map(|member| member.plan.hooks.clone());
    let recovered = recover::settle(context, state, journal, &hooks, RecoveryScope::Full);
    for member in members.iter_mut() {
        member.warn(context, format!("an interrupted deployment was found: {}", recovered.action));
        member.report.recovered = true;
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
    second_names::sweep(context, state, us, &mut places)?;
    if inspect::reads_hold(member, context)? {
        return inspect::inspect(member, context, us, places);
    }
    let conflict = || {
        Error::new(ErrorKind::Conflict, "a file that the plan was made from changes all the time")
            .with_next_step("find out who writes it; then run again")
    };
    let plan = again(&member.plan.name).ok_or_else(conflict)?;
    member.digest = plan_digest(&plan);
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
    let seen: Vec<bool> = group.members.iter().map(Member::was_seen).collect();
    for (member, seen) in group.members.iter_mut().zip(seen) {
        // The bytes are those that were seen then.
        if seen {
            inspect::reached(member, Rung::V6);
        }
    }
    group.acknowledge(false);
    group.members.iter_mut().for_each(|member| member.report.outcome = Outcome::Repaired);
    Ok(())
}

fn repair_files(group: &mut Group<'_>) -> Result<(), Error> {
    let host = group.context.host();
    let mut round = Vec::new();
    for member in &mut group.members {
        generation::repair(host, member, &mut round)?;
        for file in &mut member.files {
            stage::repair(host, file)?;
            if file.action == FileAction::Repair {
                member.report.changed_files.push(file.path.clone());
                round.push(SyncPoint::File(file.place.directory.clone(), file.place.name.clone()));
            }
        }
    }
    host.sync(&round)
        .map_err(|error| Error::new(ErrorKind::NotDurable, "owner and mode could not be put on the medium").with_source(error))
}

/// The files are right; a reload or a look is owed.
fn pay(group: &mut Group<'_>) -> Result<(), Error> {
    repair_files(group)?;
    let context = group.context;
    let forced = context.force();
    let served = |member: &Member| prove::serves(&member.baseline, member.report.fingerprint.wanted.as_deref());
    if !forced && group.members.iter().all(served) {
        for member in &mut group.members {
            inspect::reached(member, Rung::V6);
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
    group.id = next_id(group)?;
    let mut round = Vec::new();
    let prepared = stage_and_record(group, us, &mut round);
    if let Err(error) = prepared {
        group.unstage();
        group.forget();
        return Err(error);
    }
    match switch_and_prove(group) {
        Ok(()) => group.acknowledge(true),
        Err(error) => return Err(group.roll_back(error)),
    }
    Ok(())
}

fn stage_and_record(group: &mut Group<'_>, us: &Identity, round: &mut Vec<SyncPoint>) -> Result<(), Error> {
    if group.id == FIRST {
        group.state.make_durable(group.host())?;
    }
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

/// The number of the first deployment.
const FIRST: u64 = 1;

/// Numbers grow and never repeat, whatever the clock does.
fn next_id(group: &Group<'_>) -> Result<u64, Error> {
    let sequence = |member: &Member| member.marker.as_ref().map_or(0, |marker| marker.sequence);
    let last = group.members.iter().map(sequence).max().unwrap_or_default();
    let last = last.max(generation::latest(group.host(), &group.members)?);
    last.checked_add(FIRST).ok_or_else(|| {
        let targets = group.state.targets.path().display();
        Error::new(ErrorKind::StateInvalid, format!("a marker or set in {targets} has the largest number there is"))
            .with_next_step("that cannot be of this program: find out what wrote it, and remove it")
    })
}

/// Where a marker was lost, the sets and the last number are found by looking: a new marker must not forget them. One that
/// is older than a set came back with a power cut, and counts as lost.
fn find_sets(group: &mut Group<'_>) -> Result<(), Error> {
    for index in 0..group.members.len() {
        let member = &group.members[index];
        let is_set = |id: u64| {
            let set = group.host().status(&group.state.targets, &set_name(member.name(), id));
            set.map_err(|error| invalid(group.state.targets.path(), "cannot be looked at", error))
        };
        let lost = match &member.marker {
            Some(marker) => is_set(marker.sequence.saturating_add(1))?.is_some(),
            None => true,
        };
        if lost {
            let sets = group.state.sets_of(group.host(), group.members[index].name())?;
            let last = sets.last().copied();
            group.members[index].marker = last.map(|sequence| Marker { sequence, sets, ..Marker::default() });
        }
    }
    Ok(())
}

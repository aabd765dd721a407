//! The operator's rollback: a plan made of backups, carried out like any other.

use std::ffi::OsStr;
use std::time::Instant;

use crate::context::Context;
use crate::engine::acknowledge::{hidden_of, set_name};
use crate::engine::deploy::{apply_one, finish};
use crate::engine::group::outcome;
use crate::engine::job::Job;
use crate::error::{Error, ErrorKind};
use crate::host::Attributes;
use crate::journal::{self, Begin, FileRecord};
use crate::plan::{Layout, Plan, PlanFile};
use crate::report::Report;
use crate::secret::SecretBytes;
use crate::settings::Mode;
use crate::state::{LazyState, State, read_marker};
use crate::target::Recovery;
use crate::vault::HIDDEN;

const SIZE_LIMIT: u64 = 64 << 20;

/// See [`crate::rollback`].
pub(super) fn go_back(job: &Job, to: Option<&str>, context: &Context) -> Report {
    let started = Instant::now();
    match plan(job, to, context) {
        Ok(plan) => apply_one(plan, &job.kind, context),
        Err(error) => {
            let mut report = Report::new(&job.name, &job.kind);
            report.outcome = outcome(&error);
            report.live = error.live();
            report.error = Some(error.at(report.stage));
            finish(report, started, context, &LazyState::default())
        }
    }
}

/// What stood there before deployment `to`.
fn plan(job: &Job, to: Option<&str>, context: &Context) -> Result<Plan, Error> {
    let Recovery::Files(hooks) = job.target.recovery() else {
        return Err(Error::new(ErrorKind::PlanInvalid, "this kind of target keeps no earlier states here")
            .with_next_step("deploy the earlier certificate again"));
    };
    context.host().reach()?;
    let state = State::open(context)?;
    let sets = sets(job, context, &state)?;
    let chosen = choose(&sets, to, &job.name)?;
    let mut plan = Plan::new(&job.name).with_hooks(hooks);
    plan.going_back = true;
    plan.allow_unsafe_parent = true;
    plan.allow_in_place = true;
    plan.backups = sets[chosen].members.first().map_or(3, |member| member.backups);
    // The files of a generation are in `current` of the directory of all.
    let in_generations = sets[chosen].files.iter().find(|record| record.generation.is_some());
    if let Some(directory) = in_generations.and_then(|record| record.path.path().parent()?.parent()) {
        plan.layout = Layout::Generation(directory.to_owned());
    }
    for record in &sets[chosen].files {
        plan.files.push(file(record, &sets[chosen..], context)?);
    }
    Ok(plan)
}

/// Every set that is kept, the oldest first.
fn sets(job: &Job, context: &Context, state: &State) -> Result<Vec<Begin>, Error> {
    let ids = match read_marker(context, &job.name)? {
        Some(marker) => marker.sets,
        None => state.sets_of(context.host(), &job.name)?,
    };
    let mut sets = Vec::with_capacity(ids.len());
    for id in ids {
        sets.extend(journal::read(context.host(), &state.targets, &set_name(&job.name, id))?.and_then(|set| set.begin));
    }
    Ok(sets)
}

fn choose(sets: &[Begin], to: Option<&str>, target: &str) -> Result<usize, Error> {
    let found = match to {
        None => sets.len().checked_sub(1),
        Some(id) => sets.iter().position(|set| set.id.to_string() == id.trim_start_matches('0')),
    };
    found.ok_or_else(|| {
        let known: Vec<String> = sets.iter().map(|set| set.id.to_string()).collect();
        let message = match to {
            Some(id) if !known.is_empty() => format!("{target} has no earlier state {id}, only {}", known.join(", ")),
            _ => format!("{target} has no earlier state to go back to"),
        };
        Error::new(ErrorKind::PlanInvalid, message).with_next_step("see `certdeploy status` for what there is")
    })
}

/// The file as it was before the first of these sets: backed up by the first one that changed it, or still in place.
fn file(record: &FileRecord, sets: &[Begin], context: &Context) -> Result<PlanFile, Error> {
    let path = record.path.path();
    if record.old_is_link {
        return Err(was_a_link(record));
    }
    let Some(old) = &record.old else {
        return Ok(PlanFile::absent(path, record.role));
    };
    let changed = sets.iter().flat_map(|set| &set.files).find(|other| other.path == record.path && other.changes);
    let (bytes, attributes) = match changed.and_then(|changed| Some((changed, changed.backup_name()?))) {
        Some((changed, backup)) => backed_up(changed, backup, context)?,
        None => (in_place(record, context)?, None),
    };
    if crate::digest::hex(&crate::digest::sha256(bytes.expose())) != old.sha256 {
        return Err(Error::new(ErrorKind::PlanInvalid, format!("the backup of {} is not what was recorded", path.display()))
            .with_next_step("choose another state with --to, or deploy the earlier certificate again"));
    }
    let mut file = PlanFile::new(path, record.role, bytes)
        .with_owner(Some(old.uid.to_string()))
        .with_group(Some(old.gid.to_string()))
        .with_mode(Some(Mode::new(old.mode)));
    file.attributes = attributes;
    // A new file with the same bytes: its server is told by that.
    file.touched = record.changes && record.keeps_its_bytes();
    Ok(file)
}

/// Without this, going back would take the file away and leave nothing.
fn was_a_link(record: &FileRecord) -> Error {
    let path = record.path.path().display();
    let error =
        Error::new(ErrorKind::PlanInvalid, format!("{path} was a symbolic link then, which a rollback cannot bring back"));
    match &record.backup {
        Some(backup) => {
            let kept = record.directory.path().join(HIDDEN).join(&record.hidden).join(backup);
            error.with_next_step(format!("bring it back by hand: cp -d --remove-destination {} {path}", kept.display()))
        }
        None => error,
    }
}

/// The backup of a file, with its attributes where the host has any.
fn backed_up(record: &FileRecord, backup: &OsStr, context: &Context) -> Result<(SecretBytes, Option<Attributes>), Error> {
    let host = context.host();
    let lost = |error| lost(record).with_source(error);
    let hidden = hidden_of(host, record).map_err(lost)?;
    let bytes = found(host.read(&hidden, backup, SIZE_LIMIT), record)?;
    let attributes = host.facilities().attributes.then(|| host.attributes(&hidden, backup)).transpose().map_err(lost)?;
    Ok((bytes, attributes))
}

fn in_place(record: &FileRecord, context: &Context) -> Result<SecretBytes, Error> {
    found(context.host().read_path(&record.real_path(), SIZE_LIMIT), record)
}

fn found(read: std::io::Result<Option<(SecretBytes, crate::host::Status)>>, record: &FileRecord) -> Result<SecretBytes, Error> {
    match read {
        Ok(Some((bytes, _))) => Ok(bytes),
        Ok(None) => Err(lost(record)),
        Err(error) => Err(lost(record).with_source(error)),
    }
}

fn lost(record: &FileRecord) -> Error {
    Error::new(ErrorKind::PlanInvalid, format!("the old content of {} is gone", record.path.path().display()))
        .with_next_step("choose another state with --to, or deploy the earlier certificate again")
}

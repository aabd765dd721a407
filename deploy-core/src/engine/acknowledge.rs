//! Stage 11: the success is recorded, the journal becomes a set, and old sets go.

use std::ffi::{OsStr, OsString};

use crate::context::Context;
use crate::engine::generation;
use crate::engine::group::{Group, Member};
use crate::engine::prove::verified;
use crate::engine::switch::hold_after;
use crate::error::{Error, ErrorKind};
use crate::hooks::Verify;
use crate::host::{Directory, Host};
use crate::journal::{self, Begin, Journal};
use crate::report::{Live, Outcome, Stage};
use crate::state::{Marker, State, Verified};
use crate::vault::HIDDEN;

impl Group<'_> {
    /// Records the success of every member. Nothing here can take it back: what fails is a warning, and costs a reload at most.
    ///
    /// The journal goes first: as long as it is there, it is what the next run goes by, and no marker is written. The marker
    /// goes last: without one, the next run looks for the sets, so that one that was pruned half-way is not forgotten.
    pub(super) fn acknowledge(&mut self, changed: bool) {
        self.enter(Stage::Acknowledge);
        let journal = self.journal.take();
        if let Some(Err(error)) = journal.as_ref().map(|journal| keep_as_sets(self.context.host(), self.state, journal)) {
            for member in &mut self.members {
                conclude(member, changed);
                member.warn(self.context, format!("the journal could not be put away, so that the next run does it: {error}"));
            }
            return;
        }
        for member in &mut self.members {
            conclude(member, changed);
            let mut marker = marker(member, self.id, journal.is_some());
            prune(self.context, self.state, member, &mut marker);
            // Without a journal, too: what was lost with the last marker may be that there is something to do.
            match generation::retire(self.context, self.state, member, &marker.sets) {
                Ok(open) => marker.open = open,
                Err(error) => member.warn(self.context, error.full_message()),
            }
            if let Err(error) = self.state.write_marker(self.context.host(), member.name(), &marker) {
                member.warn(
                    self.context,
                    format!("the marker could not be written, so that the next run reloads once more: {error}"),
                );
            }
        }
    }
}

/// Decides the outcome.
fn conclude(member: &mut Member, changed: bool) {
    let waits = matches!(member.plan.hooks.verify, Verify::Endpoints { .. });
    member.report.live = Live::Applied;
    member.report.outcome = match (changed, verified(member)) {
        (_, Verified::Nobody) if changed || waits => Outcome::Unverified,
        (true, _) => Outcome::Changed,
        (false, _) => Outcome::Repaired,
    };
}

fn marker(member: &Member, id: u64, journaled: bool) -> Marker {
    let previous = member.marker.clone().unwrap_or_default();
    let mut sets = previous.sets;
    sets.extend(journaled.then_some(id));
    Marker {
        version: Marker::VERSION,
        plan: member.digest.clone(),
        leaf: member.report.fingerprint.wanted.clone(),
        reloaded: true,
        verified: verified(member),
        sequence: id.max(previous.sequence),
        sets,
        hold: if journaled || member.plan.going_back { hold_after(member) } else { previous.hold },
        open: member.generations().is_some(),
        note: None,
        at: None,
    }
}

fn prune(context: &Context, state: &State, member: &mut Member, marker: &mut Marker) {
    if marker.sets.len() > member.plan.backups {
        member.enter(context, Stage::Prune);
        for problem in prune_sets(context.host(), state, member.name(), member.plan.backups, marker) {
            member.warn(context, problem);
        }
    }
}

/// Removes the oldest sets beyond those that are kept; says which could not be removed.
pub(super) fn prune_sets(host: &dyn Host, state: &State, target: &str, kept: usize, marker: &mut Marker) -> Vec<String> {
    let gone = marker.sets.len().saturating_sub(kept);
    let remove = |id| {
        let error = remove_set(host, state, target, id).err()?;
        Some(format!("backup {id} could not be removed: {}", error.full_message()))
    };
    marker.sets.drain(..gone).filter_map(remove).collect()
}

/// The journal becomes the manifest of a set: this rename is the commit.
pub(super) fn keep_as_sets(host: &dyn Host, state: &State, journal: &Journal) -> std::io::Result<()> {
    let Some(begin) = &journal.begin else { return host.unlink(&state.journal, &journal.file) };
    if let [member] = begin.members.as_slice() {
        let name = set_name(&member.target, begin.id);
        return host.rename((&state.journal, &journal.file), (&state.targets, &name));
    }
    for index in 0..begin.members.len() {
        let own = alone(begin, index);
        let name = set_name(&own.members[0].target, begin.id);
        host.unlink(&state.targets, &name)?;
        // A run that was killed here left a part of it, to which this would be added.
        host.unlink(&state.targets, &journal::file_name(&own))?;
        let written = Journal::create(host, &state.targets, &own)?;
        host.rename((&state.targets, &written.file), (&state.targets, &name))?;
    }
    host.unlink(&state.journal, &journal.file)
}

pub(super) fn set_name(target: &str, id: u64) -> OsString {
    format!("{target}-{id:08}.set").into()
}

/// One member of a deployment of several.
fn alone(begin: &Begin, index: usize) -> Begin {
    let mut own = begin.clone();
    own.members = vec![begin.members[index].clone()];
    own.files.retain(|file| file.member == index);
    own.files.iter_mut().for_each(|file| file.member = 0);
    own
}

/// Removes the backups of a set, then the set.
fn remove_set(host: &dyn Host, state: &State, target: &str, id: u64) -> Result<(), Error> {
    let name = set_name(target, id);
    let Some(set) = journal::read(host, &state.targets, &name)? else { return Ok(()) };
    let failed = |error: std::io::Error| Error::new(ErrorKind::StateInvalid, "it is still there").with_source(error);
    let mut known: Option<(&journal::FileRecord, Directory)> = None;
    for file in set.begin.iter().flat_map(|begin| &begin.files) {
        // A generation goes as a whole, when no reader can be in it.
        let Some(backup) = file.backup.as_ref().filter(|_| file.generation.is_none()) else { continue };
        let hidden = match known.take().filter(|(other, _)| (&other.directory, &other.hidden) == (&file.directory, &file.hidden))
        {
            Some((_, hidden)) => hidden,
            None => match hidden_of(host, file) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                hidden => hidden.map_err(failed)?,
            },
        };
        host.unlink(&hidden, OsStr::new(backup)).map_err(failed)?;
        known = Some((file, hidden));
    }
    host.unlink(&state.targets, &name).map_err(failed)
}

/// Opens the directory of a file's backup.
pub(super) fn hidden_of(host: &dyn Host, file: &journal::FileRecord) -> std::io::Result<Directory> {
    let parent = host.open_directory(file.directory.path())?;
    if let Some(generation) = &file.generation {
        return host.open_child(&parent, OsStr::new(generation.old.as_deref().unwrap_or_default()));
    }
    let hidden = host.open_child(&parent, OsStr::new(HIDDEN))?;
    host.open_child(&hidden, OsStr::new(&file.hidden))
}

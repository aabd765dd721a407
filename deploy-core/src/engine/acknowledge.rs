//! Stage 11: the success is recorded, the journal becomes a set, and old sets go.

use std::ffi::{OsStr, OsString};

use crate::context::Context;
use crate::engine::group::{Group, Member};
use crate::engine::prove::verified;
use crate::engine::switch::hold_after;
use crate::error::{Error, ErrorKind};
use crate::host::{Directory, Host};
use crate::journal::{self, Begin, Journal};
use crate::report::{Live, Outcome, Stage};
use crate::state::{Marker, State, Verified};
use crate::vault::HIDDEN;

impl Group<'_> {
    /// Records the success of every member. Nothing here can take it back: what fails is a warning, and costs a reload at most.
    pub(super) fn acknowledge(&mut self, changed: bool) {
        self.enter(Stage::Acknowledge);
        let journal = self.journal.take();
        let sets = journal.as_ref().map(|journal| keep_as_sets(self.context.host(), self.state, journal));
        for member in &mut self.members {
            acknowledge(self.context, self.state, member, self.id, changed, journal.is_some());
            if let Some(Err(error)) = &sets {
                member.warn(self.context, format!("this deployment cannot be rolled back to: {error}"));
            }
        }
        self.enter_prune();
    }

    fn enter_prune(&mut self) {
        let (context, state) = (self.context, self.state);
        for member in &mut self.members {
            let Some(mut marker) = member.marker.clone() else { continue };
            if marker.sets.len() <= member.plan.backups {
                continue;
            }
            member.enter(context, Stage::Prune);
            let gone = marker.sets.len() - member.plan.backups;
            for id in marker.sets.drain(..gone) {
                if let Err(error) = remove_set(context.host(), state, member.name(), id) {
                    member.warn(context, format!("backup {id} could not be removed: {}", error.full_message()));
                }
            }
            if let Err(error) = state.write_marker(context.host(), member.name(), &marker) {
                member.warn(context, format!("the marker could not be written: {error}"));
            }
            member.marker = Some(marker);
        }
    }
}

/// Writes the marker and decides the outcome.
fn acknowledge(context: &Context, state: &State, member: &mut Member, id: u64, changed: bool, journaled: bool) {
    let verified = verified(member);
    let hold = if journaled { hold_after(member) } else { member.marker.as_ref().and_then(|marker| marker.hold.clone()) };
    let previous = member.marker.take().unwrap_or_default();
    let mut sets = previous.sets;
    if journaled {
        sets.push(id);
    }
    let marker = Marker {
        version: Marker::VERSION,
        plan: member.digest.clone(),
        leaf: member.report.fingerprint.wanted.clone(),
        reloaded: true,
        verified,
        sequence: id.max(previous.sequence),
        sets,
        hold,
    };
    if let Err(error) = state.write_marker(context.host(), member.name(), &marker) {
        member.warn(context, format!("the marker could not be written, so that the next run reloads once more: {error}"));
    }
    member.marker = Some(marker);
    member.report.live = Live::Applied;
    let waits = matches!(member.plan.hooks.verify, crate::plan::Verify::Endpoints { .. });
    member.report.outcome = match (changed, verified) {
        (_, Verified::Nobody) if changed || waits => Outcome::Unverified,
        (true, _) => Outcome::Changed,
        (false, _) => Outcome::Repaired,
    };
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
        let Some(backup) = &file.backup else { continue };
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

pub(super) fn hidden_of(host: &dyn Host, file: &journal::FileRecord) -> std::io::Result<Directory> {
    let parent = host.open_directory(file.directory.path())?;
    let hidden = host.open_child(&parent, OsStr::new(HIDDEN))?;
    host.open_child(&hidden, OsStr::new(&file.hidden))
}

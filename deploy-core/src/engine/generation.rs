//! The layout `generation` in the stages: what is staged where, what is switched, how it goes back, what becomes of the old.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::time::Duration;

use crate::context::Context;
use crate::digest::{hex, sha256};
use crate::engine::acknowledge::set_name;
use crate::engine::group::{File, Member};
use crate::engine::undo::{Now, Recorded};
use crate::error::{Error, ErrorKind};
use crate::generation::{self, CURRENT, Generations, Pointer};
use crate::host::{Directory, Host, Identity, SyncPoint};
use crate::journal::{self, FileRecord, GenerationRecord};
use crate::lock::{self, LockKeys};
use crate::secret::SecretBytes;
use crate::state::{LazyState, Marker, State, invalid, read_marker};

const SIZE_LIMIT: u64 = 64 << 20;

impl Member {
    /// Its generations, if it has that layout and was inspected.
    pub(super) fn generations(&self) -> Option<&Generations> {
        self.files.first()?.place.generations.as_ref()
    }
}

/// Stage 5: an empty generation that nobody else can enter, in a directory that was made, claimed and swept.
pub(super) fn begin(
    context: &Context,
    state: &State,
    us: &Identity,
    id: u64,
    member: &mut Member,
    round: &mut Vec<SyncPoint>,
) -> Result<(), Error> {
    let Some(mut generations) = member.generations().cloned() else { return Ok(()) };
    let host = context.host();
    let directory = generations.establish(context, us, member.name(), round)?;
    member.files.iter_mut().for_each(|file| file.place.generations = Some(generations.clone()));
    let failed = |error: io::Error| {
        Error::new(ErrorKind::StageFailed, format!("{} takes no new generation", directory.path().display()))
            .with_next_step(crate::engine::advice(&error, directory.path()))
            .with_source(error)
    };
    let marker = member.marker.clone().unwrap_or_default();
    // What cannot be swept is in nobody's way, and is told at the end.
    if let Ok(kept) = kept(host, state, member.name(), &marker.sets) {
        let _told_at_the_end = generation::tidy(host, &directory, &kept, marker.sequence, host.now());
    }
    let name = generation::name(id);
    host.create_child(&directory, OsStr::new(&name)).map_err(failed)?;
    let new = host.open_child(&directory, OsStr::new(&name)).map_err(failed)?;
    round.push(SyncPoint::Directory(new.clone()));
    member.files.iter_mut().for_each(|file| file.hidden = Some(new.clone()));
    Ok(())
}

/// Every file is there, with its own mode: readers may come.
pub(super) fn open_to_readers(host: &dyn Host, member: &Member) -> Result<(), Error> {
    let staged = member.generations().and(member.files.first()).and_then(|file| file.hidden.as_ref());
    staged.map_or(Ok(()), |staged| set_mode(host, staged))
}

/// Takes away what was staged. Errors are of no use to anybody: the next run sweeps.
pub(super) fn unstage(host: &dyn Host, id: u64, member: &Member) {
    let staged = member.generations().filter(|_| member.files.iter().any(|file| file.hidden.is_some()));
    if let Some(directory) = staged.and_then(|generations| generations.directory.as_ref()) {
        let _swept_later = generation::remove(host, directory, &generation::name(id));
    }
}

/// Stage 8: the first file of a member switches all of them.
pub(super) fn switch(host: &dyn Host, id: u64, generations: &Generations) -> io::Result<()> {
    let Some(directory) = &generations.directory else { return Err(io::ErrorKind::NotFound.into()) };
    let new = generation::name(id);
    if generation::points_to(host, directory)? == Pointer::Generation(new.clone()) {
        return Ok(());
    }
    let old = generations.current.as_ref().map(|current| current.name.as_str());
    generation::flip(host, directory, old, &new)
}

/// What the journal says of a file.
pub(super) fn record(id: u64, file: &File) -> Option<GenerationRecord> {
    let generations = file.place.generations.as_ref()?;
    let old = generations.current.as_ref().map(|current| current.name.clone());
    let new = if file.switches() { Some(generation::name(id)) } else { old.clone() };
    Some(GenerationRecord { parent_id: generations.lock().0, old, new: new.unwrap_or_default() })
}

/// What stands at the place of a recorded file: by where the link leads, confirmed by the digest of the file.
pub(super) fn now(host: &dyn Host, file: &Recorded<'_>, generation: &GenerationRecord) -> io::Result<Now> {
    let (old, new) = (&file.record.old, &file.record.new);
    let (now, facts, name) = match generation::points_to(host, &file.directory)? {
        Pointer::Nowhere if generation.old.is_none() => return Ok(Now::Old),
        Pointer::Generation(name) if name == generation.new => (Now::New, new, name),
        Pointer::Generation(name) if generation.old.as_ref() == Some(&name) => (Now::Old, old, name),
        _ => return Ok(Now::Foreign),
    };
    let found = content(host, &file.directory, &name, file.record)?.map(|bytes| hex(&sha256(bytes.expose())));
    Ok(if found.as_ref() == facts.as_ref().map(|facts| &facts.sha256) { now } else { Now::Foreign })
}

/// Puts the link back, if every old file that it will show is what it was (R11).
pub(super) fn restore(
    host: &dyn Host,
    file: &Recorded<'_>,
    generation: &GenerationRecord,
    files: &[Recorded<'_>],
) -> Result<(), Error> {
    let failed = |error: io::Error| file.failed("could not be put back").with_source(error);
    let Some(old) = &generation.old else {
        return host.unlink(&file.directory, OsStr::new(CURRENT)).map_err(failed);
    };
    for other in files.iter().filter(|other| other.record.member == file.record.member) {
        let Some(facts) = &other.record.old else { continue };
        let unread = |error| other.failed("has a backup that cannot be read").with_source(error);
        let bytes = content(host, &file.directory, old, other.record).map_err(unread)?;
        let bytes = bytes.ok_or_else(|| other.failed("has lost its backup"))?;
        if hex(&sha256(bytes.expose())) != facts.sha256 {
            return Err(other.failed("has a backup that is not the old file any more"));
        }
    }
    generation::flip(host, &file.directory, Some(old), old).map_err(failed)
}

/// The old content of a recorded file.
pub(super) fn old_content(
    host: &dyn Host,
    file: &Recorded<'_>,
    generation: &GenerationRecord,
) -> io::Result<Option<SecretBytes>> {
    generation.old.as_ref().map_or(Ok(None), |old| content(host, &file.directory, old, file.record))
}

fn content(host: &dyn Host, directory: &Directory, generation: &str, record: &FileRecord) -> io::Result<Option<SecretBytes>> {
    let generation = match host.open_child(directory, OsStr::new(generation)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let read = host.read(&generation, &record.name.0, SIZE_LIMIT)?;
    Ok(read.map(|(bytes, _)| bytes))
}

/// Whether readers can enter the current generation, seen without a lock.
pub(super) fn is_open(host: &dyn Host, member: &Member) -> bool {
    let Some(directory) = member.plan.layout.directory() else { return true };
    let current = host.open_directory(&directory.join(CURRENT));
    current.is_ok_and(|current| current.status().mode & 0o777 == generation::OPEN)
}

/// Whether the mode of the current generation has drifted.
pub(super) fn has_drifted(member: &Member) -> bool {
    let current = member.generations().and_then(|generations| generations.current.as_ref());
    current.is_some_and(|current| current.directory.status().mode & 0o777 != generation::OPEN)
}

/// Lets readers enter the current generation again. What has to be synced is added to `round`.
pub(super) fn repair(host: &dyn Host, member: &Member, round: &mut Vec<SyncPoint>) -> Result<(), Error> {
    let current = member.generations().filter(|_| has_drifted(member)).and_then(|generations| generations.current.as_ref());
    let Some(current) = current else { return Ok(()) };
    round.push(SyncPoint::Directory(current.directory.clone()));
    set_mode(host, &current.directory)
}

fn set_mode(host: &dyn Host, directory: &Directory) -> Result<(), Error> {
    host.set_directory_mode(directory, generation::OPEN).map_err(|error| {
        Error::new(ErrorKind::StageFailed, format!("{} cannot be opened to its readers", directory.path().display()))
            .with_next_step(crate::engine::advice(&error, directory.path()))
            .with_source(error)
    })
}

/// The largest number that a generation of any of these members has.
pub(super) fn latest(host: &dyn Host, members: &[Member]) -> Result<u64, Error> {
    let directories = members.iter().filter_map(|member| member.generations()?.directory.as_ref());
    directories
        .map(|directory| generation::latest(host, directory).map_err(|error| unlisted(directory, error)))
        .try_fold(0, |largest, number| Ok(largest.max(number?)))
}

/// After a deployment: what no set needs goes, if its time has come. Says whether an old generation is still open.
pub(super) fn retire(context: &Context, state: &State, member: &Member, sets: &[u64]) -> Result<bool, Error> {
    let Some(directory) = member.generations().and_then(|generations| generations.directory.as_ref()) else { return Ok(false) };
    let host = context.host();
    let kept = kept(host, state, member.name(), sets)?;
    // Only what was live before this run can have been taken back by hand.
    let last = member.marker.as_ref().map_or(0, |marker| marker.sequence);
    generation::tidy(host, directory, &kept, last, host.now()).map_err(|error| unlisted(directory, error))
}

/// The same in any later run, apart from all else that it does: one look where it is not yet, or no more, to be done.
pub(super) fn retire_later(context: &Context, state: &LazyState, member: &mut Member) -> Result<(), Error> {
    let host = context.host();
    let (Some(path), Some(true)) = (member.plan.layout.directory(), member.marker.as_ref().map(|marker| marker.open)) else {
        return Ok(());
    };
    let link = path.join(CURRENT);
    let status = host.path_status(&link).map_err(|error| invalid(&link, "cannot be looked at", error))?;
    if !status.is_some_and(|status| generation::is_past(status.modified, host.now())) {
        return Ok(());
    }
    let state = state.open(context)?;
    // Who holds the target has a generation to make, and does this on the way.
    let only_now = context.undisturbed(Duration::ZERO);
    let locks = match lock::acquire(&only_now, state, &LockKeys::of_targets([member.name().to_owned()])) {
        Err(error) if error.kind() == ErrorKind::Locked => return Ok(()),
        locks => locks?,
    };
    let Some(marker) = read_marker(context, member.name())?.filter(|marker| marker.open) else { return Ok(()) };
    let directory = host.open_directory(path).map_err(|error| invalid(path, "cannot be opened", error))?;
    let kept = kept(host, state, member.name(), &marker.sets)?;
    let open =
        generation::tidy(host, &directory, &kept, marker.sequence, host.now()).map_err(|error| unlisted(&directory, error))?;
    let marker = Marker { open, ..marker };
    let written = state.write_marker(host, member.name(), &marker);
    written.map_err(|error| invalid(state.targets.path(), "cannot be written", error))?;
    drop(locks);
    member.marker = read_marker(context, member.name())?;
    Ok(())
}

/// The generations that the sets of a target go back to.
fn kept(host: &dyn Host, state: &State, target: &str, sets: &[u64]) -> Result<BTreeSet<u64>, Error> {
    let mut kept = BTreeSet::new();
    for &id in sets {
        let Some(begin) = journal::read(host, &state.targets, &set_name(target, id))?.and_then(|set| set.begin) else { continue };
        let old = begin.files.iter().filter_map(|file| file.generation.as_ref()?.old.as_deref());
        kept.extend(old.filter_map(generation::number));
    }
    Ok(kept)
}

fn unlisted(directory: &Directory, error: io::Error) -> Error {
    invalid(directory.path(), "has old generations that cannot be looked after", error)
}

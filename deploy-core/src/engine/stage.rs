//! Stage 5: the new files are written beside the old ones, and the old ones get a second name.

use std::ffi::OsStr;
use std::io;

use crate::context::Context;
use crate::destination::Place;
use crate::engine::group::{Backup, File, Group, Member};
use crate::engine::overview::FileAction;
use crate::engine::{advice, generation};
use crate::error::{Error, ErrorKind};
use crate::host::{Directory, FileKind, Host, Identity, SyncPoint};
use crate::report::Stage;
use crate::state::State;
use crate::vault;

impl Group<'_> {
    /// Opens the hidden directories, sweeps what a killed run left there, writes and links; in the layout `generation`,
    /// writes all files of a new one. Adds what has to be synced.
    pub(super) fn stage(&mut self, us: &Identity, round: &mut Vec<SyncPoint>) -> Result<(), Error> {
        self.enter(Stage::Stage);
        self.open_hidden(us, round)?;
        for member in &mut self.members {
            for (index, file) in member.files.iter_mut().enumerate().filter(|(_, file)| file.switches()) {
                stage(self.context.host(), self.id, index, file, round)?;
            }
            generation::open_to_readers(self.context.host(), member)?;
        }
        Ok(())
    }

    fn open_hidden(&mut self, us: &Identity, round: &mut Vec<SyncPoint>) -> Result<(), Error> {
        for member in &mut self.members {
            if member.generations().is_some() {
                if member.files.iter().any(File::switches) {
                    generation::begin(self.context, self.state, us, self.id, member, round)?;
                }
                continue;
            }
            let target = vault::target_directory(self.context, &member.plan.name);
            let kept = kept(member);
            for index in 0..member.files.len() {
                if !member.files[index].switches() {
                    continue;
                }
                let parent = member.files[index].place.directory.clone();
                let opened = member.files[..index].iter().find_map(|other| {
                    let same = other.place.directory.status().same_file(parent.status());
                    other.hidden.clone().filter(|_| same)
                });
                let hidden = match opened {
                    Some(hidden) => hidden,
                    None => {
                        let hidden = vault::open_or_create(self.context, us, &parent, &target, round)?;
                        sweep(self.context.host(), &hidden, self.state, &member.plan.name, &kept)?;
                        round.push(SyncPoint::Directory(hidden.clone()));
                        hidden
                    }
                };
                member.files[index].hidden = Some(hidden);
            }
        }
        Ok(())
    }

    /// Takes away what [`Group::stage`] made. Errors are of no use to anybody: the next run sweeps.
    pub(super) fn unstage(&mut self) {
        let host = self.context.host();
        for member in &self.members {
            for (index, file) in member.files.iter().enumerate() {
                let Some(hidden) = &file.hidden else { continue };
                let _swept_later = host.unlink(hidden, &file.staged_name(self.id, index));
                let _swept_later = host.unlink(hidden, &file.backup_name(self.id, index));
            }
            generation::unstage(host, self.id, member);
        }
    }
}

/// A run that died before its journal was written left second names of live files. They go before anybody looks at the
/// files, so that they are not taken for somebody else's hard links.
pub(super) fn sweep_second_names(
    member: &Member,
    context: &Context,
    state: &State,
    us: &Identity,
    places: &mut [Place],
) -> Result<(), Error> {
    let host = context.host();
    let target = vault::target_directory(context, member.name());
    for place in places {
        let Some(hidden) = beside_second_names(host, us, place, &target)? else { continue };
        sweep(host, &hidden, state, member.name(), &kept(member))?;
        place.status =
            host.status(&place.directory, &place.name).map_err(|error| failed("cannot be looked at", &place.path(), error))?;
    }
    Ok(())
}

/// The same for a look that changes nothing: the next run will have taken them away before it looks.
pub(super) fn discount_second_names(
    member: &Member,
    context: &Context,
    us: &Identity,
    places: &mut [Place],
) -> Result<(), Error> {
    let host = context.host();
    let target = vault::target_directory(context, member.name());
    for place in places {
        let Some(hidden) = beside_second_names(host, us, place, &target)? else { continue };
        let Some(status) = &mut place.status else { continue };
        for name in host.list(&hidden).map_err(|error| failed("cannot be listed", hidden.path(), error))? {
            if matches!(host.status(&hidden, &name), Ok(Some(other)) if other.same_file(status)) {
                status.links -= 1;
            }
        }
    }
    Ok(())
}

/// The target's own directory beside a file that has other names, some of which may lie there.
fn beside_second_names(host: &dyn Host, us: &Identity, place: &Place, target: &str) -> Result<Option<Directory>, Error> {
    match &place.status {
        Some(status) if status.kind == FileKind::Regular && status.links > 1 => vault::open(host, us, &place.directory, target),
        _ => Ok(None),
    }
}

/// How the names of the kept backups begin.
fn kept(member: &Member) -> Vec<String> {
    member.marker.iter().flat_map(|marker| &marker.sets).map(|id| format!("{id:08}.")).collect()
}

/// Removes what belongs to no kept set. Under the target's lock, and after recovery, that is litter of killed runs.
fn sweep(host: &dyn Host, hidden: &Directory, state: &State, target: &str, kept: &[String]) -> Result<(), Error> {
    let failed = |error| failed("cannot be swept", hidden.path(), error);
    for name in host.list(hidden).map_err(failed)? {
        let text = name.to_string_lossy();
        if kept.iter().any(|prefix| text.starts_with(prefix.as_str())) {
            continue;
        }
        let is_set = text.split_once('.').is_some_and(|(id, _)| {
            let set = format!("{target}-{id}.set");
            matches!(host.status(&state.targets, OsStr::new(&set)), Ok(Some(_)) | Err(_))
        });
        if !is_set {
            host.unlink(hidden, &name).map_err(failed)?;
        }
    }
    Ok(())
}

fn stage(host: &dyn Host, id: u64, index: usize, file: &mut File, round: &mut Vec<SyncPoint>) -> Result<(), Error> {
    let Some(hidden) = file.hidden.clone() else { return Err(file.unstaged()) };
    if let Some(wanted) = &file.wanted {
        let name = file.staged_name(id, index);
        let created = host
            .create(&hidden, &name, wanted.bytes.expose(), &wanted.metadata)
            .map_err(|error| failed("cannot be written beside its final place", &file.path, error))?;
        file.staged = Some(created.status().clone());
        round.push(created.sync_point(&hidden, &name));
    }
    file.backup = back_up(host, id, index, file, &hidden, round)?;
    Ok(())
}

/// A second name for the old file; where the system refuses that, a copy.
fn back_up(
    host: &dyn Host,
    id: u64,
    index: usize,
    file: &File,
    hidden: &Directory,
    round: &mut Vec<SyncPoint>,
) -> Result<Option<Backup>, Error> {
    let is_link = file.place.status.as_ref().is_some_and(|status| status.kind == FileKind::Symlink);
    if file.before.is_none() && !is_link {
        return Ok(None);
    }
    if file.place.generations.is_some() {
        return Ok(Some(Backup::Generation));
    }
    let name = file.backup_name(id, index);
    let (directory, live) = file.live();
    let refused = match host.link((directory, live), (hidden, &name)) {
        Ok(()) => return Ok(Some(Backup::Link)),
        Err(error) => error,
    };
    let copy = matches!(
        refused.kind(),
        io::ErrorKind::PermissionDenied
            | io::ErrorKind::TooManyLinks
            | io::ErrorKind::CrossesDevices
            | io::ErrorKind::Unsupported
    );
    let Some(before) = file.before.as_ref().filter(|_| copy) else {
        return Err(failed("cannot be backed up", &file.path, refused));
    };
    let copy = host
        .create(hidden, &name, before.bytes.expose(), &before.metadata())
        .map_err(|error| failed("cannot be backed up", &file.path, error))?;
    round.push(copy.sync_point(hidden, &name));
    Ok(Some(Backup::Copy))
}

/// Owner and mode where the bytes are right: changed in place, each file by itself.
pub(super) fn repair(host: &dyn Host, file: &mut File) -> Result<(), Error> {
    let Some(wanted) = file.wanted.as_ref().filter(|_| file.action == FileAction::Repair) else { return Ok(()) };
    let (directory, name) = (&file.place.directory, &file.place.name);
    let status = host
        .set_metadata(directory, name, &wanted.metadata)
        .map_err(|error| failed("cannot be given its owner and mode", &file.path, error))?;
    file.staged = Some(status);
    Ok(())
}

fn failed(problem: &str, path: &std::path::Path, error: io::Error) -> Error {
    let directory = path.parent().unwrap_or(path);
    Error::new(ErrorKind::StageFailed, format!("{} {problem}", path.display()))
        .with_next_step(advice(&error, directory))
        .with_source(error)
}

//! Stage 5: the new files are written beside the old ones, and the old ones get a second name.

use std::ffi::OsStr;
use std::io;

use crate::engine::group::{Backup, File, Group};
use crate::engine::overview::FileAction;
use crate::engine::{advice, generation};
use crate::error::{Error, ErrorKind};
use crate::host::{Directory, FileKind, Host, Identity, SyncPoint};
use crate::report::Stage;
use crate::state::{Marker, State};
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
            let kept = kept(member.marker.as_ref());
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
                        let (hidden, lasting) = vault::open_or_create(self.context, us, &parent, &target)?;
                        // Backups are proof of an earlier deployment, which has put the directory onto the medium. Without one,
                        // it may have been made by a run that was killed before it could.
                        if !sweep(self.context.host(), &hidden, self.state, &member.plan.name, &kept)? {
                            round.extend(lasting);
                        }
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

/// How the names of the kept backups begin.
pub(super) fn kept(marker: Option<&Marker>) -> Vec<String> {
    marker.iter().flat_map(|marker| &marker.sets).map(|id| format!("{id:08}.")).collect()
}

/// Removes everything but the backups of kept sets; says whether there are any. Under the target's lock, and after recovery,
/// the rest is litter of killed runs; that of a rename which a power cut left half done has the number of a kept set.
pub(super) fn sweep(host: &dyn Host, hidden: &Directory, state: &State, target: &str, kept: &[String]) -> Result<bool, Error> {
    let failed = |error| failed("cannot be swept", hidden.path(), error);
    let mut any = false;
    for name in host.list(hidden).map_err(failed)? {
        let text = name.to_string_lossy();
        let is_set = |id: &str| {
            let set = format!("{target}-{id}.set");
            matches!(host.status(&state.targets, OsStr::new(&set)), Ok(Some(_)) | Err(_))
        };
        let is_kept = text.ends_with(".old")
            && (kept.iter().any(|prefix| text.starts_with(prefix.as_str()))
                || text.split_once('.').is_some_and(|(id, _)| is_set(id)));
        match is_kept {
            true => any = true,
            false => host.unlink(hidden, &name).map_err(failed)?,
        }
    }
    Ok(any)
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
    let refused = match file.in_place {
        // A second name would show what is written over the file.
        true => io::ErrorKind::Unsupported.into(),
        false => match host.link((directory, live), (hidden, &name)) {
            Ok(()) => return linked(host, file, hidden, &name).map(Some),
            Err(error) => error,
        },
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

/// The second name is one of the file that was looked at, or goes again: another may have taken its place.
fn linked(host: &dyn Host, file: &File, hidden: &Directory, name: &OsStr) -> Result<Backup, Error> {
    let now = host.status(hidden, name).map_err(|error| failed("cannot be backed up", &file.path, error))?;
    let seen = file.before.as_ref().map(|before| &before.status).or(file.place.status.as_ref());
    if now.zip(seen).is_some_and(|(now, seen)| now.same_file(seen)) {
        return Ok(Backup::Link);
    }
    host.unlink(hidden, name).map_err(|error| failed("cannot be backed up", &file.path, error))?;
    Err(Error::new(ErrorKind::Conflict, format!("somebody else changed {} while this run was preparing", file.path.display()))
        .with_next_step("find out who writes that file; then run again"))
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

pub(super) fn failed(problem: &str, path: &std::path::Path, error: io::Error) -> Error {
    let directory = path.parent().unwrap_or(path);
    Error::new(ErrorKind::StageFailed, format!("{} {problem}", path.display()))
        .with_next_step(advice(&error, directory))
        .with_source(error)
}

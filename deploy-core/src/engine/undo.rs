//! The way back, for a deployment that failed and for one whose process died: by looking at what is there.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;

use crate::context::Context;
use crate::digest::{hex, sha256};
use crate::engine::{generation, in_place};
use crate::error::{Error, ErrorKind};
use crate::generation::CURRENT;
use crate::host::{Directory, FileKind, Host, Metadata, Status, SyncPoint};
use crate::journal::{Begin, Facts, FileRecord};
use crate::secret::SecretBytes;
use crate::state::invalid;
use crate::vault;

const SIZE_LIMIT: u64 = 64 << 20;

/// A recorded file with its directories open.
#[derive(Debug)]
pub(super) struct Recorded<'a> {
    pub(super) record: &'a FileRecord,
    pub(super) directory: Directory,
    /// `None` if the file does not change, if it has no need of one, or if nothing was ever put on the medium beside it.
    pub(super) hidden: Option<Directory>,
}

/// What stands at a recorded place now.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Now {
    /// Neither the old nor the new file.
    Foreign,
    /// Nothing, where both were something; or, where it is written in place, a part of each. Putting the old file back
    /// overwrites nobody's.
    Missing,
    New,
    Old,
}

/// Opens the directories of all recorded files; they must be the ones that were recorded (R14).
pub(super) fn open<'a>(host: &dyn Host, begin: &'a Begin) -> Result<Vec<Recorded<'a>>, Error> {
    let us = host.identity().map_err(|error| invalid(Path::new("/proc"), "cannot be asked who we are", error))?;
    let mut opened: Vec<(&OsStr, Directory)> = Vec::new();
    let mut files = Vec::with_capacity(begin.files.len());
    for record in &begin.files {
        let path = record.directory.path();
        let directory = match opened.iter().find(|(known, _)| *known == path.as_os_str()) {
            Some((_, directory)) => directory.clone(),
            None => {
                let directory = host.open_directory(path).map_err(|error| gone(record).with_source(error))?;
                opened.push((path.as_os_str(), directory.clone()));
                directory
            }
        };
        if !is_recorded(host, begin, record, &directory).map_err(|error| gone(record).with_source(error))? {
            return Err(gone(record));
        }
        let hidden = match record.changes && record.generation.is_none() {
            // `None`: a power cut before the first round of syncs may have kept the journal and lost all else.
            true => vault::open(host, &us, &directory, &record.hidden).map_err(|error| gone(record).with_source(error))?,
            false => None,
        };
        files.push(Recorded { record, directory, hidden });
    }
    Ok(files)
}

fn gone(record: &FileRecord) -> Error {
    Error::new(
        ErrorKind::Conflict,
        format!("the directory {} is not the one that was deployed to", record.directory.path().display()),
    )
    .with_next_step("if it was replaced on purpose, remove the journal; the files in it are left alone")
}

/// After a reboot the same file system can have another device number: btrfs, overlayfs and NFS take the next free one when
/// they are mounted, and disks are not always found in the same order.
fn is_recorded(host: &dyn Host, begin: &Begin, record: &FileRecord, directory: &Directory) -> io::Result<bool> {
    let (device, inode) = record.directory_id;
    let now = directory.status();
    Ok(now.inode == inode && (now.device == device || host.boot_id()? != begin.boot))
}

impl Recorded<'_> {
    fn live(&self) -> (&Directory, &OsStr) {
        (&self.directory, &self.record.name.0)
    }

    /// By inode, confirmed by digest; by digest alone where inodes are not stable.
    pub(super) fn now(&self, host: &dyn Host) -> io::Result<Now> {
        let record = self.record;
        if let Some(generation) = &record.generation {
            return generation::now(host, self, generation);
        }
        let (directory, name) = self.live();
        let Some(status) = host.status(directory, name)? else {
            let old = record.old.is_none() && !record.old_is_link;
            return Ok(if old {
                Now::Old
            } else if record.new.is_none() {
                Now::New
            } else {
                Now::Missing
            });
        };
        match status.kind {
            FileKind::Symlink if record.old_is_link => return Ok(Now::Old),
            FileKind::Regular => {}
            _ => return Ok(Now::Foreign),
        }
        let Some((bytes, status)) = host.read(directory, name, SIZE_LIMIT)? else { return Ok(Now::Foreign) };
        let digest = hex(&sha256(bytes.expose()));
        let matches = |facts: &Option<Facts>| facts.as_ref().is_some_and(|facts| facts.sha256 == digest);
        let same_inode = |facts: &Option<Facts>| facts.as_ref().is_some_and(|facts| facts.inode == status.inode);
        let same_metadata = |facts: &Option<Facts>| facts.as_ref().is_some_and(|facts| is_like(facts, &status));
        if record.in_place {
            let as_before = matches(&record.old) && same_metadata(&record.old);
            let half_done = || in_place::is_half_done(host, self, bytes.expose());
            return Ok(match matches(&record.new) {
                _ if as_before => Now::Old,
                true => Now::New,
                false if matches(&record.old) || half_done()? => Now::Missing,
                false => Now::Foreign,
            });
        }
        Ok(match (matches(&record.old), matches(&record.new)) {
            (true, true) if same_inode(&record.old) => Now::Old,
            (true, true) if same_inode(&record.new) => Now::New,
            (true, true) if same_metadata(&record.new) => Now::New,
            (true, _) => Now::Old,
            (false, true) => Now::New,
            (false, false) => Now::Foreign,
        })
    }

    /// Puts the old file back: a third name for it replaces the live one, so that its last durable name is never used up.
    /// `files` are all of the deployment.
    pub(super) fn restore(&self, host: &dyn Host, files: &[Recorded<'_>]) -> Result<(), Error> {
        if let Some(generation) = &self.record.generation {
            return generation::restore(host, self, generation, files);
        }
        let live = self.live();
        let failed = |error: io::Error| self.failed("could not be put back").with_source(error);
        let Some(backup) = &self.record.backup else {
            return host.unlink(live.0, live.1).map_err(failed);
        };
        let Some(hidden) = &self.hidden else { return Err(self.failed("has lost its backup")) };
        let backup = OsStr::new(backup);
        let copy = self.checked_backup(host, hidden, backup)?;
        if self.record.in_place {
            let Some(copy) = copy else { return Err(self.failed("has lost its backup")) };
            return in_place::restore(host, self, hidden, backup, &copy).map_err(failed);
        }
        let name = OsString::from(format!("{}.back", backup.to_string_lossy()));
        host.unlink(hidden, &name).map_err(failed)?;
        if let Err(error) = host.link((hidden, backup), (hidden, &name)) {
            let Some((bytes, status)) = copy else { return Err(failed(error)) };
            let attributes = host.attributes(hidden, backup).map_err(failed)?;
            let metadata = Metadata::new(status.uid, status.gid, status.mode).with_attributes(attributes);
            let copy = host.create(hidden, &name, bytes.expose(), &metadata).map_err(failed)?;
            host.sync(&[copy.sync_point(hidden, &name)]).map_err(failed)?;
        }
        host.rename((hidden, &name), live).map_err(failed)?;
        // Renaming one name of a file onto another of the same file does nothing.
        host.unlink(hidden, &name).map_err(failed)
    }

    /// The backup must be what was recorded (R11).
    fn checked_backup(&self, host: &dyn Host, hidden: &Directory, name: &OsStr) -> Result<Option<(SecretBytes, Status)>, Error> {
        let Some(old) = &self.record.old else {
            let status =
                host.status(hidden, name).map_err(|error| self.failed("has a backup that cannot be read").with_source(error))?;
            return match status {
                Some(status) if self.record.old_is_link && status.kind == FileKind::Symlink => Ok(None),
                _ => Err(self.failed("has a backup that is not the old link any more")),
            };
        };
        let read = host
            .read(hidden, name, SIZE_LIMIT)
            .map_err(|error| self.failed("has a backup that cannot be read").with_source(error))?;
        let Some((bytes, status)) = read else { return Err(self.failed("has lost its backup")) };
        if hex(&sha256(bytes.expose())) != old.sha256 {
            return Err(self.failed("has a backup that is not the old file any more"));
        }
        Ok(Some((bytes, status)))
    }

    pub(super) fn failed(&self, problem: &str) -> Error {
        let record = self.record;
        let backup = match record.backup_name() {
            Some(_) if record.generation.is_some() => {
                let (old, link) = (record.backup_directory(), record.directory.path().join(CURRENT));
                let name = Path::new(old.file_name().unwrap_or_default());
                format!("the old files are in {0}; compare, and ln -sfn {1} {2}", old.display(), name.display(), link.display())
            }
            Some(backup) => {
                let path = record.backup_directory().join(backup);
                format!("the old file is {}; compare, and copy it back by hand", path.display())
            }
            None => "it did not exist before; remove it by hand if nothing uses it".to_owned(),
        };
        Error::new(ErrorKind::RollbackFailed, format!("{} {problem}", record.path.path().display())).with_next_step(backup)
    }

    /// Removes what the deployment left in the hidden directory, or the generation that it made.
    pub(super) fn sweep(&self, host: &dyn Host) -> io::Result<()> {
        if let Some(generation) = self.record.generation.as_ref().filter(|_| self.record.changes) {
            return crate::generation::remove(host, &self.directory, &generation.new);
        }
        let Some(hidden) = &self.hidden else { return Ok(()) };
        for name in [&self.record.staged, &self.record.backup].into_iter().flatten() {
            host.unlink(hidden, OsStr::new(name))?;
            host.unlink(hidden, OsStr::new(&format!("{name}.back")))?;
        }
        Ok(())
    }

    /// Removes the name by which the new file was staged, where a crash left the rename of it half done.
    pub(super) fn sweep_staged(&self, host: &dyn Host) -> io::Result<()> {
        match (&self.hidden, &self.record.staged) {
            (Some(hidden), Some(staged)) => host.unlink(hidden, OsStr::new(staged)),
            _ => Ok(()),
        }
    }

    pub(super) fn foreign(&self) -> Error {
        Error::new(
            ErrorKind::Conflict,
            format!("somebody else changed {} in the meantime; it is left alone", self.record.path.path().display()),
        )
        .with_next_step(self.failed("").next_step().to_owned())
    }
}

/// Puts every new file back, the last one first, going on past errors; then syncs the directories. What a server watches in place of
/// the others comes last again: it reads them when it sees that.
pub(super) fn restore_all(
    context: &Context,
    files: &[Recorded<'_>],
    mut restored: impl FnMut(&FileRecord),
) -> (usize, Vec<Error>) {
    let host = context.host();
    let (mut count, mut errors) = (0, Vec::new());
    let (watched, others): (Vec<_>, Vec<_>) =
        files.iter().rev().filter(|file| file.record.changes).partition(|file| file.record.keeps_its_bytes());
    for file in others.into_iter().chain(watched) {
        let result = match file.now(host) {
            Ok(Now::Old) => continue,
            Ok(Now::Missing | Now::New) => file.restore(host, files),
            Ok(Now::Foreign) => Err(file.foreign()),
            Err(error) => Err(file.failed("cannot be looked at").with_source(error)),
        };
        match result {
            Ok(()) => {
                count += 1;
                restored(file.record);
            }
            Err(error) => errors.push(error),
        }
    }
    if let Err(error) = host.sync(&directories(files)) {
        errors.push(Error::new(ErrorKind::RollbackFailed, "the way back could not be put on the medium").with_source(error));
    }
    (count, errors)
}

/// The directories of all files that change, each once.
pub(super) fn directories(files: &[Recorded<'_>]) -> Vec<SyncPoint> {
    let mut seen = std::collections::HashSet::new();
    let changing = files.iter().filter(|file| file.record.changes);
    changing
        .filter(|file| seen.insert(file.record.directory_id))
        .map(|file| SyncPoint::Directory(file.directory.clone()))
        .collect()
}

fn is_like(facts: &Facts, status: &Status) -> bool {
    (facts.uid, facts.gid, facts.mode) == (status.uid, status.gid, status.mode)
}

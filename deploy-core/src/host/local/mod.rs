//! This machine: every operation of [`Host`] by descriptor, with as few system calls as it takes.

mod attributes;
pub(crate) mod conversation;
pub(crate) mod files;
mod locks;
mod process;
mod shadow;
mod sync;
mod users;

#[cfg(test)]
pub(crate) mod tests;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Mode, OFlags};

use self::files::{check_absolute, check_name, handle, open_at, opened, path_status_of, status_of, status_of_name};
use super::{Attributes, Directory, Facilities, Host, Identity, LockAttempt, Metadata, NewFile, Signal, Status, SyncPoint};
use crate::command::{Command, CommandError, CommandOutput, Limits};
use crate::secret::SecretBytes;
use crate::staged_view::StagedView;

/// How many syncs are under way at a time, unless [`Local::with_sync_width`] says otherwise. Concurrent syncs share the
/// flushes of the disk; more than this gains little.
const SYNC_WIDTH: usize = 32;

/// How many new files are kept open between their creation and their sync: far below the usual limit of 1024 descriptors.
const KEPT_OPEN: usize = 256;

/// This machine.
#[derive(Debug)]
pub struct Local {
    sync_width: usize,
    identity: OnceLock<Identity>,
    /// How many new files wait open for their sync.
    open: Arc<AtomicUsize>,
}

/// A new file that waits for its sync.
#[derive(Debug)]
pub(super) struct OpenFile {
    fd: OwnedFd,
    open: Arc<AtomicUsize>,
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is behind a [`Directory`] of this host.
#[derive(Debug)]
pub(super) struct Handle {
    fd: OwnedFd,
    /// It could only be opened as a place in the tree (`O_PATH`), because it may be entered and not be read.
    path_only: bool,
    /// It has been listed, so that the next listing has to go back to the start. Held while listing.
    listed: Mutex<bool>,
}

impl Local {
    /// This machine, with up to 32 syncs at a time.
    #[must_use]
    pub fn new() -> Self {
        Self { sync_width: SYNC_WIDTH, identity: OnceLock::new(), open: Arc::default() }
    }

    /// With up to `width` syncs at a time. With 1 (or 0) they are done one by one in the order given, which makes a run
    /// reproducible.
    #[must_use]
    pub fn with_sync_width(mut self, width: usize) -> Self {
        self.sync_width = width;
        self
    }
}

impl Local {
    /// Keeps a file open for its sync, unless too many are: then it is given back.
    fn keep_open(&self, file: OwnedFd) -> Result<OpenFile, OwnedFd> {
        if self.open.fetch_add(1, Ordering::Relaxed) < KEPT_OPEN {
            return Ok(OpenFile { fd: file, open: Arc::clone(&self.open) });
        }
        self.open.fetch_sub(1, Ordering::Relaxed);
        Err(file)
    }
}

impl Default for Local {
    fn default() -> Self {
        Self::new()
    }
}

impl Host for Local {
    fn name(&self) -> &str {
        "local"
    }

    fn facilities(&self) -> Facilities {
        Facilities { staged_view: cfg!(target_os = "linux"), ..Facilities::FULL }
    }

    fn identity(&self) -> io::Result<Identity> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity.clone());
        }
        let identity = users::identity()?;
        Ok(self.identity.get_or_init(|| identity).clone())
    }

    fn open_directory(&self, path: &Path) -> io::Result<Directory> {
        check_absolute(path)?;
        let (fd, path_only) = match open_at(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY) {
            // A directory that may be entered and not listed is good enough for everything but listing and syncing.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                (open_at(CWD, path, OFlags::PATH | OFlags::DIRECTORY)?, true)
            }
            other => (other?, false),
        };
        let status = status_of(&fd)?;
        Ok(Directory::new(path.to_owned(), status, Arc::new(Handle { fd, path_only, listed: Mutex::default() })))
    }

    fn open_child(&self, parent: &Directory, name: &OsStr) -> io::Result<Directory> {
        check_name(name)?;
        let fd = open_at(handle(parent)?, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
        let status = status_of(&fd)?;
        Ok(Directory::new(parent.path().join(name), status, Arc::new(Handle { fd, path_only: false, listed: Mutex::default() })))
    }

    fn create_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        check_name(name)?;
        Ok(rustix::fs::mkdirat(handle(parent)?, name, Mode::RWXU)?)
    }

    fn set_directory_mode(&self, directory: &Directory, mode: u32) -> io::Result<()> {
        Ok(rustix::fs::fchmod(handle(directory)?, Mode::from_raw_mode(mode & 0o777))?)
    }

    fn remove_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        check_name(name)?;
        Ok(rustix::fs::unlinkat(handle(parent)?, name, AtFlags::REMOVEDIR)?)
    }

    fn list(&self, directory: &Directory) -> io::Result<Vec<OsString>> {
        files::list(opened(directory)?)
    }

    fn path_status(&self, path: &Path) -> io::Result<Option<Status>> {
        check_absolute(path)?;
        path_status_of(path)
    }

    fn read_path(&self, path: &Path, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        check_absolute(path)?;
        files::read(CWD, path, limit)
    }

    fn read_link(&self, directory: &Directory, name: &OsStr) -> io::Result<PathBuf> {
        check_name(name)?;
        let target = rustix::fs::readlinkat(handle(directory)?, name, Vec::new())?;
        Ok(files::path_from_bytes(target.into_bytes()))
    }

    fn status(&self, directory: &Directory, name: &OsStr) -> io::Result<Option<Status>> {
        check_name(name)?;
        status_of_name(handle(directory)?, name)
    }

    fn read(&self, directory: &Directory, name: &OsStr, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        check_name(name)?;
        files::read(handle(directory)?, name, limit)
    }

    fn attributes(&self, directory: &Directory, name: &OsStr) -> io::Result<Attributes> {
        check_name(name)?;
        attributes::of_name(handle(directory)?, name)
    }

    fn create(&self, directory: &Directory, name: &OsStr, bytes: &[u8], metadata: &Metadata) -> io::Result<NewFile> {
        let file = files::open_new(directory, name)?;
        let created = files::fill(&file, bytes, metadata).and_then(|status| match self.keep_open(file) {
            Ok(open) => Ok(NewFile::new(status, Some(Arc::new(open)))),
            Err(file) => files::close(file).map(|()| NewFile::new(status, None)),
        });
        if created.is_err() {
            // The first error is the one to report.
            drop(self.unlink(directory, name));
        }
        created
    }

    fn overwrite(&self, directory: &Directory, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        check_name(name)?;
        files::overwrite(handle(directory)?, name, bytes)
    }

    fn set_metadata(&self, directory: &Directory, name: &OsStr, metadata: &Metadata) -> io::Result<Status> {
        check_name(name)?;
        files::set_metadata(handle(directory)?, name, metadata)
    }

    fn append(&self, directory: &Directory, name: &OsStr, bytes: &[u8], durable: bool) -> io::Result<()> {
        check_name(name)?;
        files::append(handle(directory)?, name, bytes, durable)
    }

    fn symlink(&self, directory: &Directory, name: &OsStr, target: &Path) -> io::Result<()> {
        check_name(name)?;
        Ok(rustix::fs::symlinkat(target, handle(directory)?, name)?)
    }

    fn link(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        check_name(from.1)?;
        check_name(to.1)?;
        Ok(rustix::fs::linkat(handle(from.0)?, from.1, handle(to.0)?, to.1, AtFlags::empty())?)
    }

    fn rename(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        check_name(from.1)?;
        check_name(to.1)?;
        Ok(rustix::fs::renameat(handle(from.0)?, from.1, handle(to.0)?, to.1)?)
    }

    fn rename_new(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        check_name(from.1)?;
        check_name(to.1)?;
        files::rename_new((handle(from.0)?, from.1), (handle(to.0)?, to.1))
    }

    fn unlink(&self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        check_name(name)?;
        match rustix::fs::unlinkat(handle(directory)?, name, AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn sync(&self, round: &[SyncPoint]) -> io::Result<()> {
        sync::round(round, self.sync_width)
    }

    fn try_lock(&self, directory: &Directory, name: &OsStr, holder: &[u8]) -> io::Result<LockAttempt> {
        check_name(name)?;
        locks::attempt(handle(directory)?, name, holder)
    }

    fn try_lock_bytes(&self, directory: &Directory, name: &OsStr, positions: &BTreeSet<u64>) -> io::Result<LockAttempt> {
        check_name(name)?;
        locks::attempt_bytes(handle(directory)?, name, positions)
    }

    fn run(&self, command: &Command, view: Option<&StagedView>, limits: &Limits<'_>) -> Result<CommandOutput, CommandError> {
        process::run(command, view, limits)
    }

    fn shadow(
        &self,
        command: &Command,
        view: &StagedView,
        limits: &Limits<'_>,
        look: &mut (dyn FnMut(&dyn Fn() -> bool) + Send),
    ) -> Result<CommandOutput, CommandError> {
        shadow::run(command, view, limits, look)
    }

    fn is_running(&self, process: u32) -> io::Result<bool> {
        process::is_running(process)
    }

    fn signal(&self, process: u32, signal: Signal) -> io::Result<()> {
        process::signal(process, signal)
    }

    fn user_id(&self, name: &str) -> io::Result<Option<u32>> {
        users::user_id(name)
    }

    fn group_id(&self, name: &str) -> io::Result<Option<u32>> {
        users::group_id(name)
    }

    fn boot_id(&self) -> io::Result<String> {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|id| id.trim().to_owned())
    }

    #[expect(clippy::disallowed_methods, reason = "this is the host's clock")]
    fn now(&self) -> SystemTime {
        SystemTime::now()
    }
}

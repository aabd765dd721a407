//! Replacing one file, atomically and durably, without an engine around it.

use std::ffi::{OsStr, OsString};
use std::fmt::Write as _;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};

use crate::context::Cancellation;
use crate::host::local::files;
use crate::host::{Directory, FileKind, Host as _, Local, Metadata, Status, SyncPoint};

pub use error::{Refusal, WriteError};
pub use options::{WriteOptions, Written};

use crate::plan::LinkPolicy;

mod error;
mod options;

#[cfg(test)]
mod tests;

/// Links that may lead from one to the next (`MAXSYMLINKS` of Linux).
const LINKS_LIMIT: usize = 40;

/// The longest pause between two looks at a staging file that another writer holds.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// Replaces or creates the file at `path`, which must be absolute.
///
/// ```no_run
/// use deploy_core::atomic::{WriteOptions, atomic_write_file};
/// let written = atomic_write_file("/etc/ssl/private/www.key", b"...", &WriteOptions::new().with_mode(0o640))?;
/// println!("changed: {}", written.changed);
/// # Ok::<(), deploy_core::atomic::WriteError>(())
/// ```
///
/// # What is promised
/// - **Atomic**: whoever opens the path sees the old bytes or the new ones, whole, at every instant and after a crash.
/// - **Durable**: when it returns `Ok` with `changed`, the new file is on the medium: two syncs, of the file before the rename
///   and of the directory after it. (Not on file systems that drop syncs: tmpfs, overlays mounted `volatile`.)
/// - **Kept**: owner, group, mode, POSIX ACL, SELinux label and `user.*` attributes of a file that is replaced, each unless the
///   options say otherwise. If they cannot be kept, nothing is replaced.
/// - **Private**: until it has its final owner, the new file has mode 0600, whatever the umask.
/// - **Nothing to do, nothing done**: with equal bytes and metadata no name is created and nothing is synced.
/// - **One at a time**: writers through this function wait for each other, across processes. A file that somebody else
///   changed meanwhile is left alone ([`WriteError::Conflict`]); the check is made just before the rename, and a change in
///   between the two goes unnoticed.
/// - **Nothing left behind**: on an error the staging file is removed; that of a killed writer is removed by the next one.
///
/// # What is not
/// Several files are several calls: for a pair that must match, use a plan. Times, `security.capability` and `trusted.*`
/// attributes are not kept, nor are hard links (see [`WriteOptions::with_detach`]). There is no backup.
///
/// # Errors
/// [`WriteError`]; [`WriteError::applied`] tells whether the new file is live all the same.
pub fn atomic_write_file(path: impl AsRef<Path>, bytes: &[u8], options: &WriteOptions) -> Result<Written, WriteError> {
    let path = path.as_ref();
    if options.mode.is_some_and(|mode| mode & !0o7777 != 0) {
        return Err(WriteError::InvalidPath { path: path.to_owned(), reason: "the mode has more than twelve bits" });
    }
    let target = Target::find(Local::new(), path, options)?;
    let before = target.inspect(bytes, options)?;
    if before.settled {
        return Ok(target.written(false, before.status.as_ref()));
    }
    let staged = target.stage(options.wait)?;
    // Under the lock: another writer may just have done what we came for.
    let before = target.inspect(bytes, options)?;
    if before.settled {
        return Ok(target.written(false, before.status.as_ref()));
    }
    let status = target.replace(staged, bytes, &before)?;
    Ok(target.written(true, Some(&status)))
}

/// Where to write: the pinned directory and the name in it.
struct Target {
    host: Local,
    directory: Directory,
    name: OsString,
    path: PathBuf,
    /// What replaces the name: a link that is replaced counts as a file that was not there.
    replaces_link: bool,
}

/// What was found, and what the file is to have.
struct Before {
    status: Option<Status>,
    metadata: Metadata,
    settled: bool,
}

/// A staging file that is ours: locked, empty, and removed when dropped unless it was renamed.
struct Staged<'a> {
    target: &'a Target,
    name: OsString,
    file: File,
    renamed: bool,
}

impl Target {
    /// Follows the path to the file that it stands for.
    fn find(host: Local, given: &Path, options: &WriteOptions) -> Result<Self, WriteError> {
        let invalid = |reason| WriteError::InvalidPath { path: given.to_owned(), reason };
        if !given.is_absolute() {
            return Err(invalid("not an absolute path"));
        }
        let mut path = given.to_owned();
        for _ in 0..LINKS_LIMIT {
            let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
                return Err(invalid("does not name a file"));
            };
            // A path with a final slash or dot names a directory.
            if path.as_os_str().as_bytes().ends_with(b"/") || path.as_os_str().as_bytes().ends_with(b"/.") {
                return Err(invalid("does not name a file"));
            }
            let name = name.to_owned();
            let inspect = |path: &Path| {
                let path = path.to_owned();
                move |source| WriteError::Inspect { path, source }
            };
            let directory = host.open_directory(parent).map_err(inspect(parent))?;
            let status = host.status(&directory, &name).map_err(inspect(&path))?;
            let link = status.is_some_and(|status| status.kind == FileKind::Symlink);
            match options.links {
                LinkPolicy::Refuse if link => return Err(WriteError::Refused { path, reason: Refusal::Symlink }),
                LinkPolicy::Follow if link => {
                    let next = host.read_link(&directory, &name).map_err(inspect(&path))?;
                    path = parent.join(next);
                }
                _ => return Ok(Self { host, directory, name, path, replaces_link: link }),
            }
        }
        Err(WriteError::Inspect { path: given.to_owned(), source: rustix::io::Errno::LOOP.into() })
    }

    /// Looks at the destination, refuses what must not be replaced, and compares.
    fn inspect(&self, bytes: &[u8], options: &WriteOptions) -> Result<Before, WriteError> {
        let failed = |source| WriteError::Inspect { path: self.path.clone(), source };
        let status = self.host.status(&self.directory, &self.name).map_err(failed)?;
        let file = match &status {
            Some(status) if status.kind == FileKind::Symlink => {
                // It became one, or stopped being one, since it was looked at.
                if !self.replaces_link {
                    return Err(WriteError::Conflict { path: self.path.clone() });
                }
                None
            }
            other => other.as_ref(),
        };
        let Some(file) = file else {
            let metadata = self.new_metadata(options).map_err(failed)?;
            return Ok(Before { status, metadata, settled: false });
        };
        if let Some(reason) = refusal(file, options) {
            return Err(WriteError::Refused { path: self.path.clone(), reason });
        }
        let attributes = self.host.attributes(&self.directory, &self.name).map_err(failed)?;
        let mode = options.mode.unwrap_or(file.mode);
        let metadata =
            Metadata::new(options.owner.unwrap_or(file.uid), options.group.unwrap_or(file.gid), mode).with_attributes(attributes);
        let kept = (file.uid, file.gid, file.mode) == (metadata.uid, metadata.gid, metadata.mode);
        let settled = kept && file.size == bytes.len() as u64 && self.holds(bytes).map_err(failed)?;
        Ok(Before { status, metadata, settled })
    }

    /// Owner and group as the system would choose them: a setgid directory hands its group on.
    fn new_metadata(&self, options: &WriteOptions) -> io::Result<Metadata> {
        let identity = self.host.identity()?;
        let directory = self.directory.status();
        let group = if directory.mode & 0o2000 != 0 { directory.gid } else { identity.gid };
        Ok(Metadata::new(options.owner.unwrap_or(identity.uid), options.group.unwrap_or(group), options.mode.unwrap_or(0o600)))
    }

    fn holds(&self, bytes: &[u8]) -> io::Result<bool> {
        match self.host.read(&self.directory, &self.name, bytes.len() as u64) {
            Ok(found) => Ok(found.is_some_and(|(found, _)| found.expose() == bytes)),
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Ok(false),
            // A file that we may replace and not read is replaced.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Takes the staging file, whose lock is the lock of the destination, and waits for whoever has it.
    fn stage(&self, wait: Duration) -> Result<Staged<'_>, WriteError> {
        let name = staging_name(&self.name);
        let deadline = Instant::now() + wait;
        let mut pause = Duration::from_millis(1);
        loop {
            let taken = self.try_stage(&name).map_err(|source| WriteError::Stage { path: self.path.clone(), source })?;
            if let Some(file) = taken {
                return Ok(Staged { target: self, name, file, renamed: false });
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(WriteError::Busy { path: self.path.clone() });
            }
            // Nobody cancels this one: it is a pause.
            if Cancellation::default().wait(pause.min(left)) {
                return Err(WriteError::Busy { path: self.path.clone() });
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// Creates and locks the staging file. One that is there already and that nobody locks was left by a killed writer.
    fn try_stage(&self, name: &OsStr) -> io::Result<Option<File>> {
        match files::open_new(&self.directory, name) {
            Ok(file) => Ok(self.lock(name, file)?),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
                let left = match files::open_at(files::handle(&self.directory)?, name, flags) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                    other => other?,
                };
                // Held until the name is gone: in between it could become another writer's.
                let held = self.lock(name, left)?;
                if held.is_some() {
                    self.host.unlink(&self.directory, name)?;
                }
                drop(held);
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Locks an open staging file; `None` if another writer has it, or if it lost its name before it was locked.
    fn lock(&self, name: &OsStr, file: OwnedFd) -> io::Result<Option<File>> {
        let file = File::from(file);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let file = OwnedFd::from(file);
        let ours = files::status_of(&file)?;
        let named = self.host.status(&self.directory, name)?;
        Ok(named.is_some_and(|named| named.same_file(&ours)).then(|| File::from(file)))
    }

    /// Writes, syncs, looks again, renames, syncs the directory.
    fn replace(&self, mut staged: Staged<'_>, bytes: &[u8], before: &Before) -> Result<Status, WriteError> {
        let path = || self.path.clone();
        let file = staged.file.try_clone().map(OwnedFd::from);
        let filled = file.and_then(|file| {
            let status = files::fill(&file, bytes, &before.metadata)?;
            rustix::fs::fsync(&file)?;
            files::close(file).map(|()| status)
        });
        let status = filled.map_err(|source| WriteError::Stage { path: path(), source })?;
        let now = self.host.status(&self.directory, &self.name);
        let now = now.map_err(|source| WriteError::Inspect { path: path(), source })?;
        let mark = |status: &Status| (status.device, status.inode, status.changed);
        if now.as_ref().map(mark) != before.status.as_ref().map(mark) {
            return Err(WriteError::Conflict { path: path() });
        }
        let (from, to) = ((&self.directory, staged.name.as_os_str()), (&self.directory, self.name.as_os_str()));
        let renamed = if now.is_some() { self.host.rename(from, to) } else { self.host.rename_new(from, to) };
        renamed.map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => WriteError::Conflict { path: path() },
            _ => WriteError::Rename { path: path(), source },
        })?;
        staged.renamed = true;
        self.host
            .sync(&[SyncPoint::Directory(self.directory.clone())])
            .map_err(|source| WriteError::NotDurable { path: path(), source })?;
        Ok(status)
    }

    fn written(&self, changed: bool, status: Option<&Status>) -> Written {
        let (device, inode) = status.map_or((0, 0), |status| (status.device, status.inode));
        Written { changed, path: self.path.clone(), device, inode }
    }
}

impl Drop for Staged<'_> {
    fn drop(&mut self) {
        // The lock is still held: nobody else can have made another file of this name.
        if !self.renamed {
            drop(self.target.host.unlink(&self.target.directory, &self.name));
        }
    }
}

/// A hidden name of fixed length, so that a name of 255 bytes has one as well.
fn staging_name(name: &OsStr) -> OsString {
    let digest = Sha256::digest(name.as_bytes());
    let mut staging = String::from(".");
    for byte in digest.iter().take(8) {
        // Writing to a string cannot fail.
        write!(staging, "{byte:02x}").ok();
    }
    staging.push_str(".certdeploy-new");
    staging.into()
}

fn refusal(status: &Status, options: &WriteOptions) -> Option<Refusal> {
    if status.kind != FileKind::Regular {
        return Some(Refusal::NotRegular(status.kind));
    }
    if status.mount_point {
        return Some(Refusal::MountPoint);
    }
    if status.immutable {
        return Some(Refusal::Immutable);
    }
    (status.links > 1 && !options.detach).then_some(Refusal::HardLinks(status.links))
}

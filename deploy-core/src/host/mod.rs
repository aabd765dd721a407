//! The machine that a plan is carried out on.
//!
//! [`Host`] is a small set of synchronous operations over opaque directory handles. The engine is written once, against
//! it: [`Local`] carries the operations out here, the crash tests put a simulator in its place, and an SSH host carries
//! them out elsewhere. An implementation does what it is told and decides nothing: order, journal, rollback and
//! retention are the engine's.

pub(crate) mod local;

pub use local::Local;
pub use local::conversation::Conversation;

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::command::{Command, CommandError, CommandOutput, Limits};
use crate::error::Error;
use crate::secret::SecretBytes;
use crate::staged_view::StagedView;

/// A machine: its files, locks, commands and clock.
///
/// Every operation on files takes an open [`Directory`] and a single name in it, and never follows a symbolic link in
/// that name. Errors are the operating system's own.
pub trait Host: fmt::Debug + Send + Sync + 'static {
    /// What this host is called in reports: `local`, or the name that the operator gave it.
    fn name(&self) -> &str;

    /// What this host can do. What is missing is reported as degraded.
    fn facilities(&self) -> Facilities;

    /// Makes sure that it can be reached, before anything else is asked of it. This machine always can.
    ///
    /// # Errors
    /// It cannot be reached, or is none that files can be deployed to: with what the operator can do about it.
    fn reach(&self) -> Result<(), Error> {
        Ok(())
    }

    /// The user and groups that operations are carried out as.
    ///
    /// # Errors
    /// The host cannot be asked.
    fn identity(&self) -> io::Result<Identity>;

    /// Opens a directory by its absolute path, following symbolic links, and pins it: later operations through the
    /// handle reach this directory even if the path is changed.
    ///
    /// # Errors
    /// `NotFound`, `NotADirectory`, `PermissionDenied` and the like.
    fn open_directory(&self, path: &Path) -> io::Result<Directory>;

    /// Opens a directory inside another, refusing symbolic links.
    ///
    /// # Errors
    /// As [`Host::open_directory`].
    fn open_child(&self, parent: &Directory, name: &OsStr) -> io::Result<Directory>;

    /// Creates a directory with mode 0700 inside another.
    ///
    /// # Errors
    /// `AlreadyExists` and the like.
    fn create_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()>;

    /// Sets the nine permission bits of a directory.
    ///
    /// # Errors
    /// What changing them gives.
    fn set_directory_mode(&self, directory: &Directory, mode: u32) -> io::Result<()>;

    /// Removes an empty directory.
    ///
    /// # Errors
    /// `DirectoryNotEmpty` and the like.
    fn remove_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()>;

    /// The names in a directory, without `.` and `..`, in no order.
    ///
    /// # Errors
    /// The directory cannot be read.
    fn list(&self, directory: &Directory) -> io::Result<Vec<OsString>>;

    /// Status of a path without following a final symbolic link; `None` if it does not exist.
    ///
    /// # Errors
    /// Anything but "not found".
    fn path_status(&self, path: &Path) -> io::Result<Option<Status>>;

    /// Where a symbolic link points.
    ///
    /// # Errors
    /// It is not a link, or cannot be read.
    fn read_link(&self, directory: &Directory, name: &OsStr) -> io::Result<PathBuf>;

    /// Status of a name in a directory; `None` if it does not exist.
    ///
    /// # Errors
    /// Anything but "not found".
    fn status(&self, directory: &Directory, name: &OsStr) -> io::Result<Option<Status>>;

    /// Reads a regular file, at most `limit` bytes; `None` if it does not exist. Never blocks on a FIFO or device.
    ///
    /// # Errors
    /// `FileTooLarge` above the limit, `InvalidInput` if it is not a regular file, and what reading gives.
    fn read(&self, directory: &Directory, name: &OsStr, limit: u64) -> io::Result<Option<(SecretBytes, Status)>>;

    /// Reads a regular file by its absolute path in one go, as [`Host::read`]; only the final name is not followed.
    ///
    /// # Errors
    /// As [`Host::read`].
    fn read_path(&self, path: &Path, limit: u64) -> io::Result<Option<(SecretBytes, Status)>>;

    /// The extended attributes that belong to a file's identity for its readers: POSIX ACL, SELinux label, `user.*`.
    /// Empty where the file system has none.
    ///
    /// # Errors
    /// They cannot be read.
    fn attributes(&self, directory: &Directory, name: &OsStr) -> io::Result<Attributes>;

    /// Creates a file that did not exist: exclusively, with mode 0600; writes the bytes; sets owner, attributes and, last,
    /// mode. Not durable before [`Host::sync`]. On an error it removes the file.
    ///
    /// # Errors
    /// `AlreadyExists`, and what writing and changing ownership give.
    fn create(&self, directory: &Directory, name: &OsStr, bytes: &[u8], metadata: &Metadata) -> io::Result<NewFile>;

    /// Writes these bytes over those of an existing regular file, which keeps its inode. Not durable before [`Host::sync`]; what
    /// fails in between leaves a part of each.
    ///
    /// # Errors
    /// What writing gives.
    fn overwrite(&self, directory: &Directory, name: &OsStr, bytes: &[u8]) -> io::Result<()>;

    /// Gives an existing regular file this owner, attributes and, last, mode.
    ///
    /// # Errors
    /// What changing them gives.
    fn set_metadata(&self, directory: &Directory, name: &OsStr, metadata: &Metadata) -> io::Result<Status>;

    /// Appends to a file, which is created with mode 0600 if it does not exist. With `durable`, returns after the bytes are on the medium.
    ///
    /// # Errors
    /// What writing gives.
    fn append(&self, directory: &Directory, name: &OsStr, bytes: &[u8], durable: bool) -> io::Result<()>;

    /// Creates a symbolic link to `target`, which is written into it as it is.
    ///
    /// # Errors
    /// `AlreadyExists` and the like.
    fn symlink(&self, directory: &Directory, name: &OsStr, target: &Path) -> io::Result<()>;

    /// Gives a file a second name (hard link). Fails if the new name exists.
    ///
    /// # Errors
    /// `AlreadyExists`, `PermissionDenied`, `CrossesDevices`, `TooManyLinks`, `Unsupported`.
    fn link(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()>;

    /// Renames, replacing what is there.
    ///
    /// # Errors
    /// What the system gives; `ResourceBusy` for a mount point.
    fn rename(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()>;

    /// Renames to a name that must not exist.
    ///
    /// # Errors
    /// `AlreadyExists` if it does.
    fn rename_new(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()>;

    /// Removes a name. It is no error if it does not exist.
    ///
    /// # Errors
    /// What the system gives.
    fn unlink(&self, directory: &Directory, name: &OsStr) -> io::Result<()>;

    /// One round of syncs, in parallel where that helps; returns when all are on the medium. A failed sync is final: it is
    /// never repeated, because the system forgets which pages it lost.
    ///
    /// # Errors
    /// The first failure.
    fn sync(&self, round: &[SyncPoint]) -> io::Result<()>;

    /// Tries to take the lock file `name`, which is created if needed and never removed. `holder` is written into it for
    /// those who wait; it has no other meaning.
    ///
    /// # Errors
    /// The lock file cannot be opened or locking is not supported.
    fn try_lock(&self, directory: &Directory, name: &OsStr, holder: &[u8]) -> io::Result<LockAttempt>;

    /// Tries to take these bytes of the lock file `name`, all or none: many locks for the price of one file. Nobody learns
    /// who holds them. Positions are below 2^63.
    ///
    /// # Errors
    /// As [`Host::try_lock`].
    fn try_lock_bytes(&self, directory: &Directory, name: &OsStr, positions: &BTreeSet<u64>) -> io::Result<LockAttempt>;

    /// Runs a command to its end, in a staged view where one is given.
    ///
    /// # Errors
    /// It could not be started, the view could not be set up, or it ran out of time. A non-zero exit is not an error here.
    fn run(&self, command: &Command, view: Option<&StagedView>, limits: &Limits<'_>) -> Result<CommandOutput, CommandError>;

    /// Runs a server in a staged view, with a network and processes of its own, while `look` looks at it: whatever address
    /// `look` connects to, it reaches that server or nobody. `look` is given whether the server still runs. When it returns,
    /// the server ends, with all that it started; it also ends with this program.
    ///
    /// # Errors
    /// As [`Host::run`]; [`CommandError::View`] where there are no such networks.
    fn shadow(
        &self,
        command: &Command,
        view: &StagedView,
        limits: &Limits<'_>,
        look: &mut (dyn FnMut(&dyn Fn() -> bool) + Send),
    ) -> Result<CommandOutput, CommandError>;

    /// Whether a process runs. One that has ended and that nobody has collected does not.
    ///
    /// # Errors
    /// The system cannot be asked.
    fn is_running(&self, process: u32) -> io::Result<bool>;

    /// Sends a signal to a process.
    ///
    /// # Errors
    /// No such process, or not permitted.
    fn signal(&self, process: u32, signal: Signal) -> io::Result<()>;

    /// The number of a user by name; a name of digits is that number.
    ///
    /// # Errors
    /// The user database cannot be read.
    fn user_id(&self, name: &str) -> io::Result<Option<u32>>;

    /// The number of a group by name; a name of digits is that number.
    ///
    /// # Errors
    /// The group database cannot be read.
    fn group_id(&self, name: &str) -> io::Result<Option<u32>>;

    /// A value that changes with every boot.
    ///
    /// # Errors
    /// It cannot be read.
    fn boot_id(&self) -> io::Result<String>;

    /// The wall clock.
    fn now(&self) -> SystemTime;
}

/// What a host can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Facilities {
    /// A validator can be run in a private view where staged files stand at their final paths (rung V3).
    pub staged_view: bool,
    /// Extended attributes (ACLs, labels) can be read and set.
    pub attributes: bool,
    /// Sync really reaches the medium.
    pub durable: bool,
}

impl Facilities {
    /// Everything.
    pub const FULL: Self = Self { staged_view: true, attributes: true, durable: true };
}

/// Who operations are carried out as.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// All groups, the effective one included.
    pub groups: Vec<u32>,
    /// May give files to any owner (CAP_CHOWN).
    pub can_change_owner: bool,
}

impl Identity {
    /// An identity with its groups.
    #[must_use]
    pub fn new(uid: u32, gid: u32, groups: Vec<u32>, can_change_owner: bool) -> Self {
        Self { uid, gid, groups, can_change_owner }
    }
}

/// An open, pinned directory of a [`Host`].
#[derive(Clone)]
pub struct Directory {
    path: PathBuf,
    status: Status,
    handle: Arc<dyn Any + Send + Sync>,
}

impl Directory {
    /// A directory as the host opened it: the path it was asked for, its status, and whatever the host needs to reach it.
    #[must_use]
    pub fn new(path: PathBuf, status: Status, handle: Arc<dyn Any + Send + Sync>) -> Self {
        Self { path, status, handle }
    }

    /// The path that it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its status when it was opened.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What the host put in.
    #[must_use]
    pub fn handle<T: 'static>(&self) -> Option<&T> {
        self.handle.downcast_ref()
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Directory").field(&self.path).finish()
    }
}

/// What kind of thing a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileKind {
    /// A block or character device.
    Device,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A regular file.
    Regular,
    /// A socket.
    Socket,
    /// A symbolic link.
    Symlink,
}

/// What `statx` says about a file.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// What it is.
    pub kind: FileKind,
    /// Device number.
    pub device: u64,
    /// Inode number.
    pub inode: u64,
    /// Number of hard links.
    pub links: u64,
    /// Size in bytes.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
    /// Time of the last change of the bytes, in nanoseconds since 1970.
    pub modified: i128,
    /// Time of the last change of the inode, in nanoseconds since 1970.
    pub changed: i128,
    /// It is marked immutable or append-only (`chattr +i`, `+a`).
    pub immutable: bool,
    /// It is itself a mount point (a single bind-mounted file).
    pub mount_point: bool,
}

impl Status {
    /// A regular file of no size; for hosts to fill in.
    #[must_use]
    pub fn new(kind: FileKind, device: u64, inode: u64) -> Self {
        Self {
            kind,
            device,
            inode,
            links: 1,
            size: 0,
            uid: 0,
            gid: 0,
            mode: 0,
            modified: 0,
            changed: 0,
            immutable: false,
            mount_point: false,
        }
    }

    /// Whether both are the same inode on the same device.
    #[must_use]
    pub fn same_file(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }
}

/// Extended attributes by name.
pub type Attributes = BTreeMap<OsString, Vec<u8>>;

/// Owner, mode and attributes that a file gets.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metadata {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
    /// Exactly these extended attributes; others of the kinds in [`Host::attributes`] are removed. `None` leaves them alone,
    /// but for an access ACL inherited from the directory, which is removed.
    pub attributes: Option<Attributes>,
}

impl Metadata {
    /// Owner and mode, attributes left alone.
    #[must_use]
    pub fn new(uid: u32, gid: u32, mode: u32) -> Self {
        Self { uid, gid, mode, attributes: None }
    }

    /// With exactly these attributes.
    #[must_use]
    pub fn with_attributes(mut self, attributes: Attributes) -> Self {
        self.attributes = Some(attributes);
        self
    }
}

/// A file that was just created.
#[derive(Clone)]
pub struct NewFile {
    status: Status,
    handle: Option<Arc<dyn Any + Send + Sync>>,
}

impl NewFile {
    /// A file as it was created, with whatever the host needs to sync it without opening it again; `None` where it has to.
    #[must_use]
    pub fn new(status: Status, handle: Option<Arc<dyn Any + Send + Sync>>) -> Self {
        Self { status, handle }
    }

    /// Its status when everything about it was settled.
    #[must_use]
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What the host put in.
    #[must_use]
    pub fn handle<T: 'static>(&self) -> Option<&T> {
        self.handle.as_ref()?.downcast_ref()
    }

    /// How it is synced.
    #[must_use]
    pub fn sync_point(self, directory: &Directory, name: &OsStr) -> SyncPoint {
        match self.handle {
            Some(_) => SyncPoint::New(self),
            None => SyncPoint::File(directory.clone(), name.to_owned()),
        }
    }
}

impl fmt::Debug for NewFile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("NewFile").field(&self.status).finish()
    }
}

/// One thing to sync in a round.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SyncPoint {
    /// The names in a directory.
    Directory(Directory),
    /// The content and metadata of a file.
    File(Directory, OsString),
    /// The same of one that was created a moment ago and is still open.
    New(NewFile),
}

/// What came of trying to lock.
#[derive(Debug)]
#[non_exhaustive]
pub enum LockAttempt {
    /// Somebody else holds it; what they wrote into it.
    Busy(Vec<u8>),
    /// It is ours until the guard is dropped.
    Held(Box<dyn LockGuard>),
}

/// A held lock; dropping it frees it.
pub trait LockGuard: fmt::Debug + Send + Sync {}

/// The signals that a plan may send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, schemars::JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Signal {
    /// SIGHUP.
    Hup,
    /// SIGTERM.
    Term,
    /// SIGUSR1.
    Usr1,
    /// SIGUSR2.
    Usr2,
}

//! This machine, with every operation counted, and trouble at a change of choice.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::SystemTime;

use deploy_core::command::{Command, CommandError, CommandOutput, Limits};
use deploy_core::host::{
    Attributes, Directory, Facilities, Host, Identity, Local, LockAttempt, LockGuard, Metadata, NewFile, Signal, Status,
    SyncPoint,
};
use deploy_core::secret::SecretBytes;
use deploy_core::staged_view::StagedView;

/// A [`Host`] that counts.
#[derive(Debug, Default)]
pub struct Counted {
    inner: Local,
    operations: AtomicU64,
    changes: AtomicU64,
    trouble: Mutex<Option<(u64, Trouble)>>,
    lock_nothing: AtomicBool,
}

/// What happens at a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Trouble {
    /// From there on there is no space for anything new.
    DiskFull,
    /// This process is killed before it.
    Killed,
}

impl Counted {
    /// Makes trouble at a change, counted from 0 from now on.
    ///
    /// # Panics
    ///
    /// After a panic of another thread.
    pub fn make_trouble(&self, at: u64, trouble: Trouble) {
        *self.trouble.lock().unwrap() = Some((self.changes.load(Ordering::SeqCst) + at, trouble));
    }

    /// No more of it. Says whether it came to that.
    ///
    /// # Panics
    ///
    /// As [`Self::make_trouble`].
    pub fn end_trouble(&self) -> bool {
        let trouble = self.trouble.lock().unwrap().take();
        trouble.is_some_and(|(at, _)| self.changes.load(Ordering::SeqCst) > at)
    }

    /// From now on, every lock that somebody else holds is handed out all the same: a fault that a proof has to find.
    pub fn lock_nothing(&self) {
        self.lock_nothing.store(true, Ordering::SeqCst);
    }

    fn lock(&self, attempt: io::Result<LockAttempt>) -> io::Result<LockAttempt> {
        match attempt? {
            LockAttempt::Busy(_) if self.lock_nothing.load(Ordering::SeqCst) => Ok(LockAttempt::Held(Box::new(NoLock))),
            attempt => Ok(attempt),
        }
    }

    /// How many operations there were so far.
    #[must_use]
    pub fn operations(&self) -> u64 {
        self.operations.load(Ordering::SeqCst)
    }

    fn looks(&self) -> &Local {
        self.operations.fetch_add(1, Ordering::SeqCst);
        &self.inner
    }

    fn changes(&self, needs_space: bool) -> io::Result<&Local> {
        let number = self.changes.fetch_add(1, Ordering::SeqCst);
        match *self.trouble.lock().unwrap() {
            Some((at, Trouble::Killed)) if number >= at => die(),
            Some((at, Trouble::DiskFull)) if number >= at && needs_space => Err(io::ErrorKind::StorageFull.into()),
            _ => Ok(self.looks()),
        }
    }
}

#[derive(Debug)]
struct NoLock;

impl LockGuard for NoLock {}

/// As by `kill -9`.
fn die() -> ! {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).expect("our own process");
    unreachable!("the signal cannot be caught")
}

impl Host for Counted {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn facilities(&self) -> Facilities {
        self.inner.facilities()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.looks().identity()
    }

    fn open_directory(&self, path: &Path) -> io::Result<Directory> {
        self.looks().open_directory(path)
    }

    fn open_child(&self, parent: &Directory, name: &OsStr) -> io::Result<Directory> {
        self.looks().open_child(parent, name)
    }

    fn create_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        self.changes(true)?.create_child(parent, name)
    }

    fn set_directory_mode(&self, directory: &Directory, mode: u32) -> io::Result<()> {
        self.changes(false)?.set_directory_mode(directory, mode)
    }

    fn remove_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        self.changes(false)?.remove_child(parent, name)
    }

    fn list(&self, directory: &Directory) -> io::Result<Vec<OsString>> {
        let names = self.looks().list(directory)?;
        // What is listed costs, too.
        self.operations.fetch_add(u64::try_from(names.len()).unwrap_or(u64::MAX), Ordering::SeqCst);
        Ok(names)
    }

    fn path_status(&self, path: &Path) -> io::Result<Option<Status>> {
        self.looks().path_status(path)
    }

    fn read_link(&self, directory: &Directory, name: &OsStr) -> io::Result<PathBuf> {
        self.looks().read_link(directory, name)
    }

    fn status(&self, directory: &Directory, name: &OsStr) -> io::Result<Option<Status>> {
        self.looks().status(directory, name)
    }

    fn read(&self, directory: &Directory, name: &OsStr, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        self.looks().read(directory, name, limit)
    }

    fn read_path(&self, path: &Path, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        self.looks().read_path(path, limit)
    }

    fn attributes(&self, directory: &Directory, name: &OsStr) -> io::Result<Attributes> {
        self.looks().attributes(directory, name)
    }

    fn create(&self, directory: &Directory, name: &OsStr, bytes: &[u8], metadata: &Metadata) -> io::Result<NewFile> {
        self.changes(true)?.create(directory, name, bytes, metadata)
    }

    fn set_metadata(&self, directory: &Directory, name: &OsStr, metadata: &Metadata) -> io::Result<Status> {
        self.changes(false)?.set_metadata(directory, name, metadata)
    }

    fn symlink(&self, directory: &Directory, name: &OsStr, target: &Path) -> io::Result<()> {
        self.changes(true)?.symlink(directory, name, target)
    }

    fn overwrite(&self, directory: &Directory, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        self.changes(true)?.overwrite(directory, name, bytes)
    }

    fn append(&self, directory: &Directory, name: &OsStr, bytes: &[u8], durable: bool) -> io::Result<()> {
        self.changes(true)?.append(directory, name, bytes, durable)
    }

    fn link(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.changes(true)?.link(from, to)
    }

    fn rename(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.changes(false)?.rename(from, to)
    }

    fn rename_new(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.changes(false)?.rename_new(from, to)
    }

    fn unlink(&self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        self.changes(false)?.unlink(directory, name)
    }

    fn sync(&self, round: &[SyncPoint]) -> io::Result<()> {
        self.changes(false)?.sync(round)
    }

    fn try_lock(&self, directory: &Directory, name: &OsStr, holder: &[u8]) -> io::Result<LockAttempt> {
        self.lock(self.looks().try_lock(directory, name, holder))
    }

    fn try_lock_bytes(&self, directory: &Directory, name: &OsStr, positions: &BTreeSet<u64>) -> io::Result<LockAttempt> {
        self.lock(self.looks().try_lock_bytes(directory, name, positions))
    }

    fn run(&self, command: &Command, view: Option<&StagedView>, limits: &Limits<'_>) -> Result<CommandOutput, CommandError> {
        self.looks().run(command, view, limits)
    }

    fn shadow(
        &self,
        command: &Command,
        view: &StagedView,
        limits: &Limits<'_>,
        look: &mut (dyn FnMut(&dyn Fn() -> bool) + Send),
    ) -> Result<CommandOutput, CommandError> {
        self.looks().shadow(command, view, limits, look)
    }

    fn is_running(&self, process: u32) -> io::Result<bool> {
        self.looks().is_running(process)
    }

    fn signal(&self, process: u32, signal: Signal) -> io::Result<()> {
        self.looks().signal(process, signal)
    }

    fn user_id(&self, name: &str) -> io::Result<Option<u32>> {
        self.inner.user_id(name)
    }

    fn group_id(&self, name: &str) -> io::Result<Option<u32>> {
        self.inner.group_id(name)
    }

    fn boot_id(&self) -> io::Result<String> {
        self.looks().boot_id()
    }

    fn now(&self) -> SystemTime {
        self.inner.now()
    }
}

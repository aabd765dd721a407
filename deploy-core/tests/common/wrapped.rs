//! This machine with something put in between: another boot, another clock, operations that fail, and a count of them all.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use deploy_core::command::{Command, CommandError, CommandOutput, Limits};
use deploy_core::host::{
    Attributes, Directory, Facilities, Host, Identity, Local, LockAttempt, Metadata, NewFile, Signal, Status, SyncPoint,
};
use deploy_core::secret::SecretBytes;
use deploy_core::staged_view::StagedView;

/// The operations that change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Op {
    Append,
    Create,
    CreateChild,
    Link,
    Overwrite,
    RemoveChild,
    Rename,
    RenameNew,
    SetDirectoryMode,
    SetMetadata,
    Symlink,
    Sync,
    Unlink,
}

/// Which operations fail, and how.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    /// The first one that fails, counted from 0 over all operations that the fault is about.
    pub(crate) at: usize,
    /// Only this one, or all from there on.
    pub(crate) once: bool,
    /// About these only.
    pub(crate) only: &'static [Op],
    /// What the system says.
    pub(crate) errno: rustix::io::Errno,
}

#[derive(Debug, Default)]
pub(crate) struct Wrapped {
    inner: Local,
    pub(crate) boot: Mutex<Option<String>>,
    pub(crate) clock: Mutex<Option<SystemTime>>,
    fault: Mutex<Option<Fault>>,
    kill_at: Mutex<Option<usize>>,
    seen: Mutex<usize>,
    hit: Mutex<Vec<(Op, PathBuf)>>,
    log: Mutex<Vec<(Op, PathBuf)>>,
    counts: Mutex<BTreeMap<&'static str, usize>>,
}

impl Wrapped {
    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap() = fault;
        *self.seen.lock().unwrap() = 0;
        self.hit.lock().unwrap().clear();
        self.log.lock().unwrap().clear();
        self.counts.lock().unwrap().clear();
    }

    /// What was made to fail since the last [`Self::set_fault`].
    pub(crate) fn hit(&self) -> Vec<(Op, PathBuf)> {
        self.hit.lock().unwrap().clone()
    }

    /// All changing operations since then.
    pub(crate) fn log(&self) -> Vec<(Op, PathBuf)> {
        self.log.lock().unwrap().clone()
    }

    /// How many of anything were done since then.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.counts.lock().unwrap().get(name).copied().unwrap_or_default()
    }

    pub(crate) fn count_of_all(&self) -> usize {
        self.counts.lock().unwrap().values().sum()
    }

    /// Ends this process just before a changing operation, counted from 0.
    pub(crate) fn kill_at(&self, number: usize) {
        *self.kill_at.lock().unwrap() = Some(number);
    }

    fn tally(&self, name: &'static str, by: usize) {
        *self.counts.lock().unwrap().entry(name).or_default() += by;
    }

    fn change(&self, op: Op, path: PathBuf) -> io::Result<()> {
        self.tally("changes", 1);
        if *self.kill_at.lock().unwrap() == Some(self.log.lock().unwrap().len()) {
            super::crash::die();
        }
        self.log.lock().unwrap().push((op, path.clone()));
        let Some(fault) = *self.fault.lock().unwrap() else { return Ok(()) };
        if !fault.only.is_empty() && !fault.only.contains(&op) {
            return Ok(());
        }
        let mut seen = self.seen.lock().unwrap();
        let number = *seen;
        *seen += 1;
        if number < fault.at || (fault.once && number > fault.at) {
            return Ok(());
        }
        self.hit.lock().unwrap().push((op, path));
        Err(fault.errno.into())
    }
}

fn path(directory: &Directory, name: &OsStr) -> PathBuf {
    directory.path().join(name)
}

impl Host for Wrapped {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn facilities(&self) -> Facilities {
        self.inner.facilities()
    }

    fn identity(&self) -> io::Result<Identity> {
        self.inner.identity()
    }

    fn open_directory(&self, path: &Path) -> io::Result<Directory> {
        self.tally("open", 1);
        self.inner.open_directory(path)
    }

    fn open_child(&self, parent: &Directory, name: &OsStr) -> io::Result<Directory> {
        self.tally("open", 1);
        self.inner.open_child(parent, name)
    }

    fn create_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        self.change(Op::CreateChild, path(parent, name))?;
        self.inner.create_child(parent, name)
    }

    fn set_directory_mode(&self, directory: &Directory, mode: u32) -> io::Result<()> {
        self.change(Op::SetDirectoryMode, directory.path().to_owned())?;
        self.inner.set_directory_mode(directory, mode)
    }

    fn remove_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        self.change(Op::RemoveChild, path(parent, name))?;
        self.inner.remove_child(parent, name)
    }

    fn list(&self, directory: &Directory) -> io::Result<Vec<OsString>> {
        let names = self.inner.list(directory)?;
        self.tally("listed", names.len());
        Ok(names)
    }

    fn path_status(&self, path: &Path) -> io::Result<Option<Status>> {
        self.tally("status", 1);
        self.inner.path_status(path)
    }

    fn read_link(&self, directory: &Directory, name: &OsStr) -> io::Result<PathBuf> {
        self.inner.read_link(directory, name)
    }

    fn status(&self, directory: &Directory, name: &OsStr) -> io::Result<Option<Status>> {
        self.tally("status", 1);
        self.inner.status(directory, name)
    }

    fn read(&self, directory: &Directory, name: &OsStr, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        self.tally("read", 1);
        self.inner.read(directory, name, limit)
    }

    fn read_path(&self, path: &Path, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        self.tally("read", 1);
        self.inner.read_path(path, limit)
    }

    fn attributes(&self, directory: &Directory, name: &OsStr) -> io::Result<Attributes> {
        self.inner.attributes(directory, name)
    }

    fn create(&self, directory: &Directory, name: &OsStr, bytes: &[u8], metadata: &Metadata) -> io::Result<NewFile> {
        self.change(Op::Create, path(directory, name))?;
        self.inner.create(directory, name, bytes, metadata)
    }

    /// In two steps, so that a fault or a kill can leave the first half.
    fn overwrite(&self, directory: &Directory, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        self.change(Op::Overwrite, path(directory, name))?;
        let old = self.inner.read(directory, name, u64::MAX)?.map(|(bytes, _)| bytes.expose().to_vec()).unwrap_or_default();
        let half = &bytes[..bytes.len() / 2];
        self.inner.overwrite(directory, name, &[half, old.get(half.len()..).unwrap_or_default()].concat())?;
        self.change(Op::Overwrite, path(directory, name))?;
        self.inner.overwrite(directory, name, bytes)
    }

    fn set_metadata(&self, directory: &Directory, name: &OsStr, metadata: &Metadata) -> io::Result<Status> {
        self.change(Op::SetMetadata, path(directory, name))?;
        self.inner.set_metadata(directory, name, metadata)
    }

    fn append(&self, directory: &Directory, name: &OsStr, bytes: &[u8], durable: bool) -> io::Result<()> {
        if let Err(error) = self.change(Op::Append, path(directory, name)) {
            // A disk that fills up takes a part of the line.
            let part = &bytes[..bytes.len() / 2];
            return self.inner.append(directory, name, part, false).and(Err(error));
        }
        self.inner.append(directory, name, bytes, durable)
    }

    fn symlink(&self, directory: &Directory, name: &OsStr, target: &Path) -> io::Result<()> {
        self.change(Op::Symlink, path(directory, name))?;
        self.inner.symlink(directory, name, target)
    }

    fn link(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.change(Op::Link, path(to.0, to.1))?;
        self.inner.link(from, to)
    }

    fn rename(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.change(Op::Rename, path(to.0, to.1))?;
        self.inner.rename(from, to)
    }

    fn rename_new(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.change(Op::RenameNew, path(to.0, to.1))?;
        self.inner.rename_new(from, to)
    }

    fn unlink(&self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        self.change(Op::Unlink, path(directory, name))?;
        self.inner.unlink(directory, name)
    }

    fn sync(&self, round: &[SyncPoint]) -> io::Result<()> {
        let first = match round.first() {
            Some(SyncPoint::File(directory, name)) => path(directory, name),
            Some(SyncPoint::Directory(directory)) => directory.path().to_owned(),
            _ => PathBuf::new(),
        };
        self.change(Op::Sync, first)?;
        self.tally("synced", round.len());
        self.inner.sync(round)
    }

    fn try_lock(&self, directory: &Directory, name: &OsStr, holder: &[u8]) -> io::Result<LockAttempt> {
        self.tally("lock", 1);
        self.inner.try_lock(directory, name, holder)
    }

    fn try_lock_bytes(&self, directory: &Directory, name: &OsStr, positions: &BTreeSet<u64>) -> io::Result<LockAttempt> {
        self.tally("lock", 1);
        self.inner.try_lock_bytes(directory, name, positions)
    }

    fn run(&self, command: &Command, view: Option<&StagedView>, limits: &Limits<'_>) -> Result<CommandOutput, CommandError> {
        self.tally("run", 1);
        self.inner.run(command, view, limits)
    }

    fn shadow(
        &self,
        command: &Command,
        view: &StagedView,
        limits: &Limits<'_>,
        look: &mut (dyn FnMut(&dyn Fn() -> bool) + Send),
    ) -> Result<CommandOutput, CommandError> {
        self.inner.shadow(command, view, limits, look)
    }

    fn is_running(&self, process: u32) -> io::Result<bool> {
        self.inner.is_running(process)
    }

    fn signal(&self, process: u32, signal: Signal) -> io::Result<()> {
        self.inner.signal(process, signal)
    }

    fn user_id(&self, name: &str) -> io::Result<Option<u32>> {
        self.inner.user_id(name)
    }

    fn group_id(&self, name: &str) -> io::Result<Option<u32>> {
        self.inner.group_id(name)
    }

    fn boot_id(&self) -> io::Result<String> {
        let boot = self.boot.lock().unwrap().clone();
        boot.map_or_else(|| self.inner.boot_id(), Ok)
    }

    fn now(&self) -> SystemTime {
        let clock = *self.clock.lock().unwrap();
        clock.unwrap_or_else(|| self.inner.now())
    }
}

//! A [`Machine`] as the engine sees it: every operation is done at once and written down.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deploy_core::command::{Command, CommandError, CommandOutput, Limits};
use deploy_core::host::{
    Attributes, Directory, Facilities, Host, Identity, LockAttempt, Metadata, NewFile, Signal, Status, SyncPoint,
};
use deploy_core::secret::SecretBytes;
use deploy_core::staged_view::StagedView;

use super::disk::{Facts, Inode, Kind, Node};
use super::fault::Fault;
use super::log::Event;
use super::machine::Machine;

impl Host for Machine {
    fn name(&self) -> &str {
        "simulated"
    }

    fn facilities(&self) -> Facilities {
        Facilities::FULL
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(Identity::new(0, 0, vec![0], true))
    }

    fn open_directory(&self, path: &Path) -> io::Result<Directory> {
        let state = self.state();
        let inode = state.disk.directory(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Directory::new(path.to_owned(), state.status(inode), Arc::new(inode)))
    }

    fn open_child(&self, parent: &Directory, name: &OsStr) -> io::Result<Directory> {
        let state = self.state();
        let inode = state.found(inode_of(parent)?, name)?;
        match state.disk.node(inode).kind {
            Kind::Directory(_) => Ok(Directory::new(parent.path().join(name), state.status(inode), Arc::new(inode))),
            _ => Err(io::ErrorKind::NotADirectory.into()),
        }
    }

    fn create_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        let (mut state, parent) = (self.state(), inode_of(parent)?);
        state.free(parent, name)?;
        let when = state.time();
        state.make(parent, name, Node::directory(Facts::new(0, 0, 0o700), when));
        Ok(())
    }

    fn set_directory_mode(&self, directory: &Directory, mode: u32) -> io::Result<()> {
        let (mut state, inode) = (self.state(), inode_of(directory)?);
        let facts = Facts { mode, ..state.disk.node(inode).facts.clone() };
        state.happen(Event::Facts(inode, facts));
        Ok(())
    }

    fn remove_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        let (mut state, parent) = (self.state(), inode_of(parent)?);
        let inode = state.found(parent, name)?;
        match &state.disk.node(inode).kind {
            Kind::Directory(names) if names.is_empty() => state.set_names(&[(parent, name, None)]),
            Kind::Directory(_) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
        Ok(())
    }

    fn list(&self, directory: &Directory) -> io::Result<Vec<OsString>> {
        Ok(self.state().disk.names(inode_of(directory)?).map(|(name, _)| OsStr::to_owned(name)).collect())
    }

    fn path_status(&self, path: &Path) -> io::Result<Option<Status>> {
        let state = self.state();
        Ok(state.disk.at(path).map(|inode| state.status(inode)))
    }

    fn read_link(&self, directory: &Directory, name: &OsStr) -> io::Result<PathBuf> {
        let state = self.state();
        match &state.disk.node(state.found(inode_of(directory)?, name)?).kind {
            Kind::Link(target) => Ok(target.clone()),
            _ => Err(io::ErrorKind::InvalidInput.into()),
        }
    }

    fn status(&self, directory: &Directory, name: &OsStr) -> io::Result<Option<Status>> {
        let state = self.state();
        Ok(state.disk.look_up(inode_of(directory)?, name).map(|inode| state.status(inode)))
    }

    fn read(&self, directory: &Directory, name: &OsStr, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        let state = self.state();
        state.disk.look_up(inode_of(directory)?, name).map(|inode| state.read(inode, limit)).transpose()
    }

    fn read_path(&self, path: &Path, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        let state = self.state();
        state.disk.at(path).map(|inode| state.read(inode, limit)).transpose()
    }

    fn attributes(&self, directory: &Directory, name: &OsStr) -> io::Result<Attributes> {
        let state = self.state();
        Ok(Attributes::clone(&state.disk.node(state.found(inode_of(directory)?, name)?).facts.attributes))
    }

    fn create(&self, directory: &Directory, name: &OsStr, bytes: &[u8], metadata: &Metadata) -> io::Result<NewFile> {
        let (mut state, parent) = (self.state(), inode_of(directory)?);
        state.free(parent, name)?;
        let when = state.time();
        let inode = state.make(parent, name, Node::file(Facts::new(0, 0, 0o600), when));
        state.write(inode, bytes);
        state.set_facts(inode, metadata);
        Ok(NewFile::new(state.status(inode), None))
    }

    fn set_metadata(&self, directory: &Directory, name: &OsStr, metadata: &Metadata) -> io::Result<Status> {
        let mut state = self.state();
        let inode = state.found(inode_of(directory)?, name)?;
        state.set_facts(inode, metadata);
        Ok(state.status(inode))
    }

    fn overwrite(&self, directory: &Directory, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let inode = state.found(inode_of(directory)?, name)?;
        state.write(inode, bytes);
        Ok(())
    }

    fn append(&self, directory: &Directory, name: &OsStr, bytes: &[u8], durable: bool) -> io::Result<()> {
        let (mut state, parent) = (self.state(), inode_of(directory)?);
        let journal = directory.path().ends_with("journal");
        let is_record = journal && durable;
        let begins = journal && !durable && state.disk.look_up(parent, name).is_none();
        if (journal && self.has(Fault::Journal)) || (is_record && self.has(Fault::RollbackRecord)) {
            state.log.extend(begins.then_some(Event::Begun).or(is_record.then_some(Event::WayBack)));
            return Ok(());
        }
        state.log.extend(begins.then_some(Event::Begun));
        let inode = match state.disk.look_up(parent, name) {
            Some(inode) => inode,
            None => {
                let when = state.time();
                state.make(parent, name, Node::file(Facts::new(0, 0, 0o600), when))
            }
        };
        let Kind::File(content) = &state.disk.node(inode).kind else { return Err(io::ErrorKind::InvalidInput.into()) };
        let whole = [content.bytes(), bytes].concat();
        state.write(inode, &whole);
        if durable && !self.has(Fault::RollbackRecordSync) {
            state.happen(Event::SyncedFile(inode));
        }
        state.log.extend(is_record.then_some(Event::WayBack));
        Ok(())
    }

    fn symlink(&self, directory: &Directory, name: &OsStr, target: &Path) -> io::Result<()> {
        let (mut state, parent) = (self.state(), inode_of(directory)?);
        state.free(parent, name)?;
        let when = state.time();
        state.make(parent, name, Node::link(target, when));
        Ok(())
    }

    fn link(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        let (mut state, to_directory) = (self.state(), inode_of(to.0)?);
        let inode = state.found(inode_of(from.0)?, from.1)?;
        state.free(to_directory, to.1)?;
        if self.refuses_links {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        state.set_names(&[(to_directory, to.1, Some(inode))]);
        Ok(())
    }

    fn rename(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        let (mut state, from_directory, to_directory) = (self.state(), inode_of(from.0)?, inode_of(to.0)?);
        if self.has(Fault::Journal) && from.0.path().ends_with("journal") {
            return Ok(());
        }
        let inode = state.found(from_directory, from.1)?;
        // Between two names of one file, this does nothing (POSIX).
        if state.disk.look_up(to_directory, to.1) != Some(inode) {
            state.set_names(&[(to_directory, to.1, Some(inode)), (from_directory, from.1, None)]);
        }
        Ok(())
    }

    fn rename_new(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.state().free(inode_of(to.0)?, to.1)?;
        self.rename(from, to)
    }

    fn unlink(&self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        let (mut state, directory) = (self.state(), inode_of(directory)?);
        match state.disk.look_up(directory, name).map(|inode| &state.disk.node(inode).kind) {
            None => {}
            Some(Kind::Directory(_)) => return Err(io::ErrorKind::IsADirectory.into()),
            Some(_) => state.set_names(&[(directory, name, None)]),
        }
        Ok(())
    }

    fn sync(&self, round: &[SyncPoint]) -> io::Result<()> {
        let mut state = self.state();
        for point in round {
            match point {
                SyncPoint::Directory(directory) => {
                    let inode = inode_of(directory)?;
                    let phase = state.phase(directory.path(), inode);
                    if !self.fault.is_some_and(|fault| fault.drops_names(directory.path(), phase)) {
                        state.happen(Event::SyncedNames(inode));
                    }
                }
                SyncPoint::File(directory, name) => {
                    let parent = inode_of(directory)?;
                    let phase = state.phase(directory.path(), parent);
                    let unwritten = self.has(Fault::Journal) && phase.is_state;
                    let dropped = self.fault.is_some_and(|fault| fault.drops_bytes(&directory.path().join(name), phase));
                    if !dropped && !unwritten {
                        let inode = state.found(parent, name)?;
                        state.happen(Event::SyncedFile(inode));
                    }
                }
                _ => return Err(io::ErrorKind::Unsupported.into()),
            }
        }
        Ok(())
    }

    fn try_lock(&self, directory: &Directory, name: &OsStr, _: &[u8]) -> io::Result<LockAttempt> {
        Ok(self.lock(self.lock_file(directory, name)?, [None].into_iter()))
    }

    fn try_lock_bytes(&self, directory: &Directory, name: &OsStr, positions: &BTreeSet<u64>) -> io::Result<LockAttempt> {
        Ok(self.lock(self.lock_file(directory, name)?, positions.iter().copied().map(Some)))
    }

    fn run(&self, command: &Command, view: Option<&StagedView>, _: &Limits<'_>) -> Result<CommandOutput, CommandError> {
        let mut output = CommandOutput::default();
        output.code = Some(i32::from(!(self.commands)(&self.disk(), command, view)));
        Ok(output)
    }

    fn shadow(
        &self,
        _: &Command,
        _: &StagedView,
        _: &Limits<'_>,
        _: &mut (dyn FnMut(&dyn Fn() -> bool) + Send),
    ) -> Result<CommandOutput, CommandError> {
        Err(CommandError::View { step: "private network".to_owned(), source: io::ErrorKind::Unsupported.into() })
    }

    fn is_running(&self, _: u32) -> io::Result<bool> {
        Ok(false)
    }

    fn signal(&self, _: u32, _: Signal) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn user_id(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(name.parse().ok())
    }

    fn group_id(&self, name: &str) -> io::Result<Option<u32>> {
        Ok(name.parse().ok())
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(format!("boot-{}", self.boot))
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_nanos(u64::try_from(self.state().clock).unwrap_or_default())
    }
}

impl Machine {
    /// Lock files have no bytes here: what is in them has no meaning.
    fn lock_file(&self, directory: &Directory, name: &OsStr) -> io::Result<Inode> {
        let (mut state, parent) = (self.state(), inode_of(directory)?);
        if let Some(inode) = state.disk.look_up(parent, name) {
            return Ok(inode);
        }
        let when = state.time();
        Ok(state.make(parent, name, Node::file(Facts::new(0, 0, 0o600), when)))
    }
}

fn inode_of(directory: &Directory) -> io::Result<Inode> {
    directory.handle::<Inode>().copied().ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

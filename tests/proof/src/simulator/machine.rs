//! A machine in memory, as a [`Host`](deploy_core::host::Host): what it is told is done at once, written down, and lost or kept when it crashes.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deploy_core::command::Command;
use deploy_core::host::{FileKind, LockAttempt, LockGuard, Metadata, Status};
use deploy_core::secret::SecretBytes;
use deploy_core::staged_view::StagedView;

use super::disk::{Content, Disk, Facts, Inode, Kind, Node};
use super::fault::{Fault, Phase};
use super::log::{Change, Event};

/// Where the state directory of the engine is on simulated machines; the directory above it is there from the start.
pub const STATE: &str = "/var/lib/certdeploy";

/// What every event takes, in nanoseconds.
const TICK: u128 = 1_000_000;

/// When all machines start: now, for the sake of certificates, and the same for all, so that runs can be compared.
static START: LazyLock<SystemTime> = LazyLock::new(SystemTime::now);

/// What commands do: exit status 0 where it says so, 1 otherwise.
pub type Commands = dyn Fn(&Disk, &Command, Option<&StagedView>) -> bool + Send + Sync;

/// Files as a whole, or bytes of them, that are locked.
type Locks = BTreeSet<(Inode, Option<u64>)>;

/// A machine in memory. Root works on it, nobody else.
pub struct Machine {
    state: Mutex<State>,
    locks: Arc<Mutex<Locks>>,
    pub(super) commands: Arc<Commands>,
    pub(super) boot: u64,
    pub(super) fault: Option<Fault>,
    pub(super) refuses_links: bool,
}

#[derive(Debug)]
pub(super) struct State {
    pub(super) disk: Disk,
    pub(super) log: Vec<Event>,
    serves: Option<usize>,
    /// Nanoseconds since 1970.
    pub(super) clock: u128,
    recovering: bool,
}

impl Machine {
    /// With this disk, at its boot of this number.
    #[must_use]
    pub fn new(disk: Disk, boot: u64) -> Self {
        let clock = START.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        let state = State { disk, log: Vec::new(), serves: None, clock, recovering: false };
        Self {
            state: Mutex::new(state),
            locks: Arc::default(),
            commands: Arc::new(|_, _, _| true),
            boot,
            fault: None,
            refuses_links: false,
        }
    }

    /// As it was after these events: its process was killed, and nothing else happened to it.
    #[must_use]
    pub fn after(disk: &Disk, events: &[Event], boot: u64) -> Self {
        let machine = Self::new(disk.clone(), boot);
        let mut state = machine.state();
        for event in events {
            state.disk.apply(event);
            if let Event::Serves(generation) = event {
                state.serves = *generation;
            }
        }
        state.clock += TICK * events.len() as u128;
        state.log = events.to_vec();
        drop(state);
        machine
    }

    /// With commands that do something.
    #[must_use]
    pub fn with_commands(mut self, commands: Arc<Commands>) -> Self {
        self.commands = commands;
        self
    }

    /// With a seeded fault.
    #[must_use]
    pub fn with_fault(mut self, fault: Option<Fault>) -> Self {
        self.fault = fault;
        self
    }

    /// Refusing hard links, as some file systems do, and all to those who do not own the file.
    #[must_use]
    pub fn refusing_links(mut self, refuses: bool) -> Self {
        self.refuses_links = refuses;
        self
    }

    /// What is on its disk now.
    #[must_use]
    pub fn disk(&self) -> Disk {
        self.state().disk.clone()
    }

    /// What happened on it.
    #[must_use]
    pub fn log(&self) -> Vec<Event> {
        self.state().log.clone()
    }

    /// How many events that is.
    #[must_use]
    pub fn events(&self) -> usize {
        self.state().log.len()
    }

    /// The generation that its service serves.
    #[must_use]
    pub fn serves(&self) -> Option<usize> {
        self.state().serves
    }

    /// Says which generation its service serves from now on.
    pub fn serve(&self, generation: Option<usize>) {
        let mut state = self.state();
        state.serves = generation;
        state.log.push(Event::Serves(generation));
    }

    /// Lets time pass in which nothing happens.
    pub fn wait(&self, time: Duration) {
        self.state().clock += time.as_nanos();
    }

    /// Writes down something that happened outside of it.
    pub fn note(&self, event: Event) {
        self.state().log.push(event);
    }

    /// Says that recovery runs on it from now on, and no deployment.
    pub fn begin_recovery(&self) {
        self.state().recovering = true;
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn has(&self, fault: Fault) -> bool {
        self.fault == Some(fault)
    }

    pub(super) fn lock(&self, inode: Inode, positions: impl Iterator<Item = Option<u64>>) -> LockAttempt {
        let keys: Locks = positions.map(|position| (inode, position)).collect();
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        if !locks.is_disjoint(&keys) {
            return LockAttempt::Busy(b"somebody on this machine".to_vec());
        }
        locks.extend(&keys);
        LockAttempt::Held(Box::new(Held { keys, locks: Arc::clone(&self.locks) }))
    }
}

impl std::fmt::Debug for Machine {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Machine").field("boot", &self.boot).field("fault", &self.fault).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Held {
    keys: Locks,
    locks: Arc<Mutex<Locks>>,
}

impl LockGuard for Held {}

impl Drop for Held {
    fn drop(&mut self) {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner).retain(|key| !self.keys.contains(key));
    }
}

impl State {
    pub(super) fn happen(&mut self, event: Event) {
        self.clock += TICK;
        self.disk.apply(&event);
        self.log.push(event);
    }

    pub(super) fn time(&self) -> i128 {
        i128::try_from(self.clock).unwrap_or_default()
    }

    pub(super) fn make(&mut self, directory: Inode, name: &OsStr, node: Node) -> Inode {
        let inode = self.disk.next();
        let change = Change { directory, name: name.into(), to: Some(inode) };
        self.happen(Event::Names { made: Some((inode, Arc::new(node))), changes: vec![change] });
        inode
    }

    pub(super) fn set_names(&mut self, changes: &[(Inode, &OsStr, Option<Inode>)]) {
        let change = |&(directory, name, to): &(Inode, &OsStr, Option<Inode>)| Change { directory, name: name.into(), to };
        self.happen(Event::Names { made: None, changes: changes.iter().map(change).collect() });
    }

    pub(super) fn found(&self, directory: Inode, name: &OsStr) -> io::Result<Inode> {
        self.disk.look_up(directory, name).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    pub(super) fn free(&self, directory: Inode, name: &OsStr) -> io::Result<()> {
        if self.disk.look_up(directory, name).is_some() { Err(io::ErrorKind::AlreadyExists.into()) } else { Ok(()) }
    }

    pub(super) fn status(&self, inode: Inode) -> Status {
        let node = self.disk.node(inode);
        let (kind, size) = match &node.kind {
            Kind::Directory(_) => (FileKind::Directory, 0),
            Kind::File(content) => (FileKind::Regular, content.bytes().len() as u64),
            Kind::Link(_) => (FileKind::Symlink, 0),
        };
        let mut status = Status::new(kind, 1, inode as u64);
        if kind == FileKind::Regular {
            status.links = self.disk.links(inode);
        }
        status.size = size;
        (status.uid, status.gid, status.mode) = (node.facts.uid, node.facts.gid, node.facts.mode);
        (status.modified, status.changed) = (node.modified, node.modified);
        status
    }

    pub(super) fn read(&self, inode: Inode, limit: u64) -> io::Result<(SecretBytes, Status)> {
        let Kind::File(content) = &self.disk.node(inode).kind else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "is no regular file"));
        };
        if content.bytes().len() as u64 > limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        Ok((SecretBytes::from(content.bytes()), self.status(inode)))
    }

    pub(super) fn write(&mut self, inode: Inode, bytes: &[u8]) {
        let when = self.time();
        self.happen(Event::Bytes(inode, Content::from(bytes), when));
    }

    pub(super) fn set_facts(&mut self, inode: Inode, metadata: &Metadata) {
        let mut facts = Facts::new(metadata.uid, metadata.gid, metadata.mode);
        facts.attributes = match &metadata.attributes {
            Some(attributes) => Arc::new(attributes.clone()),
            None => Arc::clone(&self.disk.node(inode).facts.attributes),
        };
        if self.disk.node(inode).facts != facts {
            self.happen(Event::Facts(inode, facts));
        }
    }

    pub(super) fn phase(&self, path: &Path, directory: Inode) -> Phase {
        let is_switch = |event: &Event| match event {
            Event::Names { made: None, changes } => changes.iter().any(|change| change.directory == directory),
            _ => false,
        };
        Phase {
            is_state: path.starts_with(STATE) || Path::new(STATE).starts_with(path),
            switched: self
                .log
                .iter()
                .rev()
                .take_while(|event| !matches!(event, Event::Begun | Event::Returned(_)))
                .any(is_switch),
            going_back: matches!(self.log.iter().rev().find(|event| is_turn(event)), Some(Event::WayBack)),
            recovering: self.recovering,
        }
    }
}

fn is_turn(event: &Event) -> bool {
    matches!(event, Event::Begun | Event::WayBack | Event::Returned(_))
}

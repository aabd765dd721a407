//! What is on a simulated disk: inodes, and the names that directories have for them.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::hash::{DefaultHasher, Hash, Hasher as _};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use deploy_core::host::Attributes;

use super::log::{Change, Event};

/// The number of an inode. None is ever used again, so that a file that came later is never taken for an earlier one.
pub type Inode = usize;

/// The inode of `/`.
pub const ROOT: Inode = 0;

/// As many symbolic links are followed.
const MOST_LINKS: usize = 40;

/// Bytes that are cheap to copy and to compare.
#[derive(Clone, Default)]
pub struct Content {
    bytes: Arc<[u8]>,
    hash: u64,
}

impl Content {
    /// The bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl From<&[u8]> for Content {
    fn from(bytes: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        hasher.write(bytes);
        Self { bytes: bytes.into(), hash: hasher.finish() }
    }
}

impl PartialEq for Content {
    fn eq(&self, other: &Self) -> bool {
        self.hash == other.hash && self.bytes == other.bytes
    }
}

impl Eq for Content {}

impl std::fmt::Debug for Content {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the bytes, which may be a key.
        write!(formatter, "{} bytes", self.bytes.len())
    }
}

/// Owner, mode and attributes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Facts {
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// The twelve permission bits.
    pub mode: u32,
    /// Extended attributes.
    pub attributes: Arc<Attributes>,
}

impl Facts {
    /// Without attributes.
    #[must_use]
    pub fn new(uid: u32, gid: u32, mode: u32) -> Self {
        Self { uid, gid, mode, attributes: Arc::default() }
    }
}

/// One inode.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Node {
    /// Owner, mode and attributes.
    pub facts: Facts,
    /// When the bytes were changed last, in nanoseconds since 1970.
    pub modified: i128,
    /// What it is.
    pub kind: Kind,
}

/// What an inode is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Kind {
    /// A directory with its names.
    Directory(BTreeMap<Arc<OsStr>, Inode>),
    /// A regular file.
    File(Content),
    /// A symbolic link.
    Link(PathBuf),
}

/// All inodes. A copy of it costs next to nothing.
#[derive(Clone, Debug)]
pub struct Disk {
    nodes: Vec<Arc<Node>>,
}

impl Disk {
    /// An empty one: `/`, which belongs to root.
    #[must_use]
    pub fn new() -> Self {
        Self { nodes: vec![Arc::new(Node::directory(Facts::new(0, 0, 0o755), 0))] }
    }

    /// Makes a directory with all directories above it.
    ///
    /// # Panics
    ///
    /// When something else stands there.
    pub fn make_directory(&mut self, path: &Path) -> Inode {
        path.components().fold(ROOT, |directory, component| match component {
            Component::Normal(name) => {
                self.look_up(directory, name).unwrap_or_else(|| self.make(directory, name, Kind::Directory(BTreeMap::new())))
            }
            _ => directory,
        })
    }

    /// Puts a file to a path; the directory must be there.
    ///
    /// # Panics
    ///
    /// When the directory is not there.
    pub fn put(&mut self, path: &Path, bytes: &[u8], facts: Facts) {
        let inode = self.make_at(path, Kind::File(bytes.into()));
        Arc::make_mut(&mut self.nodes[inode]).facts = facts;
    }

    /// Puts a symbolic link to a path; the directory must be there.
    ///
    /// # Panics
    ///
    /// When the directory is not there.
    pub fn put_link(&mut self, path: &Path, target: &Path) {
        self.make_at(path, Kind::Link(target.to_owned()));
    }

    fn make_at(&mut self, path: &Path, kind: Kind) -> Inode {
        let (directory, name) = (path.parent().and_then(|path| self.directory(path)), path.file_name());
        let (directory, name) = directory.zip(name).expect("a path in a directory that is there");
        self.make(directory, name, kind)
    }

    fn make(&mut self, directory: Inode, name: &OsStr, kind: Kind) -> Inode {
        let inode = self.nodes.len();
        self.nodes.push(Arc::new(Node { facts: Facts::new(0, 0, 0o755), modified: 0, kind }));
        self.change(&Change { directory, name: name.into(), to: Some(inode) });
        inode
    }

    /// The number that the next inode gets.
    #[must_use]
    pub fn next(&self) -> Inode {
        self.nodes.len()
    }

    /// An inode.
    #[must_use]
    pub fn node(&self, inode: Inode) -> &Node {
        &self.nodes[inode]
    }

    /// Does what an event says; one that changes nothing on the disk does nothing.
    pub fn apply(&mut self, event: &Event) {
        self.apply_without_names(event);
        if let Event::Names { changes, .. } = event {
            changes.iter().for_each(|change| self.change(change));
        }
    }

    /// The same, but for the names.
    pub(super) fn apply_without_names(&mut self, event: &Event) {
        match event {
            Event::Names { made: Some((inode, node)), .. } => {
                debug_assert_eq!(*inode, self.nodes.len(), "inodes are made in order");
                self.nodes.push(Arc::clone(node));
            }
            Event::Bytes(inode, content, when) => {
                let node = Arc::make_mut(&mut self.nodes[*inode]);
                (node.kind, node.modified) = (Kind::File(content.clone()), *when);
            }
            Event::Facts(inode, facts) => Arc::make_mut(&mut self.nodes[*inode]).facts = facts.clone(),
            _ => {}
        }
    }

    /// Gives a file other bytes and facts, and a directory other facts, as a power cut does.
    pub(super) fn replace(&mut self, inode: Inode, content: Content, facts: Facts) {
        let node = Arc::make_mut(&mut self.nodes[inode]);
        node.facts = facts;
        if let Kind::File(bytes) = &mut node.kind {
            *bytes = content;
        }
    }

    /// Changes one name.
    pub(super) fn change(&mut self, change: &Change) {
        if let Kind::Directory(names) = &mut Arc::make_mut(&mut self.nodes[change.directory]).kind {
            match change.to {
                Some(inode) => names.insert(Arc::clone(&change.name), inode),
                None => names.remove(&change.name),
            };
        }
    }

    /// The names in a directory; none if it is not one.
    pub fn names(&self, directory: Inode) -> impl Iterator<Item = (&Arc<OsStr>, Inode)> {
        let names = match &self.nodes[directory].kind {
            Kind::Directory(names) => Some(names),
            _ => None,
        };
        names.into_iter().flatten().map(|(name, inode)| (name, *inode))
    }

    /// What a name in a directory stands for.
    #[must_use]
    pub fn look_up(&self, directory: Inode, name: &OsStr) -> Option<Inode> {
        match &self.nodes[directory].kind {
            Kind::Directory(names) => names.get(name).copied(),
            _ => None,
        }
    }

    /// The directory at an absolute path, symbolic links followed.
    #[must_use]
    pub fn directory(&self, path: &Path) -> Option<Inode> {
        let mut rest: Vec<OsString> = path.components().rev().map(|component| component.as_os_str().to_owned()).collect();
        let mut trail = vec![ROOT];
        let mut links = 0;
        while let Some(name) = rest.pop() {
            match name.to_str() {
                Some("/") => trail.truncate(1),
                Some("..") => trail.truncate(trail.len().max(2) - 1),
                _ => {
                    let inode = self.look_up(*trail.last()?, &name)?;
                    match &self.nodes[inode].kind {
                        Kind::Directory(_) => trail.push(inode),
                        Kind::File(_) => return None,
                        Kind::Link(target) => {
                            links += 1;
                            rest.extend(target.components().rev().map(|component| component.as_os_str().to_owned()));
                        }
                    }
                }
            }
            if links > MOST_LINKS {
                return None;
            }
        }
        trail.pop()
    }

    /// What an absolute path stands for, the last name not followed.
    #[must_use]
    pub fn at(&self, path: &Path) -> Option<Inode> {
        match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => self.look_up(self.directory(parent)?, name),
            _ => Some(ROOT),
        }
    }

    /// The file at an absolute path.
    #[must_use]
    pub fn file(&self, path: &Path) -> Option<(&Content, &Facts)> {
        let node = self.node(self.at(path)?);
        match &node.kind {
            Kind::File(content) => Some((content, &node.facts)),
            _ => None,
        }
    }

    /// How many names an inode has.
    #[must_use]
    pub fn links(&self, inode: Inode) -> u64 {
        let names = |node: &Arc<Node>| match &node.kind {
            Kind::Directory(names) => names.values().filter(|named| **named == inode).count() as u64,
            _ => 0,
        };
        self.nodes.iter().map(names).sum()
    }

    /// Every path and what it stands for, in order; directories before what is in them.
    #[must_use]
    pub fn paths(&self) -> Vec<(PathBuf, Inode)> {
        let mut found = vec![(PathBuf::from("/"), ROOT)];
        let mut next = 0;
        while let Some((path, directory)) = found.get(next).cloned() {
            next += 1;
            found.extend(self.names(directory).map(|(name, inode)| (path.join(&**name), inode)));
        }
        found
    }

    /// Which inodes can be reached by a name.
    #[must_use]
    pub fn reachable(&self) -> Vec<bool> {
        let mut reachable = vec![false; self.nodes.len()];
        let mut open = vec![ROOT];
        while let Some(inode) = open.pop() {
            if !std::mem::replace(&mut reachable[inode], true) {
                open.extend(self.names(inode).map(|(_, inode)| inode));
            }
        }
        reachable
    }

    /// Forgets the names in directories that have none themselves, as a check of the file system does.
    pub(super) fn forget_unreachable(&mut self) -> Vec<bool> {
        let reachable = self.reachable();
        for (node, _) in self.nodes.iter_mut().zip(&reachable).filter(|(_, reachable)| !**reachable) {
            if matches!(&node.kind, Kind::Directory(names) if !names.is_empty()) {
                Arc::make_mut(node).kind = Kind::Directory(BTreeMap::new());
            }
        }
        reachable
    }

    /// A number that two disks share only if nobody could tell them apart, but for times.
    #[must_use]
    pub fn likeness(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        let mut open = vec![ROOT];
        while let Some(inode) = open.pop() {
            let node = &self.nodes[inode];
            (inode, &node.facts).hash(&mut hasher);
            match &node.kind {
                Kind::Directory(names) => {
                    for (name, inode) in names {
                        (name, inode).hash(&mut hasher);
                        open.push(*inode);
                    }
                }
                Kind::File(content) => content.hash.hash(&mut hasher),
                Kind::Link(target) => target.hash(&mut hasher),
            }
        }
        hasher.finish()
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self::new()
    }
}

impl Node {
    /// An empty directory.
    #[must_use]
    pub fn directory(facts: Facts, modified: i128) -> Self {
        Self { facts, modified, kind: Kind::Directory(BTreeMap::new()) }
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(target: &Path, modified: i128) -> Self {
        Self { facts: Facts::new(0, 0, 0o777), modified, kind: Kind::Link(target.to_owned()) }
    }

    /// An empty file.
    #[must_use]
    pub fn file(facts: Facts, modified: i128) -> Self {
        Self { facts, modified, kind: Kind::File(Content::default()) }
    }
}

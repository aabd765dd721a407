//! Everything below a directory to the last bit, without what the engine hides.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use deploy_proof::observer;

/// What stands where, by path.
pub(crate) type Tree = BTreeMap<PathBuf, Node>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// With owner, group and mode.
    Directory(u32, u32, u32),
    File(File),
    Link(PathBuf),
    /// A pipe, with its mode.
    Other(u32),
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) owner: (u32, u32),
    pub(crate) mode: u32,
    /// POSIX ACLs included.
    pub(crate) attributes: BTreeMap<OsString, Vec<u8>>,
    /// How many names it has.
    pub(crate) links: u64,
}

impl std::fmt::Debug for File {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let attributes: Vec<String> =
            self.attributes.iter().map(|(name, value)| format!("{name:?}={}", value.escape_ascii())).collect();
        let ((uid, gid), start) = (self.owner, self.bytes[..self.bytes.len().min(8)].escape_ascii());
        write!(
            formatter,
            "{uid}:{gid} {:04o} {} bytes ({start}), {} names, {attributes:?}",
            self.mode,
            self.bytes.len(),
            self.links
        )
    }
}

impl File {
    /// The file at a path.
    pub(crate) fn at(path: &Path) -> Self {
        let observer::File { bytes, owner, mode, attributes, links, .. } = observer::File::at(path).expect("it is there");
        Self { bytes, owner, mode, attributes, links }
    }
}

/// What everybody can see.
pub(crate) fn visible(root: &Path) -> Tree {
    let hidden = |path: &Path| path.components().any(|component| component.as_os_str() == ".certdeploy");
    observer::paths(root).into_iter().filter(|path| !hidden(path)).map(|path| (path.clone(), node(&path))).collect()
}

fn node(path: &Path) -> Node {
    let metadata = path.symlink_metadata().expect("nobody else is here");
    if metadata.is_symlink() {
        Node::Link(path.read_link().expect("a link"))
    } else if metadata.is_dir() {
        Node::Directory(metadata.uid(), metadata.gid(), metadata.mode())
    } else if metadata.is_file() {
        Node::File(File::at(path))
    } else {
        Node::Other(metadata.mode())
    }
}

/// Inode and time of the last change of everything below a directory, but for locks, which every look may take.
pub(crate) fn stamps(root: &Path) -> BTreeMap<PathBuf, (u64, i64, i64)> {
    let is_lock = |path: &Path| path.extension().is_some_and(|ending| ending == "lock");
    let stamp = |path: PathBuf| {
        let metadata = path.symlink_metadata().expect("nobody else is here");
        (path, (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
    };
    observer::paths(root).into_iter().filter(|path| !is_lock(path)).map(stamp).collect()
}

/// Files that the engine hides beside the visible ones, but for those that say whose they are.
pub(crate) fn hidden_files(root: &Path) -> Vec<PathBuf> {
    let hidden = |path: &PathBuf| path.components().any(|component| component.as_os_str() == ".certdeploy");
    observer::paths(root)
        .into_iter()
        .filter(|path| hidden(path) && !path.is_dir() && path.file_name().is_some_and(|name| name != "owner"))
        .collect()
}

/// The first difference between two trees, in words.
pub(crate) fn difference(wanted: &Tree, found: &Tree) -> Option<String> {
    let paths = wanted.keys().chain(found.keys());
    let path = paths.into_iter().find(|path| wanted.get(*path) != found.get(*path))?;
    let bytes = match (wanted.get(path), found.get(path)) {
        (Some(Node::File(one)), Some(Node::File(other))) if one.bytes != other.bytes => ", other bytes",
        _ => "",
    };
    Some(format!("{path:?}: wanted {:?}, found {:?}{bytes}", wanted.get(path), found.get(path)))
}

//! What a directory holds, or a remote, to the last bit: to compare with what it held before.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

/// Everything below some directories: kind, owner, group, mode, extended attributes, bytes. Or the objects of a remote.
#[derive(Clone, PartialEq, Eq)]
pub struct Tree(BTreeMap<PathBuf, Node>);

#[derive(Clone, PartialEq, Eq)]
struct Node {
    kind: &'static str,
    owner: (u32, u32),
    mode: u32,
    /// Inode and time of change: the same only if nobody wrote the file, not even with the same bytes.
    identity: Option<(u64, i64, i64)>,
    attributes: BTreeMap<OsString, Vec<u8>>,
    bytes: Vec<u8>,
}

impl std::fmt::Debug for Tree {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the bytes, which are keys.
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Tree {
    /// What is below `directory` now, hidden files included. A directory that does not exist is an empty tree.
    #[must_use]
    pub fn of(directory: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        walk(directory, false, &mut nodes);
        Self(nodes)
    }

    /// As [`Self::of`]; and two such trees are the same only if no file was written in between.
    #[must_use]
    pub fn untouched(directory: &Path) -> Self {
        let mut nodes = BTreeMap::new();
        walk(directory, true, &mut nodes);
        Self(nodes)
    }

    /// What a remote has: a name and its content for each object, in whatever form two of them can be compared in.
    #[must_use]
    pub fn of_objects(objects: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let node = |bytes| Node { kind: "object", owner: (0, 0), mode: 0, identity: None, attributes: BTreeMap::new(), bytes };
        Self(objects.into_iter().map(|(name, bytes)| (PathBuf::from(name), node(bytes))).collect())
    }

    /// And what another one has.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }

    /// Whether nothing is there.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Without what certdeploy keeps beside the destinations.
    #[must_use]
    pub fn visible(mut self) -> Self {
        self.0.retain(|path, _| !path.components().any(|part| part.as_os_str() == ".certdeploy"));
        self
    }

    /// The part of it whose paths satisfy a condition.
    #[must_use]
    pub fn retain(mut self, condition: impl Fn(&Path) -> bool) -> Self {
        self.0.retain(|path, _| condition(path));
        self
    }

    /// Without a part of it.
    #[must_use]
    pub fn without(mut self, directory: &Path) -> Self {
        self.0.retain(|path, _| !path.starts_with(directory));
        self
    }

    /// All paths.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Kind, mode and bytes of everything.
    pub fn entries(&self) -> impl Iterator<Item = (&Path, &'static str, u32, &[u8])> {
        self.0.iter().map(|(path, node)| (path.as_path(), node.kind, node.mode, node.bytes.as_slice()))
    }

    /// What is different in another one: a line for each path, never with the bytes, which are keys.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<String> {
        let paths: BTreeSet<&PathBuf> = self.0.keys().chain(other.0.keys()).collect();
        let different = paths.into_iter().filter(|path| self.0.get(*path) != other.0.get(*path));
        different
            .map(|path| format!("{}: {} -> {}", path.display(), describe(self.0.get(path)), describe(other.0.get(path))))
            .collect()
    }
}

/// Two trees are the same.
///
/// # Panics
///
/// When they are not, with the paths that differ; never with their bytes, which are keys.
#[track_caller]
pub fn assert_same(before: &Tree, after: &Tree) {
    let different = before.differences(after);
    assert!(different.is_empty(), "changed:\n{}", different.join("\n"));
}

fn describe(node: Option<&Node>) -> String {
    let Some(node) = node else { return "absent".to_owned() };
    let (uid, gid) = node.owner;
    format!("{} {uid}:{gid} {:04o}, {} bytes, {:?}", node.kind, node.mode, node.bytes.len(), node.identity)
}

fn walk(path: &Path, identity: bool, nodes: &mut BTreeMap<PathBuf, Node>) {
    let Ok(metadata) = path.symlink_metadata() else { return };
    let kind = metadata.file_type();
    let (kind, bytes) = if kind.is_symlink() {
        ("link", path.read_link().expect("a link").into_os_string().into_encoded_bytes())
    } else if kind.is_file() {
        ("file", std::fs::read(path).unwrap_or_default())
    } else if kind.is_dir() {
        ("directory", Vec::new())
    } else if kind.is_fifo() {
        ("fifo", Vec::new())
    } else {
        ("device", Vec::new())
    };
    let time = (metadata.ino(), metadata.ctime(), metadata.ctime_nsec());
    let node = Node {
        kind,
        owner: (metadata.uid(), metadata.gid()),
        mode: metadata.mode() & 0o7777,
        identity: (identity && kind == "file").then_some(time),
        attributes: attributes(path),
        bytes,
    };
    nodes.insert(path.to_owned(), node);
    if kind == "directory" {
        for entry in path.read_dir().expect("a directory of the test") {
            walk(&entry.expect("an entry").path(), identity, nodes);
        }
    }
}

fn attributes(path: &Path) -> BTreeMap<OsString, Vec<u8>> {
    let names = xattr::list(path).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
    names.into_iter().filter_map(|name| Some((name.clone(), xattr::get(path, &name).ok()??))).collect()
}

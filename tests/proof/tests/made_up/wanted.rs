//! What a deployment is to make of a tree: written from the design, without a line of the engine's.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use deploy_core::{LinkPolicy, Role};

use super::acl;
use super::case::{Before, Case, Planned};
use super::tree::{File, Node, Tree};
use super::world::{World, content, material};

/// What is wanted of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The plan is refused.
    Refused,
    /// The tree that stands there afterwards, and whether any file has to be written for that.
    Tree { after: Tree, changes: bool },
}

/// Of deploying the certificate `new` onto a tree.
pub(crate) fn wanted(world: &World, case: &Case, new: usize, before: &Tree) -> Wanted {
    let (mut after, mut changes) = (before.clone(), false);
    for file in &case.files {
        let Some(path) = real(world, case, file, before) else { return Wanted::Refused };
        let old = match before.get(&path) {
            Some(Node::File(old)) => Some(old),
            _ => None,
        };
        let bytes = content(file.role, &material()[new], &file.opaque);
        changes |= old.is_none_or(|old| old.bytes != bytes);
        after.insert(path, Node::File(settled(case, file, old, bytes)));
    }
    Wanted::Tree { after, changes }
}

/// The path in the tree where a file really is; `None` where the policy refuses what is there.
pub(crate) fn real(world: &World, case: &Case, file: &Planned, tree: &Tree) -> Option<PathBuf> {
    let path = physical(&world.path(file));
    let is_link = matches!(tree.get(&path), Some(Node::Link(_)));
    match (&file.before, case.links) {
        (_, _) if !is_link => Some(path),
        (_, LinkPolicy::Replace) => Some(path),
        (Before::Link { hops, directory, behind: Some(_) }, LinkPolicy::Follow) => {
            Some(physical(&world.directory(*directory).join(file.name.behind(*hops))))
        }
        _ => None,
    }
}

/// With the directory as it really is, which is how a tree names it.
fn physical(path: &Path) -> PathBuf {
    let (parent, name) = (path.parent().expect("a directory"), path.file_name().expect("a name"));
    parent.canonicalize().expect("the directory is there").join(name)
}

/// Overrides win, each by itself; then what is there; then the plan's defaults; then root's own.
fn settled(case: &Case, file: &Planned, old: Option<&File>, bytes: Vec<u8>) -> File {
    let usual_mode = if matches!(file.role, Role::Combined | Role::Key | Role::Opaque) { 0o600 } else { 0o644 };
    let mut settled = match old {
        Some(old) => File { mode: old.mode & 0o777, ..old.clone() },
        None => {
            let owner = (case.defaults.uid.unwrap_or(0), case.defaults.gid.unwrap_or(0));
            let mode = case.defaults.mode.unwrap_or(usual_mode);
            File { bytes: Vec::new(), owner, mode, attributes: BTreeMap::new(), links: 1 }
        }
    };
    settled.owner = (file.owner.uid.unwrap_or(settled.owner.0), file.owner.gid.unwrap_or(settled.owner.1));
    if matches!(file.role, Role::Combined | Role::Key) {
        // Only a mode that is asked for opens a key to everybody.
        settled.mode &= 0o770;
    }
    settled.mode = file.owner.mode.unwrap_or(settled.mode);
    let mode = settled.mode;
    if let Some(list) = settled.attributes.get_mut(std::ffi::OsStr::new(acl::NAME)) {
        *list = acl::after_chmod(list, mode);
    }
    settled.bytes = bytes;
    settled
}

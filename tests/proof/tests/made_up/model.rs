//! What is to be there after every step of a play: bytes, owners, modes, attributes, and how far one can go back.

use deploy_core::Outcome;

use super::acl;
use super::case::Case;
use super::tree::{File, Node, Tree};
use super::wanted::{Wanted, real, wanted};
use super::world::{World, content, material};

/// What a plan puts into each of its files; `None` for one that is not to exist.
type Contents = Vec<Option<Vec<u8>>>;

pub(crate) struct Model<'a> {
    world: &'a World,
    case: &'a Case,
    pub(crate) tree: Tree,
    /// What the target took up last, as long as that is known.
    settled: Option<Contents>,
    /// What was gone back from.
    hold: Option<Contents>,
    /// What can be gone back to, the oldest first.
    pub(crate) sets: Vec<Set>,
}

/// The files before a deployment, in the plan's order, each with whether the deployment changed it.
pub(crate) struct Set(Vec<(Option<File>, bool)>);

impl<'a> Model<'a> {
    pub(crate) fn new(world: &'a World, case: &'a Case, tree: Tree) -> Self {
        Self { world, case, tree, settled: None, hold: None, sets: Vec::new() }
    }

    /// Deploys a certificate, by force or not, to a target that takes it up or not.
    pub(crate) fn deploy(&mut self, new: usize, force: bool, taken_up: bool) -> Outcome {
        let Wanted::Tree { after, changes } = wanted(self.world, self.case, new, &self.tree) else {
            unreachable!("a play has no links")
        };
        let bytes = |file: &super::case::Planned| Some(content(file.role, &material()[new], &file.opaque));
        let contents: Contents = self.case.files.iter().map(bytes).collect();
        let settled = self.settled.as_ref() == Some(&contents);
        match () {
            () if settled && !force && after == self.tree => Outcome::Unchanged,
            () if self.hold.as_ref() == Some(&contents) && !force => Outcome::Unchanged,
            () if changes && !taken_up => Outcome::RolledBack,
            () if changes => {
                self.hold = None;
                self.change(after, contents);
                Outcome::Changed
            }
            () if settled && !force => {
                self.tree = after;
                Outcome::Repaired
            }
            () if taken_up => {
                (self.tree, self.settled) = (after, Some(contents));
                Outcome::Repaired
            }
            // The bytes were right all along, so that there is nothing to go back to; the reload stays owed.
            () => {
                (self.tree, self.settled, self.hold) = (after, None, None);
                Outcome::Rejected
            }
        }
    }

    /// Goes back to the state before the change number `to` of those that can be gone back to.
    pub(crate) fn roll_back(&mut self, to: Option<usize>) -> Outcome {
        let Some(to) = to else { return Outcome::Rejected };
        let (mut after, mut changes) = (self.tree.clone(), false);
        let mut contents = Contents::new();
        for (index, file) in self.case.files.iter().enumerate() {
            let path = real(self.world, self.case, file, &self.tree).expect("a play has no links");
            let (old, now) = (self.sets[to].0[index].0.as_ref(), self.file(&path));
            contents.push(old.map(|old| old.bytes.clone()));
            let Some(old) = old else {
                changes |= after.remove(&path).is_some();
                continue;
            };
            // The first change since then has the backup; where there is none, the file itself has to do.
            let changed = self.sets[to..].iter().map(|set| &set.0[index]).find(|(_, changed)| *changed);
            let Some(kept) = changed.and_then(|(before, _)| before.as_ref()).or(now) else { return Outcome::Rejected };
            if kept.bytes != old.bytes {
                return Outcome::Rejected;
            }
            if now.is_some_and(|now| (&old.bytes, old.owner, old.mode) == (&now.bytes, now.owner, now.mode)) {
                continue;
            }
            changes |= now.is_none_or(|now| now.bytes != old.bytes);
            let mut back = File { attributes: kept.attributes.clone(), ..old.clone() };
            chmod(&mut back, old.mode);
            after.insert(path, Node::File(back));
        }
        let outcome = match () {
            () if changes => Outcome::Changed,
            () if self.settled.as_ref() == Some(&contents) && after == self.tree => return Outcome::Unchanged,
            () => Outcome::Repaired,
        };
        if self.settled.as_ref() != Some(&contents) {
            self.hold = self.settled.take();
        }
        if changes {
            self.change(after, contents);
        } else {
            (self.tree, self.settled) = (after, Some(contents));
        }
        outcome
    }

    /// Somebody writes into a file, or makes it.
    pub(crate) fn edit(&mut self, index: usize, bytes: &[u8], umasked: u32) {
        let path = self.path(index);
        match self.tree.get_mut(&path) {
            Some(Node::File(file)) => file.bytes = bytes.to_vec(),
            _ => {
                let file = File { bytes: bytes.to_vec(), owner: (0, 0), mode: umasked, attributes: Default::default(), links: 1 };
                self.tree.insert(path, Node::File(file));
            }
        }
    }

    pub(crate) fn remove(&mut self, index: usize) {
        let path = self.path(index);
        self.tree.remove(&path);
    }

    pub(crate) fn chmod(&mut self, index: usize, mode: u32) {
        let path = self.path(index);
        if let Some(Node::File(file)) = self.tree.get_mut(&path) {
            chmod(file, mode);
        }
    }

    pub(crate) fn chown(&mut self, index: usize, owner: (u32, u32)) {
        let path = self.path(index);
        if let Some(Node::File(file)) = self.tree.get_mut(&path) {
            file.owner = owner;
        }
    }

    /// What is known of the last success is lost.
    pub(crate) fn forget(&mut self) {
        (self.settled, self.hold) = (None, None);
    }

    fn path(&self, index: usize) -> std::path::PathBuf {
        real(self.world, self.case, &self.case.files[index], &self.tree).expect("a play has no links")
    }

    fn file(&self, path: &std::path::Path) -> Option<&File> {
        match self.tree.get(path) {
            Some(Node::File(file)) => Some(file),
            _ => None,
        }
    }

    fn change(&mut self, after: Tree, contents: Contents) {
        let before = (0..self.case.files.len()).map(|index| {
            let path = self.path(index);
            (self.file(&path).cloned(), self.tree.get(&path) != after.get(&path))
        });
        let set = Set(before.collect());
        self.sets.push(set);
        self.sets.drain(..self.sets.len().saturating_sub(self.case.backups));
        (self.tree, self.settled) = (after, Some(contents));
    }
}

fn chmod(file: &mut File, mode: u32) {
    file.mode = mode;
    if let Some(list) = file.attributes.get_mut(std::ffi::OsStr::new(acl::NAME)) {
        *list = acl::after_chmod(list, mode);
    }
}

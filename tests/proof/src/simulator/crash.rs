//! What a crash can leave on the disk.
//!
//! Unsynced names are lost in the ways of four models. Unsynced bytes are lost in the same three ways under all of them but
//! the first: each file by itself has its new content, its last synced one (or none), or the new one with its end as zeros.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::ffi::OsStr;
use std::sync::Arc;

use fastrand::Rng;

use super::disk::{Content, Disk, Facts, Inode, Kind, Node};
use super::log::{Change, Event};

/// Which changes of names a crash can lose.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Model {
    /// None: the process is killed, and the system goes on.
    Kill,
    /// All operations from some point on: what file systems with one journal do.
    Ordered,
    /// Any operations, but for each name the earlier ones are in before the later ones.
    Independent,
    /// The same for each single name, so that a rename may be half done.
    Torn,
}

impl Model {
    /// All of them, from the mildest on.
    pub const ALL: [Self; 4] = [Self::Kill, Self::Ordered, Self::Independent, Self::Torn];

    /// Those of a power cut.
    pub const POWER: [Self; 3] = [Self::Ordered, Self::Independent, Self::Torn];

    /// What tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Ordered => "ordered",
            Self::Independent => "independent",
            Self::Torn => "torn renames",
        }
    }
}

/// How much of it is tried. Above a cap, none, all, each alone and all but one are, and then random ones.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Caps {
    /// Subsets of the unsynced changes of names.
    pub subsets: usize,
    /// Combinations of contents of unsynced files, for each subset.
    pub contents: usize,
}

impl Caps {
    /// At most so many subsets, and for each so many combinations of contents.
    #[must_use]
    pub fn new(subsets: usize, contents: usize) -> Self {
        Self { subsets, contents }
    }
}

/// A crash at one point of a log.
#[derive(Debug)]
pub struct Crash {
    /// Everything that is on the medium for certain; unsynced files with their new content.
    base: Disk,
    /// What may be there besides, in order.
    pending: Vec<Pending>,
    unsynced: BTreeMap<Inode, Unsynced>,
}

/// Changes that are on the medium together or not at all.
#[derive(Debug)]
struct Pending {
    changes: Vec<Change>,
    /// Earlier ones that are there if this one is.
    needs: Vec<usize>,
}

#[derive(Debug)]
struct Unsynced {
    new: (Content, Facts),
    durable: (Content, Facts),
}

impl Crash {
    /// After these events, which began on this disk.
    #[must_use]
    pub fn after(start: &Disk, events: &[Event], model: Model) -> Self {
        let mut base = start.clone();
        events.iter().for_each(|event| base.apply_without_names(event));
        let mut pending: Vec<Pending> = Vec::new();
        let mut last: HashMap<(Inode, &OsStr), usize> = HashMap::new();
        for element in elements(events, model) {
            if element.durable {
                element.changes.iter().for_each(|change| base.change(change));
                continue;
            }
            let mut needs = Vec::new();
            for change in element.changes {
                needs.extend(last.insert((change.directory, &change.name), pending.len()));
            }
            needs.retain(|need| *need < pending.len());
            if model == Model::Ordered {
                needs = pending.len().checked_sub(1).into_iter().collect();
            }
            pending.push(Pending { changes: element.changes.to_vec(), needs });
        }
        let unsynced = if model == Model::Kill { BTreeMap::new() } else { unsynced(start, events, &base) };
        Self { base, pending, unsynced }
    }

    /// Calls `visit` with every disk that can be found afterwards, up to the caps.
    pub fn states(&self, caps: Caps, random: &mut Rng, visit: &mut dyn FnMut(Disk)) {
        for subset in self.subsets(caps.subsets, random) {
            let mut disk = self.base.clone();
            for pending in subset.iter().map(|index| &self.pending[*index]) {
                pending.changes.iter().for_each(|change| disk.change(change));
            }
            let reachable = disk.forget_unreachable();
            let open: Vec<(Inode, &Unsynced)> = self
                .unsynced
                .iter()
                .filter(|(inode, _)| reachable[**inode])
                .map(|(inode, unsynced)| (*inode, unsynced))
                .collect();
            for losses in losses(open.len(), caps.contents, random) {
                let mut disk = disk.clone();
                for ((inode, unsynced), loss) in open.iter().zip(losses) {
                    let (content, facts) = unsynced.after(loss);
                    disk.replace(*inode, content, facts);
                }
                visit(disk);
            }
        }
    }

    /// Sets of pending changes in which each has what it needs.
    fn subsets(&self, cap: usize, random: &mut Rng) -> Vec<Vec<usize>> {
        let mut all = vec![Vec::new()];
        for (index, pending) in self.pending.iter().enumerate() {
            let fits = |subset: &&Vec<usize>| pending.needs.iter().all(|need| subset.contains(need));
            let more: Vec<Vec<usize>> =
                all.iter().filter(fits).map(|subset| subset.iter().copied().chain([index]).collect()).collect();
            all.extend(more);
            if all.len() > cap {
                return self.sampled(cap, random);
            }
        }
        all
    }

    fn sampled(&self, cap: usize, random: &mut Rng) -> Vec<Vec<usize>> {
        let count = self.pending.len();
        let mut found: BTreeSet<Vec<usize>> = BTreeSet::from([Vec::new(), (0..count).collect()]);
        for one in 0..count {
            found.insert(self.with_needs(&[one]));
            found.insert(self.without(one));
        }
        // Each try may find one that is there already, or none that is new.
        for _ in 0..cap.saturating_sub(found.len()) {
            let most = random.usize(1..=count);
            let chosen: Vec<usize> = (0..count).filter(|_| random.usize(..count) < most).collect();
            found.insert(self.with_needs(&chosen));
        }
        found.into_iter().collect()
    }

    fn with_needs(&self, chosen: &[usize]) -> Vec<usize> {
        let mut all = BTreeSet::new();
        let mut open = chosen.to_vec();
        while let Some(index) = open.pop() {
            if all.insert(index) {
                open.extend(&self.pending[index].needs);
            }
        }
        all.into_iter().collect()
    }

    fn without(&self, one: usize) -> Vec<usize> {
        let mut left: Vec<usize> = (0..one).collect();
        for (index, pending) in self.pending.iter().enumerate().skip(one + 1) {
            if pending.needs.iter().all(|need| left.contains(need)) {
                left.push(index);
            }
        }
        left
    }
}

/// What became of an unsynced file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    Nothing,
    Everything,
    /// The end of what was added is zeros.
    End,
}

const LOSSES: [Loss; 3] = [Loss::Nothing, Loss::Everything, Loss::End];

impl Unsynced {
    fn after(&self, loss: Loss) -> (Content, Facts) {
        match loss {
            Loss::Nothing => self.new.clone(),
            Loss::Everything => self.durable.clone(),
            Loss::End => {
                let (new, durable) = (self.new.0.bytes(), self.durable.0.bytes());
                let kept = if new.starts_with(durable) { durable.len() } else { 0 };
                let kept = kept + (new.len() - kept) / 2;
                let mut bytes = new.to_vec();
                bytes[kept..].fill(0);
                (Content::from(&*bytes), self.new.1.clone())
            }
        }
    }
}

/// Combinations of losses of so many files.
fn losses(files: usize, cap: usize, random: &mut Rng) -> Vec<Vec<Loss>> {
    let all = u32::try_from(files).ok().and_then(|files| 3_usize.checked_pow(files)).filter(|all| *all <= cap);
    if let Some(all) = all {
        let digit = |number: usize, place: usize| LOSSES[number / 3_usize.pow(u32::try_from(place).unwrap_or_default()) % 3];
        return (0..all).map(|number| (0..files).map(|place| digit(number, place)).collect()).collect();
    }
    let mut found: Vec<Vec<Loss>> = LOSSES.iter().map(|loss| vec![*loss; files]).collect();
    for one in 0..files {
        for (loss, others) in [(Loss::Everything, Loss::Nothing), (Loss::End, Loss::Nothing), (Loss::Nothing, Loss::Everything)] {
            found.push((0..files).map(|index| if index == one { loss } else { others }).collect());
        }
    }
    while found.len() < cap {
        found.push((0..files).map(|_| LOSSES[random.usize(..LOSSES.len())]).collect());
    }
    // Below the number of those that are always tried, any of them is.
    if cap < LOSSES.len() {
        found = (0..cap).map(|_| found[random.usize(..found.len())].clone()).collect();
    }
    found.truncate(cap);
    found
}

/// Changes of names that a model keeps together.
struct Element<'a> {
    changes: &'a [Change],
    durable: bool,
}

fn elements(events: &[Event], model: Model) -> Vec<Element<'_>> {
    let mut elements: Vec<Element<'_>> = Vec::new();
    for event in events {
        match event {
            Event::Names { changes, .. } => {
                let size = if model == Model::Torn { 1 } else { changes.len().max(1) };
                let durable = model == Model::Kill;
                elements.extend(changes.chunks(size).map(|changes| Element { changes, durable }));
            }
            Event::SyncedNames(directory) => {
                let touches = |element: &Element<'_>| element.changes.iter().any(|change| change.directory == *directory);
                if model == Model::Ordered {
                    let synced = elements.iter().rposition(touches).map_or(0, |last| last + 1);
                    elements[..synced].iter_mut().for_each(|element| element.durable = true);
                } else {
                    elements.iter_mut().filter(|element| touches(element)).for_each(|element| element.durable = true);
                    settle_earlier(&mut elements);
                }
            }
            _ => {}
        }
    }
    elements
}

/// What came before a durable change of the same name is settled, too.
fn settle_earlier(elements: &mut [Element<'_>]) {
    let mut settled: HashSet<(Inode, Arc<OsStr>)> = HashSet::new();
    for element in elements.iter_mut().rev() {
        let names = || element.changes.iter().map(|change| (change.directory, Arc::clone(&change.name)));
        element.durable |= names().any(|name| settled.contains(&name));
        if element.durable {
            settled.extend(names());
        }
    }
}

/// Files and directories whose bytes or facts are not on the medium, with what is there instead.
fn unsynced(start: &Disk, events: &[Event], now: &Disk) -> BTreeMap<Inode, Unsynced> {
    let mut current: BTreeMap<Inode, (Content, Facts)> = BTreeMap::new();
    let mut durable: BTreeMap<Inode, (Content, Facts)> = BTreeMap::new();
    for event in events {
        let inode = match event {
            Event::Names { made: Some((inode, node)), .. } => {
                durable.insert(*inode, (bytes(node), node.facts.clone()));
                current.insert(*inode, (bytes(node), node.facts.clone()));
                continue;
            }
            Event::Bytes(inode, ..) | Event::Facts(inode, _) | Event::SyncedFile(inode) | Event::SyncedNames(inode) => *inode,
            _ => continue,
        };
        let before = || (bytes(start.node(inode)), start.node(inode).facts.clone());
        let state = current.entry(inode).or_insert_with(before);
        durable.entry(inode).or_insert_with(|| state.clone());
        match event {
            Event::Bytes(_, content, _) => state.0 = content.clone(),
            Event::Facts(_, facts) => state.1 = facts.clone(),
            _ => drop(durable.insert(inode, state.clone())),
        }
    }
    debug_assert!(current.iter().all(|(inode, (content, _))| bytes(now.node(*inode)) == *content), "nothing is missed");
    let pairs = current.into_iter().filter_map(|(inode, new)| Some((inode, Unsynced { durable: durable.remove(&inode)?, new })));
    pairs.filter(|(_, file)| file.new != file.durable).collect()
}

/// The bytes of a file; none of anything else.
fn bytes(node: &Node) -> Content {
    match &node.kind {
        Kind::File(content) => content.clone(),
        _ => Content::default(),
    }
}

//! The layout `generation` on a simulated disk, looked at without the engine: where the link leads, and what is left over.

use std::ffi::OsStr;
use std::path::Path;

use super::disk::{Disk, Kind};
use super::machine::STATE;

/// Readers can enter it.
const OPEN: u32 = 0o755;

/// Nobody else can.
const CLOSED: u32 = 0o700;

/// Why readers of `DIR/current` do not find a generation, if there is a link at all.
pub(super) fn problem(disk: &Disk, directory: &Path) -> Option<String> {
    let link = directory.join("current");
    let Kind::Link(target) = &disk.node(disk.at(&link)?).kind else {
        return Some(format!("{} is no link", link.display()));
    };
    let is_open = |path: &Path| disk.directory(path).is_some_and(|inode| disk.node(inode).facts.mode == OPEN);
    let leads = number(target.as_os_str()).is_some() && is_open(directory) && is_open(&link);
    (!leads).then(|| format!("{} leads to {}, and readers do not get there", link.display(), target.display()))
}

/// Links that are not in use.
pub(super) fn stray_links(disk: &Disk, directory: &Path) -> Vec<String> {
    names(disk, directory).into_iter().filter(|name| name.ends_with(".link")).collect()
}

/// Generations that are neither live, nor just replaced, nor what a set goes back to; and those of them that readers can
/// still enter although they were replaced long ago.
pub(super) fn stray_generations(disk: &Disk, directory: &Path) -> Vec<String> {
    let current = disk.at(&directory.join("current")).and_then(|inode| match &disk.node(inode).kind {
        Kind::Link(target) => number(target.as_os_str()),
        _ => None,
    });
    let numbers = || names(disk, directory).into_iter().filter_map(|name| number(OsStr::new(&name)));
    let replaced = numbers().filter(|number| Some(*number) < current).max();
    let sets = sets(disk);
    let problem = |number: u64| {
        let name = format!("generation-{number:08}");
        let mode = disk.directory(&directory.join(&name)).map(|inode| disk.node(inode).facts.mode);
        if !sets.contains(&format!("\"old\":\"{name}\"")) {
            Some(format!("{name} of no set"))
        } else if mode != Some(CLOSED) {
            Some(format!("{name}, open"))
        } else {
            None
        }
    };
    numbers().filter(|number| ![current, replaced].contains(&Some(*number))).filter_map(problem).collect()
}

/// The text of all sets.
fn sets(disk: &Disk) -> String {
    let targets = Path::new(STATE).join("targets");
    let sets = names(disk, &targets).into_iter().filter(|name| name.ends_with(".set"));
    let texts = sets.filter_map(|name| Some(String::from_utf8_lossy(disk.file(&targets.join(name))?.0.bytes()).into_owned()));
    texts.collect()
}

fn names(disk: &Disk, directory: &Path) -> Vec<String> {
    let names = disk.directory(directory).into_iter().flat_map(|inode| disk.names(inode));
    names.map(|(name, _)| name.to_string_lossy().into_owned()).collect()
}

fn number(name: &OsStr) -> Option<u64> {
    name.to_str()?.strip_prefix("generation-")?.parse().ok()
}

//! Those who look at the files while they are being replaced, and know nothing of locks.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rustix::fs::{Mode, OFlags, open, openat};

use super::Ground;
use crate::mark::Mark;

/// What a reader saw.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Seen {
    /// How often it read both files.
    pub pairs: u64,
    /// How often they were not of one deployment.
    pub mixed_reads: u64,
    /// The different mixtures, however often each of them was read.
    pub mixtures: BTreeSet<(u64, u64)>,
    /// Files that were neither an old nor a new one.
    pub torn: u64,
    /// Names that were not there.
    pub missing: u64,
}

/// Opens the certificate, then the key, each by its path, until it is told to stop; after each time it rests so long.
#[must_use]
pub fn path_by_path(ground: &Ground, rest: Duration, stop: &AtomicBool) -> Seen {
    let (crt, key) = (ground.crt(), ground.key());
    let mut seen = Seen::default();
    while !stop.load(Ordering::SeqCst) {
        seen.take(std::fs::read(&crt).ok(), std::fs::read(&key).ok());
        if !rest.is_zero() {
            std::thread::sleep(rest);
        }
    }
    seen
}

/// Opens the directory once for every pair, and both files in it.
#[must_use]
pub fn through_one_directory(ground: &Ground, stop: &AtomicBool) -> Seen {
    let path = ground.directory();
    let names = [ground.crt(), ground.key()].map(|path| path.file_name().map(OsStr::to_owned).expect("a name"));
    let mut seen = Seen::default();
    while !stop.load(Ordering::SeqCst) {
        match open(&path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
            Ok(directory) => seen.take(read_in(&directory, &names[0]), read_in(&directory, &names[1])),
            Err(_) => seen.missing += 1,
        }
    }
    seen
}

impl Seen {
    fn take(&mut self, crt: Option<Vec<u8>>, key: Option<Vec<u8>>) {
        let (Some(crt), Some(key)) = (crt, key) else {
            self.missing += 1;
            return;
        };
        match (Mark::of(&crt), Mark::of(&key)) {
            (Some(crt), Some(key)) => {
                self.pairs += 1;
                if crt != key {
                    self.mixed_reads += 1;
                    self.mixtures.insert((crt.number, key.number));
                }
            }
            _ => self.torn += 1,
        }
    }
}

fn read_in(directory: &OwnedFd, name: &OsStr) -> Option<Vec<u8>> {
    let file = openat(directory, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

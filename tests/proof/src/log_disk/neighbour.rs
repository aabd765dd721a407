//! Somebody else who uses the same file system.

use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::fs::syncfs;

/// How long it leaves the file system alone when nothing happens.
const PAUSE: Duration = Duration::from_millis(20);

/// Writes and syncs files of its own, so that the file system commits at moments that nobody else chose: every few
/// milliseconds, and whenever one of the names that it watches stands for another file; until it is dropped.
#[derive(Debug)]
pub struct Neighbour {
    moves_out: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Neighbour {
    /// Moves into a directory.
    ///
    /// # Panics
    ///
    /// When it can't.
    #[must_use]
    pub fn in_directory(directory: &Path, watched: &[PathBuf]) -> Self {
        let moves_out = Arc::new(AtomicBool::new(false));
        let (directory, watched, ends) = (directory.to_owned(), watched.to_vec(), moves_out.clone());
        std::fs::create_dir_all(&directory).expect("a directory of its own");
        let thread = std::thread::spawn(move || live(&directory, &watched, &ends));
        Self { moves_out, thread: Some(thread) }
    }
}

fn live(directory: &Path, watched: &[PathBuf], ends: &AtomicBool) {
    let inodes = || -> Vec<Option<u64>> { watched.iter().map(|path| Some(path.metadata().ok()?.ino())).collect() };
    let (mut seen, mut synced, mut round) = (inodes(), Instant::now(), 0_u64);
    while !ends.load(Ordering::Relaxed) {
        let now = inodes();
        if seen != now || synced.elapsed() > PAUSE {
            // For a sync of one file ext4 commits everything, the others only what that file needs.
            work(directory, round, seen != now);
            (seen, synced, round) = (now, Instant::now(), round + 1);
        }
        std::thread::sleep(Duration::from_micros(100));
    }
}

fn work(directory: &Path, round: u64, sync_everything: bool) {
    let mut file = File::create(directory.join((round % 8).to_string())).expect("a file of its own");
    write!(file, "round {round}").expect("there is room");
    match sync_everything {
        true => syncfs(&file).expect("a sync of everything"),
        false => file.sync_all().expect("a sync"),
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        self.moves_out.store(true, Ordering::Relaxed);
        let ended = self.thread.take().expect("it is dropped once").join();
        assert!(ended.is_ok() || std::thread::panicking(), "the neighbour had an accident");
    }
}

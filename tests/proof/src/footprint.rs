//! What the engine keeps: beside the destinations, in the state directory, and in its own process.

use std::path::{Path, PathBuf};

use crate::observer::paths;

/// How much there is of everything at one moment.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Footprint {
    /// Regular files in the hidden directories.
    pub hidden_files: u64,
    /// Their bytes.
    pub hidden_bytes: u64,
    /// Regular files in the state directory, history not counted.
    pub state_files: u64,
    /// Their bytes.
    pub state_bytes: u64,
    /// Deployments that can be gone back to.
    pub sets: u64,
    /// Deployments that are not settled.
    pub journals: u64,
    /// Bytes of history.
    pub history_bytes: u64,
    /// Open files of this process.
    pub descriptors: u64,
    /// Its threads.
    pub threads: u64,
    /// Its memory, in KiB.
    pub resident: u64,
}

impl Footprint {
    /// Of what was deployed to a directory with this state directory, and of this process.
    #[must_use]
    pub fn take(destinations: &Path, state: &Path) -> Self {
        let hidden = files(&destinations.join(".certdeploy"));
        let (history, state): (Vec<_>, Vec<_>) = files(state).into_iter().partition(|path| name(path).starts_with("history."));
        let ending = |ending: &str| count(&state.iter().filter(|path| name(path).ends_with(ending)).collect::<Vec<_>>());
        Self {
            hidden_files: count(&hidden),
            hidden_bytes: bytes(&hidden),
            state_files: count(&state),
            state_bytes: bytes(&state),
            sets: ending(".set"),
            journals: ending(".jnl"),
            history_bytes: bytes(&history),
            descriptors: count(&entries("/proc/self/fd")),
            threads: count(&entries("/proc/self/task")),
            resident: resident(),
        }
    }

    /// The numbers, each with what to call it.
    #[must_use]
    pub fn numbers(&self) -> [(&'static str, u64); 10] {
        [
            ("hidden files", self.hidden_files),
            ("hidden bytes", self.hidden_bytes),
            ("state files", self.state_files),
            ("state bytes", self.state_bytes),
            ("sets", self.sets),
            ("journals", self.journals),
            ("history bytes", self.history_bytes),
            ("descriptors", self.descriptors),
            ("threads", self.threads),
            ("resident KiB", self.resident),
        ]
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let is_file = |path: &PathBuf| path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    paths(directory).into_iter().filter(is_file).collect()
}

fn entries(directory: &str) -> Vec<PathBuf> {
    std::fs::read_dir(directory).expect("/proc").flatten().map(|entry| entry.path()).collect()
}

fn bytes(files: &[PathBuf]) -> u64 {
    files.iter().filter_map(|path| path.symlink_metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn count<T>(files: &[T]) -> u64 {
    u64::try_from(files.len()).expect("not that many")
}

fn name(path: &Path) -> String {
    path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("Linux says it");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

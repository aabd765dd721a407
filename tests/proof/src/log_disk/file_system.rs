//! The file systems that are tried, with their own tools.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use deploy_e2e::system::tool;

use super::disk::Disk;

/// What `mkfs` makes of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FileSystem {
    /// btrfs as it comes.
    Btrfs,
    /// ext4 as it comes.
    Ext4,
    /// ext4 with the `fast_commit` journal.
    Ext4FastCommit,
    /// ext4 without a journal, which `e2fsck` repairs before it is mounted.
    Ext4NoJournal,
    /// XFS as it comes.
    Xfs,
}

impl FileSystem {
    /// As proofs are named.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Btrfs => "btrfs",
            Self::Ext4 => "ext4",
            Self::Ext4FastCommit => "ext4-fast-commit",
            Self::Ext4NoJournal => "ext4-no-journal",
            Self::Xfs => "xfs",
        }
    }

    /// A disk that is large enough for it, in bytes.
    #[must_use]
    pub fn size(self) -> u64 {
        match self {
            Self::Btrfs => 128 << 20,
            Self::Ext4 | Self::Ext4FastCommit | Self::Ext4NoJournal => 64 << 20,
            // `mkfs.xfs` makes nothing smaller.
            Self::Xfs => 320 << 20,
        }
    }

    /// Makes one on a disk.
    ///
    /// # Panics
    ///
    /// When its tools are missing or fail.
    pub fn make(self, disk: &Disk) {
        let ext4 = ["mkfs.ext4", "-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0"];
        let (package, command): (_, Vec<&str>) = match self {
            Self::Btrfs => ("btrfs-progs", vec!["mkfs.btrfs", "-q", "-f", "-K"]),
            Self::Ext4 => ("e2fsprogs", ext4.to_vec()),
            Self::Ext4FastCommit => ("e2fsprogs", [&ext4[..], &["-O", "fast_commit"]].concat()),
            Self::Ext4NoJournal => ("e2fsprogs", [&ext4[..], &["-O", "^has_journal"]].concat()),
            Self::Xfs => ("xfsprogs", vec!["mkfs.xfs", "-q", "-f", "-K"]),
        };
        tool(package, &[&command[..], &[text(disk.file())]].concat());
    }

    /// Mounts it as a boot does: repaired where it has no journal, else with what its journal says replayed by the kernel.
    ///
    /// # Errors
    ///
    /// What `e2fsck` or `mount` said.
    ///
    /// # Panics
    ///
    /// When they can't be started.
    pub fn mount(self, disk: &Disk, at: &Path) -> Result<Mounted, String> {
        if self == Self::Ext4NoJournal {
            // Up to 2: errors were corrected.
            run(&["e2fsck", "-y", text(disk.file())], 2)?;
        }
        let kind = self.name().split('-').next().unwrap_or_default();
        run(&["mount", "-t", kind, "-o", "loop,noatime,nodiscard", text(disk.file()), text(at)], 0)?;
        Ok(Mounted(at.to_owned()))
    }
}

/// A mounted file system, with a loop device that goes with it; undone when it is dropped.
#[derive(Debug)]
pub struct Mounted(PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        if let Err(error) = run(&["umount", text(&self.0)], 0) {
            assert!(std::thread::panicking(), "{error}");
        }
    }
}

fn run(command: &[&str], worst: i32) -> Result<(), String> {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output();
    let output = output.unwrap_or_else(|error| panic!("{}: {error}", command[0]));
    match output.status.code() {
        Some(code) if code <= worst => Ok(()),
        _ => Err(format!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr))),
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

//! Why a file was not written.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::host::FileKind;

/// Why a file was not written, or not for certain.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The path or an option makes no sense.
    #[error("{}: {reason}", path.display())]
    InvalidPath {
        /// The path as it was given.
        path: PathBuf,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The directory, or what is in it, cannot be looked at.
    #[error("{} cannot be inspected", path.display())]
    Inspect {
        /// What was looked at.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// There is something that is not replaced, on purpose.
    #[error("{} {reason}", path.display())]
    Refused {
        /// The destination.
        path: PathBuf,
        /// What is there.
        reason: Refusal,
    },
    /// Another writer held the file for longer than we wait.
    #[error("{} is being written by another process", path.display())]
    Busy {
        /// The destination.
        path: PathBuf,
    },
    /// Somebody changed the file while its replacement was written; theirs was kept.
    #[error("{} was changed by somebody else meanwhile", path.display())]
    Conflict {
        /// The destination.
        path: PathBuf,
    },
    /// The new file could not be written beside the destination, which is untouched.
    #[error("the new content of {} could not be written", path.display())]
    Stage {
        /// The destination.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The new file could not take the destination's name; the old one is untouched.
    #[error("{} could not be replaced", path.display())]
    Rename {
        /// The destination.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The new file is live, and a power cut may still bring the old one back.
    #[error("{} was replaced, but that may not survive a power cut", path.display())]
    NotDurable {
        /// The destination.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl WriteError {
    /// Whether the new file is live in spite of the error.
    #[must_use]
    pub fn applied(&self) -> bool {
        matches!(self, Self::NotDurable { .. })
    }
}

/// Something that is not replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Refusal {
    /// A directory, FIFO, socket or device.
    #[error("is not a regular file but a {}", noun(*.0))]
    NotRegular(FileKind),
    /// A symbolic link, and the policy is [`LinkPolicy::Refuse`](crate::LinkPolicy::Refuse).
    #[error("is a symbolic link")]
    Symlink,
    /// Immutable or append-only.
    #[error("is immutable or append-only (see lsattr)")]
    Immutable,
    /// A mount point, as the single files are that container engines bind.
    #[error("is a mount point of its own: mount its directory instead")]
    MountPoint,
    /// A file with more names than this one.
    #[error("has {0} hard links, which would part")]
    HardLinks(u64),
}

fn noun(kind: FileKind) -> &'static str {
    match kind {
        FileKind::Device => "device",
        FileKind::Directory => "directory",
        FileKind::Fifo => "FIFO",
        FileKind::Regular => "regular file",
        FileKind::Socket => "socket",
        FileKind::Symlink => "symbolic link",
    }
}

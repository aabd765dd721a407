//! What happened on a simulated machine, in order: everything that a crash can lose, and what bounds what it may lose.

use std::ffi::OsStr;
use std::sync::Arc;

use super::disk::{Content, Facts, Inode, Node};

/// One thing that happened.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// One operation on names: all of it or nothing is on the disk, where the crash model says so.
    Names {
        /// The inode that it made.
        made: Option<(Inode, Arc<Node>)>,
        /// What the names stand for from now on.
        changes: Vec<Change>,
    },
    /// A file got other bytes, at this time.
    Bytes(Inode, Content, i128),
    /// An inode got another owner, other attributes or another mode.
    Facts(Inode, Facts),
    /// The names in a directory are on the medium.
    SyncedNames(Inode),
    /// A file's bytes and facts are on the medium.
    SyncedFile(Inode),
    /// The service took up the files of this generation.
    Serves(Option<usize>),
    /// A deployment begins to write its journal.
    Begun,
    /// The way back was announced: the record of it is on the medium, and nothing new may come back from here on.
    WayBack,
    /// The engine returned, and said that this generation is live.
    Returned(usize),
}

/// What a name in a directory stands for from now on; `None`: nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// The directory.
    pub directory: Inode,
    /// The name.
    pub name: Arc<OsStr>,
    /// What it stands for.
    pub to: Option<Inode>,
}

impl Event {
    /// What it was, in a few words.
    #[must_use]
    pub fn brief(&self) -> String {
        match self {
            Self::Names { changes, .. } => {
                let name = |change: &Change| {
                    let verb = if change.to.is_some() { "set" } else { "unset" };
                    format!("{verb} {} in {}", change.name.to_string_lossy(), change.directory)
                };
                changes.iter().map(name).collect::<Vec<_>>().join(", ")
            }
            Self::Bytes(inode, ..) => format!("bytes of {inode}"),
            Self::Facts(inode, _) => format!("facts of {inode}"),
            other => format!("{other:?}"),
        }
    }

    /// Whether it changes what is on the disk.
    #[must_use]
    pub fn changes_something(&self) -> bool {
        matches!(self, Self::Names { .. } | Self::Bytes(..) | Self::Facts(..))
    }

    /// Whether it only takes away from what a crash can lose.
    #[must_use]
    pub fn is_sync(&self) -> bool {
        matches!(self, Self::SyncedFile(_) | Self::SyncedNames(_))
    }
}

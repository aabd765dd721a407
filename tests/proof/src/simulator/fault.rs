//! Seeded faults: a machine that leaves out one class of what the engine asks of it, and says that it was done.

use std::path::Path;

/// What a machine leaves out. Recognised by path and by what was done before, so that the engine stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fault {
    /// Syncs of new files and of copies of old ones.
    StagedFiles,
    /// Syncs of the hidden directories, of new generations, and of what is in them.
    HiddenDirectories,
    /// Syncs of a live directory for the name of its first hidden directory.
    FirstHiddenDirectory,
    /// The sync of the journal's bytes.
    JournalFile,
    /// The sync of the journal's name.
    JournalDirectory,
    /// Syncs of the state directory and of its parents, when they are made.
    StateDirectory,
    /// Syncs of the live directories after the switch.
    LiveDirectories,
    /// Syncs of the live directories after the way back, in the run that failed.
    WayBack,
    /// Syncs of the live directories in recovery.
    Recovery,
    /// The journal: it is never written.
    Journal,
    /// The record that the way back has begun.
    RollbackRecord,
    /// The sync of that record.
    RollbackRecordSync,
    /// The sync of who a hidden directory belongs to.
    Owner,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 13] = [
        Self::StagedFiles,
        Self::HiddenDirectories,
        Self::FirstHiddenDirectory,
        Self::JournalFile,
        Self::JournalDirectory,
        Self::StateDirectory,
        Self::LiveDirectories,
        Self::WayBack,
        Self::Recovery,
        Self::Journal,
        Self::RollbackRecord,
        Self::RollbackRecordSync,
        Self::Owner,
    ];

    /// What tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StagedFiles => "sync of staged files",
            Self::HiddenDirectories => "sync of hidden directories",
            Self::FirstHiddenDirectory => "sync for the first hidden directory",
            Self::JournalFile => "sync of the journal file",
            Self::JournalDirectory => "sync of the journal's directory",
            Self::StateDirectory => "sync of the state directory",
            Self::LiveDirectories => "sync of live directories after the switch",
            Self::WayBack => "sync of live directories after the way back",
            Self::Recovery => "sync of live directories in recovery",
            Self::Journal => "the journal itself",
            Self::RollbackRecord => "the rollback record",
            Self::RollbackRecordSync => "sync of the rollback record",
            Self::Owner => "sync of the owner file",
        }
    }

    /// Whether it leaves out the sync of a directory.
    pub(super) fn drops_names(self, directory: &Path, phase: Phase) -> bool {
        let hidden = is_hidden(directory);
        let state = !hidden && phase.is_state;
        match self {
            Self::HiddenDirectories => hidden,
            Self::JournalDirectory => state && directory.ends_with("journal"),
            Self::StateDirectory => state && !directory.ends_with("journal"),
            Self::FirstHiddenDirectory => !hidden && !state && !phase.switched,
            Self::LiveDirectories => !hidden && !state && phase.switched && !phase.going_back && !phase.recovering,
            Self::WayBack => !hidden && !state && phase.going_back && !phase.recovering,
            Self::Recovery => !hidden && !state && phase.recovering,
            _ => false,
        }
    }

    /// Whether it leaves out the sync of a file.
    pub(super) fn drops_bytes(self, file: &Path, phase: Phase) -> bool {
        let hidden = is_hidden(file);
        match self {
            Self::StagedFiles => hidden && !file.ends_with("owner"),
            Self::Owner => hidden && file.ends_with("owner"),
            Self::JournalFile => phase.is_state,
            _ => false,
        }
    }
}

/// In the engine's hidden directory beside live files, or in a generation.
fn is_hidden(path: &Path) -> bool {
    path.iter().any(|name| name == ".certdeploy" || name.to_string_lossy().starts_with("generation-"))
}

/// When something was asked for, and where.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Phase {
    /// In the state directory or above it.
    pub(super) is_state: bool,
    /// A live name was switched since.
    pub(super) switched: bool,
    /// The way back was announced.
    pub(super) going_back: bool,
    /// Recovery runs, not a deployment.
    pub(super) recovering: bool,
}

//! What came of a deployment, for one target.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use crate::error::Error;

/// The stages of a deployment, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Stage {
    /// Plan and material are looked at; nothing is touched.
    Check,
    /// Waiting for another run.
    Lock,
    /// Finishing or undoing what a dead process left.
    Recover,
    /// Comparing what is there with what is wanted.
    Inspect,
    /// Writing the new files beside the old ones.
    Stage,
    /// The target's own checker looks at the new files.
    Validate,
    /// The intent is put on the medium.
    Journal,
    /// The new files take their final names.
    Swap,
    /// The target is told.
    Reload,
    /// The target is asked, as a client would.
    Verify,
    /// Everything is put back.
    RollBack,
    /// The success is recorded.
    Acknowledge,
    /// Old backups are removed.
    Prune,
}

impl Stage {
    /// As in JSON: `roll_back`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Check => "check",
            Self::Lock => "lock",
            Self::Recover => "recover",
            Self::Inspect => "inspect",
            Self::Stage => "stage",
            Self::Validate => "validate",
            Self::Journal => "journal",
            Self::Swap => "swap",
            Self::Reload => "reload",
            Self::Verify => "verify",
            Self::RollBack => "roll_back",
            Self::Acknowledge => "acknowledge",
            Self::Prune => "prune",
        }
    }
}

/// How a deployment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Outcome {
    /// The new certificate is proven live.
    Changed,
    /// An internal error.
    Failed,
    /// Stopped by the caller.
    Interrupted,
    /// Another run holds the target.
    Locked,
    /// Refused; the target is exactly as before.
    Rejected,
    /// Metadata drift or an owed reload or verification was settled.
    Repaired,
    /// A person is needed.
    RollbackFailed,
    /// Reload or verification failed; the old certificate is back.
    RolledBack,
    /// Nothing to do; nothing was written, no command ran.
    Unchanged,
    /// Deployed, and nobody could look.
    Unverified,
}

impl Outcome {
    /// As in JSON: `rolled_back`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
            Self::Locked => "locked",
            Self::Rejected => "rejected",
            Self::Repaired => "repaired",
            Self::RollbackFailed => "rollback_failed",
            Self::RolledBack => "rolled_back",
            Self::Unchanged => "unchanged",
            Self::Unverified => "unverified",
        }
    }

    /// The exit code of a program that deployed only this: 0, 1, 3 to 8; with `detailed`, 10 where something was changed.
    #[must_use]
    pub fn exit_code(self, detailed: bool) -> u8 {
        match self {
            Self::Changed | Self::Repaired => u8::from(detailed) * 10,
            Self::Unchanged => 0,
            Self::Failed => 1,
            Self::Rejected => 3,
            Self::RolledBack => 4,
            Self::RollbackFailed => 5,
            Self::Unverified => 6,
            Self::Locked => 7,
            Self::Interrupted => 8,
        }
    }
}

/// What is live after the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Live {
    /// The new certificate.
    Applied,
    /// The old one, put back.
    RolledBack,
    /// What was there before; nothing was touched.
    Unchanged,
    /// Nobody knows: look.
    Unknown,
}

impl Live {
    /// As in JSON: `rolled_back`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::RolledBack => "rolled_back",
            Self::Unchanged => "unchanged",
            Self::Unknown => "unknown",
        }
    }
}

/// The rungs of the validation ladder; a report names the highest that was reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, serde::Deserialize)]
#[non_exhaustive]
pub enum Rung {
    /// Parsed and compared in memory: key, chain, dates, names.
    #[default]
    V0,
    /// A TLS handshake in memory with the new pair.
    V1,
    /// The target's own program accepts the pair in a minimal configuration.
    V2,
    /// The target's own checker accepts the operator's configuration with the new files in place, in a private view.
    V3,
    /// The target itself started with them in a private view.
    V4,
    /// The target's own checker accepts the live files, after the swap.
    V5,
    /// The new certificate was seen on the wire.
    V6,
}

/// Something that could not be done as well as it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Degraded {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Leaf fingerprints: lowercase hexadecimal SHA-256 of the DER certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Fingerprints {
    /// The certificate that was to be deployed, where it is known.
    pub wanted: Option<String>,
    /// The certificate that was last seen served, where anybody could look.
    pub served: Option<String>,
}

/// What came of deploying to one target.
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The target's name.
    pub target: String,
    /// Its kind: `nginx`.
    pub kind: String,
    /// How it ended.
    pub outcome: Outcome,
    /// The last stage that was entered.
    pub stage: Stage,
    /// What is live now.
    pub live: Live,
    /// Destinations that now differ from before.
    pub changed_files: Vec<PathBuf>,
    /// Wanted and served leaf.
    pub fingerprint: Fingerprints,
    /// When the wanted leaf ends.
    pub not_after: Option<SystemTime>,
    /// How long it took.
    pub duration: Duration,
    /// The highest rung of validation that was reached.
    pub validated: Rung,
    /// What could not be done as well as it should.
    pub degraded: Vec<Degraded>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// Why it is not a success.
    pub error: Option<Error>,
    /// An interrupted deployment was settled on the way.
    pub(crate) recovered: bool,
}

impl Report {
    /// A report of nothing done yet.
    #[must_use]
    pub fn new(target: impl Into<String>, kind: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            kind: kind.into(),
            outcome: Outcome::Unchanged,
            stage: Stage::Check,
            live: Live::Unchanged,
            changed_files: Vec::new(),
            fingerprint: Fingerprints::default(),
            not_after: None,
            duration: Duration::ZERO,
            validated: Rung::V0,
            degraded: Vec::new(),
            warnings: Vec::new(),
            error: None,
            recovered: false,
        }
    }

    /// The report if the target is as wanted (`changed`, `repaired`, `unchanged`, `unverified`), the error otherwise.
    ///
    /// # Errors
    /// The error that the report carries.
    pub fn into_result(mut self) -> Result<Self, Error> {
        match self.error.take() {
            Some(error) => Err(error),
            None => Ok(self),
        }
    }

    pub(crate) fn degrade(&mut self, what: impl Into<String>, why: impl Into<String>) {
        let degraded = Degraded { what: what.into(), why: why.into() };
        if !self.degraded.contains(&degraded) {
            self.degraded.push(degraded);
        }
    }

    pub(crate) fn warn(&mut self, message: impl Into<String>) {
        let message = message.into();
        if !self.warnings.contains(&message) {
            self.warnings.push(message);
        }
    }
}

//! What the engine says without changing anything.

use std::path::PathBuf;
use std::time::SystemTime;

use serde::Serialize;

use crate::error::Error;
use crate::report::{Degraded, Fingerprints, Live, Rung};

/// What a deployment would do.
#[derive(Debug)]
#[non_exhaustive]
pub struct Preview {
    /// The target's name.
    pub target: String,
    /// Its kind.
    pub kind: String,
    /// What the engine would find to do.
    pub state: TargetState,
    /// Every file of the plan, in order of switching.
    pub files: Vec<FilePreview>,
    /// The commands, signals and calls that would be run, in order, as an operator would type them.
    pub commands: Vec<String>,
    /// Wanted leaf, and what is served now.
    pub fingerprint: Fingerprints,
    /// When the wanted leaf ends.
    pub not_after: Option<SystemTime>,
    /// The highest rung of validation that was reached.
    pub validated: Rung,
    /// What could not be checked, and why.
    pub degraded: Vec<Degraded>,
    /// What the operator should know.
    pub warnings: Vec<String>,
    /// An interrupted deployment that the next run will settle first.
    pub pending_recovery: Option<String>,
    /// Why it would be refused.
    pub error: Option<Error>,
}

impl Preview {
    pub(crate) fn new(target: &str, kind: &str) -> Self {
        Self {
            target: target.to_owned(),
            kind: kind.to_owned(),
            state: TargetState::Unchanged,
            files: Vec::new(),
            commands: Vec::new(),
            fingerprint: Fingerprints::default(),
            not_after: None,
            validated: Rung::V0,
            degraded: Vec::new(),
            warnings: Vec::new(),
            pending_recovery: None,
            error: None,
        }
    }
}

/// What stands between a target and its wanted state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TargetState {
    /// Nothing.
    Unchanged,
    /// The bytes are there; reload or verification was never acknowledged.
    Owed,
    /// Owner, mode or attributes.
    Drift,
    /// Bytes.
    Change,
}

/// What would happen to one file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FilePreview {
    /// The path in the plan.
    pub path: PathBuf,
    /// The file behind it, where that is another one.
    pub real_path: Option<PathBuf>,
    /// What would happen.
    pub action: FileAction,
    /// What is there.
    pub before: Option<FileState>,
    /// What would be there.
    pub after: Option<FileState>,
}

/// What happens to one file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FileAction {
    /// It did not exist.
    Create,
    /// Nothing.
    Keep,
    /// Owner, mode or attributes change; the bytes stay.
    Repair,
    /// It goes.
    Remove,
    /// Its bytes change.
    Replace,
}

/// A file in numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct FileState {
    /// SHA-256 of its bytes, lowercase hexadecimal.
    pub sha256: String,
    /// Size in bytes.
    pub size: u64,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Mode as four octal digits.
    pub mode: String,
}

/// What is served now, compared with the wanted certificate.
#[derive(Debug)]
#[non_exhaustive]
pub struct Verification {
    /// The target's name.
    pub target: String,
    /// Its kind.
    pub kind: String,
    /// The leaf that should be served.
    pub wanted: Option<String>,
    /// Whether an endpoint is configured.
    pub configured: bool,
    /// What each endpoint serves.
    pub endpoints: Vec<EndpointStatus>,
    /// Why it could not be asked.
    pub error: Option<Error>,
}

impl Verification {
    pub(crate) fn new(target: &str, kind: &str) -> Self {
        Self {
            target: target.to_owned(),
            kind: kind.to_owned(),
            wanted: None,
            configured: false,
            endpoints: Vec::new(),
            error: None,
        }
    }

    /// Whether there is an endpoint and every one serves the wanted leaf.
    #[must_use]
    pub fn passed(&self) -> bool {
        self.error.is_none() && self.configured && self.endpoints.iter().all(|endpoint| endpoint.matches)
    }
}

/// What one endpoint serves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EndpointStatus {
    /// Which one: `127.0.0.1:443 (SNI www.example.com)`.
    pub endpoint: String,
    /// The leaf that it serves.
    pub served: Option<String>,
    /// Whether that is the wanted one, and the handshake succeeded.
    pub matches: bool,
    /// Why not.
    pub problem: Option<String>,
}

/// Where a target stands.
#[derive(Debug)]
#[non_exhaustive]
pub struct TargetStatus {
    /// The target's name.
    pub target: String,
    /// Its kind.
    pub kind: String,
    /// The leaf that should be served.
    pub wanted: Option<String>,
    /// The leaf on disk.
    pub on_disk: Option<String>,
    /// When the leaf on disk ends.
    pub not_after: Option<SystemTime>,
    /// What each endpoint serves.
    pub served: Vec<EndpointStatus>,
    /// What is still owed to the target, as a sentence.
    pub owed: Option<String>,
    /// The leaf that the target was rolled back from and stays away from until the source changes.
    pub hold: Option<String>,
    /// The deployments that can be rolled back to, the oldest first.
    pub sets: Vec<SetStatus>,
    /// Why something could not be found out.
    pub error: Option<Error>,
}

impl TargetStatus {
    pub(crate) fn new(target: &str, kind: &str) -> Self {
        Self {
            target: target.to_owned(),
            kind: kind.to_owned(),
            wanted: None,
            on_disk: None,
            not_after: None,
            served: Vec::new(),
            owed: None,
            hold: None,
            sets: Vec::new(),
            error: None,
        }
    }

    /// Whole days until the leaf on disk ends; negative when it has.
    #[must_use]
    pub fn days_left(&self, now: SystemTime) -> Option<i64> {
        const DAY: u64 = 86_400;
        let seconds = |d: std::time::Duration| i64::try_from(d.as_secs() / DAY).unwrap_or(i64::MAX);
        self.not_after.map(|end| match end.duration_since(now) {
            Ok(left) => seconds(left),
            Err(past) => -1 - seconds(past.duration()),
        })
    }
}

/// A state that can be rolled back to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct SetStatus {
    /// Its id, for `rollback --to`: the state before this deployment.
    pub id: String,
    /// When that deployment began, in seconds since 1970.
    pub created: u64,
    /// The leaf that would come back, where the files hold one.
    pub fingerprint: Option<String>,
}

/// How far recovery goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum RecoveryScope {
    /// At boot, before the servers: files are settled; the network is left alone, and what is owed is left to the next run.
    FilesOnly,
    /// Files, reload and verification.
    Full,
}

/// What recovery did with one interrupted deployment.
#[derive(Debug)]
#[non_exhaustive]
pub struct Recovered {
    /// The targets that it was for.
    pub targets: Vec<String>,
    /// Its id.
    pub id: String,
    /// What was done, as a sentence.
    pub action: String,
    /// What is live now.
    pub live: Live,
    /// A reload or verification is still owed.
    pub owed: bool,
    /// Why it is not settled.
    pub error: Option<Error>,
}

impl Recovered {
    pub(crate) fn new(targets: Vec<String>, id: String, action: impl Into<String>, live: Live) -> Self {
        Self { targets, id, action: action.into(), live, owed: false, error: None }
    }

    pub(crate) fn failed(targets: Vec<String>, error: Error) -> Self {
        let action = format!("could not be settled: {}", error.full_message());
        Self { targets, id: String::new(), action, live: error.live(), owed: true, error: Some(error) }
    }
}

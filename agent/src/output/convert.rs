//! From what the engine says to the documents.

use std::error::Error as _;
use std::path::Path;
use std::time::{Duration, SystemTime};

use deploy_core as core;
use deploy_core::{Entry, Retry};
use serde::Serialize;

use super::json::{
    CheckConfig, ConfigurationProblem, ConnectorEntry, Degradation, EndpointState, Failed, FileNumbers, Fingerprint, PlannedFile,
    Recovery, StoredSet, TargetError, TargetPlan, TargetReport, TargetState, TargetVerification, TopError,
};
use crate::config::{ConfigurationError, Problem};
use crate::failure::Failure;

impl From<&Failure> for TopError {
    fn from(failure: &Failure) -> Self {
        Self { kind: failure.kind(), message: failure.message(), next_step: Some(failure.next_step()) }
    }
}

impl From<&Failure> for Failed {
    fn from(failure: &Failure) -> Self {
        Self { targets: Vec::new(), error: failure.into() }
    }
}

impl From<&core::Error> for TargetError {
    fn from(error: &core::Error) -> Self {
        let causes = std::iter::successors(error.source(), |&cause| cause.source());
        let chain = std::iter::once(error.to_string()).chain(causes.map(ToString::to_string)).collect();
        Self {
            kind: error.kind().name(),
            message: error.full_message(),
            retryable: error.retry() != Retry::Never,
            next_step: Some(error.next_step().to_owned()),
            chain,
        }
    }
}

impl From<&core::Report> for TargetReport {
    fn from(report: &core::Report) -> Self {
        Self {
            target: report.target.clone(),
            kind: report.kind.clone(),
            outcome: report.outcome.name(),
            stage: report.stage.name(),
            changed_files: report.changed_files.iter().map(|file| path(file)).collect(),
            fingerprint: (&report.fingerprint).into(),
            not_after: report.not_after.map(time),
            duration_ms: u64::try_from(report.duration.as_millis()).unwrap_or(u64::MAX),
            live: report.live.name(),
            validated: word(&report.validated),
            degraded: report.degraded.iter().map(Into::into).collect(),
            warnings: report.warnings.clone(),
            error: report.error.as_ref().map(Into::into),
        }
    }
}

impl From<&core::Preview> for TargetPlan {
    fn from(preview: &core::Preview) -> Self {
        Self {
            target: preview.target.clone(),
            kind: preview.kind.clone(),
            state: word(&preview.state),
            files: preview.files.iter().map(Into::into).collect(),
            commands: preview.commands.clone(),
            fingerprint: (&preview.fingerprint).into(),
            not_after: preview.not_after.map(time),
            validated: word(&preview.validated),
            degraded: preview.degraded.iter().map(Into::into).collect(),
            warnings: preview.warnings.clone(),
            pending_recovery: preview.pending_recovery.clone(),
            error: preview.error.as_ref().map(Into::into),
        }
    }
}

impl From<&core::FilePreview> for PlannedFile {
    fn from(file: &core::FilePreview) -> Self {
        Self {
            path: path(&file.path),
            real_path: file.real_path.as_deref().map(path),
            action: word(&file.action),
            before: file.before.as_ref().map(Into::into),
            after: file.after.as_ref().map(Into::into),
        }
    }
}

impl From<&core::FileState> for FileNumbers {
    fn from(file: &core::FileState) -> Self {
        Self { sha256: file.sha256.clone(), size: file.size, uid: file.uid, gid: file.gid, mode: file.mode.clone() }
    }
}

impl From<&core::Fingerprints> for Fingerprint {
    fn from(fingerprints: &core::Fingerprints) -> Self {
        Self { wanted: fingerprints.wanted.clone(), served: fingerprints.served.clone() }
    }
}

impl From<&core::Degraded> for Degradation {
    fn from(degraded: &core::Degraded) -> Self {
        Self { what: degraded.what.clone(), why: degraded.why.clone() }
    }
}

impl From<&core::Verification> for TargetVerification {
    fn from(verification: &core::Verification) -> Self {
        let result = match verification {
            core::Verification { error: Some(_), .. } => "error",
            core::Verification { configured: false, .. } => "not_configured",
            verification if verification.passed() => "ok",
            _ => "mismatch",
        };
        Self {
            target: verification.target.clone(),
            kind: verification.kind.clone(),
            result,
            wanted: verification.wanted.clone(),
            endpoints: verification.endpoints.iter().map(Into::into).collect(),
            error: verification.error.as_ref().map(Into::into),
        }
    }
}

impl From<&core::EndpointStatus> for EndpointState {
    fn from(endpoint: &core::EndpointStatus) -> Self {
        Self {
            endpoint: endpoint.endpoint.clone(),
            served: endpoint.served.clone(),
            matches: endpoint.matches,
            problem: endpoint.problem.clone(),
        }
    }
}

impl TargetState {
    /// `now` is what days are counted from.
    pub(crate) fn new(status: &core::TargetStatus, now: SystemTime) -> Self {
        Self {
            target: status.target.clone(),
            kind: status.kind.clone(),
            wanted: status.wanted.clone(),
            on_disk: status.on_disk.clone(),
            not_after: status.not_after.map(time),
            days_left: status.days_left(now),
            served: status.served.iter().map(Into::into).collect(),
            owed: status.owed.clone(),
            hold: status.hold.clone(),
            sets: status.sets.iter().map(Into::into).collect(),
            error: status.error.as_ref().map(Into::into),
        }
    }
}

impl From<&core::SetStatus> for StoredSet {
    fn from(set: &core::SetStatus) -> Self {
        let created = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(set.created)).unwrap_or(SystemTime::UNIX_EPOCH);
        Self { id: set.id.clone(), created: time(created), fingerprint: set.fingerprint.clone() }
    }
}

impl From<&core::Recovered> for Recovery {
    fn from(recovered: &core::Recovered) -> Self {
        Self {
            targets: recovered.targets.clone(),
            id: recovered.id.clone(),
            action: recovered.action.clone(),
            live: recovered.live.name(),
            owed: recovered.owed,
            error: recovered.error.as_ref().map(Into::into),
        }
    }
}

impl From<&Problem> for ConfigurationProblem {
    fn from(problem: &Problem) -> Self {
        Self {
            file: path(&problem.file),
            line: problem.position.map(|(line, _)| line),
            column: problem.position.map(|(_, column)| column),
            subject: problem.subject.clone(),
            message: problem.message.clone(),
        }
    }
}

impl From<ConfigurationError> for CheckConfig {
    fn from(error: ConfigurationError) -> Self {
        let problems = error.problems.iter().map(Into::into).collect();
        Self {
            valid: false,
            files: Vec::new(),
            certificates: Vec::new(),
            targets: Vec::new(),
            warnings: Vec::new(),
            problems,
            error: Some((&Failure::from(error)).into()),
        }
    }
}

impl From<&Entry> for ConnectorEntry {
    fn from(entry: &Entry) -> Self {
        let capabilities = entry.capabilities;
        Self {
            kind: entry.kind.to_owned(),
            summary: entry.summary.to_owned(),
            staged_validation: capabilities.staged_validation,
            hot_update: capabilities.hot_update,
            dry_run: capabilities.dry_run,
            verification: capabilities.verification,
            rollback: capabilities.rollback,
            inventory: capabilities.inventory,
        }
    }
}

/// A path as text; JSON knows no other bytes.
pub(crate) fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// RFC 3339 in UTC, of the years that it can write: 1970 to 9999.
fn time(time: SystemTime) -> String {
    const END_OF_9999: Duration = Duration::from_secs(253_402_300_799);
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(END_OF_9999);
    humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string()
}

/// The name that serde gives to a variant without fields.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_rfc_3339_cannot_write_are_no_reason_to_panic() {
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!(time(at(1_800_000_000)), "2027-01-15T08:00:00Z");
        assert_eq!(time(at(300_000_000_000)), "9999-12-31T23:59:59Z");
        assert_eq!(time(SystemTime::UNIX_EPOCH - Duration::from_secs(1)), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn an_error_keeps_its_causes_apart_and_together() {
        let error = core::Error::new(core::ErrorKind::ReloadFailed, "the reload failed")
            .with_source(std::io::Error::other("exit status 1"));
        let error = TargetError::from(&error);
        assert_eq!(error.message, "the reload failed: exit status 1");
        assert_eq!(error.chain, ["the reload failed", "exit status 1"]);
        assert!(!error.retryable);
    }
}

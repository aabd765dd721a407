//! What can go wrong with a call, and what the engine is told about it.

use std::time::Duration;

use deploy_core::command::{CommandError, OUTPUT_LIMIT};
use deploy_core::{Error, ErrorKind, Retry};
use thiserror::Error as ThisError;

use crate::protocol::{Again, Failure, FailureKind, Operation, PROTOCOL};
use crate::redact::Redactor;

/// Why there is no answer that could be believed. What the program said stands here without what it was given.
#[derive(Debug, ThisError)]
pub(crate) enum Problem {
    /// Both of what excludes each other.
    #[error("its answer has both a `result` and an `error`")]
    Both,
    /// It ended badly.
    #[error("{ending}{}{said}", if said.is_empty() { ", and it wrote nothing to standard error" } else { ": " })]
    Ended {
        /// `exit status 1`.
        ending: String,
        /// The last lines of standard error.
        said: String,
    },
    /// Neither of what there must be one of.
    #[error("its answer has neither a `result` nor an `error`")]
    Neither,
    /// Garbage, half a document, or more than one.
    #[error("what it printed is not one JSON document: {0}")]
    NotJson(String),
    /// It could not be run to its end.
    #[error(transparent)]
    NotRun(CommandError),
    /// The request could not be written as JSON.
    #[error("the request cannot be written as JSON")]
    Request(#[source] serde_json::Error),
    /// Nothing at all.
    #[error("it ended with exit status 0 and printed nothing")]
    Silent,
    /// It ran out of time.
    #[error(
        "it did not end within {} and was ended with its whole process group{}{said}",
        humantime::format_duration(*after),
        if said.is_empty() { "" } else { ": " }
    )]
    TimedOut {
        /// How long it was given.
        after: Duration,
        /// The last lines of standard error.
        said: String,
    },
    /// More than is kept.
    #[error("its answer is longer than {OUTPUT_LIMIT} bytes")]
    TooLong,
    /// Another protocol.
    #[error("it speaks protocol {0}, and this certdeploy speaks protocol {PROTOCOL}")]
    Version(String),
    /// JSON, and not an answer to what was asked.
    #[error("its answer does not have the form that the protocol wants: {0}")]
    WrongForm(String),
}

impl Problem {
    /// Of a program that speaks only these.
    pub(crate) fn other_versions(spoken: &[u32]) -> Self {
        let spoken: Vec<String> = spoken.iter().map(ToString::to_string).collect();
        Self::Version(if spoken.is_empty() { "none".to_owned() } else { spoken.join(", ") })
    }
}

/// For the engine: which program failed at what, whether trying again can help, and what a person can do.
pub(crate) fn without_answer(program: &str, operation: Operation, problem: Problem) -> Error {
    let operation = operation.name();
    let (kind, retry) = match &problem {
        Problem::NotRun(CommandError::Interrupted) => (ErrorKind::Interrupted, Retry::Never),
        Problem::NotRun(_) | Problem::Version(_) => (ErrorKind::ConfigurationInvalid, Retry::Never),
        Problem::TimedOut { .. } => (ErrorKind::Timeout, Retry::Later),
        Problem::Request(_) => (ErrorKind::Internal, Retry::Never),
        _ => (ErrorKind::Unavailable, Retry::Never),
    };
    let next_step = match &problem {
        Problem::NotRun(CommandError::Interrupted) => "run it again".to_owned(),
        Problem::NotRun(_) => format!("see that {program} is there and can be run by the user that certdeploy runs as"),
        Problem::Version(_) => format!("install a version of {program}, or of certdeploy, that speaks the other's protocol"),
        Problem::Ended { .. } => format!("mend what {program} says of `{operation}`; then run again"),
        Problem::TimedOut { .. } => {
            format!("find out what {program} waits for in `{operation}`, or raise the `timeout` of `command`; then run again")
        }
        Problem::TooLong => {
            format!("have {program} keep what it needs for `{operation}` elsewhere, and answer with a name for it")
        }
        Problem::Request(_) => "run `certdeploy check-config`, and report this as a defect".to_owned(),
        _ => format!("correct what {program} answers to `{operation}`: docs/exec-protocol.md has the form"),
    };
    Error::new(kind, format!("{program} could not be made to carry out `{operation}`"))
        .with_retry(retry)
        .with_next_step(next_step)
        .with_source(problem)
}

/// For the engine: what the program says that went wrong.
pub(crate) fn reported(program: &str, operation: Operation, failure: &Failure, redactor: &Redactor) -> Error {
    let kind = match failure.kind {
        FailureKind::ConfigurationInvalid => ErrorKind::ConfigurationInvalid,
        FailureKind::Conflict => ErrorKind::Conflict,
        FailureKind::MaterialRejected => ErrorKind::MaterialRejected,
        FailureKind::PermissionDenied => ErrorKind::PermissionDenied,
        FailureKind::PlanInvalid => ErrorKind::PlanInvalid,
        FailureKind::RateLimited => ErrorKind::RateLimited,
        FailureKind::Timeout => ErrorKind::Timeout,
        FailureKind::Unauthenticated => ErrorKind::Unauthenticated,
        FailureKind::Unavailable => ErrorKind::Unavailable,
        FailureKind::ValidateFailed => ErrorKind::ValidateFailed,
    };
    let message = redactor.text(&failure.message);
    let error = Error::new(kind, format!("{program} reports from `{}`: {}", operation.name(), message.trim()));
    let error = error.with_retry(retry(failure));
    match failure.next_step.as_deref().map(|step| redactor.text(step)) {
        Some(step) if !step.trim().is_empty() => error.with_next_step(step.trim()),
        _ => error,
    }
}

/// Asking again helps against what passes, whatever a program thinks. After a conflict the engine decides again instead.
fn retry(failure: &Failure) -> Retry {
    if !matches!(failure.kind, FailureKind::RateLimited | FailureKind::Timeout | FailureKind::Unavailable) {
        return Retry::Never;
    }
    match failure.retry {
        Again::AfterSeconds(seconds) => Retry::After(Duration::from_secs(seconds.into())),
        Again::Later => Retry::Later,
        Again::Never => Retry::Never,
    }
}

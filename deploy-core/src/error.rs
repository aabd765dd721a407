//! The one error that leaves this crate.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use crate::report::{Live, Stage};

/// What failed, at which stage, what is live now, whether trying again can help, and what to do next.
///
/// `Display` is one sentence without the causes; walk [`std::error::Error::source`] for those.
#[derive(Debug)]
pub struct Error(Box<Inner>);

#[derive(Debug)]
struct Inner {
    kind: ErrorKind,
    stage: Option<Stage>,
    live: Live,
    retry: Retry,
    message: String,
    next_step: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// What went wrong, by what the caller can do about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum ErrorKind {
    /// The configuration is wrong.
    ConfigurationInvalid,
    /// Somebody else changed a destination, or owns the hidden directory beside it.
    Conflict,
    /// A defect of this program.
    Internal,
    /// The caller asked to stop.
    Interrupted,
    /// Another run holds the target or one of its files.
    Locked,
    /// Certificate, chain or key is bad.
    MaterialRejected,
    /// The medium did not take it.
    NotDurable,
    /// The operating system or the remote refuses.
    PermissionDenied,
    /// The plan cannot be carried out on this host.
    PlanInvalid,
    /// The remote asked to slow down.
    RateLimited,
    /// The target did not take the new files.
    ReloadFailed,
    /// The old state could not be brought back in full.
    RollbackFailed,
    /// The new files could not be written.
    StageFailed,
    /// Journal or marker cannot be read or written.
    StateInvalid,
    /// The target's checker fails without the new files, too.
    TargetAlreadyBroken,
    /// Time ran out.
    Timeout,
    /// The remote does not know who we are.
    Unauthenticated,
    /// The remote cannot be reached or does not work.
    Unavailable,
    /// The target's checker refuses the new files.
    ValidateFailed,
    /// The new certificate was not seen on the wire.
    VerifyFailed,
}

impl ErrorKind {
    /// As in JSON: `reload_failed`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ConfigurationInvalid => "configuration_invalid",
            Self::Conflict => "conflict",
            Self::Internal => "internal",
            Self::Interrupted => "interrupted",
            Self::Locked => "locked",
            Self::MaterialRejected => "material_rejected",
            Self::NotDurable => "not_durable",
            Self::PermissionDenied => "permission_denied",
            Self::PlanInvalid => "plan_invalid",
            Self::RateLimited => "rate_limited",
            Self::ReloadFailed => "reload_failed",
            Self::RollbackFailed => "rollback_failed",
            Self::StageFailed => "stage_failed",
            Self::StateInvalid => "state_invalid",
            Self::TargetAlreadyBroken => "target_already_broken",
            Self::Timeout => "timeout",
            Self::Unauthenticated => "unauthenticated",
            Self::Unavailable => "unavailable",
            Self::ValidateFailed => "validate_failed",
            Self::VerifyFailed => "verify_failed",
        }
    }
}

impl ErrorKind {
    /// What to do where the error itself knows nothing better.
    fn advice(self) -> &'static str {
        match self {
            Self::ConfigurationInvalid => "correct the configuration; `certdeploy check-config` says whether it is right",
            Self::Conflict => "find out who else writes there; then run again",
            Self::Internal => "run `certdeploy recover`, then `certdeploy status`, and report this as a defect",
            Self::Interrupted => "run it again",
            Self::Locked => "wait for the other run to end; then run again",
            Self::MaterialRejected => "correct the files that the certificate is read from, or have it issued again",
            Self::NotDurable => "look at the file system and at the kernel's log; then run again",
            Self::PermissionDenied => "grant what is missing, or run as a user who has it; then run again",
            Self::PlanInvalid => "correct the target or the host, as `certdeploy doctor` says; then run again",
            Self::RateLimited => "run it again later",
            Self::ReloadFailed => "have the server reload by hand and see what it says; then run again",
            Self::RollbackFailed => "repair the server; then run `certdeploy recover`",
            Self::StageFailed => "look at the file system of the destination; then run again",
            Self::StateInvalid => "check owner, mode and free space of the state directory; then run again",
            Self::TargetAlreadyBroken => "repair the server's configuration; then run again",
            Self::Timeout => "find out what takes so long, or give it more time with --timeout; then run again",
            Self::Unauthenticated => "check the credentials; then run again",
            Self::Unavailable => "see that the remote can be reached and works; then run again",
            Self::ValidateFailed => "run the server's checker by hand and see what it says; then run again",
            Self::VerifyFailed => "see with `certdeploy verify` what is served and by whom; then run again",
        }
    }
}

/// Whether trying the same again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Retry {
    /// Not before this time has passed (`Retry-After`).
    After(Duration),
    /// Yes, later.
    Later,
    /// No: something has to change first.
    Never,
}

impl Error {
    /// An error with nothing touched and no use in trying again. `message` is one sentence, without the cause.
    #[must_use]
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            stage: None,
            live: Live::Unchanged,
            retry: Retry::Never,
            message: message.into(),
            next_step: None,
            source: None,
        }))
    }

    /// With its cause.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// With what the operator should do next, as a sentence or a command.
    #[must_use]
    pub fn with_next_step(mut self, next_step: impl Into<String>) -> Self {
        self.0.next_step = Some(next_step.into());
        self
    }

    /// With whether trying again can help.
    #[must_use]
    pub fn with_retry(mut self, retry: Retry) -> Self {
        self.0.retry = retry;
        self
    }

    /// With what is live now.
    #[must_use]
    pub fn with_live(mut self, live: Live) -> Self {
        self.0.live = live;
        self
    }

    /// With the stage, unless one is set already.
    #[must_use]
    pub fn at(mut self, stage: Stage) -> Self {
        self.0.stage.get_or_insert(stage);
        self
    }

    /// The same for another target that it holds for: the causes as text.
    pub(crate) fn summary(&self) -> Self {
        let Inner { kind, stage, live, retry, ref next_step, .. } = *self.0;
        let (message, next_step) = (self.full_message(), next_step.clone());
        Self(Box::new(Inner { kind, stage, live, retry, message, next_step, source: None }))
    }

    /// What went wrong.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Where.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        self.0.stage
    }

    /// What is live now.
    #[must_use]
    pub fn live(&self) -> Live {
        self.0.live
    }

    /// Whether trying the same again can help.
    #[must_use]
    pub fn retry(&self) -> Retry {
        self.0.retry
    }

    /// What the operator should do next.
    #[must_use]
    pub fn next_step(&self) -> &str {
        self.0.next_step.as_deref().unwrap_or_else(|| self.0.kind.advice())
    }

    /// The same, if it is about this error and not only about its kind.
    pub(crate) fn own_next_step(&self) -> Option<&str> {
        self.0.next_step.as_deref()
    }

    /// The sentence and its causes, joined by `: `, for a line of a log.
    #[must_use]
    pub fn full_message(&self) -> String {
        let mut message = self.0.message.clone();
        let mut cause = self.source();
        while let Some(error) = cause {
            let text = error.to_string();
            if !message.ends_with(&text) {
                message.push_str(": ");
                message.push_str(&text);
            }
            cause = error.source();
        }
        message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

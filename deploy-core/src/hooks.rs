//! How a target is checked, told and asked: the part of a plan that is the same with any certificate.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use crate::command::Command;
use crate::context::Context;
use crate::error::Error;
use crate::host::Signal;
use crate::probe::Endpoint;
use crate::settings::default_verify_timeout;

/// How a target is checked, told and asked.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Hooks {
    /// The target's own checker.
    pub validate: Option<Validate>,
    /// How the target takes up new files; `None` where it does so by itself.
    pub reload: Option<Reload>,
    /// Files of which one has the number, in decimal, of the process that goes on running through a reload. Where it ended
    /// instead, the reload has failed, whatever its exit status said. None: nobody watches.
    pub pid_files: Vec<PathBuf>,
    /// What brings the target back where a failed reload may have ended it; used in a rollback when the reload fails or
    /// the process of `pid_files` is gone.
    pub restart: Option<Command>,
    /// The target's server as a command in the foreground, with the operator's real configuration: it is started in a
    /// private view with the new files, on a network of its own, and has to serve them there at the endpoints of `verify`
    /// (rung V4). For servers that keep no state and talk to nobody when they start.
    pub shadow: Option<Command>,
    /// How success is seen.
    pub verify: Verify,
}

impl Hooks {
    /// None at all.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With a checker.
    #[must_use]
    pub fn with_validate(mut self, validate: impl Into<Option<Validate>>) -> Self {
        self.validate = validate.into();
        self
    }

    /// With a reload.
    #[must_use]
    pub fn with_reload(mut self, reload: impl Into<Option<Reload>>) -> Self {
        self.reload = reload.into();
        self
    }

    /// With the process that a reload must not end.
    #[must_use]
    pub fn with_pid_files(mut self, pid_files: impl IntoIterator<Item = PathBuf>) -> Self {
        self.pid_files = pid_files.into_iter().collect();
        self
    }

    /// With a server to be started in a private view.
    #[must_use]
    pub fn with_shadow(mut self, shadow: impl Into<Option<Command>>) -> Self {
        self.shadow = shadow.into();
        self
    }

    /// With a restart for rollbacks.
    #[must_use]
    pub fn with_restart(mut self, restart: impl Into<Option<Command>>) -> Self {
        self.restart = restart.into();
        self
    }

    /// With a way to see success.
    #[must_use]
    pub fn with_verify(mut self, verify: Verify) -> Self {
        self.verify = verify;
        self
    }
}

/// The target's own checker: exit status 0 accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Validate {
    /// The command, with the operator's real configuration (rungs V3 and V5).
    pub command: Command,
    /// A minimal configuration, where no private view can be had (rung V2).
    pub minimal: Option<Minimal>,
}

impl Validate {
    /// A checker without a minimal configuration.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self { command, minimal: None }
    }

    /// With a minimal configuration.
    #[must_use]
    pub fn with_minimal(mut self, minimal: Minimal) -> Self {
        self.minimal = Some(minimal);
        self
    }
}

/// A minimal configuration that makes the target's program load the staged files.
///
/// In the text and in the arguments, `{staged:N}` stands for the staged path of the plan's file number N (from 0),
/// `{scratch}` for an empty private directory that is removed afterwards and is the working directory of the command, and `{configuration}` for the path of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Minimal {
    /// The text of the configuration.
    pub configuration: String,
    /// The command that checks it.
    pub command: Command,
}

impl Minimal {
    /// A minimal configuration and its checker.
    pub fn new(configuration: impl Into<String>, command: Command) -> Self {
        Self { configuration: configuration.into(), command }
    }
}

/// How a target takes up new files.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Reload {
    /// A call, rebuilt from the target's configuration when recovery needs it.
    Call(Arc<dyn ReloadCall>),
    /// A command. Its exit status is not proof of anything; a failure is believed.
    Command(Command),
    /// A signal to the process whose number stands in a file.
    Signal {
        /// The signal.
        signal: Signal,
        /// The file with the number, in decimal.
        pid_file: PathBuf,
    },
    /// Several of these, one after the other; what fails ends it. After the old files were put back all of them run again, from
    /// the first: what one made of the new files, such as an index, is then made of the old ones.
    Steps(Vec<Self>),
}

impl Reload {
    /// The single steps in their order; itself where it is one.
    #[must_use]
    pub fn steps(&self) -> Vec<&Self> {
        match self {
            Self::Steps(steps) => steps.iter().flat_map(Self::steps).collect(),
            step => vec![step],
        }
    }

    /// Carries it out, for a [`ReloadCall`] that has to fall back on another way. The engine carries out a plan's by itself.
    ///
    /// # Errors
    /// The target could not be told, or not in time.
    pub async fn carry_out(&self, context: &Context) -> Result<(), Error> {
        for step in self.steps() {
            match step {
                Self::Call(call) => call.apply(context).await?,
                told => crate::engine::tell(context, told)?,
            }
        }
        Ok(())
    }
}

/// A reload that is a call to the target's API. It ends with the deadline of the deployment, and when the caller asks to stop.
#[async_trait]
pub trait ReloadCall: fmt::Debug + Send + Sync {
    /// Has the target take up the files that now stand at their places. Safe to repeat.
    async fn apply(&self, context: &Context) -> Result<(), Error>;
    /// The same after the old files were put back. Safe to repeat.
    async fn undo(&self, context: &Context) -> Result<(), Error>;
}

/// How success is seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verify {
    /// The operator said nothing: a change is reported as `unverified`.
    #[default]
    NotConfigured,
    /// The operator said that nobody can look (`verify = []`).
    Waived,
    /// By handshakes with all of these.
    Endpoints {
        /// Whom to ask.
        endpoints: Vec<Endpoint>,
        /// How long the new certificate may take to appear; default 15 seconds.
        timeout: Duration,
    },
}

impl Verify {
    /// By handshakes with all of these, within 15 seconds.
    pub fn endpoints(endpoints: impl IntoIterator<Item = Endpoint>) -> Self {
        Self::Endpoints { endpoints: endpoints.into_iter().collect(), timeout: default_verify_timeout().duration() }
    }

    /// From a setting: absent, empty, or a list.
    #[must_use]
    pub fn from_setting(setting: Option<Vec<Endpoint>>) -> Self {
        match setting {
            None => Self::NotConfigured,
            Some(endpoints) if endpoints.is_empty() => Self::Waived,
            Some(endpoints) => Self::endpoints(endpoints),
        }
    }

    /// Within another time, where there are endpoints.
    #[must_use]
    pub fn with_timeout(mut self, limit: Duration) -> Self {
        if let Self::Endpoints { timeout, .. } = &mut self {
            *timeout = limit;
        }
        self
    }

    pub(crate) fn list(&self) -> (&[Endpoint], Duration) {
        match self {
            Self::Endpoints { endpoints, timeout } => (endpoints, *timeout),
            Self::NotConfigured | Self::Waived => (&[], Duration::ZERO),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reload_is_carried_out_for_a_call_that_falls_back_on_it() {
        let context = Context::new("/nowhere", deploy_testkit::provider());
        assert!(Reload::Command(Command::new(["true"])).carry_out(&context).await.is_ok());
        assert!(Reload::Command(Command::new(["false"])).carry_out(&context).await.is_err());
    }
}

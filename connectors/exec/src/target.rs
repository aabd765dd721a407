//! The description of a deployment by a program: each call of a push is one request.

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, Observed, Push, Recovery, Rung, Snapshot, Target,
    Validation, Verify,
};

use crate::Exec;
use crate::config::ExecSettings;
use crate::problem::{Problem, without_answer};
use crate::program::{Program, Subject};
use crate::protocol::{self, Check, Checked, Description, Done, Observation, Operation, PROTOCOL};

/// What one program deploys to.
#[derive(Debug)]
pub(crate) struct ExecTarget {
    name: String,
    settings: ExecSettings,
}

#[async_trait]
impl Target for ExecTarget {
    fn capabilities(&self) -> Capabilities {
        Exec::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(Box::new(self.push()))
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Ok(Deployment::Push(Box::new(self.push())))
    }
}

impl ExecTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: ExecSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn push(&self) -> ExecPush {
        let ExecSettings { command, settings, secrets, .. } = self.settings.clone();
        // An empty command was refused, and would be refused again where it is run.
        let command = command.command().unwrap_or_else(|| deploy_core::command::Command::new([""; 0]));
        ExecPush {
            program: Program::new(&self.name, command, settings, secrets),
            verify: self.settings.verify(),
            description: None,
            revision: None,
        }
    }
}

/// One deployment by a program.
#[derive(Debug)]
struct ExecPush {
    program: Program,
    verify: Verify,
    description: Option<Description>,
    /// What the remote had when it was last looked at.
    revision: Option<String>,
}

#[async_trait]
impl Push for ExecPush {
    fn verify(&self) -> Verify {
        self.verify.clone()
    }

    async fn observe(&mut self, context: &Context) -> Result<Observed, Error> {
        self.greet(context)?;
        let Observation { fingerprint, revision, settled } = self.program.ask(Operation::Observe, Subject::Target, context)?;
        self.revision.clone_from(&revision);
        let mut observed = Observed::new(fingerprint, revision);
        observed.settled = settled;
        Ok(observed)
    }

    async fn validate(&mut self, certificate: &Certificate, context: &Context) -> Result<Validation, Error> {
        if !self.greet(context)?.capabilities.validate {
            return Ok(Validation::Unavailable(format!("{} has no dry run", self.program.name())));
        }
        let check: Check = self.program.ask(Operation::Validate, Subject::Certificate(certificate), context)?;
        Ok(match check.checked {
            Checked::Configuration => Validation::Passed(Rung::V3),
            Checked::Pair => Validation::Passed(Rung::V2),
            Checked::Nothing => Validation::Unavailable(self.program.shown(check.reason.as_deref().unwrap_or("no reason given"))),
        })
    }

    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error> {
        self.greet(context)?;
        let protocol::Snapshot { version, data } = self.program.ask(Operation::Snapshot, Subject::Target, context)?;
        Ok(Snapshot::new(version, data))
    }

    async fn upload(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        self.act(Operation::Upload, Subject::Certificate(certificate), context)
    }

    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error> {
        let revision = self.revision.clone();
        self.act(Operation::Activate, Subject::Switch(certificate, revision.as_deref()), context)
    }

    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error> {
        self.act(Operation::Restore, Subject::Snapshot(snapshot), context)
    }

    async fn prune(&mut self, context: &Context) -> Result<(), Error> {
        if !self.greet(context)?.capabilities.prune {
            return Ok(());
        }
        self.act(Operation::Prune, Subject::Target, context)
    }
}

impl ExecPush {
    /// The handshake, once for a deployment and before anything else.
    fn greet(&mut self, context: &Context) -> Result<&Description, Error> {
        let described = match self.description.take() {
            Some(description) => description,
            None => self.program.ask(Operation::Describe, Subject::Target, context)?,
        };
        if !described.protocols.contains(&PROTOCOL) {
            return Err(without_answer(&self.program.name(), Operation::Describe, Problem::other_versions(&described.protocols)));
        }
        Ok(self.description.insert(described))
    }

    fn act(&mut self, operation: Operation, subject: Subject<'_>, context: &Context) -> Result<(), Error> {
        self.greet(context)?;
        self.program.ask(operation, subject, context).map(|Done {}| ())
    }
}

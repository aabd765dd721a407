//! Rung V4: the real server, started in a private view with the staged files, has to serve them there.
//!
//! It catches what no checker sees, as with Apache, which takes any certificate until it starts. A server that cannot be
//! started like this at all, with the old files neither, says nothing about the new ones: then the report says that.

use std::time::{Duration, Instant};

use crate::command::{Command, Limits};
use crate::context::Context;
use crate::engine::group::{Group, Member};
use crate::engine::inspect::reached;
use crate::error::{Error, ErrorKind};
use crate::probe::{Endpoint, Observation, ProbeError, at_an_address, probe};
use crate::report::Rung;
use crate::staged_view::StagedView;

/// How long a server may take to start.
const STARTS_IN: Duration = Duration::from_secs(10);

/// How long between two looks. Starting took nginx and Apache 50 to 80 ms, HAProxy 150.
const PAUSE: Duration = Duration::from_millis(10);

impl Group<'_> {
    /// Starts every server of the members that can be started like this, once, and looks at what it serves.
    pub(super) fn start_in_private(&mut self) -> Result<(), Error> {
        let mut commands: Vec<Command> = Vec::new();
        for command in self.members.iter().filter_map(|member| member.plan.hooks.shadow.as_ref()) {
            if !commands.contains(command) {
                commands.push(command.clone());
            }
        }
        commands.iter().try_for_each(|command| self.start_one(command))
    }

    fn start_one(&mut self, command: &Command) -> Result<(), Error> {
        let of_command = |member: &&Member| member.plan.hooks.shadow.as_ref() == Some(command);
        let wanted: Vec<Look> =
            self.members.iter().filter(of_command).flat_map(|member| Look::at_new(self.context, member)).collect();
        if wanted.is_empty() {
            return Ok(());
        }
        let staged = self.staged(0)?;
        let view = StagedView::new(staged.view.clone(), staged.mount_point.clone());
        let why = match self.try_server(command, &view, &wanted) {
            Tried::Served => {
                self.note(command, |member| reached(member, Rung::V4));
                return Ok(());
            }
            Tried::Impossible(why) => why,
            Tried::Failed(failure) if !staged.renewal => failure,
            Tried::Failed(failure) => {
                let unchanged = StagedView { files: Vec::new(), ..view };
                let anything: Vec<Look> = wanted.iter().map(Look::at_anything).collect();
                match self.try_server(command, &unchanged, &anything) {
                    Tried::Served => return Err(refused(command, &failure)),
                    Tried::Impossible(why) | Tried::Failed(why) => why,
                }
            }
        };
        self.check_time()?;
        let why = format!("`{}` could not be tried in private: {why}", command.display());
        self.note(command, |member| member.report.degrade("shadow", why.clone()));
        Ok(())
    }

    fn note(&mut self, command: &Command, note: impl FnMut(&mut Member)) {
        self.members.iter_mut().filter(|member| member.plan.hooks.shadow.as_ref() == Some(command)).for_each(note);
    }

    /// Starts the server and asks every endpoint once it answers.
    fn try_server(&self, command: &Command, view: &StagedView, looks: &[Look]) -> Tried {
        let context = self.context;
        let deadline = context.deadline().min(Instant::now() + STARTS_IN);
        let mut seen = Ok(());
        let limits = Limits::new(deadline, Some(context.cancellation()));
        let ran = context.host().shadow(command, view, &limits, &mut |runs| {
            let answer = |endpoint: &Endpoint| loop {
                match probe(endpoint, context.provider(), deadline, Some(context.cancellation())) {
                    Err(error)
                        if error.unreachable() && runs() && Instant::now() < deadline && !context.cancellation().wait(PAUSE) => {}
                    answer => return answer,
                }
            };
            seen = looks.iter().try_for_each(|look| look.judge(answer(&look.endpoint)));
        });
        match (ran, seen) {
            (Err(error), _) => {
                let error = Error::new(ErrorKind::ValidateFailed, "it could not be started").with_source(error);
                Tried::Impossible(error.full_message())
            }
            (Ok(_), Ok(())) => Tried::Served,
            (Ok(output), Err(_)) if output.code.is_some() || output.signal.is_some() => {
                Tried::Failed(format!("it ended with {}", output.verdict()))
            }
            (Ok(_), Err(problem)) => Tried::Failed(problem),
        }
    }
}

/// What came of starting a server in private.
enum Tried {
    Served,
    Failed(String),
    Impossible(String),
}

/// An endpoint, by address, and the leaf that it has to serve; `None`: any.
struct Look {
    endpoint: Endpoint,
    wanted: Option<String>,
}

impl Look {
    /// The new leaf, at every endpoint of a member. In private no name can be looked up, so that is done before.
    fn at_new(context: &Context, member: &Member) -> Vec<Self> {
        let Some(wanted) = &member.report.fingerprint.wanted else { return Vec::new() };
        let deadline = context.deadline().min(Instant::now() + STARTS_IN);
        let (endpoints, _) = member.plan.hooks.verify.list();
        let found = endpoints.iter().filter_map(|endpoint| at_an_address(endpoint, deadline, Some(context.cancellation())).ok());
        found.map(|endpoint| Self { endpoint, wanted: Some(wanted.clone()) }).collect()
    }

    fn at_anything(&self) -> Self {
        Self { endpoint: self.endpoint.clone(), wanted: None }
    }

    fn judge(&self, answer: Result<Vec<Observation>, ProbeError>) -> Result<(), String> {
        let endpoint = &self.endpoint;
        let silent = |error| Error::new(ErrorKind::VerifyFailed, format!("{endpoint} shows no certificate")).with_source(error);
        let observations = answer.map_err(|error| silent(error).full_message())?;
        for seen in &observations {
            if let Err(problem) = &seen.handshake {
                return Err(format!("the handshake with {endpoint} fails: {problem}"));
            }
            if let Some(wanted) = self.wanted.as_ref().filter(|wanted| **wanted != seen.fingerprint) {
                return Err(format!("{endpoint} serves {}, and not {wanted}", seen.fingerprint));
            }
        }
        Ok(())
    }
}

fn refused(command: &Command, failure: &str) -> Error {
    Error::new(
        ErrorKind::ValidateFailed,
        format!(
            "a private copy of the server (`{}`) does not serve the new files, and serves the old ones: {failure}",
            command.display()
        ),
    )
    .with_next_step("read what it says; the new certificate or the configuration has to change")
}

//! The program `certdeploy` as an operator runs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::{Outcome, shell};

/// The program with a configuration and a state directory of its own.
#[derive(Debug)]
pub(crate) struct Program {
    program: PathBuf,
    configuration: PathBuf,
    state: PathBuf,
}

/// What one run came to.
#[derive(Debug)]
pub(crate) struct Run {
    /// The exit status; `None` when a signal ended it.
    pub(crate) status: Option<i32>,
    /// The first target's outcome, `error` where there is no target.
    pub(crate) outcome: String,
    /// The error's message, if there is one.
    pub(crate) message: Option<String>,
}

impl Program {
    /// Keeps configuration and state in `directory`.
    pub(crate) fn new(program: PathBuf, directory: &Path) -> Self {
        Self { program, configuration: directory.join("certdeploy.toml"), state: directory.join("state") }
    }

    /// Writes the configuration.
    pub(crate) fn configure(&self, text: &str) -> Outcome {
        shell::write_private(&self.configuration, text.as_bytes())
    }

    /// The command line of `certdeploy deploy`, as a hook would have it.
    pub(crate) fn deploy_line(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let words = [path(&self.program), "deploy".into(), "--config".into(), path(&self.configuration)];
        words.into_iter().chain(["--state-dir".into(), path(&self.state)]).collect()
    }

    /// Deploys and waits for the end.
    pub(crate) fn deploy(&self) -> Outcome<Run> {
        let output = self.command().output().map_err(|error| format!("can't start {}: {error}", self.program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let document: Value = match serde_json::from_str(&text) {
            Ok(document) => document,
            Err(error) => {
                let said = format!("{error}: {}{}", text.trim_end(), String::from_utf8_lossy(&output.stderr).trim_end());
                return Ok(Run { status: output.status.code(), outcome: "no JSON document".to_owned(), message: Some(said) });
            }
        };
        let target = &document["targets"][0];
        let error = if target["error"].is_null() { &document["error"] } else { &target["error"] };
        let message = error["message"].as_str().or(error.as_str()).map(str::to_owned);
        let outcome = target["outcome"].as_str().unwrap_or("error").to_owned();
        Ok(Run { status: output.status.code(), outcome, message })
    }

    /// Starts a deployment.
    pub(crate) fn start(&self) -> Outcome<Child> {
        let child = self.command().stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        child.map_err(|error| format!("can't start {}: {error}", self.program.display()))
    }

    fn command(&self) -> Command {
        let words = self.deploy_line();
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).arg("--json");
        command
    }
}

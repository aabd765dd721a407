//! `credential_process` (docs.aws.amazon.com/sdkref/latest/guide/feature-process-credentials.html).

use deploy_core::command::{Command, CommandError, Limits};
use deploy_core::secret::{SecretBytes, withhold};
use deploy_core::{Error, ErrorKind, Retry};

use super::Surroundings;
use crate::credentials::{Credentials, Document};

/// Runs it, without a shell: the words are split as a POSIX shell would split them, and nothing is expanded. It gets `HOME` and
/// no other variable of ours.
pub(super) fn run(command: &str, around: &Surroundings<'_>) -> Result<Credentials, Error> {
    let failed = |kind, message: &str| Error::new(kind, format!("the credential_process of the AWS profile {message}"));
    let words = shlex::split(command).filter(|words| !words.is_empty());
    let words = words.ok_or_else(|| failed(ErrorKind::ConfigurationInvalid, "is no command: a quote does not end"))?;
    let mut program = Command::new(words);
    program.environment.extend(around.variable("HOME").map(|home| ("HOME".to_owned(), home)));
    let limits = Limits::new(around.context.deadline(), Some(around.context.cancellation()));
    let mut output = around.context.host().run(&program, None, &limits).map_err(|error| match error {
        // What it had printed by then may be the secret.
        CommandError::Timeout { .. } => failed(ErrorKind::Timeout, "does not end").with_retry(Retry::Later),
        CommandError::Interrupted => failed(ErrorKind::Interrupted, "was interrupted"),
        error => failed(ErrorKind::ConfigurationInvalid, "cannot be run").with_source(error),
    })?;
    let stdout = SecretBytes::from(std::mem::take(&mut output.stdout));
    if !output.success() {
        let said = withhold(&String::from_utf8_lossy(&output.stderr));
        let line = said.trim_end().lines().next_back().unwrap_or_default();
        return Err(failed(ErrorKind::Unauthenticated, &format!("ended with {}: {line}", output.ending()))
            .with_next_step("run it by hand, as the user that certdeploy runs as"));
    }
    // The parser's own message could quote the secret.
    let unreadable = || failed(ErrorKind::Unauthenticated, "prints something else than the document that it should");
    let document: Document = serde_json::from_slice(stdout.expose()).map_err(|_| unreadable())?;
    if document.version != Some(1) {
        return Err(failed(ErrorKind::Unauthenticated, "prints another version of the document than 1"));
    }
    document.credentials("the credential_process of the AWS profile")
}

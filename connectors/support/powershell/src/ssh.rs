//! Windows' OpenSSH server, reached with the system's own `ssh`.

use std::time::Duration;

use deploy_core::command::{CommandError, Limits};
use deploy_core::secret::SecretBytes;
use deploy_core::{Context, Error, ErrorKind, Retry, SettingError};
use deploy_ssh::SshSettings;

use crate::answer::Output;

/// A script waits for another one, and PowerShell itself takes seconds to start.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a script prints is longer only by mistake.
const MOST_OUTPUT: usize = 16 << 20;

pub(crate) fn check(settings: &SshSettings, setting: &str) -> Result<(), SettingError> {
    if settings.sudo {
        return Err(SettingError::new(format!("{setting}.sudo"), "means nothing on Windows: log in as an administrator"));
    }
    settings.check().map_err(|error| SettingError::new(format!("{setting}.{}", error.path), error.to_string()))
}

/// Runs a command there. Nothing in it is read by `cmd.exe`, PowerShell or bash as anything but itself, whichever the server
/// starts (`DefaultShell`).
pub(crate) fn run(settings: &SshSettings, command: &[String], input: SecretBytes, context: &Context) -> Result<Output, Error> {
    let mut ssh = settings.command(command.join(" "));
    ssh.input = Some(input);
    ssh.timeout = PATIENCE;
    ssh.output_limit = MOST_OUTPUT;
    let limits = Limits::new(context.deadline(), Some(context.cancellation()));
    let output = context.host().run(&ssh, None, &limits).map_err(|error| failure(settings, error))?;
    if output.code == Some(255) {
        return Err(settings.failure(&output));
    }
    Ok(Output { status: output.code, stdout: output.stdout, stderr: output.stderr })
}

/// Whether the script did what it was to do is not known. It can be run again.
fn failure(settings: &SshSettings, error: CommandError) -> Error {
    let (kind, retry) = match error {
        CommandError::Interrupted => (ErrorKind::Interrupted, Retry::Never),
        CommandError::Timeout { .. } => (ErrorKind::Timeout, Retry::Later),
        _ => (ErrorKind::PlanInvalid, Retry::Never),
    };
    Error::new(kind, format!("ssh to {} could not be run to its end", settings.name())).with_retry(retry).with_source(error)
}

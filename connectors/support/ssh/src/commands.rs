//! Running a command on the other side: an `ssh` of its own for each, over the connection that is there.

use std::ffi::{OsStr, OsString};

use deploy_core::command::{Command, CommandError, CommandOutput, Limits, PATH};
use deploy_core::host::{Host as _, Local};

use crate::quote::quote;
use crate::session::unique;
use crate::settings::SshSettings;

/// Read by a shell there. It stays the command's parent, so that its mark is found as long as the command runs, and says how
/// the command ended: whoever holds the pipes open then, that line ends the session. One line, because the mark after it is
/// looked for in the first line of what the process was started with.
const WRAPPER: &str = concat!(
    r#"cd -- "$1" || { printf '\n%scd\n' "$0" >&2; exit 1; }; shift; "#,
    r#"command -v "$1" >/dev/null 2>&1 || { printf '\n%snone\n' "$0" >&2; exit 127; }; "#,
    r#""$@"; printf '\n%s%s\n' "$0" "$?" >&2"#
);

/// How a command ended on the other side.
pub(crate) struct Ended {
    pub(crate) outcome: Result<CommandOutput, CommandError>,
    /// It may still run there, and is found by this.
    pub(crate) alive: Option<String>,
}

/// Runs it, as [`deploy_core::host::Host::run`] does.
pub(crate) fn run(settings: &SshSettings, control: &[String], command: &Command, limits: &Limits<'_>) -> Ended {
    let mark = format!("{}: ", unique());
    let mut ssh = settings.command_with(control, line(settings, command, &mark));
    (ssh.input, ssh.timeout, ssh.output_limit) = (command.input.clone(), command.timeout, command.output_limit + mark.len() + 8);
    ssh.end_mark = Some(mark.clone().into_bytes());
    let (outcome, alive) = match Local::new().run(&ssh, None, limits) {
        Ok(output) => (settled(settings, command, output, &mark), false),
        Err(CommandError::Timeout { after, output }) => (Err(CommandError::Timeout { after, output }), true),
        Err(CommandError::Interrupted) => (Err(CommandError::Interrupted), true),
        Err(error) => (Err(error), false),
    };
    Ended { outcome, alive: alive.then_some(mark) }
}

/// The line for the login shell. The environment is cleared there, too, and the mark is an argument of the shell between.
fn line(settings: &SshSettings, command: &Command, mark: &str) -> OsString {
    let sudo: &[&str] = if settings.sudo { &["sudo", "-n", "--"] } else { &[] };
    let words = ["exec"].iter().chain(sudo).chain(&["env", "-i"]).map(OsString::from);
    let environment = [("PATH", PATH), ("LC_ALL", "C")].into_iter();
    let own = command.environment.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let environment = environment.chain(own).map(|(name, value)| OsString::from(format!("{name}={value}")));
    let shell = ["/bin/sh", "-c", WRAPPER, mark].map(OsString::from);
    let directory = command.directory.as_ref().map_or_else(|| OsString::from("/"), OsString::from);
    quote(words.chain(environment).chain(shell).chain([directory]).chain(command.arguments.iter().cloned()))
}

fn settled(
    settings: &SshSettings,
    command: &Command,
    mut output: CommandOutput,
    mark: &str,
) -> Result<CommandOutput, CommandError> {
    let spawn = |error: std::io::Error| Err(CommandError::Spawn(error));
    let Some((said, ending)) = split(&output.stderr, mark) else {
        return spawn(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, settings.failure(&output)));
    };
    match ending.as_str() {
        "cd" => {
            let directory = command.directory.as_deref().unwrap_or(std::path::Path::new("/"));
            let message = format!("the directory {} cannot be entered there", directory.display());
            spawn(std::io::Error::new(std::io::ErrorKind::NotFound, message))
        }
        "none" => {
            let program = command.arguments.first().map(OsString::as_os_str).unwrap_or_default();
            not_there(program)
        }
        status => match status.parse() {
            Ok(code) => {
                output.stderr = said;
                (output.code, output.signal) = (Some(code), None);
                Ok(output)
            }
            Err(_) => spawn(crate::answer::nonsense("exit status")),
        },
    }
}

fn not_there(program: &OsStr) -> Result<CommandOutput, CommandError> {
    let program = program.to_string_lossy().into_owned();
    if program.contains('/') {
        return Err(CommandError::Spawn(std::io::Error::new(std::io::ErrorKind::NotFound, format!("{program} is not there"))));
    }
    Err(CommandError::NotFound { program })
}

/// What was said before and after the mark, without the line break that was put before it.
fn split(stderr: &[u8], mark: &str) -> Option<(Vec<u8>, String)> {
    let at = stderr.windows(mark.len()).rposition(|window| window == mark.as_bytes())?;
    let (before, rest) = stderr.split_at(at);
    let rest = &rest[mark.len()..];
    let end = rest.iter().position(|byte| *byte == b'\n')?;
    let mut said = before.strip_suffix(b"\n").unwrap_or(before).to_vec();
    said.extend_from_slice(&rest[end + 1..]);
    Some((said, String::from_utf8_lossy(&rest[..end]).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_around_the_mark_is_kept() {
        assert_eq!(split(b"no\n\nm: 3\nlate\n", "m: "), Some((b"no\nlate\n".to_vec(), "3".to_owned())));
        assert_eq!(split(b"\nm: 0\n", "m: "), Some((Vec::new(), "0".to_owned())));
        assert_eq!(split(b"m: 0", "m: "), None);
        assert_eq!(split(b"Connection closed", "m: "), None);
    }
}

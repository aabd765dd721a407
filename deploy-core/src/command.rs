//! What to run, and what came out of it.
//!
//! There is no shell: a command is an argument vector with a cleared environment, a timeout, a bounded output and a
//! process group of its own. [`crate::host::Host::run`] carries it out.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use thiserror::Error;

use crate::context::Cancellation;
use crate::secret::{SecretBytes, withhold};

/// The search path that commands get.
pub const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// How much of a command's standard output, and of its standard error, is kept by default: the last 64 KiB.
pub const OUTPUT_LIMIT: usize = 64 * 1024;

/// A command: argument vector, extra environment, timeout. Standard input is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// Program and arguments. A program without a slash is looked up in [`PATH`].
    pub arguments: Vec<OsString>,
    /// Variables beside `PATH` and `LC_ALL=C`, which are all that the child gets.
    pub environment: BTreeMap<String, String>,
    /// How long it may take; default 30 s. After that, its whole process group gets SIGTERM, and SIGKILL two seconds later.
    pub timeout: Duration,
    /// Working directory; default `/`.
    pub directory: Option<PathBuf>,
    /// What it reads from standard input; default nothing.
    pub input: Option<SecretBytes>,
    /// For a program that runs another one elsewhere, such as `ssh`: a whole line of standard error that begins with this says
    /// that the other one has ended. What it left behind may then hold the pipes open for a second. Default: none.
    pub end_mark: Option<Vec<u8>>,
    /// How many bytes of its standard output, and of its standard error, are kept: the last ones; default [`OUTPUT_LIMIT`].
    pub output_limit: usize,
}

impl Command {
    /// A command with the default timeout of 30 seconds.
    pub fn new<I>(arguments: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        Self {
            arguments: arguments.into_iter().map(Into::into).collect(),
            environment: BTreeMap::new(),
            timeout: Duration::from_secs(30),
            directory: None,
            input: None,
            end_mark: None,
            output_limit: OUTPUT_LIMIT,
        }
    }

    /// With another timeout.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// As an operator would type it, for messages.
    #[must_use]
    pub fn display(&self) -> String {
        let quoted = self.arguments.iter().map(|argument| {
            let argument = argument.to_string_lossy();
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@%+,".contains(c);
            if !argument.is_empty() && argument.chars().all(plain) { argument.into_owned() } else { format!("{argument:?}") }
        });
        quoted.collect::<Vec<_>>().join(" ")
    }
}

/// How long a command may go on, whatever its own timeout says.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Limits<'a> {
    /// The end of the stage or of the deployment.
    pub deadline: Instant,
    /// Ends the command early; `None` where nothing may (rollback).
    pub cancellation: Option<&'a Cancellation>,
}

impl<'a> Limits<'a> {
    /// Until `deadline`, or until cancelled.
    #[must_use]
    pub fn new(deadline: Instant, cancellation: Option<&'a Cancellation>) -> Self {
        Self { deadline, cancellation }
    }
}

/// What came out of a command that ran to its end.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOutput {
    /// Exit status, if it exited by itself.
    pub code: Option<i32>,
    /// The signal that ended it, otherwise.
    pub signal: Option<i32>,
    /// The end of its standard output, at most [`Command::output_limit`] bytes.
    pub stdout: Vec<u8>,
    /// The end of its standard error, at most [`Command::output_limit`] bytes.
    pub stderr: Vec<u8>,
    /// Some output was dropped.
    pub truncated: bool,
}

impl CommandOutput {
    /// Whether it exited with status 0.
    #[must_use]
    pub fn success(&self) -> bool {
        self.code == Some(0)
    }

    /// What an operator wants to read: the last lines of standard error, or of standard output if that is empty,
    /// without what may be a private key ([`withhold`]).
    #[must_use]
    pub fn message(&self) -> String {
        const LINES: usize = 12;
        let bytes = if self.stderr.trim_ascii().is_empty() { &self.stdout } else { &self.stderr };
        let text = withhold(&String::from_utf8_lossy(bytes));
        let lines: Vec<&str> = text.trim().lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// How it ended and what it said: `exit status 1: ...`.
    #[must_use]
    pub fn verdict(&self) -> String {
        match self.message() {
            message if message.is_empty() => format!("{}, and it printed nothing", self.ending()),
            message => format!("{}: {message}", self.ending()),
        }
    }

    /// "exit status 1" or "signal 9".
    #[must_use]
    pub fn ending(&self) -> String {
        match (self.code, self.signal) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "unknown status".to_owned(),
        }
    }
}

/// Without what was printed, which may be a secret.
impl fmt::Debug for CommandOutput {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = |bytes: &[u8]| format!("[{} bytes]", bytes.len());
        formatter
            .debug_struct("CommandOutput")
            .field("code", &self.code)
            .field("signal", &self.signal)
            .field("stdout", &length(&self.stdout))
            .field("stderr", &length(&self.stderr))
            .field("truncated", &self.truncated)
            .finish()
    }
}

/// Why there is no [`CommandOutput`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The caller was cancelled while it ran; its process group was ended.
    #[error("ended because the run was interrupted")]
    Interrupted,
    /// The program is not there.
    #[error("{program} was not found in {PATH}")]
    NotFound {
        /// What was looked for.
        program: String,
    },
    /// The program is there and could not be started.
    #[error("could not be started")]
    Spawn(#[source] io::Error),
    /// It ran out of time; its process group was ended.
    #[error("did not end within {} and was ended with its whole process group", humantime::format_duration(*.after))]
    Timeout {
        /// How long it was given.
        after: Duration,
        /// What it had printed until then.
        output: Box<CommandOutput>,
    },
    /// The private view could not be set up; the program never ran.
    #[error("the staged view could not be set up ({step})")]
    View {
        /// The step that failed.
        step: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

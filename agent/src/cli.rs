//! The command line.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Puts renewed TLS certificates live, proven, or not at all.
#[derive(Debug, Parser)]
#[command(name = "certdeploy", version, propagate_version = true, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) options: Options,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Options {
    /// Configuration file; `certdeploy.d/*.toml` beside it is read too, in the order of the names
    #[arg(long, global = true, value_name = "PATH", default_value = "/etc/certdeploy/certdeploy.toml")]
    pub(crate) config: PathBuf,
    /// Where journals, locks and history are kept [default: /var/lib/certdeploy for root, else certdeploy in the XDG state home]
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Only this target; may be given several times
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) target: Vec<String>,
    /// Only targets of this certificate; may be given several times
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) certificate: Vec<String>,
    /// Print one JSON document on standard output, and nothing else there
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Time for each target, such as 90s or 5m; a rollback has 60 seconds of its own [default: 120s]
    #[arg(long, global = true, value_name = "DURATION", value_parser = duration)]
    pub(crate) timeout: Option<Duration>,
    /// Run the hooks even if nothing changed, and replace a certificate that lasts longer or covers more names
    #[arg(long, global = true)]
    pub(crate) force: bool,
    /// Exit with 10 instead of 0 where something changed, or would
    #[arg(long, global = true)]
    pub(crate) detailed_exitcode: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Put the certificates live: check, stage, validate, swap, reload, see it served, or roll back
    Deploy,
    /// Show what deploy would do, and change nothing
    Plan,
    /// Ask the endpoints what they serve: 0 all as wanted, 3 another certificate or no answer, 6 no endpoint configured
    Verify,
    /// Show days left, what is on disk, what is served, what is owed
    Status {
        /// Exit with 1 if a certificate on disk has fewer days left or is missing, or if something is owed
        #[arg(long, value_name = "DAYS")]
        fail_under: Option<u32>,
    },
    /// Bring an earlier deployment back, and hold the target on it
    Rollback {
        /// The target
        #[arg(value_name = "TARGET")]
        name: String,
        /// The state to go back to, by its id in `status`; default: the one before the last deployment
        #[arg(long, value_name = "ID")]
        to: Option<String>,
    },
    /// Finish or undo what an interrupted run left
    Recover {
        /// Settle files alone, as at boot before the servers: no command, no network
        #[arg(long)]
        files_only: bool,
    },
    /// Look for what would keep deployments from working
    Doctor,
    /// Read the configuration and say whether it is right
    CheckConfig,
    /// The kinds of targets that this program knows
    Connectors {
        #[command(subcommand)]
        command: Connectors,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Connectors {
    /// List them with what each can do
    List,
    /// Read a server's own configuration, and print targets for what it serves today
    Discover {
        /// The kind, such as nginx
        kind: String,
        /// A command that shows the configuration, in place of the usual one
        #[arg(last = true, value_name = "COMMAND")]
        command: Vec<OsString>,
    },
    /// Print the JSON Schema of the settings of one
    Schema {
        /// The kind, such as nginx
        kind: String,
    },
}

const EXIT_CODES: &str = "\
Exit codes; of several targets the most severe counts (5, 1, 4, 8, 6, 7, 3, 2, 10, 0):
   0  as wanted                         5  rollback failed: a person is needed
   1  internal error                    6  deployed, and nobody could look
   2  configuration or command line     7  another run holds the target
   3  refused; nothing was changed      8  stopped by a signal
   4  rolled back: the old one is live 10  changed (with --detailed-exitcode)";

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if !duration.is_zero() => Ok(duration),
        _ => Err("write a number and its unit, such as 90s or 5m".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_taken_before_and_after_the_command() {
        for arguments in [["certdeploy", "--json", "plan"], ["certdeploy", "plan", "--json"]] {
            assert!(Cli::try_parse_from(arguments).unwrap().options.json);
        }
    }

    #[test]
    fn a_timeout_needs_a_unit_and_is_not_zero() {
        for wrong in ["5", "0s", "soon"] {
            assert!(Cli::try_parse_from(["certdeploy", "deploy", "--timeout", wrong]).is_err(), "{wrong}");
        }
        let cli = Cli::try_parse_from(["certdeploy", "deploy", "--timeout", "2m"]).unwrap();
        assert_eq!(cli.options.timeout, Some(Duration::from_secs(120)));
    }
}

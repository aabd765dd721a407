//! The commands: each takes what it needs, does it, prints one result, and returns the exit code.

mod check_config;
mod connectors;
mod deploy;
mod discover;
mod doctor;
mod plan;
mod recover;
mod rollback;
mod status;
mod verify;

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};

use clap::Parser;
use deploy_core::Registry;

use crate::cli::{Cli, Command};
use crate::exit;
use crate::failure::Failure;
use crate::output::json::{Failed, TopError};
use crate::output::{self, text};
use crate::session::Session;

/// Does what the command line asks.
pub(crate) fn run(arguments: impl Iterator<Item = OsString>, registry: &Registry) -> u8 {
    let arguments: Vec<OsString> = arguments.collect();
    let cli = match Cli::try_parse_from(&arguments) {
        Ok(cli) => cli,
        Err(error) => return refuse(&error, &arguments),
    };
    let json = cli.options.json;
    // A defect ends with the documented code for one, not with that of Rust's runtime, which means nothing here.
    let done = catch_unwind(AssertUnwindSafe(|| dispatch(cli, registry)));
    done.unwrap_or_else(|panic| Err(Failure::defect(&*panic))).unwrap_or_else(|failure| fail(&failure, json))
}

fn dispatch(cli: Cli, registry: &Registry) -> Result<u8, Failure> {
    let Cli { options, command } = cli;
    let open = || Session::open(&options, registry);
    match command {
        Command::Deploy => deploy::run(&open()?, &options),
        Command::Plan => plan::run(&open()?, &options),
        Command::Verify => verify::run(&open()?, &options),
        Command::Status { fail_under } => status::run(&open()?, &options, fail_under),
        Command::Rollback { name, to } => rollback::run(name, to.as_deref(), options, registry),
        Command::Recover { files_only } => recover::run(files_only, &options, registry),
        Command::Doctor => doctor::run(&options, registry),
        Command::CheckConfig => check_config::run(&options, registry),
        Command::Connectors { command } => connectors::run(&command, &options, registry),
    }
}

/// Says why nothing was done.
fn fail(failure: &Failure, json: bool) -> u8 {
    output::complain(&text::failure(failure));
    if json {
        output::document(&Failed::from(failure));
    }
    failure.code()
}

/// What clap says: help and version on standard output, mistakes on standard error.
fn refuse(error: &clap::Error, arguments: &[OsString]) -> u8 {
    error.print().ok();
    if !error.use_stderr() {
        return exit::SUCCESS;
    }
    if arguments.iter().skip(1).take_while(|argument| *argument != "--").any(|argument| argument == "--json") {
        let message = error.render().to_string();
        let message = message.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let error = TopError { kind: "usage", message, next_step: Some("run `certdeploy help`".to_owned()) };
        output::document(&Failed { targets: Vec::new(), error });
    }
    exit::USAGE
}

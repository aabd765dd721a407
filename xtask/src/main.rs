//! This project's own automation: `cargo xtask COMMAND`. One file per command; `shell` and `packages` serve several.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "automation for developers: it starts programs, writes files and prints; nothing of it is shipped"
)]

mod bench;
mod conformance;
mod demo;
mod docs;
mod graph;
mod lint;
mod new_connector;
mod packages;
mod proof;
mod servers;
mod shell;
mod test;
mod third_party;
mod tidy;
mod tools;
mod triggers;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// What a command comes to.
type Outcome<T = ()> = Result<T, String>;

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "What a developer of certdeploy does, one command each")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Print what a deployment costs, beside a floor and a predecessor-like sequence
    Bench(bench::Options),
    /// One measured deployment, for `bench`
    #[command(hide = true)]
    BenchOne(bench::one::Options),
    /// Run the conformance suite for a program of the connector `exec`
    Conformance(conformance::Options),
    /// Kill the program before each of its system calls, and cut the power at each operation
    Crash(proof::CrashOptions),
    /// Play the main job on a real server: deploy, renew, refuse, roll back, recover
    Demo(demo::Options),
    /// Check licences, advisories and banned crates with cargo-deny
    Deny,
    /// Write the generated parts of docs/
    Docs(docs::Options),
    /// Let each system call of the program fail
    Faults(proof::FaultsOptions),
    /// Run a fuzz target of tests/fuzz with cargo-fuzz
    Fuzz(tools::FuzzOptions),
    /// Check which crates the shipped crates pull in
    Graph,
    /// Formatting, clippy and tidy
    Lint,
    /// Run mutation tests with cargo-mutants
    Mutants(tools::MutantsOptions),
    /// Make the crate and the page of a new connector, and register it
    NewConnector(new_connector::Options),
    /// Prove what the engine promises: all proofs, or one
    Proof(proof::Options),
    /// Install the servers of the tests that Debian has no package of
    Servers,
    /// Everything that must hold before a change is merged
    Test(test::Options),
    /// House rules that no compiler knows
    Tidy,
    /// Try the hooks of docs/triggers.md with real ACME clients against a local ACME server
    Triggers(triggers::Options),
}

fn main() -> ExitCode {
    let outcome = match Arguments::parse().command {
        Task::Bench(options) => bench::run(&options),
        Task::BenchOne(options) => bench::one::run(&options),
        Task::Conformance(options) => conformance::run(&options),
        Task::Crash(options) => proof::crash(&options),
        Task::Demo(options) => demo::run(&options),
        Task::Deny => return tools::deny(),
        Task::Docs(options) => docs::run(&options),
        Task::Faults(options) => proof::faults(&options),
        Task::Fuzz(options) => return tools::fuzz(&options),
        Task::Graph => graph::run(),
        Task::Lint => lint::run(),
        Task::Mutants(options) => return tools::mutants(&options),
        Task::NewConnector(options) => new_connector::run(&options),
        Task::Proof(options) => proof::run(&options),
        Task::Servers => servers::ensure(),
        Task::Test(options) => test::run(&options),
        Task::Tidy => tidy::run(),
        Task::Triggers(options) => triggers::run(&options),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

//! What needs a tool that is not part of Rust: each says how to get it, and ends with 2 when it is not there.

use std::process::ExitCode;

use clap::Args;

use crate::shell;

#[derive(Debug, Args)]
pub(crate) struct FuzzOptions {
    /// The fuzz target; without it, they are listed
    target: Option<String>,
    /// How long to run
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    seconds: u32,
}

#[derive(Debug, Args)]
pub(crate) struct MutantsOptions {
    /// The package whose code is mutated
    #[arg(long, default_value = "deploy-core")]
    package: String,
}

pub(crate) fn deny() -> ExitCode {
    with_tool("cargo-deny", "cargo install --locked cargo-deny", &["deny", "--all-features", "check"])
}

pub(crate) fn fuzz(options: &FuzzOptions) -> ExitCode {
    let how = "rustup toolchain install nightly && cargo install --locked cargo-fuzz";
    if !shell::root().join("tests/fuzz").is_dir() {
        eprintln!("xtask: there is no folder tests/fuzz yet");
        return ExitCode::from(2);
    }
    let limit = format!("-max_total_time={}", options.seconds);
    match &options.target {
        Some(target) => with_tool("cargo-fuzz", how, &["fuzz", "run", "--fuzz-dir", "tests/fuzz", target, "--", &limit]),
        None => with_tool("cargo-fuzz", how, &["fuzz", "list", "--fuzz-dir", "tests/fuzz"]),
    }
}

pub(crate) fn mutants(options: &MutantsOptions) -> ExitCode {
    with_tool("cargo-mutants", "cargo install --locked cargo-mutants", &["mutants", "--package", &options.package])
}

fn with_tool(program: &str, how: &str, arguments: &[&str]) -> ExitCode {
    if shell::find_program(program).is_none() {
        eprintln!("xtask: {program} is not installed; get it with:\n    {how}");
        return ExitCode::from(2);
    }
    match shell::run(&mut shell::cargo(arguments)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("xtask: {message}");
            ExitCode::FAILURE
        }
    }
}

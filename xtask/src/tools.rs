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
    let how = "cargo install --locked cargo-fuzz";
    let Some(target) = &options.target else {
        return with_tool("cargo-fuzz", how, &["fuzz", "list", "--fuzz-dir", "tests/fuzz"]);
    };
    // What is found goes to the first folder, so that the saved corpus stays as small as it was made.
    let (found, saved) = (format!("tests/fuzz/target/found/{target}"), format!("tests/fuzz/corpus/{target}"));
    if let Err(error) = std::fs::create_dir_all(shell::root().join(&found)) {
        eprintln!("xtask: {found}: {error}");
        return ExitCode::FAILURE;
    }
    let limit = format!("-max_total_time={}", options.seconds);
    // Sanitizers need a nightly compiler, and find little where no code is unsafe. An input that takes this long hangs.
    let run = ["fuzz", "run", "--fuzz-dir", "tests/fuzz", "--sanitizer", "none", target, &found, &saved, "--"];
    with_tool("cargo-fuzz", how, &[&run[..], &[&limit, "-timeout=20", "-max_len=16384"]].concat())
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

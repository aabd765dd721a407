//! Starts a program so that its parent can trace it: `traced PROGRAM ARGUMENT...`.
#![allow(clippy::print_stderr, clippy::disallowed_methods, reason = "a program for tests, which becomes another one")]

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

fn main() -> ExitCode {
    let mut line = std::env::args_os().skip(1);
    let Some(program) = line.next() else {
        eprintln!("usage: traced PROGRAM ARGUMENT...");
        return ExitCode::FAILURE;
    };
    if let Err(error) = nix::sys::ptrace::traceme() {
        eprintln!("traced: the parent may not trace us: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&program).args(line).exec();
    eprintln!("traced: {}: {error}", program.display());
    ExitCode::FAILURE
}

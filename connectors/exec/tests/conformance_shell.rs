//! The conformance suite, with the worked example in shell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, with a world of its own"
)]

mod shelf;

use std::process::ExitCode;

use deploy_testkit::conformance;

struct Shell;

impl shelf::Example for Shell {
    const FILE: &'static str = "shelf.sh";
}

fn main() -> ExitCode {
    conformance::run::<shelf::World<Shell>>()
}

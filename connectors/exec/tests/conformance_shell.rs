//! The conformance suite, with the worked example in shell.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, with a world of its own"
)]

mod shelf;

use std::path::PathBuf;
use std::process::ExitCode;

use deploy_testkit::conformance;

struct Shell;

impl shelf::Example for Shell {
    fn program() -> PathBuf {
        shelf::example("shelf.sh")
    }

    fn left_out(case: &str) -> Option<&'static str> {
        // This program starts many others, and the whole suite takes minutes. Python's is tried in full every day.
        let everyday = ["deployment::", "calls::"].iter().any(|group| case.starts_with(group));
        (!everyday).then_some("`cargo xtask conformance --exec docs/examples/exec/shelf.sh` tries it")
    }
}

fn main() -> ExitCode {
    conformance::run::<shelf::World<Shell>>()
}

//! The conformance suite, with the worked example in Python.
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

struct Python;

impl shelf::Example for Python {
    const FILE: &'static str = "shelf.py";
}

fn main() -> ExitCode {
    conformance::run::<shelf::World<Python>>()
}

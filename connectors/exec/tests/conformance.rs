//! The conformance suite, with the worked example in Python; or with another program, for `cargo xtask conformance`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, with a world of its own"
)]

mod own_world;
mod shelf;

use std::path::PathBuf;
use std::process::ExitCode;

use deploy_testkit::conformance;

/// The program to try.
const PROGRAM: &str = "CERTDEPLOY_CONFORMANCE_EXEC";
/// The program that makes its world; a shelf, if there is none.
const WORLD: &str = "CERTDEPLOY_CONFORMANCE_WORLD";

struct Program;

impl shelf::Example for Program {
    fn program() -> PathBuf {
        std::env::var_os(PROGRAM).map_or_else(|| shelf::example("shelf.py"), PathBuf::from)
    }
}

fn program() -> PathBuf {
    <Program as shelf::Example>::program()
}

fn world_program() -> PathBuf {
    std::env::var_os(WORLD).map(PathBuf::from).expect("main looked")
}

fn main() -> ExitCode {
    if std::env::var_os(WORLD).is_some() {
        conformance::run::<own_world::OwnWorld>()
    } else {
        conformance::run::<shelf::World<Program>>()
    }
}

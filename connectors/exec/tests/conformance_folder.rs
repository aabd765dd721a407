//! The conformance suite, with the worked example that brings a world of its own.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "a test, with a world of its own"
)]

mod own_world;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use deploy_testkit::conformance;

fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/exec").join(file)
}

fn program() -> PathBuf {
    example("folder.py")
}

fn world_program() -> PathBuf {
    example("folder_world.py")
}

fn main() -> ExitCode {
    conformance::run::<own_world::OwnWorld>()
}

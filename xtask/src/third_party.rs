//! The example of docs/: a connector and an agent as somebody else has them, in a workspace of their own.

use std::process::Command;

use crate::{Outcome, shell};

const FOLDER: &str = "docs/examples/third-party";

/// Formatting, clippy and its tests, in which its program deploys to a server. The server has to be built.
pub(crate) fn run() -> Outcome {
    // One target directory for both workspaces: what comes from the registry is not compiled twice.
    let target = shell::target_directory()?;
    let cargo = |arguments: &[&str]| -> Command {
        let mut command = shell::cargo(arguments);
        command.current_dir(shell::root().join(FOLDER)).env("CARGO_TARGET_DIR", &target);
        command
    };
    shell::run(&mut cargo(&["fmt", "--all", "--check"]))?;
    shell::run(&mut cargo(&["clippy", "--quiet", "--locked", "--all-targets", "--", "-D", "warnings"]))?;
    shell::run(&mut cargo(&["test", "--quiet", "--locked", "--doc"]))?;
    let mut tests = shell::test_runner();
    tests.push("--locked");
    shell::run(&mut cargo(&tests))
}

//! The conformance suite for a program of the connector `exec`.

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{Outcome, packages, shell};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// The program to try, as docs/exec-protocol.md describes it
    #[arg(long, value_name = "PATH")]
    exec: PathBuf,

    /// The program that makes a world for it; without one, the program has to deploy to the kit's shelf
    #[arg(long, value_name = "PATH")]
    world: Option<PathBuf>,

    /// Only the cases whose names contain one of these
    filters: Vec<String>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    packages::ensure(packages::FOR_TESTS)?;
    let mut command = shell::cargo(&["test", "--quiet", "--package", "deploy-exec", "--test", "conformance", "--"]);
    command.args(&options.filters).env("CERTDEPLOY_CONFORMANCE_EXEC", program(&options.exec)?);
    if let Some(world) = &options.world {
        command.env("CERTDEPLOY_CONFORMANCE_WORLD", program(world)?);
    }
    shell::run(&mut command)
}

/// The suite runs in another directory than we do.
fn program(path: &Path) -> Outcome<PathBuf> {
    path.canonicalize().map_err(|error| format!("{}: {error}", path.display()))
}

//! The program `certdeploy`, with the standard connectors.

use std::process::ExitCode;

fn main() -> ExitCode {
    certdeploy::run(certdeploy::registry())
}

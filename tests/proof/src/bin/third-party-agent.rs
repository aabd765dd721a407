//! The program as a third party builds it: the standard connectors, and one of their own.

use std::process::ExitCode;

fn main() -> ExitCode {
    certdeploy::run(certdeploy::registry().with::<deploy_proof::Remote>())
}

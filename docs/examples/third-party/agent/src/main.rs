//! certdeploy with the standard connectors and one more.

use std::process::ExitCode;

use example_connector::Reloading;

fn main() -> ExitCode {
    certdeploy::run(certdeploy::registry().with::<Reloading>())
}

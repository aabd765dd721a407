//! The program `reloading-tls-server`, started and ended with a test.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = "reloading-tls-server";

/// A server in a process of its own, on a free port of 127.0.0.1: it reads two files when it gets SIGHUP, and at no other time.
/// It ends when it is dropped.
#[derive(Debug)]
pub struct ReloadingServer {
    child: Child,
    address: SocketAddr,
    pid_file: PathBuf,
}

impl ReloadingServer {
    /// Starts it for two files, which need not exist yet: until it has read a pair it closes every connection. Its pid file
    /// and its log are put into `directory`.
    ///
    /// # Errors
    ///
    /// One sentence when the program is not there or does not start.
    pub fn start(directory: &Path, fullchain: &Path, key: &Path) -> Result<Self, String> {
        let program = find().ok_or_else(|| {
            format!("{PROGRAM} is neither beside this test nor in PATH: cargo build --package deploy-testkit --bin {PROGRAM}")
        })?;
        let (pid_file, log) = (directory.join("server.pid"), directory.join("server.log"));
        let mut command = Command::new(program);
        command.args(["--listen", "127.0.0.1:0", "--wait-for-files", "--fullchain"]).arg(fullchain);
        command.arg("--key").arg(key).arg("--pid-file").arg(&pid_file);
        let errors = File::create(&log).map_err(|error| format!("{}: {error}", log.display()))?;
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(errors);
        let mut child = command.spawn().map_err(|error| format!("{PROGRAM} cannot be started: {error}"))?;
        match announced(&mut child) {
            Some(address) => Ok(Self { child, address, pid_file }),
            None => {
                end(&mut child);
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                Err(format!("{PROGRAM} did not say where it listens: {}", said.trim_end()))
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file that holds its process number, in decimal.
    #[must_use]
    pub fn pid_file(&self) -> &Path {
        &self.pid_file
    }

    /// A command that has it read its files, for a configuration. It does not wait until they are read.
    #[must_use]
    pub fn reload_command(&self) -> Vec<String> {
        vec!["sh".to_owned(), "-c".to_owned(), format!("kill -HUP {}", self.child.id())]
    }
}

impl Drop for ReloadingServer {
    fn drop(&mut self) {
        end(&mut self.child);
    }
}

/// Beside the test's own executable, which lies in `target/PROFILE/deps`, or in PATH.
fn find() -> Option<PathBuf> {
    let executable = std::env::current_exe().ok()?;
    let beside = executable.ancestors().skip(1).take(2).map(Path::to_owned);
    let path = std::env::var_os("PATH").unwrap_or_default();
    beside.chain(std::env::split_paths(&path)).map(|directory| directory.join(PROGRAM)).find(|file| file.is_file())
}

/// What it prints once it listens; `None` if it ends first.
fn announced(child: &mut Child) -> Option<SocketAddr> {
    let mut line = String::new();
    BufReader::new(child.stdout.take()?).read_line(&mut line).ok()?;
    line.trim_end().strip_prefix("listening ")?.parse().ok()
}

fn end(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

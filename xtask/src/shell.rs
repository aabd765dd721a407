//! Starting programs, finding them, and waiting for conditions.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::Outcome;

/// The top of the workspace.
pub(crate) fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// The cargo that runs us, at the top of the workspace.
pub(crate) fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(arguments).current_dir(root());
    // What `cargo run` sets for us would make a nested cargo rebuild crates whose build scripts look at it.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" {
            command.env_remove(name);
        }
    }
    command
}

/// Where cargo puts what it builds here.
pub(crate) fn target_directory() -> Outcome<PathBuf> {
    let text = output(&mut cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: serde_json::Value = serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    metadata["target_directory"].as_str().map(PathBuf::from).ok_or_else(|| "cargo metadata names no target directory".to_owned())
}

/// The arguments of cargo that run tests: with cargo-nextest where it is installed, else with what comes with Rust.
pub(crate) fn test_runner() -> Vec<&'static str> {
    match find_program("cargo-nextest") {
        Some(_) => vec!["nextest", "run"],
        None => vec!["test", "--lib", "--bins", "--tests"],
    }
}

/// Runs the tests of a package, ignored ones included. One at a time: each has a server that takes a processor to start.
pub(crate) fn slow_tests(package: &str) -> Command {
    let mut arguments = test_runner();
    arguments.extend(["--package", package]);
    match arguments[0] {
        "nextest" => arguments.extend(["--run-ignored", "all", "--test-threads", "1"]),
        _ => arguments.extend(["--", "--include-ignored", "--test-threads", "1"]),
    }
    cargo(&arguments)
}

/// Runs to the end with our own output; anything but exit status 0 is an error that names the command.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|error| format!("can't start {}: {error}", shown(command)))?;
    if status.success() { Ok(()) } else { Err(format!("{} ended with {status}", shown(command))) }
}

/// Runs to the end and returns standard output; on failure the error has standard error in it.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let output = command.stdin(Stdio::null()).output().map_err(|error| format!("can't start {}: {error}", shown(command)))?;
    if output.status.success() {
        return String::from_utf8(output.stdout).map_err(|_| format!("{} printed something that is not UTF-8", shown(command)));
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(format!("{} ended with {}\n{}", shown(command), output.status, complaint.trim_end()))
}

/// A command as one would type it.
pub(crate) fn shown(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program).chain(command.get_args()).map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// Finds a program in PATH, or where Debian keeps those that only root is expected to start.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let administration = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    std::env::split_paths(&path).chain(administration).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Whether we are root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// Builds a program of this workspace and returns where it is.
pub(crate) fn build(package: &str, program: &str, release: bool) -> Outcome<PathBuf> {
    let mut arguments =
        vec!["build", "--quiet", "--package", package, "--bin", program, "--message-format", "json-render-diagnostics"];
    if release {
        arguments.push("--release");
    }
    let messages = output(cargo(&arguments).stderr(Stdio::inherit()))?;
    let executable = messages
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == program)
        .filter_map(|message| message["executable"].as_str().map(PathBuf::from))
        .next_back();
    executable.ok_or_else(|| format!("cargo did not say where the program {program} is"))
}

/// Asks again and again, for at most this long, until there is an answer.
pub(crate) fn wait_for<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> Outcome<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(format!("waited {} seconds in vain for {what}", limit.as_secs()));
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Loopback addresses that nobody listened at a moment ago.
pub(crate) fn free_addresses<const N: usize>() -> Outcome<[SocketAddr; N]> {
    let listeners: Vec<TcpListener> = (0..N)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()
        .map_err(|error| format!("no free port: {error}"))?;
    let addresses: Vec<SocketAddr> = listeners
        .iter()
        .map(TcpListener::local_addr)
        .collect::<Result<_, _>>()
        .map_err(|error| format!("no free port: {error}"))?;
    addresses.try_into().map_err(|_| "no free port".to_owned())
}

/// A server that ends with its owner: asked first, killed after five seconds.
#[derive(Debug)]
pub(crate) struct Server(Child);

impl Server {
    /// Starts it with its output in a file.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Outcome<Self> {
        let file = std::fs::File::create(log).map_err(|error| format!("can't create {}: {error}", log.display()))?;
        let copy = file.try_clone().map_err(|error| format!("can't share {}: {error}", log.display()))?;
        let child = command.stdin(Stdio::null()).stdout(file).stderr(copy).spawn();
        child.map(Self).map_err(|error| format!("can't start {}: {error}", shown(command)))
    }

    /// Waits until it listens; an error when it ends first.
    pub(crate) fn wait_for_listener(&mut self, address: SocketAddr, log: &Path) -> Outcome {
        wait_for(&format!("a listener at {address}"), Duration::from_secs(20), || match self.0.try_wait() {
            Ok(Some(status)) => {
                let said = std::fs::read_to_string(log).unwrap_or_default();
                Some(Err(format!("the server ended with {status}: {}", said.trim_end())))
            }
            _ => std::net::TcpStream::connect(address).is_ok().then_some(Ok(())),
        })?
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        send(self.0.id(), Signal::SIGTERM);
        let ended = wait_for("the server's end", Duration::from_secs(5), || self.0.try_wait().ok().flatten());
        if ended.is_err() {
            drop(self.0.kill());
            drop(self.0.wait());
        }
    }
}

/// Sends a signal; a process that is gone already is as good.
pub(crate) fn send(process: u32, signal: Signal) {
    if let Ok(number) = i32::try_from(process) {
        let _gone = kill(Pid::from_raw(number), signal);
    }
}

/// Writes a file, readable by its owner only.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Outcome {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(bytes)).map_err(|error| format!("can't write {}: {error}", path.display()))
}

/// Creates a directory with everything above it.
pub(crate) fn create_directory(path: &Path) -> Outcome {
    std::fs::create_dir_all(path).map_err(|error| format!("can't create {}: {error}", path.display()))
}

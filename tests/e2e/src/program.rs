//! The real program: built once, started with arguments, and read.

use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

/// The program beside this test's own executable, which is built if it is missing or older than what it is made from.
#[must_use]
pub fn program_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("certdeploy", "certdeploy", &["Cargo.lock", "agent", "connectors", "deploy-core"]))
}

/// The TLS server that loads its files at SIGHUP, found and built as [`program_path`].
#[must_use]
pub fn server_path() -> &'static Path {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    PATH.get_or_init(|| built("deploy-testkit", "reloading-tls-server", &["Cargo.lock", "tests/testkit"]))
}

fn built(package: &str, program: &str, sources: &[&str]) -> PathBuf {
    let executable = std::env::current_exe().expect("the test's own executable");
    let directory = executable.ancestors().nth(2).expect("it lies in target/PROFILE/deps").to_owned();
    let path = directory.join(program);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/e2e is in the workspace");
    let built = path.metadata().and_then(|metadata| metadata.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    if sources.iter().any(|source| newest(&workspace.join(source)) > built) {
        build(package, program, &directory);
    }
    path
}

/// When the newest of the sources below a path was changed.
fn newest(path: &Path) -> SystemTime {
    let metadata = path.metadata().unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if metadata.is_file() {
        return metadata.modified().expect("a file has a time");
    }
    let entries = path.read_dir().expect("sources can be listed").map(|entry| entry.expect("an entry").path());
    entries
        .filter(|path| path.file_name().is_some_and(|name| name != "tests"))
        .map(|path| newest(&path))
        .max()
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn build(package: &str, program: &str, directory: &Path) {
    let profile = match directory.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(name) => name,
    };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--package", package, "--bin", program, "--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(status.is_ok_and(|status| status.success()), "cargo build --package {package} failed");
}

/// How the program is started: configuration, state directory, user.
#[derive(Clone, Debug)]
#[must_use]
#[non_exhaustive]
pub struct Program {
    /// The file to start.
    pub path: PathBuf,
    /// A program and arguments to put in front of it, such as `unshare`.
    pub wrapper: Vec<String>,
    /// `--config`.
    pub config: PathBuf,
    /// `--state-dir`.
    pub state: PathBuf,
    /// Another user and group, for whom it is started without supplementary groups.
    pub user: Option<u32>,
}

impl Program {
    /// The program of this workspace.
    pub fn new(config: PathBuf, state: PathBuf) -> Self {
        Self { path: program_path().to_owned(), wrapper: Vec::new(), config, state, user: None }
    }

    /// Starts it; standard output and standard error go to files in a directory of their own.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Running {
        let output = tempfile::tempdir().expect("a directory for the output");
        let create = |name: &str| File::create(output.path().join(name)).expect("a file for the output");
        let mut command = self.command(arguments);
        command.stdout(create("out")).stderr(create("err"));
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", self.path.display()));
        Running { child, output }
    }

    /// How it is started: with nothing but a search path in its environment, and without input.
    ///
    /// # Panics
    ///
    /// When a path is not UTF-8.
    #[must_use]
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut line = self.wrapper.iter().map(String::as_str).chain([self.path.to_str().expect("UTF-8")]);
        let mut command = Command::new(line.next().expect("a program"));
        command.args(line).args(arguments).arg("--config").arg(&self.config).arg("--state-dir").arg(&self.state);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin").current_dir("/");
        command.stdin(Stdio::null());
        if let Some(user) = self.user {
            // Without supplementary groups: the standard library clears them when root becomes another user.
            command.uid(user).gid(user);
        }
        command
    }

    /// Runs it to the end.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.start(arguments).wait()
    }
}

/// A run that is under way. It is killed when it is dropped.
#[derive(Debug)]
pub struct Running {
    child: Child,
    output: tempfile::TempDir,
}

impl Running {
    /// Its process number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    ///
    /// # Panics
    ///
    /// When it has ended and was waited for.
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it was not waited for yet");
    }

    /// Whether it has not ended.
    ///
    /// # Panics
    ///
    /// When the system does not say.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// What it said on standard error so far.
    #[must_use]
    pub fn stderr(&self) -> String {
        read(&self.output.path().join("err"))
    }

    /// Waits for its end.
    ///
    /// # Panics
    ///
    /// When it can't be waited for.
    #[must_use]
    pub fn wait(mut self) -> Run {
        let status = self.child.wait().expect("a child can be waited for");
        Run::new(status, read(&self.output.path().join("out")), read(&self.output.path().join("err")))
    }

    /// Ends it at once, as by `kill -9`.
    ///
    /// # Panics
    ///
    /// As [`Self::wait`].
    pub fn kill(self) {
        self.signal(Signal::KILL);
        let run = self.wait();
        assert_eq!(run.signal, Some(9), "it ended by itself: {run:?}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}

/// A run that has ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// The exit code; -1 if a signal ended it.
    pub code: i32,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// What `--json` printed, if that is one document.
    pub json: Option<Value>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Run {
    /// From how it ended and what it said.
    #[must_use]
    pub fn new(status: ExitStatus, stdout: String, stderr: String) -> Self {
        let json = serde_json::from_str(&stdout).ok();
        Self { code: status.code().unwrap_or(-1), signal: status.signal(), json, stdout, stderr }
    }

    /// The whole document.
    ///
    /// # Panics
    ///
    /// When standard output is not one document.
    #[must_use]
    pub fn document(&self) -> &Value {
        self.json.as_ref().unwrap_or_else(|| panic!("no document: {self:?}"))
    }

    /// What it says about one target.
    ///
    /// # Panics
    ///
    /// When it says nothing about it.
    #[must_use]
    pub fn target(&self, name: &str) -> &Value {
        let targets = self.document()["targets"].as_array().unwrap_or_else(|| panic!("no targets: {self:?}"));
        targets.iter().find(|target| target["target"] == name).unwrap_or_else(|| panic!("nothing about {name}: {self:?}"))
    }

    /// What it says about the only target.
    ///
    /// # Panics
    ///
    /// When there is another number of targets.
    #[must_use]
    pub fn only(&self) -> &Value {
        match self.document()["targets"].as_array().map(Vec::as_slice) {
            Some([target]) => target,
            _ => panic!("not one target: {self:?}"),
        }
    }

    /// Asserts exit code and outcome of the only target.
    ///
    /// # Panics
    ///
    /// When they are others.
    #[track_caller]
    pub fn expect(&self, code: i32, outcome: &str) -> &Self {
        assert_eq!((self.code, self.only()["outcome"].as_str()), (code, Some(outcome)), "{self:#?}");
        self
    }

    /// Asserts that the only target ended with an error of this kind, with all of these words in it and a next step.
    ///
    /// # Panics
    ///
    /// When it did not.
    #[track_caller]
    pub fn because(&self, kind: &str, words: &[&str]) -> &Self {
        self.error_is(&self.only()["error"], kind, words)
    }

    /// Asserts that nothing was done because of the configuration or the command line, with all of these words.
    ///
    /// # Panics
    ///
    /// When something was done.
    #[track_caller]
    pub fn refused(&self, kind: &str, words: &[&str]) -> &Self {
        assert_eq!(self.code, 2, "{self:#?}");
        assert_eq!(self.document()["targets"].as_array().map(Vec::len), Some(0), "{self:#?}");
        self.error_is(&self.document()["error"], kind, words)
    }

    #[track_caller]
    fn error_is(&self, error: &Value, kind: &str, words: &[&str]) -> &Self {
        assert_eq!(error["kind"], kind, "{self:#?}");
        let message = error["message"].as_str().unwrap_or_default();
        for word in words {
            assert!(message.contains(word), "`{word}` is not in `{message}`");
        }
        assert!(error["next_step"].as_str().is_some_and(|step| !step.is_empty()), "no next step: {self:#?}");
        self
    }
}

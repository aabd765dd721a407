//! Looking at a run while it runs: with root's eyes into /proc, and with another user's at the files.

use std::collections::BTreeSet;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use deploy_e2e::system::children;
use deploy_testkit::Canary;
use tempfile::TempDir;

use crate::Form;
use crate::observer::paths;

/// An ordinary user who owns nothing of a site.
pub const OTHER: u32 = 65534;

/// What was seen.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Seen {
    /// The processes that the program started.
    pub children: BTreeSet<u32>,
    /// How often it was looked.
    pub moments: u64,
    /// What must not be, each once.
    pub found: BTreeSet<String>,
}

/// A thread that looks again and again until it is told to end.
#[derive(Debug)]
pub struct Watch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Watch {
    /// At the arguments, the environments and the open files of a process and its descendants. Its own environment may hold
    /// a password, if the operator put it there.
    #[must_use]
    pub fn family(process: u32, canary: &Canary) -> Self {
        let canary = canary.clone();
        Self::start(move |seen| look_at_family(process, &canary, seen))
    }

    /// At the modes of everything in the directories: the directories themselves and certificates may be open to others, which
    /// are called `*.crt`, and by the first two numbers while they are staged or backed up.
    #[must_use]
    pub fn modes(directories: &[PathBuf]) -> Self {
        let directories = directories.to_vec();
        Self::start(move |seen| seen.found.extend(directories.iter().flat_map(|directory| open_to_others(directory))))
    }

    fn start(look: impl Fn(&mut Seen) + Send + 'static) -> Self {
        let over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&over);
        let thread = std::thread::spawn(move || {
            let mut seen = Seen::default();
            while !told.load(Ordering::Relaxed) {
                look(&mut seen);
                seen.moments += 1;
                breathe();
            }
            seen
        });
        Self { over, thread }
    }

    /// Ends it.
    ///
    /// # Panics
    ///
    /// When it has panicked.
    #[must_use]
    pub fn end(self) -> Seen {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("looking does not fail")
    }
}

/// Lets those who are looked at go on: two who look without a pause keep two processors from everybody else.
pub fn breathe() {
    std::thread::sleep(Duration::from_micros(Form::asked().pick(100, 5)));
}

fn look_at_family(process: u32, canary: &Canary, seen: &mut Seen) {
    let mut family = vec![process];
    // Without it, the program has ended, and there is nothing to compare with.
    let Ok(program) = PathBuf::from(format!("/proc/{process}/exe")).read_link() else { return };
    while let Some(pid) = family.pop() {
        family.extend(children(pid));
        let proc = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| std::fs::read(proc.join(name)).unwrap_or_default();
        let arguments = read("cmdline");
        if let Some(what) = canary.found_in(&arguments) {
            seen.found.insert(format!("{what} is among the arguments of a process"));
        }
        // What was forked and has not executed its program yet is still the program.
        let executed = proc.join("exe").read_link().is_ok_and(|exe| exe != program);
        if pid == process || !executed {
            continue;
        }
        seen.children.insert(pid);
        let name = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if let Some(what) = canary.found_in(&read("environ")) {
            seen.found.insert(format!("{what} is in the environment of {name}"));
        }
        // A tool of the test opens the key itself; what it was handed has a low number.
        let open = paths(&proc.join("fd")).into_iter().filter_map(|path| path.read_link().ok());
        let private = |path: &PathBuf| {
            [".certdeploy/", "/state/journal", "/state/targets", "/state/vault", "/privkey.pem"]
                .iter()
                .any(|part| shown(path).contains(part))
        };
        seen.found.extend(open.filter(private).map(|path| format!("{name} has inherited {}", path.display())));
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn open_to_others(directory: &Path) -> Vec<String> {
    let open = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let public = path == directory || [".crt", ".0.", ".1."].iter().any(|part| name.contains(part));
        let mode = path.symlink_metadata().ok().map(|metadata| metadata.mode() & 0o7777)?;
        (!public && mode & 0o007 != 0).then(|| format!("{} has mode {mode:04o}", path.display()))
    };
    paths(directory).iter().filter_map(open).collect()
}

/// A process of the other user, from the program `other-user` of this crate. It ends when it is dropped.
#[derive(Debug)]
pub struct OtherUser {
    child: Child,
    directory: TempDir,
}

impl OtherUser {
    /// Starts it, from a copy that this user can reach. `program` is the path of `other-user`.
    ///
    /// # Panics
    ///
    /// When it can't be started.
    #[must_use]
    pub fn start(program: &Path, arguments: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("certdeploy-proof-").tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("our own directory");
        let copy = directory.path().join("other-user");
        // Copied by another process: were it open for writing here, a child that is forked meanwhile would keep it busy.
        assert!(Command::new("cp").args([program, &copy]).status().is_ok_and(|status| status.success()), "a copy");
        let mut command = Command::new(&copy);
        command.arg(directory.path().join("over")).args(arguments).uid(OTHER).gid(OTHER).current_dir("/");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::inherit());
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", copy.display()));
        Self { child, directory }
    }

    /// Ends it; what it said, line by line.
    ///
    /// # Panics
    ///
    /// When it has panicked.
    #[must_use]
    pub fn end(mut self) -> Vec<String> {
        std::fs::write(self.directory.path().join("over"), "").expect("a file that tells it to end");
        let mut text = String::new();
        let mut output = self.child.stdout.take().expect("it was piped");
        std::io::Read::read_to_string(&mut output, &mut text).expect("text");
        assert!(self.child.wait().expect("a child can be waited for").success(), "the other user's process failed: {text}");
        text.lines().map(str::to_owned).collect()
    }
}

impl Drop for OtherUser {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

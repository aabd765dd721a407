//! What is read on the other side, read by the shells and programs that machines have: dash, bash, and BusyBox for everything.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test, with files of its own"
)]

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use deploy_core::command::Command;
use deploy_core::host::Conversation;
use tempfile::TempDir;

const REMOTE: &str = include_str!("../src/remote.sh");

/// A shell that has read it, and a directory.
struct Remote {
    shell: Conversation,
    place: TempDir,
    number: u64,
}

impl Remote {
    fn start(shell: &[&str]) -> Self {
        let place = tempfile::tempdir().unwrap();
        let mut command = Command::new(shell.iter().copied().chain(["-c", REMOTE, "certdeploy", "/bin/sh"]));
        if shell[0].contains("busybox") {
            command.environment.insert("PATH".to_owned(), busybox_only(place.path()));
        }
        let mut shell = Conversation::start(&command).unwrap();
        let introduction = shell.line(1 << 16, soon()).unwrap();
        let introduction = String::from_utf8_lossy(&introduction).into_owned();
        assert!(introduction.starts_with("certdeploy Linux|/bin/sh||0|0|"), "something is missing: {introduction}");
        Self { shell, place, number: 0 }
    }

    /// The directory as a request names it.
    fn here(&self) -> String {
        let path = self.place.path().join("w");
        fs::create_dir_all(&path).unwrap();
        let status = fs::metadata(&path).unwrap();
        format!("{} {}:{}", path.display(), status.dev(), status.ino())
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.place.path().join("w").join(name)).unwrap()
    }

    /// Asks, and returns what came of it; what the system said where it failed.
    fn ask(&mut self, function: &str, rest: &str, bytes: &str) -> Result<String, String> {
        self.number += 1;
        self.shell.say(format!("{function} {} {rest}\n{bytes}", self.number).as_bytes(), soon()).unwrap();
        let line = self.shell.line(1 << 20, soon()).unwrap();
        let line = String::from_utf8_lossy(&line).into_owned();
        let (number, rest) = line.split_once(' ').unwrap();
        assert_eq!(number, self.number.to_string(), "{line}");
        match rest.split_once(' ').unwrap() {
            ("0", answer) => Ok(answer.to_owned()),
            (_, digits) => Err(text(digits)),
        }
    }

    fn call(&mut self, call: &str, bytes: &str) -> Result<String, String> {
        let rest = format!("{} {} {call}", bytes.len(), self.here());
        self.ask("do_in", &rest, bytes)
    }

    fn between(&mut self, call: &str) -> Result<String, String> {
        let rest = format!("{} {} {call}", self.here(), self.here());
        self.ask("do_between", &rest, "")
    }
}

/// A PATH with BusyBox's programs alone, and `flock`, which Debian's has not and Alpine's has.
fn busybox_only(place: &Path) -> String {
    let bin = place.join("bin");
    fs::create_dir(&bin).unwrap();
    let list = std::process::Command::new("busybox").arg("--list").output().expect("apt-get install busybox");
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        std::os::unix::fs::symlink("/usr/bin/busybox", bin.join(applet)).unwrap();
    }
    if !bin.join("flock").exists() {
        std::os::unix::fs::symlink("/usr/bin/flock", bin.join("flock")).unwrap();
    }
    bin.display().to_string()
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

fn text(digits: &str) -> String {
    let bytes = digits.as_bytes().chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    String::from_utf8(bytes.collect()).unwrap()
}

fn everything_is_answered(shell: &[&str]) {
    let mut remote = Remote::start(shell);
    remote.call("create a 0:0 0640 5", "hello").unwrap();
    assert!(remote.call("create a 0:0 0640 3", "new").unwrap_err().ends_with("File exists"));
    assert_eq!(remote.file("a"), "hello");
    assert!(remote.call("read_file ./a 100", "").unwrap().ends_with("|68656c6c6f"));
    assert!(remote.call("status ./absent", "").unwrap_err().ends_with("No such file or directory"));
    assert_eq!(text(&remote.call("list", "").unwrap()), "a/");
    remote.call("set_metadata a 12:34 0600", "").unwrap();
    remote.call("append a durable", " you").unwrap();
    remote.call("overwrite a 3", "new").unwrap();
    assert_eq!(remote.file("a"), "new");
    remote.between("hard_link a b").unwrap();
    assert!(remote.between("rename_new a b").unwrap_err().ends_with("File exists"));
    remote.between("rename a c").unwrap();
    assert!(remote.between("rename a c").unwrap_err().ends_with("No such file or directory"));
    fs::create_dir(remote.place.path().join("w/directory")).unwrap();
    remote.call("make_link directory current", "").unwrap();
    remote.call("make_link elsewhere next", "").unwrap();
    remote.between("rename next current").unwrap();
    assert_eq!(text(&remote.call("read_a_link current", "").unwrap()), "elsewhere");
    assert!(remote.call("open_child current", "").unwrap_err().ends_with("Not a directory"));
    remote.call("mkdir -m 700 -- ./child", "").unwrap();
    assert!(remote.call("mkdir -m 700 -- ./child", "").unwrap_err().ends_with("File exists"));
    remote.call("rmdir -- ./child", "").unwrap();
    remote.call("sync -- .", "").unwrap();
    remote.call("sync -- ./c", "").unwrap();
    assert!(remote.call("sync -- ./absent", "").is_err());
    remote.call("rm -f -- ./absent", "").unwrap();
    assert_eq!(remote.ask("do_in", "0 '' '' entry passwd root", "").unwrap(), "0");
    assert_eq!(remote.ask("do_in", &format!("0 '' '' running {}", std::process::id()), "").unwrap(), "yes");
    assert_eq!(remote.ask("do_in", "0 '' '' running 4194305", "").unwrap(), "no");
    assert!(remote.ask("do_in", "0 /absent 1:2 list", "").unwrap_err().ends_with("No such file or directory"));
    assert!(remote.ask("do_in", "4 / 1:2 create x 0:0 0600 4", "lost").unwrap_err().ends_with("Stale file handle"));

    // A command over there and all that it started.
    let mark = format!("certdeploy-test-{}: ", remote.place.path().display());
    let script = "trap '' TERM; sleep 1000 & wait; exit 0";
    let mut command = std::process::Command::new("setsid");
    command.args(["sh", "-c", "\"$@\"; exit $?", &mark, "sh", "-c", script]).stdin(Stdio::null());
    let mut running = command.spawn().unwrap();
    let begun = soon();
    while !fs::read(format!("/proc/{}/cmdline", running.id())).unwrap_or_default().windows(4).any(|part| part == b"trap") {
        assert!(Instant::now() < begun);
    }
    remote.ask("do_in", &format!("0 '' '' end '{mark}'"), "").unwrap();
    let ended = soon();
    while running.try_wait().unwrap().is_none() {
        assert!(Instant::now() < ended, "it still runs");
    }
}

#[test]
fn dash_answers() {
    everything_is_answered(&["dash"]);
}

#[test]
fn bash_answers() {
    everything_is_answered(&["bash", "--posix"]);
}

#[test]
fn busybox_answers() {
    everything_is_answered(&["/usr/bin/busybox", "sh"]);
}

#[test]
fn f46_a_lock_is_given_up_when_nothing_is_heard_and_is_never_lent_to_two() {
    let mut silent = Remote::start(&["dash"]);
    let here = silent.here();
    let hold = |owner: &str, pauses: u32| format!("{here} lock {owner} 'who I am' {pauses} 1");
    assert_eq!(silent.ask("hold", &hold("one", 0), "").unwrap(), "held");
    let mut other = Remote::start(&["dash"]);
    let busy = other.ask("hold", &hold("two", 0), "").unwrap();
    assert_eq!(text(busy.strip_prefix("busy ").unwrap()), "one who I am\n");
    // As long as it is heard from, it holds: twice as long as silence is borne.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(2) {
        silent.ask("pulse", "", "").unwrap();
        assert!(other.ask("hold", &hold("two", 0), "").unwrap().starts_with("busy "));
    }
    let end = soon();
    while other.ask("hold", &hold("two", 0), "").unwrap() != "held" {
        assert!(Instant::now() < end, "it is held for ever");
    }
    // Who had it before, and comes back, hears that another has had it.
    other.ask("release", "", "").unwrap();
    let mut back = Remote::start(&["dash"]);
    let taken = back.ask("hold", &hold("one", 5), "").unwrap();
    assert_eq!(text(taken.strip_prefix("taken ").unwrap()), "two who I am\n");
    assert_eq!(back.ask("hold", &hold("two", 5), "").unwrap(), "held");
}

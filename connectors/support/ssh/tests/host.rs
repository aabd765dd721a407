//! Each operation on this machine and, through a real SSH server, on what is the same machine: both do and say the same.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with files of its own")]

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use deploy_core::Cancellation;
use deploy_core::command::{Command, CommandError, CommandOutput, Limits, OUTPUT_LIMIT, PATH};
use deploy_core::host::{Directory, FileKind, Host, Local, LockAttempt, Metadata, Signal, SyncPoint};
use deploy_ssh::{Ssh, SshSettings};
use deploy_testkit::Sshd;
use tempfile::TempDir;

/// A host and a directory on it.
struct Place {
    host: Box<dyn Host>,
    directory: Directory,
    path: TempDir,
    _sshd: Option<Sshd>,
}

fn settings(sshd: &Sshd) -> SshSettings {
    serde_json::from_value(sshd.settings()).unwrap()
}

/// Does the same on both.
fn both(check: impl Fn(&Place)) {
    let local: Box<dyn Host> = Box::new(Local::new());
    let server = tempfile::tempdir().unwrap();
    let sshd = Sshd::start(server.path()).unwrap();
    let ssh: Box<dyn Host> = Box::new(Ssh::new(settings(&sshd)));
    for (host, sshd) in [(local, None), (ssh, Some(sshd))] {
        let path = tempfile::tempdir_in("/tmp").unwrap();
        let directory = host.open_directory(path.path()).unwrap();
        check(&Place { host, directory, path, _sshd: sshd });
    }
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn ours(mode: u32) -> Metadata {
    Metadata::new(0, 0, mode)
}

fn names(place: &Place) -> Vec<OsString> {
    let mut names = place.host.list(&place.directory).unwrap();
    names.sort();
    names
}

#[test]
fn a_file_is_created_read_and_described() {
    both(|Place { host, directory, path, .. }| {
        let created = host.create(directory, name("a"), b"bytes", &ours(0o640)).unwrap();
        let status = created.status();
        assert_eq!((status.kind, status.mode, status.size, status.links), (FileKind::Regular, 0o640, 5, 1));
        let (bytes, read) = host.read(directory, name("a"), 5).unwrap().unwrap();
        assert_eq!(bytes.expose(), b"bytes");
        assert_eq!(read, host.status(directory, name("a")).unwrap().unwrap());
        assert_eq!(read, Local::new().path_status(&path.path().join("a")).unwrap().unwrap(), "as Local sees it");
        let (bytes, by_path) = host.read_path(&path.path().join("a"), 5).unwrap().unwrap();
        assert_eq!((bytes.expose(), &by_path), (b"bytes".as_slice(), &read));
        assert_eq!(host.read(directory, name("a"), 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
        assert_eq!(host.create(directory, name("a"), b"", &ours(0o600)).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(fs::read(path.path().join("a")).unwrap(), b"bytes");
        let large: Vec<u8> = (0..3_000_000_u32).map(|number| number.to_le_bytes()[0]).collect();
        host.create(directory, name("large"), &large, &ours(0o600)).unwrap();
        assert!(fs::read(path.path().join("large")).unwrap() == large);
        assert!(host.read(directory, name("large"), 3_000_000).unwrap().unwrap().0.expose() == large);
        host.create(directory, name("empty"), b"", &ours(0o600)).unwrap();
        assert!(host.read(directory, name("empty"), 0).unwrap().unwrap().0.is_empty());
    });
}

#[test]
fn f39_absent_is_told_from_unknown() {
    both(|Place { host, directory, path, .. }| {
        assert!(host.read(directory, name("absent"), 9).unwrap().is_none());
        assert!(host.status(directory, name("absent")).unwrap().is_none());
        assert!(host.path_status(&path.path().join("absent")).unwrap().is_none());
        assert!(host.read_path(&path.path().join("absent"), 5).unwrap().is_none());
        assert_eq!(host.attributes(directory, name("absent")).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(path.path().join("file"), "").unwrap();
        assert_eq!(host.path_status(&path.path().join("file/x")).unwrap_err().kind(), ErrorKind::NotADirectory);
        let long = "n".repeat(256);
        assert_eq!(host.status(directory, name(&long)).unwrap_err().kind(), ErrorKind::InvalidFilename);
        assert_eq!(host.open_directory(&path.path().join("absent")).unwrap_err().kind(), ErrorKind::NotFound);
        assert_eq!(host.open_directory(&path.path().join("file")).unwrap_err().kind(), ErrorKind::NotADirectory);
        for relative in [host.open_directory(Path::new("tmp")).unwrap_err(), host.path_status(Path::new("tmp")).unwrap_err()] {
            assert_eq!(relative.kind(), ErrorKind::InvalidInput);
        }
    });
}

#[test]
fn a_name_with_a_path_in_it_is_refused_everywhere() {
    both(|Place { host, directory, .. }| {
        for bad in ["", ".", "..", "a/b", "/etc"].map(name) {
            let at = (directory, bad);
            for error in [
                host.status(directory, bad).unwrap_err(),
                host.read(directory, bad, 1).unwrap_err(),
                host.create(directory, bad, b"", &ours(0o600)).unwrap_err(),
                host.unlink(directory, bad).unwrap_err(),
                host.symlink(directory, bad, Path::new("x")).unwrap_err(),
                host.rename((directory, name("a")), at).unwrap_err(),
                host.try_lock(directory, bad, b"").unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{bad:?}");
            }
        }
    });
}

#[test]
fn f19_what_is_no_regular_file_is_refused_without_blocking() {
    both(|Place { host, directory, path, .. }| {
        rustix::fs::mkfifoat(rustix::fs::CWD, path.path().join("fifo"), rustix::fs::Mode::RWXU).unwrap();
        fs::create_dir(path.path().join("directory")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", path.path().join("link")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(path.path().join("socket")).unwrap();
        for odd in ["fifo", "directory", "link", "socket"] {
            for error in [
                host.read(directory, name(odd), 9).unwrap_err(),
                host.set_metadata(directory, name(odd), &ours(0o600)).unwrap_err(),
                host.append(directory, name(odd), b"x", false).unwrap_err(),
                host.overwrite(directory, name(odd), b"x").unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::InvalidInput, "{odd}: {error}");
            }
            assert_eq!(host.create(directory, name(odd), b"x", &ours(0o600)).unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        let devices = host.open_directory(Path::new("/dev")).unwrap();
        assert_eq!(host.read(&devices, name("zero"), 9).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(host.read_link(directory, name("link")).unwrap(), Path::new("/etc/passwd"));
        assert!(host.open_child(directory, name("link")).is_err());
    });
}

#[test]
fn f6_owner_and_mode_become_exactly_what_was_asked() {
    both(|Place { host, directory, .. }| {
        let created = host.create(directory, name("a"), b"x", &Metadata::new(12, 34, 0o2755)).unwrap();
        assert_eq!((created.status().uid, created.status().gid, created.status().mode), (12, 34, 0o2755));
        let status = host.set_metadata(directory, name("a"), &ours(0o4640)).unwrap();
        assert_eq!((status.uid, status.gid, status.mode), (0, 0, 0o4640));
        host.set_metadata(directory, name("a"), &ours(0o000)).unwrap();
        assert_eq!(host.set_metadata(directory, name("a"), &ours(0o400)).unwrap().mode, 0o400);
    });
}

#[test]
fn s2_a_default_acl_of_the_directory_does_not_open_a_new_key() {
    both(|Place { host, directory, path, .. }| {
        let acl = std::process::Command::new("setfacl").args(["-d", "-m", "u:1234:r"]).arg(path.path()).status().unwrap();
        assert!(acl.success());
        host.create(directory, name("key"), b"x", &ours(0o640)).unwrap();
        let shown = std::process::Command::new("getfacl").args(["-c", "-n"]).arg(path.path().join("key")).output().unwrap();
        assert!(!String::from_utf8_lossy(&shown.stdout).contains("1234"), "{}", String::from_utf8_lossy(&shown.stdout));
    });
}

#[test]
fn names_are_linked_renamed_and_removed() {
    both(|place| {
        let Place { host, directory, path, .. } = place;
        let at = |text| (directory, name(text));
        host.create(directory, name("a"), b"a", &ours(0o600)).unwrap();
        host.create(directory, name("b"), b"b", &ours(0o600)).unwrap();
        assert_eq!(host.link(at("a"), at("b")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        host.link(at("a"), at("c")).unwrap();
        assert_eq!(host.status(directory, name("c")).unwrap().unwrap().links, 2);
        assert_eq!(host.rename_new(at("a"), at("b")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        host.rename_new(at("c"), at("d")).unwrap();
        host.rename(at("b"), at("d")).unwrap();
        assert_eq!(fs::read(path.path().join("d")).unwrap(), b"b");
        assert_eq!(names(place), ["a", "d"]);
        host.unlink(directory, name("a")).unwrap();
        host.unlink(directory, name("a")).unwrap();
        assert_eq!(host.rename(at("a"), at("d")).unwrap_err().kind(), ErrorKind::NotFound);
        host.create_child(directory, name("child")).unwrap();
        assert_eq!(host.create_child(directory, name("child")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        let child = host.open_child(directory, name("child")).unwrap();
        assert_eq!(child.status().mode, 0o700);
        host.append(&child, name("log"), b"1", true).unwrap();
        host.append(&child, name("log"), b"2", false).unwrap();
        assert_eq!(fs::read(path.path().join("child/log")).unwrap(), b"12");
        assert_eq!(fs::metadata(path.path().join("child/log")).unwrap().mode() & 0o777, 0o600);
        host.overwrite(&child, name("log"), b"replaced").unwrap();
        host.overwrite(&child, name("log"), b"new").unwrap();
        assert_eq!(fs::read(path.path().join("child/log")).unwrap(), b"new");
        assert_eq!(host.remove_child(directory, name("child")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        host.rename((&child, name("log")), at("up")).unwrap();
        host.link(at("up"), (&child, name("log"))).unwrap();
        assert_eq!(fs::read(path.path().join("child/log")).unwrap(), b"new");
        host.unlink(&child, name("log")).unwrap();
        host.set_directory_mode(&child, 0o755).unwrap();
        assert_eq!(fs::metadata(path.path().join("child")).unwrap().permissions().mode() & 0o7777, 0o755);
        host.remove_child(directory, name("child")).unwrap();
        assert_eq!(host.unlink(directory, name("..")).unwrap_err().kind(), ErrorKind::InvalidInput);
    });
}

#[test]
fn a_link_is_made_read_and_replaced_and_never_entered() {
    both(|Place { host, directory, path, .. }| {
        fs::create_dir(path.path().join("one")).unwrap();
        host.symlink(directory, name("current"), Path::new("one")).unwrap();
        assert_eq!(host.read_link(directory, name("current")).unwrap(), Path::new("one"));
        assert_eq!(host.status(directory, name("current")).unwrap().unwrap().kind, FileKind::Symlink);
        assert_eq!(host.symlink(directory, name("current"), Path::new("two")).unwrap_err().kind(), ErrorKind::AlreadyExists);
        host.symlink(directory, name("next"), Path::new("two\nlines")).unwrap();
        // Of a link to a directory the link itself is replaced: `mv` would move into the directory.
        host.rename((directory, name("next")), (directory, name("current"))).unwrap();
        assert_eq!(fs::read_link(path.path().join("current")).unwrap(), Path::new("two\nlines"));
        assert_eq!(fs::read_dir(path.path().join("one")).unwrap().count(), 0);
    });
}

#[test]
fn names_of_any_bytes_work() {
    both(|place| {
        let Place { host, directory, .. } = place;
        let odd = OsStr::from_bytes(b"new\nline \xff '$(touch x)'");
        let dashed = name("-rf");
        let long = "n".repeat(255);
        for file in [odd, dashed, name(&long)] {
            host.create(directory, file, b"x", &ours(0o600)).unwrap();
            assert_eq!(host.read(directory, file, 9).unwrap().unwrap().0.expose(), b"x");
        }
        assert_eq!(names(place), [dashed, odd, name(&long)]);
        for file in [odd, dashed, name(&long)] {
            host.unlink(directory, file).unwrap();
        }
        assert!(names(place).is_empty());
    });
}

#[test]
fn f37_a_round_syncs_everything_and_reports_a_failure() {
    both(|Place { host, directory, .. }| {
        let mut round = vec![SyncPoint::Directory(directory.clone())];
        for index in 0..10 {
            let file = OsString::from(format!("f{index}"));
            host.create(directory, &file, b"x", &ours(0o600)).unwrap();
            round.push(SyncPoint::File(directory.clone(), file));
        }
        host.sync(&round).unwrap();
        host.sync(&[]).unwrap();
        round[7] = SyncPoint::File(directory.clone(), "absent".into());
        assert_eq!(host.sync(&round).unwrap_err().kind(), ErrorKind::NotFound);
    });
}

#[test]
fn f9_a_lock_excludes_names_its_holder_and_goes_with_the_guard() {
    both(|Place { host, directory, .. }| {
        let held = |attempt| match attempt {
            LockAttempt::Held(guard) => guard,
            busy => panic!("{busy:?}"),
        };
        let guard = held(host.try_lock(directory, name("l"), b"a long name of a holder").unwrap());
        let LockAttempt::Busy(holder) = host.try_lock(directory, name("l"), b"b").unwrap() else { panic!() };
        assert_eq!(holder, b"a long name of a holder");
        let _other = held(host.try_lock(directory, name("m"), b"c").unwrap());
        let bytes = held(host.try_lock_bytes(directory, name("d"), &BTreeSet::from([1, 7])).unwrap());
        assert!(matches!(host.try_lock_bytes(directory, name("d"), &BTreeSet::from([3, 7])).unwrap(), LockAttempt::Busy(_)));
        drop(held(host.try_lock_bytes(directory, name("d"), &BTreeSet::from([3])).unwrap()));
        drop((guard, bytes));
        drop(held(host.try_lock(directory, name("l"), b"b").unwrap()));
    });
}

fn run_with(host: &dyn Host, command: &Command, cancellation: Option<&Cancellation>) -> Result<CommandOutput, CommandError> {
    host.run(command, None, &Limits::new(Instant::now() + Duration::from_secs(60), cancellation))
}

fn shell(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

#[test]
fn a_command_runs_with_a_cleared_environment_and_its_input() {
    both(|Place { host, path, .. }| {
        let mut command = shell("env | grep -v -e ^PWD= -e ^OLDPWD= | sort; pwd; cat; exit 3");
        command.environment.insert("EXTRA".into(), "a 'b' $c".into());
        command.input = Some(b"the input".to_vec().into());
        command.directory = Some(path.path().to_owned());
        let output = run_with(&**host, &command, None).unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert_eq!(text, format!("EXTRA=a 'b' $c\nLC_ALL=C\nPATH={PATH}\n{}\nthe input", path.path().display()));
        assert_eq!((output.code, output.truncated, output.stderr.len()), (Some(3), false, 0));
        let output = run_with(&**host, &shell("echo no >&2; exit 255"), None).unwrap();
        assert_eq!((output.code, output.stderr.as_slice()), (Some(255), b"no\n".as_slice()));
        let words = ["printf", "%s|", "a b", "", "$HOME", "it's", "\n", "*", "\u{e9}"];
        assert_eq!(run_with(&**host, &Command::new(words), None).unwrap().stdout, "a b||$HOME|it's|\n|*|\u{e9}|".as_bytes());
        let mut large = shell("wc -c");
        large.input = Some(vec![b'k'; 1_000_000].into());
        assert_eq!(run_with(&**host, &large, None).unwrap().stdout, b"1000000\n");
        let output = run_with(&**host, &shell("head -c 10000000 /dev/zero; echo end"), None).unwrap();
        assert_eq!((output.truncated, output.stdout.ends_with(b"\0end\n")), (true, true));
        assert!(output.stdout.len() <= OUTPUT_LIMIT + 200);
    });
}

#[test]
fn what_cannot_be_started_says_why() {
    both(|Place { host, .. }| {
        let missing = run_with(&**host, &Command::new(["certdeploy-is-not-there"]), None).unwrap_err();
        assert!(matches!(&missing, CommandError::NotFound { program } if program == "certdeploy-is-not-there"), "{missing:?}");
        let error = run_with(&**host, &Command::new(["/absent/program"]), None).unwrap_err();
        assert!(matches!(error, CommandError::Spawn(_)), "{error:?}");
    });
}

fn await_end_of(pid: &str) {
    let end = Instant::now() + Duration::from_secs(10);
    while Path::new("/proc").join(pid).exists() {
        assert!(Instant::now() < end, "{pid} still runs");
        std::thread::yield_now();
    }
}

#[test]
fn f40_a_hook_that_hangs_is_ended_over_there_with_its_whole_process_group() {
    both(|Place { host, .. }| {
        // Neither the shell nor its child goes when asked.
        let command = shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000").with_timeout(Duration::from_secs(1));
        let CommandError::Timeout { after, output } = run_with(&**host, &command, None).unwrap_err() else { panic!() };
        assert_eq!(after, Duration::from_secs(1));
        await_end_of(std::str::from_utf8(&output.stdout).unwrap().trim());
    });
}

#[test]
fn f21_a_running_command_is_ended_over_there_when_the_run_is_cancelled() {
    both(|Place { host, path, .. }| {
        let cancellation = Cancellation::default();
        let started = path.path().join("started");
        let command = shell(&format!("echo $$ > {}; exec sleep 1000", started.display()));
        std::thread::scope(|scope| {
            let running = scope.spawn(|| run_with(&**host, &command, Some(&cancellation)));
            while fs::read_to_string(&started).unwrap_or_default().trim().is_empty() && !running.is_finished() {
                std::thread::yield_now();
            }
            cancellation.cancel();
            assert!(matches!(running.join().unwrap(), Err(CommandError::Interrupted)));
        });
        await_end_of(fs::read_to_string(&started).unwrap().trim());
        assert!(matches!(run_with(&**host, &command, Some(&cancellation)), Err(CommandError::Interrupted)));
    });
}

#[test]
fn a_daemon_that_keeps_the_pipes_open_does_not_keep_us_waiting() {
    both(|Place { host, .. }| {
        let started = Instant::now();
        let output = run_with(&**host, &shell("echo before; sleep 300 & echo $!"), None).unwrap();
        assert!(started.elapsed() < Duration::from_secs(20));
        assert_eq!(output.code, Some(0));
        let text = String::from_utf8(output.stdout).unwrap();
        let daemon: u32 = text.strip_prefix("before\n").unwrap().trim().parse().unwrap();
        assert!(host.is_running(daemon).unwrap());
        host.signal(daemon, Signal::Term).unwrap();
        await_end_of(&daemon.to_string());
        assert!(!host.is_running(daemon).unwrap());
    });
}

#[test]
fn users_groups_identity_boot_and_signals() {
    both(|Place { host, .. }| {
        assert_eq!(host.user_id("root").unwrap(), Some(0));
        assert_eq!(host.group_id("root").unwrap(), Some(0));
        assert_eq!(host.user_id("1234").unwrap(), Some(1234));
        assert_eq!(host.group_id("4294967295").unwrap(), None);
        assert_eq!(host.user_id("no-such-user-here").unwrap(), None);
        let (found, local) = (host.identity().unwrap(), Local::new().identity().unwrap());
        assert_eq!((found.uid, found.gid, found.can_change_owner), (local.uid, local.gid, local.can_change_owner));
        assert!(found.groups.contains(&found.gid));
        assert_eq!(host.boot_id().unwrap(), Local::new().boot_id().unwrap());
        assert_eq!(host.signal(0, Signal::Hup).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(host.signal(u32::MAX, Signal::Hup).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert!(host.signal(i32::MAX as u32, Signal::Usr1).is_err());
        let apart = |one: std::time::SystemTime, other| one.duration_since(other).unwrap_or_else(|error| error.duration());
        assert!(apart(host.now(), Local::new().now()) < Duration::from_secs(5));
    });
}

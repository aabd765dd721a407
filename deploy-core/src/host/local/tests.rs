//! Each operation on this machine, and how it fails.

#![expect(clippy::disallowed_methods, reason = "tests set their files up without the engine")]

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::super::{Attributes, Directory, FileKind, Host, LockAttempt, Metadata, Signal, SyncPoint};
use super::Local;
use crate::command::{Command, CommandError, CommandOutput, Limits, OUTPUT_LIMIT};
use crate::context::Cancellation;

/// Waits until a process is gone, or is a zombie that nobody reaps.
pub(crate) fn await_end_of(pid: &str) {
    assert!(!pid.is_empty());
    let end = Instant::now() + Duration::from_secs(10);
    while let Ok(stat) = fs::read_to_string(format!("/proc/{pid}/stat")) {
        if stat.rsplit(')').next().unwrap().trim_start().starts_with('Z') {
            return;
        }
        assert!(Instant::now() < end, "{stat}");
        std::thread::yield_now();
    }
}

fn place() -> (TempDir, Local, Directory) {
    let place = tempfile::tempdir_in("/tmp").unwrap();
    let host = Local::new();
    let directory = host.open_directory(place.path()).unwrap();
    (place, host, directory)
}

fn name(text: &str) -> &OsStr {
    OsStr::new(text)
}

fn ours(mode: u32) -> Metadata {
    Metadata::new(rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw(), mode)
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn names(host: &Local, directory: &Directory) -> Vec<OsString> {
    let mut names = host.list(directory).unwrap();
    names.sort();
    names
}

#[test]
fn a_link_is_made_and_read_and_never_replaces_anything() {
    let (place, host, directory) = place();
    host.symlink(&directory, name("current"), Path::new("generation-00000001")).unwrap();
    assert_eq!(host.read_link(&directory, name("current")).unwrap(), Path::new("generation-00000001"));
    assert_eq!(host.status(&directory, name("current")).unwrap().unwrap().kind, FileKind::Symlink);
    let error = host.symlink(&directory, name("current"), Path::new("other")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read_link(place.path().join("current")).unwrap(), Path::new("generation-00000001"));
    assert_eq!(host.symlink(&directory, name("a/b"), Path::new("x")).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn the_mode_of_a_directory_is_set_by_its_handle() {
    let (place, host, directory) = place();
    host.create_child(&directory, name("child")).unwrap();
    let child = host.open_child(&directory, name("child")).unwrap();
    fs::rename(place.path().join("child"), place.path().join("moved")).unwrap();
    for mode in [0o755, 0o700] {
        host.set_directory_mode(&child, mode).unwrap();
        assert_eq!(fs::metadata(place.path().join("moved")).unwrap().permissions().mode() & 0o7777, mode);
    }
}

#[test]
fn a_file_is_created_read_and_described() {
    let (place, host, directory) = place();
    let status = host.create(&directory, name("a"), b"bytes", &ours(0o640)).unwrap();
    let status = status.status();
    assert_eq!((status.kind, status.mode, status.size, status.links), (FileKind::Regular, 0o640, 5, 1));
    let (bytes, read) = host.read(&directory, name("a"), 5).unwrap().unwrap();
    assert_eq!(bytes.expose(), b"bytes");
    assert_eq!(read, host.status(&directory, name("a")).unwrap().unwrap());
    let (bytes, by_path) = host.read_path(&place.path().join("a"), 5).unwrap().unwrap();
    assert_eq!((bytes.expose(), &by_path), (b"bytes".as_slice(), &read));
    assert!(read.modified > 0 && read.modified <= read.changed);
    assert!(host.read_path(&place.path().join("absent"), 5).unwrap().is_none());
    assert_eq!(host.read_path(Path::new("a"), 5).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(read, host.path_status(&place.path().join("a")).unwrap().unwrap());
    let real = fs::metadata(place.path().join("a")).unwrap();
    assert_eq!((read.inode, read.device, read.uid, read.gid), (real.ino(), real.dev(), real.uid(), real.gid()));
    assert_eq!(host.read(&directory, name("a"), 4).unwrap_err().kind(), ErrorKind::FileTooLarge);
    assert_eq!(host.create(&directory, name("a"), b"", &ours(0o600)).unwrap_err().kind(), ErrorKind::AlreadyExists);
    assert_eq!(fs::read(place.path().join("a")).unwrap(), b"bytes");
}

#[test]
fn f39_absent_is_told_from_unknown() {
    let (place, host, directory) = place();
    assert!(host.read(&directory, name("absent"), 9).unwrap().is_none());
    assert!(host.status(&directory, name("absent")).unwrap().is_none());
    assert!(host.path_status(&place.path().join("absent")).unwrap().is_none());
    assert_eq!(host.attributes(&directory, name("absent")).unwrap_err().kind(), ErrorKind::NotFound);
    fs::write(place.path().join("file"), "").unwrap();
    assert_eq!(host.path_status(&place.path().join("file/x")).unwrap_err().kind(), ErrorKind::NotADirectory);
    let long = "n".repeat(256);
    assert_eq!(host.status(&directory, name(&long)).unwrap_err().kind(), ErrorKind::InvalidFilename);
    assert_eq!(host.open_directory(&place.path().join("absent")).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(host.open_directory(&place.path().join("file")).unwrap_err().kind(), ErrorKind::NotADirectory);
    assert_eq!(host.open_directory(Path::new("tmp")).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_name_with_a_path_in_it_is_refused_everywhere() {
    let (_place, host, directory) = place();
    for bad in ["", ".", "..", "a/b", "/etc"] {
        let bad = name(bad);
        assert_eq!(host.status(&directory, bad).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(host.read(&directory, bad, 1).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(host.create(&directory, bad, b"", &ours(0o600)).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(host.unlink(&directory, bad).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(host.rename((&directory, name("a")), (&directory, bad)).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(host.try_lock(&directory, bad, b"").unwrap_err().kind(), ErrorKind::InvalidInput);
    }
}

#[test]
fn f19_what_is_no_regular_file_is_refused_without_blocking() {
    let (place, host, directory) = place();
    rustix::fs::mkfifoat(rustix::fs::CWD, place.path().join("fifo"), rustix::fs::Mode::RWXU).unwrap();
    fs::create_dir(place.path().join("directory")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", place.path().join("link")).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(place.path().join("socket")).unwrap();
    for odd in ["fifo", "directory", "link", "socket"] {
        assert_eq!(host.read(&directory, name(odd), 9).unwrap_err().kind(), ErrorKind::InvalidInput, "{odd}");
        assert_eq!(host.set_metadata(&directory, name(odd), &ours(0o600)).unwrap_err().kind(), ErrorKind::InvalidInput, "{odd}");
        assert_eq!(host.append(&directory, name(odd), b"x", false).unwrap_err().kind(), ErrorKind::InvalidInput, "{odd}");
    }
    let devices = host.open_directory(Path::new("/dev")).unwrap();
    assert_eq!(host.read(&devices, name("zero"), 9).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(host.read_link(&directory, name("link")).unwrap(), Path::new("/etc/passwd"));
    assert!(host.open_child(&directory, name("link")).is_err());
}

#[test]
fn f36_a_file_that_cannot_be_written_in_full_leaves_nothing() {
    let (_place, host, directory) = place();
    // Only root may give files away, and that is found out after the bytes were written.
    let nobody = Metadata::new(u32::MAX - 1, u32::MAX - 1, 0o640);
    let outcome = host.create(&directory, name("key"), b"secret", &nobody);
    if is_root() {
        assert_eq!(outcome.unwrap().status().uid, u32::MAX - 1);
    } else {
        assert_eq!(outcome.unwrap_err().kind(), ErrorKind::PermissionDenied);
        assert!(names(&host, &directory).is_empty());
    }
    let mut attributes = Attributes::new();
    attributes.insert("user.certdeploy".into(), vec![b'x'; 70_000]);
    host.create(&directory, name("big"), b"secret", &ours(0o640).with_attributes(attributes)).unwrap_err();
    assert!(!names(&host, &directory).contains(&"big".into()));
}

#[test]
fn f6_f33_owner_mode_and_attributes_become_exactly_what_was_asked() {
    let (_place, host, directory) = place();
    host.create(&directory, name("a"), b"x", &ours(0o600)).unwrap();
    assert!(host.attributes(&directory, name("a")).unwrap().is_empty());
    let mut wanted = Attributes::new();
    wanted.insert("user.one".into(), b"1".to_vec());
    wanted.insert("user.long".into(), vec![b'l'; 2000]);
    let status = host.set_metadata(&directory, name("a"), &ours(0o4640).with_attributes(wanted.clone())).unwrap();
    assert_eq!(status.mode, 0o4640);
    assert_eq!(host.attributes(&directory, name("a")).unwrap(), wanted);
    wanted.remove(OsStr::new("user.long"));
    host.set_metadata(&directory, name("a"), &ours(0o000).with_attributes(wanted.clone())).unwrap();
    // Nobody may read it now, and its owner may still change it.
    let status = host.set_metadata(&directory, name("a"), &ours(0o400)).unwrap();
    assert_eq!(status.mode, 0o400);
    assert_eq!(host.attributes(&directory, name("a")).unwrap(), wanted);
    if is_root() {
        let status = host.set_metadata(&directory, name("a"), &Metadata::new(12, 34, 0o2755)).unwrap();
        assert_eq!((status.uid, status.gid, status.mode), (12, 34, 0o2755));
    }
}

/// An ACL as the kernel stores it: version 2, then tag, permissions and id of each entry.
fn acl(named_user: u32) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in
        [(1_u16, 6_u16, u32::MAX), (2, 4, named_user), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
    {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

#[test]
fn s2_a_default_acl_of_the_directory_does_not_open_a_new_key() {
    let (place, host, directory) = place();
    xattr::set(place.path(), "system.posix_acl_default", &acl(1234)).unwrap();
    host.create(&directory, name("key"), b"x", &ours(0o640)).unwrap();
    assert!(host.attributes(&directory, name("key")).unwrap().is_empty());
    // An ACL that is asked for is kept.
    let mut wanted = Attributes::new();
    wanted.insert("system.posix_acl_access".into(), acl(4321));
    host.create(&directory, name("other"), b"x", &ours(0o640).with_attributes(wanted.clone())).unwrap();
    assert_eq!(host.attributes(&directory, name("other")).unwrap(), wanted);
    host.set_metadata(&directory, name("other"), &ours(0o640).with_attributes(Attributes::new())).unwrap();
    assert!(host.attributes(&directory, name("other")).unwrap().is_empty());
}

#[test]
fn names_are_linked_renamed_and_removed() {
    let (place, host, directory) = place();
    let at = |path| (&directory, name(path));
    host.create(&directory, name("a"), b"a", &ours(0o600)).unwrap();
    host.create(&directory, name("b"), b"b", &ours(0o600)).unwrap();
    assert_eq!(host.link(at("a"), at("b")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    host.link(at("a"), at("c")).unwrap();
    assert_eq!(host.status(&directory, name("c")).unwrap().unwrap().links, 2);
    assert_eq!(host.rename_new(at("a"), at("b")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    host.rename_new(at("c"), at("d")).unwrap();
    host.rename(at("b"), at("d")).unwrap();
    assert_eq!(fs::read(place.path().join("d")).unwrap(), b"b");
    assert_eq!(names(&host, &directory), ["a", "d"]);
    host.unlink(&directory, name("a")).unwrap();
    host.unlink(&directory, name("a")).unwrap();
    assert_eq!(host.rename(at("a"), at("d")).unwrap_err().kind(), ErrorKind::NotFound);
    host.create_child(&directory, name("child")).unwrap();
    assert_eq!(host.create_child(&directory, name("child")).unwrap_err().kind(), ErrorKind::AlreadyExists);
    let child = host.open_child(&directory, name("child")).unwrap();
    assert_eq!(child.status().mode, 0o700);
    host.append(&child, name("log"), b"1", true).unwrap();
    host.append(&child, name("log"), b"2", false).unwrap();
    assert_eq!(fs::read(place.path().join("child/log")).unwrap(), b"12");
    assert_eq!(host.remove_child(&directory, name("child")).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
    host.unlink(&child, name("log")).unwrap();
    host.remove_child(&directory, name("child")).unwrap();
}

#[test]
fn a_pinned_directory_is_reached_after_it_was_renamed() {
    let (place, host, directory) = place();
    host.create_child(&directory, name("one")).unwrap();
    let child = host.open_directory(&place.path().join("one")).unwrap();
    fs::rename(place.path().join("one"), place.path().join("two")).unwrap();
    host.create(&child, name("a"), b"", &ours(0o600)).unwrap();
    assert!(place.path().join("two/a").exists());
}

#[test]
fn names_of_any_bytes_work() {
    let (_place, host, directory) = place();
    let odd = OsStr::from_bytes(b"new\nline \xff");
    let long = "n".repeat(255);
    host.create(&directory, odd, b"x", &ours(0o600)).unwrap();
    host.create(&directory, name(&long), b"x", &ours(0o600)).unwrap();
    assert_eq!(names(&host, &directory), [odd, name(&long)]);
}

#[test]
fn f37_a_round_syncs_everything_and_reports_the_first_failure() {
    let (_place, host, directory) = place();
    let mut round = vec![SyncPoint::Directory(directory.clone())];
    for index in 0..40 {
        let file = OsString::from(format!("f{index}"));
        host.create(&directory, &file, b"x", &ours(0o200)).unwrap();
        round.push(SyncPoint::File(directory.clone(), file));
    }
    for host in [Local::new(), Local::new().with_sync_width(1), Local::new().with_sync_width(0)] {
        host.sync(&round).unwrap();
        host.sync(&[]).unwrap();
        let mut broken = round.clone();
        broken[7] = SyncPoint::File(directory.clone(), "absent".into());
        assert_eq!(host.sync(&broken).unwrap_err().kind(), ErrorKind::NotFound);
    }
}

#[test]
fn f9_a_lock_excludes_names_its_holder_and_goes_with_the_guard() {
    let (place, host, directory) = place();
    let LockAttempt::Held(guard) = host.try_lock(&directory, name("l"), b"a long name of a holder").unwrap() else { panic!() };
    let LockAttempt::Busy(holder) = host.try_lock(&directory, name("l"), b"b").unwrap() else { panic!() };
    assert_eq!(holder, b"a long name of a holder");
    drop(guard);
    let LockAttempt::Held(_guard) = host.try_lock(&directory, name("l"), b"b").unwrap() else { panic!() };
    let LockAttempt::Busy(holder) = host.try_lock(&directory, name("l"), b"c").unwrap() else { panic!() };
    assert_eq!(holder, b"b");
    assert_eq!(fs::metadata(place.path().join("l")).unwrap().permissions().mode() & 0o777, 0o600);
    // Somebody removes it: the next one locks a new file, and both know what they hold.
    fs::remove_file(place.path().join("l")).unwrap();
    assert!(matches!(host.try_lock(&directory, name("l"), b"d").unwrap(), LockAttempt::Held(_)));
    std::os::unix::fs::symlink("elsewhere", place.path().join("link")).unwrap();
    assert!(host.try_lock(&directory, name("link"), b"").is_err());
}

fn run_with(command: &Command, cancellation: Option<&Cancellation>) -> Result<CommandOutput, CommandError> {
    Local::new().run(command, None, &Limits::new(Instant::now() + Duration::from_secs(60), cancellation))
}

fn shell(script: &str) -> Command {
    Command::new(["sh", "-c", script])
}

#[test]
fn a_command_runs_with_a_cleared_environment_and_no_descriptor_of_ours() {
    let held = fs::File::open("/etc/passwd").unwrap();
    let mut command = shell("env | sort; pwd; ls /proc/self/fd | tr '\\n' ' '; cat; exit 3");
    command.environment.insert("EXTRA".into(), "yes".into());
    let output = run_with(&command, None).unwrap();
    drop(held);
    let text = String::from_utf8(output.stdout).unwrap();
    let path = crate::command::PATH;
    // `ls` has the directory itself open as 3; the shell adds PWD.
    assert_eq!(text, format!("EXTRA=yes\nLC_ALL=C\nPATH={path}\nPWD=/\n/\n0 1 2 3 "));
    assert_eq!((output.code, output.signal, output.truncated), (Some(3), None, false));
    let output = run_with(&shell("echo no >&2; kill -9 $$"), None).unwrap();
    assert_eq!((output.code, output.signal, output.stderr.as_slice()), (None, Some(9), b"no\n".as_slice()));
}

#[test]
fn f40_a_hook_inherits_no_descriptor_that_we_were_started_with() {
    let script = "exec 9</etc/passwd; exec \"$0\" --exact host::local::tests::inner_descriptors --ignored";
    let mut command = std::process::Command::new("sh");
    let output = command.args(["-c", script]).arg(std::env::current_exe().unwrap()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by f40_a_hook_inherits_no_descriptor_that_we_were_started_with"]
fn inner_descriptors() {
    assert!(fs::exists("/proc/self/fd/9").unwrap());
    let view_at = tempfile::tempdir_in("/tmp").unwrap();
    let view = crate::staged_view::StagedView::new(Vec::new(), view_at.path().to_owned());
    let limits = Limits::new(Instant::now() + Duration::from_secs(60), None);
    for view in [None, Some(&view)] {
        let output = Local::new().run(&Command::new(["ls", "/proc/self/fd"]), view, &limits).unwrap();
        // `ls` has the directory itself open as 3.
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "0\n1\n2\n3\n");
    }
}

#[test]
fn input_reaches_the_command_whole_or_is_dropped_without_blocking() {
    let mut command = shell("wc -c");
    command.input = Some(vec![b'k'; 1_000_000].into());
    assert_eq!(run_with(&command, None).unwrap().stdout, b"1000000\n");
    command.arguments = shell("exec <&-; echo done").arguments;
    assert_eq!(run_with(&command, None).unwrap().stdout, b"done\n");
}

#[test]
fn what_cannot_be_started_says_why() {
    let missing = run_with(&Command::new(["certdeploy-is-not-there"]), None).unwrap_err();
    assert!(matches!(&missing, CommandError::NotFound { program } if program == "certdeploy-is-not-there"), "{missing:?}");
    for arguments in [vec![], vec!["/etc/passwd"], vec!["/absent/program"]] {
        let error = run_with(&Command::new(arguments.clone()), None).unwrap_err();
        assert!(matches!(error, CommandError::Spawn(_)), "{arguments:?}: {error:?}");
    }
}

#[test]
fn f40_a_hook_that_hangs_is_ended_with_its_whole_process_group() {
    // Neither the shell nor its child goes when asked.
    let command = shell("trap '' TERM; sleep 1000 & echo $!; wait; sleep 1000").with_timeout(Duration::from_millis(300));
    let started = Instant::now();
    let CommandError::Timeout { after, output } = run_with(&command, None).unwrap_err() else { panic!() };
    assert_eq!(after, Duration::from_millis(300));
    assert!(started.elapsed() < Duration::from_secs(20));
    await_end_of(std::str::from_utf8(&output.stdout).unwrap().trim());
    assert_eq!(output.signal, Some(9));
}

#[test]
fn f40_the_deadline_of_the_stage_counts_when_it_is_nearer() {
    let limits = Limits::new(Instant::now() + Duration::from_millis(200), None);
    let error = Local::new().run(&shell("sleep 1000"), None, &limits).unwrap_err();
    assert!(matches!(error, CommandError::Timeout { after, .. } if after <= Duration::from_millis(200)), "{error:?}");
    let limits = Limits::new(Instant::now(), None);
    assert!(matches!(Local::new().run(&shell("true"), None, &limits), Err(CommandError::Timeout { .. })));
}

#[test]
fn f40_output_is_bounded_and_its_end_is_kept() {
    let output = run_with(&shell("head -c 1000000000 /dev/zero; echo end"), None).unwrap();
    assert_eq!((output.stdout.len(), output.truncated), (OUTPUT_LIMIT, true));
    assert!(output.stdout.ends_with(b"\0end\n"));
    let command = Command::new(["yes"]).with_timeout(Duration::from_millis(300));
    let CommandError::Timeout { output, .. } = run_with(&command, None).unwrap_err() else { panic!() };
    assert_eq!((output.stdout.len(), output.truncated), (OUTPUT_LIMIT, true));
}

#[test]
fn what_a_command_leaves_behind_can_go_on_writing_until_it_has_come_loose() {
    let (place, ..) = place();
    let loose = place.path().join("loose");
    // As Apache does: it comes loose after the command has ended, and writes before that.
    let script = format!("(sleep 0.2; echo late; exec >/dev/null 2>&1; echo > {}) & echo early", loose.display());
    let output = run_with(&shell(&script), None).unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "early\nlate\n");
    let end = Instant::now() + Duration::from_secs(10);
    while !loose.exists() {
        assert!(Instant::now() < end, "it was ended by what it wrote");
        std::thread::yield_now();
    }
}

#[test]
fn a_command_is_over_when_it_says_that_what_it_ran_elsewhere_is() {
    let started = Instant::now();
    let mut command = shell("echo out; echo done: >&2; printf 'done-7: 3\\n' >&2; sleep 1000");
    command.end_mark = Some(b"done-7: ".to_vec());
    let output = run_with(&command, None).unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    assert_eq!(
        (output.code, output.stdout.as_slice(), output.stderr.as_slice()),
        (None, &b"out\n"[..], &b"done:\ndone-7: 3\n"[..])
    );
}

#[test]
fn a_daemon_that_keeps_the_pipes_open_does_not_keep_us_waiting() {
    let started = Instant::now();
    let output = run_with(&shell("echo before; sleep 30 & echo $!"), None).unwrap();
    assert!(started.elapsed() < Duration::from_secs(20));
    let text = String::from_utf8(output.stdout).unwrap();
    let daemon = text.strip_prefix("before\n").unwrap().trim().to_owned();
    Local::new().signal(daemon.parse().unwrap(), Signal::Term).unwrap();
    await_end_of(&daemon);
}

#[test]
fn f20_a_cancelled_command_never_starts_and_f21_a_running_one_is_ended() {
    let (place, ..) = place();
    let cancellation = Cancellation::default();
    let started = place.path().join("started");
    let command = shell(&format!("echo > {}; sleep 1000", started.display()));
    std::thread::scope(|scope| {
        let running = scope.spawn(|| run_with(&command, Some(&cancellation)));
        while !started.exists() && !running.is_finished() {
            std::thread::yield_now();
        }
        cancellation.cancel();
        assert!(matches!(running.join().unwrap(), Err(CommandError::Interrupted)));
    });
    fs::remove_file(&started).unwrap();
    assert!(matches!(run_with(&command, Some(&cancellation)), Err(CommandError::Interrupted)));
    assert!(!started.exists());
}

#[test]
fn users_groups_identity_boot_and_signals() {
    let host = Local::new();
    assert_eq!(host.user_id("root").unwrap(), Some(0));
    assert_eq!(host.group_id("root").unwrap(), Some(0));
    assert_eq!(host.user_id("1234").unwrap(), Some(1234));
    assert_eq!(host.group_id("4294967295").unwrap(), None);
    assert_eq!(host.user_id("no-such-user-here").unwrap(), None);
    let identity = host.identity().unwrap();
    assert_eq!(identity.uid, rustix::process::geteuid().as_raw());
    assert!(identity.groups.contains(&identity.gid));
    assert_eq!(host.boot_id().unwrap().len(), 36);
    assert_eq!(host.signal(0, Signal::Hup).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(host.signal(u32::MAX, Signal::Hup).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(host.signal(i32::MAX as u32, Signal::Usr1).is_err());
}

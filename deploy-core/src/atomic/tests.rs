#![expect(clippy::disallowed_methods, reason = "tests set their files up without the engine")]

use std::fs;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use tempfile::TempDir;

use super::*;

fn place() -> TempDir {
    tempfile::tempdir_in("/tmp").unwrap()
}

fn write(path: &Path, bytes: &[u8]) -> Result<Written, WriteError> {
    atomic_write_file(path, bytes, &WriteOptions::new())
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn litter(directory: &Path) -> Vec<OsString> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().ends_with(".certdeploy-new")).collect()
}

fn refused(outcome: Result<Written, WriteError>) -> Refusal {
    match outcome.unwrap_err() {
        WriteError::Refused { reason, .. } => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn f8_a_new_file_is_private_and_f7_options_win() {
    let place = place();
    let path = place.path().join("key");
    let written = write(&path, b"one").unwrap();
    let found = fs::metadata(&path).unwrap();
    assert!(written.changed && written.path == path && (written.device, written.inode) == (found.dev(), found.ino()));
    assert_eq!(found.mode() & 0o7777, 0o600);
    let written = atomic_write_file(&path, b"two", &WriteOptions::new().with_mode(0o644)).unwrap();
    assert!(written.changed);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o644);
    assert_eq!(fs::read(&path).unwrap(), b"two");
    assert!(atomic_write_file(&path, b"", &WriteOptions::new().with_mode(0o10644)).is_err());
    assert!(litter(place.path()).is_empty());
}

#[test]
fn f5_equal_content_writes_nothing_and_f34_drift_of_the_mode_is_repaired() {
    let place = place();
    let path = place.path().join("key");
    let first = write(&path, b"one").unwrap();
    let before = fs::metadata(place.path()).unwrap();
    let again = write(&path, b"one").unwrap();
    assert_eq!((again.changed, again.inode), (false, first.inode));
    let after = fs::metadata(place.path()).unwrap();
    assert_eq!((before.mtime_nsec(), before.ctime_nsec()), (after.mtime_nsec(), after.ctime_nsec()));
    assert!(atomic_write_file(&path, b"one", &WriteOptions::new().with_mode(0o640)).unwrap().changed);
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
}

#[test]
fn f6_f33_owner_mode_and_attributes_are_kept_each_unless_overridden() {
    let place = place();
    let path = place.path().join("key");
    fs::write(&path, "old").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
    xattr::set(&path, "user.note", b"kept").unwrap();
    if is_root() {
        std::os::unix::fs::chown(&path, Some(12), Some(34)).unwrap();
    }
    let before = fs::metadata(&path).unwrap();
    write(&path, b"new").unwrap();
    let after = fs::metadata(&path).unwrap();
    assert_ne!(before.ino(), after.ino());
    assert_eq!((before.uid(), before.gid(), before.mode()), (after.uid(), after.gid(), after.mode()));
    assert_eq!(xattr::get(&path, "user.note").unwrap().unwrap(), b"kept");
    if is_root() {
        atomic_write_file(&path, b"new", &WriteOptions::new().with_group(56)).unwrap();
        let after = fs::metadata(&path).unwrap();
        assert_eq!((after.uid(), after.gid(), after.mode() & 0o7777), (12, 56, 0o640));
        atomic_write_file(&path, b"new", &WriteOptions::new().with_owner(78)).unwrap();
        assert_eq!((fs::metadata(&path).unwrap().uid(), fs::metadata(&path).unwrap().gid()), (78, 56));
        // A setgid directory hands its group to what is new.
        std::os::unix::fs::chown(place.path(), None, Some(99)).unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o2700)).unwrap();
        write(&place.path().join("other"), b"x").unwrap();
        assert_eq!(fs::metadata(place.path().join("other")).unwrap().gid(), 99);
    }
}

#[test]
fn f14_a_reader_sees_the_old_or_the_new_bytes_and_never_a_missing_file() {
    let place = place();
    let path = place.path().join("key");
    let (old, new) = (vec![b'o'; 40_000], vec![b'n'; 70_000]);
    write(&path, &old).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = 0;
            while !done.load(Ordering::Relaxed) || seen == 0 {
                let found = fs::read(&path).unwrap();
                assert!(found == old || found == new, "{} bytes", found.len());
                seen += 1;
            }
        });
        for _ in 0..30 {
            write(&path, &new).unwrap();
            write(&path, &old).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
}

#[test]
fn f30_a_link_is_followed_refused_or_replaced_as_asked() {
    let place = place();
    let (real, link) = (place.path().join("real"), place.path().join("link"));
    fs::write(&real, "old").unwrap();
    symlink("real", place.path().join("middle")).unwrap();
    symlink(place.path().join("middle"), &link).unwrap();
    let refuse = WriteOptions::new().with_links(LinkPolicy::Refuse);
    assert_eq!(refused(atomic_write_file(&link, b"new", &refuse)), Refusal::Symlink);
    let written = write(&link, b"new").unwrap();
    assert_eq!(written.path, real);
    assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
    assert_eq!(fs::read(&real).unwrap(), b"new");
    atomic_write_file(&link, b"own", &WriteOptions::new().with_links(LinkPolicy::Replace)).unwrap();
    assert!(fs::symlink_metadata(&link).unwrap().is_file());
    assert_eq!((fs::read(&real).unwrap().as_slice(), fs::read(&link).unwrap().as_slice()), (&b"new"[..], &b"own"[..]));
    // A dangling link stays, and what it leads to is created.
    symlink("absent", place.path().join("dangling")).unwrap();
    assert_eq!(write(&place.path().join("dangling"), b"x").unwrap().path, place.path().join("absent"));
    assert!(fs::symlink_metadata(place.path().join("dangling")).unwrap().is_symlink());
    symlink("loop", place.path().join("loop")).unwrap();
    assert!(matches!(write(&place.path().join("loop"), b"x"), Err(WriteError::Inspect { .. })));
}

#[test]
fn f31_hard_links_are_refused_unless_they_may_part() {
    let place = place();
    let (path, peer) = (place.path().join("key"), place.path().join("peer"));
    fs::write(&path, "old").unwrap();
    fs::hard_link(&path, &peer).unwrap();
    assert_eq!(refused(write(&path, b"new")), Refusal::HardLinks(2));
    atomic_write_file(&path, b"new", &WriteOptions::new().with_detach()).unwrap();
    assert_eq!(fs::read(&peer).unwrap(), b"old");
    assert_eq!(fs::read(&path).unwrap(), b"new");
}

#[test]
fn f18_f19_what_is_no_file_path_or_no_regular_file_is_refused() {
    let place = place();
    for bad in ["key", "./key", "/", "/tmp/..", "/tmp/x/"] {
        assert!(matches!(write(Path::new(bad), b"x"), Err(WriteError::InvalidPath { .. })), "{bad}");
    }
    assert!(matches!(write(&place.path().join("absent/key"), b"x"), Err(WriteError::Inspect { .. })));
    fs::create_dir(place.path().join("directory")).unwrap();
    assert_eq!(refused(write(&place.path().join("directory"), b"x")), Refusal::NotRegular(FileKind::Directory));
    let fifo = place.path().join("fifo");
    rustix::fs::mkfifoat(rustix::fs::CWD, &fifo, rustix::fs::Mode::RWXU).unwrap();
    assert_eq!(refused(write(&fifo, b"x")), Refusal::NotRegular(FileKind::Fifo));
    assert!(fs::metadata(&fifo).unwrap().file_type().is_fifo());
    assert_eq!(refused(write(Path::new("/dev/null"), b"x")), Refusal::NotRegular(FileKind::Device));
    let socket = place.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(refused(write(&socket, b"x")), Refusal::NotRegular(FileKind::Socket));
}

#[test]
fn f33_an_immutable_file_is_refused_before_anything_is_written() {
    let place = place();
    let path = place.path().join("key");
    fs::write(&path, "old").unwrap();
    if !is_root() {
        // Only root may set the flag; the comparison itself is what is left to check.
        let mut status = Status::new(FileKind::Regular, 1, 1);
        status.immutable = true;
        assert_eq!(refusal(&status, &WriteOptions::new()), Some(Refusal::Immutable));
        return;
    }
    assert!(Command::new("chattr").arg("+i").arg(&path).status().unwrap().success());
    let outcome = write(&path, b"new");
    assert!(Command::new("chattr").arg("-i").arg(&path).status().unwrap().success());
    assert_eq!(refused(outcome), Refusal::Immutable);
    assert!(litter(place.path()).is_empty());
}

/// Runs a test of this module again after a script has set up mounts of its own, in a private mount namespace.
fn again_in(script: &str, test: &str, path: &Path) {
    let program = std::env::current_exe().unwrap();
    let run = format!("set -e; {script}; exec \"$0\" --exact atomic::tests::{test} --ignored --nocapture");
    let mut command = Command::new("unshare");
    command.args(if is_root() { &["-m"][..] } else { &["-mr"][..] }).args(["sh", "-c", &run]).arg(program);
    let output = command.env("CERTDEPLOY_TEST_PATH", path).output().unwrap();
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

fn path_of_outer_test() -> PathBuf {
    std::env::var_os("CERTDEPLOY_TEST_PATH").expect("only run by another test, which sets CERTDEPLOY_TEST_PATH").into()
}

#[test]
fn f32_a_bound_file_is_refused() {
    let place = place();
    let path = place.path().join("key");
    fs::write(&path, "old").unwrap();
    fs::write(place.path().join("bound"), "bound").unwrap();
    let script = format!("mount --bind {} {}", place.path().join("bound").display(), path.display());
    again_in(&script, "inner_bound_file", &path);
    assert_eq!(fs::read(&path).unwrap(), b"old");
}

#[test]
#[ignore = "run by f32_a_bound_file_is_refused in a mount namespace"]
fn inner_bound_file() {
    let path = path_of_outer_test();
    assert_eq!(refused(write(&path, b"new")), Refusal::MountPoint);
    assert_eq!(fs::read(&path).unwrap(), b"bound");
    assert!(litter(path.parent().unwrap()).is_empty());
}

#[test]
fn f36_a_full_disk_leaves_the_old_file_and_nothing_else() {
    let place = place();
    let script = format!("mount -t tmpfs -o size=64k tmpfs {}", place.path().display());
    again_in(&script, "inner_full_disk", &place.path().join("key"));
}

#[test]
#[ignore = "run by f36_a_full_disk_leaves_the_old_file_and_nothing_else in a mount namespace"]
fn inner_full_disk() {
    let path = path_of_outer_test();
    write(&path, b"old").unwrap();
    let error = write(&path, &[0; 100_000]).unwrap_err();
    assert!(!error.applied());
    let WriteError::Stage { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::StorageFull);
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert!(litter(path.parent().unwrap()).is_empty());
}

#[test]
fn f36_a_read_only_file_system_says_so() {
    let place = place();
    let at = place.path().display();
    let script = format!("mount -t tmpfs tmpfs {at}; echo old > {at}/key; mount -o remount,bind,ro {at}");
    again_in(&script, "inner_read_only", &place.path().join("key"));
}

#[test]
#[ignore = "run by f36_a_read_only_file_system_says_so in a mount namespace"]
fn inner_read_only() {
    let error = write(&path_of_outer_test(), b"new").unwrap_err();
    let WriteError::Stage { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::ReadOnlyFilesystem);
}

#[test]
fn f17_the_staging_file_of_a_killed_writer_is_swept() {
    let place = place();
    let path = place.path().join("key");
    fs::write(place.path().join(staging_name(OsStr::new("key"))), "half a ke").unwrap();
    write(&path, b"whole").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole");
    assert!(litter(place.path()).is_empty());
}

#[test]
fn f9_writers_wait_for_each_other_and_give_up_in_time() {
    let place = place();
    let path = place.path().join("key");
    let target = Target::find(Local::new(), &path, &WriteOptions::new()).unwrap();
    let staged = target.stage(Duration::ZERO).unwrap();
    let hasty = WriteOptions::new().with_wait(Duration::from_millis(20));
    assert!(matches!(atomic_write_file(&path, b"x", &hasty), Err(WriteError::Busy { .. })));
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| write(&path, b"x"));
        drop(staged);
        waiting.join().unwrap().unwrap();
    });
    std::thread::scope(|scope| {
        for writer in 0..8_u8 {
            let path = &path;
            scope.spawn(move || (0..40).for_each(|round| drop(write(path, &[writer, round]).unwrap())));
        }
    });
    assert_eq!(fs::read(&path).unwrap()[1], 39);
    assert!(litter(place.path()).is_empty());
}

#[test]
fn f35_what_somebody_else_wrote_meanwhile_is_kept() {
    let place = place();
    let path = place.path().join("key");
    let options = WriteOptions::new();
    for (old, meanwhile) in [(Some("old"), "theirs"), (None, "theirs")] {
        match old {
            Some(old) => fs::write(&path, old).unwrap(),
            None => fs::remove_file(&path).unwrap(),
        }
        let target = Target::find(Local::new(), &path, &options).unwrap();
        let before = target.inspect(b"ours", &options).unwrap();
        let staged = target.stage(Duration::ZERO).unwrap();
        fs::write(&path, meanwhile).unwrap();
        assert!(matches!(target.replace(staged, b"ours", &before), Err(WriteError::Conflict { .. })));
        assert_eq!(fs::read(&path).unwrap(), meanwhile.as_bytes());
        assert!(litter(place.path()).is_empty());
    }
}

#[test]
fn the_longest_name_can_be_written_and_one_longer_is_an_error() {
    let place = place();
    write(&place.path().join("n".repeat(255)), b"x").unwrap();
    assert!(matches!(write(&place.path().join("n".repeat(256)), b"x"), Err(WriteError::Inspect { .. })));
    assert!(litter(place.path()).is_empty());
}

#[test]
fn s2_a_new_key_is_readable_by_nobody_else_at_any_instant_with_umask_0() {
    let place = place();
    let program = std::env::current_exe().unwrap();
    let script = "umask 000; exec \"$0\" --exact atomic::tests::inner_umask --ignored --nocapture";
    let mut command = Command::new("sh");
    command.args(["-c", script]).arg(program).env("CERTDEPLOY_TEST_PATH", place.path().join("key"));
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "run by s2_a_new_key_is_readable_by_nobody_else_at_any_instant_with_umask_0"]
fn inner_umask() {
    let path = path_of_outer_test();
    let staging = path.with_file_name(staging_name(OsStr::new("key")));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for path in [&path, &staging] {
                    assert!(!fs::metadata(path).is_ok_and(|found| found.mode() & 0o077 != 0));
                }
            }
        });
        for round in 0..100_u8 {
            write(&path, &[round]).unwrap();
        }
        done.store(true, Ordering::Relaxed);
        watcher.join().unwrap();
    });
    assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
}

#[test]
fn a_directory_that_we_may_not_write_to_is_an_error_and_stays_as_it_is() {
    if is_root() {
        // Root may write everywhere; somebody else finds out.
        let place = place();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = place.path().join("tests");
        // Copied by another process: were it open for writing here, a child that is forked meanwhile would keep it busy.
        assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap().success());
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(program);
        command.args(["--exact", "atomic::tests::a_directory_that_we_may_not_write_to_is_an_error_and_stays_as_it_is"]);
        let output = command.current_dir("/tmp").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        return;
    }
    let place = place();
    fs::write(place.path().join("key"), "old").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o500)).unwrap();
    let error = write(&place.path().join("key"), b"new").unwrap_err();
    let WriteError::Stage { source, .. } = error else { panic!("{error:?}") };
    assert_eq!(source.kind(), io::ErrorKind::PermissionDenied);
    assert_eq!(fs::read(place.path().join("key")).unwrap(), b"old");
}

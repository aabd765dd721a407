//! Real views on this machine. Where the machine does not allow them, these tests fail: they must not pass silently.

#![expect(clippy::disallowed_methods, reason = "tests set their files up without the engine")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::thread::CapabilitySet;
use tempfile::TempDir;

use super::StagedView;
use crate::command::{Command, CommandError, CommandOutput, Limits};
use crate::host::{Host as _, Local};

/// A live tree with one certificate, and a staged one beside it.
struct Area {
    base: TempDir,
}

impl Area {
    fn new() -> Self {
        let base = tempfile::tempdir_in("/tmp").unwrap();
        for directory in ["live", "staged", "view"] {
            fs::create_dir(base.path().join(directory)).unwrap();
        }
        let area = Self { base };
        fs::write(area.live("cert.pem"), "old").unwrap();
        fs::write(area.staged("cert.pem"), "new").unwrap();
        area
    }

    fn live(&self, name: &str) -> PathBuf {
        self.base.path().join("live").join(name)
    }

    fn staged(&self, name: &str) -> PathBuf {
        self.base.path().join("staged").join(name)
    }

    fn view(&self, names: &[&str]) -> StagedView {
        let files = names.iter().map(|name| (self.staged(name), self.live(name))).collect();
        StagedView::new(files, self.base.path().join("view"))
    }
}

fn run(view: &StagedView, script: &str) -> Result<CommandOutput, CommandError> {
    run_for(view, script, Duration::from_secs(20))
}

fn run_for(view: &StagedView, script: &str, timeout: Duration) -> Result<CommandOutput, CommandError> {
    let command = Command::new(["sh", "-c", script]).with_timeout(timeout);
    Local::new().run(&command, Some(view), &Limits::new(Instant::now() + Duration::from_secs(60), None))
}

fn text(output: &CommandOutput) -> &str {
    assert!(output.success(), "{}: {}", output.ending(), output.message());
    std::str::from_utf8(&output.stdout).unwrap().trim()
}

fn may_mount() -> bool {
    rustix::thread::capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_ADMIN)
}

fn mount_table() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap()
}

#[test]
fn the_child_sees_the_new_bytes_while_everybody_else_sees_the_old_ones() {
    let area = Area::new();
    let live = area.live("cert.pem");
    let output = run(&area.view(&["cert.pem"]), &format!("cat {}", live.display())).unwrap();
    assert_eq!(text(&output), "new");
    assert_eq!(fs::read(&live).unwrap(), b"old");
    if may_mount() {
        // At the same moment, through our own root.
        let outside = format!("/proc/{}/root{}", std::process::id(), live.display());
        let output = run(&area.view(&["cert.pem"]), &format!("cat {} {outside}", live.display())).unwrap();
        assert_eq!(text(&output), "newold");
    }
}

#[test]
fn a_new_file_appears_only_inside() {
    let area = Area::new();
    fs::write(area.staged("key.pem"), "key").unwrap();
    let output = run(&area.view(&["cert.pem", "key.pem"]), &format!("cat {}/*", area.live("").display())).unwrap();
    assert_eq!(text(&output), "newkey");
    assert!(!area.live("key.pem").exists());
}

#[test]
fn new_files_appear_in_directories_that_do_not_exist() {
    let area = Area::new();
    fs::write(area.staged("key.pem"), "key").unwrap();
    let place = area.live("www/current");
    let files = ["cert.pem", "key.pem"].map(|name| (area.staged(name), place.join(name)));
    let view = StagedView::new(files.into(), area.base.path().join("view"));
    let output = run(&view, &format!("cat {}/*; ls {}", place.display(), area.live("").display())).unwrap();
    assert_eq!(text(&output), "newkeycert.pem\nwww");
    assert!(!area.live("www").exists());
    assert!(matches!(run(&view.binds_only(), "true"), Err(CommandError::View { .. })));
}

#[test]
fn a_directory_that_is_a_link_to_nowhere_is_not_made() {
    let area = Area::new();
    std::os::unix::fs::symlink("nowhere", area.live("current")).unwrap();
    let files = vec![(area.staged("cert.pem"), area.live("current/cert.pem"))];
    let error = run(&StagedView::new(files, area.base.path().join("view")), "true").unwrap_err();
    assert!(matches!(error, CommandError::View { .. }), "{error}");
}

#[test]
fn a_view_of_nothing_shows_the_live_files() {
    let area = Area::new();
    let output = run(&area.view(&[]), &format!("cat {}; pwd", area.live("cert.pem").display())).unwrap();
    assert_eq!(text(&output), "old/");
}

#[test]
fn what_the_child_writes_stays_inside() {
    let area = Area::new();
    let mut places = vec![PathBuf::from("/tmp").join(format!("certdeploy-{}.pid", std::process::id()))];
    places.push(PathBuf::from("/var/log").join(format!("certdeploy-{}.log", std::process::id())));
    if rustix::process::geteuid().is_root() {
        places.push(area.live("log"));
        places.push(PathBuf::from("/run").join(format!("certdeploy-{}.pid", std::process::id())));
    }
    for place in places {
        let script = format!("echo 1 > {0} && cat {0}", place.display());
        assert_eq!(text(&run(&area.view(&["cert.pem"]), &script).unwrap()), "1", "{}", place.display());
        assert!(!place.exists(), "{}", place.display());
    }
}

#[test]
fn the_staged_file_cannot_be_changed_by_the_child_where_read_only_binds_are_allowed() {
    let area = Area::new();
    let output = run(&area.view(&["cert.pem"]), &format!("echo bad > {}", area.live("cert.pem").display())).unwrap();
    if may_mount() {
        assert!(!output.success());
        assert_eq!(fs::read(area.staged("cert.pem")).unwrap(), b"new");
    }
    assert_eq!(fs::read(area.live("cert.pem")).unwrap(), b"old");
}

#[test]
fn directories_look_as_they_are() {
    let area = Area::new();
    fs::set_permissions(area.live(""), fs::Permissions::from_mode(0o751)).unwrap();
    let script = format!("stat -c %a /tmp {} && test -e /proc/self/status && test -c /dev/null", area.live("").display());
    assert_eq!(text(&run(&area.view(&["cert.pem"]), &script).unwrap()), "1777\n751");
}

#[test]
fn the_mount_table_is_the_same_before_and_after_even_if_the_child_is_killed() {
    let area = Area::new();
    let before = mount_table();
    text(&run(&area.view(&["cert.pem"]), "true").unwrap());
    assert_eq!(mount_table(), before);
    let error = run_for(&area.view(&["cert.pem"]), "sleep 1000", Duration::from_millis(300)).unwrap_err();
    assert!(matches!(error, CommandError::Timeout { .. }), "{error:?}");
    assert_eq!(mount_table(), before);
    assert_eq!(fs::read(area.live("cert.pem")).unwrap(), b"old");
    fs::remove_dir(area.base.path().join("view")).unwrap();
}

#[test]
fn f30_staged_bytes_are_seen_under_every_name_of_a_linked_file() {
    let area = Area::new();
    fs::create_dir(area.live("archive")).unwrap();
    fs::rename(area.live("cert.pem"), area.live("archive/cert1.pem")).unwrap();
    std::os::unix::fs::symlink("archive/cert1.pem", area.live("cert.pem")).unwrap();
    let script = format!("cat {} {}", area.live("cert.pem").display(), area.live("archive/cert1.pem").display());
    assert_eq!(text(&run(&area.view(&["cert.pem"]), &script).unwrap()), "newnew");
    assert_eq!(fs::read(area.live("archive/cert1.pem")).unwrap(), b"old");
    // A link to what is not there yet.
    std::os::unix::fs::symlink("archive/key1.pem", area.live("key.pem")).unwrap();
    fs::write(area.staged("key.pem"), "key").unwrap();
    let script = format!("cat {} {}", area.live("key.pem").display(), area.live("archive/key1.pem").display());
    assert_eq!(text(&run(&area.view(&["key.pem"]), &script).unwrap()), "keykey");
    assert!(!area.live("archive/key1.pem").exists());
}

#[test]
fn names_with_spaces_commas_and_colons_are_no_trouble() {
    let area = Area::new();
    let odd = area.live("a b,c:d\\e");
    fs::create_dir(&odd).unwrap();
    fs::write(area.staged("odd"), "odd").unwrap();
    let mut view = area.view(&[]);
    view.files.push((area.staged("odd"), odd.join("new file")));
    let output = run(&view, &format!("cat '{}'", odd.join("new file").display())).unwrap();
    assert_eq!(text(&output), "odd");
    assert!(!odd.join("new file").exists());
}

#[test]
fn binds_alone_need_every_final_path() {
    let area = Area::new();
    let output = run(&area.view(&["cert.pem"]).binds_only(), &format!("cat {}", area.live("cert.pem").display())).unwrap();
    assert_eq!(text(&output), "new");
    assert_eq!(fs::read(area.live("cert.pem")).unwrap(), b"old");
    fs::write(area.staged("key.pem"), "key").unwrap();
    let error = run(&area.view(&["key.pem"]).binds_only(), "true").unwrap_err();
    assert!(matches!(&error, CommandError::View { source, .. } if source.kind() == std::io::ErrorKind::NotFound), "{error:?}");
    assert!(!area.live("key.pem").exists());
}

#[test]
fn the_step_that_failed_is_named() {
    let area = Area::new();
    fs::remove_file(area.staged("cert.pem")).unwrap();
    let error = run(&area.view(&["cert.pem"]), "true").unwrap_err();
    let CommandError::View { step, source } = &error else { panic!("{error:?}") };
    assert_eq!(step, &format!("bind {}", area.live("cert.pem").display()));
    assert_eq!(source.kind(), std::io::ErrorKind::NotFound);
    let mut view = area.view(&[]);
    view.mount_point = area.live("absent");
    assert!(matches!(run(&view, "true"), Err(CommandError::View { .. })));
    // The view is fine, and the program is not there.
    let command = Command::new([area.live("absent")]);
    let limits = Limits::new(Instant::now() + Duration::from_secs(20), None);
    let error = Local::new().run(&command, Some(&area.view(&[])), &limits).unwrap_err();
    assert!(matches!(error, CommandError::Spawn(_)), "{error:?}");
}

#[test]
fn f40_a_child_that_hangs_in_a_view_is_ended_with_its_children() {
    let area = Area::new();
    let error = run_for(&area.view(&["cert.pem"]), "sleep 1000 & echo $!; wait", Duration::from_millis(500)).unwrap_err();
    let CommandError::Timeout { output, .. } = error else { panic!("{error:?}") };
    let grandchild = String::from_utf8(output.stdout).unwrap();
    crate::host::local::tests::await_end_of(grandchild.trim());
}

/// Runs the other tests of this module again as somebody else.
fn again_with(prefix: &[&str]) {
    let place = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = place.path().join("tests");
    // Copied by another process: were it open for writing here, a child that is forked meanwhile would keep it busy.
    let copied = std::process::Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap();
    assert!(copied.success());
    let mut command = std::process::Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(&program).args(["staged_view::tests::", "--skip", "again_"]).current_dir(Path::new("/tmp"));
    let output = command.env("TMPDIR", "/tmp").output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(text.contains("test result: ok. 14 passed; 0 failed"), "{text}");
}

#[test]
fn again_as_an_ordinary_user() {
    if rustix::process::geteuid().is_root() {
        again_with(&["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=-all", "--"]);
    } else {
        again_with(&["env"]);
    }
}

#[test]
fn again_as_root_without_the_right_to_mount() {
    if rustix::process::geteuid().is_root() {
        again_with(&["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-all", "--"]);
    } else {
        again_with(&["env"]);
    }
}

#[test]
fn again_where_mounts_are_shared_as_systemd_makes_them() {
    if rustix::process::geteuid().is_root() {
        again_with(&["unshare", "--mount", "--propagation", "shared", "--"]);
    } else {
        again_with(&["unshare", "--map-root-user", "--mount", "--propagation", "shared", "--"]);
    }
}

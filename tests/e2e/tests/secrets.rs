//! Keys are nowhere but where they belong.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use deploy_e2e::system::{children, command_line, proc_file, processes_with};
use deploy_e2e::{Run, Tree, World, until};
use deploy_testkit::Issued;
use rustix::process::Signal;

/// The lines of a key that no other text has.
fn canaries(issued: &Issued) -> Vec<String> {
    // The first line of a key is the same for all keys of its kind.
    issued.key_pem.lines().filter(|line| !line.starts_with('-') && line.len() > 20).skip(1).map(str::to_owned).collect()
}

fn assert_silent(run: &Run, canaries: &[String]) {
    for canary in canaries {
        assert!(!run.stdout.contains(canary) && !run.stderr.contains(canary), "a part of a key was printed");
    }
}

fn holds(bytes: &[u8], canaries: &[String]) -> bool {
    canaries.iter().any(|canary| bytes.windows(canary.len()).any(|window| window == canary.as_bytes()))
}

#[test]
fn s1_keys_are_in_no_output_no_history_and_no_journal() {
    let (world, old) = World::serving();
    let new = world.renew();
    let canaries = [canaries(&old), canaries(&new)].concat();
    assert!(canaries.len() >= 2, "there is something to look for");
    for arguments in [
        &["plan", "--json"][..],
        &["plan"],
        &["deploy"],
        &["deploy", "--json", "--force"],
        &["status", "--json"],
        &["verify", "--json"],
        &["doctor"],
        &["rollback", "front"],
        &["check-config"],
    ] {
        assert_silent(&world.run(arguments), &canaries);
    }
    world.settle();
    world.configure(&[world.front().command("reload", &["true"]).text("verify_timeout", "1s")]);
    world.renew();
    assert_silent(&world.deploy().expect(4, "rolled_back").clone(), &canaries);
    // A key in a place where nobody expects one.
    std::fs::write(world.source_fullchain(), &old.key_pem).unwrap();
    assert_silent(&world.deploy().expect(3, "rejected").clone(), &canaries);
    world.configure_text(&old.key_pem);
    for arguments in [&["deploy", "--json"][..], &["check-config"]] {
        assert_silent(&world.run(arguments), &canaries);
    }
    for (path, _, _, bytes) in Tree::of(&world.program.state).entries() {
        assert!(!holds(bytes, &canaries), "a part of a key is in {}", path.display());
    }
}

#[test]
fn s1_keys_reach_no_child_and_no_core_file() {
    let (world, old) = World::serving();
    let new = world.renew();
    let canaries = [canaries(&old), canaries(&new)].concat();
    world.configure(&[world.front().command("validate", &[world.script("hangs", "exec tail -f \"$0\"")])]);
    let running = world.start(&["deploy", "--json"]);
    let marker = format!("tail -f {}", world.path("tools/hangs").display());
    until("the checker runs", || !processes_with(&marker).is_empty());
    let mut seen = 0;
    let mut family = vec![running.pid()];
    while let Some(pid) = family.pop() {
        family.extend(children(pid));
        let (arguments, environment) = (command_line(pid), proc_file(pid, "environ"));
        assert!(!holds(arguments.as_bytes(), &canaries) && !holds(environment.as_bytes(), &canaries), "a child sees a key");
        if pid != running.pid() {
            let names: Vec<&str> = environment.split('\0').filter_map(|entry| Some(entry.split_once('=')?.0)).collect();
            assert!(names.iter().all(|name| ["PATH", "LC_ALL", "PWD", "SHLVL", "_"].contains(name)), "{names:?}");
        }
        seen += 1;
    }
    assert!(seen >= 2, "the checker was looked at, too");
    let limits = proc_file(running.pid(), "limits");
    let core: Vec<&str> =
        limits.lines().find(|line| line.starts_with("Max core file size")).unwrap().split_whitespace().collect();
    assert_eq!(core[4..6], ["0", "0"], "core files are off");
    // While it is staged, too.
    assert_private(&world, &canaries, 1);
    running.signal(Signal::TERM);
    running.wait().expect(8, "interrupted");
}

#[test]
fn s3_backups_of_keys_are_private() {
    let (world, old) = World::serving();
    let new = world.renew();
    world.deploy().expect(0, "changed");
    world.renew();
    world.deploy().expect(0, "changed");
    assert_private(&world, &[canaries(&old), canaries(&new)].concat(), 2);
}

/// Every file below the destinations that holds a part of a key is closed to all others, and hidden ones lie in closed
/// directories; there are at least `least` of them.
fn assert_private(world: &World, canaries: &[String], least: usize) {
    let live = world.live();
    let keys: Vec<(&Path, u32)> =
        live.entries().filter(|(_, _, _, bytes)| holds(bytes, canaries)).map(|(path, _, mode, _)| (path, mode)).collect();
    assert!(keys.len() >= least, "{} files with keys", keys.len());
    for (path, mode) in keys {
        assert_eq!(mode & 0o077, 0, "{}: {mode:04o}", path.display());
        if path.parent() != Some(&world.path("live")) {
            assert_eq!(path.parent().unwrap().metadata().unwrap().mode() & 0o777, 0o700, "{}", path.display());
        }
    }
    assert_eq!(world.program.state.metadata().unwrap().mode() & 0o777, 0o700);
}

#[test]
fn s5_a_key_source_that_everybody_can_read_is_warned_about() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _) = World::serving();
    world.renew();
    std::fs::set_permissions(world.source_key(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let run = world.deploy();
    run.expect(0, "changed");
    assert!(run.only()["warnings"].to_string().contains("privkey.pem"), "{run:#?}");
    assert_eq!(world.key().metadata().unwrap().mode() & 0o777, 0o600);
}

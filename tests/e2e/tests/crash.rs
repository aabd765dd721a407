//! Ends that nobody planned: `kill -9`, signals, and what the next run makes of them.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use std::path::PathBuf;

use deploy_e2e::system::processes_with;
use deploy_e2e::{Running, World, until};
use deploy_testkit::Issued;
use rustix::process::{Pid, Signal, kill_process};

/// A command that hangs as long as there is a flag, and then does `then`. Outside of a private view it removes the flag.
fn hangs_once(world: &World, then: &str) -> [String; 1] {
    std::fs::write(flag(world), "").unwrap();
    let text = format!("if [ -e '{0}' ]; then rm -f '{0}'; exec tail -f \"$0\"; fi\n{then}", flag(world).display());
    [world.script("hangs-once", &text)]
}

fn flag(world: &World) -> PathBuf {
    world.path("hang")
}

/// The process that hangs.
fn hanging(world: &World) -> Option<Pid> {
    let text = format!("tail -f {}", world.path("tools/hangs-once").display());
    Pid::from_raw(i32::try_from(*processes_with(&text).first()?).ok()?)
}

/// Starts a deployment and waits until it is in the command that hangs.
fn start(world: &World) -> Running {
    let running = world.start(&["deploy", "--json"]);
    until("the command hangs", || hanging(world).is_some());
    running
}

/// As `kill -9` does it: the program first, and what it had started, which has no parent any more.
fn kill(world: &World, running: Running) {
    running.kill();
    if let Some(hanging) = hanging(world) {
        kill_process(hanging, Signal::KILL).ok();
    }
    std::fs::remove_file(flag(world)).ok();
}

/// A world in which a renewal was killed between swap and reload: new files, old certificate served, a journal.
fn killed_in_reload() -> (World, Issued, Issued) {
    let (world, old) = World::serving();
    let new = world.renew();
    let reload = hangs_once(&world, &format!("exec '{}'", world.counting_reload()));
    world.configure(&[world.front().command("reload", &reload)]);
    let running = start(&world);
    world.assert_on_disk(&new);
    kill(&world, running);
    assert_eq!(world.served(), Ok(old.fingerprint.clone()));
    assert_eq!(world.journals().len(), 1);
    (world, old, new)
}

#[test]
fn f28_killed_between_swap_and_reload_the_next_run_pays_the_owed_reload() {
    let (world, _, new) = killed_in_reload();
    let status = world.run(&["status", "--json"]);
    assert!(status.only()["owed"].is_string(), "{status:#?}");
    assert_eq!(world.run(&["status", "--fail-under", "1"]).code, 1, "a debt is an alarm");

    let run = world.deploy();
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(["changed", "repaired"].contains(&run.only()["outcome"].as_str().unwrap()), "{run:#?}");
    assert_eq!(run.only()["live"], "applied");
    assert_eq!(world.reloads(), 1);
    world.assert_served(&new);
    world.assert_on_disk(&new);
    world.assert_nothing_left();
    world.deploy().expect(0, "unchanged");
    assert_eq!(world.reloads(), 1);
}

#[test]
fn killed_between_swap_and_reload_recover_pays_it_too() {
    let (world, _, new) = killed_in_reload();
    let run = world.run(&["recover", "--json"]);
    assert_eq!((run.code, world.reloads()), (0, 1), "{run:#?}");
    let recovered = &run.document()["recovered"][0];
    assert_eq!((recovered["live"].as_str(), recovered["owed"].as_bool()), (Some("applied"), Some(false)), "{run:#?}");
    world.assert_served(&new);
    world.assert_nothing_left();
    world.deploy().expect(0, "unchanged");
}

#[test]
fn recover_files_only_runs_nothing_asks_nobody_and_keeps_the_debt() {
    let (mut world, _, new) = killed_in_reload();
    world.nginx.stop();
    let run = world.run(&["recover", "--files-only", "--json"]);
    assert_eq!((run.code, world.reloads()), (0, 0), "{run:#?}");
    assert_eq!(run.document()["recovered"][0]["owed"], true, "{run:#?}");
    world.assert_on_disk(&new);
    assert_eq!(world.journals().len(), 1, "the debt is kept");
    world.nginx.launch().unwrap();
    let run = world.run(&["recover", "--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn recover_files_only_works_although_the_configuration_is_broken() {
    let (world, _, new) = killed_in_reload();
    world.configure_text("nonsense");
    let run = world.run(&["recover", "--files-only", "--json"]);
    assert_eq!(run.code, 2, "{run:#?}");
    assert_eq!(run.document()["recovered"].as_array().map(Vec::len), Some(1), "{run:#?}");
    world.assert_on_disk(&new);
    assert_eq!(world.journals().len(), 1);
}

#[test]
fn recovery_runs_the_commands_that_are_configured_now() {
    let (world, _, new) = killed_in_reload();
    std::fs::write(flag(&world), "").unwrap();
    world.configure(&[world.front()]);
    let run = world.run(&["recover", "--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(flag(&world).exists(), "the command of the journal did not run");
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn a_target_that_is_no_longer_configured_is_settled_with_the_recorded_command() {
    let (world, _, new) = killed_in_reload();
    let other = world.target("other", &world.path("live/other.crt"), &world.path("live/other.key"));
    world.configure(&[other.command("reload", &["false"])]);
    let run = world.run(&["recover", "--json"]);
    assert_eq!((run.code, world.reloads()), (0, 1), "{run:#?}");
    world.assert_on_disk(&new);
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn recovery_that_cannot_get_the_new_one_served_goes_back() {
    let (world, old, _) = killed_in_reload();
    world.configure(&[world.front().command("reload", &["true"]).text("verify_timeout", "1s")]);
    let run = world.run(&["recover", "--json"]);
    assert_eq!(run.document()["recovered"][0]["live"], "rolled_back", "{run:#?}");
    world.assert_on_disk(&old);
    world.assert_served(&old);
    world.assert_nothing_left();
}

#[test]
fn an_interrupted_deployment_is_settled_before_bad_new_material_is_rejected() {
    let (world, _, new) = killed_in_reload();
    std::fs::write(world.source_key(), "").unwrap();
    let run = world.deploy();
    run.expect(3, "rejected").because("material_rejected", &["empty"]);
    assert!(run.only()["warnings"].to_string().contains("interrupted"), "what recovery did is said: {run:#?}");
    world.assert_on_disk(&new);
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn somebody_elses_change_after_a_crash_is_never_overwritten() {
    let (world, old, _) = killed_in_reload();
    std::fs::write(world.path("foreign"), "foreign\n").unwrap();
    std::fs::rename(world.path("foreign"), world.fullchain()).unwrap();
    let run = world.deploy();
    assert_ne!(run.code, 0, "{run:#?}");
    run.because("conflict", &[world.fullchain().to_str().unwrap()]);
    assert_eq!(std::fs::read_to_string(world.fullchain()).unwrap(), "foreign\n");
    assert_eq!(world.journals().len(), 1, "a person decides");
    assert_eq!(world.served(), Ok(old.fingerprint));
}

#[test]
fn f17_staged_files_of_a_killed_run_are_swept_by_the_next() {
    let (world, old) = World::serving();
    let new = world.renew();
    world.configure(&[world.front().command("validate", &hangs_once(&world, "exit 0"))]);
    let running = start(&world);
    world.assert_on_disk(&old);
    assert!(world.live().paths().any(|path| path.extension().is_some_and(|ending| ending == "new")), "something is staged");
    kill(&world, running);
    let run = world.deploy();
    run.expect(0, "changed");
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn f21_sigterm_in_a_hanging_reload_rolls_back_and_ends_with_8() {
    let (world, old) = World::serving();
    let before = world.live().visible();
    world.renew();
    let reload = hangs_once(&world, &format!("exec {}", world.shell_reload()));
    world.configure(&[world.front().command("reload", &reload)]);
    let running = start(&world);
    running.signal(Signal::TERM);
    let run = running.wait();
    run.expect(8, "interrupted").because("interrupted", &[]);
    assert_eq!(run.only()["live"], "rolled_back");
    assert!(run.stderr.contains("SIGTERM"), "{run:#?}");
    deploy_e2e::assert_same(&before, &world.live().visible());
    world.assert_nothing_left();
    world.assert_served(&old);
    assert_eq!(hanging(&world), None, "the command is gone");
}

#[test]
fn f21_sigint_before_the_swap_leaves_everything_and_ends_with_8() {
    let (world, old) = World::serving();
    let before = world.live();
    world.renew();
    world.configure(&[world.front().command("validate", &hangs_once(&world, "exit 0"))]);
    let running = start(&world);
    running.signal(Signal::INT);
    let run = running.wait();
    run.expect(8, "interrupted").because("interrupted", &[]);
    assert_eq!(run.only()["live"], "unchanged");
    deploy_e2e::assert_same(&before, &world.live());
    world.assert_nothing_left();
    world.assert_served(&old);
}

#[test]
fn after_a_signal_no_other_target_is_started() {
    let world = World::new();
    world.renew();
    world.use_tls();
    let live = |name: &str| world.path("live").join(name);
    let first = world.target("first", &live("first.crt"), &live("first.key")).command("validate", &hangs_once(&world, "exit 0"));
    let second = world.target("second", &live("second.crt"), &live("second.key")).command("reload", &["true"]);
    world.configure(&[first, second]);
    world.configure_text(&format!("[agent]\nconcurrency = 1\n\n{}", world.configuration()));
    let running = start(&world);
    running.signal(Signal::TERM);
    let run = running.wait();
    assert_eq!(run.code, 8, "{run:#?}");
    for name in ["first", "second"] {
        let target = run.target(name);
        assert_eq!((target["outcome"].as_str(), target["live"].as_str()), (Some("interrupted"), Some("unchanged")), "{run:#?}");
    }
    assert!(!live("second.crt").exists());
}

#[test]
fn a_first_deployment_killed_in_the_reload_is_finished_by_the_next_run() {
    let world = World::new();
    let issued = world.renew();
    world.use_tls();
    let reload = hangs_once(&world, &format!("exec {}", world.shell_reload()));
    world.configure(&[world.front().command("reload", &reload)]);
    let running = start(&world);
    kill(&world, running);
    let run = world.deploy();
    assert_eq!(run.code, 0, "{run:#?}");
    world.assert_served(&issued);
    world.assert_nothing_left();
}

//! Two runs at once, and many targets in one directory.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use deploy_e2e::system::processes_with;
use deploy_e2e::{World, until};
use rustix::process::{Pid, Signal, kill_process};

/// A reload that waits until a file appears. While it waits, there is a process with the script's name.
fn waiting_reload(world: &World) -> [String; 1] {
    let text = format!(
        "while [ ! -e '{}' ]; do [ -e \"$0\" ] || exit 1; done\nexec {}",
        world.path("go").display(),
        world.shell_reload()
    );
    [world.script("waits", &text)]
}

fn in_reload(world: &World) -> Vec<u32> {
    processes_with(world.path("tools/waits").to_str().unwrap())
}

#[test]
fn f10_two_processes_are_serialised_and_both_end_well() {
    let (world, _) = World::serving();
    let new = world.renew();
    world.configure(&[world.front().command("reload", &waiting_reload(&world))]);
    let first = world.start(&["deploy", "--json"]);
    until("the first run is in the reload", || !in_reload(&world).is_empty());
    let mut second = world.start(&["deploy", "--json"]);
    until("the second run has a thread for the engine", || {
        assert!(second.is_running(), "it did not wait: {}", second.stderr());
        std::path::Path::new(&format!("/proc/{}/task", second.pid())).read_dir().is_ok_and(|threads| threads.count() > 1)
    });
    std::fs::write(world.path("go"), "").unwrap();
    let runs = [first.wait(), second.wait()];
    runs[0].expect(0, "changed");
    runs[1].expect(0, "unchanged");
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn f10_many_runs_started_at_once_all_end_well() {
    let (world, _) = World::serving();
    let new = world.renew();
    world.configure(&[world.front().command("reload", &[world.counting_reload()])]);
    let runs: Vec<_> = (0..6).map(|_| world.start(&["deploy", "--json"])).collect();
    let runs: Vec<_> = runs.into_iter().map(deploy_e2e::Running::wait).collect();
    let outcomes = |wanted: &str| runs.iter().filter(|run| run.code == 0 && run.only()["outcome"] == wanted).count();
    assert_eq!((outcomes("changed"), outcomes("unchanged")), (1, 5), "{runs:#?}");
    assert_eq!(world.reloads(), 1);
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn f9_waiting_honours_the_time_limit_and_names_the_holder() {
    let (world, _) = World::serving();
    let new = world.renew();
    world.configure(&[world.front().command("reload", &waiting_reload(&world))]);
    let first = world.start(&["deploy", "--json"]);
    until("the first run is in the reload", || !in_reload(&world).is_empty());
    let holder = format!("process {}", first.pid());
    let run = world.run(&["deploy", "--json", "--timeout", "1s"]);
    run.expect(7, "locked").because("locked", &[&holder, "since "]);
    assert_eq!((run.only()["live"].as_str(), run.only()["error"]["retryable"].as_bool()), (Some("unchanged"), Some(true)));
    std::fs::write(world.path("go"), "").unwrap();
    first.wait().expect(0, "changed");
    world.assert_served(&new);
}

#[test]
fn another_target_with_the_same_files_waits_too() {
    let (world, _) = World::serving();
    world.renew();
    world.configure(&[world.front().command("reload", &waiting_reload(&world))]);
    let first = world.start(&["deploy", "--json"]);
    until("the first run is in the reload", || !in_reload(&world).is_empty());
    world.configure(&[world.target("alias", &world.fullchain(), &world.key())]);
    let run = world.run(&["deploy", "--json", "--timeout", "1s"]);
    run.expect(7, "locked").because("locked", &[&format!("process {}", first.pid())]);
    std::fs::write(world.path("go"), "").unwrap();
    first.wait().expect(0, "changed");
}

#[test]
fn a_lock_ends_with_its_process() {
    let (world, _) = World::serving();
    let new = world.renew();
    world.configure(&[world.front().command("reload", &waiting_reload(&world))]);
    let first = world.start(&["deploy", "--json"]);
    until("the first run is in the reload", || !in_reload(&world).is_empty());
    let hook = in_reload(&world);
    first.kill();
    for pid in hook {
        kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), Signal::KILL).ok();
    }
    world.configure(&[world.front()]);
    let run = world.run(&["deploy", "--json", "--timeout", "20s"]);
    assert_eq!(run.code, 0, "{run:#?}");
    world.assert_served(&new);
}

#[test]
fn independent_targets_whose_files_share_a_fresh_directory_all_succeed() {
    let world = World::new();
    world.renew();
    let targets: Vec<_> = (0..16)
        .map(|number| {
            let live = |ending: &str| world.path("live").join(format!("{number}.{ending}"));
            world
                .target(&format!("t{number}"), &live("crt"), &live("key"))
                .command("validate", &["true"])
                .command("reload", &["true".to_owned(), number.to_string()])
                .set("verify", "[]")
        })
        .collect();
    world.configure(&targets);
    let run = world.deploy();
    let failed: Vec<_> =
        run.document()["targets"].as_array().unwrap().iter().filter(|target| target["outcome"] != "changed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(run.code, 0);
}

//! Servers and commands that fail, hang, lie, or talk too much: the old certificate goes on being served.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use std::fs::Permissions;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use deploy_e2e::{NAME, Tree, World, assert_same, system, until};
use deploy_testkit::{NginxConfig, Request};

/// A shell command that no SIGTERM ends, recognisable by the world's own directory in its arguments.
fn stubborn(world: &World) -> [String; 4] {
    let script = "trap '' TERM; while :; do sleep 1000; done".to_owned();
    ["sh".to_owned(), "-c".to_owned(), script, marker(world)]
}

fn marker(world: &World) -> String {
    world.path("stubborn").to_str().unwrap().to_owned()
}

/// A reload that does `failure` once, and works afterwards.
fn failing_once(world: &World, failure: &str) -> [String; 1] {
    let flag = world.path("fail-once");
    std::fs::write(&flag, "").unwrap();
    let text = format!("if [ -e '{0}' ]; then rm '{0}'; {failure}; fi\nexec {1}", flag.display(), world.shell_reload());
    [world.script("fail-once", &text)]
}

#[test]
fn m1_a_key_that_does_not_match_leaves_everything_as_it_was() {
    let (world, old) = World::serving();
    let before = Tree::untouched(&world.path("live"));
    let new = world.issue(&Request::new(&[NAME]));
    world.put("www", &new.with_key_of(&old));
    world.configure(&[world.front().command("reload", &[world.counting_reload()])]);
    let run = world.deploy();
    run.expect(3, "rejected").because("material_rejected", &["private key"]);
    assert_eq!((run.only()["stage"].as_str(), run.only()["live"].as_str()), (Some("check"), Some("unchanged")));
    assert_same(&before, &Tree::untouched(&world.path("live")));
    assert_eq!(world.reloads(), 0);
    world.assert_served(&old);
}

#[test]
fn f2_a_refusing_validator_leaves_no_copy_of_the_key_however_often() {
    let (world, old) = World::serving();
    let new = world.renew();
    let before = world.live();
    let refusing = world.script("refuse", "echo 'the certificate is ugly' >&2\nexit 1");
    let reload = [world.counting_reload()];
    // It passes without the new files, so it is the new files that it refuses.
    let text = format!("if grep -q '{}' '{}'; then exec '{refusing}'; fi", pem_line(&new), world.fullchain().display());
    world.configure(&[world.front().command("validate", &[world.script("validate", &text)]).command("reload", &reload)]);
    for _ in 0..3 {
        let run = world.deploy();
        run.expect(3, "rejected").because("validate_failed", &["the certificate is ugly"]);
        assert_eq!(run.only()["live"], "unchanged");
        assert_same(&before, &world.live());
        world.assert_nothing_left();
    }
    assert_eq!(world.reloads(), 0);
    let line = pem_line_of(&new.key_pem);
    let state = Tree::of(&world.program.state);
    assert!(state.entries().all(|(_, _, _, bytes)| !contains(bytes, line.as_bytes())), "a copy of the key is left");
    world.assert_served(&old);
}

fn pem_line(issued: &deploy_testkit::Issued) -> String {
    pem_line_of(&issued.leaf_pem)
}

/// A line from the middle of a PEM text, which no other one has.
fn pem_line_of(pem: &str) -> String {
    let lines: Vec<&str> = pem.lines().filter(|line| !line.starts_with('-')).collect();
    lines[lines.len() / 2].to_owned()
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[test]
fn a_server_that_is_broken_already_is_named_as_such() {
    let (world, old) = World::serving();
    world.renew();
    let text = std::fs::read_to_string(world.nginx.config_path()).unwrap();
    world.nginx.set_config_text(&format!("{text}\nnonsense_directive on;\n"));
    let before = world.live();
    let run = world.deploy();
    run.expect(3, "rejected").because("target_already_broken", &["nonsense_directive"]);
    assert_same(&before, &world.live());
    world.assert_nothing_left();
    world.assert_served(&old);
}

#[test]
fn f3_a_failed_reload_is_rolled_back_and_the_old_one_is_served() {
    let (world, old) = World::serving();
    std::fs::set_permissions(world.key(), Permissions::from_mode(0o640)).unwrap();
    let before = world.live().visible();
    let inode = world.key().metadata().unwrap().ino();
    let new = world.renew();
    world.configure(&[world.front().command("reload", &failing_once(&world, "echo no >&2; exit 7"))]);
    let run = world.deploy();
    run.expect(4, "rolled_back").because("reload_failed", &["no"]);
    let report = run.only();
    assert_eq!((report["live"].as_str(), report["changed_files"].as_array().map(Vec::len)), (Some("rolled_back"), Some(0)));
    assert_eq!(report["fingerprint"]["served"], old.fingerprint);
    assert_same(&before, &world.live().visible());
    assert_eq!(world.key().metadata().unwrap().ino(), inode, "the old file itself is back");
    world.assert_nothing_left();
    world.assert_served(&old);

    world.deploy().expect(0, "changed");
    world.assert_served(&new);
}

#[test]
fn a_reload_that_always_fails_is_a_rollback_where_the_old_one_is_seen_served() {
    let (world, old) = World::serving();
    world.renew();
    world.configure(&[world.front().command("reload", &["false"])]);
    let run = world.deploy();
    run.expect(4, "rolled_back").because("reload_failed", &["`false`"]);
    assert!(run.only()["warnings"].to_string().contains("telling the service of it failed"), "{run:#?}");
    world.assert_on_disk(&old);
    world.assert_nothing_left();
    world.assert_served(&old);
}

#[test]
fn f4_a_server_that_the_reload_ends_needs_a_person_and_says_what_to_do() {
    let (mut world, old) = World::serving();
    world.renew();
    let reload = ends_the_server(&world, "exit 1");
    world.configure(&[world.front().command("reload", &[reload])]);
    let run = world.deploy();
    run.expect(5, "rollback_failed").because("rollback_failed", &["/tools/end"]);
    assert_eq!(run.only()["live"], "unknown");
    assert!(run.only()["error"]["next_step"].as_str().unwrap().contains("certdeploy recover"));
    world.assert_on_disk(&old);
    assert_eq!(world.journals().len(), 1, "the debt is kept");

    world.nginx.stop();
    world.nginx.launch().unwrap();
    world.configure(&[world.front()]);
    let run = world.run(&["recover", "--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
    world.assert_nothing_left();
    world.assert_on_disk(&old);
    world.assert_served(&old);
}

/// A command that ends nginx, waits for that, and does `then`.
fn ends_the_server(world: &World, then: &str) -> String {
    let pid = world.nginx.pid_file();
    let text = format!("kill -TERM $(cat '{0}')\nwhile [ -e '{0}' ]; do :; done\n{then}", pid.display());
    world.script("end", &text)
}

#[test]
fn a5_a_reload_that_only_claims_success_is_rolled_back() {
    let (world, old) = World::serving();
    let before = world.live().visible();
    let new = world.renew();
    world.configure(&[world.front().command("reload", &["true"]).text("verify_timeout", "1s")]);
    let run = world.deploy();
    run.expect(4, "rolled_back").because("verify_failed", &[]);
    assert_eq!(run.only()["fingerprint"]["wanted"], new.fingerprint);
    assert_eq!(run.only()["fingerprint"]["served"], old.fingerprint);
    assert_same(&before, &world.live().visible());
    world.assert_nothing_left();
    world.assert_served(&old);
}

#[test]
fn a5_a_busy_port_lets_check_and_reload_pass_and_is_rolled_back() {
    let (world, old) = World::serving();
    world.renew();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let line = format!("listen {} ssl;", taken.local_addr().unwrap());
    world.nginx.set_config(&NginxConfig::tls(NAME, &world.fullchain(), &world.key()).line(&line));
    world.configure(&[world.front().text("verify_timeout", "1s")]);
    let run = world.deploy();
    run.expect(4, "rolled_back").because("verify_failed", &[]);
    world.assert_on_disk(&old);
    world.assert_nothing_left();
    world.assert_served(&old);
}

#[test]
fn f22_files_of_a_first_deployment_that_fails_are_removed() {
    let world = World::new();
    world.renew();
    world.use_tls();
    let before = world.live().visible();
    world.configure(&[world.front().command("reload", &["false"]).text("verify_timeout", "1s")]);
    let run = world.deploy();
    assert!([4, 5].contains(&run.code), "{run:#?}");
    assert_same(&before, &world.live().visible());
    assert!(std::net::TcpStream::connect(world.nginx.address()).is_ok(), "nginx goes on with plain HTTP");
}

#[test]
fn f26_without_backups_a_failed_reload_is_rolled_back_all_the_same() {
    let (world, old) = World::serving_as(|target| target.set("backups", "0"));
    let before = world.live();
    world.renew();
    world.configure(&[world.front().set("backups", "0").command("reload", &failing_once(&world, "exit 1"))]);
    world.deploy().expect(4, "rolled_back");
    assert_same(&before, &world.live());
    world.assert_served(&old);
}

#[test]
fn f27_rollback_restores_the_mode_of_the_old_file_not_the_one_asked_for() {
    let (world, old) = World::serving();
    std::fs::set_permissions(world.key(), Permissions::from_mode(0o640)).unwrap();
    world.renew();
    let front = world.front().text("key_mode", "0600").command("reload", &failing_once(&world, "exit 1"));
    world.configure(&[front]);
    world.deploy().expect(4, "rolled_back");
    assert_eq!(world.key().metadata().unwrap().mode() & 0o7777, 0o640);
    world.assert_on_disk(&old);
}

#[test]
fn f35_somebody_elses_change_stops_the_rollback_and_is_not_overwritten() {
    let (world, old) = World::serving();
    world.renew();
    let foreign = format!("echo foreign >'{0}.f'; mv '{0}.f' '{0}'; exit 1", world.fullchain().display());
    world.configure(&[world.front().command("reload", &failing_once(&world, &foreign))]);
    let run = world.deploy();
    run.expect(5, "rollback_failed").because("rollback_failed", &[world.fullchain().to_str().unwrap()]);
    assert_eq!(run.only()["live"], "unknown");
    assert_eq!(std::fs::read_to_string(world.fullchain()).unwrap(), "foreign\n");
    world.assert_served(&old);
}

#[test]
fn f40_a_hanging_validator_is_ended_with_its_whole_process_group() {
    let (world, old) = World::serving();
    world.renew();
    let before = world.live();
    world.configure(&[world.front().limited("validate", &stubborn(&world), "1s")]);
    let run = world.deploy();
    run.expect(3, "rejected").because("validate_failed", &["did not end within 1s"]);
    assert_eq!(system::processes_with(&marker(&world)), [0; 0], "its processes are gone");
    assert_same(&before, &world.live());
    world.assert_nothing_left();
    world.assert_served(&old);
    // The lock is free.
    world.configure(&[world.front()]);
    world.deploy().expect(0, "changed");
}

#[test]
fn f40_a_hanging_reload_is_rolled_back() {
    let (world, old) = World::serving();
    world.renew();
    let hang = format!("exec sh -c 'trap \"\" TERM; while :; do sleep 1000; done' '{}'", marker(&world));
    let command = failing_once(&world, &hang);
    world.configure(&[world.front().limited("reload", &command, "1s")]);
    world.deploy().expect(4, "rolled_back").because("reload_failed", &["did not end within 1s"]);
    assert_eq!(system::processes_with(&marker(&world)), [0; 0], "its processes are gone");
    world.assert_on_disk(&old);
    world.assert_served(&old);
}

#[test]
fn a_validator_that_prints_a_gigabyte_costs_no_memory() {
    let (world, old) = World::serving();
    world.renew();
    let gigabyte = "head -c 1000000000 /dev/zero | tr '\\0' x; echo; echo the last words >&2; exit 1";
    // It passes where the old files are, or the server would be called broken.
    let new = world.path("source/www/fullchain.pem");
    let text = format!("if cmp -s '{}' '{}'; then {gigabyte}; fi", world.fullchain().display(), new.display());
    world.configure(&[world.front().command("validate", &[world.script("loud", &text)])]);
    let mut running = world.start(&["deploy", "--json"]);
    let mut peak = 0;
    while running.is_running() {
        peak = peak.max(peak_memory(running.pid()));
    }
    let run = running.wait();
    run.expect(3, "rejected").because("validate_failed", &["the last words"]);
    assert!(run.stdout.len() < 200_000, "{} bytes are reported", run.stdout.len());
    assert!(0 < peak && peak < 100_000, "{peak} kB");
    world.assert_served(&old);
}

/// `VmHWM` in kB.
fn peak_memory(pid: u32) -> u64 {
    let status = system::proc_file(pid, "status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a6_one_failing_target_does_not_stop_the_others() {
    let world = World::new();
    let issued = world.renew();
    world.use_tls();
    let other = |name: &str| world.path("live").join(name);
    let bad =
        world.target("bad", &other("bad.crt"), &other("bad.key")).command("validate", &["false"]).command("reload", &["true"]);
    world.configure(&[bad, world.front()]);
    let run = world.deploy();
    assert_eq!(run.code, 3, "{run:#?}");
    assert_eq!(run.target("bad")["outcome"], "rejected");
    assert_eq!(run.target("front")["outcome"], "changed", "{run:#?}");
    assert!(!other("bad.crt").exists());
    world.assert_served(&issued);
}

#[test]
fn a6_members_of_a_service_are_tried_singly_when_one_spoils_it() {
    let (world, old) = World::serving();
    let new = world.renew();
    // The second target's endpoint is somebody else's, who will never serve this certificate.
    let stranger = deploy_testkit::TlsServer::start(&old);
    let verify = format!("[{{ connect = \"{}\", server_name = \"{NAME}\" }}]", stranger.address());
    let second = world
        .target("second", &world.path("live/second.crt"), &world.path("live/second.key"))
        .set("verify", verify)
        .text("verify_timeout", "1s");
    world.configure(&[world.front(), second]);
    let run = world.deploy();
    assert_eq!(run.code, 4, "{run:#?}");
    assert_eq!(run.target("front")["outcome"], "changed", "{run:#?}");
    assert_eq!(run.target("second")["outcome"], "rolled_back", "{run:#?}");
    assert!(!world.path("live/second.key").exists());
    world.assert_on_disk(&new);
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn f29_rollback_runs_to_its_end_although_the_time_is_over() {
    let (world, old) = World::serving();
    world.renew();
    let command = failing_once(&world, &format!("exec sleep 1000 '{}'", "1000"));
    world.configure(&[world.front().command("reload", &command)]);
    world.run(&["deploy", "--json", "--timeout", "2s"]).expect(4, "rolled_back");
    world.assert_on_disk(&old);
    world.assert_served(&old);
    world.assert_nothing_left();
}

#[test]
fn a_server_that_the_reload_ends_is_started_again_where_that_is_configured() {
    let (mut world, old) = World::serving();
    world.renew();
    let reload = ends_the_server(&world, "exit 1");
    let mut start = world.nginx.validate_command();
    start.remove(1);
    let start: Vec<String> = start.iter().map(|word| format!("'{word}'")).collect();
    // The configuration says `daemon off`, so that the test kit is its parent; here it has to go into the background.
    let text = format!(
        "setsid {} >/dev/null 2>&1 </dev/null &\nwhile [ ! -s '{}' ]; do :; done",
        start.join(" "),
        world.nginx.pid_file().display()
    );
    let restart = world.script("restart", &text);
    world.configure(&[world.front().command("reload", &[reload]).command("restart", &[restart])]);
    let run = world.deploy();
    let served = world.served();
    let started = std::fs::read_to_string(world.nginx.pid_file()).ok().and_then(|pid| pid.trim().parse().ok());
    if let Some(pid) = started.and_then(rustix::process::Pid::from_raw) {
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        until("the server is gone", || !world.nginx.pid_file().exists());
    }
    world.nginx.stop();
    run.expect(4, "rolled_back");
    assert_eq!(served.as_ref(), Ok(&old.fingerprint));
    world.assert_on_disk(&old);
}

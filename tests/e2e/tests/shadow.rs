//! nginx started in private with the new files, before anything live changes (rung V4).
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests with a real server")]

use deploy_e2e::{Tree, World, assert_same, system};
use deploy_testkit::NginxConfig;

/// nginx in the foreground, with this world's configuration.
fn shadow(world: &World) -> Vec<String> {
    let mut command = world.nginx.validate_command();
    command.retain(|word| word != "-t");
    command
}

#[test]
fn nginx_that_serves_the_new_files_in_private_takes_part_in_the_proof_and_leaves_no_trace() {
    system::needs_root("private networks");
    let (world, _) = World::serving();
    let new = world.renew();
    world.configure(&[world.front().command("shadow", &shadow(&world))]);
    let pid = std::fs::read(world.nginx.pid_file()).unwrap();
    let run = world.run(&["deploy", "--json"]);
    run.expect(0, "changed");
    assert_eq!(run.only()["degraded"].as_array().map(Vec::len), Some(0), "{run:#?}");
    assert_eq!(std::fs::read(world.nginx.pid_file()).unwrap(), pid, "the private one's pid file was diverted");
    world.assert_served(&new);
}

#[test]
fn a_server_name_that_only_another_pair_serves_is_found_before_anything_changes() {
    system::needs_root("private networks");
    let (world, old) = World::serving();
    // The configuration that is on the disk serves another pair for this name. `nginx -t` accepts it.
    let other = world.issue(&deploy_testkit::Request::new(&["www.example.test"]));
    let directory = world.path("other");
    std::fs::create_dir(&directory).unwrap();
    let (certificate, key) = deploy_testkit::write_pair(&directory, &other);
    world.nginx.set_config(&NginxConfig::tls("www.example.test", &certificate, &key));
    let before = Tree::of(&world.path("live"));
    world.renew();
    world.configure(&[world.front().command("shadow", &shadow(&world))]);
    let run = world.run(&["deploy", "--json"]);
    run.expect(3, "rejected").because("validate_failed", &["private copy", &other.fingerprint]);
    assert_same(&before, &Tree::of(&world.path("live")));
    world.assert_served(&old);
}

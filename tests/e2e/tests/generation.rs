//! The layout `generation` with a real nginx: deployed, renewed, failed, killed, rolled back.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::PathBuf;

use deploy_e2e::{NAME, TargetConfig, Tree, World, assert_same, quoted};
use deploy_testkit::{Issued, NginxConfig};

fn directory(world: &World) -> PathBuf {
    world.path("live/www")
}

fn file(world: &World, name: &str) -> PathBuf {
    directory(world).join("current").join(name)
}

fn front(world: &World) -> TargetConfig {
    let generation = quoted(directory(world).to_str().unwrap());
    let target = world.target("front", &file(world, "www.crt"), &file(world, "www.key"));
    target.set("layout", format!("{{ generation = {generation} }}"))
}

/// An nginx that is to serve from the generations, of which there are none yet.
fn prepared() -> (World, Issued) {
    let world = World::new();
    let issued = world.renew();
    world.nginx.set_config(&NginxConfig::tls(NAME, &file(&world, "www.crt"), &file(&world, "www.key")));
    world.configure(&[front(&world)]);
    (world, issued)
}

/// The same, with the first one deployed.
fn serving() -> (World, Issued) {
    let (world, issued) = prepared();
    world.deploy().expect(0, "changed");
    (world, issued)
}

#[track_caller]
fn assert_on_disk(world: &World, issued: &Issued) {
    assert!(std::fs::read(file(world, "www.crt")).unwrap() == issued.fullchain_pem.as_bytes(), "another certificate");
    assert!(std::fs::read(file(world, "www.key")).unwrap() == issued.key_pem.as_bytes(), "another key");
}

fn current(world: &World) -> String {
    std::fs::read_link(directory(world).join("current")).unwrap().into_os_string().into_string().unwrap()
}

#[test]
fn first_deployment_and_renewal_are_checked_at_their_final_paths_and_served() {
    let (world, first) = prepared();
    let plan = world.run(&["plan", "--json"]);
    assert_eq!((plan.code, plan.only()["validated"].as_str()), (0, Some("V3")), "{plan:#?}");
    assert!(!directory(&world).exists(), "a dry run makes nothing");
    for issued in [first, world.issue(&deploy_testkit::Request::new(&[NAME]))] {
        world.put("www", &issued);
        let run = world.deploy();
        run.expect(0, "changed");
        let report = run.only();
        assert_eq!(
            (report["validated"].as_str(), report["degraded"].as_array().map(Vec::len)),
            (Some("V6"), Some(0)),
            "{run:#?}"
        );
        assert_eq!(report["changed_files"].as_array().map(Vec::len), Some(2));
        world.assert_served(&issued);
        assert_on_disk(&world, &issued);
        world.assert_nothing_left();
    }
    assert_eq!(current(&world), "generation-00000002");
    let mode = |path: PathBuf| path.metadata().unwrap().mode() & 0o7777;
    assert_eq!(
        [mode(directory(&world).join("current")), mode(file(&world, "www.crt")), mode(file(&world, "www.key"))],
        [0o755, 0o644, 0o600]
    );
    let before = Tree::untouched(&world.path("live"));
    world.deploy().expect(0, "unchanged");
    assert_same(&before, &Tree::untouched(&world.path("live")));
}

#[test]
fn a_reload_that_fails_flips_back_and_the_old_certificate_is_served() {
    let (world, old) = serving();
    let before = world.live();
    world.renew();
    world.configure(&[front(&world).command("reload", &["false"])]);
    world.deploy().expect(4, "rolled_back");
    assert_same(&before, &world.live());
    world.assert_served(&old);
    world.assert_nothing_left();
    world.configure(&[front(&world)]);
    world.deploy().expect(0, "changed");
}

#[test]
fn what_nginx_refuses_is_never_flipped_to() {
    let (world, old) = serving();
    let before = world.live();
    world.renew();
    let refuse = world.script(
        "refuse",
        &format!("cmp -s '{}' '{}'", file(&world, "www.crt").display(), {
            let wanted = world.path("wanted");
            std::fs::write(&wanted, &old.fullchain_pem).unwrap();
            wanted.display().to_string()
        }),
    );
    world.configure(&[front(&world).command("validate", &[refuse])]);
    let run = world.deploy();
    run.expect(3, "rejected");
    assert_eq!(run.only()["error"]["kind"], "validate_failed", "{run:#?}");
    assert_same(&before, &world.live());
    world.assert_served(&old);
}

#[test]
fn rollback_deploys_the_generation_before_and_holds() {
    let (world, old) = serving();
    std::fs::set_permissions(file(&world, "www.key"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let new = world.renew();
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
    world.run(&["rollback", "front", "--json"]).expect(0, "changed");
    world.assert_served(&old);
    assert_on_disk(&world, &old);
    assert_eq!(file(&world, "www.key").metadata().unwrap().mode() & 0o7777, 0o640);
    assert_eq!(current(&world), "generation-00000003");
    let status = world.run(&["status", "--json"]);
    assert_eq!(status.only()["hold"], new.fingerprint, "{status:#?}");
    world.deploy().expect(0, "unchanged");
    world.run(&["deploy", "--json", "--force"]).expect(0, "changed");
    world.assert_served(&new);
    world.assert_nothing_left();
}

#[test]
fn a_target_of_single_files_moves_to_generations() {
    let (world, old) = World::serving();
    // As the documentation says: other paths in both configurations, then a deployment.
    world.nginx.set_config(&NginxConfig::tls(NAME, &file(&world, "www.crt"), &file(&world, "www.key")));
    world.configure(&[front(&world)]);
    world.deploy().expect(0, "changed");
    world.assert_served(&old);
    std::fs::remove_file(world.fullchain()).unwrap();
    std::fs::remove_file(world.key()).unwrap();
    let new = world.renew();
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
}

#[test]
fn a_directory_of_other_files_is_refused_with_the_way_out() {
    let (world, old) = World::serving();
    let place = world.path("live");
    let target = world.target("other", &place.join("current/www.crt"), &place.join("current/www.key"));
    world.configure(&[target.set("layout", format!("{{ generation = {} }}", quoted(place.to_str().unwrap())))]);
    let before = world.live();
    let run = world.deploy();
    run.expect(3, "rejected");
    assert!(run.only()["error"]["next_step"].is_string(), "{run:#?}");
    assert_same(&before, &world.live());
    world.assert_served(&old);
}

#[test]
fn an_ordinary_user_deploys_and_renews_generations() {
    let (world, user) = World::of_user();
    let first = world.renew();
    world.nginx.set_config(&NginxConfig::tls(NAME, &file(&world, "www.crt"), &file(&world, "www.key")));
    world.configure(&[front(&world)]);
    let run = world.deploy();
    run.expect(0, "changed");
    world.assert_served(&first);
    let second = world.renew();
    world.deploy().expect(0, "changed");
    world.assert_served(&second);
    assert_eq!(file(&world, "www.key").metadata().unwrap().uid(), user);
    world.assert_nothing_left();
}

#[test]
fn a_path_outside_of_current_is_a_mistake_in_the_configuration() {
    let (world, _) = prepared();
    world.configure(&[front(&world).path("key", &directory(&world).join("www.key"))]);
    let run = world.run(&["check-config"]);
    assert_eq!(run.code, 2, "{run:#?}");
    let said = format!("{run:#?}");
    assert!(said.contains("is not directly in"), "{said}");
}

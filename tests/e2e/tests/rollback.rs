//! `rollback`: an earlier deployment comes back, and is held.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use deploy_e2e::{Tree, World, assert_same};
use deploy_testkit::Issued;

/// A world with a renewal after the first certificate.
fn renewed() -> (World, Issued, Issued) {
    let (world, old) = World::serving();
    std::fs::set_permissions(world.key(), Permissions::from_mode(0o640)).unwrap();
    let new = world.renew();
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
    (world, old, new)
}

#[test]
fn rollback_brings_bytes_and_modes_back_and_holds() {
    let (world, old) = World::serving();
    std::fs::set_permissions(world.key(), Permissions::from_mode(0o640)).unwrap();
    let before = world.live().visible();
    let new = world.renew();
    world.configure(&[world.front().text("key_mode", "0600")]);
    world.deploy().expect(0, "changed");
    assert_eq!(world.key().metadata().unwrap().mode() & 0o7777, 0o600);
    let run = world.run(&["rollback", "front", "--json"]);
    run.expect(0, "changed");
    assert_eq!(run.only()["fingerprint"]["served"], old.fingerprint);
    assert_same(&before, &world.live().visible());
    world.assert_served(&old);
    world.assert_nothing_left();
    assert_eq!((world.key().metadata().unwrap().nlink(), world.fullchain().metadata().unwrap().nlink()), (1, 1));

    let status = world.run(&["status", "--json"]);
    assert_eq!(status.only()["hold"], new.fingerprint, "{status:#?}");
    assert_eq!(status.only()["on_disk"], old.fingerprint);
    let run = world.deploy();
    run.expect(0, "unchanged");
    assert!(run.only()["warnings"].to_string().contains("held"), "{run:#?}");
    world.assert_served(&old);
}

#[test]
fn a_hold_ends_with_a_new_certificate() {
    let (world, _, _) = renewed();
    world.run(&["rollback", "front", "--json"]).expect(0, "changed");
    let newest = world.renew();
    world.deploy().expect(0, "changed");
    world.assert_served(&newest);
    assert!(world.run(&["status", "--json"]).only()["hold"].is_null());
    world.deploy().expect(0, "unchanged");
}

#[test]
fn a_hold_ends_with_force() {
    let (world, _, new) = renewed();
    world.run(&["rollback", "front", "--json"]).expect(0, "changed");
    world.run(&["deploy", "--json", "--force"]).expect(0, "changed");
    world.assert_served(&new);
    assert!(world.run(&["status", "--json"]).only()["hold"].is_null());
}

#[test]
fn a_set_can_be_chosen_by_its_id() {
    let (world, first) = World::serving();
    for _ in 0..2 {
        world.renew();
        world.deploy().expect(0, "changed");
    }
    let status = world.run(&["status", "--json"]);
    let sets = status.only()["sets"].as_array().unwrap();
    let set = sets.iter().find(|set| set["fingerprint"] == first.fingerprint).unwrap_or_else(|| panic!("{status:#?}"));
    world.run(&["rollback", "front", "--to", set["id"].as_str().unwrap(), "--json"]).expect(0, "changed");
    world.assert_on_disk(&first);
    world.assert_served(&first);
}

#[test]
fn rollback_to_an_older_certificate_is_no_regress() {
    let (world, _) = World::serving();
    let earlier = world.issue(&deploy_testkit::Request::new(&[deploy_e2e::NAME]).days_from_now(-30, 30));
    world.put("www", &earlier);
    world.run(&["deploy", "--json", "--force"]).expect(0, "changed");
    world.renew();
    world.deploy().expect(0, "changed");
    world.run(&["rollback", "front", "--json"]).expect(0, "changed");
    world.assert_served(&earlier);
}

#[test]
fn what_is_not_there_cannot_be_gone_back_to() {
    let (world, _, new) = renewed();
    let before = Tree::untouched(&world.path("live"));
    let run = world.run(&["rollback", "front", "--to", "4711", "--json"]);
    assert!([2, 3].contains(&run.code), "{run:#?}");
    assert_same(&before, &Tree::untouched(&world.path("live")));
    world.assert_served(&new);
    world.configure(&[world.front().set("backups", "0")]);
    world.renew();
    world.deploy().expect(0, "changed");
    let run = world.run(&["rollback", "front", "--json"]);
    assert_eq!(run.code, 3, "{run:#?}");
    assert!(run.only()["error"]["next_step"].is_string(), "{run:#?}");
}

#[test]
fn rollback_of_a_first_deployment_removes_its_files() {
    let world = World::new();
    world.renew();
    world.configure(&[world.front().command("validate", &["true"]).command("reload", &["true"]).set("verify", "[]")]);
    world.deploy().expect(0, "changed");
    let run = world.run(&["rollback", "front", "--json"]);
    run.expect(0, "changed");
    assert_eq!(world.live().visible().paths().count(), 1, "only the directory is left");
}

#[test]
fn a_rollback_whose_reload_fails_is_undone() {
    let (world, _, new) = renewed();
    let before = world.live().visible();
    world.configure(&[world.front().command("reload", &["false"])]);
    let run = world.run(&["rollback", "front", "--json"]);
    run.expect(4, "rolled_back");
    assert_same(&before, &world.live().visible());
    world.assert_on_disk(&new);
    world.assert_served(&new);
    world.assert_nothing_left();
}

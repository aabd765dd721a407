//! An ordinary user: with user namespaces, the checker sees the new files; without them, the report says what was not seen.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use deploy_e2e::{World, assert_same};

/// Starts its arguments as the user that is the first of them, in a user namespace in which no other namespace can be made.
/// The identity is that of the host: only root outside can write such a map.
const NO_NAMESPACES: &str = r#"
user="$1"; shift
unshare --user tail -f "$0" >/dev/null &
holder=$!
trap 'kill $holder' EXIT
own=$(readlink /proc/self/ns/user)
until there=$(readlink /proc/$holder/ns/user) && [ "$there" != "$own" ]; do :; done
echo '0 0 65536' >/proc/$holder/gid_map
echo '0 0 65536' >/proc/$holder/uid_map
nsenter --user --target $holder sh -c 'echo 0 >/proc/sys/user/max_user_namespaces && echo 0 >/proc/sys/user/max_mnt_namespaces &&
    user="$1" && shift && exec setpriv --reuid="$user" --regid="$user" --clear-groups "$@"' sh "$user" "$@"
"#;

#[test]
fn a_user_with_user_namespaces_deploys_and_the_checker_sees_the_new_files() {
    let (world, user) = World::of_user();
    let issued = world.renew();
    world.use_tls();
    world.configure(&[world.front()]);
    let run = world.deploy();
    run.expect(0, "changed");
    assert_eq!(run.only()["degraded"].as_array().map(Vec::len), Some(0), "{run:#?}");
    world.assert_served(&issued);
    world.assert_on_disk(&issued);
    world.assert_nothing_left();
    let key = world.key().metadata().unwrap();
    assert_eq!((key.uid(), key.gid(), key.mode() & 0o7777), (user, user, 0o600));
    let new = world.renew();
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
    world.deploy().expect(0, "unchanged");
}

#[test]
fn a_user_without_user_namespaces_deploys_and_is_told_what_was_not_checked() {
    let (mut world, user) = World::of_user();
    let old = world.serve_as_user();
    let wrapper = world.script("no-namespaces", NO_NAMESPACES);
    let new = world.renew();
    world.program.user = None;
    world.program.wrapper = vec![wrapper, user.to_string()];
    let run = world.run(&["plan", "--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert_eq!(run.only()["validated"], "V2", "{run:#?}");
    let run = world.deploy();
    run.expect(0, "changed");
    let degraded = run.only()["degraded"].as_array().unwrap();
    assert!(degraded.iter().any(|entry| entry["why"].as_str().is_some_and(|why| !why.is_empty())), "{run:#?}");
    world.assert_served(&new);
    world.assert_on_disk(&new);
    world.assert_nothing_left();
    assert_ne!(old.fingerprint, new.fingerprint);
}

#[test]
fn f8_an_owner_that_cannot_be_kept_is_refused_before_anything_is_staged() {
    let (world, user) = World::of_user();
    let old = world.serve_as_user();
    world.renew();
    std::os::unix::fs::chown(world.fullchain(), Some(0), Some(0)).unwrap();
    let before = world.live();
    let run = world.deploy();
    run.expect(3, "rejected").because("permission_denied", &[&format!("user {user} may not give files away")]);
    assert_same(&before, &world.live());
    world.assert_nothing_left();
    world.assert_served(&old);
}

#[test]
fn state_of_an_ordinary_user_is_private() {
    let (world, user) = World::of_user();
    let issued = world.serve_as_user();
    world.assert_on_disk(&issued);
    for directory in [world.program.state.clone(), world.path("live/.certdeploy")] {
        let metadata = directory.metadata().unwrap();
        assert_eq!((metadata.uid(), metadata.permissions().mode() & 0o777), (user, 0o700), "{}", directory.display());
    }
}

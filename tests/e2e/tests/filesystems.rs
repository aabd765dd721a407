//! Links, mounts, full disks, attributes: each has a defined outcome.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

use deploy_e2e::system::{Mount, needs_root, tool};
use deploy_e2e::{World, assert_same};
use deploy_testkit::Issued;

#[track_caller]
fn rejected(world: &World, old: &Issued, kind: &str, words: &[&str]) {
    let before = world.live();
    world.deploy().expect(3, "rejected").because(kind, words);
    assert_same(&before, &world.live());
    world.assert_nothing_left();
    world.assert_served(old);
}

#[test]
fn f30_a_symbolic_link_stays_one_and_the_file_behind_it_changes() {
    let (world, _) = World::serving();
    let behind = world.path("behind");
    std::fs::create_dir(&behind).unwrap();
    for (path, name) in [(world.fullchain(), "real.crt"), (world.key(), "real.key")] {
        std::fs::rename(&path, behind.join(name)).unwrap();
        symlink(behind.join(name), &path).unwrap();
    }
    let new = world.renew();
    world.deploy().expect(0, "changed");
    assert_eq!(world.fullchain().read_link().unwrap(), behind.join("real.crt"));
    assert_eq!(world.key().read_link().unwrap(), behind.join("real.key"));
    world.assert_on_disk(&new);
    world.assert_served(&new);
    world.assert_nothing_left();
    assert!(behind.join(".certdeploy").is_dir(), "backups lie beside the real files");
}

#[test]
fn f30_links_can_be_refused_or_replaced() {
    let (world, old) = World::serving();
    let real = world.path("real.key");
    std::fs::rename(world.key(), &real).unwrap();
    symlink(&real, world.key()).unwrap();
    let new = world.renew();
    world.configure(&[world.front().text("links", "refuse")]);
    rejected(&world, &old, "plan_invalid", &["link"]);
    world.configure(&[world.front().text("links", "replace")]);
    world.deploy().expect(0, "changed");
    assert!(world.key().symlink_metadata().unwrap().is_file());
    assert!(std::fs::read_to_string(&real).unwrap() == old.key_pem, "the file behind the link is left alone");
    world.assert_served(&new);
}

#[test]
fn f30_a_dangling_link_is_refused_or_filled_but_never_replaced() {
    let (world, old) = World::serving();
    let behind = world.path("behind.crt");
    let link = world.path("live/dangling.crt");
    symlink(&behind, &link).unwrap();
    world.configure(&[world.front().path("fullchain", &link)]);
    let run = world.deploy();
    assert_eq!(link.read_link().unwrap(), behind, "{run:#?}");
    match run.code {
        0 => assert!(std::fs::read_to_string(&behind).unwrap() == old.fullchain_pem),
        code => assert_eq!((code, behind.exists()), (3, false), "{run:#?}"),
    }
    world.assert_nothing_left();
}

#[test]
fn f31_a_file_with_other_hard_links_is_refused_with_advice() {
    let (world, old) = World::serving();
    std::fs::hard_link(world.key(), world.path("other-name")).unwrap();
    world.renew();
    rejected(&world, &old, "plan_invalid", &["hard links"]);
}

#[test]
fn f32_a_single_file_bind_mount_is_refused_with_advice() {
    let (world, old) = World::serving();
    let _mount = Mount::bind(&world.fullchain(), &world.fullchain(), false);
    world.renew();
    rejected(&world, &old, "plan_invalid", &["mount point"]);
}

#[test]
fn f32_a_single_file_bind_mount_is_written_in_place_where_that_is_allowed() {
    let (world, _) = World::serving();
    // As a container engine does it: the file outside keeps its name, and the mount is another one for it.
    let outside = world.path("outside.crt");
    std::fs::copy(world.fullchain(), &outside).unwrap();
    let _mount = Mount::bind(&outside, &world.fullchain(), false);
    let new = world.renew();
    world.configure(&[world.front().set("allow_in_place", "true")]);
    let run = world.deploy();
    run.expect(0, "changed");
    assert!(run.only()["degraded"].to_string().contains("in place"), "{run:#?}");
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), new.fullchain_pem);
    world.assert_served(&new);
    world.deploy().expect(0, "unchanged");
    world.run(&["rollback", "front", "--json"]).expect(0, "changed");
    assert_ne!(std::fs::read_to_string(&outside).unwrap(), new.fullchain_pem);
}

#[test]
fn f33_an_immutable_file_is_refused_with_advice() {
    needs_root("it marks a file immutable");
    let (world, old) = World::serving();
    world.renew();
    let key = world.key();
    tool("e2fsprogs", &["chattr", "+i", key.to_str().unwrap()]);
    let before = world.live();
    let run = world.deploy();
    let after = world.live();
    tool("e2fsprogs", &["chattr", "-i", key.to_str().unwrap()]);
    run.expect(3, "rejected").because("plan_invalid", &["immutable"]);
    assert_same(&before, &after);
    world.assert_nothing_left();
    world.assert_served(&old);
    world.deploy().expect(0, "changed");
}

#[test]
fn f33_attributes_and_access_lists_survive() {
    needs_root("it gives rights away");
    let (world, _) = World::serving();
    let key = world.key();
    xattr::set(&key, "user.comment", b"kept by the operator").expect("this file system has extended attributes");
    tool("acl", &["setfacl", "-m", "u:1234:r", key.to_str().unwrap()]);
    let list = xattr::get(&key, "system.posix_acl_access").unwrap();
    assert!(list.is_some(), "this file system has access lists");
    let mode = key.metadata().unwrap().mode();
    let new = world.renew();
    world.deploy().expect(0, "changed");
    world.assert_on_disk(&new);
    assert_eq!(xattr::get(&key, "user.comment").unwrap().as_deref(), Some(&b"kept by the operator"[..]));
    assert_eq!(xattr::get(&key, "system.posix_acl_access").unwrap(), list);
    assert_eq!(key.metadata().unwrap().mode(), mode);

    world.run(&["rollback", "front", "--json"]).expect(0, "changed");
    assert_eq!(xattr::get(&key, "user.comment").unwrap().as_deref(), Some(&b"kept by the operator"[..]));
    assert_eq!(xattr::get(&key, "system.posix_acl_access").unwrap(), list);
}

#[test]
fn f33_a_setgid_directory_keeps_its_mode_and_its_files_their_group() {
    needs_root("it gives a directory away");
    let (world, _) = World::serving();
    let live = world.path("live");
    std::os::unix::fs::chown(&live, None, Some(1235)).unwrap();
    std::fs::set_permissions(&live, Permissions::from_mode(0o2750)).unwrap();
    world.renew();
    world.deploy().expect(0, "changed");
    assert_eq!(live.metadata().unwrap().mode() & 0o7777, 0o2750);
    assert_eq!(world.key().metadata().unwrap().gid(), 0, "an existing file keeps its group");
    let hidden = live.join(".certdeploy").metadata().unwrap();
    assert_eq!(hidden.mode() & 0o777, 0o700);
}

#[test]
fn f36_a_full_file_system_leaves_nothing_and_says_so() {
    let world = World::new();
    let _mount = Mount::tmpfs(&world.path("live"), "128k");
    let old = world.renew();
    world.use_tls();
    world.configure(&[world.front()]);
    world.deploy().expect(0, "changed");
    let filler = world.path("live/filler");
    let mut size = 0;
    for step in [65536, 4096, 512, 1] {
        while std::fs::write(&filler, vec![0; size + step]).is_ok() {
            size += step;
        }
    }
    drop(std::fs::write(&filler, vec![0; size]));
    let new = world.renew();
    rejected(&world, &old, "stage_failed", &["No space left"]);
    std::fs::remove_file(&filler).unwrap();
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
}

#[test]
fn f36_a_read_only_file_system_is_refused() {
    let (world, old) = World::serving();
    let live = world.path("live");
    let mount = Mount::bind(&live, &live, true);
    let new = world.renew();
    let before = world.live();
    let run = world.deploy();
    run.expect(3, "rejected");
    let message = run.only()["error"]["message"].as_str().unwrap();
    assert!(message.contains("ead-only"), "{message}");
    assert_same(&before, &world.live());
    world.assert_nothing_left();
    world.assert_served(&old);
    drop(mount);
    world.deploy().expect(0, "changed");
    world.assert_served(&new);
}

#[test]
fn f38_ten_renewals_leave_three_backups_and_nothing_else_to_be_seen() {
    let (world, _) = World::serving();
    std::fs::write(world.path("live/www.key.old"), "somebody else's\n").unwrap();
    let visible = || world.live().visible().paths().count();
    let before = visible();
    for _ in 0..5 {
        world.renew();
        world.deploy().expect(0, "changed");
    }
    assert_eq!(visible(), before, "a server that loads the directory sees the same names");
    let live = world.live();
    let backups = live.paths().filter(|path| path.extension().is_some_and(|ending| ending == "old"));
    assert_eq!(backups.count(), 3 * 2 + 1, "F11: three deployments of two files, and what is not ours (F13)");
    let status = world.run(&["status", "--json"]);
    assert_eq!(status.only()["sets"].as_array().map(Vec::len), Some(3));
}

//! What lies there already when the program comes: each is refused, by name, and nothing is touched.

use std::os::unix::fs::{PermissionsExt as _, chown, symlink};
use std::path::Path;

use deploy_e2e::system::{Mount, needs_root};
use deploy_proof::Tally;
use deploy_proof::watch::OTHER;

use super::{SECRET, Scene, write};

/// What it is, how it is put there, what the error says of it.
type Case = (&'static str, fn(&Scene, &Path), &'static [&'static str]);

fn own(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    chown(path, Some(OTHER), Some(OTHER)).unwrap();
}

/// In the place of `.certdeploy`.
const HIDDEN: [Case; 5] = [
    ("a link", |scene, hidden| symlink(scene.site.path("victims/.certdeploy"), hidden).unwrap(), &[".certdeploy"]),
    (
        "open to all",
        |_, hidden| std::fs::create_dir(hidden).map(|()| own(hidden, 0o777)).unwrap(),
        &["must belong to user 0", "0777"],
    ),
    (
        "private",
        |_, hidden| std::fs::create_dir(hidden).map(|()| own(hidden, 0o700)).unwrap(),
        &["must belong to user 0", "65534"],
    ),
    ("a file", |_, hidden| write(hidden, SECRET, 0o600), &[".certdeploy"]),
    ("a pipe", |_, hidden| nix::unistd::mkfifo(hidden, nix::sys::stat::Mode::S_IRWXU).unwrap(), &[".certdeploy"]),
];

/// In the place of the key.
const DESTINATION: [Case; 4] = [
    ("a link to root's secret", |scene, key| symlink(scene.site.path("victims/secret"), key).unwrap(), &["link", "not followed"]),
    ("a link to another key", |scene, key| symlink(scene.site.path("victims/www.key"), key).unwrap(), &["link", "not followed"]),
    ("a pipe", |_, key| nix::unistd::mkfifo(key, nix::sys::stat::Mode::S_IRWXU).unwrap(), &["pipe"]),
    ("a second name", |scene, key| std::fs::hard_link(scene.site.tls().join("neighbour"), key).unwrap(), &["hard links"]),
];

#[test]
fn what_another_user_has_prepared_is_refused_by_name() {
    needs_root("it deploys into another user's directory");
    let mut tally = Tally::new("adversary/prepared");
    for (place, cases) in [(".certdeploy", &HIDDEN[..]), ("www.key", &DESTINATION)] {
        for (name, prepare, words) in cases {
            let scene = Scene::new(false);
            scene.site.renew();
            prepare(&scene, &scene.directory().join(place));
            refused(&mut tally, &scene, &format!("{place}: {name}"), words);
        }
    }
    tally.finish();
}

#[test]
fn a_hidden_directory_on_another_mount_is_refused() {
    needs_root("it mounts a file system");
    let mut tally = Tally::new("adversary/another mount");
    let scene = Scene::new(false);
    scene.site.renew();
    let hidden = scene.directory().join(".certdeploy");
    std::fs::create_dir(&hidden).unwrap();
    let _mount = Mount::tmpfs(&hidden, "1m");
    own_by_root(&hidden);
    refused(&mut tally, &scene, "another mount", &["file system"]);
    tally.finish();
}

fn own_by_root(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

#[test]
fn a_directory_that_is_another_users_link_is_refused() {
    needs_root("it deploys into another user's directory");
    let mut tally = Tally::new("adversary/parent");
    let scene = Scene::new(true);
    scene.site.renew();
    std::fs::remove_dir(scene.directory()).unwrap();
    symlink(scene.site.path("victims"), scene.directory()).unwrap();
    refused(&mut tally, &scene, "the directory is a link", &["symbolic link that another user could have made"]);
    // The owner of a link says nothing where another user can move it.
    std::os::unix::fs::lchown(scene.directory(), Some(OTHER), Some(OTHER)).unwrap();
    refused(&mut tally, &scene, "and is his", &["symbolic link that another user could have made"]);
    tally.finish();
}

#[test]
fn owner_and_mode_are_not_changed_in_place_in_another_users_directory() {
    use std::os::unix::fs::MetadataExt as _;
    needs_root("it deploys into another user's directory");
    let scene = Scene::new(false);
    scene.site.renew();
    scene.site.deploy().expect(0, "changed");
    let key = scene.directory().join("www.key");
    let before = key.metadata().unwrap().ino();
    // Somebody holds the old file open, or has another file ready to take its place: a new one is neither.
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    scene.site.deploy().expect(0, "changed");
    let after = key.metadata().unwrap();
    assert!(after.ino() != before && after.mode() & 0o007 == 0, "{after:?}");
}

fn refused(tally: &mut Tally, scene: &Scene, name: &str, words: &[&str]) {
    let before = deploy_e2e::Tree::of(&scene.site.tls());
    for arguments in [&["deploy", "--json"][..], &["deploy", "--json", "--force"]] {
        let run = scene.site.run(arguments);
        let error = run.only()["error"].clone();
        let (message, step) = (error["message"].to_string(), error["next_step"].as_str().unwrap_or_default());
        let said = words.iter().all(|word| message.contains(word)) && !step.is_empty();
        tally.add("attacks", 1);
        tally.expect(run.code == 3 && said, || format!("{name}: {run:#?}"));
        tally.expect(before == deploy_e2e::Tree::of(&scene.site.tls()), || format!("{name}: something was changed"));
    }
    scene.violations(name).into_iter().filter(|what| !what.contains(".certdeploy holds")).for_each(|what| tally.violation(what));
}

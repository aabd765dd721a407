//! The operator's rollback, from the outside: what stood there comes back as it was, whatever it was.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files"
)]

mod common;

use std::fs;
use std::os::unix::fs::symlink;
use std::sync::Arc;

use async_trait::async_trait;
use common::World;
use deploy_core::certificate::PemFiles;
use deploy_core::{
    Capabilities, Certificate, Context, Deployment, Error, ErrorKind, Hooks, Job, LinkPolicy, Outcome, Plan, PlanFile, Recovery,
    Reload, Report, Role, Target, Verify, rollback,
};

#[derive(Debug)]
struct HooksOnly(Hooks);

#[async_trait]
impl Target for HooksOnly {
    fn capabilities(&self) -> Capabilities {
        Capabilities::FILES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.0.clone())
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Err(Error::new(ErrorKind::Internal, "a rollback prepares nothing"))
    }
}

async fn go_back(world: &World, hooks: Hooks) -> Report {
    let source = PemFiles::new("/nonexistent/fullchain.pem", "/nonexistent/privkey.pem");
    rollback(&Job::new("front", "files", Arc::new(HooksOnly(hooks)), Arc::new(source)), None, &world.context).await
}

/// A reload that takes anything, for states that no server would serve.
fn indifferent(world: &World) -> Hooks {
    world.reload.ignore.store(true, std::sync::atomic::Ordering::SeqCst);
    Hooks::new().with_reload(Reload::Call(world.reload.clone())).with_verify(Verify::Waived)
}

#[tokio::test]
async fn f27_state_that_was_no_sound_pair_comes_back_as_it_was() {
    let world = World::new();
    let (crt, key) = (world.issue(), world.issue());
    for (what, old_crt, old_key) in [
        ("no pair", crt.fullchain_pem.as_bytes(), key.key_pem.as_bytes()),
        ("no certificate", b"a placeholder".as_slice(), key.key_pem.as_bytes()),
        ("empty", b"".as_slice(), b"".as_slice()),
    ] {
        fs::write(world.crt(), old_crt).unwrap();
        fs::write(world.key(), old_key).unwrap();
        let before = world.visible();
        let mut plan = world.plan(&world.issue());
        plan.hooks = indifferent(&world);
        assert_eq!(plan.apply(&world.context).await.outcome, Outcome::Changed, "{what}");
        let report = go_back(&world, indifferent(&world)).await;
        assert_eq!(report.outcome, Outcome::Changed, "{what}: {report:?}");
        assert!(report.warnings.iter().any(|warning| warning.contains("no sound pair")), "{what}: {report:?}");
        assert_eq!(world.visible(), before, "{what}");
    }
}

#[tokio::test]
async fn f27_attributes_of_a_file_that_was_removed_meanwhile_come_back() {
    let world = World::new();
    world.deploy(&world.issue()).await;
    xattr::set(world.key(), "user.note", b"the first").unwrap();
    let old = fs::read(world.key()).unwrap();
    world.deploy(&world.issue()).await;
    fs::remove_file(world.key()).unwrap();
    let report = go_back(&world, world.hooks()).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(fs::read(world.key()).unwrap(), old);
    assert_eq!(xattr::get(world.key(), "user.note").unwrap().as_deref(), Some(b"the first".as_slice()));
}

#[tokio::test]
async fn f30_file_that_took_the_place_of_a_link_is_not_taken_away() {
    let world = World::new();
    let issued = world.issue();
    let behind = world.root.path().join("behind.crt");
    fs::write(&behind, &issued.fullchain_pem).unwrap();
    symlink(&behind, world.crt()).unwrap();
    fs::write(world.key(), &issued.key_pem).unwrap();
    let report = world.plan(&world.issue()).with_links(LinkPolicy::Replace).apply(&world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    let before = world.visible();
    let report = go_back(&world, world.hooks()).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    let error = report.error.unwrap();
    assert!(error.to_string().contains("was a symbolic link"), "{error}");
    // The advice leads to the link.
    let kept = error.next_step().split(' ').find(|word| word.ends_with(".old")).unwrap();
    assert_eq!(fs::read_link(kept).unwrap(), behind);
    assert_eq!(world.visible(), before);
}

#[tokio::test]
async fn rollback_to_what_was_put_back_by_hand_holds_all_the_same() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    world.deploy(&new).await;
    fs::write(world.crt(), &old.fullchain_pem).unwrap();
    fs::write(world.key(), &old.key_pem).unwrap();
    let report = go_back(&world, world.hooks()).await;
    assert_eq!(report.outcome, Outcome::Repaired, "{report:?}");
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Unchanged, "held");
    assert!(world.holds(&old));
}

#[tokio::test]
async fn rollback_holds_where_the_bytes_are_random_and_an_identity_stands_for_them() {
    let world = World::new();
    let path = world.tls().join("store");
    let hooks = || Hooks::new().with_verify(Verify::Waived);
    let deploy = |content: &str, identity: u8| {
        let file = PlanFile::new(&path, Role::Opaque, content.as_bytes()).with_identity([identity; 32]);
        Plan::new("front").with_file(file).with_hooks(hooks()).apply(&world.context)
    };
    assert_eq!(deploy("old", 1).await.outcome, Outcome::Changed);
    assert_eq!(deploy("new", 2).await.outcome, Outcome::Changed);
    let report = go_back(&world, hooks()).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");

    assert_eq!(deploy("new, written once more", 2).await.outcome, Outcome::Unchanged, "held");
    assert_eq!(fs::read(&path).unwrap(), b"old");
    assert_eq!(deploy("newest", 3).await.outcome, Outcome::Changed, "another one is not held");
}

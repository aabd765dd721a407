//! Deployments in which nothing goes wrong.

use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use deploy_core::settings::Mode;
use deploy_core::{
    Capabilities, Certificate, Content, Context, Deployment, Error, Live, Outcome, Plan, Recovery, Rung, Stage, Target,
    TargetState,
};

use crate::conformance::harness::Harness;
use crate::conformance::need::Need::{DryRun, Files, NoRollback, Rollback, Root, Verification};
use crate::conformance::world::{TARGET, World, told};
use crate::pki::Issued;
use crate::tree::{Tree, assert_same};

super::cases! { "deployment":
    first_certificate_is_served[] "A first deployment is `changed`, and the certificate is served with its whole chain."
    a4_success_is_seen_on_the_wire[Verification] "Where the connector declares `verification`, a success was seen by a handshake (V6)."
    a2_plan_changes_nothing[DryRun] "`plan` says that there is something to do, and leaves everything as it is, before the first deployment and before a renewal."
    a3_second_run_is_unchanged_and_its_plan_is_empty[] "A second run is `unchanged`: it writes nothing, and its plan has no file and no command."
    renewal_is_served[] "A renewal is `changed`, and the new certificate is served."
    lost_marker_is_no_reason_to_deploy_again[] "Without the state directory, what is already served is adopted."
    drift_of_bytes_is_repaired[Files] "A file that somebody changed is put right by the next run."
    f34_drift_of_modes_is_repaired[Files] "A file whose mode is not the wanted one is put right by the next run."
    f34_drift_of_owners_is_repaired[Files, Root] "A file whose owner or group is not the wanted one is put right by the next run."
    f6_owner_and_mode_survive_a_renewal[Files, Root] "Owner, group and mode of a file are kept when its content is replaced."
    f30_symbolic_link_survives_a_renewal[Files] "A destination that is a symbolic link stays one; the file behind it is replaced."
    f9_two_at_once_serialise[] "Two deployments of one target at once end with one of the two certificates, whole."
    f20_cancelled_before_the_start_changes_nothing[] "A run that is cancelled before it starts is `interrupted` and changes nothing."
    f21_cancelled_at_any_stage_is_all_or_nothing[] "A run that is cancelled at any of its stages leaves the old certificate or the new one, says which, and the next run ends it."
    rollback_brings_the_last_certificate_back[Rollback] "Where the connector declares `rollback`, the last certificate can be brought back, and stays."
    rollback_that_is_not_there_is_refused[NoRollback] "Where the connector does not declare `rollback`, it is refused, with what to do instead."
}

fn first_certificate_is_served<H: Harness>() {
    let world = World::<H>::new();
    assert_eq!(world.served(), None, "a new world serves nothing");
    let issued = world.issue();
    let report = world.deploy_and_see(&issued);
    assert_eq!((report.outcome, report.live), (Outcome::Changed, Live::Applied), "{}", told(&report));
    shows_the_chain(&world, &issued);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

/// M6: leaf and intermediates, in order, without the root; where the world sees more than the leaf. An old worker may still
/// answer for a moment.
pub(super) fn shows_the_chain<H: Harness>(world: &World<H>, issued: &Issued) {
    let whole: Vec<Vec<u8>> = std::iter::once(&issued.leaf_der).chain(&issued.chain_der).cloned().collect();
    world.await_that("M6: the whole chain in order, without the root, is served", || {
        let served = world.harness.served().unwrap_or_default();
        served == whole || (served.len() == 1 && served[0] == whole[0] && !H::SHOWS_CHAIN)
    });
}

fn a4_success_is_seen_on_the_wire<H: Harness>() {
    let world = World::<H>::new();
    let issued = world.issue();
    let report = world.deploy_and_see(&issued);
    assert_eq!(report.validated, Rung::V6, "the settings of the world have no `verify`: {}", told(&report));
    assert_eq!(report.fingerprint.served, Some(issued.fingerprint), "{}", told(&report));
}

fn a2_plan_changes_nothing<H: Harness>() {
    let world = World::<H>::new();
    for _ in 0..2 {
        let before = world.harness.state();
        let issued = world.issue();
        let preview = world.preview(&issued);
        assert!(preview.error.is_none(), "{preview:?}");
        assert_eq!(preview.state, TargetState::Change, "{preview:?}");
        assert_same(&before, &world.harness.state());
        assert_eq!(world.litter(), Vec::<PathBuf>::new());
        world.deploy_and_see(&issued);
    }
}

fn a3_second_run_is_unchanged_and_its_plan_is_empty<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let (before, files) = (world.harness.state(), untouched(&world, &issued));
    let preview = world.preview(&issued);
    assert!(preview.error.is_none(), "{preview:?}");
    assert_eq!((preview.state, preview.commands.len()), (TargetState::Unchanged, 0), "{preview:?}");
    let report = world.deploy(&issued);
    assert_eq!((report.outcome, report.live), (Outcome::Unchanged, Live::Unchanged), "{}", told(&report));
    assert!(report.changed_files.is_empty(), "{:?}", report.changed_files);
    let acted = [Stage::Stage, Stage::Validate, Stage::Journal, Stage::Swap, Stage::Reload];
    let stages = world.events.stages(TARGET);
    assert!(!stages.iter().any(|stage| acted.contains(stage)), "a run with nothing to do went through {stages:?}");
    assert_same(&before, &world.harness.state());
    assert!(files == untouched(&world, &issued), "a file was written again with what it had");
    world.sees(&issued);
}

fn renewal_is_served<H: Harness>() {
    let (world, _) = World::<H>::serving();
    for _ in 0..2 {
        let issued = world.issue();
        let report = world.deploy_and_see(&issued);
        assert_eq!((report.outcome, report.live), (Outcome::Changed, Live::Applied), "{}", told(&report));
        shows_the_chain(&world, &issued);
        assert_eq!(world.litter(), Vec::<PathBuf>::new());
    }
}

fn lost_marker_is_no_reason_to_deploy_again<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let before = world.harness.state();
    std::fs::remove_dir_all(world.context.state_directory()).expect("the state directory");
    let report = world.deploy(&issued);
    assert!(matches!(report.outcome, Outcome::Unchanged | Outcome::Repaired), "{}", told(&report));
    assert_same(&before, &world.harness.state());
    world.sees(&issued);
}

fn drift_of_bytes_is_repaired<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let before = world.harness.state();
    // What is only touched is the operator's, to the last byte.
    for file in world.plan(&issued).files.iter().filter(|file| !file.touched) {
        let path = &file.path;
        let bytes = std::fs::read(path).expect("a destination");
        std::fs::write(path, [&bytes[..bytes.len() / 2], b"drift\n"].concat()).expect("a destination");
        world.deploy_and_see(&issued);
        assert_same(&before, &world.harness.state());
    }
}

fn f34_drift_of_modes_is_repaired<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let target = Adjusted::of(&world, |mut plan| {
        for file in &mut plan.files {
            file.mode = Some(Mode::new(0o600));
        }
        plan
    });
    world.run(&world.job_for(Arc::clone(&target), &issued), &world.context);
    for path in destinations(&world.plan(&issued)) {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).expect("a destination");
        let report = world.run(&world.job_for(Arc::clone(&target), &issued), &world.context);
        assert_eq!(report.outcome, Outcome::Repaired, "{}: {}", path.display(), told(&report));
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    world.sees(&issued);
}

fn f34_drift_of_owners_is_repaired<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let target = Adjusted::of(&world, |mut plan| {
        for file in &mut plan.files {
            (file.owner, file.group) = (Some("0".to_owned()), Some("0".to_owned()));
        }
        plan
    });
    let before = world.harness.state();
    for path in destinations(&world.plan(&issued)) {
        chown(&path, Some(1), Some(1)).expect("a destination");
        let report = world.run(&world.job_for(Arc::clone(&target), &issued), &world.context);
        assert_eq!(report.outcome, Outcome::Repaired, "{}: {}", path.display(), told(&report));
        assert_same(&before, &world.harness.state());
    }
}

fn f6_owner_and_mode_survive_a_renewal<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let target = Adjusted::of(&world, |mut plan| {
        for file in &mut plan.files {
            (file.owner, file.group, file.mode) = (None, None, None);
        }
        plan
    });
    let paths = destinations(&world.plan(&issued));
    for path in &paths {
        chown(path, Some(0), Some(1)).expect("a destination");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o640)).expect("a destination");
    }
    let new = world.issue();
    let report = world.run(&world.job_for(target, &new), &world.context);
    assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
    for path in &paths {
        use std::os::unix::fs::MetadataExt as _;
        let metadata = path.metadata().expect("a destination");
        assert_eq!((metadata.uid(), metadata.gid(), mode(path)), (0, 1, 0o640), "{}", path.display());
    }
    world.sees(&new);
}

fn f30_symbolic_link_survives_a_renewal<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let elsewhere = world.directory().join("world/elsewhere");
    std::fs::create_dir(&elsewhere).expect("a new directory");
    let mut links = Vec::new();
    for path in destinations(&world.plan(&issued)) {
        let real = elsewhere.join(path.file_name().expect("a file"));
        std::fs::rename(&path, &real).expect("a destination");
        std::os::unix::fs::symlink(&real, &path).expect("a link");
        links.push((path, real));
    }
    let new = world.issue();
    world.deploy_and_see(&new);
    for (path, real) in links {
        assert_eq!(path.read_link().ok().as_ref(), Some(&real), "{} is no link any more", path.display());
        assert!(real.symlink_metadata().is_ok_and(|metadata| metadata.is_file()), "{}", real.display());
    }
}

fn f9_two_at_once_serialise<H: Harness>() {
    let (world, _) = World::<H>::serving();
    let issued = [world.issue(), world.issue()];
    let jobs = [world.job(&issued[0]), world.job(&issued[1])];
    let both = async {
        let [one, other] = &jobs;
        let contexts = [world.context.clone(), world.context.clone()];
        let one = deploy_core::deploy(std::slice::from_ref(one), &contexts[0]);
        let other = deploy_core::deploy(std::slice::from_ref(other), &contexts[1]);
        tokio::join!(one, other)
    };
    let (one, other) = world.block_on(both);
    for report in one.iter().chain(&other) {
        // The one that comes second may find that the other's certificate was issued later.
        let fine = matches!(report.outcome, Outcome::Changed | Outcome::Locked | Outcome::Rejected);
        assert!(fine, "{}", told(report));
    }
    let served = world.served();
    let winner = issued.iter().find(|issued| Some(&issued.fingerprint) == served.as_ref());
    let winner = winner.unwrap_or_else(|| panic!("{served:?} is served, neither of the two"));
    world.ends_with(winner);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

fn f20_cancelled_before_the_start_changes_nothing<H: Harness>() {
    let (world, old) = World::<H>::serving();
    let before = world.harness.state();
    let cancellation = deploy_core::Cancellation::default();
    cancellation.cancel();
    let new = world.issue();
    let report = world.deploy_in(&new, &world.context.clone().with_cancellation(cancellation));
    assert_eq!((report.outcome, report.live), (Outcome::Interrupted, Live::Unchanged), "{}", told(&report));
    world.is_as(&before);
    world.sees(&old);
}

fn f21_cancelled_at_any_stage_is_all_or_nothing<H: Harness>() {
    let (world, mut old) = World::<H>::serving();
    let probe = world.issue();
    world.deploy_and_see(&probe);
    let stages = world.events.stages(TARGET);
    old.clone_from(&probe);
    for stage in stages {
        let (before, new) = (world.harness.state(), world.issue());
        let cancellation = deploy_core::Cancellation::default();
        let events = Arc::new(CancelAt { stage, cancellation: cancellation.clone() });
        let context = world.context.clone().with_cancellation(cancellation).with_events(events);
        let report = world.run(&world.job(&new), &context);
        match report.live {
            Live::Applied => world.sees(&new),
            Live::Unchanged | Live::RolledBack => {
                assert!(report.error.is_some(), "nothing was done at {}, and nothing is said: {}", stage.name(), told(&report));
                world.is_as(&before);
                world.sees(&old);
            }
            live => panic!("cancelled at {}, {live:?} is live: {}", stage.name(), told(&report)),
        }
        world.ends_with(&new);
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{}", stage.name());
        old = new;
    }
}

fn rollback_brings_the_last_certificate_back<H: Harness>() {
    let (world, old) = World::<H>::serving();
    let before = world.harness.state();
    let new = world.issue();
    world.deploy_and_see(&new);
    let report = world.block_on(deploy_core::rollback(&world.job(&new), None, &world.context));
    assert!(report.error.is_none(), "{}", told(&report));
    world.sees(&old);
    assert_same(&before, &world.harness.state());
    let held = world.deploy(&new);
    assert_eq!(held.outcome, Outcome::Unchanged, "the target is held after a rollback: {}", told(&held));
    world.sees(&old);
    let third = world.issue();
    world.deploy_and_see(&third);
}

fn rollback_that_is_not_there_is_refused<H: Harness>() {
    let (world, _) = World::<H>::serving();
    let new = world.issue();
    world.deploy_and_see(&new);
    let before = world.harness.state();
    let report = world.block_on(deploy_core::rollback(&world.job(&new), None, &world.context));
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{}", told(&report));
    world.is_as(&before);
    world.sees(&new);
}

/// Cancels a run when it enters a stage.
struct CancelAt {
    stage: Stage,
    cancellation: deploy_core::Cancellation,
}

impl deploy_core::EventSink for CancelAt {
    fn event(&self, event: &deploy_core::Event) {
        if matches!(event, deploy_core::Event::Stage { stage, .. } if *stage == self.stage) {
            self.cancellation.cancel();
        }
    }
}

/// The connector's target, with a change to its plans that an operator's settings could have made.
#[derive(Debug)]
pub(super) struct Adjusted {
    target: Box<dyn Target>,
    adjust: fn(Plan) -> Plan,
}

impl Adjusted {
    pub(super) fn of<H: Harness>(world: &World<H>, adjust: fn(Plan) -> Plan) -> Arc<dyn Target> {
        Arc::new(Self { target: world.target(), adjust })
    }
}

#[async_trait]
impl Target for Adjusted {
    fn capabilities(&self) -> Capabilities {
        self.target.capabilities()
    }

    fn recovery(&self) -> Recovery {
        self.target.recovery()
    }

    async fn prepare(&self, certificate: &Certificate, context: &Context) -> Result<Deployment, Error> {
        Ok(match self.target.prepare(certificate, context).await? {
            Deployment::Files(plan) => Deployment::Files((self.adjust)(plan)),
            other => other,
        })
    }
}

/// The files of a plan that are there after it, not what it takes away.
fn destinations(plan: &Plan) -> Vec<PathBuf> {
    assert_eq!(plan.name, TARGET);
    let there = plan.files.iter().filter(|file| !matches!(file.content, Content::Absent));
    there.map(|file| file.path.clone()).collect()
}

/// The destinations, with what shows that nobody wrote them; nothing for an API.
fn untouched<H: Harness>(world: &World<H>, issued: &Issued) -> Option<Vec<Tree>> {
    match world.prepare(issued) {
        Ok(Deployment::Files(plan)) => Some(destinations(&plan).iter().map(|path| Tree::untouched(path)).collect()),
        _ => None,
    }
}

fn mode(path: &Path) -> u32 {
    path.metadata().expect("a destination").permissions().mode() & 0o7777
}

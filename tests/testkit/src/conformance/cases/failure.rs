//! Deployments in which something goes wrong, and the server that goes on as if nothing had happened.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use deploy_core::{Connector as _, ErrorKind, Live, Outcome, Report};

use super::deployment::Adjusted;
use crate::conformance::harness::{Fault, Harness};
use crate::conformance::need::Need::{self, Files, StagedValidation, Verification};
use crate::conformance::world::{World, told};
use crate::pki::Issued;
use crate::tree::Tree;

/// Much longer than it takes to give up, and much shorter than forever.
const GIVES_UP: Duration = Duration::from_secs(90);

super::cases! { "failure":
    f2_refused_by_the_checker_changes_nothing[StagedValidation] "Where the connector declares `staged_validation`, a certificate that the target's checker refuses is `rejected`: nothing is changed, and no copy of the key is left, however often it is tried."
    f40_checker_that_hangs_is_ended[Need::Fault(Fault::CheckerHangs)] "A checker that does not end is ended with the deadline, and nothing is changed."
    f3_reload_that_fails_is_rolled_back[Need::Fault(Fault::ReloadFails)] "A reload or a switch that fails is `rolled_back`: files or objects to the last bit, and what is served."
    f22_first_reload_that_fails_leaves_nothing[Need::Fault(Fault::ReloadFails)] "A first deployment that fails leaves nothing behind."
    f26_rolls_back_without_backups[Files, Need::Fault(Fault::ReloadFails)] "A failed reload is rolled back when no backups are kept, too."
    f29_rolls_back_although_the_time_is_up[Need::Fault(Fault::ReloadHangs)] "A reload or a switch that hangs until the deadline is rolled back all the same."
    f4_reload_that_always_fails_needs_a_person[Need::Fault(Fault::ReloadAlwaysFails)] "Where the way back fails, too, the report says so and what to do next; once the target works, the next run ends it."
    a5_server_that_keeps_the_old_certificate_is_no_success[Verification, Need::Fault(Fault::Ignored)] "A target that says it took the certificate and goes on serving the old one is `rolled_back`, never a success."
    a5_server_that_serves_another_certificate_is_no_success[Verification, Need::Fault(Fault::ServesAnother)] "A target that serves something else than what was deployed is `rolled_back`."
}

fn f2_refused_by_the_checker_changes_nothing<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    for _ in 0..3 {
        world.harness.break_with(Fault::CheckerRefuses);
        let report = world.deploy(&new);
        world.harness.heal();
        assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{}", told(&report));
        is_error(&report, &[ErrorKind::ValidateFailed, ErrorKind::MaterialRejected]);
        untouched(&world, &before, &old);
        let leaks = world.canary(&new).in_tree(world.directory());
        assert!(leaks.is_empty(), "{leaks:#?}");
    }
    world.ends_with(&new);
}

fn f40_checker_that_hangs_is_ended<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    world.harness.break_with(Fault::CheckerHangs);
    let (report, took) = in_time(&world, &new);
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{}", told(&report));
    assert!(took < GIVES_UP, "it took {took:?}");
    untouched(&world, &before, &old);
    world.harness.heal();
    world.ends_with(&new);
}

fn f3_reload_that_fails_is_rolled_back<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    world.harness.break_with(Fault::ReloadFails);
    let report = world.deploy(&new);
    rolled_back(&world, &report, &before, &old);
    world.harness.heal();
    world.ends_with(&new);
}

fn f22_first_reload_that_fails_leaves_nothing<H: Harness>() {
    let mut world = World::<H>::new();
    let (before, new) = (world.harness.state(), world.issue());
    world.harness.break_with(Fault::ReloadFails);
    let report = world.deploy(&new);
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{}", told(&report));
    world.sees_leaf(None);
    world.is_as(&before);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    world.harness.heal();
    world.ends_with(&new);
}

fn f26_rolls_back_without_backups<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    let target = Adjusted::of(&world, |plan| plan.with_backups(0));
    world.harness.break_with(Fault::ReloadFails);
    let report = world.run(&world.job_for(target, &new), &world.context);
    rolled_back(&world, &report, &before, &old);
}

fn f29_rolls_back_although_the_time_is_up<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    world.harness.break_with(Fault::ReloadHangs);
    let (report, took) = in_time(&world, &new);
    assert!(took < GIVES_UP, "it took {took:?}");
    if H::Connector::CAPABILITIES.files || report.outcome != Outcome::Changed {
        rolled_back(&world, &report, &before, &old);
    }
    // Else a call gave up its silent remote early enough for another try, which was answered.
    world.harness.heal();
    world.ends_with(&new);
}

fn f4_reload_that_always_fails_needs_a_person<H: Harness>() {
    let (mut world, _) = World::<H>::serving();
    let new = world.issue();
    world.harness.break_with(Fault::ReloadAlwaysFails);
    let report = world.deploy(&new);
    let error = report.error.as_ref().unwrap_or_else(|| panic!("a success: {}", told(&report)));
    match report.outcome {
        Outcome::RollbackFailed => assert!(error.next_step().contains("certdeploy"), "{}", error.next_step()),
        // The target never took the new files, and everybody who looks sees the old ones.
        Outcome::RolledBack => assert!(!report.warnings.is_empty(), "{}", told(&report)),
        _ => panic!("{}", told(&report)),
    }
    world.harness.heal();
    world.ends_with(&new);
}

fn a5_server_that_keeps_the_old_certificate_is_no_success<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    world.harness.break_with(Fault::Ignored);
    let report = world.deploy(&new);
    rolled_back(&world, &report, &before, &old);
    is_error(&report, &[ErrorKind::VerifyFailed]);
    world.harness.heal();
    world.ends_with(&new);
}

fn a5_server_that_serves_another_certificate_is_no_success<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    world.harness.break_with(Fault::ServesAnother);
    let report = world.deploy(&new);
    rolled_back(&world, &report, &before, &old);
    is_error(&report, &[ErrorKind::VerifyFailed]);
    world.harness.heal();
    world.ends_with(&new);
}

/// Deploys with little time.
fn in_time<H: Harness>(world: &World<H>, issued: &Issued) -> (Report, Duration) {
    let started = Instant::now();
    let report = world.deploy_in(issued, &world.context.clone().with_timeout(Duration::from_secs(4)));
    (report, started.elapsed())
}

fn is_error(report: &Report, kinds: &[ErrorKind]) {
    let kind = report.error.as_ref().map(deploy_core::Error::kind);
    assert!(kind.is_some_and(|kind| kinds.contains(&kind)), "{}", told(report));
}

fn rolled_back<H: Harness>(world: &World<H>, report: &Report, before: &Tree, old: &Issued) {
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{}", told(report));
    untouched(world, before, old);
}

fn untouched<H: Harness>(world: &World<H>, before: &Tree, old: &Issued) {
    world.sees(old);
    world.is_as(before);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

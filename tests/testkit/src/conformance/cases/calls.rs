//! What is asked of connectors that make calls: every answer that a remote can give, and every one that it does not give.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use deploy_core::{Error, ErrorKind, Live, Outcome, Report, Retry};

use crate::conformance::harness::{Fault, Harness};
use crate::conformance::need::Need::{self, Push};
use crate::conformance::world::{World, told};
use crate::pki::Issued;
use crate::tree::Tree;

/// The least that [`Fault::RateLimited`] and [`Fault::Busy`] ask to wait.
const RETRY_AFTER: Duration = Duration::from_secs(1);

super::cases! { "calls":
    p8_unknown_caller_is_not_tried_again[Push, Need::Fault(Fault::Unauthenticated)] "A 401 is `unauthenticated`, is not tried again, and changes nothing."
    p8_missing_permission_is_named[Push, Need::Fault(Fault::Forbidden)] "A 403 is `permission_denied`, is not tried again, names the permission that is missing, and leaves the old certificate live."
    p8_what_is_not_there_is_refused[Push, Need::Fault(Fault::Missing)] "A 404 for what the settings name is refused without another try, and changes nothing."
    p3_loser_of_a_race_reads_again[Push, Need::Fault(Fault::Overtaken)] "A 409 or 412 makes the engine look again and decide again; the other's work is not undone blindly."
    p8_too_many_requests_wait_as_long_as_the_remote_asks[Push, Need::Fault(Fault::RateLimited)] "A 429 is tried again, and not before its `Retry-After` has passed."
    p8_busy_remote_is_given_the_time_it_asks_for[Push, Need::Fault(Fault::Busy)] "A 503 is tried again, and not before its `Retry-After` has passed."
    p2_request_that_never_arrived_is_sent_again[Push, Need::Fault(Fault::DropsBefore)] "A connection that breaks before the remote took the request is no failure of the deployment."
    p2_answer_that_was_lost_makes_no_second_object[Push, Need::Fault(Fault::DropsAfter)] "A connection that breaks after the work was done is no failure, and makes no second object."
    p2_change_that_arrives_twice_makes_no_second_object[Push, Need::Fault(Fault::ArrivesTwice)] "A request that something on the way has repeated is no failure, and makes no second object."
    p2_way_back_that_arrives_twice_is_gone_once[Push, Need::Fault(Fault::ArrivesTwice), Need::Fault(Fault::Ignored)] "A restore that something on the way has repeated brings the old certificate back."
    p8_slow_remote_is_waited_for[Push, Need::Fault(Fault::Slow)] "A remote that takes its time is waited for."
    p8_silent_remote_is_given_up_with_the_time[Push, Need::Fault(Fault::Silent)] "A remote that does not answer is given up at the deadline, and nothing is changed."
    p9_remote_that_cannot_prove_who_it_is_gets_nothing[Push, Need::Fault(Fault::UntrustedTls)] "A remote whose certificate is not trusted is refused without another try, and gets no key."
    p2_partial_upload_is_found_and_ended[Push, Need::Fault(Fault::PartialUpload)] "What a broken upload left is found and used by the next run, which makes no second object."
    p7_superseded_objects_go_and_others_stay[Push] "After many renewals the remote has no more objects than after one, and everything that belongs to others."
}

fn p8_unknown_caller_is_not_tried_again<H: Harness>() {
    refused::<H>(Fault::Unauthenticated, |error| {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unauthenticated, Retry::Never), "{}", error.full_message());
    });
}

fn p8_missing_permission_is_named<H: Harness>() {
    assert!(!H::permission().is_empty(), "the harness says what is missing with the fault Forbidden: PERMISSION");
    refused::<H>(Fault::Forbidden, |error| {
        assert_eq!((error.kind(), error.retry()), (ErrorKind::PermissionDenied, Retry::Never), "{}", error.full_message());
        let said = error.full_message() + error.next_step();
        let missing = H::permission();
        assert!(said.contains(missing), "nobody says that {missing} is missing: {said}");
    });
}

fn p8_what_is_not_there_is_refused<H: Harness>() {
    refused::<H>(Fault::Missing, |error| assert_eq!(error.retry(), Retry::Never, "{}", error.full_message()));
}

fn p9_remote_that_cannot_prove_who_it_is_gets_nothing<H: Harness>() {
    refused::<H>(Fault::UntrustedTls, |error| assert_eq!(error.retry(), Retry::Never, "{}", error.full_message()));
}

fn p3_loser_of_a_race_reads_again<H: Harness>() {
    let (mut world, _) = World::<H>::serving();
    let new = world.issue();
    world.harness.break_with(Fault::Overtaken);
    let report = world.deploy(&new);
    assert_eq!((report.outcome, report.live), (Outcome::Changed, Live::Applied), "{}", told(&report));
    world.harness.heal();
    world.ends_with(&new);
}

fn p8_too_many_requests_wait_as_long_as_the_remote_asks<H: Harness>() {
    waits::<H>(Fault::RateLimited, ErrorKind::RateLimited);
}

fn p8_busy_remote_is_given_the_time_it_asks_for<H: Harness>() {
    waits::<H>(Fault::Busy, ErrorKind::Unavailable);
}

fn p2_request_that_never_arrived_is_sent_again<H: Harness>() {
    survived::<H>(Fault::DropsBefore);
}

fn p2_answer_that_was_lost_makes_no_second_object<H: Harness>() {
    survived::<H>(Fault::DropsAfter);
}

fn p2_change_that_arrives_twice_makes_no_second_object<H: Harness>() {
    survived::<H>(Fault::ArrivesTwice);
}

fn p2_way_back_that_arrives_twice_is_gone_once<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let new = world.issue();
    world.harness.break_with(Fault::Ignored);
    world.harness.break_with(Fault::ArrivesTwice);
    let report = world.deploy(&new);
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{}", told(&report));
    world.harness.heal();
    world.sees(&old);
    world.ends_with(&new);
}

fn p8_slow_remote_is_waited_for<H: Harness>() {
    survived::<H>(Fault::Slow);
}

fn p8_silent_remote_is_given_up_with_the_time<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    world.harness.break_with(Fault::Silent);
    let started = Instant::now();
    let report = world.deploy_in(&new, &world.context.clone().with_timeout(Duration::from_secs(3)));
    assert!(started.elapsed() < Duration::from_secs(30), "it took {:?}", started.elapsed());
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{}", told(&report));
    world.harness.heal();
    unchanged(&world, &before, &old);
    world.ends_with(&new);
}

fn p2_partial_upload_is_found_and_ended<H: Harness>() {
    let (mut world, old) = World::<H>::serving();
    let (objects, new) = (world.harness.state().paths().count(), world.issue());
    world.harness.break_with(Fault::PartialUpload);
    let report = world.deploy(&new);
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{}", told(&report));
    world.sees(&old);
    assert!(world.harness.state().paths().count() > objects, "the fault leaves no part of an upload behind");
    world.harness.heal();
    world.ends_with(&new);
    assert_eq!(world.harness.state().paths().count(), objects, "objects");
}

fn p7_superseded_objects_go_and_others_stay<H: Harness>() {
    let (world, _) = World::<H>::serving();
    let objects = world.harness.state().paths().count();
    for _ in 0..3 {
        // Every run compares what belongs to others with what it was.
        world.deploy_and_see(&world.issue());
        assert_eq!(world.harness.state().paths().count(), objects, "objects: {:?}", world.harness.state());
    }
}

/// A fault that is there for good: refused at once, and nothing is changed.
fn refused<H: Harness>(fault: Fault, check: impl Fn(&Error)) {
    let (mut world, old) = World::<H>::serving();
    let (before, new) = (world.harness.state(), world.issue());
    world.harness.break_with(fault);
    let report = world.deploy(&new);
    check(error(&report));
    assert!(matches!(report.live, Live::Unchanged | Live::RolledBack), "{}", told(&report));
    world.harness.heal();
    unchanged(&world, &before, &old);
    world.ends_with(&new);
}

/// A fault that passes after a second: the error says how long, and the deployment waits for it.
fn waits<H: Harness>(fault: Fault, kind: ErrorKind) {
    let (mut world, old) = World::<H>::serving();
    world.harness.break_with(fault);
    let mut push = world.push(&old);
    let error = world.block_on(push.observe(&world.context)).expect_err("the remote refused, and nobody noticed");
    assert_eq!(error.kind(), kind, "{}", error.full_message());
    assert!(matches!(error.retry(), Retry::After(wait) if wait >= RETRY_AFTER), "{:?}: {}", error.retry(), error.full_message());
    world.harness.heal();
    let new = world.issue();
    world.harness.break_with(fault);
    let started = Instant::now();
    let report = world.deploy(&new);
    assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
    assert!(started.elapsed() >= RETRY_AFTER, "it waited only {:?}", started.elapsed());
    world.harness.heal();
    world.ends_with(&new);
}

/// A fault that the next try gets over.
fn survived<H: Harness>(fault: Fault) {
    let (mut world, _) = World::<H>::serving();
    let (objects, new) = (world.harness.state().paths().count(), world.issue());
    world.harness.break_with(fault);
    let report = world.deploy(&new);
    assert_eq!((report.outcome, report.live), (Outcome::Changed, Live::Applied), "{}", told(&report));
    world.harness.heal();
    world.ends_with(&new);
    assert_eq!(world.harness.state().paths().count(), objects, "objects");
}

fn error(report: &Report) -> &Error {
    report.error.as_ref().unwrap_or_else(|| panic!("a success: {}", told(report)))
}

fn unchanged<H: Harness>(world: &World<H>, before: &Tree, old: &Issued) {
    world.sees(old);
    world.is_as(before);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

//! The suite itself: a right connector passes, and each defect is found by the case that is there for it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

mod plain;

use deploy_testkit::conformance::{Harness, contract, run_case};
use plain::{PlainWorld, defect};

/// The case fails, for this reason.
fn fails<H: Harness>(case: &str, reason: &str) {
    let message = run_case::<H>(case).expect_err(case);
    assert!(message.contains(reason), "{case} fails for another reason: {message}");
}

#[test]
fn names_of_cases_are_unique_and_each_has_a_sentence() {
    let contract = contract();
    for behaviour in &contract {
        assert!(behaviour.sentence.ends_with('.'), "{}: {}", behaviour.case, behaviour.sentence);
        assert_eq!(contract.iter().filter(|other| other.case == behaviour.case).count(), 1, "{}", behaviour.case);
    }
}

#[test]
fn right_connector_passes_every_case_that_finds_a_defect() {
    for case in [
        "deployment::first_certificate_is_served",
        "deployment::a4_success_is_seen_on_the_wire",
        "deployment::a3_second_run_is_unchanged_and_its_plan_is_empty",
        "deployment::renewal_is_served",
        "failure::a5_server_that_keeps_the_old_certificate_is_no_success",
        "material::long_chain",
        "secrets::s1_no_key_or_password_is_shown_or_left_behind",
        "secrets::s2_keys_are_closed_to_others",
        "capabilities::declared_ones_are_those_of_the_target",
        "capabilities::declared_ones_can_be_tried",
        "capabilities::preparing_changes_nothing",
        "capabilities::a7_unknown_setting_is_refused",
    ] {
        run_case::<PlainWorld<{ defect::NONE }>>(case).unwrap_or_else(|message| panic!("{case}: {message}"));
    }
}

#[test]
fn missing_intermediates_are_found() {
    fails::<PlainWorld<{ defect::LEAF_ONLY }>>("deployment::first_certificate_is_served", "M6");
}

#[test]
fn capability_that_nobody_can_try_is_found() {
    let case = "capabilities::declared_ones_can_be_tried";
    fails::<PlainWorld<{ defect::CLAIMS_HOT_UPDATE }>>(case, "begin_work");
    fails::<PlainWorld<{ defect::CLAIMS_A_CHECKER }>>(case, "CheckerRefuses");
}

#[test]
fn capabilities_that_differ_are_found() {
    fails::<PlainWorld<{ defect::OTHER_CAPABILITIES }>>("capabilities::declared_ones_are_those_of_the_target", "left == right");
}

#[test]
fn open_key_is_found() {
    fails::<PlainWorld<{ defect::OPEN_KEY }>>("secrets::s2_keys_are_closed_to_others", "0644");
}

#[test]
fn missing_reload_is_found() {
    fails::<PlainWorld<{ defect::NO_RELOAD }>>("deployment::first_certificate_is_served", "never came true");
}

#[test]
fn success_that_nobody_saw_is_found() {
    fails::<PlainWorld<{ defect::NOBODY_LOOKS }>>("deployment::a4_success_is_seen_on_the_wire", "verify");
    fails::<PlainWorld<{ defect::NOBODY_LOOKS }>>("failure::a5_server_that_keeps_the_old_certificate_is_no_success", "changed");
}

#[test]
fn destinations_that_are_not_announced_are_found() {
    fails::<PlainWorld<{ defect::HIDES_DESTINATIONS }>>("capabilities::preparing_changes_nothing", "destinations()");
}

#[test]
fn preparing_that_writes_is_found() {
    fails::<PlainWorld<{ defect::WRITES_IN_PREPARE }>>("deployment::a2_plan_changes_nothing", "www.prepared");
}

#[test]
fn settings_that_are_not_looked_at_are_found() {
    fails::<PlainWorld<{ defect::TAKES_ANY_SETTING }>>("capabilities::a7_unknown_setting_is_refused", "was taken");
}

#[test]
fn key_in_the_arguments_of_a_command_is_found() {
    fails::<PlainWorld<{ defect::KEY_IN_ARGUMENTS }>>("secrets::s1_no_key_or_password_is_shown_or_left_behind", "a key in ");
}

#[test]
fn plan_that_is_never_the_same_is_found() {
    let case = "deployment::a3_second_run_is_unchanged_and_its_plan_is_empty";
    fails::<PlainWorld<{ defect::CHANGES_EVERY_TIME }>>(case, "left == right");
}

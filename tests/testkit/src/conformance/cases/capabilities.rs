//! What a connector says of itself, and its settings.

use deploy_core::{Capabilities, Connector, Deployment, Registry};

use crate::conformance::harness::{Fault, Harness};
use crate::conformance::need::Need::{HotUpdate, StagedValidation, Verification};
use crate::conformance::world::{TARGET, World, settings_value};
use crate::tree::assert_same;

super::cases! { "capabilities":
    declared_ones_are_those_of_the_target[] "A target declares the same capabilities as its connector, and describes files if and only if it says so."
    declared_ones_can_be_tried[] "For each capability that is declared, the world has what it takes to try it: a capability that nobody can try is not declared."
    staged_validation_is_reached[StagedValidation] "Where the connector declares `staged_validation`, a deployment reaches the rung V2 at least before anything changes."
    hot_update_disturbs_nobody[HotUpdate] "Where the connector declares `hot_update`, work that began before a renewal is finished after it."
    verification_is_configured_in_the_world[Verification] "Where the connector declares `verification`, `verify` sees the certificate."
    preparing_changes_nothing[] "Describing a deployment changes nothing, and two descriptions of one certificate are the same."
    a7_unknown_setting_is_refused[] "A setting that does not exist is refused, and the error names it."
    settings_survive_being_written_and_read[] "Settings that are written and read again make the same target."
}

fn declared_ones_are_those_of_the_target<H: Harness>() {
    let world = World::<H>::new();
    let declared = <H::Connector as Connector>::CAPABILITIES;
    assert_eq!(world.target().capabilities(), declared);
    let files = matches!(world.prepare(&world.issue()), Ok(Deployment::Files(_)));
    assert_eq!(files, declared.files, "it declares files: {}", declared.files);
}

fn declared_ones_can_be_tried<H: Harness>() {
    let Capabilities { staged_validation, hot_update, verification, inventory, .. } = <H::Connector as Connector>::CAPABILITIES;
    let has = |fault| H::faults().contains(&fault);
    assert!(!staged_validation || has(Fault::CheckerRefuses), "staged_validation is tried with the fault CheckerRefuses");
    assert!(!verification || has(Fault::Ignored), "verification is tried with the fault Ignored");
    if hot_update {
        let (world, _) = World::<H>::serving();
        world.await_that("work can begin: hot_update is tried with begin_work()", || world.harness.begin_work().is_some());
    }
    assert!(!inventory, "nothing lists what is deployed yet, so that nobody can declare inventory");
}

fn staged_validation_is_reached<H: Harness>() {
    let (mut world, _) = World::<H>::serving();
    let new = world.issue();
    let preview = world.preview(&new);
    assert!(preview.validated >= deploy_core::Rung::V2 || !H::Connector::CAPABILITIES.files, "{preview:?}");
    world.harness.break_with(Fault::CheckerRefuses);
    let report = world.deploy(&new);
    assert_eq!(report.stage, deploy_core::Stage::Validate, "the checker was asked at another stage: {report:?}");
}

fn hot_update_disturbs_nobody<H: Harness>() {
    let (world, _) = World::<H>::serving();
    let finish = world.await_some("work can begin", || world.harness.begin_work());
    let new = world.issue();
    world.deploy_and_see(&new);
    finish().unwrap_or_else(|error| panic!("what had begun before the renewal was disturbed by it: {error}"));
}

fn verification_is_configured_in_the_world<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let verify = || world.block_on(deploy_core::verify(&world.job(&issued), &world.context));
    assert!(verify().configured, "the settings of the world have no `verify`");
    // It asks once, and after a first reload an old worker may still answer for a moment.
    world.await_that("`verify` passes", || verify().passed());
    let other = world.issue();
    let verification = world.block_on(deploy_core::verify(&world.job(&other), &world.context));
    assert!(!verification.passed(), "a certificate that is not served passes: {verification:?}");
}

fn preparing_changes_nothing<H: Harness>() {
    let (world, issued) = World::<H>::serving();
    let before = world.harness.state();
    let new = world.issue();
    let [one, other] = [(); 2].map(|()| world.prepare(&new).unwrap_or_else(|error| panic!("{}", error.full_message())));
    if let (Deployment::Files(one), Deployment::Files(other)) = (&one, &other) {
        assert_eq!(crate::plan_text(one), crate::plan_text(other));
        let paths = one.files.iter().map(|file| &file.path);
        let announced = world.target().destinations();
        let missing: Vec<_> = paths.filter(|path| !announced.contains(path)).collect();
        assert!(missing.is_empty(), "destinations() does not name {missing:?}");
    }
    assert_same(&before, &world.harness.state());
    world.sees(&issued);
}

fn a7_unknown_setting_is_refused<H: Harness>() {
    let world = World::<H>::new();
    let mut settings = settings_value::<H>(world.harness.settings());
    settings.as_object_mut().expect("settings are a table").insert("no_such_setting".to_owned(), true.into());
    let registry = Registry::new().with::<H::Connector>();
    let entry = registry.get(H::Connector::KIND).expect("it was registered");
    let error = entry.build(TARGET, settings).expect_err("a setting that does not exist was taken");
    assert!(error.to_string().contains("no_such_setting") || error.path.contains("no_such_setting"), "{error}");
}

fn settings_survive_being_written_and_read<H: Harness>() {
    let world = World::<H>::new();
    let settings = settings_value::<H>(world.harness.settings());
    let again: crate::conformance::Settings<H> = serde_json::from_value(settings.clone()).expect("what was written");
    assert_eq!(settings_value::<H>(again), settings);
}

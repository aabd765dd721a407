//! Plans, metadata, links and previous states that are made up, deployed to a real file system through the public API.
//!
//! A case goes through everything that is promised of one deployment: a checker that refuses and a reload that fails leave
//! what was there; what is deployed is what is wanted; the same again touches nothing; going back brings back what was
//! there, and holds. A play is a sequence of deployments, hand edits and ways back, beside a model that says what is there.
//! All start from a fixed seed: the short form takes the first cases of what the full form takes.
//! What has failed once is kept in `properties.proptest-regressions` and tried first.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests make and look at files"
)]

mod made_up;

use std::cell::Cell;

use deploy_proof::{Form, Tally};
use proptest::strategy::Strategy;
use proptest::test_runner::{Config, FileFailurePersistence, RngAlgorithm, TestCaseError, TestRng, TestRunner};
use tokio::runtime::Runtime;

const REGRESSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/properties.proptest-regressions");

#[test]
fn f1_f2_f3_f5_f6_f7_f8_f27_f30_f33_a3_of_any_deployment() {
    let cases = Form::asked().pick(150, 5_000);
    prove("properties/deployment", cases, &made_up::strategy::case(), |runtime, case| {
        runtime.block_on(made_up::check::properties(case))
    });
}

#[test]
fn f18_f19_refused_plans_change_nothing() {
    let cases = Form::asked().pick(150, 2_000);
    prove("properties/refused", cases, &made_up::refused::wrong(), |runtime, (case, wrong, index)| {
        runtime.block_on(made_up::refused::refused(case, *wrong, index))
    });
}

#[test]
fn f22_f26_f27_f34_deployments_and_ways_back_in_any_order() {
    let cases = Form::asked().pick(120, 5_000);
    prove("properties/play", cases, &made_up::machine::play(), |runtime, (case, steps)| {
        runtime.block_on(made_up::machine::played(case, steps))
    });
}

/// Tries cases until one fails, which is then made as small as it can be.
fn prove<S: Strategy>(proof: &str, cases: u32, strategy: &S, check: impl Fn(&Runtime, &S::Value) -> Result<(), TestCaseError>) {
    deploy_e2e::system::needs_root("it gives files to other users");
    let mut tally = Tally::new(proof);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let config = Config {
        cases,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(REGRESSIONS))),
        max_shrink_iters: 300,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &[7; 32]));
    let tried = Cell::new(0);
    let result = runner.run(strategy, |value| {
        tried.set(tried.get() + 1);
        check(&runtime, &value)
    });
    tally.add("cases", tried.get());
    if let Err(failure) = result {
        tally.violation(failure.to_string());
    }
    tally.finish();
}

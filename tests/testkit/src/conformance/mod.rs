//! The conformance suite: what every connector has to do, tried in a world of the connector's own.
//!
//! The author of a connector implements [`Harness`] and calls [`run`] in a test without a harness of its own:
//!
//! ```toml
//! [[test]]
//! name = "conformance"
//! harness = false
//! ```
//!
//! ```no_run
//! # use deploy_testkit::conformance::Harness;
//! # fn example<MyHarness: Harness>() {
//! fn main() -> std::process::ExitCode {
//! #   std::process::ExitCode::SUCCESS
//! #   /*
//!     deploy_testkit::conformance::run::<MyHarness>()
//! #   */
//! }
//! # }
//! ```
//!
//! `cargo test --test conformance` then runs every case that applies, each in a new world, and lists the others as ignored
//! with the reason in brackets. The cases are chosen by the capabilities that the connector declares, and a capability that
//! is declared and not honoured fails. [`contract`] is the list of what is tried.

mod cases;
mod child;
mod harness;
mod need;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

pub use cases::{Behaviour, contract};
pub use harness::{Fault, Harness, NAME, Settings, Work};
pub use need::Need;

/// Runs the suite for one connector: understands the command line of `cargo test` and of `cargo nextest`, prints, and returns
/// the exit code.
#[must_use]
pub fn run<H: Harness>() -> ExitCode {
    if child::is_child::<H>() {
        return ExitCode::SUCCESS;
    }
    let trials = cases::all::<H>().into_iter().map(trial::<H>).collect();
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

/// Runs one case and says how it failed: to test a harness, or the suite itself.
///
/// # Errors
/// The message of the case; or that there is none of this name, or why it cannot be tried.
pub fn run_case<H: Harness>(name: &str) -> Result<(), String> {
    let case = cases::all::<H>().into_iter().find(|case| case.behaviour.case == name);
    let cases::Case { behaviour, run } = case.ok_or_else(|| format!("there is no case {name}"))?;
    if let Some(why) = behaviour.needs.iter().find_map(|need| need.unmet::<H>()) {
        return Err(format!("it cannot be tried: {why}"));
    }
    std::panic::catch_unwind(run).map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        text.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_else(|| "it panicked".to_owned())
    })
}

/// A case that cannot be tried here is ignored, and says why: in the list, and as its failure where it is run all the same.
fn trial<H: Harness>(cases::Case { behaviour, run }: cases::Case) -> Trial {
    let unmet = behaviour.needs.iter().find_map(|need| need.unmet::<H>());
    match unmet.or_else(|| H::left_out(behaviour.case).map(str::to_owned)) {
        None => Trial::test(behaviour.case, move || {
            run();
            Ok(())
        }),
        Some(why) => {
            let reason = format!("it cannot be tried: {why}");
            Trial::test(behaviour.case, move || Err(Failed::from(reason))).with_kind(why).with_ignored_flag(true)
        }
    }
}

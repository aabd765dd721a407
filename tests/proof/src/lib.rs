//! The proofs of what the engine promises: killed at every system call, every call failed, power cut at every operation,
//! many at once, arbitrary plans, secrets looked for everywhere, attackers in the directory, a thousand renewals.
//!
//! Each file in `tests/` is one proof, and prints and records its numbers through a [`Tally`]. There are two forms: the short
//! one is a part of every test run, the full one takes as long as it takes (`cargo xtask proof --full`).
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "test code: a fixture that can't be set up ends the test, and fixtures write files and start processes"
)]

mod copy;
pub mod counted;
pub mod crowd;
pub mod footprint;
mod form;
pub mod fuzzing;
pub mod leaks;
pub mod log_disk;
pub mod mark;
pub mod observer;
mod remote;
mod scene;
pub mod simulator;
mod site;
mod tally;
#[cfg(target_arch = "x86_64")]
pub mod tracer;
pub mod watch;

pub use copy::Copy;
pub use form::Form;
pub use remote::{Remote, RemoteSettings};
pub use scene::{Scene, outcome};
pub use site::{NAME, Site};
pub use tally::Tally;

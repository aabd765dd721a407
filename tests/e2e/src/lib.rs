//! The world of an end-to-end test: a directory with a source of certificates, a real nginx on a loopback port, a
//! configuration, a state directory, and the real program.
//!
//! Every test has a world of its own, so that all can run at the same time. What is served is always read by
//! [`deploy_testkit::observe`], which shares no code with the engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a fixture that can't be set up ends the test, and fixtures write files and start processes"
)]

mod config;
mod program;
pub mod system;
mod world;

pub use config::{TargetConfig, array, quoted};
pub use deploy_testkit::tree::{Tree, assert_same};
pub use program::{Program, Run, Running, program_path, server_path};
pub use world::{NAME, World};

use std::time::{Duration, Instant};

/// How long a condition may take to come true before a test gives up: much longer than it ever needs.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `condition` holds.
///
/// # Panics
///
/// When it does not within [`PATIENCE`]; `what` says what was waited for.
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The examples of the book's page on the library, compiled and where possible run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/library.md")]
pub struct Library;

/// The connector of the book's page for authors, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/write-a-connector.md")]
pub struct WriteAConnector;

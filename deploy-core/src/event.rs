//! Structured events: what the engine says while it works. It prints nothing.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use crate::report::{Outcome, Stage};

/// Something that happened in a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Event {
    /// A stage began.
    Stage {
        /// The target.
        target: String,
        /// The stage.
        stage: Stage,
    },
    /// A destination was switched to its new file.
    Swapped {
        /// The target.
        target: String,
        /// The destination.
        path: PathBuf,
    },
    /// A destination was put back to what it was.
    Restored {
        /// The target.
        target: String,
        /// The destination.
        path: PathBuf,
    },
    /// Something that the operator should know and that changes no outcome.
    Warning {
        /// The target.
        target: String,
        /// One sentence.
        message: String,
    },
    /// The end: exactly one for each target of each run.
    Finished {
        /// The target.
        target: String,
        /// How it ended.
        outcome: Outcome,
        /// How long it took, in milliseconds.
        duration_ms: u64,
    },
}

/// Where events go. Called on the engine's thread: be quick, and never panic.
pub trait EventSink: Send + Sync {
    /// One event.
    fn event(&self, event: &Event);
}

/// Drops every event.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Discard;

impl EventSink for Discard {
    fn event(&self, _: &Event) {}
}

impl fmt::Debug for dyn EventSink {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("EventSink")
    }
}

//! Every event of a run, kept.

use std::sync::{Mutex, PoisonError};

use deploy_core::{Event, EventSink, Stage};

/// Keeps events in order.
#[derive(Debug, Default)]
pub struct Recorder(Mutex<Vec<Event>>);

impl Recorder {
    /// All since the start or the last [`Self::clear`].
    #[must_use]
    pub fn all(&self) -> Vec<Event> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The stages that were entered, in order.
    #[must_use]
    pub fn stages(&self) -> Vec<Stage> {
        let stage = |event| if let Event::Stage { stage, .. } = event { Some(stage) } else { None };
        self.all().into_iter().filter_map(stage).collect()
    }

    /// Forgets them.
    pub fn clear(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}

impl EventSink for Recorder {
    fn event(&self, event: &Event) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(event.clone());
    }
}

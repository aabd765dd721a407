//! What an engine says while it works, kept for a test.

use std::sync::{Arc, Mutex, PoisonError};

use deploy_core::{Event, EventSink, Stage};

/// Keeps every event. Clones share one list.
///
/// ```
/// use deploy_testkit::events::Recorder;
///
/// let recorder = Recorder::default();
/// let context = deploy_core::Context::new("/var/lib/my-agent", deploy_testkit::provider()).with_events(recorder.sink());
/// assert!(recorder.events().is_empty());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Recorder(Arc<Mutex<Vec<Event>>>);

impl Recorder {
    /// Where the engine's events go: for [`deploy_core::Context::with_events`].
    #[must_use]
    pub fn sink(&self) -> Arc<dyn EventSink> {
        Arc::new(self.clone())
    }

    /// Every event since the start, or since they were cleared.
    #[must_use]
    pub fn events(&self) -> Vec<Event> {
        self.list().clone()
    }

    /// The stages that a target went through, in order.
    #[must_use]
    pub fn stages(&self, target: &str) -> Vec<Stage> {
        let stage = |event: &Event| match event {
            Event::Stage { target: name, stage } if name == target => Some(*stage),
            _ => None,
        };
        self.list().iter().filter_map(stage).collect()
    }

    /// The warnings about a target, in order.
    #[must_use]
    pub fn warnings(&self, target: &str) -> Vec<String> {
        let warning = |event: &Event| match event {
            Event::Warning { target: name, message } if name == target => Some(message.clone()),
            _ => None,
        };
        self.list().iter().filter_map(warning).collect()
    }

    /// Everything as text, one event on a line: what a log would hold.
    #[must_use]
    pub fn text(&self) -> String {
        self.list().iter().map(|event| format!("{event:?}\n")).collect()
    }

    /// Forgets them all.
    pub fn clear(&self) {
        self.list().clear();
    }

    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Event>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventSink for Recorder {
    fn event(&self, event: &Event) {
        self.list().push(event.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_told_apart_by_target() {
        let recorder = Recorder::default();
        let sink = recorder.sink();
        let named = |target: &str| target.to_owned();
        sink.event(&Event::Stage { target: named("one"), stage: Stage::Check });
        sink.event(&Event::Stage { target: named("two"), stage: Stage::Lock });
        sink.event(&Event::Warning { target: named("one"), message: "slow".to_owned() });
        assert_eq!(recorder.stages("one"), [Stage::Check]);
        assert_eq!(recorder.stages("two"), [Stage::Lock]);
        assert_eq!(recorder.warnings("one"), ["slow"]);
        assert!(recorder.warnings("two").is_empty());
        assert_eq!(recorder.text().lines().count(), 3);
        recorder.clear();
        assert!(recorder.events().is_empty());
    }
}

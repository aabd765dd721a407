//! One line per target while it works, on standard error.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};

use anstream::{AutoStream, ColorChoice};
use deploy_core::{Event, EventSink};

use super::text::{duration, outcome_style};
use super::{clean, styled};

/// Shows what the engine does. On a terminal, each target that is worked on has a line that changes with its stage;
/// elsewhere, one line is written when a target is finished, and none at all beside a JSON document.
#[derive(Debug)]
pub(crate) struct Progress {
    mode: Mode,
    state: Mutex<State>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Lines,
    Silent,
    Terminal,
}

/// What is on the screen.
#[derive(Debug, Default)]
struct State {
    /// Targets under way, and what they do.
    active: Vec<(String, &'static str)>,
    /// How many lines of it are drawn below the cursor's first line.
    drawn: usize,
}

/// More lines than this would scroll, and could not be erased.
const SHOWN: usize = 10;
/// A longer name could wrap its line, and could not be erased.
const NAME: usize = 40;

impl Progress {
    /// For a run with or without a JSON document.
    pub(crate) fn new(json: bool) -> Self {
        // Where colours are not wanted, moving the cursor is not either: `TERM=dumb`, `NO_COLOR`.
        let capable = io::stderr().is_terminal() && AutoStream::choice(&io::stderr()) != ColorChoice::Never;
        let mode = match (capable, json) {
            (true, _) => Mode::Terminal,
            (false, false) => Mode::Lines,
            (false, true) => Mode::Silent,
        };
        Self { mode, state: Mutex::default() }
    }

    /// A line that stays, whatever the mode.
    pub(crate) fn note(&self, line: &str) {
        self.update(|_| Some(clean(line)));
    }

    /// Leaves the screen to the result.
    pub(crate) fn end(&self) {
        self.update(|state| {
            state.active.clear();
            None
        });
    }

    /// Changes the state; what comes out is a line that stays above those of the active targets.
    fn update(&self, change: impl FnOnce(&mut State) -> Option<String>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let line = change(&mut state);
        let mut output = anstream::stderr().lock();
        let text = if self.mode == Mode::Terminal {
            state.redraw(line.as_deref())
        } else {
            line.map(|line| line + "\n").unwrap_or_default()
        };
        output.write_all(text.as_bytes()).and_then(|()| output.flush()).ok();
    }
}

impl EventSink for Progress {
    fn event(&self, event: &Event) {
        let quiet = self.mode == Mode::Silent;
        match event {
            Event::Stage { target, stage } => self.update(|state| {
                state.enter(target, stage.name());
                None
            }),
            Event::Finished { target, outcome, duration_ms } => self.update(|state| {
                state.active.retain(|(name, _)| name != target);
                let result = styled(outcome_style(*outcome), outcome.name());
                (!quiet).then(|| format!("{target}: {result}, {}", duration(*duration_ms)))
            }),
            // Warnings and files stand in the result.
            _ => {}
        }
    }
}

impl State {
    fn enter(&mut self, target: &str, stage: &'static str) {
        match self.active.iter_mut().find(|(name, _)| name == target) {
            Some((_, current)) => *current = stage,
            None => self.active.push((target.to_owned(), stage)),
        }
    }

    /// Erases what was drawn, writes the line that stays, draws anew.
    fn redraw(&mut self, line: Option<&str>) -> String {
        let mut text = if self.drawn > 0 { format!("\x1b[{}F\x1b[0J", self.drawn) } else { String::new() };
        if let Some(line) = line {
            text.push_str(line);
            text.push('\n');
        }
        for (name, stage) in self.active.iter().take(SHOWN) {
            let name: String = name.chars().take(NAME).collect();
            text.push_str(&format!("{name}: {stage}\n"));
        }
        let hidden = self.active.len().saturating_sub(SHOWN);
        if hidden > 0 {
            text.push_str(&format!("and {hidden} more\n"));
        }
        self.drawn = self.active.len().min(SHOWN) + usize::from(hidden > 0);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_one_line_that_changes_with_its_stage() {
        let mut state = State::default();
        state.enter("front", "stage");
        assert_eq!(state.redraw(None), "front: stage\n");
        state.enter("front", "validate");
        assert_eq!(state.redraw(None), "\x1b[1F\x1b[0Jfront: validate\n");
        state.active.clear();
        assert_eq!(state.redraw(Some("front: changed")), "\x1b[1F\x1b[0Jfront: changed\n");
        assert_eq!(state.redraw(None), "");
    }

    #[test]
    fn a_thousand_targets_fit_on_the_screen() {
        let mut state = State::default();
        (0..1000).for_each(|number| state.enter(&format!("t{number}"), "stage"));
        assert_eq!(state.redraw(None).lines().count(), SHOWN + 1);
        assert_eq!(state.drawn, SHOWN + 1);
        assert!(state.redraw(None).contains("and 990 more\n"));
    }
}

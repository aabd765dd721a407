//! Formatting, clippy and tidy.

use crate::{Outcome, shell, tidy};

pub(crate) fn run() -> Outcome {
    format()?;
    clippy()?;
    tidy::run()
}

pub(crate) fn format() -> Outcome {
    shell::run(&mut shell::cargo(&["fmt", "--all", "--check"]))
}

pub(crate) fn clippy() -> Outcome {
    shell::run(&mut shell::cargo(&["clippy", "--quiet", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}

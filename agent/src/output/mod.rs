//! What the program says: documents on standard output for programs, text for people.

pub(crate) mod convert;
pub(crate) mod json;
pub(crate) mod progress;
mod table;
pub(crate) mod text;

use std::io::{self, Write};

use anstyle::{AnsiColor, Style};
use serde::Serialize;

/// Good.
pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
/// Worth a look.
pub(crate) const CAUTION: Style = AnsiColor::Yellow.on_default();
/// Bad.
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
/// Headings.
pub(crate) const HEADING: Style = Style::new().bold();
/// Neither good nor bad.
pub(crate) const PLAIN: Style = Style::new();

/// Prints a document, or the text that `render` makes of it.
pub(crate) fn print<T: Serialize>(json: bool, document: &T, render: impl FnOnce(&T) -> String) {
    if json { self::document(document) } else { text(&render(document)) }
}

/// Prints the one JSON document on standard output.
pub(crate) fn document<T: Serialize>(document: &T) {
    let text = serde_json::to_string_pretty(document).unwrap_or_else(|error| unprintable(&error));
    let mut output = io::stdout().lock();
    // A reader that went away must not keep the program from its exit code.
    writeln!(output, "{text}").and_then(|()| output.flush()).ok();
}

/// Prints text on standard output; colours only on a terminal.
pub(crate) fn text(text: &str) {
    let mut output = anstream::stdout().lock();
    output.write_all(text.as_bytes()).and_then(|()| output.flush()).ok();
}

/// Prints a line on standard error; colours only on a terminal.
pub(crate) fn complain(line: &str) {
    let mut output = anstream::stderr().lock();
    writeln!(output, "{line}").ok();
}

/// Text of others, such as what a command printed, without anything that steers a terminal.
pub(crate) fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{fffd}' } else { c }).collect()
}

/// Words in a colour.
pub(crate) fn styled(style: Style, text: &str) -> String {
    format!("{style}{text}{style:#}")
}

/// All documents are made of text and numbers; this is for the day when one is not.
fn unprintable(error: &serde_json::Error) -> String {
    format!(
        r#"{{"targets":[],"error":{{"kind":"internal","message":"the result cannot be printed: {}","next_step":null}}}}"#,
        error.classify() as u8
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_print_cannot_steer_the_terminal() {
        assert_eq!(clean("a\x1b[2Jb\nc"), "a\u{fffd}[2Jb\nc");
    }
}

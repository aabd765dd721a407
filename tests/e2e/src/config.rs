//! Configuration files, written as an operator would.

use std::fmt::Write as _;
use std::path::Path;

/// One `[[target]]`: settings with their values as TOML.
#[derive(Clone, Debug)]
#[must_use]
pub struct TargetConfig {
    settings: Vec<(String, String)>,
}

impl TargetConfig {
    /// An nginx target of the certificate `www`, with files but without commands.
    pub fn new(name: &str, fullchain: &Path, key: &Path) -> Self {
        Self { settings: Vec::new() }
            .text("name", name)
            .text("kind", "nginx")
            .text("certificate", "www")
            .path("fullchain", fullchain)
            .path("key", key)
    }

    /// With a setting, in place of one of the same name; the value is TOML.
    pub fn set(mut self, name: &str, toml: impl Into<String>) -> Self {
        self.settings.retain(|(other, _)| other != name);
        self.settings.push((name.to_owned(), toml.into()));
        self
    }

    /// With a setting that is text.
    pub fn text(self, name: &str, value: &str) -> Self {
        self.set(name, quoted(value))
    }

    /// With a setting that is a path.
    pub fn path(self, name: &str, value: &Path) -> Self {
        self.text(name, value.to_str().expect("a path of the tests is UTF-8"))
    }

    /// With a command.
    pub fn command<T: AsRef<str>>(self, name: &str, arguments: &[T]) -> Self {
        self.set(name, array(arguments))
    }

    /// With a command and its own time limit.
    pub fn limited<T: AsRef<str>>(self, name: &str, arguments: &[T], timeout: &str) -> Self {
        self.set(name, format!("{{ command = {}, timeout = {} }}", array(arguments), quoted(timeout)))
    }

    /// Without a setting.
    pub fn without(mut self, name: &str) -> Self {
        self.settings.retain(|(other, _)| other != name);
        self
    }

    /// The text of it.
    #[must_use]
    pub fn to_toml(&self) -> String {
        self.settings.iter().fold("[[target]]\n".to_owned(), |mut text, (name, value)| {
            writeln!(text, "{name} = {value}").expect("a string grows");
            text
        })
    }
}

/// A TOML string.
#[must_use]
pub fn quoted(text: &str) -> String {
    // Both TOML and JSON escape what has to be escaped in the same way.
    serde_json::Value::from(text).to_string()
}

/// A TOML array of strings.
#[must_use]
pub fn array<T: AsRef<str>>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(|value| quoted(value.as_ref())).collect();
    format!("[{}]", values.join(", "))
}

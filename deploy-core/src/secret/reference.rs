//! Where a secret is found, as configuration says it: a file, a variable or a program, never the secret itself.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use thiserror::Error;
use zeroize::{Zeroize as _, Zeroizing};

use super::file::{SourceFileError, read_source_file};
use super::{SecretBytes, SecretString, withhold};
use crate::command::{Command, CommandError, Limits, OUTPUT_LIMIT};
use crate::context::Context;
use crate::error::{ErrorKind, Retry};

/// The longest secret, in bytes: 64 KiB, as much as is kept of a program's output.
const SIZE_LIMIT: u64 = OUTPUT_LIMIT as u64;

/// A reference to a secret: `"file:/absolute/path"`, `"env:NAME"`, `"exec:program"` or `{ exec = ["program", "argument"] }`.
///
/// One line break at the end of what is found is dropped. A file must not be readable or writable by every user; a program
/// gets 30 seconds and prints the secret, and only that, to standard output.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecretRef {
    /// A variable that the program was started with.
    Env(String),
    /// A program and its arguments.
    Exec(Vec<String>),
    /// A file.
    File(PathBuf),
}

/// Why a reference is none. Never shows the text: it may be the secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InvalidSecretRef {
    /// The kind is right, and nothing usable follows.
    #[error("a secret reference names nothing usable: file: takes an absolute path, env: a name, exec: a program")]
    Incomplete,
    /// Something other than a reference, perhaps the secret itself.
    #[error("a secret must be a reference (file:/path, env:NAME, exec:program or {{ exec = [...] }}), never the value itself")]
    Inline,
    /// What examples and templates put in a secret's place.
    #[error("a placeholder stands where a secret reference belongs")]
    Placeholder,
}

/// Why there is no secret where the reference points. Never shows what is there.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SecretRefError {
    /// Nothing, or a line break only.
    #[error("the secret from {reference} is empty")]
    Empty {
        /// The reference.
        reference: SecretRef,
    },
    /// Everybody can read or change the file.
    #[error("{} can be read or written by every user (mode {mode:04o})", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// The program ended badly.
    #[error("{reference} ended with {ending}{}{stderr}", if stderr.is_empty() { "" } else { ": " })]
    Failed {
        /// The reference.
        reference: SecretRef,
        /// `exit status 1`.
        ending: String,
        /// The last line of its standard error.
        stderr: String,
    },
    /// The file cannot be read.
    #[error("the secret file cannot be used")]
    File(#[source] SourceFileError),
    /// Not UTF-8.
    #[error("the secret from {reference} is not text")]
    NotText {
        /// The reference.
        reference: SecretRef,
    },
    /// What examples and templates put in a secret's place.
    #[error("the secret from {reference} is a placeholder")]
    Placeholder {
        /// The reference.
        reference: SecretRef,
    },
    /// The program could not be run to its end.
    #[error("{reference} could not be run")]
    Run {
        /// The reference.
        reference: SecretRef,
        /// Why, without its output.
        #[source]
        source: CommandError,
    },
    /// The program printed more than is kept.
    #[error("the secret from {reference} is longer than {SIZE_LIMIT} bytes")]
    TooLarge {
        /// The reference.
        reference: SecretRef,
    },
    /// There is no such variable.
    #[error("the variable {name} is not set")]
    Unset {
        /// Its name.
        name: String,
    },
}

impl SecretRefError {
    /// What the operator should do, where that can be said.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        match self {
            Self::Exposed { path, .. } => Some(format!("chmod 0600 {}", path.display())),
            _ => None,
        }
    }
}

/// Refused programs and files are the configuration's fault; a program that fails may work later.
impl From<SecretRefError> for crate::error::Error {
    fn from(error: SecretRefError) -> Self {
        let (kind, retry) = match &error {
            SecretRefError::Run { source: CommandError::Interrupted, .. } => (ErrorKind::Interrupted, Retry::Never),
            SecretRefError::Run { source: CommandError::Timeout { .. }, .. } => (ErrorKind::Timeout, Retry::Later),
            SecretRefError::Failed { .. } => (ErrorKind::Unavailable, Retry::Later),
            _ => (ErrorKind::ConfigurationInvalid, Retry::Never),
        };
        let next_step = error.next_step();
        let converted = Self::new(kind, error.to_string()).with_retry(retry).with_source(error);
        match next_step {
            Some(step) => converted.with_next_step(step),
            None => converted,
        }
    }
}

impl SecretRef {
    /// Fetches the secret. Blocks, for as long as the program takes, at most 30 seconds.
    ///
    /// # Errors
    /// There is none, or it is not safe or not sane; see [`SecretRefError`].
    pub fn resolve(&self, context: &Context) -> Result<SecretString, SecretRefError> {
        self.resolve_with(&BTreeMap::new(), context)
    }

    /// The same, where a program gets these variables as well. They are seen by others: no secrets.
    ///
    /// # Errors
    /// As [`Self::resolve`].
    pub fn resolve_with(
        &self,
        environment: &BTreeMap<String, String>,
        context: &Context,
    ) -> Result<SecretString, SecretRefError> {
        let secret = match self {
            Self::File(path) => self.checked(&from_file(path, context)?)?,
            Self::Exec(arguments) => self.checked(&self.run(arguments, environment, context)?)?,
            Self::Env(name) => context.variable(name).ok_or_else(|| SecretRefError::Unset { name: name.clone() })?,
        };
        if secret.expose().is_empty() {
            return Err(SecretRefError::Empty { reference: self.clone() });
        }
        if is_placeholder(secret.expose()) {
            return Err(SecretRefError::Placeholder { reference: self.clone() });
        }
        Ok(secret)
    }

    fn run(
        &self,
        arguments: &[String],
        environment: &BTreeMap<String, String>,
        context: &Context,
    ) -> Result<SecretBytes, SecretRefError> {
        let limits = Limits::new(context.deadline(), Some(context.cancellation()));
        let mut command = Command::new(arguments);
        command.environment.clone_from(environment);
        let mut output = context
            .host()
            .run(&command, None, &limits)
            .map_err(|source| SecretRefError::Run { reference: self.clone(), source: without_output(source) })?;
        let stdout = SecretBytes::from(std::mem::take(&mut output.stdout));
        if !output.success() {
            let stderr = last_line(&output.stderr, &stdout);
            return Err(SecretRefError::Failed { reference: self.clone(), ending: output.ending(), stderr });
        }
        // Only the end was kept. Standard error may have been cut, too, which does no harm, but cannot be told apart.
        if output.truncated && stdout.len() >= OUTPUT_LIMIT {
            return Err(SecretRefError::TooLarge { reference: self.clone() });
        }
        Ok(stdout)
    }

    fn checked(&self, bytes: &SecretBytes) -> Result<SecretString, SecretRefError> {
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| SecretRefError::NotText { reference: self.clone() })?;
        let text = text.strip_suffix('\n').map_or(text, |text| text.strip_suffix('\r').unwrap_or(text));
        Ok(SecretString::from(text.to_owned()))
    }

    fn from_arguments(arguments: Vec<String>) -> Result<Self, InvalidSecretRef> {
        match arguments.first() {
            Some(program) if !program.is_empty() && !arguments.iter().any(|argument| argument.contains('\0')) => {
                Ok(Self::Exec(arguments))
            }
            _ => Err(InvalidSecretRef::Incomplete),
        }
    }
}

impl FromStr for SecretRef {
    type Err = InvalidSecretRef;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (kind, rest) = match text.split_once(':') {
            Some((kind @ ("file" | "env" | "exec"), rest)) => (kind, rest),
            _ if is_placeholder(text) => return Err(InvalidSecretRef::Placeholder),
            _ => return Err(InvalidSecretRef::Inline),
        };
        if is_placeholder(rest) {
            return Err(InvalidSecretRef::Placeholder);
        }
        let name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        match kind {
            "file" if rest.starts_with('/') && !rest.ends_with('/') && !rest.contains('\0') => {
                Ok(Self::File(PathBuf::from(rest)))
            }
            "env" if !rest.is_empty() && rest.bytes().all(name) => Ok(Self::Env(rest.to_owned())),
            // A blank would look like arguments, which only the table can carry.
            "exec" if !rest.contains(char::is_whitespace) => Self::from_arguments(vec![rest.to_owned()]),
            _ => Err(InvalidSecretRef::Incomplete),
        }
    }
}

/// The reference, as in configuration; arguments of a program are left out, as they may be nobody's business.
impl fmt::Display for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Env(name) => write!(formatter, "env:{name}"),
            Self::Exec(arguments) => write!(formatter, "exec:{}", arguments.first().map_or("", String::as_str)),
            Self::File(path) => write!(formatter, "file:{}", path.display()),
        }
    }
}

impl fmt::Debug for SecretRef {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for SecretRef {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Exec(arguments)
                if arguments.len() > 1 || arguments.iter().any(|program| program.contains(char::is_whitespace)) =>
            {
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("exec", arguments)?;
                map.end()
            }
            _ => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for SecretRef {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RefVisitor)
    }
}

impl JsonSchema for SecretRef {
    fn schema_name() -> Cow<'static, str> {
        Cow::Borrowed("SecretRef")
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Where the secret is found: file:/absolute/path, env:NAME, exec:program, or a table with a program and its arguments. Never the secret itself.",
            "anyOf": [
                { "type": "string", "pattern": "^(file:/.*[^/]|env:[A-Za-z0-9_]+|exec:\\S+)$" },
                {
                    "type": "object",
                    "properties": { "exec": { "type": "array", "items": { "type": "string" }, "minItems": 1 } },
                    "required": ["exec"],
                    "additionalProperties": false,
                },
            ],
        })
    }
}

/// The ready-made visitors put the value that they do not want into their error; this one never does.
struct RefVisitor;

impl<'de> Visitor<'de> for RefVisitor {
    type Value = SecretRef;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a secret reference")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretRef, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<SecretRef, A::Error> {
        match map.next_key::<Cow<'_, str>>()? {
            Some(key) if key == "exec" => {}
            _ => return Err(A::Error::custom(InvalidSecretRef::Inline)),
        }
        let arguments = map.next_value().map_err(|_| A::Error::custom(InvalidSecretRef::Incomplete))?;
        if map.next_key::<IgnoredAny>()?.is_some() {
            return Err(A::Error::custom(InvalidSecretRef::Inline));
        }
        SecretRef::from_arguments(arguments).map_err(A::Error::custom)
    }

    fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<SecretRef, E> {
        Err(E::custom(InvalidSecretRef::Inline))
    }

    fn visit_i64<E: serde::de::Error>(self, _: i64) -> Result<SecretRef, E> {
        Err(E::custom(InvalidSecretRef::Inline))
    }

    fn visit_u64<E: serde::de::Error>(self, _: u64) -> Result<SecretRef, E> {
        Err(E::custom(InvalidSecretRef::Inline))
    }

    fn visit_f64<E: serde::de::Error>(self, _: f64) -> Result<SecretRef, E> {
        Err(E::custom(InvalidSecretRef::Inline))
    }

    fn visit_bytes<E: serde::de::Error>(self, _: &[u8]) -> Result<SecretRef, E> {
        Err(E::custom(InvalidSecretRef::Inline))
    }
}

/// What a program that failed says, unless that is the secret which it also printed.
fn last_line(stderr: &[u8], stdout: &SecretBytes) -> String {
    let text = String::from_utf8_lossy(stderr);
    let line = text.trim_end().lines().next_back().unwrap_or_default();
    let printed = Zeroizing::new(String::from_utf8_lossy(stdout.expose()).into_owned());
    let repeats = printed.lines().map(str::trim).any(|secret| !secret.is_empty() && line.contains(secret));
    if repeats { "it repeats what it printed".to_owned() } else { withhold(line) }
}

/// What a program had printed until its time ran out may be the secret.
fn without_output(mut error: CommandError) -> CommandError {
    if let CommandError::Timeout { output, .. } = &mut error {
        output.stdout.zeroize();
    }
    error
}

fn from_file(path: &Path, context: &Context) -> Result<SecretBytes, SecretRefError> {
    let (bytes, status) = read_source_file(context.host(), path, SIZE_LIMIT).map_err(SecretRefError::File)?;
    if status.mode & 0o006 != 0 {
        return Err(SecretRefError::Exposed { path: path.to_owned(), mode: status.mode });
    }
    Ok(bytes)
}

/// What examples, templates and masked output show instead of a secret.
fn is_placeholder(text: &str) -> bool {
    let text = text.trim();
    let masked = !text.is_empty() && text.chars().all(|c| matches!(c, '*' | '•' | 'x' | 'X' | '.')) && text.chars().count() > 2;
    let lower = Zeroizing::new(text.to_ascii_lowercase());
    masked
        || (text.starts_with('<') && text.ends_with('>'))
        || matches!(lower.as_str(), "changeme" | "change-me" | "change_me" | "redacted")
}

#[cfg(test)]
mod tests;

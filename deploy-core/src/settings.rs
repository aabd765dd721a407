//! Settings that many connectors share: ordinary fields of their configuration types, never flattened.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::command::Command;
use crate::hooks::Reload;
use crate::host::Signal;

mod check;
mod default;

pub use check::{check_command, check_endpoints, check_key_mode, check_path, check_principal, check_reload};
pub use default::{default_backups, default_verify_timeout};

/// Permission bits, written as an octal string: `"0640"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode(u32);

impl Mode {
    /// From the nine permission bits; others are dropped.
    #[must_use]
    pub const fn new(bits: u32) -> Self {
        Self(bits & 0o777)
    }

    /// The nine permission bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:04o}", self.0)
    }
}

impl<'de> Deserialize<'de> for Mode {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match u32::from_str_radix(&text, 8) {
            Ok(bits) if bits <= 0o777 && (3..=4).contains(&text.len()) => Ok(Self(bits)),
            _ => Err(D::Error::custom(format_args!(
                "`{text}` is not a file mode: write three or four octal digits, such as \"0640\""
            ))),
        }
    }
}

impl Serialize for Mode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Mode {
    fn schema_name() -> Cow<'static, str> {
        "Mode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^0?[0-7]{3}$", "description": "Permission bits as an octal string, such as \"0640\"." })
    }
}

/// A length of time, written with its unit: `"30s"`, `"2m"`, `"500ms"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(Duration);

impl Period {
    /// From a duration.
    #[must_use]
    pub const fn new(duration: Duration) -> Self {
        Self(duration)
    }

    /// As a duration.
    #[must_use]
    pub const fn duration(self) -> Duration {
        self.0
    }
}

impl<'de> Deserialize<'de> for Period {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match humantime::parse_duration(&text) {
            Ok(duration) if !duration.is_zero() => Ok(Self(duration)),
            _ => Err(D::Error::custom(format_args!(
                "`{text}` is not a length of time: write a number and its unit, such as \"30s\""
            ))),
        }
    }
}

impl Serialize for Period {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl JsonSchema for Period {
    fn schema_name() -> Cow<'static, str> {
        "Period".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A length of time with its unit, such as \"30s\" or \"2m\"." })
    }
}

/// A command: an array of program and arguments, or a table with more settings. There is no shell.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected an array such as [\"nginx\", \"-t\"], or a table with `command`, `timeout`, `environment`"
)]
#[non_exhaustive]
pub enum CommandSetting {
    /// Program and arguments.
    Arguments(Vec<String>),
    /// With more settings.
    Table(CommandTable),
}

/// A command with its settings.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct CommandTable {
    /// Program and arguments.
    pub command: Vec<String>,
    /// How long it may take; default 30 seconds.
    #[serde(default)]
    pub timeout: Option<Period>,
    /// Variables for it, beside `PATH` and `LC_ALL=C`. Never put a secret here.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
}

impl CommandSetting {
    /// From program and arguments.
    #[must_use]
    pub fn new(arguments: &[&str]) -> Self {
        Self::Arguments(arguments.iter().map(|&argument| argument.to_owned()).collect())
    }

    /// The command, or `None` for an empty array, which means "run nothing".
    #[must_use]
    pub fn command(&self) -> Option<Command> {
        let (arguments, timeout, environment) = match self {
            Self::Arguments(arguments) => (arguments, None, BTreeMap::new()),
            Self::Table(table) => (&table.command, table.timeout, table.environment.clone()),
        };
        if arguments.is_empty() {
            return None;
        }
        let mut command = Command::new(arguments);
        command.environment = environment;
        if let Some(timeout) = timeout {
            command.timeout = timeout.duration();
        }
        Some(command)
    }
}

/// How a target is told to take up new files: a command, a systemd unit, or a signal to the process of a pid file.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "expected a command such as [\"nginx\", \"-s\", \"reload\"], or { systemd = \"nginx\" }, or { signal = \"HUP\", pid_file = \"/run/nginx.pid\" }"
)]
#[non_exhaustive]
pub enum ReloadSetting {
    /// A command.
    Command(CommandSetting),
    /// A systemd unit.
    Systemd(SystemdReload),
    /// A signal.
    Signal(SignalReload),
}

/// Reloading a systemd unit.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SystemdReload {
    /// The unit; `systemctl reload UNIT` is run.
    pub systemd: String,
}

/// Signalling a process.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SignalReload {
    /// `HUP`, `TERM`, `USR1` or `USR2`.
    pub signal: Signal,
    /// The file that holds the process number, in decimal.
    pub pid_file: PathBuf,
}

impl SystemdReload {
    /// `systemctl reload` of this unit.
    pub fn new(unit: impl Into<String>) -> Self {
        Self { systemd: unit.into() }
    }
}

impl SignalReload {
    /// This signal to the process of this pid file.
    pub fn new(signal: Signal, pid_file: impl Into<PathBuf>) -> Self {
        Self { signal, pid_file: pid_file.into() }
    }
}

impl ReloadSetting {
    /// The step for a plan; `None` for an empty command, which means "nothing needs to be told".
    #[must_use]
    pub fn reload(&self) -> Option<Reload> {
        match self {
            Self::Command(command) => command.command().map(Reload::Command),
            Self::Systemd(unit) => Some(Reload::Command(Command::new(["systemctl", "reload", &unit.systemd]))),
            Self::Signal(signal) => Some(Reload::Signal { signal: signal.signal, pid_file: signal.pid_file.clone() }),
        }
    }
}

//! Ways to other machines.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connector::SettingError;
use crate::context::Context;
use crate::host::Host;

/// A way to other machines: its name in a target's `via`, its settings, and how a machine is made of them.
pub trait Route: 'static {
    /// The name in configurations: `ssh`.
    const KIND: &'static str;
    /// One sentence: how machines are reached.
    const SUMMARY: &'static str;
    /// The settings of one machine. Their doc comments are the reference page.
    type Settings: DeserializeOwned + Serialize + JsonSchema;

    /// Turns settings into a machine. Touches neither network nor disk.
    ///
    /// # Errors
    /// A setting that parses and cannot be right.
    fn build(settings: Self::Settings) -> Result<Remote, SettingError>;
}

/// Another machine.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Remote {
    /// How files are deployed to it.
    pub host: Arc<dyn Host>,
    /// Where journals, locks and markers of its targets live, on that machine.
    pub state_directory: PathBuf,
}

impl Remote {
    /// A machine.
    pub fn new(host: Arc<dyn Host>, state_directory: impl Into<PathBuf>) -> Self {
        Self { host, state_directory: state_directory.into() }
    }

    /// A context for what is done on it.
    #[must_use]
    pub fn context(&self, context: &Context) -> Context {
        context.clone().with_host(Arc::clone(&self.host)).with_state_directory(&self.state_directory)
    }
}

/// One way to other machines, of a [`crate::Registry`].
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct RouteEntry {
    /// Its name in configurations.
    pub kind: &'static str,
    /// One sentence about it.
    pub summary: &'static str,
    schema: fn() -> schemars::Schema,
    build: fn(serde_json::Value) -> Result<Remote, SettingError>,
}

impl RouteEntry {
    pub(crate) fn of<R: Route>() -> Self {
        Self { kind: R::KIND, summary: R::SUMMARY, schema: || schemars::schema_for!(R::Settings), build: build::<R> }
    }

    /// The JSON Schema of its settings.
    #[must_use]
    pub fn schema(&self) -> schemars::Schema {
        (self.schema)()
    }

    /// Makes a machine of its settings.
    ///
    /// # Errors
    /// Where and why the settings are wrong.
    pub fn build(&self, settings: serde_json::Value) -> Result<Remote, SettingError> {
        (self.build)(settings)
    }
}

fn build<R: Route>(settings: serde_json::Value) -> Result<Remote, SettingError> {
    R::build(crate::connector::parse(settings)?)
}

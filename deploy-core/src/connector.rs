//! Kinds of targets, and the set of them that an agent knows.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error as ThisError;

use crate::discovery::{Found, Look, not_possible};
use crate::error::Error;
use crate::route::{Route, RouteEntry};
use crate::target::{Capabilities, Target};

/// A kind of target: its name, its configuration, and how one is made of the other.
pub trait Connector: 'static {
    /// The name in configurations: `nginx`.
    const KIND: &'static str;
    /// One sentence: what is deployed to.
    const SUMMARY: &'static str;
    /// What targets of this kind can and cannot do.
    const CAPABILITIES: Capabilities;
    /// Whether its targets are on another machine always, so that they need a `via`.
    const NEEDS_ROUTE: bool = false;
    /// The configuration of one target. Its doc comments are the reference page.
    type Settings: DeserializeOwned + Serialize + JsonSchema;

    /// Turns settings into a target. Touches neither network nor disk.
    ///
    /// # Errors
    /// A setting that parses and cannot be right.
    fn build(name: &str, settings: Self::Settings) -> Result<Box<dyn Target>, SettingError>;

    /// What the server on this host serves today, out of its own configuration. Changes nothing.
    ///
    /// # Errors
    /// The server is not there, or its configuration cannot be read; always, for a kind that cannot look.
    fn discover(look: &Look<'_>) -> Result<Vec<Found>, Error> {
        let _nobody = look;
        Err(not_possible(Self::KIND))
    }
}

/// A setting that cannot be right.
#[derive(Debug, ThisError)]
#[error("{message}")]
#[non_exhaustive]
pub struct SettingError {
    /// The path to it, as in `verify[0].connect`; empty for the target as a whole.
    pub path: String,
    /// What is wrong with it.
    pub message: String,
}

impl SettingError {
    /// At a path.
    pub fn new(path: impl Into<String>, message: impl Into<String>) -> Self {
        Self { path: path.into(), message: message.into() }
    }
}

/// The kinds that an agent knows, and the ways to other machines. Nothing registers itself: an agent names what it selects.
///
/// Of two connectors that claim one kind the later one wins, so that a third party can replace a standard one.
#[derive(Debug, Default)]
pub struct Registry {
    kinds: BTreeMap<&'static str, Entry>,
    routes: BTreeMap<&'static str, RouteEntry>,
}

/// One kind of target.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// Its name in configurations.
    pub kind: &'static str,
    /// One sentence about it.
    pub summary: &'static str,
    /// What it can and cannot do.
    pub capabilities: Capabilities,
    /// Whether its targets need a `via`.
    pub needs_route: bool,
    schema: fn() -> schemars::Schema,
    build: Build,
    discover: fn(&Look<'_>) -> Result<Vec<Found>, Error>,
}

type Build = fn(&str, serde_json::Value) -> Result<Box<dyn Target>, SettingError>;

impl Registry {
    /// No kinds.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With one more kind.
    #[must_use]
    pub fn with<C: Connector>(mut self) -> Self {
        let entry = Entry {
            kind: C::KIND,
            summary: C::SUMMARY,
            capabilities: C::CAPABILITIES,
            needs_route: C::NEEDS_ROUTE,
            schema: || schemars::schema_for!(C::Settings),
            build: build::<C>,
            discover: C::discover,
        };
        self.kinds.insert(C::KIND, entry);
        self
    }

    /// With one more way to other machines.
    #[must_use]
    pub fn with_route<R: Route>(mut self) -> Self {
        self.routes.insert(R::KIND, RouteEntry::of::<R>());
        self
    }

    /// One kind by name.
    #[must_use]
    pub fn get(&self, kind: &str) -> Option<&Entry> {
        self.kinds.get(kind)
    }

    /// One way to other machines by name.
    #[must_use]
    pub fn route(&self, kind: &str) -> Option<&RouteEntry> {
        self.routes.get(kind)
    }

    /// All ways to other machines, by name.
    pub fn routes(&self) -> impl Iterator<Item = &RouteEntry> {
        self.routes.values()
    }

    /// All kinds, by name.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.kinds.values()
    }
}

impl Entry {
    /// The JSON Schema of its settings.
    #[must_use]
    pub fn schema(&self) -> schemars::Schema {
        (self.schema)()
    }

    /// Makes a target of its settings.
    ///
    /// # Errors
    /// Where and why the settings are wrong.
    pub fn build(&self, name: &str, settings: serde_json::Value) -> Result<Box<dyn Target>, SettingError> {
        (self.build)(name, settings)
    }

    /// What the server on this host serves today; see [`Connector::discover`].
    ///
    /// # Errors
    /// Why nothing could be found out.
    pub fn discover(&self, look: &Look<'_>) -> Result<Vec<Found>, Error> {
        (self.discover)(look)
    }
}

fn build<C: Connector>(name: &str, settings: serde_json::Value) -> Result<Box<dyn Target>, SettingError> {
    C::build(name, parse(settings)?)
}

/// Settings as their type, or where and why they are none.
pub(crate) fn parse<S: DeserializeOwned>(settings: serde_json::Value) -> Result<S, SettingError> {
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let path = error.path().to_string();
        SettingError::new(if path == "." { String::new() } else { path }, error.inner().to_string())
    })
}

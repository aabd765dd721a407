//! The machine that a target is on, where it is not this one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploy_core::certificate::{CertificateSource, Loaded};
use deploy_core::host::{Host, Local};
use deploy_core::{Error, Recovery, Registry, Reload, Remote, RouteEntry, SettingError, Target};
use serde_json::Value as Json;

use crate::nearest;

/// Another machine, as the configuration names it. Targets with the same `via` share one, and its connection with it.
#[derive(Clone, Debug)]
pub(crate) struct Machine {
    /// Its settings: what makes two of them the same.
    via: Json,
    /// The same as text.
    text: String,
    /// How files are deployed to it.
    pub(crate) remote: Remote,
}

impl PartialEq for Machine {
    fn eq(&self, other: &Self) -> bool {
        self.via == other.via
    }
}

impl Machine {
    /// Its settings: those of another machine differ.
    pub(crate) fn via(&self) -> &str {
        &self.text
    }

    /// Whether it is the one of these settings.
    pub(crate) fn is(&self, via: &Json) -> bool {
        self.via == *via
    }

    /// The machine of a `via`, as [`route`] found it.
    ///
    /// # Errors
    /// Where and why its settings are wrong; paths begin with `via`.
    pub(crate) fn build(entry: &RouteEntry, via: &Json) -> Result<Self, SettingError> {
        let built = entry.build(via[entry.kind].clone());
        let remote = built.map_err(|error| {
            let dot = if error.path.is_empty() { "" } else { "." };
            SettingError::new(format!("via.{}{dot}{}", entry.kind, error.path), error.message)
        })?;
        Ok(Self::new(via.clone(), remote))
    }

    /// A machine and the settings that it was made of.
    pub(crate) fn new(via: Json, remote: Remote) -> Self {
        Self { text: via.to_string(), via, remote }
    }
}

/// The way that a `via` names.
///
/// # Errors
/// It is no table of one way that this program knows.
pub(crate) fn route<'a>(via: &Json, registry: &'a Registry) -> Result<&'a RouteEntry, SettingError> {
    let known: Vec<&str> = registry.routes().map(|route| route.kind).collect();
    let Some(ways) = via.as_object().filter(|ways| ways.len() == 1) else {
        return Err(SettingError::new("via", "name one way to the machine: via = { ssh = { host = \"web1\" } }"));
    };
    let way = ways.keys().next().map(String::as_str).unwrap_or_default();
    registry.route(way).ok_or_else(|| {
        SettingError::new(format!("via.{way}"), format!("there is no way `{way}`; {}", nearest::advice(way, &known)))
    })
}

/// Whether a target can be on another machine.
///
/// # Errors
/// Something of it would be done from here, and mean this machine.
pub(crate) fn check_remote(kind: &str, target: &dyn Target) -> Result<(), SettingError> {
    let refuse = |what: &str| Err(SettingError::new("via", format!("the kind `{kind}` {what}")));
    let Recovery::Files(hooks) = target.recovery() else {
        return refuse("makes calls to an API, which are made from here: leave `via` out");
    };
    if hooks.reload.iter().flat_map(Reload::steps).any(|step| matches!(step, Reload::Call(_))) {
        return refuse("is told by a call that would be made from here: have it reloaded by a command, or run certdeploy there");
    }
    Ok(())
}

/// A certificate of this machine for a target on another one.
#[derive(Debug)]
pub(crate) struct ReadHere(pub(crate) Arc<dyn CertificateSource>);

impl CertificateSource for ReadHere {
    fn load(&self, _: &dyn Host) -> Result<Loaded, Error> {
        self.0.load(&Local::new())
    }
}

/// Two of these targets that are on one other machine and write one file there, by its path.
pub(crate) fn shared_path<'a>(
    targets: impl Iterator<Item = (&'a str, &'a Machine, &'a dyn Target)>,
) -> Option<([&'a str; 2], PathBuf)> {
    let mut seen: Vec<(&str, &Machine, PathBuf)> = Vec::new();
    for (name, machine, target) in targets {
        for path in target.destinations() {
            let same = |(other, on, known): &&(&str, &Machine, PathBuf)| {
                *other != name && *on == machine && plain(known) == plain(&path)
            };
            if let Some((other, ..)) = seen.iter().find(same) {
                return Some(([other, name], path));
            }
            seen.push((name, machine, path));
        }
    }
    None
}

/// Without dots and doubled slashes. Links are that machine's, and found there.
fn plain(path: &Path) -> PathBuf {
    path.components().collect()
}

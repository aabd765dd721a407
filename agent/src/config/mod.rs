//! The configuration: certificates, targets, and everything that can be wrong with them.

mod load;
mod locate;
mod machine;
mod placeholder;
mod problem;
mod settings;
mod source;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deploy_core::certificate::CertificateSource;
use deploy_core::{Job, Target};

pub(crate) use load::{load, unknown_kind};
pub(crate) use machine::Machine;
pub(crate) use problem::{ConfigurationError, Problem};
pub(crate) use settings::{AgentSettings, CertificateSettings, TargetSettings};

/// A configuration in which everything is right, as far as that can be told without looking at what it names.
#[derive(Debug)]
pub(crate) struct Configuration {
    /// The files that it was read from.
    pub(crate) files: Vec<PathBuf>,
    /// Settings of the program itself.
    pub(crate) agent: AgentSettings,
    /// The names of the certificates, in the order of the files.
    pub(crate) certificates: Vec<String>,
    /// The targets, in the order of the files; at least one.
    pub(crate) targets: Vec<ConfiguredTarget>,
    /// What the operator should know.
    pub(crate) warnings: Vec<Problem>,
}

/// One target.
#[derive(Clone, Debug)]
pub(crate) struct ConfiguredTarget {
    /// Its name; unique.
    pub(crate) name: String,
    /// Its kind.
    pub(crate) kind: String,
    /// The name of its certificate.
    pub(crate) certificate: String,
    /// The service that it was said to be part of.
    pub(crate) service: Option<String>,
    /// The machine that it is on; `None` for this one.
    pub(crate) machine: Option<Machine>,
    /// Its own time limit.
    pub(crate) timeout: Option<Duration>,
    /// The target.
    pub(crate) target: Arc<dyn Target>,
    /// The certificate.
    pub(crate) source: Arc<dyn CertificateSource>,
}

impl ConfiguredTarget {
    /// What the engine gets.
    pub(crate) fn job(&self) -> Job {
        Job::new(&self.name, &self.kind, Arc::clone(&self.target), Arc::clone(&self.source))
    }
}

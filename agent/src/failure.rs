//! Why a command could not even start.

use std::any::Any;

use crate::config::ConfigurationError;
use crate::exit;

/// Nothing was done, and this is why.
#[derive(Debug)]
pub(crate) enum Failure {
    /// A defect of the program.
    Defect(String),
    /// Something that the system refused to the program itself.
    Internal(String),
    /// The configuration is wrong.
    Configuration(ConfigurationError),
    /// What a server serves cannot be found out.
    Discovery(deploy_core::Error),
    /// The command line is wrong.
    Usage(String),
}

impl Failure {
    /// What ended the program's own thread.
    pub(crate) fn defect(panic: &(dyn Any + Send)) -> Self {
        let text = panic.downcast_ref::<&str>().map(|&text| text.to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        Self::Defect(format!("the program stopped: {}", text.as_deref().unwrap_or("it did not say why")))
    }

    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Defect(_) | Self::Internal(_) | Self::Discovery(_) => exit::FAILURE,
            Self::Configuration(_) | Self::Usage(_) => exit::USAGE,
        }
    }

    /// As in JSON.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Defect(_) | Self::Internal(_) => "internal",
            Self::Configuration(_) => "configuration_invalid",
            Self::Discovery(error) => error.kind().name(),
            Self::Usage(_) => "usage",
        }
    }

    /// What is wrong: one line for each problem.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Defect(message) | Self::Internal(message) | Self::Usage(message) => message.clone(),
            Self::Configuration(error) => error.to_string(),
            Self::Discovery(error) => error.full_message(),
        }
    }

    /// What to do about it.
    pub(crate) fn next_step(&self) -> String {
        match self {
            Self::Defect(_) => "run `certdeploy recover`, then `certdeploy status`, and report this as a defect".to_owned(),
            Self::Internal(_) => "run `certdeploy doctor`".to_owned(),
            Self::Configuration(error) => error.next_step(),
            Self::Discovery(error) => error.next_step().to_owned(),
            Self::Usage(_) => "run `certdeploy help`".to_owned(),
        }
    }
}

impl From<ConfigurationError> for Failure {
    fn from(error: ConfigurationError) -> Self {
        Self::Configuration(error)
    }
}

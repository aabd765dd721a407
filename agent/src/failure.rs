//! Why a command could not even start.

use crate::config::ConfigurationError;
use crate::exit;

/// Nothing was done, and this is why.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Something that the system refused to the program itself.
    Internal(String),
    /// The configuration is wrong.
    Configuration(ConfigurationError),
    /// The command line is wrong.
    Usage(String),
}

impl Failure {
    /// The exit code.
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Internal(_) => exit::FAILURE,
            Self::Configuration(_) | Self::Usage(_) => exit::USAGE,
        }
    }

    /// As in JSON.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Internal(_) => "internal",
            Self::Configuration(_) => "configuration_invalid",
            Self::Usage(_) => "usage",
        }
    }

    /// What is wrong: one line for each problem.
    pub(crate) fn message(&self) -> String {
        match self {
            Self::Internal(message) | Self::Usage(message) => message.clone(),
            Self::Configuration(error) => error.to_string(),
        }
    }

    /// What to do about it.
    pub(crate) fn next_step(&self) -> String {
        match self {
            Self::Internal(_) => "run `certdeploy doctor`".to_owned(),
            Self::Configuration(error) => error.next_step(),
            Self::Usage(_) => "run `certdeploy help`".to_owned(),
        }
    }
}

impl From<ConfigurationError> for Failure {
    fn from(error: ConfigurationError) -> Self {
        Self::Configuration(error)
    }
}

//! What is wrong with a configuration, and where.

use std::fmt;
use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::secret::withhold;
use thiserror::Error;

use crate::nearest;

/// Everything that is wrong with a configuration.
#[derive(Clone, Debug, Error)]
#[error("{}", .problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
pub(crate) struct ConfigurationError {
    /// At least one, in the order of the files and lines.
    pub(crate) problems: Vec<Problem>,
    /// The state directory that the configuration names, if that much could be read.
    pub(crate) state_directory: Option<PathBuf>,
    /// The main file is not there.
    pub(crate) missing: bool,
}

impl ConfigurationError {
    /// What to do about it.
    pub(crate) fn next_step(&self) -> String {
        if self.missing {
            "write the file, or name another with --config PATH; the settings of a kind: certdeploy connectors schema KIND"
                .to_owned()
        } else {
            "correct the configuration, then run `certdeploy check-config`".to_owned()
        }
    }
}

/// One thing that is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    /// The file.
    pub(crate) file: PathBuf,
    /// Line and column, from 1, where it is about a place in the file.
    pub(crate) position: Option<(usize, usize)>,
    /// What it is about: ``target `front` ``.
    pub(crate) subject: Option<String>,
    /// What is wrong.
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.file.display())?;
        if let Some((line, column)) = self.position {
            write!(formatter, ":{line}:{column}")?;
        }
        if let Some(subject) = &self.subject {
            write!(formatter, ": {}", withhold(subject))?;
        }
        // Errors quote values, and somebody may have pasted a key where its path belongs.
        write!(formatter, ": {}", withhold(&self.message))
    }
}

/// A setting error in words: the nearest name for an unknown field, the path in front of everything else. `more` are names
/// that are known here beside those that the error lists.
pub(super) fn explain(error: &SettingError, more: &[&str]) -> String {
    if let Some((field, mut known)) = unknown_field(&error.message) {
        // Settings of the agent stand at the top of a target only.
        if error.path.is_empty() || error.path == field {
            known.extend(more);
        }
        return format!("unknown field `{field}`; {}", nearest::advice(field, &known));
    }
    match error.path.as_str() {
        "" => error.message.clone(),
        path => format!("`{path}`: {}", error.message),
    }
}

/// The field of serde's "unknown field `x`, expected one of `a`, `b`", and the names that it knows.
pub(super) fn unknown_field(message: &str) -> Option<(&str, Vec<&str>)> {
    let mut quoted = message.strip_prefix("unknown field ")?.split('`').skip(1).step_by(2);
    let field = quoted.next()?;
    Some((field, quoted.collect()))
}

/// The field of serde's "missing field `x`".
pub(super) fn missing_field(message: &str) -> Option<&str> {
    message.strip_prefix("missing field `")?.strip_suffix('`')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a7_the_nearest_known_field_is_named() {
        let error = SettingError::new("verify[0].conect", "unknown field `conect`, expected one of `connect`, `server_name`");
        assert_eq!(explain(&error, &["certificate"]), "unknown field `conect`; did you mean `connect`?");
        let error = SettingError::new("cert", "unknown field `cert`, expected `key` or `mode`");
        assert_eq!(explain(&error, &["certificate"]), "unknown field `cert`; did you mean `certificate`?");
        let error = SettingError::new("x", "unknown field `x`, there are no fields");
        assert_eq!(explain(&error, &[]), "unknown field `x`; there are none");
    }

    #[test]
    fn s1_a_key_that_was_pasted_into_a_setting_is_not_shown() {
        let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2";
        let message = format!("`-----BEGIN PRIVATE KEY-----\\n{key}` is not an absolute path");
        let problem = Problem { file: "/c.toml".into(), position: None, subject: Some(format!("target `{key}`")), message };
        assert!(!problem.to_string().contains("evZzL1gdAFr88hb2"), "{problem}");
        assert!(problem.to_string().starts_with("/c.toml: target"));
    }

    #[test]
    fn other_errors_name_the_setting() {
        let error = SettingError::new("key", "invalid type: integer `5`, expected path string");
        assert_eq!(explain(&error, &[]), "`key`: invalid type: integer `5`, expected path string");
        assert_eq!(explain(&SettingError::new("", "missing field `key`"), &[]), "missing field `key`");
    }
}

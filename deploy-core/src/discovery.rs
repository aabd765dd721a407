//! What a server serves today, read out of its own configuration: the start of a target for it.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::command::{Command, CommandError, Limits};
use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::probe::Endpoint;
use crate::secret::{SourceFileError, read_source_file};

/// The longest configuration that is read, in bytes.
const LIMIT: usize = 4 << 20;

/// One certificate that a server serves today.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// The names that it is served for; may be empty.
    pub names: Vec<String>,
    /// Settings of a target that renews it.
    pub settings: Map<String, Value>,
}

impl Found {
    /// Served for these names, with nothing set yet.
    pub fn new<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        Self { names: names.into_iter().map(Into::into).collect(), settings: Map::new() }
    }

    /// With one more setting. One that cannot be written as JSON is left out.
    #[must_use]
    pub fn with(mut self, setting: &str, value: impl Serialize) -> Self {
        if let Ok(value) = serde_json::to_value(value) {
            self.settings.insert(setting.to_owned(), value);
        }
        self
    }
}

/// Where a server can be seen, asked by this name; `None` where `connect` is no such place.
#[must_use]
pub fn endpoint_at(connect: impl Into<String>, name: Option<&str>) -> Option<Endpoint> {
    let endpoint = Endpoint { server_name: name.map(str::to_owned), ..Endpoint::new(connect) };
    endpoint.check().is_ok().then_some(endpoint)
}

/// A look at this host, which changes nothing.
#[derive(Debug)]
pub struct Look<'a> {
    context: &'a Context,
    instead: Option<Command>,
}

impl<'a> Look<'a> {
    /// A look through the host of a context.
    #[must_use]
    pub fn new(context: &'a Context) -> Self {
        Self { context, instead: None }
    }

    /// With another command in place of the one by which a server usually shows its configuration.
    #[must_use]
    pub fn with_command(mut self, command: impl Into<Option<Command>>) -> Self {
        self.instead = command.into();
        self
    }

    /// What a server's command prints about its configuration: `usual`, or what the operator named in its place.
    ///
    /// # Errors
    /// It is not there, fails, takes longer than 30 seconds or prints more than four megabytes.
    pub fn run(&self, usual: &[&str]) -> Result<String, Error> {
        let mut command = self.instead.clone().unwrap_or_else(|| Command::new(usual));
        command.output_limit = LIMIT;
        let failed = |message: String| {
            Error::new(ErrorKind::PlanInvalid, message)
                .with_next_step("write the right command after `--`, as in `certdeploy connectors discover nginx -- nginx -T`")
        };
        let limits = Limits::new(self.context.deadline(), Some(self.context.cancellation()));
        let output = self.context.host().run(&command, None, &limits).map_err(|error| {
            let text = match &error {
                CommandError::NotFound { .. } => "is not on this host",
                _ => "did not show its configuration",
            };
            failed(format!("`{}` {text}", command.display())).with_source(error)
        })?;
        if !output.success() {
            return Err(failed(format!("`{}` failed: {}", command.display(), output.verdict())));
        }
        if output.truncated {
            return Err(failed(format!("`{}` prints more than {LIMIT} bytes", command.display())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// A server's configuration out of its one file, or what the command prints that the operator named in its place.
    ///
    /// # Errors
    /// As [`Self::run`] and [`Self::read`], and if there is no such file.
    pub fn show(&self, usual: &Path) -> Result<String, Error> {
        if self.instead.is_some() {
            return self.run(&[]);
        }
        self.read(usual)?.ok_or_else(|| {
            Error::new(ErrorKind::PlanInvalid, format!("{} is not on this host", usual.display())).with_next_step(
                "write a command that prints the configuration after `--`, as in \
                 `certdeploy connectors discover haproxy -- cat /srv/haproxy.cfg`",
            )
        })
    }

    /// Whether this is a directory of this host, or a link to one. Of a path in a container nobody can tell.
    #[must_use]
    pub fn is_directory(&self, path: &Path) -> bool {
        self.context.host().open_directory(path).is_ok()
    }

    /// The text of a file, or of the one that a link leads to; `None` if it does not exist.
    ///
    /// # Errors
    /// It cannot be read, or is longer than four megabytes.
    pub fn read(&self, path: &Path) -> Result<Option<String>, Error> {
        match read_source_file(self.context.host(), path, LIMIT as u64) {
            Ok((bytes, _)) => Ok(Some(String::from_utf8_lossy(bytes.expose()).into_owned())),
            Err(SourceFileError::Empty { .. }) => Ok(Some(String::new())),
            Err(SourceFileError::Missing { .. }) => Ok(None),
            Err(error) => Err(Error::new(ErrorKind::PermissionDenied, format!("{} cannot be read", path.display()))
                .with_source(error)
                .with_next_step("run it as a user who may read the server's configuration")),
        }
    }
}

/// The error of a kind whose server cannot be asked.
pub(crate) fn not_possible(kind: &str) -> Error {
    Error::new(ErrorKind::PlanInvalid, format!("{kind} has no configuration here that could be read"))
        .with_next_step("see the page of this kind for a configuration that works as pasted")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::disallowed_methods, reason = "tests that prepare files")]

    use super::*;

    #[test]
    fn a_configuration_is_shown_out_of_its_file_or_by_the_command_in_its_place() {
        let directory = tempfile::tempdir().unwrap();
        let [file, link] = ["real.cfg", "usual.cfg"].map(|name| directory.path().join(name));
        let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
        let look = Look::new(&context);
        let error = look.show(&link).unwrap_err();
        assert!(error.next_step().contains("after `--`"), "{}", error.next_step());

        std::fs::write(&file, "bind :443").unwrap();
        std::os::unix::fs::symlink("real.cfg", &link).unwrap();
        assert_eq!(look.show(&link).unwrap(), "bind :443");
        let look = Look::new(&context).with_command(Command::new(["echo", "bind :8443"]));
        assert_eq!(look.show(&link).unwrap(), "bind :8443\n");
    }

    #[test]
    fn a_link_to_a_directory_is_a_directory() {
        let directory = tempfile::tempdir().unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(".", &link).unwrap();
        let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
        let look = Look::new(&context);
        assert!(look.is_directory(&link) && look.is_directory(directory.path()));
        assert!(!look.is_directory(&directory.path().join("missing")));
    }
}

//! The sources of credentials, in their order.

mod container;
mod instance;
mod process;
mod sso;
mod sts;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploy_core::secret::{SecretBytes, SecretString, SourceFileError, read_source_file};
use deploy_core::{Context, Error, ErrorKind};
use deploy_http::{Client, ClientBuilder};

use crate::credentials::Credentials;
use crate::login::Role;
use crate::profiles::{Profile, Profiles};

/// The longest file that is read, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// As many profiles may lead to one another.
const CHAIN_LIMIT: usize = 5;

/// What sources are looked up in: variables, files, the network.
pub(crate) struct Surroundings<'a> {
    pub(crate) context: &'a Context,
    pub(crate) region: &'a str,
    ca_file: Option<&'a Path>,
}

impl<'a> Surroundings<'a> {
    pub(crate) fn new(context: &'a Context, region: &'a str, ca_file: Option<&'a Path>) -> Self {
        Self { context, region, ca_file }
    }

    /// A variable that is no secret, and not empty.
    pub(crate) fn variable(&self, name: &str) -> Option<String> {
        self.secret_variable(name).map(|value| value.expose().to_owned())
    }

    pub(crate) fn secret_variable(&self, name: &str) -> Option<SecretString> {
        self.context.variable(name).filter(|value| !value.expose().is_empty())
    }

    /// `~/.aws/NAME`.
    pub(crate) fn in_home(&self, name: &str) -> Option<PathBuf> {
        self.variable("HOME").map(|home| Path::new(&home).join(".aws").join(name))
    }

    /// With the home directory for a tilde.
    pub(crate) fn expand(&self, path: &str) -> Option<PathBuf> {
        match path.strip_prefix("~/") {
            Some(rest) => self.variable("HOME").map(|home| Path::new(&home).join(rest)),
            None => Some(path.into()),
        }
    }

    /// A file and its mode; `None` if there is none, or nothing in it.
    pub(crate) fn file(&self, path: &Path) -> Result<Option<(SecretBytes, u32)>, Error> {
        match read_source_file(self.context.host(), path, SIZE_LIMIT) {
            Ok((bytes, status)) => Ok(Some((bytes, status.mode))),
            Err(SourceFileError::Missing { .. } | SourceFileError::Empty { .. }) => Ok(None),
            Err(SourceFileError::Unreadable { source, .. }) if source.kind() == io::ErrorKind::NotADirectory => Ok(None),
            Err(error) => {
                let message = format!("{}, where AWS credentials would come from, cannot be used", path.display());
                Err(Error::new(ErrorKind::ConfigurationInvalid, message).with_source(error))
            }
        }
    }

    /// A token in a file that has to be there: on one line.
    pub(crate) fn token(&self, path: &str) -> Result<SecretString, Error> {
        let unusable = |message: &str| Error::new(ErrorKind::ConfigurationInvalid, format!("the token file {path} {message}"));
        let path = self.expand(path).ok_or_else(|| unusable("is in a home directory, and HOME is not set"))?;
        let (bytes, _) = self.file(&path)?.ok_or_else(|| unusable("is not there, or empty"))?;
        let text = std::str::from_utf8(bytes.expose()).map_err(|error| unusable("is not text").with_source(error))?;
        match text.trim() {
            token if token.contains(char::is_control) => Err(unusable("has more than one line")),
            token => Ok(SecretString::from(token.to_owned())),
        }
    }

    /// For AWS's own addresses.
    pub(crate) fn client(&self, url: &str) -> ClientBuilder {
        Client::builder(url).with_ca_file(self.ca_file.map(Path::to_owned))
    }

    /// For an address on this machine or of the machine below, which answers at once or not at all.
    pub(crate) fn metadata(&self, url: &str, timeout: Duration) -> ClientBuilder {
        Client::builder(url).with_metadata_service().with_timeout(timeout)
    }

    pub(crate) fn ca_file(&self) -> Option<PathBuf> {
        self.ca_file.map(Path::to_owned)
    }
}

/// From the first source that has any.
pub(crate) async fn find(profile: Option<&str>, around: &Surroundings<'_>) -> Result<Credentials, Error> {
    if profile.is_none()
        && let Some(found) = environment(around)
    {
        return Ok(found);
    }
    let profiles = Profiles::load(profile, around)?;
    let chosen = profiles.chosen();
    let has_role = chosen.is_some_and(|chosen| chosen.get("role_arn").is_some());
    if profile.is_none()
        && !has_role
        && let (Some(file), Some(role)) = (around.variable("AWS_WEB_IDENTITY_TOKEN_FILE"), around.variable("AWS_ROLE_ARN"))
    {
        let session = around.variable("AWS_ROLE_SESSION_NAME");
        return sts::web_identity(&Role { session_name: session, ..Role::new(role) }, &file, around).await;
    }
    if chosen.is_some()
        && let Some(found) = of_profile(profiles.chosen_name(), &profiles, around).await?
    {
        return Ok(found);
    }
    if let Some(found) = container::find(around).await? {
        return Ok(found);
    }
    instance::find(around).await?.ok_or_else(nothing)
}

/// STS `AssumeRole`.
pub(crate) async fn assume(role: &Role, with: Credentials, around: &Surroundings<'_>) -> Result<Credentials, Error> {
    sts::assume_role(role, None, with, around).await
}

fn environment(around: &Surroundings<'_>) -> Option<Credentials> {
    let (id, secret) = (around.variable("AWS_ACCESS_KEY_ID")?, around.secret_variable("AWS_SECRET_ACCESS_KEY")?);
    Some(Credentials::new(id, secret, around.secret_variable("AWS_SESSION_TOKEN")))
}

/// What a profile leads to; `None` if it is about something else, such as a region.
async fn of_profile(name: &str, profiles: &Profiles, around: &Surroundings<'_>) -> Result<Option<Credentials>, Error> {
    let mut roles: Vec<&Profile> = Vec::new();
    let mut name = name.to_owned();
    let found = loop {
        let profile =
            profiles.get(&name).ok_or_else(|| invalid(&name, "does not exist, and another one has it as its source"))?;
        let Some(role) = profile.get("role_arn") else { break direct(&name, profile, profiles, around).await? };
        if let Some(file) = profile.get("web_identity_token_file") {
            let role = Role { session_name: profile.get("role_session_name").map(str::to_owned), ..Role::new(role) };
            break Some(sts::web_identity(&role, file, around).await?);
        }
        roles.push(profile);
        match (profile.get("source_profile"), profile.get("credential_source")) {
            _ if roles.len() > CHAIN_LIMIT => return Err(invalid(&name, "is at the end of a chain of too many profiles")),
            // A profile that is its own source has an access key, too.
            (Some(source), _) if source == name => break direct(&name, profile, profiles, around).await?,
            (Some(source), _) => name = source.to_owned(),
            (None, Some("Environment")) => break environment(around),
            (None, Some("Ec2InstanceMetadata")) => break instance::find(around).await?,
            (None, Some("EcsContainer")) => break container::find(around).await?,
            (None, _) => return Err(invalid(&name, "has a role, and no source_profile or credential_source to assume it with")),
        }
    };
    let Some(mut credentials) = found else {
        return if roles.is_empty() { Ok(None) } else { Err(invalid(&name, "has no credentials to assume a role with")) };
    };
    for profile in roles.into_iter().rev() {
        if profile.get("mfa_serial").is_some() {
            return Err(invalid(&name, "leads to a role that asks for a second factor, which nobody can give here"));
        }
        let role = Role {
            external_id: profile.get("external_id").map(str::to_owned),
            session_name: profile.get("role_session_name").map(str::to_owned),
            ..Role::new(profile.get("role_arn").unwrap_or_default())
        };
        credentials = sts::assume_role(&role, profile.get("duration_seconds"), credentials, around).await?;
    }
    Ok(Some(credentials))
}

/// What a profile has by itself.
async fn direct(
    name: &str,
    profile: &Profile,
    profiles: &Profiles,
    around: &Surroundings<'_>,
) -> Result<Option<Credentials>, Error> {
    if let Some(login) = sso::Login::of(name, profile, profiles)? {
        return login.credentials(around).await.map(Some);
    }
    if let (Some(id), Some(secret)) = (profile.get("aws_access_key_id"), profile.get("aws_secret_access_key")) {
        let [secret, token] = [Some(secret), profile.get("aws_session_token")].map(|text| text.map(str::to_owned));
        return Ok(Some(Credentials::new(id, secret.unwrap_or_default().into(), token.map(SecretString::from))));
    }
    profile.get("credential_process").map(|command| process::run(command, around)).transpose()
}

pub(crate) fn invalid(profile: &str, message: &str) -> Error {
    Error::new(ErrorKind::ConfigurationInvalid, format!("the AWS profile `{profile}` {message}"))
        .with_next_step("correct it in ~/.aws/config, or name another one as `profile`; then run again")
}

fn nothing() -> Error {
    Error::new(
        ErrorKind::Unauthenticated,
        "there are no AWS credentials: not in the target, the environment, a profile, a container or an instance",
    )
    .with_next_step("give this machine a role, or the target a `profile` or an `access_key`; then run again")
}

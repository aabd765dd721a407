//! `~/.aws/config` and `~/.aws/credentials` (docs.aws.amazon.com/sdkref/latest/guide/file-format.html).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Error, ErrorKind};

use crate::sources::Surroundings;

/// What the two files say, the credentials file first.
#[derive(Debug, Default)]
pub(crate) struct Profiles {
    profiles: BTreeMap<String, Profile>,
    sessions: BTreeMap<String, Profile>,
    chosen: String,
}

/// The settings of a profile, or of an SSO session; any of them may be a secret.
#[derive(Default)]
pub(crate) struct Profile(BTreeMap<String, SecretString>);

impl Profile {
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(SecretString::expose).filter(|value| !value.is_empty())
    }
}

impl fmt::Debug for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_set().entries(self.0.keys()).finish()
    }
}

impl Profiles {
    /// Reads the files that are there. A profile that somebody asks for by name has to be in one of them.
    pub(crate) fn load(profile: Option<&str>, around: &Surroundings<'_>) -> Result<Self, Error> {
        let named = profile.map(str::to_owned).or_else(|| around.variable("AWS_PROFILE"));
        let mut profiles = Self { chosen: named.clone().unwrap_or_else(|| "default".to_owned()), ..Self::default() };
        if let Some(text) = read(around, "AWS_CONFIG_FILE", "config")? {
            profiles.add(text.expose(), Kind::Config);
        }
        if let Some(text) = read(around, "AWS_SHARED_CREDENTIALS_FILE", "credentials")? {
            profiles.add(text.expose(), Kind::Credentials);
        }
        match named {
            Some(name) if !profiles.profiles.contains_key(&name) => Err(Error::new(
                ErrorKind::ConfigurationInvalid,
                format!("there is no profile `{name}` in the AWS configuration of this user"),
            )
            .with_next_step("see whether HOME, AWS_CONFIG_FILE or AWS_SHARED_CREDENTIALS_FILE lead to the right files")),
            _ => Ok(profiles),
        }
    }

    /// The one that counts, if it is there.
    pub(crate) fn chosen(&self) -> Option<&Profile> {
        self.profiles.get(&self.chosen)
    }

    pub(crate) fn chosen_name(&self) -> &str {
        &self.chosen
    }

    pub(crate) fn get(&self, name: &str) -> Option<&Profile> {
        self.profiles.get(name)
    }

    /// A section `[sso-session NAME]`.
    pub(crate) fn session(&self, name: &str) -> Option<&Profile> {
        self.sessions.get(name)
    }

    fn add(&mut self, text: &str, kind: Kind) {
        let mut section: Option<&mut Profile> = None;
        for line in text.lines() {
            // An indented line goes on with the setting before: none of those that count here does.
            let comment = line.starts_with(['#', ';']);
            if line.trim().is_empty() || comment || (line.starts_with([' ', '\t']) && !line.trim_start().starts_with('[')) {
                continue;
            }
            if let Some(rest) = line.trim_start().strip_prefix('[') {
                let name = rest.split(']').next().unwrap_or_default();
                section = kind.section(name).map(|(session, name)| {
                    let sections = if session { &mut self.sessions } else { &mut self.profiles };
                    sections.entry(name).or_default()
                });
            } else if let (Some(section), Some((name, value))) = (&mut section, line.split_once('=')) {
                let value = without_comment(value).trim().to_owned();
                section.0.insert(name.trim().to_ascii_lowercase(), SecretString::from(value));
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Kind {
    Config,
    Credentials,
}

impl Kind {
    /// Whether it is an SSO session, and its name. Other sections are for other programs.
    fn section(self, name: &str) -> Option<(bool, String)> {
        let words = shlex::split(name)?;
        match (self, words.as_slice()) {
            (Self::Config, [name]) if name == "default" => Some((false, name.clone())),
            (Self::Config, [kind, name]) if kind == "profile" => Some((false, name.clone())),
            (Self::Config, [kind, name]) if kind == "sso-session" => Some((true, name.clone())),
            (Self::Credentials, [name]) => Some((false, name.clone())),
            _ => None,
        }
    }
}

fn without_comment(value: &str) -> &str {
    [" #", " ;", "\t#", "\t;"].iter().fold(value, |value, mark| value.split(mark).next().unwrap_or_default())
}

/// A file that is there. Who can write to it decides which programs run, and who can read it has the secrets.
fn read(around: &Surroundings<'_>, variable: &str, name: &str) -> Result<Option<SecretString>, Error> {
    let Some(path) = around.variable(variable).map(|path| around.expand(&path)).unwrap_or_else(|| around.in_home(name)) else {
        return Ok(None);
    };
    let Some((bytes, mode)) = around.file(&path)? else { return Ok(None) };
    let text = text(bytes, &path)?;
    let secrets = text.expose().contains("aws_secret_access_key") || text.expose().contains("aws_session_token");
    let refused = if secrets { 0o006 } else { 0o002 };
    if mode & refused != 0 {
        let message = format!("{} can be read or written by every user (mode {mode:04o})", path.display());
        return Err(Error::new(ErrorKind::ConfigurationInvalid, message).with_next_step(format!("chmod 0600 {}", path.display())));
    }
    Ok(Some(text))
}

fn text(bytes: SecretBytes, path: &Path) -> Result<SecretString, Error> {
    SecretString::try_from(bytes).map_err(|error| {
        Error::new(ErrorKind::ConfigurationInvalid, format!("{} is not text", path.display())).with_source(error)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_as_the_sdks_read_them() {
        let mut profiles = Profiles::default();
        let config = "# a comment\n[default]\nregion = eu-west-1 ; another\nAWS_ACCESS_KEY_ID=a#b\ns3 =\n  region = nested\n\
                      [profile \"with blank\"]\nregion=us-east-1\n[other thing]\nregion = none\n[sso-session corp]\nsso_region = x\n";
        profiles.add(config, Kind::Config);
        profiles.add("[default]\naws_access_key_id = c\n[profile d]\nregion = e\n", Kind::Credentials);
        let default = profiles.get("default").unwrap();
        assert_eq!(default.get("region"), Some("eu-west-1"));
        assert_eq!(default.get("aws_access_key_id"), Some("c"), "the credentials file counts more");
        assert_eq!(default.get("s3"), None);
        assert_eq!(profiles.get("with blank").unwrap().get("region"), Some("us-east-1"));
        assert_eq!(profiles.session("corp").unwrap().get("sso_region"), Some("x"));
        assert_eq!(profiles.profiles.len(), 2, "{profiles:?}");
    }
}

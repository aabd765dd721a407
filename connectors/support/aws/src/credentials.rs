//! What a request is signed with, and the documents that it comes in.

use std::fmt;
use std::time::SystemTime;

use deploy_core::secret::{SecretRef, SecretString};
use deploy_core::{Context, Error, ErrorKind};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize};

/// An access key, and until when it can be used.
#[derive(Clone)]
pub struct Credentials {
    pub(crate) access_key_id: String,
    pub(crate) secret_access_key: SecretString,
    pub(crate) session_token: Option<SecretString>,
    pub(crate) expires: Option<SystemTime>,
}

impl Credentials {
    /// Of these parts, for good.
    #[must_use]
    pub fn new(access_key_id: impl Into<String>, secret_access_key: SecretString, session_token: Option<SecretString>) -> Self {
        Self { access_key_id: access_key_id.into(), secret_access_key, session_token, expires: None }
    }

    /// Whose key it is: `AKIAIOSFODNN7EXAMPLE`. No secret.
    #[must_use]
    pub fn access_key_id(&self) -> &str {
        &self.access_key_id
    }

    /// When they end, if they do.
    #[must_use]
    pub fn expires(&self) -> Option<SystemTime> {
        self.expires
    }

    pub(crate) fn until(mut self, expires: Option<SystemTime>) -> Self {
        self.expires = expires;
        self
    }
}

/// Without the secrets.
impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// An access key of an IAM user, as the settings of a target name it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AccessKey {
    /// The ID of the key, which is no secret: `AKIAIOSFODNN7EXAMPLE`.
    pub id: String,
    /// Where the secret access key is found.
    pub secret: SecretRef,
    /// Where the session token is found, for temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<SecretRef>,
}

impl AccessKey {
    /// A key without a session token.
    pub fn new(id: impl Into<String>, secret: SecretRef) -> Self {
        Self { id: id.into(), secret, session_token: None }
    }

    pub(crate) fn resolve(&self, context: &Context) -> Result<Credentials, Error> {
        let token = self.session_token.as_ref().map(|token| token.resolve(context)).transpose()?;
        Ok(Credentials::new(&self.id, self.secret.resolve(context)?, token))
    }
}

/// The document of containers, instances and programs. An instance answers 200 with a code where it has no credentials.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Document {
    pub(crate) access_key_id: Option<String>,
    #[serde(default, deserialize_with = "secret")]
    pub(crate) secret_access_key: Option<SecretString>,
    #[serde(default, deserialize_with = "secret", alias = "SessionToken")]
    pub(crate) token: Option<SecretString>,
    pub(crate) expiration: Option<String>,
    pub(crate) code: Option<String>,
    pub(crate) message: Option<String>,
    pub(crate) version: Option<u32>,
}

impl Document {
    /// What it has for us; `whose` begins the error's sentence.
    pub(crate) fn credentials(self, whose: &str) -> Result<Credentials, Error> {
        let (Some(id), Some(secret)) = (self.access_key_id, self.secret_access_key) else {
            let said = [self.code, self.message].into_iter().flatten().collect::<Vec<_>>().join(": ");
            let colon = if said.is_empty() { "" } else { ": " };
            return Err(Error::new(ErrorKind::Unauthenticated, format!("{whose} has no access key{colon}{said}")));
        };
        let expires = self.expiration.as_deref().map(|text| time(text, whose)).transpose()?;
        Ok(Credentials::new(id, secret, self.token).until(expires))
    }
}

/// A point in time as AWS and its tools write it: RFC 3339, with `Z`, `+00:00` or, in old caches, `UTC`.
pub(crate) fn time(text: &str, whose: &str) -> Result<SystemTime, Error> {
    let utc = ["+00:00", "+0000", "UTC"].iter().find_map(|zone| text.strip_suffix(zone)).map(|time| format!("{time}Z"));
    humantime::parse_rfc3339_weak(utc.as_deref().unwrap_or(text)).map_err(|error| {
        Error::new(ErrorKind::Unauthenticated, format!("{whose} does not say in a readable way when its credentials expire"))
            .with_source(error)
    })
}

pub(crate) fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(SecretString::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_in_every_form_that_is_about() {
        for text in ["2026-11-30T03:04:05Z", "2026-11-30T03:04:05+00:00", "2026-11-30T03:04:05UTC", "2026-11-30T03:04:05"] {
            let read = humantime::format_rfc3339_seconds(time(text, "it").unwrap()).to_string();
            assert_eq!(read, "2026-11-30T03:04:05Z", "{text}");
        }
        assert!(time("tomorrow", "it").is_err());
    }

    #[test]
    fn s1_credentials_show_no_secret() {
        let secret = |text: &str| SecretString::from(text.to_owned());
        let credentials = Credentials::new("AKIAEXAMPLE", secret("canary"), Some(secret("canary")));
        let shown = format!("{credentials:?}");
        assert!(shown.contains("AKIAEXAMPLE") && !shown.contains("canary"), "{shown}");
    }
}

//! IAM Identity Center: the token that `aws sso login` left is exchanged for credentials
//! (docs.aws.amazon.com/singlesignon/latest/PortalAPIReference/API_GetRoleCredentials.html).

use std::time::{Duration, SystemTime};

use deploy_core::digest::hex;
use deploy_core::secret::SecretString;
use deploy_core::{Error, ErrorKind};
use deploy_http::Request;
use serde::Deserialize;
use sha1::{Digest as _, Sha1};

use super::{Surroundings, invalid};
use crate::credentials::{Credentials, secret, time};
use crate::endpoint::Endpoint;
use crate::profiles::{Profile, Profiles};

/// What a profile says of its login.
pub(super) struct Login<'a> {
    /// What the token's file is named by: the session, or the address in profiles of the older form.
    cached_as: &'a str,
    region: &'a str,
    account: &'a str,
    role: &'a str,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Cached {
    #[serde(default, deserialize_with = "secret")]
    access_token: Option<SecretString>,
    expires_at: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    role_credentials: RoleCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RoleCredentials {
    access_key_id: String,
    #[serde(default, deserialize_with = "secret")]
    secret_access_key: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    session_token: Option<SecretString>,
    /// Milliseconds since 1970.
    expiration: u64,
}

impl<'a> Login<'a> {
    /// `None` for a profile of another kind.
    pub(super) fn of(name: &str, profile: &'a Profile, profiles: &'a Profiles) -> Result<Option<Self>, Error> {
        let (cached_as, section) = match (profile.get("sso_session"), profile.get("sso_start_url")) {
            (Some(session), _) => {
                let missing = || invalid(name, "names an sso_session that does not exist");
                (session, profiles.session(session).ok_or_else(missing)?)
            }
            (None, Some(url)) => (url, profile),
            (None, None) => return Ok(None),
        };
        let of = |section: &'a Profile, key: &str| {
            section.get(key).ok_or_else(|| invalid(name, &format!("is one for SSO, and has no {key}")))
        };
        let (account, role) = (of(profile, "sso_account_id")?, of(profile, "sso_role_name")?);
        Ok(Some(Self { cached_as, region: of(section, "sso_region")?, account, role }))
    }

    pub(super) async fn credentials(&self, around: &Surroundings<'_>) -> Result<Credentials, Error> {
        let token = self.token(around)?;
        let usual = || Endpoint::of("portal.sso", self.region).url().to_owned();
        let url = around.variable("AWS_ENDPOINT_URL_SSO").unwrap_or_else(usual);
        let client = around.client(&url).with_secret_header("x-amz-sso_bearer_token", token).build(around.context)?;
        let request = Request::get(&["federation", "credentials"])
            .with_query("role_name", self.role)
            .with_query("account_id", self.account);
        let answer = client.send(request).await?;
        if answer.status() == 401 {
            return Err(expired());
        }
        let Answer { role_credentials: found } = answer.accept(&[200])?.json()?;
        let missing = || Error::new(ErrorKind::Unauthenticated, "AWS SSO answers without a secret access key");
        let secret = found.secret_access_key.ok_or_else(missing)?;
        let expires = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(found.expiration));
        Ok(Credentials::new(found.access_key_id, secret, found.session_token).until(expires))
    }

    fn token(&self, around: &Surroundings<'_>) -> Result<SecretString, Error> {
        let name = format!("sso/cache/{}.json", hex(&Sha1::digest(self.cached_as)));
        let Some(path) = around.in_home(&name) else { return Err(expired()) };
        let Some((bytes, mode)) = around.file(&path)? else { return Err(expired()) };
        if mode & 0o006 != 0 {
            let message = format!("{} can be read or written by every user (mode {mode:04o})", path.display());
            let error = Error::new(ErrorKind::ConfigurationInvalid, message);
            return Err(error.with_next_step(format!("chmod 0600 {}", path.display())));
        }
        // The parser's own message could quote the token.
        let unreadable = || Error::new(ErrorKind::Unauthenticated, format!("{} is no token of AWS SSO", path.display()));
        let cached: Cached = serde_json::from_slice(bytes.expose()).map_err(|_| unreadable())?;
        let expires = time(cached.expires_at.as_deref().unwrap_or_default(), "the token of AWS SSO")?;
        if expires <= around.context.host().now() {
            return Err(expired());
        }
        cached.access_token.ok_or_else(unreadable)
    }
}

fn expired() -> Error {
    Error::new(ErrorKind::Unauthenticated, "nobody is logged in to AWS SSO, or not any more")
        .with_next_step("run `aws sso login` as the user that certdeploy runs as; better, give the machine a role of its own")
}

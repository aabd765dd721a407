//! The session: logging in, staying logged in, logging out, and what a refusal means before it is about anything else.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use deploy_core::secret::SecretString;
use deploy_core::{Context, Error, ErrorKind, Retry};
use deploy_http::{Client, Request, Response};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::F5Settings;

/// A BIG-IP saves a large configuration within one request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// The certificates of a BIG-IP, with all that it says of each, are one answer.
const LONGEST_ANSWER: usize = 16 << 20;
/// How long a token lives unless the BIG-IP says something else, and at most.
const LIFETIME: (u64, u64) = (1200, 36_000);
/// What may come after the deadline of a deployment: going back, and cleaning up.
const AFTERWARDS: Duration = Duration::from_secs(120);

/// Logs in with the first request, and again when the token is about to expire.
#[derive(Debug)]
pub(crate) struct Session {
    client: Client,
    username: String,
    password: SecretString,
    provider: String,
    /// How long it may be used.
    needed: Duration,
    open: Mutex<Option<Open>>,
}

#[derive(Clone, Debug)]
struct Open {
    client: Client,
    token: SecretString,
    good_until: Instant,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Login<'a> {
    username: &'a str,
    password: &'a str,
    login_provider_name: &'a str,
}

#[derive(Deserialize)]
struct LoggedIn {
    token: Token,
}

#[derive(Deserialize)]
struct Token {
    #[serde(deserialize_with = "secret")]
    token: SecretString,
    /// In seconds.
    timeout: Option<u64>,
}

#[derive(Deserialize, Serialize)]
struct Lifetime {
    timeout: u64,
}

/// What both the REST framework and the configuration daemon say when they refuse.
#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Session {
    /// Fetches the password. Connects to nothing yet.
    pub(crate) fn new(settings: &F5Settings, context: &Context) -> Result<Self, Error> {
        let password = settings.password.resolve(context)?;
        let client = Client::builder(&settings.url)
            .with_ca_file(settings.ca_file.clone())
            .with_withheld(&password)
            .with_timeout(REQUEST_TIMEOUT)
            .with_body_limit(LONGEST_ANSWER)
            .build(context)?;
        let needed = context.deadline().saturating_duration_since(Instant::now()) + AFTERWARDS;
        let (username, provider) = (settings.username.clone(), settings.login_provider.clone());
        Ok(Self { client, username, password, provider, needed, open: Mutex::default() })
    }

    /// Sends a request with the token. The answer is not about the session, and no other body than one of JSON is left of a
    /// refusal: a failed upload may be answered with what was uploaded.
    pub(crate) async fn send(&self, request: Request) -> Result<Response, Error> {
        let open = match self.open() {
            Some(open) if Instant::now() < open.good_until => open,
            _ => self.log_in().await?,
        };
        let answer = readable(open.client.send(request).await?)?;
        if answer.status() == 401 { Err(self.unauthorized(&answer)) } else { Ok(answer) }
    }

    /// Ends the session, so that the BIG-IP does not count it any more.
    pub(crate) async fn log_out(&self) -> Result<(), Error> {
        let Some(open) = self.replace(None) else { return Ok(()) };
        let answer = open.client.send(Request::delete(&["mgmt", "shared", "authz", "tokens", open.token.expose()])).await?;
        // It has expired, or was ended already.
        readable(answer)?.accept(&[200, 401, 404]).map(drop)
    }

    /// Never tried again: wrong passwords lock the user out.
    async fn log_in(&self) -> Result<Open, Error> {
        let login = Login { username: &self.username, password: self.password.expose(), login_provider_name: &self.provider };
        let answer = self.client.send(Request::post(&["mgmt", "shared", "authn", "login"]).with_json(&login)).await?;
        let answer = readable(answer)?;
        if answer.status() == 400 && answer.message().contains("maximum active login tokens") {
            let message = format!("the BIG-IP has as many sessions of {} as it takes ({})", self.username, answer.message());
            return Err(Error::new(ErrorKind::RateLimited, message).with_next_step(
                "sessions that nobody ends go after 20 minutes: give certdeploy a user of its own; then run again",
            ));
        }
        let LoggedIn { token: Token { token, timeout } } = answer.accept(&[200])?.json()?;
        let client = self.client.with_secret_header("x-f5-auth-token", &token)?;
        let lifetime = timeout.unwrap_or(LIFETIME.0);
        let lifetime =
            if self.needed.as_secs() > lifetime { self.extend(&client, &token).await.unwrap_or(lifetime) } else { lifetime };
        // Not to the last second.
        let good_until = Instant::now() + Duration::from_secs(lifetime) * 9 / 10;
        let open = Open { client, token, good_until };
        self.replace(Some(open.clone()));
        Ok(open)
    }

    /// Asks for a longer life. What refuses it has a session all the same, which is opened anew when it has expired.
    async fn extend(&self, client: &Client, token: &SecretString) -> Option<u64> {
        let wanted = Lifetime { timeout: self.needed.as_secs().min(LIFETIME.1) };
        let request = Request::patch(&["mgmt", "shared", "authz", "tokens", token.expose()]).with_json(&wanted);
        let answer = client.send(request).await.and_then(|answer| answer.accept(&[200])).ok()?;
        answer.json().ok().map(|Lifetime { timeout }| timeout)
    }

    /// The same status says that the token is none any more, and that the user lacks a role.
    fn unauthorized(&self, answer: &Response) -> Error {
        let said = answer.message();
        if said.contains("resource=") {
            return Error::new(ErrorKind::PermissionDenied, format!("the BIG-IP refuses it to {}: {said}", self.username))
                .with_next_step("give the user the role that the documentation of this connector names; then run again");
        }
        if said.contains("X-F5-Auth-Token") || said.contains("no user authentication header or token") {
            self.replace(None);
            return Error::new(ErrorKind::Unauthenticated, format!("the session at the BIG-IP is over: {said}"))
                .with_retry(Retry::Later);
        }
        answer.error()
    }

    fn open(&self) -> Option<Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn replace(&self, open: Option<Open>) -> Option<Open> {
        std::mem::replace(&mut *self.open.lock().unwrap_or_else(PoisonError::into_inner), open)
    }
}

/// Without a body that is something else than the refusal of an API; or an error, if nobody is there to answer.
fn readable(answer: Response) -> Result<Response, Error> {
    if answer.status() < 400 && answer.header("content-type").is_some_and(|kind| kind.starts_with("application/json")) {
        return Ok(answer);
    }
    let said = answer.message();
    if said.contains("Configuration Utility restarting") || said.contains("active asynchronous task") {
        let message = "the BIG-IP is starting, or at work on something else";
        return Err(Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Later));
    }
    let is_refusal = answer.json::<Refusal>().is_ok_and(|refusal| !refusal.message.is_empty());
    Ok(if is_refusal { answer } else { answer.without_body() })
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

//! The requests to Caddy's admin API (caddyserver.com/docs/api), and no policy.
//!
//! What Caddy answers holds keys, those of others as well if one asks for more than one entry. So nothing is asked for but our
//! own entry, and no body is shown but that of an error.

use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, Error, ErrorKind};
use deploy_http::{Client, Request, Response};
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::CaddyApiSettings;

/// Where Caddy has the certificates that stand in its configuration.
const LOADED: [&str; 5] = ["config", "apps", "tls", "certificates", "load_pem"];

/// The entry of one target.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    client: Client,
    id: String,
}

/// What Caddy has under our `@id`.
#[derive(Debug)]
pub(crate) struct Found {
    /// As it is, with its key.
    pub(crate) body: SecretBytes,
    /// For `If-Match`.
    pub(crate) revision: String,
    /// SHA-256 of the leaf; `None` if the certificate cannot be read.
    pub(crate) fingerprint: Option<String>,
    /// What an operator chooses it by.
    pub(crate) tags: Vec<String>,
}

#[derive(Deserialize)]
struct Read {
    certificate: String,
    #[serde(deserialize_with = "secret")]
    key: SecretString,
    #[serde(default)]
    tags: Vec<String>,
}

#[derive(Serialize)]
struct Entry<'a> {
    #[serde(rename = "@id")]
    id: &'a str,
    certificate: &'a str,
    key: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
}

impl Api {
    /// Connects to nothing yet.
    pub(crate) fn new(settings: &CaddyApiSettings, target: &str, context: &Context) -> Result<Self, Error> {
        Ok(Self { client: settings.admin.client(context)?, id: settings.id(target) })
    }

    /// What there is; `None` before the first deployment.
    pub(crate) async fn find(&self) -> Result<Option<Found>, Error> {
        let answer = self.client.send(Request::get(&["id", &self.id])).await?;
        if answer.status() == 404 {
            return Ok(None);
        }
        let answer = answer.accept(&[200])?;
        let revision = answer.header("etag").map(str::to_owned).ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, "Caddy does not say which revision its configuration has")
                .with_next_step("use Caddy 2.6 or newer")
        })?;
        let Read { certificate, key, tags } = answer.json()?;
        let key = SecretBytes::from(key.expose().as_bytes());
        let certificate = Certificate::from_pem(certificate.as_bytes(), &key).ok();
        let fingerprint = certificate.map(|certificate| certificate.fingerprint().to_owned());
        Ok(Some(Found { body: answer.body().clone(), revision, fingerprint, tags }))
    }

    /// Replaces what has this revision, or makes what was not there, in one change of Caddy's.
    pub(crate) async fn put(&self, certificate: &Certificate, found: Option<&Found>) -> Result<(), Error> {
        let (fullchain, key) = (certificate.fullchain_pem(), certificate.key_pem());
        let tags = found.map_or(&[][..], |found| &found.tags);
        let entry = Entry { id: &self.id, certificate: text(&fullchain)?, key: text(key.expose())?, tags };
        match found {
            Some(found) => self.replace(Request::patch(&["id", &self.id]).with_json(&entry), &found.revision).await,
            None => self.add(|request| request.with_json(&[&entry])).await,
        }
    }

    /// Puts back what [`Self::find`] gave.
    pub(crate) async fn put_back(&self, body: &SecretBytes, found: Option<&Found>) -> Result<(), Error> {
        match found {
            Some(found) => {
                let request = Request::patch(&["id", &self.id]).with_body("application/json", body.clone());
                self.replace(request, &found.revision).await
            }
            None => {
                let list = SecretBytes::from([b"[".as_slice(), body.expose(), b"]"].concat());
                self.add(|request| request.with_body("application/json", list.clone())).await
            }
        }
    }

    pub(crate) async fn remove(&self, found: &Found) -> Result<(), Error> {
        self.replace(Request::delete(&["id", &self.id]), &found.revision).await
    }

    async fn replace(&self, request: Request, revision: &str) -> Result<(), Error> {
        done(&self.client.send(request.with_header("if-match", revision)).await?)
    }

    /// At the end of a list that others have entries in; where there is no list, it is made.
    async fn add(&self, with_list: impl Fn(Request) -> Request) -> Result<(), Error> {
        let end: Vec<&str> = LOADED.into_iter().chain(["..."]).collect();
        let answer = self.client.send(with_list(Request::post(&end))).await?;
        if !answer.message().contains("invalid traversal path") {
            return done(&answer);
        }
        done(&self.client.send(with_list(Request::put(&LOADED))).await?)
    }
}

/// Caddy loads its whole configuration within the request: 500 says that it goes on with the old one, and why.
fn done(answer: &Response) -> Result<(), Error> {
    match answer.status() {
        200 => Ok(()),
        500 => Err(Error::new(ErrorKind::ReloadFailed, format!("Caddy does not take it: {}", answer.message()))
            .with_next_step("read what Caddy says; its configuration or the certificate has to change")),
        _ => Err(answer.error()),
    }
}

fn text(pem: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(pem).map_err(|error| Error::new(ErrorKind::Internal, "PEM that is no text").with_source(error))
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

//! The requests that the shelf takes, and no policy.

use std::collections::BTreeMap;

use deploy_core::{Certificate, Context, Error, ErrorKind};
use deploy_http::{Client, Request};
use serde::{Deserialize, Serialize};

use super::config::ShelfSettings;

pub(super) type Labels = BTreeMap<String, String>;

/// The API with a token.
#[derive(Clone, Debug)]
pub(super) struct Api(Client);

/// What a listener has.
#[derive(Clone, Debug)]
pub(super) struct Listener {
    pub(super) certificate: Option<String>,
    pub(super) revision: String,
}

/// One certificate on the shelf.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Stored {
    pub(super) id: String,
    pub(super) fingerprint: String,
    pub(super) labels: Labels,
}

#[derive(Deserialize, Serialize)]
struct Binding<T> {
    certificate: Option<T>,
}

#[derive(Serialize)]
struct Upload<'a> {
    fullchain: &'a str,
    labels: &'a Labels,
}

#[derive(Serialize)]
struct Check<'a> {
    fullchain: &'a str,
    key: &'a str,
}

impl Api {
    /// Fetches the token, and connects to nothing yet.
    pub(super) fn new(settings: &ShelfSettings, context: &Context) -> Result<Self, Error> {
        let token = settings.token.resolve(context)?;
        let client = Client::builder(&settings.url).with_ca_file(settings.ca_file.clone()).with_bearer_token(&token);
        client.build(context).map(Self)
    }

    pub(super) async fn listener(&self, name: &str) -> Result<Listener, Error> {
        let response = self.0.send(Request::get(&["v1", "listeners", name])).await?;
        let response = response.accept_existing(&[200], &format!("the listener `{name}`"))?;
        let binding: Binding<String> = response.json()?;
        let revision = response.header("etag").ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("the shelf does not say which revision the listener `{name}` has"))
        })?;
        Ok(Listener { certificate: binding.certificate, revision: revision.to_owned() })
    }

    /// Takes effect only if the listener still has this revision.
    pub(super) async fn switch(&self, name: &str, id: Option<&str>, revision: &str) -> Result<(), Error> {
        let request = Request::put(&["v1", "listeners", name]).with_header("if-match", revision);
        self.0.send(request.with_json(&Binding { certificate: id })).await?.accept(&[200]).map(drop)
    }

    pub(super) async fn certificates(&self) -> Result<Vec<Stored>, Error> {
        self.0.send(Request::get(&["v1", "certificates"])).await?.accept(&[200])?.json()
    }

    pub(super) async fn put_certificate(&self, id: &str, certificate: &Certificate, labels: &Labels) -> Result<(), Error> {
        let fullchain = certificate.fullchain_pem();
        let body = Upload { fullchain: text(&fullchain)?, labels };
        self.0.send(Request::put(&["v1", "certificates", id]).with_json(&body)).await?.accept(&[200, 201]).map(drop)
    }

    pub(super) async fn put_key(&self, id: &str, certificate: &Certificate) -> Result<(), Error> {
        let request = Request::put(&["v1", "certificates", id, "key"]).with_body("text/plain", certificate.key_pem());
        self.0.send(request).await?.accept(&[204]).map(drop)
    }

    /// What the dry run has against it, if anything.
    pub(super) async fn check(&self, certificate: &Certificate) -> Result<Option<String>, Error> {
        let (fullchain, key) = (certificate.fullchain_pem(), certificate.key_pem());
        let body = Check { fullchain: text(&fullchain)?, key: text(key.expose())? };
        let response = self.0.send(Request::post(&["v1", "check"]).with_json(&body)).await?.accept(&[204, 422])?;
        Ok((response.status() == 422).then(|| response.message()))
    }

    /// Whether it is gone: not if a listener uses it.
    pub(super) async fn remove(&self, id: &str) -> Result<bool, Error> {
        let response = self.0.send(Request::delete(&["v1", "certificates", id])).await?.accept(&[204, 404, 409])?;
        Ok(response.status() != 409)
    }
}

fn text(pem: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(pem).map_err(|error| Error::new(ErrorKind::Internal, "PEM that is no text").with_source(error))
}

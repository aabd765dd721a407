//! What Traefik says over its API that it has loaded: `GET /api/certificates/ID`, in Traefik 3.7 and later.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use deploy_core::secret::SecretRef;
use deploy_core::{Context, Error, ErrorKind, Reload, ReloadCall};
use deploy_http::{Client, Request};

/// No single look takes longer than this.
const GLANCE: Duration = Duration::from_secs(5);

/// Waits until Traefik has the new leaf.
#[derive(Debug)]
pub(crate) struct Confirmation {
    /// The base URL.
    pub(crate) api: String,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) token: Option<SecretRef>,
    /// SHA-256 of the leaf, in lowercase hexadecimal. `None` in a recovery, where nobody knows it.
    pub(crate) fingerprint: Option<String>,
    /// How long it may take.
    pub(crate) at_most: Duration,
    /// What comes before.
    pub(crate) reload: Option<Reload>,
}

#[async_trait]
impl ReloadCall for Confirmation {
    async fn apply(&self, context: &Context) -> Result<(), Error> {
        self.undo(context).await?;
        let Some(fingerprint) = &self.fingerprint else { return Ok(()) };
        let client = &self.client(context)?;
        if context.wait_until(self.at_most, || has(client, fingerprint)).await? {
            return Ok(());
        }
        let message = format!("Traefik's API does not have the new certificate, {fingerprint}");
        Err(Error::new(ErrorKind::ReloadFailed, message).with_next_step(
            "read Traefik's log: it says which file it could not use; is `dynamic` a file of its provider, and in the store `default`?",
        ))
    }

    /// Traefik sees by itself that the old files are back, and `verify` sees that it serves them.
    async fn undo(&self, context: &Context) -> Result<(), Error> {
        match &self.reload {
            Some(reload) => reload.carry_out(context).await,
            None => Ok(()),
        }
    }
}

impl Confirmation {
    fn client(&self, context: &Context) -> Result<Client, Error> {
        let builder = Client::builder(&self.api).with_ca_file(self.ca_file.clone()).with_timeout(GLANCE);
        match &self.token {
            Some(token) => builder.with_bearer_token(&token.resolve(context)?),
            None => builder,
        }
        .build(context)
    }
}

async fn has(client: &Client, fingerprint: &str) -> Result<bool, Error> {
    let answer = client.send(Request::get(&["api", "certificates", fingerprint])).await.map_err(|error| {
        error.with_next_step("start Traefik with its API (`api`), or correct `api`: what comes before /api/certificates")
    })?;
    // An older Traefik has no such path, and says so with the same status.
    if answer.status() == 404 && answer.message().contains("certificate not found") {
        return Ok(false);
    }
    answer.accept_existing(&[200], "/api/certificates of Traefik 3.7 or later").map(|_| true)
}

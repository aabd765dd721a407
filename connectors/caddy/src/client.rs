//! What Caddy is told over its admin API (caddyserver.com/docs/api).

use async_trait::async_trait;
use deploy_core::{Context, Error, ErrorKind, ReloadCall};
use deploy_http::{Client, Request};

use crate::config::Admin;

/// Has Caddy load the configuration that it has once more.
///
/// It is a change that changes nothing: no file is appended to those that Caddy loads certificates from. So nobody's change can
/// get lost, and no configuration, with the keys in it, goes over the wire. By itself Caddy does nothing then; with this value of
/// `Cache-Control` it loads everything anew, and goes on with what it had if it cannot.
#[derive(Debug)]
pub(crate) struct AdminReload(Admin);

#[async_trait]
impl ReloadCall for AdminReload {
    async fn apply(&self, context: &Context) -> Result<(), Error> {
        let request = Request::post(&["config", "apps", "tls", "certificates", "load_files", "..."])
            .with_header("cache-control", "must-revalidate")
            .with_json(&[(); 0]);
        let answer = self.0.client(context)?.send(request).await.map_err(|error| {
            error.with_next_step("start Caddy, or correct `admin`: it is what the global option `admin` of Caddy says")
        })?;
        match answer.status() {
            200 => Ok(()),
            403 => Err(answer.error().with_next_step(format!("let Caddy accept the host {}: `origins` of `admin`", self.0))),
            _ if answer.message().contains("invalid traversal path") => {
                let message = "the configuration that Caddy runs with loads no certificates from files";
                Err(Error::new(ErrorKind::ReloadFailed, message)
                    .with_next_step("name the files in Caddy's configuration and have it load that once; then run again"))
            }
            _ => Err(Error::new(ErrorKind::ReloadFailed, format!("Caddy could not load the files: {}", answer.message()))),
        }
    }

    async fn undo(&self, context: &Context) -> Result<(), Error> {
        self.apply(context).await
    }
}

impl AdminReload {
    pub(crate) fn new(admin: Admin) -> Self {
        Self(admin)
    }
}

impl Admin {
    /// A client for it. Connects to nothing.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn client(&self, context: &Context) -> Result<Client, Error> {
        match self {
            Self::Tcp(address) => Client::builder(&format!("http://{address}")),
            Self::Unix(path) => Client::builder("http://localhost").with_unix_socket(path),
        }
        .build(context)
    }
}

//! What connectors to HTTP APIs share: a client, requests, and what an answer or a failure means for a deployment.
//!
//! ```no_run
//! use std::path::PathBuf;
//!
//! use deploy_core::secret::SecretString;
//! use deploy_core::{Context, Error};
//! use deploy_http::{Client, Request};
//!
//! # async fn example(context: Context, token: SecretString) -> Result<(), Error> {
//! let client = Client::builder("https://lb.example.com/api")
//!     .with_ca_file(PathBuf::from("/etc/certdeploy/lb-ca.pem"))
//!     .with_bearer_token(&token)
//!     .build(&context)?;
//! let response = client.send(Request::get(&["v1", "listeners", "front"])).await?;
//! let response = response.accept_existing(&[200], "the listener `front`")?;
//! let revision = response.header("etag");
//! # let _ = revision;
//! # Ok(())
//! # }
//! ```
//!
//! # What is decided here
//!
//! - **TLS is verified**, and no setting turns that off. Without a CA file the machine's own roots count (those that
//!   `rustls-native-certs` finds). A CA file **replaces** them: who names the authority of a private API does not want a
//!   public one to vouch for it. Plain HTTP is refused, except to this machine (127.0.0.0/8, `::1`, `localhost`) and, where
//!   it is asked for, to the [metadata service](ClientBuilder::with_metadata_service) of a cloud.
//! - The crypto provider is the context's; nothing is installed globally.
//! - Redirects are not followed, so that credentials stay with the host that they are for. No proxy is used, whatever the
//!   environment says. HTTP/1.1 only. Nothing is retried here.
//! - Mutual TLS: [`ClientBuilder::with_client_certificate`]. Another name than the URL's: [`ClientBuilder::with_server_name`].
//! - A unix socket instead of a host: [`ClientBuilder::with_unix_socket`].
//! - Limits: 10 seconds to connect, 30 seconds for a request and its answer, 1 MiB for an answer's body.
//!
//! # Secrets
//!
//! Bodies of requests, the values of secret headers and bodies of answers are held in memory that is cleared when it is
//! dropped. What the HTTP and TLS libraries copy is not: hyper's write buffer, which holds the head of a request and short
//! bodies, the read buffer, and rustls's buffers of records. A value that is serialized is the caller's to clear; borrow
//! from a secret instead of copying out of it, and do not build a `serde_json::Value` of it.
//!
//! Errors show at most 500 characters of what the remote says, without anything that looks like a key
//! ([`deploy_core::secret::withhold`]) and without the client's own secrets. Queries of URLs are not shown.

mod client;
mod elsewhere;
mod failure;
mod request;
mod response;
mod retry_after;
mod roots;
mod shown;
mod tls;

pub use client::{Client, ClientBuilder, check_url};
pub use request::Request;
pub use response::Response;

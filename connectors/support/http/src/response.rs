//! An answer, and what its status means for a deployment.

use std::fmt;
use std::time::SystemTime;

use deploy_core::secret::SecretBytes;
use deploy_core::{Error, ErrorKind, Retry};
use reqwest::header::{HeaderMap, LOCATION};
use serde::de::DeserializeOwned;

use crate::retry_after;
use crate::shown::Shown;

/// An answer, read to its end.
pub struct Response {
    what: String,
    status: u16,
    headers: HeaderMap,
    body: SecretBytes,
    received: SystemTime,
    shown: Shown,
}

impl Response {
    pub(crate) fn new(
        what: String,
        status: u16,
        headers: HeaderMap,
        body: SecretBytes,
        received: SystemTime,
        shown: Shown,
    ) -> Self {
        Self { what, status, headers, body, received, shown }
    }

    /// `200`.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// A header, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &SecretBytes {
        &self.body
    }

    /// What the remote says, fit to be shown: one line of at most 500 characters, without keys and the client's secrets.
    #[must_use]
    pub fn message(&self) -> String {
        self.shown.text(self.body.expose())
    }

    /// A text out of it, fit to be shown in the same way.
    #[must_use]
    pub fn shown(&self, text: &str) -> String {
        self.shown.text(text.as_bytes())
    }

    /// The same without its body, and so errors without it: for a remote that may send back what it was sent.
    #[must_use]
    pub fn without_body(mut self) -> Self {
        self.body = SecretBytes::default();
        self
    }

    /// The body, read as JSON.
    ///
    /// # Errors
    /// [`ErrorKind::Unavailable`]: it is something else. The error names the place and no more, because the parser's own
    /// message quotes what it does not understand, and that could be a secret.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(self.body.expose()).map_err(|error| {
            let place = format!("line {}, column {}", error.line(), error.column());
            Error::new(ErrorKind::Unavailable, format!("the answer to {} is not what it should be ({place})", self.what))
                .with_next_step("see whether the URL leads to the API, in a version that the connector knows")
        })
    }

    /// The answer, if its status is one of these. Every other one is an error:
    ///
    /// | status | kind | retry |
    /// |---|---|---|
    /// | 401 | [`ErrorKind::Unauthenticated`] | never |
    /// | 403 | [`ErrorKind::PermissionDenied`], with what the remote says | never |
    /// | 404 | [`ErrorKind::PlanInvalid`]; see [`Response::accept_existing`] | never |
    /// | 408 | [`ErrorKind::Timeout`] | later |
    /// | 409, 412, 428 | [`ErrorKind::Conflict`] | never: the engine looks again and decides again |
    /// | 429 | [`ErrorKind::RateLimited`] | after `Retry-After`, or later |
    /// | 3xx | [`ErrorKind::ConfigurationInvalid`], with where it leads | never |
    /// | other 4xx | [`ErrorKind::PlanInvalid`], with what the remote says | never |
    /// | 5xx | [`ErrorKind::Unavailable`] | after `Retry-After`, or later |
    ///
    /// # Errors
    /// As in the table.
    pub fn accept(self, statuses: &[u16]) -> Result<Self, Error> {
        if statuses.contains(&self.status) { Ok(self) } else { Err(self.error()) }
    }

    /// The same, where 404 means that something is missing that the operator named: ``"the listener `front`"``. Then it is
    /// [`ErrorKind::ConfigurationInvalid`].
    ///
    /// # Errors
    /// As [`Response::accept`].
    pub fn accept_existing(self, statuses: &[u16], what: &str) -> Result<Self, Error> {
        if self.status == 404 && !statuses.contains(&404) {
            return Err(Error::new(ErrorKind::ConfigurationInvalid, self.said(&format!("{what} does not exist")))
                .with_next_step(format!("create {what}, or correct the target's settings; then run again")));
        }
        self.accept(statuses)
    }

    /// What its status means where it is not an accepted one; see [`Response::accept`].
    #[must_use]
    pub fn error(&self) -> Error {
        let error = |kind, message: &str| Error::new(kind, self.said(message));
        match self.status {
            401 => error(ErrorKind::Unauthenticated, "the remote does not take the credentials")
                .with_next_step("check that the secret of the target is the right one and has not expired; then run again"),
            403 => error(ErrorKind::PermissionDenied, "the remote refuses for lack of a permission")
                .with_next_step("grant what the remote says is missing; then run again"),
            404 => error(ErrorKind::PlanInvalid, "the remote has nothing there")
                .with_next_step("see whether the URL leads to the API, and whether what the target names exists"),
            408 => error(ErrorKind::Timeout, "the remote ran out of time").with_retry(Retry::Later),
            409 | 412 | 428 => error(ErrorKind::Conflict, "somebody else has changed it meanwhile, or it is in use"),
            429 => error(ErrorKind::RateLimited, "the remote asks to slow down").with_retry(self.retry()),
            300..=399 => error(ErrorKind::ConfigurationInvalid, &format!("the remote points elsewhere, to {}", self.location()))
                .with_next_step("if that is right, write it into the target's URL: redirects are not followed"),
            500.. => error(ErrorKind::Unavailable, "the remote does not work").with_retry(self.retry()),
            _ => error(ErrorKind::PlanInvalid, "the remote refuses the request")
                .with_next_step("see whether the URL leads to the API, in a version that the connector knows"),
        }
    }

    fn retry(&self) -> Retry {
        retry_after::retry(&self.headers, self.received)
    }

    fn location(&self) -> String {
        let location = self.headers.get(LOCATION).map(|value| self.shown.text(value.as_bytes())).unwrap_or_default();
        location.split('?').next().unwrap_or_default().to_owned()
    }

    /// `the remote refuses (PUT https://.../v1/x answered 403: {"error":"forbidden"})`.
    fn said(&self, message: &str) -> String {
        let said = self.message();
        let colon = if said.is_empty() { "" } else { ": " };
        format!("{message} ({} answered {}{colon}{said})", self.what, self.status)
    }
}

/// Without headers and body.
impl fmt::Debug for Response {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} [{} bytes]", self.what, self.status, self.body.len())
    }
}

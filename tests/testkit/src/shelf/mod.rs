//! The shelf: a made-up vendor, whose API keeps certificates and puts them on listeners.
//!
//! It exists to show what a connector to an API has to do, and to see whether it does. A certificate lies on the shelf under
//! a name, with labels; its key is sent in a second request and never comes back. A listener has one certificate at a time,
//! and a revision that guards against two who change it at once. Every listener serves TLS on a port of its own.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/listeners/NAME` | 200 `{"name", "certificate": ID or null}` and `ETag: "7"`, 404 |
//! | `PUT /v1/listeners/NAME` with `{"certificate": ID or null}` and `If-Match: "7"` | 200 with the new `ETag`; 428 without `If-Match`, 412 for another revision, 409 where the certificate is missing or has no key |
//! | `GET /v1/certificates` | 200 `[{"id", "fingerprint", "complete", "labels"}]`, the fingerprint in lowercase hexadecimal SHA-256 |
//! | `PUT /v1/certificates/ID` with `{"fullchain": PEM, "labels": {..}}` | 201 or 200; 422 for what is no certificate, 409 where ID is another one |
//! | `PUT /v1/certificates/ID/key` with PEM as `text/plain` | 204; 404, 422 where it is not the key of the leaf |
//! | `DELETE /v1/certificates/ID` | 204; 404, 409 where a listener uses it |
//! | `POST /v1/check` with `{"fullchain": PEM, "key": PEM}` | 204, or 422: a dry run |
//!
//! Everything needs `Authorization: Bearer TOKEN` (401), and all but GET a token that may write (403 with the name of the
//! permission). 400 is for bodies that cannot be read, 415 for another `Content-Type`, 405 and 404 for what is not in the
//! table. Errors are `{"error": "text"}`.

mod api;
mod objects;
mod world;

pub use objects::{CertificateObject, Objects};
pub use world::ShelfWorld;

use std::net::SocketAddr;

use crate::pki::{Authority, Issued, Request};
use crate::stand_in::{Faults, Record, StandIn};
use objects::State;

/// One shelf on 127.0.0.1.
///
/// ```
/// use deploy_testkit::observe::served_fingerprint;
/// use deploy_testkit::shelf::Shelf;
/// use deploy_testkit::{Authority, Request};
///
/// let shelf = Shelf::start();
/// shelf.add_listener("front");
/// let issued = Authority::new().issue(&Request::new(&["www.example.test"]));
/// shelf.put("by-hand", &issued, &[("team", "edge")]);
/// shelf.activate("front", Some("by-hand"));
/// assert_eq!(shelf.active("front").as_ref(), Some(&issued.fingerprint));
/// assert_eq!(served_fingerprint(shelf.listener_address("front"), None).as_ref(), Ok(&issued.fingerprint));
/// ```
#[derive(Debug)]
pub struct Shelf {
    stand_in: StandIn<State>,
    root_pem: String,
    reader_token: String,
    writer_token: String,
}

impl Shelf {
    /// An empty shelf without listeners.
    #[must_use]
    pub fn start() -> Self {
        let authority = Authority::new();
        let certificate = authority.issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
        let token = |role: &str| format!("{role}-{}", &crate::pki::fingerprint(certificate.key_pem.as_bytes())[..24]);
        let (reader_token, writer_token) = (token("reader"), token("writer"));
        let state = State::new(&reader_token, &writer_token);
        let stand_in = StandIn::start(&certificate, state, api::answer);
        Self { stand_in, root_pem: authority.root_pem(), reader_token, writer_token }
    }

    /// Its base URL, without a slash at the end: `https://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        self.stand_in.url()
    }

    /// The root below which its API's certificate was issued.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// A token that may read.
    #[must_use]
    pub fn reader_token(&self) -> &str {
        &self.reader_token
    }

    /// A token that may read and write.
    #[must_use]
    pub fn writer_token(&self) -> &str {
        &self.writer_token
    }

    /// The switches for faults of its API.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        self.stand_in.faults()
    }

    /// What its API was asked.
    #[must_use]
    pub fn record(&self) -> &Record {
        self.stand_in.record()
    }

    /// Adds a listener without a certificate; until it has one, it closes every connection.
    pub fn add_listener(&self, name: &str) {
        self.stand_in.with_state(|state| state.add_listener(name));
    }

    /// Where a listener serves TLS.
    ///
    /// # Panics
    ///
    /// There is no such listener.
    #[must_use]
    pub fn listener_address(&self, name: &str) -> SocketAddr {
        self.stand_in.with_state(|state| state.listener(name).server.address())
    }

    /// The fingerprint of a listener's certificate.
    ///
    /// # Panics
    ///
    /// There is no such listener.
    #[must_use]
    pub fn active(&self, name: &str) -> Option<String> {
        self.stand_in.with_state(|state| {
            let id = state.listener(name).certificate.clone()?;
            Some(state.certificates[&id].fingerprint.clone())
        })
    }

    /// All that it has, to be compared with what it had.
    #[must_use]
    pub fn objects(&self) -> Objects {
        self.stand_in.with_state(|state| state.objects())
    }

    /// Puts a certificate with its key on the shelf, as somebody else would.
    ///
    /// # Panics
    ///
    /// The pair does not match.
    pub fn put(&self, id: &str, issued: &Issued, labels: &[(&str, &str)]) {
        self.stand_in.with_state(|state| state.put(id, issued, labels));
    }

    /// Switches a listener, as somebody else would.
    ///
    /// # Panics
    ///
    /// There is no such listener or certificate, or the certificate has no key.
    pub fn activate(&self, listener: &str, id: Option<&str>) {
        self.stand_in.with_state(|state| state.switch(listener, id).expect("a complete certificate on the shelf"));
    }

    /// Just before the next PUT or DELETE that is allowed, has another writer switch a listener. Called several times, it
    /// happens as many times, once for each PUT or DELETE.
    ///
    /// # Panics
    ///
    /// There is no such listener. The server's thread, when the certificate is missing by then.
    pub fn overtake(&self, listener: &str, id: Option<&str>) {
        self.stand_in.with_state(|state| state.overtake(listener, id));
    }

    /// Has a listener go on serving what it serves, whatever its certificate is switched to, until it is not frozen any more.
    ///
    /// # Panics
    ///
    /// There is no such listener.
    pub fn freeze(&self, listener: &str, frozen: bool) {
        self.stand_in.with_state(|state| state.freeze(listener, frozen));
    }
}

#[cfg(test)]
mod tests;

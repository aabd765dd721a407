//! A TLS handshake as a client would do it: which certificate is served, and does the server have its key?
//!
//! Dial address, server name, STARTTLS and kind of key are separate settings ([`Endpoint`]). A handshake is completed, not
//! only started: some servers present a new certificate and then fail, because the key beside it is another one.
//! Certificates are not checked against roots, names or dates; what counts is the fingerprint.
//!
//! Everything here blocks, and everything is bounded: by the deadline, by five seconds for one attempt, and by limits on
//! what a peer may send. Reads, waits and name look-ups notice a cancellation within a tenth of a second, connecting within
//! the attempt.

mod endpoint;
mod error;
mod handshake;
mod resolve;
mod starttls;
mod transport;
mod verifier;
mod wait;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;

use crate::context::Cancellation;

pub use endpoint::{Endpoint, EndpointError, KeyTypeWanted};
pub use error::{HandshakeProblem, ProbeError};
pub use starttls::{StartTls, StartTlsProblem, StartTlsStep};
pub(crate) use wait::wait_while;
pub use wait::{VerifyFailure, VerifyProblem, wait_for};

/// How long one attempt at one address may take, the deadline permitting.
pub const ATTEMPT_LIMIT: Duration = Duration::from_secs(5);

/// What one address served.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Observation {
    /// Who answered.
    pub address: SocketAddr,
    /// The certificates as DER, in the order in which they were presented: the leaf first. Never empty.
    pub chain: Vec<Vec<u8>>,
    /// SHA-256 of the leaf's DER in lowercase hexadecimal.
    pub fingerprint: String,
    /// Whether the handshake could be completed with it.
    pub handshake: Result<(), HandshakeProblem>,
}

/// The same endpoint at the first address of its name, for a place from where no name can be looked up.
pub(crate) fn at_an_address(
    endpoint: &Endpoint,
    deadline: Instant,
    cancellation: Option<&Cancellation>,
) -> Result<Endpoint, ProbeError> {
    let (host, port) = endpoint.check()?;
    let address = resolve::resolve(&host, port, deadline, cancellation)?.into_iter().next();
    let address = address.ok_or_else(|| resolve::no_address(&host))?;
    Ok(Endpoint {
        connect: address.to_string(),
        server_name: endpoint.server_name.clone().or(Some(host)),
        all_addresses: false,
        ..endpoint.clone()
    })
}

/// Asks an endpoint what it serves.
///
/// The addresses of a name are tried in the resolver's order. The first that presents a certificate is the answer; with
/// `all_addresses` all are asked, and one that does not answer is an error. The result is never empty.
///
/// # Errors
///
/// When no certificate was seen. A certificate whose handshake fails is an observation, not an error.
pub fn probe(
    endpoint: &Endpoint,
    provider: &Arc<CryptoProvider>,
    deadline: Instant,
    cancellation: Option<&Cancellation>,
) -> Result<Vec<Observation>, ProbeError> {
    let (host, port) = endpoint.check()?;
    let addresses = resolve::resolve(&host, port, deadline, cancellation)?;
    let attempt = |address: &SocketAddr| {
        if cancellation.is_some_and(Cancellation::is_cancelled) {
            return Err(ProbeError::Interrupted);
        }
        let limit = deadline.min(Instant::now() + ATTEMPT_LIMIT);
        handshake::observe(endpoint, *address, provider, limit, cancellation)
    };
    if endpoint.all_addresses {
        return addresses.iter().map(attempt).collect();
    }
    let mut last = None;
    for address in &addresses {
        match attempt(address) {
            Ok(observation) => return Ok(vec![observation]),
            Err(error) if error.unreachable() => last = Some(error),
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or_else(|| resolve::no_address(&host)))
}

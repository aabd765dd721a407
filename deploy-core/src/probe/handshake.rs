//! One attempt at one address: connect, STARTTLS where asked for, TLS handshake, polite end.

use std::error::Error as StdError;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::{AlertDescription, ClientConfig, ClientConnection, Error, InvalidMessage, PeerIncompatible, PeerMisbehaved};

use super::transport::Transport;
use super::verifier::{Capture, Seen, Signature, is_foreign_to_tls12, restricted};
use super::{Endpoint, HandshakeProblem, Observation, ProbeError, starttls};
use crate::context::Cancellation;
use crate::digest::{hex, sha256};

/// Asks one address, at most until `limit`.
pub(super) fn observe(
    endpoint: &Endpoint,
    address: SocketAddr,
    provider: &Arc<CryptoProvider>,
    limit: Instant,
    cancellation: Option<&Cancellation>,
) -> Result<Observation, ProbeError> {
    let capture = Arc::new(Capture::new(Arc::clone(provider), endpoint.key_type));
    let mut tls = client(endpoint, provider, &capture)?;
    let mut transport = Transport::connect(address, limit, cancellation)?;
    if let Some(protocol) = endpoint.starttls {
        starttls::start(protocol, &endpoint.tls_name()?.to_str(), &mut transport)?;
    }
    let failure = complete(&mut tls, &mut transport).err();
    if !capture.has_certificate() {
        return Err(match failure {
            Some(failure) => before_certificate(failure, &transport),
            None => ProbeError::NoCertificate { address },
        });
    }
    if transport.is_cancelled() {
        return Err(ProbeError::Interrupted);
    }
    if failure.is_none() {
        close(tls, transport);
    }
    let seen = capture.take();
    let fingerprint = seen.chain.first().map(|leaf| fingerprint(leaf)).unwrap_or_default();
    let handshake = outcome(failure, &seen);
    Ok(Observation { address, chain: seen.chain, fingerprint, handshake })
}

fn client(endpoint: &Endpoint, provider: &Arc<CryptoProvider>, capture: &Arc<Capture>) -> Result<ClientConnection, ProbeError> {
    let setup = |error: Error| ProbeError::Setup { source: Arc::new(error) };
    let mut config = ClientConfig::builder_with_provider(restricted(provider, endpoint.key_type))
        .with_safe_default_protocol_versions()
        .map_err(setup)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Capture>::clone(capture))
        .with_client_cert_resolver(Arc::<Capture>::clone(capture));
    // A resumed session would show no certificate.
    config.resumption = Resumption::disabled();
    ClientConnection::new(Arc::new(config), endpoint.tls_name()?).map_err(setup)
}

fn complete(tls: &mut ClientConnection, transport: &mut Transport<'_>) -> io::Result<()> {
    while tls.is_handshaking() {
        tls.complete_io(transport)?;
    }
    while tls.wants_write() {
        tls.write_tls(transport)?;
    }
    Ok(())
}

/// What a failure means when no certificate was seen.
fn before_certificate(failure: io::Error, transport: &Transport<'_>) -> ProbeError {
    let address = transport.address();
    let Some(error) = tls_error(&failure) else { return transport.error(failure) };
    let source: Arc<dyn StdError + Send + Sync> = Arc::new(error.clone());
    match error {
        Error::NoCertificatesPresented => ProbeError::NoCertificate { address },
        Error::AlertReceived(AlertDescription::UnrecognisedName) => ProbeError::NameUnknown { address, source },
        Error::AlertReceived(AlertDescription::ProtocolVersion)
        | Error::InvalidMessage(InvalidMessage::UnknownProtocolVersion)
        | Error::PeerIncompatible(
            PeerIncompatible::ServerDoesNotSupportTls12Or13 | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
        ) => ProbeError::NotProbeable { address, source },
        Error::InvalidMessage(_) | Error::PeerSentOversizedRecord => ProbeError::NotTls { address, source },
        _ => ProbeError::Handshake { address, source },
    }
}

/// What it all means when a certificate was seen.
fn outcome(failure: Option<io::Error>, seen: &Seen) -> Result<(), HandshakeProblem> {
    let cause = |error: &Error| -> Arc<dyn StdError + Send + Sync> { Arc::new(error.clone()) };
    let Some(failure) = failure else {
        return match &seen.signature {
            Signature::Unchecked(error) => Err(HandshakeProblem::Unchecked { source: cause(error) }),
            _ => Ok(()),
        };
    };
    let timed_out = failure.kind() == io::ErrorKind::TimedOut;
    match (&seen.signature, tls_error(&failure)) {
        (Signature::Bad(error), _) => Err(HandshakeProblem::BadSignature { source: cause(error) }),
        // The server proved that it has the key, and then wanted a certificate of ours: its side works.
        (Signature::Good, _) if seen.client_certificate_wanted && !timed_out => Ok(()),
        (_, Some(error @ Error::PeerMisbehaved(PeerMisbehaved::SignedKxWithWrongAlgorithm)))
            if seen.chain.first().is_some_and(|leaf| is_foreign_to_tls12(leaf)) =>
        {
            Err(HandshakeProblem::Unchecked { source: cause(error) })
        }
        (_, Some(error)) => Err(HandshakeProblem::Failed { source: cause(error) }),
        (_, None) if timed_out => Err(HandshakeProblem::Timeout),
        (_, None) => Err(HandshakeProblem::Closed { source: Arc::new(failure) }),
    }
}

fn tls_error(failure: &io::Error) -> Option<&Error> {
    failure.get_ref().and_then(|inner| inner.downcast_ref())
}

fn close(mut tls: ClientConnection, mut transport: Transport<'_>) {
    tls.send_close_notify();
    while tls.wants_write() {
        // What was to be seen has been seen; a peer that is gone already needs no farewell.
        if tls.write_tls(&mut transport).is_err() {
            return;
        }
    }
    transport.close();
}

fn fingerprint(der: &[u8]) -> String {
    hex(&sha256(der))
}

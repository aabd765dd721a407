//! Why no certificate was seen, or why it did not work.

use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use thiserror::Error;

use super::{EndpointError, StartTls, StartTlsProblem, StartTlsStep};

type Cause = Arc<dyn Error + Send + Sync>;

/// Why an endpoint could not be asked for its certificate.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The connection ended before a certificate was seen: reset, or closed.
    #[error("{address} closed the connection before it presented a certificate")]
    Closed {
        /// Who.
        address: SocketAddr,
        /// How.
        #[source]
        source: io::Error,
    },
    /// No connection.
    #[error("can't connect to {address}")]
    Connect {
        /// To whom.
        address: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The endpoint makes no sense.
    #[error("the endpoint can't be used")]
    Endpoint(#[from] EndpointError),
    /// The TLS handshake was refused or broke before a certificate was seen. With a wanted kind of key, or a key that does
    /// not belong to its certificate, this is what many servers do.
    #[error("{address} ended the TLS handshake before it presented a certificate")]
    Handshake {
        /// Who.
        address: SocketAddr,
        /// How.
        #[source]
        source: Cause,
    },
    /// The caller asked to stop.
    #[error("interrupted")]
    Interrupted,
    /// The server has no certificate for the name that was asked for, and says so (alert `unrecognized_name`).
    #[error("{address} has no certificate for this server name")]
    NameUnknown {
        /// Who.
        address: SocketAddr,
        /// The alert.
        #[source]
        source: Cause,
    },
    /// The handshake went through without a certificate.
    #[error("{address} presents no certificate")]
    NoCertificate {
        /// Who.
        address: SocketAddr,
    },
    /// The server speaks TLS, but none that this client knows: TLS 1.1 or older. This says nothing about its certificate.
    #[error("{address} speaks no version of TLS that can be probed (1.2 or 1.3)")]
    NotProbeable {
        /// Who.
        address: SocketAddr,
        /// How that shows.
        #[source]
        source: Cause,
    },
    /// The answer is something else than TLS.
    #[error("{address} does not speak TLS")]
    NotTls {
        /// Who.
        address: SocketAddr,
        /// How that shows.
        #[source]
        source: Cause,
    },
    /// The name has no address, or nobody could say.
    #[error("can't resolve {host}")]
    Resolve {
        /// The name.
        host: String,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The crypto provider can't be used for this endpoint.
    #[error("the crypto provider has nothing that fits this endpoint")]
    Setup {
        /// Why not.
        #[source]
        source: Cause,
    },
    /// The plain-text part did not lead to TLS.
    #[error("{address} does not start TLS over {protocol}, at the {step}")]
    StartTls {
        /// Who.
        address: SocketAddr,
        /// The protocol.
        protocol: StartTls,
        /// How far it got.
        step: StartTlsStep,
        /// What it did instead.
        #[source]
        source: StartTlsProblem,
    },
    /// Time ran out before a certificate was seen.
    #[error("{address} did not present a certificate in time")]
    Timeout {
        /// Who.
        address: SocketAddr,
    },
}

impl ProbeError {
    /// Whether nobody listened.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Connect { source, .. } if source.kind() == io::ErrorKind::ConnectionRefused)
    }

    /// Whether there was nobody to talk to: no connection, no answer in time, or an end without a certificate. A listener
    /// that is just restarting looks like this, and so does a dead one.
    #[must_use]
    pub fn unreachable(&self) -> bool {
        matches!(self, Self::Closed { .. } | Self::Connect { .. } | Self::Timeout { .. })
    }
}

/// Why a handshake could not be completed although a certificate was presented.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum HandshakeProblem {
    /// The server's signature does not fit its certificate: it uses another key.
    #[error("the server does not have the key of the certificate that it presents")]
    BadSignature {
        /// What the check said.
        #[source]
        source: Cause,
    },
    /// The connection ended.
    #[error("the server closed the connection during the handshake")]
    Closed {
        /// How.
        #[source]
        source: Arc<io::Error>,
    },
    /// The handshake broke in another way, for example by an alert.
    #[error("the handshake failed")]
    Failed {
        /// How.
        #[source]
        source: Cause,
    },
    /// The server stopped answering.
    #[error("the handshake was not completed in time")]
    Timeout,
    /// Signatures of this kind of key can't be checked here, so nobody knows whether the server has the right one: RSA keys
    /// below 2048 bits, RSA-PSS keys, Ed448, unusual curves.
    #[error("signatures of this kind of key can't be checked, so the handshake proves nothing")]
    Unchecked {
        /// What the check said.
        #[source]
        source: Cause,
    },
}

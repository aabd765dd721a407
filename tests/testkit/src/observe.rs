//! What a server presents, seen by a small client that shares no code with the engine.

use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, Error, SignatureScheme, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

/// Completes a handshake and returns the SHA-256 of the leaf's DER in lowercase hexadecimal.
///
/// `None` sends no server name. The server's proof that it has the key is checked, names, dates and roots are not.
///
/// # Errors
///
/// One line of text when the connection or the handshake fails, or takes longer than 10 seconds.
pub fn served_fingerprint(address: SocketAddr, server_name: Option<&str>) -> Result<String, String> {
    served_chain(address, server_name).map(|chain| crate::pki::fingerprint(&chain[0]))
}

/// Completes a handshake and returns what was presented, leaf first, as DER.
///
/// # Errors
///
/// As [`served_fingerprint`].
pub fn served_chain(address: SocketAddr, server_name: Option<&str>) -> Result<Vec<Vec<u8>>, String> {
    let (mut stream, seen) = shake_hands(address, server_name)?;
    stream.conn.send_close_notify();
    while stream.conn.wants_write() {
        stream.conn.write_tls(&mut stream.sock).map_err(|error| error.to_string())?;
    }
    crate::listener::close_gently(&mut stream.sock);
    let chain = seen.chain.lock().expect("no panic while locked").clone();
    if chain.is_empty() { Err("no certificate was presented".to_owned()) } else { Ok(chain) }
}

/// A TLS connection to go on with, whatever certificate is presented.
///
/// # Errors
///
/// As [`served_fingerprint`].
pub fn connect(address: SocketAddr, server_name: Option<&str>) -> Result<StreamOwned<ClientConnection, TcpStream>, String> {
    shake_hands(address, server_name).map(|(stream, _)| stream)
}

type Connected = (StreamOwned<ClientConnection, TcpStream>, Arc<Seen>);

fn shake_hands(address: SocketAddr, server_name: Option<&str>) -> Result<Connected, String> {
    let name = match server_name {
        Some(name) => ServerName::try_from(name.to_owned()).map_err(|error| format!("server name {name:?}: {error}"))?,
        None => ServerName::IpAddress(address.ip().into()),
    };
    let provider = crate::provider();
    let seen = Arc::new(Seen { provider: Arc::clone(&provider), chain: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::<Seen>::clone(&seen))
        .with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name).map_err(|error| error.to_string())?;
    let patience = Duration::from_secs(10);
    let mut stream = TcpStream::connect_timeout(&address, patience).map_err(|error| format!("can't connect: {error}"))?;
    let limits = stream.set_read_timeout(Some(patience)).and_then(|()| stream.set_write_timeout(Some(patience)));
    limits.map_err(|error| error.to_string())?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream).map_err(|error| format!("handshake failed: {error}"))?;
    }
    Ok((StreamOwned::new(connection, stream), seen))
}

#[derive(Debug)]
struct Seen {
    provider: Arc<CryptoProvider>,
    chain: Mutex<Vec<Vec<u8>>>,
}

impl ServerCertVerifier for Seen {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        *self.chain.lock().expect("no panic while locked") =
            std::iter::once(leaf).chain(intermediates).map(|der| der.to_vec()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

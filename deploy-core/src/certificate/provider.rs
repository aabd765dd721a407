//! What needs cryptography: loading the key, the chain's signatures, and a handshake in memory (rung V1).

use std::io;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer, ServerName,
    SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, ServerConnection, SignatureScheme};

use super::key::{KeyFormat, Match, PublicKey};
use super::x509::X509;
use super::{Certificate, MaterialError};

/// A handshake takes two or three turns of each side.
const TURNS: usize = 10;

impl Certificate {
    /// Rung V1: the provider loads the key, each certificate is signed by the one that follows it, and a TLS handshake in
    /// memory, without a socket, succeeds with this certificate and key.
    ///
    /// # Errors
    /// [`MaterialError::KeyTypeUnsupported`] and [`MaterialError::SignatureUnsupported`] say something of the provider
    /// only ([`MaterialError::is_unsupported`]); [`MaterialError::BadSignature`], [`MaterialError::KeyMismatch`] and
    /// [`MaterialError::HandshakeFailed`] of the material.
    pub fn check_with_provider(&self, provider: &Arc<CryptoProvider>) -> Result<(), MaterialError> {
        let unsupported =
            |source| MaterialError::KeyTypeUnsupported { key_type: self.key_type().clone(), source: Box::new(source) };
        let signing_key = provider.key_provider.load_private_key(self.to_rustls_key()).map_err(unsupported)?;
        let public = signing_key.public_key().and_then(|spki| PublicKey::from_spki(&spki).ok());
        if public.is_some_and(|public| matches!(self.0.leaf.public.compare(&public), Match::No | Match::OtherType)) {
            return Err(MaterialError::KeyMismatch { key_type: self.key_type().clone(), subject: self.subject().to_owned() });
        }
        let chain: Vec<&X509> = self.certificates().chain(&self.0.root).collect();
        for pair in chain.windows(2) {
            if let [child, issuer] = pair {
                check_signature(child, issuer, provider)?;
            }
        }
        let chain = self.certificates().map(|certificate| CertificateDer::from(certificate.der.clone())).collect();
        let certified = CertifiedKey::new(chain, signing_key);
        handshake(provider, certified, &self.0.leaf).map_err(|source| MaterialError::HandshakeFailed { source: Box::new(source) })
    }

    /// The provider takes ownership of a copy of its own; it is gone when the check ends.
    fn to_rustls_key(&self) -> PrivateKeyDer<'static> {
        let bytes = self.key_der().expose().to_vec();
        match self.key_format() {
            KeyFormat::Pkcs1 => PrivatePkcs1KeyDer::from(bytes).into(),
            KeyFormat::Pkcs8 => PrivatePkcs8KeyDer::from(bytes).into(),
            KeyFormat::Sec1 => PrivateSec1KeyDer::from(bytes).into(),
        }
    }
}

fn check_signature(child: &X509, issuer: &X509, provider: &CryptoProvider) -> Result<(), MaterialError> {
    let algorithms = provider.signature_verification_algorithms.all.iter();
    let mut fitting = algorithms.filter(|algorithm| {
        algorithm.public_key_alg_id().as_ref() == issuer.key_algorithm
            && algorithm.signature_alg_id().as_ref() == child.signature_algorithm
    });
    let Some(first) = fitting.next() else { return Err(MaterialError::SignatureUnsupported { subject: child.subject.clone() }) };
    let signed = &child.der[child.signed.clone()];
    // Several algorithms may fit: the same one for keys of other sizes.
    if std::iter::once(first)
        .chain(fitting)
        .any(|algorithm| algorithm.verify_signature(&issuer.key, signed, &child.signature).is_ok())
    {
        return Ok(());
    }
    Err(MaterialError::BadSignature { subject: child.subject.clone(), issuer: issuer.subject.clone() })
}

fn handshake(provider: &Arc<CryptoProvider>, certified: CertifiedKey, leaf: &X509) -> Result<(), rustls::Error> {
    let mut server_config = ServerConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    server_config.send_tls13_tickets = 0;
    let verifier = SignatureOnly { provider: Arc::clone(provider), spki: SubjectPublicKeyInfoDer::from(leaf.spki.clone()) };
    let client_config = ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    let general = |error: &dyn std::fmt::Display| rustls::Error::General(error.to_string());
    let name = ServerName::try_from("handshake.invalid").map_err(|error| general(&error))?;
    let mut client = ClientConnection::new(Arc::new(client_config), name)?;
    let mut server = ServerConnection::new(Arc::new(server_config))?;
    for _ in 0..TURNS {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).map_err(|error| general(&error))?;
        }
        feed(&mut wire.as_slice(), |bytes| server.read_tls(bytes)).map_err(|error| general(&error))?;
        server.process_new_packets()?;
        wire.clear();
        while server.wants_write() {
            server.write_tls(&mut wire).map_err(|error| general(&error))?;
        }
        feed(&mut wire.as_slice(), |bytes| client.read_tls(bytes)).map_err(|error| general(&error))?;
        client.process_new_packets()?;
        if !client.is_handshaking() && !server.is_handshaking() {
            return Ok(());
        }
    }
    Err(rustls::Error::HandshakeNotComplete)
}

fn feed(bytes: &mut &[u8], mut read: impl FnMut(&mut dyn io::Read) -> io::Result<usize>) -> io::Result<()> {
    while !bytes.is_empty() {
        if read(bytes)? == 0 {
            break;
        }
    }
    Ok(())
}

/// Accepts any chain, because the chain is checked elsewhere, and insists on the proof that the server has the key.
#[derive(Debug)]
struct SignatureOnly {
    provider: Arc<CryptoProvider>,
    spki: SubjectPublicKeyInfoDer<'static>,
}

impl ServerCertVerifier for SignatureOnly {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    /// Against the key as this crate read it, so that certificates which only webpki refuses are not refused here.
    fn verify_tls13_signature(
        &self,
        message: &[u8],
        _: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature_with_raw_key(message, &self.spki, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::samples::{Wanted, self_signed};

    #[test]
    fn m1_the_handshake_itself_sees_that_the_key_is_another_one() {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let [one, two] = [self_signed(&Wanted::default()), self_signed(&Wanted::default())]
            .map(|leaf| Certificate::from_pem(leaf.pem.as_bytes(), &leaf.key).unwrap());
        let certified = |key: &Certificate| {
            let key = provider.key_provider.load_private_key(key.to_rustls_key()).unwrap();
            CertifiedKey::new(vec![CertificateDer::from(one.leaf_der().to_vec())], key)
        };
        handshake(&provider, certified(&one), &one.0.leaf).unwrap();
        let error = handshake(&provider, certified(&two), &one.0.leaf).unwrap_err();
        assert!(matches!(error, rustls::Error::InvalidCertificate(rustls::CertificateError::BadSignature)), "{error:?}");
    }
}

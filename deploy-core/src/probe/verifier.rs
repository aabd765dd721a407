//! The certificate verifier of the probe: it keeps what is presented, accepts it, and checks that the server has its key.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use der::Decode as _;
use der::oid::ObjectIdentifier;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::sign::CertifiedKey;
use rustls::{DigitallySignedStruct, Error, SignatureScheme, SupportedCipherSuite};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::KeyTypeWanted;

const RSA_ENCRYPTION: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC_PUBLIC_KEY: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");

/// The length of a DER RSAPublicKey (RFC 8017, A.1.1) with a modulus of 2048 bits and the shortest exponent.
const RSA_2048_LENGTH: usize = 268;

/// What one handshake showed. It is its own verifier, and its own (empty) source of client certificates.
#[derive(Debug)]
pub(super) struct Capture {
    provider: Arc<CryptoProvider>,
    key_type: Option<KeyTypeWanted>,
    seen: Mutex<Seen>,
}

#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Leaf first; empty until the server presents something.
    pub(super) chain: Vec<Vec<u8>>,
    pub(super) signature: Signature,
    /// The server asked for a certificate of ours, which we do not have.
    pub(super) client_certificate_wanted: bool,
}

/// What became of the server's proof that it has the key.
#[derive(Debug, Default)]
pub(super) enum Signature {
    Bad(Error),
    Good,
    #[default]
    Missing,
    Unchecked(Error),
}

impl Capture {
    pub(super) fn new(provider: Arc<CryptoProvider>, key_type: Option<KeyTypeWanted>) -> Self {
        Self { provider, key_type, seen: Mutex::default() }
    }

    pub(super) fn take(&self) -> Seen {
        std::mem::take(&mut *self.seen())
    }

    pub(super) fn has_certificate(&self) -> bool {
        !self.seen().chain.is_empty()
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the result of a check; what can't be checked passes, because the rest of the handshake is worth seeing.
    fn record(
        &self,
        result: Result<HandshakeSignatureValid, Error>,
        leaf: &CertificateDer<'_>,
        scheme: SignatureScheme,
    ) -> Result<HandshakeSignatureValid, Error> {
        let (signature, result) = match result {
            Ok(valid) => (Signature::Good, Ok(valid)),
            Err(error) if self.is_beyond_us(leaf, scheme) => {
                (Signature::Unchecked(error), Ok(HandshakeSignatureValid::assertion()))
            }
            Err(error) => (Signature::Bad(error.clone()), Err(error)),
        };
        self.seen().signature = signature;
        result
    }

    /// Whether it is the provider's fault that a signature could not be verified. A check that fails for a key that the
    /// provider knows means that the server has another key: an RSA signature under an EC certificate, for example.
    fn is_beyond_us(&self, leaf: &CertificateDer<'_>, scheme: SignatureScheme) -> bool {
        let Ok(certificate) = x509_cert::Certificate::from_der(leaf) else { return false };
        let key = certificate.tbs_certificate().subject_public_key_info();
        let curve = || key.algorithm.parameters.as_ref().and_then(|any| any.decode_as::<ObjectIdentifier>().ok());
        let unknown_scheme = || !self.provider.signature_verification_algorithms.supported_schemes().contains(&scheme);
        match key.algorithm.oid {
            RSA_ENCRYPTION => key.subject_public_key.raw_bytes().len() < RSA_2048_LENGTH,
            EC_PUBLIC_KEY => match curve() {
                Some(P256 | P384) => false,
                Some(P521) => scheme == SignatureScheme::ECDSA_NISTP521_SHA512 && unknown_scheme(),
                _ => true,
            },
            ED25519 => false,
            _ => unknown_scheme(),
        }
    }
}

/// Whether TLS 1.2 as rustls speaks it has no way to check signatures of this key, so that the handshake ends at the first
/// one: RSA-PSS keys, Ed448. (With RSA, EC and Ed25519 keys, the check itself decides.)
pub(super) fn is_foreign_to_tls12(leaf: &[u8]) -> bool {
    x509_cert::Certificate::from_der(leaf).is_ok_and(|certificate| {
        let key = certificate.tbs_certificate().subject_public_key_info();
        !matches!(key.algorithm.oid, RSA_ENCRYPTION | EC_PUBLIC_KEY | ED25519)
    })
}

impl ServerCertVerifier for Capture {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.seen().chain = std::iter::once(leaf).chain(intermediates).map(|certificate| certificate.to_vec()).collect();
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let result = verify_tls12_signature(message, leaf, signature, &self.provider.signature_verification_algorithms);
        self.record(result, leaf, signature.scheme)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let result = verify_tls13_signature(message, leaf, signature, &self.provider.signature_verification_algorithms);
        self.record(result, leaf, signature.scheme)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes(self.key_type)
    }
}

impl ResolvesClientCert for Capture {
    fn resolve(&self, _root_hint_subjects: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.seen().client_certificate_wanted = true;
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

/// The provider, with the TLS 1.2 suites that a kind of key allows; those of TLS 1.3 allow all (RFC 8446, B.4).
pub(super) fn restricted(provider: &Arc<CryptoProvider>, key_type: Option<KeyTypeWanted>) -> Arc<CryptoProvider> {
    if key_type.is_none() {
        return Arc::clone(provider);
    }
    let schemes = schemes(key_type);
    let mut restricted = CryptoProvider::clone(provider);
    restricted.cipher_suites.retain(|suite| match suite {
        SupportedCipherSuite::Tls12(suite) => suite.sign.iter().any(|scheme| schemes.contains(scheme)),
        SupportedCipherSuite::Tls13(_) => true,
    });
    Arc::new(restricted)
}

/// What we offer to verify, most wanted first. It is more than the provider can do: a server without a matching scheme would
/// not show its certificate at all. SHA-1 is left out, which no TLS 1.2 server of today insists on.
fn schemes(key_type: Option<KeyTypeWanted>) -> Vec<SignatureScheme> {
    use SignatureScheme as S;
    let ecdsa = [S::ECDSA_NISTP256_SHA256, S::ECDSA_NISTP384_SHA384, S::ECDSA_NISTP521_SHA512];
    // The last three are rsa_pss_pss_sha256, _sha384 and _sha512 (RFC 8446, 4.2.3), for keys that are RSA-PSS by themselves.
    let rsa =
        [S::RSA_PSS_SHA256, S::RSA_PSS_SHA384, S::RSA_PSS_SHA512, S::Unknown(0x0809), S::Unknown(0x080a), S::Unknown(0x080b)];
    let rsa_tls12 = [S::RSA_PKCS1_SHA256, S::RSA_PKCS1_SHA384, S::RSA_PKCS1_SHA512];
    match key_type {
        Some(KeyTypeWanted::Ecdsa) => ecdsa.to_vec(),
        Some(KeyTypeWanted::Ed25519) => vec![S::ED25519],
        Some(KeyTypeWanted::Rsa) => [rsa.as_slice(), &rsa_tls12].concat(),
        None => {
            let others = [S::ED25519, S::ED448, S::ML_DSA_44, S::ML_DSA_65, S::ML_DSA_87];
            [ecdsa.as_slice(), &others, &rsa, &rsa_tls12].concat()
        }
    }
}

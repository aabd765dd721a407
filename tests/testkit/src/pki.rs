//! A certificate factory: a root, an intermediate, and any leaf that a test needs.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use der::asn1::{AnyRef, ObjectIdentifier, OctetStringRef};
use der::{Decode as _, Encode as _, SliceReader};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    RsaKeySize, SanType, SignatureAlgorithm,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use sec1::{EcParameters, EcPrivateKey};
use sha2::{Digest as _, Sha256};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// RSA keys are slow to make, so a process makes this many of each size and uses them in turn.
const RSA_KEYS: usize = 3;

/// A root and an intermediate, both ECDSA P-256 and valid for ten years, which issue whatever is asked for.
pub struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    issued: AtomicUsize,
}

impl Authority {
    /// A new authority with keys of its own.
    #[must_use]
    pub fn new() -> Self {
        let generate = || KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).expect("a P-256 key");
        let root = CertifiedIssuer::self_signed(authority_parameters("Test Root"), generate()).expect("a root");
        let intermediate =
            CertifiedIssuer::signed_by(authority_parameters("Test Intermediate"), generate(), &root).expect("an intermediate");
        Self { root, intermediate, issued: AtomicUsize::new(0) }
    }

    /// Issues a leaf below the intermediate.
    ///
    /// Two certificates that one authority issues one after the other never share a key, not even RSA ones.
    #[must_use]
    pub fn issue(&self, request: &Request) -> Issued {
        let key = request.key.generate(self.issued.fetch_add(1, Ordering::Relaxed));
        let leaf = request.parameters().signed_by(&key, &self.intermediate).expect("a leaf");
        let intermediate = (self.intermediate.pem(), self.intermediate.der().to_vec());
        Issued::new(&leaf, vec![intermediate], &key, request.key)
    }

    /// Issues a leaf below so many intermediates, one below the other, instead of one.
    ///
    /// # Panics
    ///
    /// When `intermediates` is 0.
    #[must_use]
    pub fn issue_deep(&self, request: &Request, intermediates: usize) -> Issued {
        let mut issuers: Vec<CertifiedIssuer<'static, KeyPair>> = Vec::new();
        for number in 1..=intermediates {
            let (parameters, key) =
                (authority_parameters(&format!("Test Intermediate {number}")), generate(&rcgen::PKCS_ECDSA_P256_SHA256));
            let issuer =
                CertifiedIssuer::signed_by(parameters, key, issuers.last().unwrap_or(&self.root)).expect("an intermediate");
            issuers.push(issuer);
        }
        let key = request.key.generate(self.issued.fetch_add(1, Ordering::Relaxed));
        let leaf = request.parameters().signed_by(&key, issuers.last().expect("an intermediate")).expect("a leaf");
        let chain = issuers.iter().rev();
        Issued::new(&leaf, chain.map(|issuer| (issuer.pem(), issuer.der().to_vec())).collect(), &key, request.key)
    }

    /// The root, as PEM.
    #[must_use]
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The root, as DER.
    #[must_use]
    pub fn root_der(&self) -> Vec<u8> {
        self.root.der().to_vec()
    }

    /// The intermediate, as PEM.
    #[must_use]
    pub fn intermediate_pem(&self) -> String {
        self.intermediate.pem()
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Authority").finish_non_exhaustive()
    }
}

/// What a certificate is to say. Default: ECDSA P-256, valid from yesterday for 90 days.
#[derive(Clone, Debug)]
pub struct Request {
    names: Vec<String>,
    ips: Vec<IpAddr>,
    common_name: Option<String>,
    key: KeyKind,
    not_before: SystemTime,
    not_after: SystemTime,
}

impl Request {
    /// For these DNS names; the first one is the common name, too.
    #[must_use]
    pub fn new(names: &[&str]) -> Self {
        Self {
            names: names.iter().map(ToString::to_string).collect(),
            ips: Vec::new(),
            common_name: names.first().map(ToString::to_string),
            key: KeyKind::EcP256,
            not_before: SystemTime::now() - DAY,
            not_after: SystemTime::now() + 90 * DAY,
        }
    }

    /// With a key of this kind.
    #[must_use]
    pub fn key(mut self, key: KeyKind) -> Self {
        self.key = key;
        self
    }

    /// Valid between these instants; whole seconds count.
    #[must_use]
    pub fn validity(mut self, not_before: SystemTime, not_after: SystemTime) -> Self {
        self.not_before = not_before;
        self.not_after = not_after;
        self
    }

    /// Valid between these days from now; negative ones lie in the past.
    #[must_use]
    pub fn days_from_now(self, not_before: i32, not_after: i32) -> Self {
        self.validity(in_days(not_before), in_days(not_after))
    }

    /// With these IP addresses beside the names.
    #[must_use]
    pub fn with_ips(mut self, ips: &[IpAddr]) -> Self {
        self.ips = ips.to_vec();
        self
    }

    /// With this common name instead of the first DNS name.
    #[must_use]
    pub fn common_name(mut self, common_name: &str) -> Self {
        self.common_name = Some(common_name.to_owned());
        self
    }

    /// Without a common name: CAs leave it out for long names (RFC 6125, section 2.3, looks at the others only).
    #[must_use]
    pub fn without_common_name(mut self) -> Self {
        self.common_name = None;
        self
    }

    fn parameters(&self) -> CertificateParams {
        let mut parameters = CertificateParams::new(self.names.clone()).expect("DNS names");
        parameters.subject_alt_names.extend(self.ips.iter().copied().map(SanType::IpAddress));
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(common_name) = &self.common_name {
            parameters.distinguished_name.push(DnType::CommonName, common_name.as_str());
        }
        set_validity(&mut parameters, self.not_before, self.not_after);
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        parameters
    }
}

/// A kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyKind {
    /// ECDSA on NIST P-256.
    EcP256,
    /// ECDSA on NIST P-384.
    EcP384,
    /// ECDSA on NIST P-521.
    EcP521,
    /// Ed25519; the PEM is PKCS#8 version 2, see [`Issued::ed25519_key_pem_version_1`].
    Ed25519,
    /// RSA, 2048 bits.
    Rsa2048,
    /// RSA, 3072 bits.
    Rsa3072,
    /// RSA, 4096 bits.
    Rsa4096,
}

impl KeyKind {
    fn generate(self, turn: usize) -> KeyPair {
        match self {
            Self::EcP256 => generate(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::EcP384 => generate(&rcgen::PKCS_ECDSA_P384_SHA384),
            Self::EcP521 => generate(&rcgen::PKCS_ECDSA_P521_SHA512),
            Self::Ed25519 => generate(&rcgen::PKCS_ED25519),
            Self::Rsa2048 => rsa(RsaKeySize::_2048, turn % RSA_KEYS),
            Self::Rsa3072 => rsa(RsaKeySize::_3072, turn % RSA_KEYS),
            Self::Rsa4096 => rsa(RsaKeySize::_4096, turn % RSA_KEYS),
        }
    }
}

/// A leaf with its chain and key, in every form that a test may want.
#[derive(Clone)]
#[non_exhaustive]
pub struct Issued {
    /// The leaf, as PEM.
    pub leaf_pem: String,
    /// What belongs between leaf and root: the intermediate, as PEM.
    pub chain_pem: String,
    /// Leaf and intermediate, as PEM.
    pub fullchain_pem: String,
    /// The key, as PKCS#8 PEM.
    pub key_pem: String,
    /// SHA-256 of the leaf's DER in lowercase hexadecimal.
    pub fingerprint: String,
    /// The leaf, as DER.
    pub leaf_der: Vec<u8>,
    /// The intermediate, as DER.
    pub chain_der: Vec<Vec<u8>>,
    /// The key, as PKCS#8 DER.
    pub key_der: Vec<u8>,
    /// The kind of the key.
    pub key_kind: KeyKind,
}

impl Issued {
    fn new(leaf: &rcgen::Certificate, chain: Vec<(String, Vec<u8>)>, key: &KeyPair, key_kind: KeyKind) -> Self {
        let leaf_der = leaf.der().to_vec();
        let leaf_pem = leaf.pem();
        let (chain_pem, chain_der): (Vec<String>, Vec<Vec<u8>>) = chain.into_iter().unzip();
        let chain_pem = chain_pem.concat();
        Self {
            fingerprint: fingerprint(&leaf_der),
            fullchain_pem: format!("{leaf_pem}{chain_pem}"),
            leaf_pem,
            chain_pem,
            key_pem: key.serialize_pem(),
            leaf_der,
            chain_der,
            key_der: key.serialize_der(),
            key_kind,
        }
    }

    /// This certificate with the key of another one: a pair that does not match.
    #[must_use]
    pub fn with_key_of(&self, other: &Self) -> Self {
        Self { key_pem: other.key_pem.clone(), key_der: other.key_der.clone(), key_kind: other.key_kind, ..self.clone() }
    }

    /// An Ed25519 key as PKCS#8 version 1 (RFC 8410, section 7: without the public key), the form that OpenSSL 3.0 reads.
    #[must_use]
    pub fn ed25519_key_pem_version_1(&self) -> String {
        assert_eq!(self.key_kind, KeyKind::Ed25519, "only Ed25519 keys have this form");
        const PREFIX: [u8; 16] = [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
        // All lengths are below 128, so in both versions the seed's 32 bytes follow 16 bytes of headers.
        assert_eq!(self.key_der[2..5], [0x02, 0x01, 0x01], "a version 2 key");
        let seed = &self.key_der[16..48];
        pem("PRIVATE KEY", &[PREFIX.as_slice(), seed].concat())
    }

    /// The key in the form that its kind had before PKCS#8: PKCS#1 for RSA (RFC 8017, appendix A.1.2), SEC 1 for ECDSA
    /// (RFC 5915).
    ///
    /// # Panics
    ///
    /// For Ed25519, which has no such form.
    #[must_use]
    pub fn traditional_key_pem(&self) -> String {
        let (curve, inner) = pkcs8_parts(&self.key_der).expect("a PKCS#8 key");
        match curve {
            _ if self.key_kind == KeyKind::Ed25519 => panic!("Ed25519 keys have no traditional form"),
            None => pem("RSA PRIVATE KEY", &inner),
            Some(curve) => {
                let mut key = EcPrivateKey::from_der(&inner).expect("an EC key");
                key.parameters = Some(EcParameters::NamedCurve(curve));
                pem("EC PRIVATE KEY", &key.to_der().expect("an EC key"))
            }
        }
    }

    /// Leaf and chain for rustls.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateDer<'static>> {
        std::iter::once(&self.leaf_der).chain(&self.chain_der).map(|der| CertificateDer::from(der.clone())).collect()
    }

    /// The key for rustls.
    #[must_use]
    pub fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key_der.clone()).into()
    }
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut debug = formatter.debug_struct("Issued");
        debug.field("fingerprint", &self.fingerprint).field("key_kind", &self.key_kind).finish_non_exhaustive()
    }
}

/// Writes `fullchain.pem` (mode 0644) and `privkey.pem` (mode 0600) into a directory, over what is there, and returns both
/// paths. The files are written in place: this is a source of certificates, not a deployment.
pub fn write_pair(directory: &Path, issued: &Issued) -> (PathBuf, PathBuf) {
    let (fullchain, key) = (directory.join("fullchain.pem"), directory.join("privkey.pem"));
    write(&fullchain, &issued.fullchain_pem, 0o644);
    write(&key, &issued.key_pem, 0o600);
    (fullchain, key)
}

/// SHA-256 in lowercase hexadecimal.
#[must_use]
pub fn fingerprint(der: &[u8]) -> String {
    Sha256::digest(der).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn write(path: &Path, text: &str, mode: u32) {
    let file = OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.unwrap_or_else(|error| panic!("can't write {}: {error}", path.display()));
}

fn authority_parameters(common_name: &str) -> CertificateParams {
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(DnType::CommonName, common_name);
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    parameters.use_authority_key_identifier_extension = true;
    set_validity(&mut parameters, in_days(-365), in_days(3650));
    parameters
}

fn set_validity(parameters: &mut CertificateParams, not_before: SystemTime, not_after: SystemTime) {
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let since_epoch =
        |at: SystemTime| Duration::from_secs(at.duration_since(SystemTime::UNIX_EPOCH).expect("a time after 1970").as_secs());
    parameters.not_before = epoch + since_epoch(not_before);
    parameters.not_after = epoch + since_epoch(not_after);
}

fn in_days(days: i32) -> SystemTime {
    let span = DAY * days.unsigned_abs();
    if days < 0 { SystemTime::now() - span } else { SystemTime::now() + span }
}

fn generate(algorithm: &'static SignatureAlgorithm) -> KeyPair {
    KeyPair::generate_for(algorithm).expect("a key")
}

fn rsa(size: RsaKeySize, slot: usize) -> KeyPair {
    type Keys = HashMap<(RsaKeySize, usize), Vec<u8>>;
    static KEYS: OnceLock<Mutex<Keys>> = OnceLock::new();
    let algorithm = &rcgen::PKCS_RSA_SHA256;
    let mut keys = KEYS.get_or_init(Mutex::default).lock().unwrap_or_else(PoisonError::into_inner);
    let der = keys
        .entry((size, slot))
        .or_insert_with(|| KeyPair::generate_rsa_for(algorithm, size).expect("an RSA key").serialize_der())
        .clone();
    KeyPair::from_pkcs8_der_and_sign_algo(&der.into(), algorithm).expect("the same RSA key")
}

/// The curve, for a key that has one, and the key in the form of its kind (RFC 5958, section 2).
fn pkcs8_parts(der: &[u8]) -> der::Result<(Option<ObjectIdentifier>, Vec<u8>)> {
    let mut reader = SliceReader::new(der)?;
    let content = AnyRef::decode(&mut reader)?;
    let mut reader = SliceReader::new(content.value())?;
    u8::decode(&mut reader)?;
    let algorithm = AnyRef::decode(&mut reader)?;
    let key = <&OctetStringRef>::decode(&mut reader)?.as_bytes().to_vec();
    let mut reader = SliceReader::new(algorithm.value())?;
    <ObjectIdentifier>::decode(&mut reader)?;
    Ok((ObjectIdentifier::decode(&mut reader).ok(), key))
}

fn pem(label: &str, der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let lines: Vec<&str> =
        encoded.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).expect("base64 is ASCII")).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KINDS: [KeyKind; 5] = [KeyKind::EcP256, KeyKind::EcP384, KeyKind::EcP521, KeyKind::Ed25519, KeyKind::Rsa2048];

    #[test]
    fn key_matches_leaf_for_every_kind() {
        let authority = Authority::new();
        for kind in KINDS {
            let issued = authority.issue(&Request::new(&["a.test"]).key(kind));
            let pair = rustls::sign::CertifiedKey::from_der(issued.certificates(), issued.private_key(), &crate::provider());
            pair.unwrap_or_else(|error| panic!("{kind:?}: {error}"));
        }
    }

    #[test]
    fn successive_certificates_never_share_a_key() {
        let authority = Authority::new();
        for kind in KINDS {
            let request = Request::new(&["a.test"]).key(kind);
            let (one, two) = (authority.issue(&request), authority.issue(&request));
            assert_ne!(one.key_der, two.key_der, "{kind:?}");
            assert_ne!(one.fingerprint, two.fingerprint, "{kind:?}");
        }
    }

    #[test]
    fn both_forms_of_an_ed25519_key_load() {
        let issued = Authority::new().issue(&Request::new(&["a.test"]).key(KeyKind::Ed25519));
        use rustls_pki_types::pem::PemObject as _;
        let version_1 = issued.ed25519_key_pem_version_1();
        assert_ne!(version_1, issued.key_pem);
        let key = PrivateKeyDer::from_pem_slice(version_1.as_bytes()).unwrap();
        rustls::sign::CertifiedKey::from_der(issued.certificates(), key, &crate::provider()).unwrap();
    }

    #[test]
    fn traditional_keys_and_deep_chains_load() {
        use rustls_pki_types::pem::PemObject as _;
        let authority = Authority::new();
        for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::EcP521, KeyKind::Rsa2048] {
            let issued = authority.issue_deep(&Request::new(&["a.test"]).key(kind), 3);
            assert_eq!(issued.chain_der.len(), 3);
            let traditional = issued.traditional_key_pem();
            assert!(!traditional.contains("BEGIN PRIVATE"), "{kind:?}");
            let key = PrivateKeyDer::from_pem_slice(traditional.as_bytes()).unwrap();
            rustls::sign::CertifiedKey::from_der(issued.certificates(), key, &crate::provider()).unwrap();
        }
    }

    #[test]
    fn key_file_is_readable_by_its_owner_only() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let issued = Authority::new().issue(&Request::new(&["a.test"]));
        let (fullchain, key) = write_pair(directory.path(), &issued);
        assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_to_string(fullchain).unwrap(), issued.fullchain_pem);
    }
}

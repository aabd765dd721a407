//! What ACM looks at in a certificate, a chain and a key.

use std::sync::Arc;
use std::time::SystemTime;

use deploy_testkit::{pki, provider};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::server::ParsedCertificate;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

/// A pair that ACM takes.
#[derive(Clone)]
pub(crate) struct Material {
    pub(crate) leaf: String,
    pub(crate) chain: String,
    pub(crate) key: String,
    pub(crate) fingerprint: String,
    pub(crate) names: Vec<String>,
    pub(crate) algorithm: &'static str,
    pub(crate) serial: String,
}

impl Material {
    /// The rules of docs.aws.amazon.com/acm/latest/userguide/import-certificate-prerequisites.html and troubleshoot-import.html.
    pub(crate) fn read(leaf: &str, chain: &str, key: &str) -> Result<Self, String> {
        let certificates = parse(leaf).map_err(|()| "The certificate is not valid.")?;
        let [der] = certificates.as_slice() else {
            return Err(
                "The certificate field contains more than one certificate. You can specify only one certificate in this field."
                    .into(),
            );
        };
        if key.len() > 5120 {
            return Err("The private key is larger than 5120 bytes.".into());
        }
        let parsed = Certificate::from_der(der).map_err(|error| error.to_string())?;
        let validity = parsed.tbs_certificate().validity();
        let now = SystemTime::now();
        if now < validity.not_before.to_system_time() || now > validity.not_after.to_system_time() {
            return Err("The certificate is not within its validity period.".into());
        }
        let algorithm = algorithm(&parsed).ok_or("The certificate's key algorithm is not supported.")?;
        let names = names(&parsed);
        if names.is_empty() || parsed.tbs_certificate().issuer().is_empty() {
            return Err("The certificate has no name, or no issuer.".into());
        }
        let private = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|_| "The private key is not supported.")?;
        let private = provider().key_provider.load_private_key(private).map_err(|_| "The private key is not supported.")?;
        CertifiedKey::new(vec![der.clone()], private)
            .keys_match()
            .map_err(|_| "The private key does not match the certificate.")?;
        let above =
            if chain.is_empty() { Vec::new() } else { parse(chain).map_err(|()| "The certificate chain is not valid.")? };
        check_chain(der, &above)
            .map_err(|why| format!("Could not validate the certificate with the certificate chain: {why}."))?;
        Ok(Self {
            leaf: leaf.to_owned(),
            chain: chain.to_owned(),
            key: key.to_owned(),
            fingerprint: pki::fingerprint(der),
            names,
            algorithm,
            serial: parsed.tbs_certificate().serial_number().to_string(),
        })
    }
}

/// Blocks of nothing but PEM, without blank lines or blanks between or behind them.
fn parse(pem: &str) -> Result<Vec<CertificateDer<'static>>, ()> {
    if pem.lines().any(|line| line.is_empty() || line.ends_with(' ')) {
        return Err(());
    }
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    certificates.ok().filter(|certificates| !certificates.is_empty()).ok_or(())
}

/// Each one certifies the one before; the leaf is not among them.
fn check_chain(leaf: &CertificateDer<'_>, above: &[CertificateDer<'static>]) -> Result<(), String> {
    if above.contains(leaf) {
        return Err("the certificate itself is in its chain".into());
    }
    let mut issuer = Certificate::from_der(leaf).unwrap().tbs_certificate().issuer().clone();
    for certificate in above {
        let certificate = Certificate::from_der(certificate).map_err(|error| error.to_string())?;
        if *certificate.tbs_certificate().subject() != issuer {
            return Err("it is out of order".into());
        }
        issuer = certificate.tbs_certificate().issuer().clone();
    }
    let Some((top, between)) = above.split_last() else { return Ok(()) };
    let mut roots = RootCertStore::empty();
    roots.add(top.clone()).map_err(|error| error.to_string())?;
    let parsed = ParsedCertificate::try_from(leaf).map_err(|error| error.to_string())?;
    let algorithms = provider().signature_verification_algorithms.all;
    match verify_server_cert_signed_by_trust_anchor(&parsed, &roots, between, UnixTime::now(), algorithms) {
        // Names and purposes are another matter.
        Err(rustls::Error::InvalidCertificate(CertificateError::InvalidPurpose)) | Ok(()) => Ok(()),
        Err(error) => Err(error.to_string()),
    }
}

fn algorithm(certificate: &Certificate) -> Option<&'static str> {
    let key = certificate.tbs_certificate().subject_public_key_info();
    let oid = |text: &str| key.algorithm.parameters.as_ref().is_some_and(|found| found.value() == oid_bytes(text));
    match key.algorithm.oid.to_string().as_str() {
        "1.2.840.113549.1.1.1" => match key.subject_public_key.raw_bytes().len() {
            140 => Some("RSA_1024"),
            270 => Some("RSA_2048"),
            398 => Some("RSA_3072"),
            526 => Some("RSA_4096"),
            _ => None,
        },
        "1.2.840.10045.2.1" if oid("1.2.840.10045.3.1.7") => Some("EC_prime256v1"),
        "1.2.840.10045.2.1" if oid("1.3.132.0.34") => Some("EC_secp384r1"),
        "1.2.840.10045.2.1" if oid("1.3.132.0.35") => Some("EC_secp521r1"),
        _ => None,
    }
}

fn oid_bytes(text: &str) -> Vec<u8> {
    x509_cert::der::oid::ObjectIdentifier::new(text).unwrap().to_der().unwrap()[2..].to_vec()
}

fn names(certificate: &Certificate) -> Vec<String> {
    let found = certificate.tbs_certificate().get_extension::<SubjectAltName>().ok().flatten();
    let names = found.map(|(_, names)| names.0).unwrap_or_default();
    let name = |name: GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(bytes) => Some(format!("{:?}", bytes.as_bytes())),
        _ => None,
    };
    names.into_iter().filter_map(name).collect()
}

/// What a load balancer would load.
pub(crate) fn fullchain(material: &Material) -> String {
    format!("{}{}", material.leaf, material.chain)
}

pub(crate) type Shared = Arc<Material>;

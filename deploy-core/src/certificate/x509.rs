//! One X.509 certificate (RFC 5280), read once: what the rest of this module asks of it.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::ops::Range;
use std::time::SystemTime;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{BasicConstraints, SubjectAltName};
use x509_cert::name::Name;

use super::error::{MaterialError, Part};
use super::key::PublicKey;
use super::pem::{self, Block};
use crate::digest::hex;

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");

#[derive(Clone, Debug)]
pub(super) struct X509 {
    pub(super) der: Vec<u8>,
    /// The signed part, as it stands in `der`: what was signed is these bytes, not what an encoder would make of them.
    pub(super) signed: Range<usize>,
    /// The content of the signature's AlgorithmIdentifier.
    pub(super) signature_algorithm: Vec<u8>,
    pub(super) signature: Vec<u8>,
    /// The content of the key's AlgorithmIdentifier.
    pub(super) key_algorithm: Vec<u8>,
    pub(super) key: Vec<u8>,
    /// The whole SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
    pub(super) public: PublicKey,
    subject_der: Vec<u8>,
    issuer_der: Vec<u8>,
    pub(super) subject: String,
    pub(super) issuer: String,
    pub(super) serial: String,
    pub(super) not_before: SystemTime,
    pub(super) not_after: SystemTime,
    pub(super) dns_names: Vec<String>,
    pub(super) addresses: Vec<IpAddr>,
    pub(super) is_ca: bool,
}

impl X509 {
    /// All certificates of a PEM file, in order; a key among them is an error.
    pub(super) fn all_from_pem(input: &[u8], part: Part) -> Result<Vec<Self>, MaterialError> {
        let blocks = pem::read(input, part)?;
        for block in &blocks {
            let line = block.line;
            if block.label.ends_with("PRIVATE KEY") {
                return Err(MaterialError::KeyInCertificate { part, line });
            }
            if !is_certificate(block) {
                return Err(MaterialError::UnexpectedBlock { part, line, label: block.label.clone() });
            }
        }
        if blocks.is_empty() {
            return Err(MaterialError::NothingFound { part });
        }
        Self::all_from_blocks(&blocks, part)
    }

    /// The certificates among these blocks.
    pub(super) fn all_from_blocks(blocks: &[Block], part: Part) -> Result<Vec<Self>, MaterialError> {
        let certificates = blocks.iter().filter(|block| is_certificate(block)).enumerate();
        certificates
            .map(|(index, block)| {
                Self::from_der(block.content.expose()).map_err(|source| MaterialError::CertificateInvalid {
                    part,
                    position: index + 1,
                    source,
                })
            })
            .collect()
    }

    pub(super) fn from_der(bytes: &[u8]) -> Result<Self, Box<dyn StdError + Send + Sync>> {
        let parsed = x509_cert::Certificate::from_der(bytes)?;
        let raw = Raw::from_der(bytes)?;
        let tbs = parsed.tbs_certificate();
        let constraints = tbs.get_extension::<BasicConstraints>()?;
        let alternatives = tbs.get_extension::<SubjectAltName>()?;
        let (dns_names, addresses) = match alternatives {
            Some((_, SubjectAltName(names))) => split_names(&names),
            // No longer allowed for new public certificates, and still common inside of companies.
            None => (common_name(tbs.subject()).into_iter().collect(), Vec::new()),
        };
        let offset = raw.signed.as_ptr() as usize - bytes.as_ptr() as usize;
        Ok(Self {
            signed: offset..offset + raw.signed.len(),
            signature_algorithm: raw.signature_algorithm.to_vec(),
            signature: raw.signature.to_vec(),
            public: PublicKey::from_parts(raw.key_algorithm, raw.key)?,
            key_algorithm: raw.key_algorithm.to_vec(),
            key: raw.key.to_vec(),
            spki: raw.spki.to_vec(),
            subject_der: raw.subject.to_vec(),
            issuer_der: raw.issuer.to_vec(),
            subject: display(tbs.subject(), &dns_names),
            issuer: tbs.issuer().to_string(),
            serial: hex(raw.serial),
            not_before: tbs.validity().not_before.to_system_time(),
            not_after: tbs.validity().not_after.to_system_time(),
            dns_names,
            addresses,
            is_ca: constraints.is_some_and(|(_, constraints)| constraints.ca),
            der: bytes.to_vec(),
        })
    }

    pub(super) fn is_self_signed(&self) -> bool {
        self.is_issued_by(self)
    }

    /// By the names. Comparing them as RFC 5280 section 7.1 asks means ignoring case and the kind of string; the
    /// signature decides in the end.
    pub(super) fn is_issued_by(&self, other: &Self) -> bool {
        self.issuer_der == other.subject_der
            || (!self.issuer.is_empty() && other.subject_der.len() > 2 && self.issuer.eq_ignore_ascii_case(&other.subject))
    }

    /// Whether a client that asks for this name or address accepts the certificate: RFC 6125 section 6.4, a wildcard
    /// being a whole left-most label.
    pub(super) fn covers(&self, name: &str) -> bool {
        if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
            return self.addresses.contains(&address);
        }
        let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        self.dns_names.iter().any(|pattern| {
            if *pattern == name {
                return !name.is_empty();
            }
            let (Some(parent), Some((label, rest))) = (pattern.strip_prefix("*."), name.split_once('.')) else { return false };
            !label.is_empty() && label != "*" && !parent.is_empty() && parent == rest
        })
    }
}

/// Slices of the DER, as they stand there.
struct Raw<'a> {
    signed: &'a [u8],
    signature_algorithm: &'a [u8],
    signature: &'a [u8],
    serial: &'a [u8],
    issuer: &'a [u8],
    subject: &'a [u8],
    spki: &'a [u8],
    key_algorithm: &'a [u8],
    key: &'a [u8],
}

impl<'a> Raw<'a> {
    /// Certificate, TBSCertificate and SubjectPublicKeyInfo of RFC 5280 section 4.1.
    fn from_der(bytes: &'a [u8]) -> der::Result<Self> {
        let mut outer = content(AnyRef::from_der(bytes)?)?;
        let signed = outer.tlv_bytes()?;
        let signature_algorithm = AnyRef::decode(&mut outer)?.value();
        let signature = BitStringRef::decode(&mut outer)?.raw_bytes();

        let mut tbs = content(AnyRef::from_der(signed)?)?;
        let first = AnyRef::decode(&mut tbs)?;
        // The version, which a version 1 certificate leaves out.
        let serial = if first.tag() == Tag::Integer { first } else { AnyRef::decode(&mut tbs)? };
        tbs.tlv_bytes()?;
        let issuer = tbs.tlv_bytes()?;
        tbs.tlv_bytes()?;
        let subject = tbs.tlv_bytes()?;
        let spki = tbs.tlv_bytes()?;

        let mut inner = content(AnyRef::from_der(spki)?)?;
        let key_algorithm = AnyRef::decode(&mut inner)?.value();
        let key = BitStringRef::decode(&mut inner)?.raw_bytes();
        let serial = serial.value();
        Ok(Self { signed, signature_algorithm, signature, serial, issuer, subject, spki, key_algorithm, key })
    }
}

fn content(any: AnyRef<'_>) -> der::Result<SliceReader<'_>> {
    any.tag().assert_eq(Tag::Sequence)?;
    SliceReader::new(any.value())
}

fn is_certificate(block: &Block) -> bool {
    matches!(block.label.as_str(), "CERTIFICATE" | "X509 CERTIFICATE")
}

fn split_names(names: &[GeneralName]) -> (Vec<String>, Vec<IpAddr>) {
    let (mut dns_names, mut addresses) = (Vec::new(), Vec::new());
    for name in names {
        match name {
            GeneralName::DnsName(name) => {
                let name = name.as_str();
                dns_names.push(name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase());
            }
            GeneralName::IpAddress(bytes) => {
                match (<[u8; 4]>::try_from(bytes.as_bytes()), <[u8; 16]>::try_from(bytes.as_bytes())) {
                    (Ok(octets), _) => addresses.push(IpAddr::from(octets)),
                    (_, Ok(octets)) => addresses.push(IpAddr::from(octets)),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    (dns_names, addresses)
}

fn common_name(name: &Name) -> Option<String> {
    let attribute = name.iter().find(|attribute| attribute.oid == COMMON_NAME)?;
    std::str::from_utf8(attribute.value.value()).ok().map(str::to_ascii_lowercase)
}

/// The subject, or the first name where a certificate has an empty subject, as short-lived ones do.
fn display(subject: &Name, names: &[String]) -> String {
    match (subject.is_empty(), names.first()) {
        (true, Some(name)) => name.clone(),
        _ => subject.to_string(),
    }
}

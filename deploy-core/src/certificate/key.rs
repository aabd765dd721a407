//! Private and public keys: which type, and whether they belong together, as far as reading them tells.

use std::fmt;

use der::asn1::{AnyRef, BitStringRef, ObjectIdentifier, OctetStringRef};
use der::{Decode, Reader, SliceReader, Tag, Tagged};
use zeroize::Zeroizing;

use super::error::{MaterialError, Part};
use super::pem::{self, Block};
use crate::secret::SecretBytes;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const P256: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.3.1.7");
const P384: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.34");
const P521: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.132.0.35");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// The algorithm of a key, and its size.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyType {
    /// ECDSA on NIST P-256.
    EcP256,
    /// ECDSA on NIST P-384.
    EcP384,
    /// ECDSA on NIST P-521.
    EcP521,
    /// Ed25519 (RFC 8410).
    Ed25519,
    /// Something else: the object identifier of the curve, or of the algorithm.
    Other(String),
    /// RSA with a modulus of so many bits.
    Rsa(usize),
}

impl fmt::Display for KeyType {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcP256 => formatter.write_str("EC P-256"),
            Self::EcP384 => formatter.write_str("EC P-384"),
            Self::EcP521 => formatter.write_str("EC P-521"),
            Self::Ed25519 => formatter.write_str("Ed25519"),
            Self::Rsa(bits) => write!(formatter, "RSA {bits}"),
            Self::Other(oid) => match oid.as_str() {
                "1.3.132.0.10" => formatter.write_str("EC secp256k1"),
                "1.2.840.113549.1.1.10" => formatter.write_str("RSA-PSS"),
                "1.2.840.10040.4.1" => formatter.write_str("DSA"),
                "1.3.101.113" => formatter.write_str("Ed448"),
                oid => write!(formatter, "algorithm {oid}"),
            },
        }
    }
}

/// How a private key is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum KeyFormat {
    /// RFC 8017, appendix A.1.2: `RSA PRIVATE KEY`.
    Pkcs1,
    /// RFC 5208, version 1: `PRIVATE KEY`.
    Pkcs8,
    /// RFC 5915: `EC PRIVATE KEY`.
    Sec1,
}

impl KeyFormat {
    /// The PEM label.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Pkcs1 => "RSA PRIVATE KEY",
            Self::Pkcs8 => "PRIVATE KEY",
            Self::Sec1 => "EC PRIVATE KEY",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Pkcs1 => "PKCS#1",
            Self::Pkcs8 => "PKCS#8",
            Self::Sec1 => "SEC1",
        }
    }
}

/// What is known of a public key, from a certificate or from a private key that carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PublicKey {
    pub(super) key_type: KeyType,
    data: Option<PublicData>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PublicData {
    Rsa { modulus: Vec<u8>, exponent: Vec<u8> },
    Point(Vec<u8>),
    Raw(Vec<u8>),
}

/// What comparing two public keys says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Match {
    No,
    OtherType,
    /// Same type, and one of them does not carry its public part.
    Undecided,
    Yes,
}

impl PublicKey {
    /// From the fields of a SubjectPublicKeyInfo: the content of its algorithm and the bytes of its key.
    pub(super) fn from_parts(algorithm: &[u8], key: &[u8]) -> der::Result<Self> {
        let (oid, parameters) = algorithm_parts(algorithm)?;
        if oid == RSA {
            return AnyRef::from_der(key)?.sequence(|reader| rsa_public(reader));
        }
        Ok(Self::other(oid, parameters, Some(key)))
    }

    /// From a whole SubjectPublicKeyInfo.
    pub(super) fn from_spki(spki: &[u8]) -> der::Result<Self> {
        AnyRef::from_der(spki)?.sequence(|reader: &mut SliceReader<'_>| {
            let algorithm = expect(AnyRef::decode(reader)?, Tag::Sequence)?;
            let key = BitStringRef::decode(reader)?;
            Self::from_parts(algorithm, key.raw_bytes())
        })
    }

    pub(super) fn compare(&self, other: &Self) -> Match {
        if self.key_type != other.key_type {
            return Match::OtherType;
        }
        let same = match (&self.data, &other.data) {
            (None, _) | (_, None) => return Match::Undecided,
            (Some(PublicData::Point(one)), Some(PublicData::Point(two))) => same_point(one, two),
            (Some(one), Some(two)) => one == two,
        };
        if same { Match::Yes } else { Match::No }
    }

    /// A key that is not RSA: `key` as it stands in a SubjectPublicKeyInfo.
    fn other(oid: ObjectIdentifier, parameters: Option<AnyRef<'_>>, key: Option<&[u8]>) -> Self {
        if oid == EC {
            let curve = parameters.and_then(|parameters| ObjectIdentifier::try_from(parameters).ok());
            let key_type = curve.map_or_else(|| KeyType::Other(oid.to_string()), curve_type);
            return Self { key_type, data: key.map(|point| PublicData::Point(point.to_vec())) };
        }
        let key_type = if oid == ED25519 { KeyType::Ed25519 } else { KeyType::Other(oid.to_string()) };
        Self { key_type, data: key.map(|key| PublicData::Raw(key.to_vec())) }
    }
}

/// A private key: its DER, in the format that it is rendered in, and what it says of its public part.
#[derive(Clone, Debug)]
pub(super) struct PrivateKey {
    pub(super) format: KeyFormat,
    pub(super) content: SecretBytes,
    pub(super) public: PublicKey,
    /// The DER of the AlgorithmIdentifier that PKCS#8 gives it.
    algorithm: Vec<u8>,
}

impl PrivateKey {
    /// The one key of a PEM file, in which nothing else may stand.
    pub(super) fn from_pem(input: &SecretBytes) -> Result<Self, MaterialError> {
        let blocks = pem::read(input.expose(), Part::Key)?;
        // `openssl ecparam -genkey` writes parameters before the key, which carries them, too.
        let stranger = blocks.iter().find(|block| !is_key(block) && block.label != "EC PARAMETERS");
        if let Some(Block { label, line, .. }) = stranger {
            return Err(MaterialError::UnexpectedBlock { part: Part::Key, line: *line, label: label.clone() });
        }
        Self::from_blocks(blocks)?.ok_or(MaterialError::NothingFound { part: Part::Key })
    }

    /// The one key among these blocks, if there is one.
    pub(super) fn from_blocks(blocks: Vec<Block>) -> Result<Option<Self>, MaterialError> {
        let mut keys = blocks.into_iter().filter(is_key);
        let Some(Block { label, content, .. }) = keys.next() else { return Ok(None) };
        if let Some(second) = keys.next() {
            return Err(MaterialError::SeveralKeys { line: second.line });
        }
        match label.as_str() {
            "ENCRYPTED PRIVATE KEY" => Err(MaterialError::KeyEncrypted),
            "OPENSSH PRIVATE KEY" => Err(MaterialError::KeyOpenSsh),
            "RSA PRIVATE KEY" => Self::from_der(KeyFormat::Pkcs1, content).map(Some),
            "EC PRIVATE KEY" => Self::from_der(KeyFormat::Sec1, content).map(Some),
            _ => Self::from_der(KeyFormat::Pkcs8, content).map(Some),
        }
    }

    fn from_der(format: KeyFormat, content: SecretBytes) -> Result<Self, MaterialError> {
        let parsed = match format {
            KeyFormat::Pkcs1 => rsa_private(content.expose()).map(|public| (public, rsa_algorithm(), None)),
            KeyFormat::Sec1 => ec_private(content.expose(), None)
                .map(|(public, curve)| (public, curve.map(ec_algorithm).unwrap_or_default(), None)),
            KeyFormat::Pkcs8 => pkcs8(content.expose()),
        };
        let (public, algorithm, replacement) =
            parsed.map_err(|source| MaterialError::KeyInvalid { format: format.name(), source: Box::new(source) })?;
        Ok(Self { format, content: replacement.unwrap_or(content), public, algorithm })
    }

    /// As PKCS#8 version 1.
    pub(super) fn to_pkcs8(&self) -> SecretBytes {
        match self.format {
            KeyFormat::Pkcs8 => self.content.clone(),
            KeyFormat::Pkcs1 | KeyFormat::Sec1 => encode_pkcs8(&self.algorithm, self.content.expose()),
        }
    }
}

fn is_key(block: &Block) -> bool {
    let labels = ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "OPENSSH PRIVATE KEY", "ENCRYPTED PRIVATE KEY"];
    labels.contains(&block.label.as_str())
}

/// What a private key's encoding says: its public part, its AlgorithmIdentifier, and another encoding to use instead.
type Parsed = (PublicKey, Vec<u8>, Option<SecretBytes>);

/// PrivateKeyInfo and OneAsymmetricKey (RFC 5958). OpenSSL 3.0 cannot read version 2, so that is re-encoded as version 1.
fn pkcs8(bytes: &[u8]) -> der::Result<Parsed> {
    AnyRef::from_der(bytes)?.sequence(|reader: &mut SliceReader<'_>| {
        let version = u8::decode(reader)?;
        if version > 1 {
            return Err(Tag::Integer.value_error().into());
        }
        let algorithm = reader.tlv_bytes()?;
        let (oid, parameters) = algorithm_parts(expect(AnyRef::from_der(algorithm)?, Tag::Sequence)?)?;
        let key = <&OctetStringRef>::decode(reader)?.as_bytes();
        let mut public = None;
        let mut more = false;
        while !reader.is_finished() {
            more = true;
            let field = AnyRef::decode(reader)?;
            // [1] IMPLICIT BIT STRING, whose first byte counts unused bits.
            if field.tag().number().value() == 1 && field.tag().is_context_specific() {
                public = field.value().strip_prefix(&[0]);
            }
        }
        let parsed = if oid == RSA {
            rsa_private(key)?
        } else if oid == EC {
            ec_private(key, parameters.and_then(|curve| ObjectIdentifier::try_from(curve).ok()))?.0
        } else {
            if oid == ED25519 && <&OctetStringRef>::from_der(key)?.as_bytes().len() != 32 {
                return Err(Tag::OctetString.value_error().into());
            }
            PublicKey::other(oid, parameters, public)
        };
        let replacement = (version > 0 || more).then(|| encode_pkcs8(algorithm, key));
        Ok((parsed, algorithm.to_vec(), replacement))
    })
}

fn rsa_private(bytes: &[u8]) -> der::Result<PublicKey> {
    AnyRef::from_der(bytes)?.sequence(|reader: &mut SliceReader<'_>| {
        if u8::decode(reader)? != 0 {
            // Multi-prime: no TLS server uses it.
            return Err(Tag::Integer.value_error().into());
        }
        let public = rsa_public(reader)?;
        for _ in 0..6 {
            unsigned(reader)?;
        }
        Ok(public)
    })
}

/// Modulus and public exponent, which begin both RSAPublicKey and the rest of RSAPrivateKey.
fn rsa_public(reader: &mut SliceReader<'_>) -> der::Result<PublicKey> {
    let (modulus, exponent) = (unsigned(reader)?.to_vec(), unsigned(reader)?.to_vec());
    let bits = modulus.first().map_or(0, |first| modulus.len() * 8 - first.leading_zeros() as usize);
    Ok(PublicKey { key_type: KeyType::Rsa(bits), data: Some(PublicData::Rsa { modulus, exponent }) })
}

/// ECPrivateKey (RFC 5915). The curve stands inside, or outside in PKCS#8.
fn ec_private(bytes: &[u8], outer: Option<ObjectIdentifier>) -> der::Result<(PublicKey, Option<ObjectIdentifier>)> {
    let key = sec1::EcPrivateKey::from_der(bytes)?;
    let inner = key.parameters.and_then(|parameters| parameters.named_curve());
    let curve = outer.or(inner).or(match key.private_key.len() {
        // RFC 5915 fixes the length for each curve, and these are the usual ones.
        32 => Some(P256),
        48 => Some(P384),
        66 => Some(P521),
        _ => None,
    });
    let key_type = curve.map_or_else(|| KeyType::Other(EC.to_string()), curve_type);
    Ok((PublicKey { key_type, data: key.public_key.map(|point| PublicData::Point(point.to_vec())) }, curve))
}

fn curve_type(curve: ObjectIdentifier) -> KeyType {
    match curve {
        P256 => KeyType::EcP256,
        P384 => KeyType::EcP384,
        P521 => KeyType::EcP521,
        curve => KeyType::Other(curve.to_string()),
    }
}

/// Whether two points are the same, one of them perhaps compressed (SEC 1, section 2.3.3).
fn same_point(one: &[u8], two: &[u8]) -> bool {
    match (one.first(), two.first()) {
        (Some(2 | 3), Some(4)) => one == compress(two),
        (Some(4), Some(2 | 3)) => compress(one) == two,
        _ => one == two,
    }
}

fn compress(point: &[u8]) -> Vec<u8> {
    // Not shorter than one byte of each coordinate, or it is no point and stays what it is.
    if point.len() < 3 {
        return point.to_vec();
    }
    let parity = point.last().map_or(0, |last| last & 1);
    let mut compressed = vec![2 + parity];
    compressed.extend_from_slice(&point[1..=point.len() / 2]);
    compressed
}

/// The content of an AlgorithmIdentifier.
fn algorithm_parts(content: &[u8]) -> der::Result<(ObjectIdentifier, Option<AnyRef<'_>>)> {
    let mut reader = SliceReader::new(content)?;
    let oid = ObjectIdentifier::decode(&mut reader)?;
    let parameters = if reader.is_finished() { None } else { Some(AnyRef::decode(&mut reader)?) };
    Ok((oid, parameters))
}

fn expect(any: AnyRef<'_>, tag: Tag) -> der::Result<&[u8]> {
    any.tag().assert_eq(tag)?;
    Ok(any.value())
}

/// An INTEGER without the zero bytes in front.
fn unsigned<'a>(reader: &mut SliceReader<'a>) -> der::Result<&'a [u8]> {
    let value = expect(AnyRef::decode(reader)?, Tag::Integer)?;
    let zeros = value.iter().take_while(|byte| **byte == 0).count();
    Ok(&value[zeros..])
}

fn rsa_algorithm() -> Vec<u8> {
    // SEQUENCE { rsaEncryption, NULL }.
    let mut der = vec![0x30, 13, 0x06, 9];
    der.extend_from_slice(RSA.as_bytes());
    der.extend_from_slice(&[0x05, 0]);
    der
}

fn ec_algorithm(curve: ObjectIdentifier) -> Vec<u8> {
    let mut oids = Vec::new();
    for oid in [EC, curve] {
        push_header(0x06, oid.as_bytes().len(), &mut oids);
        oids.extend_from_slice(oid.as_bytes());
    }
    let mut der = Vec::new();
    push_header(0x30, oids.len(), &mut der);
    der.extend(oids);
    der
}

/// SEQUENCE { INTEGER 0, algorithm, OCTET STRING key }, in one buffer that never grows.
fn encode_pkcs8(algorithm: &[u8], key: &[u8]) -> SecretBytes {
    let mut header = Vec::new();
    push_header(0x04, key.len(), &mut header);
    let body = 3 + algorithm.len() + header.len() + key.len();
    let mut start = Vec::new();
    push_header(0x30, body, &mut start);
    let mut der = Zeroizing::new(Vec::with_capacity(start.len() + body));
    for part in [start.as_slice(), &[0x02, 1, 0], algorithm, &header, key] {
        der.extend_from_slice(part);
    }
    SecretBytes::from(std::mem::take(&mut *der))
}

/// Tag and length in DER.
fn push_header(tag: u8, length: usize, into: &mut Vec<u8>) {
    into.push(tag);
    if length < 0x80 {
        into.push(length as u8);
    } else {
        let bytes = length.to_be_bytes();
        let significant = &bytes[bytes.iter().take_while(|byte| **byte == 0).count()..];
        into.push(0x80 | significant.len() as u8);
        into.extend_from_slice(significant);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_match_compressed_or_not() {
        let whole = [4, 1, 2, 3, 5];
        assert!(same_point(&whole, &whole));
        assert!(same_point(&whole, &[3, 1, 2]) && same_point(&[3, 1, 2], &whole));
        assert!(
            !same_point(&whole, &[2, 1, 2])
                && !same_point(&whole, &[3, 1, 3])
                && !same_point(&whole, &[])
                && !same_point(&[4], &[2])
        );
    }

    #[test]
    fn long_lengths_are_der() {
        for (length, expected) in [(127, &[4, 127][..]), (128, &[4, 0x81, 128]), (256, &[4, 0x82, 1, 0])] {
            let mut header = Vec::new();
            push_header(4, length, &mut header);
            assert_eq!(header, expected);
        }
    }
}

//! What can be wrong with a certificate, its chain or its key.

use std::error::Error as StdError;
use std::fmt;
use std::time::SystemTime;

use thiserror::Error;

use super::key::KeyType;
use crate::error::{Error as CoreError, ErrorKind};

/// Why a certificate, its chain or its key is refused. Nothing has been touched. No message shows anything of a key.
///
/// Lines are counted from 1. Positions are those of certificates in the file, counted from 1.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum MaterialError {
    /// A line between the BEGIN and END lines is not Base64.
    #[error("line {line} of the {part}: bad Base64")]
    BadBase64 {
        /// Of which input.
        part: Part,
        /// The line.
        line: usize,
    },
    /// A certificate is not signed by the one that follows it, although the names say so.
    #[error("the signature of \"{subject}\" was not made by \"{issuer}\", which follows it")]
    BadSignature {
        /// The certificate.
        subject: String,
        /// The one that follows.
        issuer: String,
    },
    /// A certificate is followed by one that is not its issuer.
    #[error("the chain is broken: \"{subject}\" is issued by \"{issuer}\", but \"{found}\" follows it")]
    BrokenChain {
        /// The certificate.
        subject: String,
        /// Its issuer's name.
        issuer: String,
        /// The name of the certificate that follows.
        found: String,
    },
    /// Not an X.509 certificate.
    #[error("certificate {position} of the {part} is not a valid X.509 certificate")]
    CertificateInvalid {
        /// Of which input.
        part: Part,
        /// Which one.
        position: usize,
        /// What the parser says.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The right certificates in the wrong order.
    #[error("the chain is out of order: \"{issuer}\" must follow \"{subject}\"")]
    ChainOutOfOrder {
        /// A certificate.
        subject: String,
        /// Its issuer, which stands elsewhere in the file.
        issuer: String,
    },
    /// There is nothing in it.
    #[error("the {part} is empty")]
    Empty {
        /// Which input.
        part: Part,
    },
    /// A block ends with another label than it began with.
    #[error("line {line} of the {part}: END {ended} where END {began} was expected")]
    EndMismatch {
        /// Of which input.
        part: Part,
        /// The line of the END.
        line: usize,
        /// The label of the BEGIN line.
        began: String,
        /// The label of the END line.
        ended: String,
    },
    /// A certificate has ended.
    #[error("\"{subject}\" expired at {}", rfc3339(*.not_after))]
    Expired {
        /// The certificate: leaf or intermediate.
        subject: String,
        /// The end of its validity.
        not_after: SystemTime,
    },
    /// A TLS handshake in memory with certificate and key failed.
    #[error("a TLS handshake in memory with this certificate and key failed")]
    HandshakeFailed {
        /// What TLS says.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The key is encrypted.
    #[error("the private key is encrypted with a password")]
    KeyEncrypted,
    /// There is a private key in the certificate's input.
    #[error("line {line} of the {part}: a private key, where only certificates belong")]
    KeyInCertificate {
        /// Of which input.
        part: Part,
        /// The line of its BEGIN.
        line: usize,
    },
    /// Not a private key, though the label says so.
    #[error("the private key is not valid {format}")]
    KeyInvalid {
        /// What it should be: `PKCS#8`.
        format: &'static str,
        /// What the parser says; it shows nothing of the key.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The right type of key, but not the one of this certificate.
    #[error("the private key ({key_type}) is not the one of the certificate \"{subject}\"")]
    KeyMismatch {
        /// Both keys' type.
        key_type: KeyType,
        /// The certificate.
        subject: String,
    },
    /// The key is in OpenSSH's own format.
    #[error("the private key is in OpenSSH's own format, which no TLS server reads")]
    KeyOpenSsh,
    /// Certificate and key are of different types.
    #[error("the certificate is for an {leaf} key, the private key is {key}")]
    KeyTypeMismatch {
        /// The certificate's.
        leaf: KeyType,
        /// The key's.
        key: KeyType,
    },
    /// The crypto provider cannot load this key, so nothing is known of whether it matches.
    #[error("this crypto provider cannot load the private key ({key_type})")]
    KeyTypeUnsupported {
        /// The key's type.
        key_type: KeyType,
        /// What the provider says.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The first certificate is not the key's.
    #[error("the first certificate (\"{first}\") is not the one of the key: the leaf must come first")]
    LeafNotFirst {
        /// The first certificate.
        first: String,
        /// Where the key's certificate stands, if it is there.
        leaf: Option<usize>,
    },
    /// The new certificate was issued earlier and ends earlier than the live one.
    #[error(
        "the live certificate was issued later and lasts longer: until {}, the new one until {}",
        rfc3339(*.live), rfc3339(*.new)
    )]
    LiveLastsLonger {
        /// The end of the live one.
        live: SystemTime,
        /// The end of the new one.
        new: SystemTime,
    },
    /// The new certificate does not cover names that the live one covers.
    #[error("the live certificate covers names that the new one does not: {}", names.join(", "))]
    LosesNames {
        /// Those names.
        names: Vec<String>,
    },
    /// There is text, but no block of the wanted kind.
    #[error("there is no {} in the {part}", if *.part == Part::Key { "private key" } else { "certificate" })]
    NothingFound {
        /// In which input.
        part: Part,
    },
    /// A certificate does not hold yet.
    #[error("\"{subject}\" is not valid before {}", rfc3339(*.not_before))]
    NotYetValid {
        /// The certificate: leaf or intermediate.
        subject: String,
        /// The start of its validity.
        not_before: SystemTime,
    },
    /// The key's input holds more than one key.
    #[error("line {line} of the private key: a second private key")]
    SeveralKeys {
        /// The line where the second one begins.
        line: usize,
    },
    /// The crypto provider does not know the algorithm that a certificate is signed with.
    #[error("this crypto provider cannot check the signature of \"{subject}\"")]
    SignatureUnsupported {
        /// The certificate.
        subject: String,
    },
    /// Something that is neither a block nor a comment.
    #[error("line {line} of the {part}: text outside of a PEM block")]
    TextOutsideBlock {
        /// Of which input.
        part: Part,
        /// The line.
        line: usize,
    },
    /// More than anybody needs.
    #[error("the {part} is longer than {limit} bytes")]
    TooLarge {
        /// Which input.
        part: Part,
        /// The limit, in bytes.
        limit: usize,
    },
    /// More than anybody needs.
    #[error("there are more than {limit} blocks in the {part}")]
    TooManyBlocks {
        /// In which input.
        part: Part,
        /// The limit.
        limit: usize,
    },
    /// A block of a kind that does not belong here.
    #[error("line {line} of the {part}: unexpected PEM block \"{label}\"")]
    UnexpectedBlock {
        /// Of which input.
        part: Part,
        /// The line of its BEGIN.
        line: usize,
        /// Its label.
        label: String,
    },
    /// A block has no END line.
    #[error("the PEM block \"{label}\" that begins at line {line} of the {part} does not end")]
    UnterminatedBlock {
        /// Of which input.
        part: Part,
        /// The line of its BEGIN.
        line: usize,
        /// Its label.
        label: String,
    },
}

/// The inputs that a certificate is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Leaf, or leaf and chain.
    Certificate,
    /// Intermediates.
    Chain,
    /// The private key.
    Key,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Certificate => "certificate file",
            Self::Chain => "chain file",
            Self::Key => "private key file",
        })
    }
}

impl MaterialError {
    /// What the operator should do, where that can be said.
    #[must_use]
    pub fn next_step(&self) -> Option<String> {
        let step = match self {
            Self::KeyEncrypted => "decrypt it: openssl pkey -in KEY -out DECRYPTED, with umask 077",
            Self::KeyOpenSsh => "convert a copy: ssh-keygen -p -m PKCS8 -f COPY (only RSA and ECDSA keys), or make a new key",
            Self::KeyInCertificate { .. } => "keep the private key in a file of its own",
            Self::LeafNotFirst { .. } | Self::ChainOutOfOrder { .. } => {
                "put the server's certificate first, then each issuer after the one that it signed"
            }
            Self::BrokenChain { .. } | Self::BadSignature { .. } => {
                "get the chain again from the certificate authority; certbot and lego call the whole file fullchain or bundle"
            }
            Self::KeyMismatch { .. } | Self::KeyTypeMismatch { .. } => {
                "compare openssl x509 -in CERTIFICATE -noout -pubkey with openssl pkey -in KEY -pubout"
            }
            Self::KeyTypeUnsupported { .. } => "use RSA of 2048 bits or more, EC P-256, EC P-384 or Ed25519",
            Self::Expired { .. } => "renew it",
            Self::NotYetValid { .. } => "check the clock of this machine",
            Self::LiveLastsLonger { .. } | Self::LosesNames { .. } => "look whether this is the right file; --force deploys it",
            Self::TextOutsideBlock { line: 1, .. } => {
                "if it is DER, convert it: openssl x509 -inform DER -in FILE, or openssl pkey"
            }
            _ => "look at the file with a text editor, or get it again from the certificate authority",
        };
        Some(step.to_owned())
    }

    /// Whether the provider lacks something, and nothing is known to be wrong with the material itself.
    #[must_use]
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::KeyTypeUnsupported { .. } | Self::SignatureUnsupported { .. })
    }

    /// Whether it says that certificate and key do not belong together, as when one of them was read a moment too early.
    #[must_use]
    pub fn is_mismatch(&self) -> bool {
        matches!(self, Self::KeyMismatch { .. } | Self::KeyTypeMismatch { .. })
    }
}

impl From<MaterialError> for CoreError {
    fn from(error: MaterialError) -> Self {
        let next_step = error.next_step();
        let converted = Self::new(ErrorKind::MaterialRejected, error.to_string()).with_source(error);
        match next_step {
            Some(step) => converted.with_next_step(step),
            None => converted,
        }
    }
}

/// As RFC 3339, in seconds and UTC. X.509 knows no year above 9999, which is where `humantime` ends, too.
fn rfc3339(time: SystemTime) -> impl fmt::Display {
    humantime::format_rfc3339_seconds(time)
}

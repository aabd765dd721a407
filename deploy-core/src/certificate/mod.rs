//! What is deployed: a certificate, its chain and its private key, parsed and checked once.
//!
//! A [`Certificate`] exists only if its leaf is the key's, as far as reading tells, and its chain links up in order.
//! [`Certificate::check_validity`] adds the dates, [`Certificate::check_with_provider`] everything that needs
//! cryptography, and [`guard_against_regress`] compares with what is live. None of them touches anything.

mod chain;
mod error;
mod key;
mod pem;
mod provider;
mod regress;
mod render;
mod source;
mod x509;

pub use error::{MaterialError, Part};
pub use key::{KeyFormat, KeyType};
pub use pem::{BLOCK_LIMIT, SIZE_LIMIT};
pub use regress::guard_against_regress;
pub use render::Block;
pub use source::{CertificateSource, Loaded, PemFiles};

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use self::key::PrivateKey;
use self::x509::X509;
use crate::digest::{hex, sha256};
use crate::secret::SecretBytes;

/// A certificate with its chain and private key. Immutable, and cheap to clone.
///
/// The chain is in order, without duplicates and without a root at its end; `Debug` shows nothing of the key.
#[derive(Clone)]
pub struct Certificate(Arc<Inner>);

struct Inner {
    leaf: X509,
    chain: Vec<X509>,
    /// The self-signed certificate that ended the file: checked, and rendered nowhere.
    root: Option<X509>,
    key: PrivateKey,
    fingerprint: String,
}

impl Certificate {
    /// From PEM: the leaf and, after it, its chain in order; and one unencrypted key (PKCS#8, PKCS#1 or SEC1).
    ///
    /// Each input may be up to [`SIZE_LIMIT`] bytes and [`BLOCK_LIMIT`] blocks long.
    ///
    /// # Errors
    /// What is wrong with it: everything but dates, signatures and what only a handshake shows.
    pub fn from_pem(fullchain: &[u8], key: &SecretBytes) -> Result<Self, MaterialError> {
        Self::assemble(X509::all_from_pem(fullchain, Part::Certificate)?, key)
    }

    /// From PEM, with the chain in an input of its own, which may be empty.
    ///
    /// # Errors
    /// As [`Certificate::from_pem`].
    pub fn from_pem_with_chain(leaf: &[u8], chain: &[u8], key: &SecretBytes) -> Result<Self, MaterialError> {
        let mut certificates = X509::all_from_pem(leaf, Part::Certificate)?;
        if !chain.trim_ascii().is_empty() {
            certificates.extend(X509::all_from_pem(chain, Part::Chain)?);
        }
        Self::assemble(certificates, key)
    }

    /// From one PEM input that holds leaf, chain and key, the key before or after them.
    ///
    /// # Errors
    /// As [`Certificate::from_pem`].
    pub fn from_combined_pem(combined: &SecretBytes) -> Result<Self, MaterialError> {
        let blocks = pem::read(combined.expose(), Part::Certificate)?;
        let certificates = X509::all_from_blocks(&blocks, Part::Certificate)?;
        if certificates.is_empty() {
            return Err(MaterialError::NothingFound { part: Part::Certificate });
        }
        let key = PrivateKey::from_blocks(blocks)?.ok_or(MaterialError::NothingFound { part: Part::Key })?;
        Self::put_together(certificates, key)
    }

    fn assemble(certificates: Vec<X509>, key: &SecretBytes) -> Result<Self, MaterialError> {
        Self::put_together(certificates, PrivateKey::from_pem(key)?)
    }

    fn put_together(certificates: Vec<X509>, key: PrivateKey) -> Result<Self, MaterialError> {
        let chain::Chain { leaf, intermediates, root } = chain::sort_out(certificates, &key.public)?;
        let fingerprint = hex(&sha256(&leaf.der));
        Ok(Self(Arc::new(Inner { leaf, chain: intermediates, root, key, fingerprint })))
    }

    /// Whether leaf and intermediates hold now.
    ///
    /// # Errors
    /// [`MaterialError::Expired`], [`MaterialError::NotYetValid`].
    pub fn check_validity(&self, now: SystemTime) -> Result<(), MaterialError> {
        for certificate in self.certificates() {
            let subject = || certificate.subject.clone();
            if now < certificate.not_before {
                return Err(MaterialError::NotYetValid { subject: subject(), not_before: certificate.not_before });
            }
            if now > certificate.not_after {
                return Err(MaterialError::Expired { subject: subject(), not_after: certificate.not_after });
            }
        }
        Ok(())
    }

    /// From when on the leaf holds.
    #[must_use]
    pub fn not_before(&self) -> SystemTime {
        self.0.leaf.not_before
    }

    /// Until when the leaf holds, this second included.
    #[must_use]
    pub fn not_after(&self) -> SystemTime {
        self.0.leaf.not_after
    }

    /// The leaf's DNS names in lower case, then its IP addresses; the common name where it has no subject alternative names.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        let leaf = &self.0.leaf;
        leaf.dns_names.iter().cloned().chain(leaf.addresses.iter().map(ToString::to_string)).collect()
    }

    /// Whether a client that asks for this DNS name or IP address accepts the leaf. A wildcard stands for one left-most
    /// label (RFC 6125, section 6.4.3).
    #[must_use]
    pub fn covers(&self, name: &str) -> bool {
        self.0.leaf.covers(name)
    }

    /// The SHA-256 of the leaf's DER, in lowercase hexadecimal.
    #[must_use]
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// The leaf's serial number, in lowercase hexadecimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.0.leaf.serial
    }

    /// The leaf's subject as text (RFC 4514), or its first name where the subject is empty.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.0.leaf.subject
    }

    /// The leaf's issuer as text (RFC 4514).
    #[must_use]
    pub fn issuer(&self) -> &str {
        &self.0.leaf.issuer
    }

    /// The leaf's type of key, which is the private key's, too.
    #[must_use]
    pub fn key_type(&self) -> &KeyType {
        &self.0.leaf.public.key_type
    }

    /// Whether the leaf names itself as its issuer.
    #[must_use]
    pub fn is_self_signed(&self) -> bool {
        self.0.leaf.is_self_signed()
    }

    /// The leaf.
    #[must_use]
    pub fn leaf_der(&self) -> &[u8] {
        &self.0.leaf.der
    }

    /// The intermediates, in order.
    pub fn chain_der(&self) -> impl ExactSizeIterator<Item = &[u8]> {
        self.0.chain.iter().map(|certificate| &*certificate.der)
    }

    /// The private key, in [`Certificate::key_format`]. PKCS#8 is always version 1, without the public key attached,
    /// because OpenSSL 3.0 cannot read version 2.
    #[must_use]
    pub fn key_der(&self) -> &SecretBytes {
        &self.0.key.content
    }

    /// How [`Certificate::key_der`] is encoded: as it was read.
    #[must_use]
    pub fn key_format(&self) -> KeyFormat {
        self.0.key.format
    }

    /// The private key as PKCS#8 version 1, whatever it was read as: what key stores want.
    #[must_use]
    pub fn key_pkcs8_der(&self) -> SecretBytes {
        self.0.key.to_pkcs8()
    }

    /// Leaf and intermediates.
    fn certificates(&self) -> impl Iterator<Item = &X509> {
        std::iter::once(&self.0.leaf).chain(&self.0.chain)
    }
}

/// Fingerprint and end of the first certificate of a PEM file, if there is one that can be read.
pub(crate) fn read_leaf(live_pem: &[u8]) -> Option<(String, SystemTime)> {
    let blocks = pem::read(live_pem, Part::Certificate).ok()?;
    let leaf = X509::all_from_blocks(&blocks, Part::Certificate).ok()?.into_iter().next()?;
    Some((hex(&sha256(&leaf.der)), leaf.not_after))
}

impl fmt::Debug for Certificate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Certificate")
            .field("subject", &self.subject())
            .field("fingerprint", &self.fingerprint())
            .field("names", &self.names())
            .field("key_type", &self.key_type())
            .field("chain", &self.0.chain.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod samples;
#[cfg(test)]
mod tests;

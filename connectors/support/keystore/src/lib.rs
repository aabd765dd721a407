//! PKCS#12 and JKS in process: a key with its certificates is put under an alias, and every other entry stays as it is.
//!
//! ```
//! use deploy_core::secret::SecretString;
//! use deploy_keystore::{Encryption, KeyEntry, Keystore, StoreType};
//! # use deploy_testkit::{Authority, Request};
//! # let issued = Authority::new().issue(&Request::new(&["www.example.com"]));
//! # let key = deploy_core::secret::SecretBytes::from(issued.key_pem.as_bytes());
//! # let certificate = deploy_core::Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key)?;
//! # let (random, now) = (deploy_testkit::provider().secure_random, std::time::UNIX_EPOCH);
//!
//! let password = SecretString::from("a long password".to_owned());
//! let entry = KeyEntry::new("www", &certificate, &password);
//! let mut store = Keystore::empty(StoreType::Pkcs12, Encryption::Modern);
//! assert!(store.put(&entry, None, now, random)?);
//! let bytes = store.to_bytes(&password, random)?;
//!
//! let mut store = Keystore::open(bytes.expose(), &password)?;
//! assert!(!store.put(&entry, None, now, random)?, "it is there");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! PKCS#12 is RFC 7292 in DER, with PBES2 (AES-256, HMAC-SHA-256) or the older Triple DES with SHA-1. What was made by
//! `keytool`, by OpenSSL, with `-legacy` or without, is read. JCEKS, BCFKS and PKCS#12 in BER are refused by name.
//!
//! A crate that writes PKCS#12 as lists of keys and certificates would lose what it does not know. So here what is not ours is
//! carried as the bytes that it was.

mod error;
mod jks;
mod pbe;
mod pkcs12;
mod placement;
mod tlv;

pub use error::KeystoreError;
pub use placement::{Placement, Rendered, check_name};

use std::time::SystemTime;

use deploy_core::Certificate;
use deploy_core::secret::{SecretBytes, SecretString};
use rustls::crypto::SecureRandom;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::jks::Jks;
use crate::pkcs12::Pkcs12;

/// The format of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum StoreType {
    /// Java's own format before Java 9. Its protection is weak.
    Jks,
    /// PKCS#12, Java's default since Java 9.
    Pkcs12,
}

/// How a PKCS#12 is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Encryption {
    /// Triple DES and SHA-1, for readers that cannot read the other, such as Java before 8u301 and 11.0.12.
    Legacy,
    /// PBES2 with AES-256 and HMAC-SHA-256.
    Modern,
}

/// A key with its certificates, as it is to be in a store.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct KeyEntry<'a> {
    /// The alias, in PKCS#12 the friendly name. Compared without regard to case, as Java does.
    pub alias: &'a str,
    /// The certificate and its key.
    pub certificate: &'a Certificate,
    /// The password of the key.
    pub key_password: &'a SecretString,
    /// Nothing else is to be in the store. The one key that is there is replaced, whatever its alias.
    pub alone: bool,
    /// The provider of Windows that is to hold the key after an import. For PKCS#12.
    pub provider: Option<&'a str>,
}

impl<'a> KeyEntry<'a> {
    /// An entry beside others.
    #[must_use]
    pub fn new(alias: &'a str, certificate: &'a Certificate, key_password: &'a SecretString) -> Self {
        Self { alias, certificate, key_password, alone: false, provider: None }
    }

    /// An entry by itself.
    #[must_use]
    pub fn alone(mut self, alone: bool) -> Self {
        self.alone = alone;
        self
    }

    /// An entry for Windows, whose importer asks this provider to hold the key.
    #[must_use]
    pub fn with_provider(mut self, provider: &'a str) -> Self {
        self.provider = Some(provider);
        self
    }

    /// Leaf and intermediates.
    fn chain(&self) -> Vec<&'a [u8]> {
        std::iter::once(self.certificate.leaf_der()).chain(self.certificate.chain_der()).collect()
    }
}

/// A store in memory.
#[derive(Debug)]
pub struct Keystore(Format);

#[derive(Debug)]
enum Format {
    Jks(Jks),
    Pkcs12(Pkcs12),
}

impl Keystore {
    /// A new one. `encryption` is for PKCS#12.
    #[must_use]
    pub fn empty(store_type: StoreType, encryption: Encryption) -> Self {
        Self(match store_type {
            StoreType::Jks => Format::Jks(Jks::default()),
            StoreType::Pkcs12 => Format::Pkcs12(Pkcs12::empty(encryption)),
        })
    }

    /// From the bytes of a file; their beginning says of which type they are.
    ///
    /// # Errors
    /// They are of another type, damaged, or have another password.
    pub fn open(bytes: &[u8], password: &SecretString) -> Result<Self, KeystoreError> {
        match *bytes {
            [] => Err(KeystoreError::Damaged("it is empty".into())),
            _ if bytes.starts_with(&jks::MAGIC) => Jks::open(bytes, password).map(Format::Jks).map(Self),
            [0xce, 0xce, 0xce, 0xce, ..] => Err(KeystoreError::Unsupported("a JCEKS".into())),
            [tlv::SEQUENCE, ..] if is_bcfks(bytes) => Err(KeystoreError::Unsupported("a BCFKS of Bouncy Castle".into())),
            [tlv::SEQUENCE, ..] => Pkcs12::open(bytes, password).map(Format::Pkcs12).map(Self),
            _ => Err(KeystoreError::Damaged("it is neither a JKS nor a PKCS#12".into())),
        }
    }

    /// Of which type it is.
    #[must_use]
    pub fn store_type(&self) -> StoreType {
        match self.0 {
            Format::Jks(_) => StoreType::Jks,
            Format::Pkcs12(_) => StoreType::Pkcs12,
        }
    }

    /// Puts a key under its alias, and says whether that changed anything: the same key with the same certificates under the
    /// same password is left alone, although it would be written with other bytes.
    ///
    /// `encryption` is for PKCS#12; `None` leaves it as it is. `now` is for JKS, which keeps the time.
    ///
    /// # Errors
    /// The alias is something else, the key that is there has another password, or other entries would be read differently.
    /// The store is of no use afterwards.
    pub fn put(
        &mut self,
        entry: &KeyEntry<'_>,
        encryption: Option<Encryption>,
        now: SystemTime,
        random: &dyn SecureRandom,
    ) -> Result<bool, KeystoreError> {
        match &mut self.0 {
            Format::Jks(store) => store.put(entry, now, random),
            Format::Pkcs12(store) => store.put(entry, encryption, random),
        }
    }

    /// The certificate of each key, as DER: the first of its chain. Of a PKCS#12; there are none of a JKS.
    #[must_use]
    pub fn leaves(&self) -> Vec<&[u8]> {
        match &self.0 {
            Format::Jks(_) => Vec::new(),
            Format::Pkcs12(store) => store.leaves(),
        }
    }

    /// The bytes of the file. A PKCS#12 has other ones each time.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn to_bytes(&self, password: &SecretString, random: &dyn SecureRandom) -> Result<SecretBytes, KeystoreError> {
        match &self.0 {
            Format::Jks(store) => Ok(store.to_bytes(password)),
            Format::Pkcs12(store) => store.to_bytes(password, random),
        }
    }
}

impl StoreType {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Jks => "a JKS",
            Self::Pkcs12 => "a PKCS#12",
        }
    }
}

/// Bouncy Castle's `ObjectStore` begins with a sequence, and a PKCS#12 with its version.
fn is_bcfks(bytes: &[u8]) -> bool {
    let first = der::SliceReader::new(bytes).and_then(|mut reader| tlv::next(&mut reader, tlv::SEQUENCE));
    first.is_ok_and(|content| content.first() == Some(&tlv::SEQUENCE))
}

#[cfg(test)]
mod tests;

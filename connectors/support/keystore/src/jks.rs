//! JKS, Java's format before version 9, as Sun's provider reads and writes it (`JavaKeyStore` and `KeyProtector` of OpenJDK's
//! `sun.security.provider`). Its protection rests on SHA-1 alone and is weak.

use std::time::{SystemTime, UNIX_EPOCH};

use deploy_core::secret::{SecretBytes, SecretString};
use der::asn1::ObjectIdentifier;
use der::{Decode as _, SliceReader};
use rustls::crypto::SecureRandom;
use sha1::{Digest as _, Sha1};
use zeroize::Zeroizing;

use crate::error::KeystoreError;
use crate::tlv::{self, NULL, OCTETS, SEQUENCE};
use crate::{KeyEntry, pbe};

pub(crate) const MAGIC: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];
const VERSION: u32 = 2;
const KEY: u32 = 1;
const TRUSTED: u32 = 2;
const CERTIFICATE_TYPE: &[u8] = b"X.509";
/// What the digest over a store begins with, after the password.
const WHITENER: &[u8] = b"Mighty Aphrodite";
/// Sun's own way to protect a key.
const KEY_PROTECTOR: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.42.2.17.1.1");
const HASH: usize = 20;

/// A store that was opened, or a new one.
#[derive(Debug, Default)]
pub(crate) struct Jks {
    entries: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    alias: Vec<u8>,
    /// The whole of it, which is what is written again.
    raw: SecretBytes,
    /// A key, or a certificate that is trusted.
    key: Option<Key>,
}

#[derive(Debug)]
struct Key {
    /// An `EncryptedPrivateKeyInfo`.
    protected: Vec<u8>,
    chain: Vec<Vec<u8>>,
}

impl Jks {
    pub(crate) fn open(bytes: &[u8], password: &SecretString) -> Result<Self, KeystoreError> {
        let Some((contents, digest)) = bytes.split_last_chunk::<HASH>() else { return Err(truncated()) };
        let mut reader = Reader(contents);
        if reader.take(MAGIC.len())? != MAGIC {
            return Err(KeystoreError::Damaged("it does not begin as a JKS".into()));
        }
        if reader.u32()? != VERSION {
            return Err(KeystoreError::Unsupported("a JKS of another version than 2".into()));
        }
        let count = reader.u32()?;
        let mut entries = Vec::new();
        for _ in 0..count {
            entries.push(Entry::read(&mut reader)?);
        }
        if !reader.0.is_empty() {
            return Err(KeystoreError::Damaged("something follows the last entry".into()));
        }
        if store_digest(password, contents)[..] == digest[..] {
            return Ok(Self { entries });
        }
        let opens = |key: &Key| unprotect(&key.protected, password).is_ok();
        Err(if entries.iter().filter_map(|entry| entry.key.as_ref()).any(opens) {
            KeystoreError::Damaged("its integrity check fails, although the password opens a key".into())
        } else {
            KeystoreError::WrongPassword
        })
    }

    /// Puts the key under its alias, and says whether anything had to be changed for it.
    pub(crate) fn put(
        &mut self,
        entry: &KeyEntry<'_>,
        now: SystemTime,
        random: &dyn SecureRandom,
    ) -> Result<bool, KeystoreError> {
        let named = |other: &&Entry| other.alias.eq_ignore_ascii_case(entry.alias.as_bytes());
        let alias = || entry.alias.to_owned();
        if self.entries.iter().filter(named).count() > 1 {
            return Err(KeystoreError::Ambiguous { alias: alias() });
        }
        match self.entries.iter().find(named) {
            Some(Entry { key: None, .. }) => return Err(KeystoreError::TrustedAlias { alias: alias() }),
            Some(Entry { key: Some(key), .. }) => {
                let old = unprotect(&key.protected, entry.key_password);
                let old = old.map_err(|_| KeystoreError::WrongKeyPassword { alias: alias() })?;
                if old == entry.certificate.key_pkcs8_der() && key.chain == entry.chain() {
                    return Ok(false);
                }
            }
            None if !self.entries.is_empty() && self.entries.iter().all(|entry| entry.key.is_none()) => {
                return Err(KeystoreError::Truststore);
            }
            None => {}
        }
        let new = Entry::new(entry, now, random)?;
        match self.entries.iter_mut().find(|other| named(&&**other)) {
            Some(old) => *old = new,
            None => self.entries.push(new),
        }
        Ok(true)
    }

    pub(crate) fn to_bytes(&self, password: &SecretString) -> SecretBytes {
        let mut bytes = Vec::with_capacity(self.entries.iter().map(|entry| entry.raw.len()).sum::<usize>() + 32);
        bytes.extend(MAGIC);
        bytes.extend(VERSION.to_be_bytes());
        bytes.extend(length(self.entries.len()));
        self.entries.iter().for_each(|entry| bytes.extend_from_slice(entry.raw.expose()));
        let digest = store_digest(password, &bytes);
        bytes.extend(digest);
        SecretBytes::from(bytes)
    }
}

impl Entry {
    fn read(reader: &mut Reader<'_>) -> Result<Self, KeystoreError> {
        let start = reader.0;
        let tag = reader.u32()?;
        let alias = reader.text()?.to_vec();
        // When it was made.
        reader.take(8)?;
        let key = match tag {
            KEY => {
                let protected = reader.sized()?.to_vec();
                let count = reader.u32()?;
                let mut chain = Vec::new();
                for _ in 0..count {
                    chain.push(reader.certificate()?);
                }
                Some(Key { protected, chain })
            }
            TRUSTED => {
                reader.certificate()?;
                None
            }
            _ => return Err(KeystoreError::Unsupported(format!("a JKS with an entry of the type {tag}"))),
        };
        Ok(Self { alias, raw: SecretBytes::from(&start[..start.len() - reader.0.len()]), key })
    }

    fn new(entry: &KeyEntry<'_>, now: SystemTime, random: &dyn SecureRandom) -> Result<Self, KeystoreError> {
        let protected = protect(&entry.certificate.key_pkcs8_der(), entry.key_password, &pbe::fresh(random)?);
        let chain = entry.chain();
        let milliseconds = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let mut raw = Vec::new();
        raw.extend(KEY.to_be_bytes());
        raw.extend(text(entry.alias.as_bytes()));
        raw.extend(u64::try_from(milliseconds).unwrap_or_default().to_be_bytes());
        raw.extend(length(protected.len()));
        raw.extend(&protected);
        raw.extend(length(chain.len()));
        for certificate in chain {
            raw.extend(text(CERTIFICATE_TYPE));
            raw.extend(length(certificate.len()));
            raw.extend(certificate);
        }
        Self::read(&mut Reader(&raw))
    }
}

/// What has not been read yet. Nothing is taken that is not there, whatever a length says.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], KeystoreError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or_else(truncated)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const LENGTH: usize>(&mut self) -> Result<[u8; LENGTH], KeystoreError> {
        self.take(LENGTH)?.try_into().map_err(|_| truncated())
    }

    fn u32(&mut self) -> Result<u32, KeystoreError> {
        self.array().map(u32::from_be_bytes)
    }

    fn sized(&mut self) -> Result<&'a [u8], KeystoreError> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| truncated())?)
    }

    /// Java's modified UTF-8.
    fn text(&mut self) -> Result<&'a [u8], KeystoreError> {
        let length = self.array().map(u16::from_be_bytes)?;
        self.take(length.into())
    }

    fn certificate(&mut self) -> Result<Vec<u8>, KeystoreError> {
        self.text()?;
        self.sized().map(<[u8]>::to_vec)
    }
}

fn truncated() -> KeystoreError {
    KeystoreError::Damaged("it ends too early".into())
}

/// Of an alias that the settings allow, or of a constant: both are short.
fn text(bytes: &[u8]) -> impl Iterator<Item = u8> {
    u16::try_from(bytes.len()).unwrap_or_default().to_be_bytes().into_iter().chain(bytes.iter().copied())
}

/// Of something that is in memory, and was far smaller than 4 GiB on its way there.
fn length(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or_default().to_be_bytes()
}

fn store_digest(password: &SecretString, contents: &[u8]) -> [u8; HASH] {
    Sha1::new().chain_update(&*utf16(password)).chain_update(WHITENER).chain_update(contents).finalize().into()
}

/// A key as Sun protects it: salt, the key under a chain of hashes, and a hash of it.
fn protect(key: &SecretBytes, password: &SecretString, salt: &[u8; HASH]) -> Vec<u8> {
    let password = utf16(password);
    let hidden = under_key_stream(key.expose(), &password, salt);
    let check = Sha1::new().chain_update(&*password).chain_update(key.expose()).finalize();
    let algorithm = tlv::element(SEQUENCE, &[&tlv::oid(KEY_PROTECTOR), NULL]);
    tlv::element(SEQUENCE, &[&algorithm, &tlv::element(OCTETS, &[salt, &hidden, &check])]).to_vec()
}

fn unprotect(protected: &[u8], password: &SecretString) -> Result<SecretBytes, KeystoreError> {
    let mut fields = tlv::enter(&mut SliceReader::new(protected)?, SEQUENCE)?;
    let algorithm = ObjectIdentifier::decode(&mut tlv::enter(&mut fields, SEQUENCE)?)?;
    if algorithm != KEY_PROTECTOR {
        return Err(KeystoreError::Unsupported(format!("a JKS with a key that is protected by the algorithm {algorithm}")));
    }
    let bytes = tlv::next(&mut fields, OCTETS)?;
    let (salt, rest) = bytes.split_first_chunk::<HASH>().ok_or_else(truncated)?;
    let (hidden, check) = rest.split_last_chunk::<HASH>().ok_or_else(truncated)?;
    let password = utf16(password);
    let key = under_key_stream(hidden, &password, salt);
    if Sha1::new().chain_update(&*password).chain_update(&*key).finalize()[..] != check[..] {
        return Err(KeystoreError::WrongPassword);
    }
    Ok(SecretBytes::from(key.to_vec()))
}

/// Each block of 20 bytes XOR a hash of the password and the hash before; the first of them is the salt.
fn under_key_stream(bytes: &[u8], password: &[u8], salt: &[u8; HASH]) -> Zeroizing<Vec<u8>> {
    let mut hash = *salt;
    let mut result = Zeroizing::new(bytes.to_vec());
    for block in result.chunks_mut(HASH) {
        hash = Sha1::new().chain_update(password).chain_update(hash).finalize().into();
        block.iter_mut().zip(hash).for_each(|(byte, mask)| *byte ^= mask);
    }
    result
}

fn utf16(password: &SecretString) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(password.expose().encode_utf16().flat_map(u16::to_be_bytes).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Jks {
        pub(crate) fn raw_without(&self, alias: &str) -> Vec<SecretBytes> {
            let others = self.entries.iter().filter(|entry| entry.alias != alias.as_bytes());
            others.map(|entry| entry.raw.clone()).collect()
        }

        pub(crate) fn keep_trusted(&mut self) {
            self.entries.retain(|entry| entry.key.is_none());
        }
    }
}

//! SHA-256 (FIPS 180-4), and bytes as lowercase hexadecimal: how fingerprints are written everywhere here.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// A digest of SHA-256.
pub type Digest = [u8; 32];

/// The digest of these bytes: of a certificate's DER, its fingerprint.
#[must_use]
pub fn sha256(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

pub(crate) fn sha256_of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Digest {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// Two lowercase digits for each byte.
///
/// ```
/// assert_eq!(deploy_core::digest::hex(&[0x0a, 0xff]), "0aff");
/// ```
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ok = write!(text, "{byte:02x}");
        text
    })
}

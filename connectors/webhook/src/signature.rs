//! The signature of a request: HMAC-SHA-256 (RFC 2104) over the time and the body.

use std::time::{SystemTime, UNIX_EPOCH};

use deploy_core::digest::hex;
use deploy_core::secret::SecretString;
use deploy_core::{Error, ErrorKind};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The time as seconds since 1970, and the signature in lowercase hexadecimal.
pub(crate) struct Signature {
    pub(crate) timestamp: String,
    pub(crate) hexadecimal: String,
}

/// Signs `TIMESTAMP.BODY`.
pub(crate) fn sign(secret: &SecretString, now: SystemTime, body: &[u8]) -> Result<Signature, Error> {
    let before_1970 = |error| Error::new(ErrorKind::Internal, "this machine's clock is before 1970").with_source(error);
    let timestamp = now.duration_since(UNIX_EPOCH).map_err(before_1970)?.as_secs().to_string();
    let hexadecimal = hmac(secret.expose().as_bytes(), &[timestamp.as_bytes(), b".", body])?;
    Ok(Signature { timestamp, hexadecimal })
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Result<String, Error> {
    let no_key = |error| Error::new(ErrorKind::Internal, "HMAC takes a key of every length").with_source(error);
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(no_key)?;
    parts.iter().for_each(|part| mac.update(part));
    Ok(hex(&mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn signature_is_that_of_rfc_4231() {
        let case_2 = hmac(b"Jefe", &[b"what do ya want ", b"for nothing?"]).unwrap();
        assert_eq!(case_2, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}

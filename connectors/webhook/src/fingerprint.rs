//! How the fingerprint of the live leaf is read out of an answer.

use deploy_core::digest::{hex, sha256};
use deploy_core::{Error, ErrorKind};
use deploy_http::Response;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde_json::Value;

use crate::config::ObserveSettings;

/// SHA-256 in lowercase hexadecimal; `None` where the answer says that nothing is live.
pub(crate) fn read(answer: &Response, settings: &ObserveSettings) -> Result<Option<String>, Error> {
    let text = |pointer: &str| -> Result<Option<String>, Error> {
        let body: Value = answer.json()?;
        match body.pointer(pointer) {
            Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
            Some(Value::Null) => Ok(None),
            Some(_) => Err(unexpected(&format!("what is at `{pointer}` of the answer is no text"))),
            None => Err(unexpected(&format!("the answer has nothing at `{pointer}`"))),
        }
    };
    match (&settings.fingerprint, &settings.pem) {
        (Some(pointer), _) => text(pointer)?.map(|text| normalized(&text)).transpose(),
        (None, Some(pointer)) => text(pointer)?.map(|pem| of_pem(pem.as_bytes())).transpose(),
        (None, None) => match answer.body().expose().trim_ascii() {
            [] => Ok(None),
            pem => of_pem(pem).map(Some),
        },
    }
}

/// Any case, with or without colons.
fn normalized(text: &str) -> Result<String, Error> {
    let digits: String = text.chars().filter(|character| !matches!(character, ':' | ' ')).collect();
    let digits = digits.strip_prefix("sha256").unwrap_or(&digits).to_ascii_lowercase();
    if digits.len() == 64 && digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(digits);
    }
    Err(unexpected("what the answer has for a fingerprint is no SHA-256 in hexadecimal"))
}

/// Of the first certificate.
fn of_pem(pem: &[u8]) -> Result<String, Error> {
    let leaf = CertificateDer::from_pem_slice(pem)
        .map_err(|error| unexpected("what the answer has for a certificate is no PEM").with_source(error))?;
    Ok(hex(&sha256(&leaf)))
}

fn unexpected(message: &str) -> Error {
    Error::new(ErrorKind::Unavailable, message).with_next_step("correct `observe` in the target's settings, or the endpoint")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn fingerprint_is_read_in_every_form_and_nothing_else_is() {
        let plain = "ab".repeat(32);
        let colons = ["AB"; 32].join(":");
        for text in [plain.clone(), plain.to_uppercase(), colons.clone(), format!("sha256:{plain}"), colons.replace(':', " ")] {
            assert_eq!(normalized(&text).unwrap(), plain, "{text}");
        }
        for text in [&plain[..40], "", "no fingerprint", &"zz".repeat(32), &format!("{plain}ab")] {
            assert!(normalized(text).is_err(), "{text}");
        }
        assert!(of_pem(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n").is_err());
    }
}

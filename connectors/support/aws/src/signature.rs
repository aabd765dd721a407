//! AWS Signature Version 4 (docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html), for a POST to `/`
//! without a query, which is all that these services take.
//!
//! Written here because the hashes are in the program anyway: the signer of the AWS SDK brings some twenty crates with it.

use std::time::SystemTime;

use deploy_core::digest::{hex, sha256};
use deploy_core::{Error, ErrorKind};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::credentials::Credentials;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// What is signed, and for whom.
pub(crate) struct Signing<'a> {
    pub(crate) service: &'a str,
    pub(crate) region: &'a str,
    /// Names in lower case and values, all of which are signed; sorted by name, `host` and `x-amz-date` among them.
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: &'a [u8],
    /// [`timestamp`], as in `x-amz-date`.
    pub(crate) timestamp: &'a str,
}

/// `20261130T030405Z`.
pub(crate) fn timestamp(now: SystemTime) -> String {
    humantime::format_rfc3339_seconds(now).to_string().replace(['-', ':'], "")
}

impl Signing<'_> {
    /// The value of `Authorization`.
    pub(crate) fn authorization(&self, credentials: &Credentials) -> Result<String, Error> {
        let day = self.timestamp.get(..8).unwrap_or_default();
        let scope = format!("{day}/{}/{}/aws4_request", self.region, self.service);
        let names: Vec<&str> = self.headers.iter().map(|(name, _)| *name).collect();
        let names = names.join(";");
        let headers: Zeroizing<String> =
            Zeroizing::new(self.headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect());
        let body = hex(&sha256(self.body));
        let request = Zeroizing::new(format!("POST\n/\n\n{}\n{names}\n{body}", *headers));
        let digest = hex(&sha256(request.as_bytes()));
        let to_sign = format!("{ALGORITHM}\n{}\n{scope}\n{digest}", self.timestamp);

        let secret = Zeroizing::new(format!("AWS4{}", credentials.secret_access_key.expose()));
        let mut key = Zeroizing::new(secret.as_bytes().to_vec());
        for part in [day, self.region, self.service, "aws4_request"] {
            key = mac(&key, part)?;
        }
        let signature = hex(&mac(&key, &to_sign)?);
        Ok(format!("{ALGORITHM} Credential={}/{scope}, SignedHeaders={names}, Signature={signature}", credentials.access_key_id))
    }
}

fn mac(key: &[u8], text: &str) -> Result<Zeroizing<Vec<u8>>, Error> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key)
        .map_err(|error| Error::new(ErrorKind::Internal, "a key of no length that HMAC takes").with_source(error))?;
    mac.update(text.as_bytes());
    Ok(Zeroizing::new(mac.finalize().into_bytes().to_vec()))
}

#[cfg(test)]
mod tests {
    use deploy_core::secret::SecretString;

    use super::*;

    /// The case `post-vanilla` of AWS's own test suite for signers.
    #[test]
    fn signature_is_that_of_the_published_test_suite() {
        let secret = SecretString::from("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_owned());
        let timestamp = "20150830T123600Z";
        let headers = &[("host", "example.amazonaws.com"), ("x-amz-date", timestamp)];
        let signing = Signing { service: "service", region: "us-east-1", headers, body: b"", timestamp };
        assert_eq!(
            signing.authorization(&Credentials::new("AKIDEXAMPLE", secret, None)).unwrap(),
            "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, SignedHeaders=host;x-amz-date, \
             Signature=5da7c1a2acd57cee7505fc6676e4e544621c30862966e37dddb68e92efbe5d6b"
        );
    }

    #[test]
    fn timestamp_is_in_the_basic_form_of_iso_8601() {
        assert_eq!(timestamp(SystemTime::UNIX_EPOCH), "19700101T000000Z");
    }
}

//! Signature Version 4 once more, as a server checks it: from what came in, and by nothing of the connector's.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use deploy_testkit::stand_in::HttpRequest;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

/// Whose keys a service knows.
#[derive(Clone)]
pub(crate) struct Key {
    pub(crate) id: String,
    pub(crate) secret: String,
    pub(crate) token: Option<String>,
}

/// The name of an error and its message.
pub(crate) type Refusal = (&'static str, String);

/// How far a clock may be off.
const SKEW: Duration = Duration::from_secs(15 * 60);

pub(crate) fn check(request: &HttpRequest, keys: &[Key], region: &str, service: &str) -> Result<(), Refusal> {
    let header = |name: &str| request.header(name).unwrap_or_default();
    let invalid = |message: &str| ("InvalidSignatureException", message.to_owned());
    let parts = header("authorization").strip_prefix("AWS4-HMAC-SHA256 ");
    let parts = parts.ok_or(("MissingAuthenticationTokenException", "Missing Authentication Token".to_owned()))?;
    let parts: BTreeMap<&str, &str> = parts.split(", ").filter_map(|part| part.split_once('=')).collect();
    let part = |name: &str| parts.get(name).copied().ok_or(("IncompleteSignature", format!("no {name}")));
    let (credential, signed, signature) = (part("Credential")?, part("SignedHeaders")?, part("Signature")?);

    let unknown = || ("UnrecognizedClientException", "The security token included in the request is invalid.".to_owned());
    let id = credential.split('/').next().unwrap();
    let key = keys.iter().find(|key| key.id == id).ok_or_else(unknown)?;
    if request.header("x-amz-security-token") != key.token.as_deref() {
        return Err(unknown());
    }
    let (date, day) = (header("x-amz-date"), header("x-amz-date").get(..8).unwrap_or_default());
    let scope = format!("{day}/{region}/{service}/aws4_request");
    if credential != format!("{id}/{scope}") {
        return Err(invalid(&format!("Credential should be scoped to a valid region and service, not {credential}.")));
    }
    let time = format!("{}-{}-{}T{}:{}:{}Z", &date[..4], &date[4..6], &date[6..8], &date[9..11], &date[11..13], &date[13..15]);
    let time = humantime::parse_rfc3339(&time).map_err(|_| invalid("Date must be in ISO-8601 'basic format'"))?;
    let now = SystemTime::now();
    if now.max(time).duration_since(now.min(time)).unwrap() > SKEW {
        return Err(invalid(&format!("Signature expired: {date} is now earlier than it may be")));
    }
    // What is not signed could be changed on the way.
    let names: Vec<&str> = signed.split(';').collect();
    let has_to_be = |name: &str| name == "host" || name.starts_with("x-amz-");
    let unsigned = request
        .headers
        .iter()
        .map(|(name, _)| name.to_lowercase())
        .find(|name| has_to_be(name) && !names.contains(&name.as_str()));
    if let Some(name) = unsigned {
        return Err(invalid(&format!("{name} is not signed")));
    }
    if !names.is_sorted() {
        return Err(invalid("the names of the headers are not sorted"));
    }
    let headers: String = names.iter().map(|name| format!("{name}:{}\n", header(name).trim())).collect();
    let body = hex(&Sha256::digest(&request.body));
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let canonical = format!("{}\n{path}\n{query}\n{headers}\n{signed}\n{body}", request.method);
    let text = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let chain = [day, region, service, "aws4_request", &text];
    let computed = chain.iter().fold(format!("AWS4{}", key.secret).into_bytes(), |key, part| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
        mac.update(part.as_bytes());
        mac.finalize().into_bytes().to_vec()
    });
    if hex(&computed) != signature {
        // AWS shows what it computed, the token included.
        return Err(invalid(&format!(
            "The request signature we calculated does not match. The Canonical String was {canonical}"
        )));
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

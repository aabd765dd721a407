//! The policy of a certificate: an import replaces it, so that what is there is sent again, with what has to change.

use deploy_core::certificate::KeyType;
use deploy_core::{Certificate, Error, ErrorKind};
use serde_json::{Map, Value, json};

use crate::config::{AzureKeyvaultSettings, ContentType};

/// Read-only parts, and those that describe a certificate that the vault would request: ours says for itself what it is.
const NOT_SENT: [&str; 3] = ["id", "attributes", "x509_props"];

/// For an import of this certificate over what is there.
pub(crate) fn for_import(
    before: Option<&Value>,
    certificate: &Certificate,
    settings: &AzureKeyvaultSettings,
) -> Result<Value, Error> {
    let mut policy = before.and_then(Value::as_object).cloned().unwrap_or_default();
    NOT_SENT.iter().for_each(|part| drop(policy.remove(*part)));
    let mut key = part(&mut policy, "key_props");
    let (kind, size, curve) = match certificate.key_type() {
        KeyType::Rsa(bits) => ("RSA", Some(*bits), None),
        KeyType::EcP256 => ("EC", None, Some("P-256")),
        KeyType::EcP384 => ("EC", None, Some("P-384")),
        KeyType::EcP521 => ("EC", None, Some("P-521")),
        other => return Err(not_taken(other)),
    };
    // One that lies in hardware stays there.
    let hardware = key.get("kty").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("-HSM"));
    key.insert("kty".to_owned(), json!(if hardware { format!("{kind}-HSM") } else { kind.to_owned() }));
    for (name, value) in [("key_size", size.map(Value::from)), ("crv", curve.map(Value::from))] {
        match value {
            Some(value) => drop(key.insert(name.to_owned(), value)),
            None => drop(key.remove(name)),
        }
    }
    let exportable = settings.exportable.or_else(|| key.get("exportable").and_then(Value::as_bool)).unwrap_or(true);
    key.insert("exportable".to_owned(), json!(exportable));
    let mut secret = part(&mut policy, "secret_props");
    let there = secret.get("contentType").and_then(Value::as_str).map(str::to_owned);
    let content_type = settings.content_type.map(|kind| kind.media_type().to_owned()).or(there);
    let content_type = content_type.unwrap_or_else(|| ContentType::Pkcs12.media_type().to_owned());
    secret.insert("contentType".to_owned(), json!(content_type));
    policy.insert("key_props".to_owned(), Value::Object(key));
    policy.insert("secret_props".to_owned(), Value::Object(secret));
    policy.entry("issuer").or_insert_with(|| json!({ "name": "Unknown" }));
    Ok(Value::Object(policy))
}

/// Whether the vault would replace the certificate by one that it requests itself.
pub(crate) fn renews_itself(policy: &Value) -> Option<&str> {
    let issuer = policy["issuer"]["name"].as_str().filter(|issuer| *issuer != "Unknown")?;
    let mut actions = policy["lifetime_actions"].as_array()?.iter();
    actions.any(|action| action["action"]["action_type"] == "AutoRenew").then_some(issuer)
}

/// The keys that a vault takes.
pub(crate) fn check_key(certificate: &Certificate) -> Result<(), Error> {
    match certificate.key_type() {
        KeyType::Rsa(_) | KeyType::EcP256 | KeyType::EcP384 | KeyType::EcP521 => Ok(()),
        other => Err(not_taken(other)),
    }
}

fn not_taken(key: &KeyType) -> Error {
    let message = format!("a vault takes keys of RSA and EC on P-256, P-384 and P-521, and none of {key}");
    Error::new(ErrorKind::MaterialRejected, message).with_next_step("have a certificate issued for such a key")
}

fn part(policy: &mut Map<String, Value>, name: &str) -> Map<String, Value> {
    match policy.remove(name) {
        Some(Value::Object(part)) => part,
        _ => Map::new(),
    }
}

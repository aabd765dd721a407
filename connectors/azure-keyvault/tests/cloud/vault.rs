//! A vault, with a server that follows it: it serves the current version of one name as soon as there is one.

use std::collections::BTreeMap;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use deploy_core::certificate::KeyType;
use deploy_core::secret::SecretBytes;
use deploy_testkit::TlsServer;
use deploy_testkit::stand_in::{Answer, HttpRequest};
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::{Digest as _, Sha1};

use super::{NAME, RESOURCE, TENANT, Tokens, parameters, refusal};

const PEM: &str = "application/x-pem-file";
const PKCS12: &str = "application/x-pkcs12";
const API_VERSIONS: [&str; 10] = ["2016-10-01", "7.0", "7.1", "7.2", "7.3", "7.4", "7.5", "7.6", "2025-07-01", "2026-04-01"];

pub(crate) struct Vault {
    pub(crate) url: String,
    tokens: Tokens,
    pub(crate) server: TlsServer,
    pub(crate) names: BTreeMap<String, Named>,
    pub(crate) deleted: BTreeMap<String, Named>,
    /// A name that is being recovered is not there for so many looks.
    pub(crate) recovery_takes: usize,
    recovering: usize,
    /// The server goes on with what it has.
    pub(crate) frozen: bool,
    /// What somebody else imports before the next import.
    pub(crate) overtaken_by: Option<Pair>,
    /// The claims that the next request is refused for.
    pub(crate) wants_claims: Option<String>,
    made: usize,
}

/// A certificate with all its versions, the oldest first.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    pub(crate) versions: Vec<Version>,
    pub(crate) policy: Value,
}

#[derive(Clone, Debug)]
pub(crate) struct Version {
    pub(crate) id: String,
    pub(crate) pair: Pair,
    pub(crate) enabled: bool,
    pub(crate) tags: BTreeMap<String, String>,
}

/// Leaf and chain, and the key.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) fullchain: String,
    pub(crate) key: String,
}

type Response = Result<Answer, Answer>;

impl Vault {
    pub(crate) fn new(tokens: &Tokens) -> Self {
        Self {
            url: String::new(),
            tokens: tokens.clone(),
            server: TlsServer::builder().start(),
            names: BTreeMap::new(),
            deleted: BTreeMap::new(),
            recovery_takes: 0,
            recovering: 0,
            frozen: false,
            overtaken_by: None,
            wants_claims: None,
            made: 0,
        }
    }

    pub(crate) fn answer(request: &HttpRequest, state: &mut Self) -> Answer {
        state.respond(request).unwrap_or_else(|refusal| refusal).with_header("x-ms-request-id", "of-the-stand-in")
    }

    fn respond(&mut self, request: &HttpRequest) -> Response {
        self.authenticate(request)?;
        let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
        let version = parameters(query).get("api-version").cloned().unwrap_or_default();
        if !API_VERSIONS.contains(&version.as_str()) {
            return Err(refusal(400, "BadParameter", "The specified version is not recognized", None));
        }
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        match (request.method.as_str(), &segments[..]) {
            ("GET", ["certificates", name]) => self.show(name, None),
            ("GET", ["certificates", name, "versions"]) => self.list(name),
            ("GET", ["certificates", name, "policy"]) => {
                let named = self.names.get(*name).ok_or_else(|| not_found(name))?;
                Ok(Answer::new(200).with_json(&self.policy(name, &named.policy)))
            }
            ("GET", ["certificates", name, version]) => self.show(name, Some(version)),
            ("POST", ["certificates", name, "import"]) => self.import(name, request, &version),
            ("DELETE", ["certificates", name]) => self.delete(name),
            ("GET", ["deletedcertificates", name]) => {
                let named = self.deleted.get(*name).ok_or_else(|| {
                    refusal(404, "CertificateNotFound", &format!("Deleted Certificate not found: {name}"), None)
                })?;
                Ok(Answer::new(200).with_json(&self.deleted_bundle(name, named)))
            }
            ("POST", ["deletedcertificates", name, "recover"]) => {
                let named = self.deleted.remove(*name).ok_or_else(|| not_found(name))?;
                let bundle = self.bundle(name, &named, named.versions.last().unwrap());
                self.names.insert((*name).to_owned(), named);
                self.recovering = self.recovery_takes;
                self.follow();
                Ok(Answer::new(200).with_json(&bundle))
            }
            _ => Err(refusal(404, "ResourceNotFound", "there is no such operation", None)),
        }
    }

    /// Nobody gets further without a token, and the challenge is for requests that have nothing in them.
    fn authenticate(&mut self, request: &HttpRequest) -> Result<(), Answer> {
        let parameters = format!(r#"authorization="https://login.windows.net/{TENANT}", resource="{RESOURCE}""#);
        let unauthorized = |message: &str, parameters: String| {
            refusal(401, "Unauthorized", message, None).with_header("WWW-Authenticate", format!("Bearer {parameters}"))
        };
        let Some(token) = request.header("authorization").and_then(|value| value.strip_prefix("Bearer ")) else {
            assert!(request.body.is_empty(), "S1: something was sent to a vault before it was known whether it is one");
            return Err(unauthorized("AKV10000: Request is missing a Bearer or PoP token.", parameters));
        };
        if let Some(claims) = self.wants_claims.take() {
            let claims = URL_SAFE_NO_PAD.encode(claims);
            let parameters = format!(
                r#"authorization="https://login.windows.net/", error="insufficient_claims", error_description="Continuous access evaluation", claims="{claims}""#
            );
            return Err(unauthorized("AKV10175: Continuous access evaluation", parameters));
        }
        if self.tokens.takes(token) {
            return Ok(());
        }
        Err(unauthorized(
            "AKV10022: Invalid audience, or the token has expired.",
            format!("{parameters}, error=\"invalid_token\""),
        ))
    }

    fn show(&mut self, name: &str, version: Option<&str>) -> Response {
        if self.recovering > 0 {
            self.recovering -= 1;
            return Err(not_found(name));
        }
        let named = self.names.get(name).ok_or_else(|| not_found(name))?;
        let mut versions = named.versions.iter().rev();
        let version = versions.find(|known| version.is_none_or(|id| id == known.id)).ok_or_else(|| not_found(name))?;
        Ok(Answer::new(200).with_json(&self.bundle(name, named, version)))
    }

    fn list(&self, name: &str) -> Response {
        let named = self.names.get(name).ok_or_else(|| not_found(name))?;
        let item = |version: &Version| {
            let mut bundle = self.bundle(name, named, version);
            ["kid", "sid", "cer", "policy"].iter().for_each(|part| drop(bundle.as_object_mut().unwrap().remove(*part)));
            bundle
        };
        Ok(Answer::new(200).with_json(&json!({ "value": named.versions.iter().map(item).collect::<Vec<_>>(), "nextLink": null })))
    }

    fn delete(&mut self, name: &str) -> Response {
        let named = self.names.remove(name).ok_or_else(|| not_found(name))?;
        let bundle = self.deleted_bundle(name, &named);
        self.deleted.insert(name.to_owned(), named);
        Ok(Answer::new(200).with_json(&bundle))
    }

    fn import(&mut self, name: &str, request: &HttpRequest, api_version: &str) -> Response {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(refusal(400, "BadParameter", "The request URI contains an invalid name", None));
        }
        if let Some(theirs) = self.overtaken_by.take() {
            let (policy, tags) =
                self.names.get(name).map(|named| (named.policy.clone(), named.versions[0].tags.clone())).unwrap();
            self.add(name, theirs, policy, tags, true);
        }
        let import = Import::read(request, api_version)?;
        if self.deleted.contains_key(name) {
            let message = format!(
                "Certificate {name} is currently in a deleted but recoverable state, and its name cannot be reused; in this \
                 state, the certificate can only be recovered or purged."
            );
            return Err(refusal(409, "Conflict", &message, Some("ObjectIsDeletedButRecoverable")));
        }
        let pair = import.pair()?;
        let policy = import.policy(&pair)?;
        self.add(name, pair, policy, import.tags, import.attributes.enabled);
        let named = &self.names[name];
        Ok(Answer::new(200).with_json(&self.bundle(name, named, named.versions.last().unwrap())))
    }

    pub(crate) fn add(&mut self, name: &str, pair: Pair, policy: Value, tags: BTreeMap<String, String>, enabled: bool) {
        self.made += 1;
        let version = Version { id: format!("{:032x}", self.made), pair, enabled, tags };
        let named = self.names.entry(name.to_owned()).or_insert_with(|| Named { versions: Vec::new(), policy: Value::Null });
        named.versions.push(version);
        named.policy = policy;
        self.follow();
    }

    /// The server takes the current version.
    pub(crate) fn follow(&self) {
        if let Some(version) = self.names.get(NAME).and_then(|named| named.versions.last()).filter(|_| !self.frozen) {
            self.server.set_pem(&version.pair.fullchain, &version.pair.key).expect("a pair that was checked");
        }
    }

    fn bundle(&self, name: &str, named: &Named, version: &Version) -> Value {
        let leaf = version.pair.leaf();
        let id = |kind: &str| format!("{}/{kind}/{name}/{}", self.url, version.id);
        json!({
            "id": id("certificates"), "kid": id("keys"), "sid": id("secrets"),
            "x5t": URL_SAFE_NO_PAD.encode(Sha1::digest(&leaf)), "cer": STANDARD.encode(&leaf),
            "attributes": {
                "enabled": version.enabled, "nbf": 1_700_000_000, "exp": 4_102_444_800_u64, "created": 1_700_000_000,
                "updated": 1_700_000_000, "recoveryLevel": "Recoverable+Purgeable", "recoverableDays": 90,
            },
            "policy": self.policy(name, &named.policy),
            "tags": version.tags,
        })
    }

    fn policy(&self, name: &str, policy: &Value) -> Value {
        let mut policy = policy.clone();
        policy["id"] = json!(format!("{}/certificates/{name}/policy", self.url));
        policy["attributes"] = json!({ "enabled": true, "created": 1_700_000_000, "updated": 1_700_000_000 });
        policy
    }

    fn deleted_bundle(&self, name: &str, named: &Named) -> Value {
        let mut bundle = self.bundle(name, named, named.versions.last().unwrap());
        bundle["recoveryId"] = json!(format!("{}/deletedcertificates/{name}", self.url));
        bundle["deletedDate"] = json!(1_700_000_000);
        bundle["scheduledPurgeDate"] = json!(1_707_776_000);
        bundle
    }
}

impl Pair {
    pub(crate) fn leaf(&self) -> Vec<u8> {
        self.certificate().leaf_der().to_vec()
    }

    fn certificate(&self) -> deploy_core::Certificate {
        let key = SecretBytes::from(self.key.as_bytes());
        deploy_core::Certificate::from_pem(self.fullchain.as_bytes(), &key).expect("a pair that was checked")
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Import {
    value: String,
    pwd: Option<String>,
    policy: Option<Value>,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    preserve_cert_order: Option<bool>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Attributes {
    #[serde(default = "yes")]
    enabled: bool,
}

impl Default for Attributes {
    fn default() -> Self {
        Self { enabled: true }
    }
}

fn yes() -> bool {
    true
}

impl Import {
    fn read(request: &HttpRequest, api_version: &str) -> Result<Self, Answer> {
        if request.header("content-type").is_none_or(|kind| !kind.starts_with("application/json")) {
            return Err(refusal(415, "UnsupportedMediaType", "only JSON is taken", None));
        }
        let import: Self = serde_json::from_slice(&request.body).map_err(|error| bad(&format!("column {}", error.column())))?;
        if import.preserve_cert_order.is_some() && !(api_version.starts_with("20") && api_version > "2025") {
            return Err(bad("Property preserveCertOrder has invalid value"));
        }
        if import.tags.len() > 15 || import.tags.iter().any(|(name, value)| name.len() > 512 || value.len() > 256) {
            return Err(bad("Too many tags specified, or one is too long"));
        }
        Ok(import)
    }

    fn content_type(&self) -> &str {
        self.policy.as_ref().and_then(|policy| policy["secret_props"]["contentType"].as_str()).unwrap_or(PKCS12)
    }

    fn pair(&self) -> Result<Pair, Answer> {
        let unreadable = || {
            bad(
                "The specified PKCS#12 X.509 certificate content can not be read. Please check if certificate is in valid PKCS#12 format.",
            )
        };
        let bytes = STANDARD.decode(&self.value).map_err(|_| unreadable())?;
        let text = match self.content_type() {
            PEM => String::from_utf8(bytes)
                .map_err(|_| bad("The specified PEM X.509 certificate content is in an unexpected format."))?,
            PKCS12 => opened(&bytes, self.pwd.as_deref().unwrap_or_default()).ok_or_else(unreadable)?,
            _ => return Err(bad("Property contentType has invalid value")),
        };
        let block = |label: &str| -> Vec<String> {
            let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----"));
            let parts = text.split(&begin).skip(1).filter_map(|part| part.split(&end).next());
            parts.map(|part| format!("{begin}{part}{end}\n")).collect()
        };
        let (keys, certificates) = (block("PRIVATE KEY"), block("CERTIFICATE"));
        let ([key], [_, ..]) = (&keys[..], &certificates[..]) else {
            return Err(bad("The PEM has to hold one private key in PKCS#8, and the certificates"));
        };
        let pair = Pair { fullchain: certificates.concat(), key: key.clone() };
        TlsServer::builder().start().set_pem(&pair.fullchain, &pair.key).map_err(|error| bad(&error))?;
        Ok(pair)
    }

    /// It has to be true of the key; what is not there is filled in.
    fn policy(&self, pair: &Pair) -> Result<Value, Answer> {
        let mut policy = self.policy.clone().unwrap_or_else(|| json!({}));
        let known = ["key_props", "secret_props", "x509_props", "lifetime_actions", "issuer"];
        if let Some(name) = policy.as_object().unwrap().keys().find(|name| !known.contains(&name.as_str())) {
            return Err(bad(&format!("Property {name} is read-only")));
        }
        let certificate = pair.certificate();
        let (kind, size, curve) = match certificate.key_type() {
            KeyType::Rsa(bits) => ("RSA", Some(*bits), None),
            KeyType::EcP256 => ("EC", None, Some("P-256")),
            KeyType::EcP384 => ("EC", None, Some("P-384")),
            KeyType::EcP521 => ("EC", None, Some("P-521")),
            _ => return Err(bad("Public Key Algorithm of the X509 certificate in the certificate chain is not supported.")),
        };
        let mut key = policy["key_props"].clone();
        for (name, value) in
            [("kty", Some(json!(kind))), ("key_size", size.map(|size| json!(size))), ("crv", curve.map(|crv| json!(crv)))]
        {
            match value {
                Some(value) if key[name].is_null() => key[name] = value,
                Some(value) if key[name] != value => {
                    return Err(bad(&format!("Property key_props.{name} is not that of the key")));
                }
                None if !key[name].is_null() => return Err(bad(&format!("Property key_props.{name} has no place here"))),
                _ => {}
            }
        }
        key.as_object_mut().unwrap().retain(|_, value| !value.is_null());
        for (name, value) in [("exportable", json!(true)), ("reuse_key", json!(false))] {
            if key[name].is_null() {
                key[name] = value;
            }
        }
        policy["key_props"] = key;
        policy["secret_props"] = json!({ "contentType": self.content_type() });
        policy["x509_props"] = json!({ "subject": certificate.subject(), "validity_months": 12 });
        if policy["issuer"].is_null() {
            policy["issuer"] = json!({ "name": "Unknown" });
        }
        if policy["lifetime_actions"].is_null() {
            policy["lifetime_actions"] =
                json!([{ "trigger": { "lifetime_percentage": 80 }, "action": { "action_type": "EmailContacts" } }]);
        }
        Ok(policy)
    }
}

/// What OpenSSL reads of a PKCS#12; not with what vaults have refused.
fn opened(bytes: &[u8], password: &str) -> Option<String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let output = Command::new("openssl")
        .args(["pkcs12", "-nodes", "-info", "-passin", "env:PASSWORD", "-in"])
        .arg(file.path())
        .env("PASSWORD", password)
        .output()
        .expect("openssl");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success() && !told.contains("PBES2")).then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn bad(message: &str) -> Answer {
    refusal(400, "BadParameter", message, None)
}

fn not_found(name: &str) -> Answer {
    let message = format!(
        "A certificate with (name/id) {name} was not found in this key vault. If you recently deleted this certificate you may be \
         able to recover it using the correct recovery command."
    );
    refusal(404, "CertificateNotFound", &message, None)
}

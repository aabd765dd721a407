//! The protocol between the engine and a program, version 1: what is written to the program's standard input and what is
//! read from its standard output. `docs/exec-protocol.md` says how a program has to behave.
//!
//! These types are the protocol: their JSON Schemas are [`request_schema`] and [`answer_schema`]. A request may get more
//! fields in time, and a program ignores those that it does not know. An answer of version 1 never gets more.

use std::collections::BTreeMap;
use std::fmt;

use base64::Engine as _;
use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use deploy_core::secret::{SecretBytes, SecretString};
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::de::{Error as _, Visitor};
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// The version that is spoken here.
pub const PROTOCOL: u32 = 1;

/// What a program is asked to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Operation {
    /// Switch to the uploaded certificate. Safe to repeat.
    Activate,
    /// Say who you are and what you can do: the handshake, before anything else.
    Describe,
    /// Say what is live now. Change nothing.
    Observe,
    /// Remove what this program made for this target and nothing uses any more. Never anything else.
    Prune,
    /// Bring back what the snapshot says.
    Restore,
    /// Say what would bring back what is live now. Change nothing.
    Snapshot,
    /// Put the certificate beside the live one. Safe to repeat.
    Upload,
    /// Have the remote check the certificate without taking it. Change nothing.
    Validate,
}

impl Operation {
    /// As in a request: `describe`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Activate => "activate",
            Self::Describe => "describe",
            Self::Observe => "observe",
            Self::Prune => "prune",
            Self::Restore => "restore",
            Self::Snapshot => "snapshot",
            Self::Upload => "upload",
            Self::Validate => "validate",
        }
    }
}

/// One request: one JSON document on standard input, with a line break at its end.
#[derive(Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Request<'a> {
    /// The version of the protocol: 1.
    pub protocol: u32,
    /// What is asked for.
    pub operation: Operation,
    /// The target's name in the configuration.
    pub target: &'a str,
    /// What the operator wrote under `settings`.
    pub settings: &'a Map<String, Value>,
    /// The secrets by their names. Empty in `describe`.
    #[serde(serialize_with = "exposed")]
    #[schemars(with = "BTreeMap<String, String>")]
    pub secrets: &'a BTreeMap<String, SecretString>,
    /// How long the program may take, in seconds. After that it is ended with its whole process group.
    pub deadline_seconds: f64,
    /// In `validate`, `upload` and `activate`: the new certificate.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Material<'a>>,
    /// In `activate`: the revision that `observe` answered last, where it had one. The remote has changed since if it is
    /// another now, and that is a conflict.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub revision: Option<&'a str>,
    /// In `restore`: what `snapshot` answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<Kept<'a>>,
}

/// A certificate with its chain and its key.
#[derive(Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Material<'a> {
    /// SHA-256 of the leaf's DER, lowercase hexadecimal.
    pub fingerprint: &'a str,
    /// The leaf's DNS names in lower case, then its IP addresses.
    pub names: Vec<String>,
    /// From when on the leaf holds: RFC 3339, UTC, whole seconds.
    pub not_before: String,
    /// Until when the leaf holds: RFC 3339, UTC, whole seconds.
    pub not_after: String,
    /// The leaf, in PEM.
    pub leaf: &'a str,
    /// The intermediates in order, in PEM, without the root; empty where there are none.
    pub chain: &'a str,
    /// Leaf and intermediates, in PEM.
    pub fullchain: &'a str,
    /// The private key, in PEM and not encrypted: PKCS#8, PKCS#1 or SEC1, as it was read.
    #[serde(serialize_with = "exposed_text")]
    #[schemars(with = "String")]
    pub key: &'a SecretBytes,
}

/// What a program wants to have back in order to restore what was live.
#[derive(Debug, Serialize, JsonSchema)]
#[non_exhaustive]
pub struct Kept<'a> {
    /// The version of the format, as in the answer to `snapshot`.
    pub version: u32,
    /// The bytes, in Base64 with padding.
    #[serde(serialize_with = "base64")]
    #[schemars(with = "String")]
    pub data: &'a SecretBytes,
}

impl<'a> Kept<'a> {
    pub(crate) fn new(version: u32, data: &'a SecretBytes) -> Self {
        Self { version, data }
    }
}

/// One answer: one JSON document on standard output. It has either `result` or `error`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Answer<R> {
    /// The version of the protocol: 1.
    pub protocol: u32,
    /// What came of it.
    pub result: Option<R>,
    /// Why nothing came of it.
    pub error: Option<Failure>,
}

/// The result of `describe`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Description {
    /// The program's name, for messages.
    pub name: String,
    /// The program's own version, for messages.
    pub version: String,
    /// The versions of the protocol that it speaks.
    pub protocols: Vec<u32>,
    /// What it can do beside what every program has to.
    #[serde(default)]
    pub capabilities: Abilities,
}

/// What a program can do beside what every program has to. It is not asked for what it cannot do.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Abilities {
    /// It knows `prune`. Default: `false`.
    #[serde(default)]
    pub prune: bool,
    /// It knows `validate`. Default: `false`.
    #[serde(default)]
    pub validate: bool,
}

/// The result of `observe`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Observation {
    /// SHA-256 of the live leaf's DER: 64 lowercase hexadecimal digits. `null` if nothing is live.
    #[serde(deserialize_with = "fingerprint")]
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"), required)]
    pub fingerprint: Option<String>,
    /// The remote's own revision (an ETag, a resource version), where it has one. `activate` gets it back.
    #[serde(default)]
    pub revision: Option<String>,
    /// Everything else is as wanted, too. `false` has the certificate deployed again. Default: `true`.
    #[serde(default = "yes")]
    pub settled: bool,
}

/// The result of `validate`. A certificate that the remote refuses is an error (`validate_failed`), not a result.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Check {
    /// What the remote looked at and accepted.
    pub checked: Checked,
    /// With `nothing`: why.
    #[serde(default)]
    pub reason: Option<String>,
}

/// How much a dry run looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Checked {
    /// Its whole configuration, with the new certificate in its place.
    Configuration,
    /// There was no dry run this time; `reason` says why.
    Nothing,
    /// Certificate and key by themselves.
    Pair,
}

/// The result of `snapshot`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Snapshot {
    /// The version of the format, for the program's own use.
    pub version: u32,
    /// The bytes, in Base64 with padding. They are kept with mode 0600, and may hold a key.
    #[serde(deserialize_with = "secret_from_base64")]
    #[schemars(with = "String")]
    pub data: SecretBytes,
}

/// The result of `upload`, `activate`, `restore` and `prune`: `{}`.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Done {}

/// Why nothing came of a request.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Failure {
    /// What went wrong, by what can be done about it.
    pub kind: FailureKind,
    /// One sentence for the operator. Without secrets.
    pub message: String,
    /// Whether the same request can succeed later. It counts for `rate_limited`, `timeout` and `unavailable` only.
    /// Default: `"never"`.
    #[serde(default)]
    pub retry: Again,
    /// What the operator should do next. Default: what the kind suggests.
    #[serde(default)]
    pub next_step: Option<String>,
}

/// What went wrong, by what can be done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FailureKind {
    /// The settings are wrong.
    ConfigurationInvalid,
    /// Somebody else changed it in between: the engine looks again and decides again.
    Conflict,
    /// The remote refuses this certificate, its chain or its key.
    MaterialRejected,
    /// The remote knows who we are, and refuses.
    PermissionDenied,
    /// What the settings name is not there, or cannot be deployed to.
    PlanInvalid,
    /// The remote asks to slow down.
    RateLimited,
    /// The remote did not answer in time.
    Timeout,
    /// The remote does not know who we are.
    Unauthenticated,
    /// The remote cannot be reached, or does not work.
    Unavailable,
    /// The remote's dry run refuses.
    ValidateFailed,
}

/// Whether the same request can succeed later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Again {
    /// Not before this many seconds have passed (`Retry-After`).
    AfterSeconds(u32),
    /// Yes.
    Later,
    /// No: something has to change first.
    #[default]
    Never,
}

/// The JSON Schema of a request.
#[must_use]
pub fn request_schema() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<Request<'_>>()
}

/// The JSON Schema of an answer, whatever was asked.
#[must_use]
pub fn answer_schema() -> Schema {
    SchemaSettings::draft2020_12().into_generator().into_root_schema_for::<Answer<AnyResult>>()
}

/// Any result: what an answer holds depends on what was asked.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is its schema that is wanted")]
enum AnyResult {
    /// Of `describe`.
    Describe(Description),
    /// Of `observe`.
    Observe(Observation),
    /// Of `validate`.
    Validate(Check),
    /// Of `snapshot`.
    Snapshot(Snapshot),
    /// Of `upload`, `activate`, `restore` and `prune`.
    Done(Done),
}

fn yes() -> bool {
    true
}

fn exposed<S: Serializer>(secrets: &BTreeMap<String, SecretString>, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(secrets.len()))?;
    for (name, secret) in secrets {
        map.serialize_entry(name, secret.expose())?;
    }
    map.end()
}

fn exposed_text<S: Serializer>(secret: &SecretBytes, serializer: S) -> Result<S::Ok, S::Error> {
    let text = std::str::from_utf8(secret.expose()).map_err(|_| S::Error::custom("a key in PEM that is no text"))?;
    serializer.serialize_str(text)
}

/// Written piece by piece: the encoded form is nowhere in memory but where the request is.
fn base64<S: Serializer>(secret: &SecretBytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&Base64Display::new(secret.expose(), &STANDARD))
}

fn fingerprint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let hexadecimal = |text: &String| text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    match Option::<String>::deserialize(deserializer)? {
        Some(text) if !hexadecimal(&text) => {
            Err(D::Error::custom("a fingerprint is the SHA-256 of the leaf's DER, as 64 lowercase hexadecimal digits, or null"))
        }
        fingerprint => Ok(fingerprint),
    }
}

fn secret_from_base64<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretBytes, D::Error> {
    deserializer.deserialize_str(Base64Visitor)
}

/// Decodes in place, and never shows what it was given.
struct Base64Visitor;

impl Visitor<'_> for Base64Visitor {
    type Value = SecretBytes;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Base64 text")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<SecretBytes, E> {
        let mut bytes = zeroize::Zeroizing::new(Vec::with_capacity(base64::decoded_len_estimate(text.len())));
        STANDARD.decode_vec(text, &mut bytes).map_err(|_| E::custom("this is not Base64 with padding"))?;
        Ok(SecretBytes::from(std::mem::take(&mut *bytes)))
    }
}

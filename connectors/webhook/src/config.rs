//! The settings of a target of the kind `webhook`. The doc comments are the reference page.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::certificate::Block;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{Period, check_endpoints, check_path, default_verify_timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::template::{Json, Line, Placeholder};

/// Which requests an endpoint gets, and where success can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WebhookSettings {
    /// The address that all requests go to, with `https://`; a request may add a `path`.
    ///
    /// Plain `http://` is taken to this machine only. Required. Example: `url = "https://deploy.example.com/api"`.
    pub url: String,

    /// A file of PEM certificates: the authorities that the endpoint's certificate may come from. Others do not count then.
    ///
    /// An absolute path. Default: absent, the authorities that this machine trusts.
    /// Example: `ca_file = "/etc/certdeploy/deploy-ca.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,

    /// How the requests say who sends them: `{ bearer = SECRET }`, or `{ user = "NAME", password = SECRET }`.
    ///
    /// Default: absent. Example: `authorization = { bearer = "file:/etc/certdeploy/deploy-token" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,

    /// More headers of all requests: a text, or a secret that is shown nowhere.
    ///
    /// Default: none. Example: `headers = { x-tenant = "edge", x-api-key = { secret = "file:/etc/certdeploy/api-key" } }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, HeaderSetting>,

    /// How the requests are signed with HMAC-SHA-256, over the time and the body.
    ///
    /// Default: absent, not at all. Example: `signature = { secret = "file:/etc/certdeploy/deploy-hmac" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<SignatureSettings>,

    /// The header that tells a second try of `send` or `restore` from another request.
    ///
    /// Its value is the certificate's fingerprint, and a number that each deployment has of its own. `""` sends none. Default:
    /// `"Idempotency-Key"`. Example: `idempotency_header = "x-request-id"`.
    #[serde(default = "default_idempotency_header")]
    pub idempotency_header: String,

    /// The request that hands the certificate over and makes it live.
    ///
    /// Default: `{ method = "POST" }`, to `url`, with a standard body.
    /// Example: `send = { method = "PUT", path = "certificates/{target}", pem = ["leaf", "chain", "key"] }`.
    #[serde(default)]
    pub send: RequestSettings,

    /// The request that has a certificate looked at, and changes nothing: before `send`, and by `certdeploy plan`.
    ///
    /// 400 and 422 say that the certificate is refused. Default: absent; then nobody looks before the switch.
    /// Example: `dry_run = { path = "check" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dry_run: Option<RequestSettings>,

    /// The request that makes the previous certificate live again after a failure. Its placeholders are those of that one.
    ///
    /// Default: as `send`. Example: `restore = { path = "certificates/{target}/activate", json = { sha256 = "{fingerprint}" } }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restore: Option<RequestSettings>,

    /// The GET request whose answer says which certificate is live.
    ///
    /// Default: absent. Then nobody knows what the endpoint has: each certificate is sent once, and a deployment is reported
    /// as `unverified` (exit code 6) where there is no `verify`, either.
    /// Example: `observe = { path = "certificates/{target}", fingerprint = "/sha256" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observe: Option<ObserveSettings>,

    /// Where the certificate can be seen being served: a list of endpoints, all of which must.
    ///
    /// Without it, what `observe` says counts. `[]` says that nobody can look, and the deployment counts as a success. Default:
    /// absent. Example: `verify = [{ connect = "www.example.com:443" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`; and, where `send` is answered with 202, in
    /// the answer to `observe`.
    ///
    /// Default: `"15s"`. Example: `verify_timeout = "2m"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

/// Who sends the requests.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected { bearer = SECRET }, or { user = \"NAME\", password = SECRET }")]
#[non_exhaustive]
pub enum Authorization {
    /// A token (RFC 6750).
    Bearer(BearerToken),
    /// A user and a password (RFC 7617).
    Basic(UserPassword),
}

/// A token (RFC 6750).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct BearerToken {
    /// Where the token is found.
    pub bearer: SecretRef,
}

/// A user and a password (RFC 7617).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct UserPassword {
    /// The name; it has no colon.
    pub user: String,
    /// Where the password is found.
    pub password: SecretRef,
}

/// The value of a header.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(untagged, expecting = "expected a text, or { secret = SECRET }")]
#[non_exhaustive]
pub enum HeaderSetting {
    /// A text that anybody may read.
    Text(String),
    /// A secret.
    Secret(SecretHeader),
}

/// A header that is a secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SecretHeader {
    /// Where its value is found.
    pub secret: SecretRef,
}

/// HMAC-SHA-256 over `TIMESTAMP.BODY`, in lowercase hexadecimal; `TIMESTAMP` is seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct SignatureSettings {
    /// Where the key that both sides know is found.
    pub secret: SecretRef,

    /// The header of the signature. Default: `"X-Signature"`.
    #[serde(default = "default_signature_header")]
    pub header: String,

    /// What stands before the signature in its header. Default: `""`. Example: `prefix = "sha256="`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub prefix: String,

    /// The header of the time. Default: `"X-Timestamp"`.
    #[serde(default = "default_timestamp_header")]
    pub timestamp_header: String,
}

/// One request. 2xx is success.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct RequestSettings {
    /// `POST`, `PUT` or `PATCH`. Default: `"POST"`.
    #[serde(default)]
    pub method: Method,

    /// What comes after the `url`, without a slash at its start. Default: nothing. Example: `path = "certificates/{target}"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Line>,

    /// The parameters of the query. They are no place for a secret. Default: none. Example: `query = { wait = "true" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, Line>,

    /// The body as JSON. Default: a table with `target`, `fingerprint`, `not_after`, `fullchain` and `key`.
    /// Example: `json = { certificate = "{fullchain}", private_key = "{key}", names = "{names}" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub json: Option<Json>,

    /// The body as PEM, instead of JSON: these parts in this order. Default: absent. Example: `pem = ["leaf", "chain", "key"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<Vec<Block>>,
}

/// The method of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "UPPERCASE")]
#[non_exhaustive]
pub enum Method {
    /// PATCH.
    Patch,
    /// POST.
    #[default]
    Post,
    /// PUT.
    Put,
}

/// How it is found out which certificate is live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ObserveSettings {
    /// What comes after the `url`. Of the placeholders only `{target}` is known. Default: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<Line>,

    /// The parameters of the query, as in `path`. Default: none.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub query: BTreeMap<String, Line>,

    /// The JSON pointer (RFC 6901) to the fingerprint: SHA-256 in hexadecimal, in any case, with or without colons.
    ///
    /// `null` or an empty text there says that nothing is live. Default: absent. Example: `fingerprint = "/certificate/sha256"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,

    /// The JSON pointer to a PEM text whose first certificate is the leaf, instead of `fingerprint`.
    ///
    /// Default: absent; without both, the whole body is such a text. Example: `pem = "/certificate/pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pem: Option<String>,

    /// Whether 404 says that nothing is live yet. Otherwise it is an error: the path may be wrong. Default: `false`.
    #[serde(default)]
    pub missing: bool,

    /// Whether `send` and `restore` get the `ETag` of the answer as `If-Match`, so that they change only what was seen.
    ///
    /// Default: `false`.
    #[serde(default)]
    pub if_match: bool,
}

impl WebhookSettings {
    /// Everything at its default but what is required.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ca_file: None,
            authorization: None,
            headers: BTreeMap::new(),
            signature: None,
            idempotency_header: default_idempotency_header(),
            send: RequestSettings::default(),
            dry_run: None,
            restore: None,
            observe: None,
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without a call.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        deploy_http::check_url(&self.url).map_err(|error| SettingError::new("url", error.full_message()))?;
        self.ca_file.as_ref().map_or(Ok(()), |path| check_path("ca_file", path))?;
        if let Some(Authorization::Basic(UserPassword { user, .. })) = &self.authorization
            && (user.is_empty() || user.contains(|character: char| character == ':' || character.is_control()))
        {
            return Err(SettingError::new("authorization.user", format!("`{user}` cannot be a user's name")));
        }
        self.check_headers()?;
        let requests = [("send", Some(&self.send)), ("dry_run", self.dry_run.as_ref()), ("restore", self.restore.as_ref())];
        for (name, request) in requests {
            request.map_or(Ok(()), |request| request.check(name))?;
        }
        self.observe.as_ref().map_or(Ok(()), ObserveSettings::check)?;
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_headers(&self) -> Result<(), SettingError> {
        for (name, value) in &self.headers {
            let setting = format!("headers.{name}");
            check_header_name(&setting, name)?;
            if let HeaderSetting::Text(text) = value
                && text.contains(|character: char| character.is_control() || !character.is_ascii())
            {
                return Err(SettingError::new(setting, "has a character that cannot stand in a header"));
            }
        }
        if let Some(signature) = &self.signature {
            check_header_name("signature.header", &signature.header)?;
            check_header_name("signature.timestamp_header", &signature.timestamp_header)?;
        }
        if self.idempotency_header.is_empty() {
            return Ok(());
        }
        check_header_name("idempotency_header", &self.idempotency_header)
    }
}

impl RequestSettings {
    fn check(&self, setting: &str) -> Result<(), SettingError> {
        if self.json.is_some() && self.pem.is_some() {
            return Err(SettingError::new(format!("{setting}.pem"), "a request has one body: `json` or `pem`"));
        }
        if self.pem.as_ref().is_some_and(Vec::is_empty) {
            return Err(SettingError::new(format!("{setting}.pem"), "is empty; name at least one part"));
        }
        check_request_path(setting, self.path.as_ref())
    }
}

impl ObserveSettings {
    fn check(&self) -> Result<(), SettingError> {
        let unknown = |line: &&Line| line.placeholders().any(|placeholder| placeholder != Placeholder::Target);
        if self.path.iter().chain(self.query.values()).any(|line| unknown(&line)) {
            return Err(SettingError::new("observe", "asks before a certificate is known: only {target} can be filled in"));
        }
        if self.fingerprint.is_some() && self.pem.is_some() {
            return Err(SettingError::new("observe.pem", "the fingerprint is read from one place: `fingerprint` or `pem`"));
        }
        for (name, pointer) in [("fingerprint", &self.fingerprint), ("pem", &self.pem)] {
            if pointer.as_ref().is_some_and(|pointer| !pointer.is_empty() && !pointer.starts_with('/')) {
                return Err(SettingError::new(
                    format!("observe.{name}"),
                    "a JSON pointer begins with a slash, as in \"/sha256\"",
                ));
            }
        }
        check_request_path("observe", self.path.as_ref())
    }
}

/// Segments between slashes; the last one may be empty.
fn check_request_path(setting: &str, path: Option<&Line>) -> Result<(), SettingError> {
    let Some(path) = path.map(Line::to_string) else { return Ok(()) };
    let segments: Vec<&str> = path.split('/').collect();
    let is_dots = |segment: &&str| matches!(*segment, "." | "..");
    let before_last = &segments[..segments.len() - 1];
    if path.is_empty() || segments.iter().any(is_dots) || before_last.contains(&"") || path.contains(['?', '#']) {
        let message = format!("`{path}` cannot come after the URL: write it as in \"certificates/www\", and a query in `query`");
        return Err(SettingError::new(format!("{setting}.path"), message));
    }
    Ok(())
}

/// A token of RFC 9110, section 5.6.2.
fn check_header_name(setting: &str, name: &str) -> Result<(), SettingError> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        return Err(SettingError::new(setting, format!("`{name}` cannot be the name of a header")));
    }
    Ok(())
}

fn default_idempotency_header() -> String {
    "Idempotency-Key".to_owned()
}

fn default_signature_header() -> String {
    "X-Signature".to_owned()
}

fn default_timestamp_header() -> String {
    "X-Timestamp".to_owned()
}

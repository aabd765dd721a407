//! The requests to a vault (learn.microsoft.com/rest/api/keyvault/certificates), and no policy.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::digest::{hex, sha256};
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, Error, ErrorKind};
use deploy_http::{Client, ClientBuilder, Request, Response};
use deploy_keystore::{Encryption, KeyEntry, Keystore, StoreType};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::challenge::Challenge;
use crate::config::{AzureKeyvaultSettings, ContentType};
use crate::credentials;
use crate::problem;

/// A token is not used in its last minutes: a request takes its time, and clocks differ.
const SPARE: Duration = Duration::from_secs(300);
/// The first version of the API that keeps the order of a chain.
const KEEPS_ORDER: &str = "2025";

/// One certificate of one vault.
#[derive(Debug)]
pub(crate) struct Api {
    settings: AzureKeyvaultSettings,
    session: Mutex<Option<Session>>,
}

/// Somebody whom the vault knows.
#[derive(Clone)]
struct Session {
    client: Client,
    challenge: Challenge,
    ends: SystemTime,
}

/// The current version of a certificate.
#[derive(Clone, Debug)]
pub(crate) struct Version {
    /// The last part of its address.
    pub(crate) id: String,
    /// SHA-256 of the leaf.
    pub(crate) fingerprint: String,
    /// A version that is not enabled can be fetched by nobody.
    pub(crate) enabled: bool,
    pub(crate) tags: BTreeMap<String, String>,
    pub(crate) policy: Option<Value>,
}

#[derive(Deserialize)]
struct Bundle {
    id: String,
    cer: String,
    #[serde(default)]
    attributes: Attributes,
    #[serde(default)]
    tags: Option<BTreeMap<String, String>>,
    policy: Option<Value>,
}

#[derive(Default, Deserialize, Serialize)]
struct Attributes {
    #[serde(default)]
    enabled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Import<'a> {
    value: &'a str,
    #[serde(rename = "pwd", skip_serializing_if = "Option::is_none")]
    password: Option<&'a str>,
    policy: &'a Value,
    attributes: Attributes,
    tags: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preserve_cert_order: Option<bool>,
}

impl Api {
    /// Connects to nothing yet.
    pub(crate) fn new(settings: &AzureKeyvaultSettings) -> Self {
        Self { settings: settings.clone(), session: Mutex::default() }
    }

    /// The current version; `None` if there is no certificate of this name, or it was deleted.
    pub(crate) async fn find(&self, context: &Context) -> Result<Option<Version>, Error> {
        let answer = self.send(context, |name| Request::get(&["certificates", name])).await?;
        match answer.status() {
            200 => Version::read(&answer).map(Some),
            404 if problem::code(&answer).as_deref() == Some("CertificateNotFound") => Ok(None),
            _ => Err(problem::error(&answer, &self.settings)),
        }
    }

    /// Whether a certificate of this name was deleted and takes the name up until it is purged.
    pub(crate) async fn is_deleted(&self, context: &Context) -> Result<bool, Error> {
        let answer = self.send(context, |name| Request::get(&["deletedcertificates", name])).await?;
        match answer.status() {
            200 => Ok(true),
            // Whoever may not look learns it from the import.
            403 | 404 => Ok(false),
            _ => Err(problem::error(&answer, &self.settings)),
        }
    }

    /// Brings a deleted certificate back. It takes the vault a while.
    pub(crate) async fn recover(&self, context: &Context) -> Result<(), Error> {
        let answer = self.send(context, |name| Request::post(&["deletedcertificates", name, "recover"])).await?;
        if answer.status() == 200 { Ok(()) } else { Err(problem::error(&answer, &self.settings)) }
    }

    /// Makes a new version, which is the current one at once.
    pub(crate) async fn import(
        &self,
        certificate: &Certificate,
        policy: &Value,
        tags: &BTreeMap<String, String>,
        context: &Context,
    ) -> Result<Version, Error> {
        let pem = policy["secret_props"]["contentType"] == ContentType::Pem.media_type();
        let (value, password) = if pem { (in_pem(certificate), None) } else { in_pkcs12(certificate, context)? };
        let version = self.settings.api_version.as_str();
        // `7.4` and the like came between `2016-10-01` and this.
        let preserve_cert_order = (version.starts_with("20") && version >= KEEPS_ORDER).then_some(true);
        let body = Import {
            value: value.expose(),
            password: password.as_ref().map(SecretString::expose),
            policy,
            attributes: Attributes { enabled: true },
            tags,
            preserve_cert_order,
        };
        let body = SecretBytes::from_json(&body)
            .map_err(|error| Error::new(ErrorKind::Internal, "the import cannot be written as JSON").with_source(error))?;
        let request = |name: &str| Request::post(&["certificates", name, "import"]).with_body("application/json", body.clone());
        let answer = self.send(context, request).await?;
        if answer.status() == 200 { Version::read(&answer) } else { Err(problem::error(&answer, &self.settings)) }
    }

    /// With a token. Where the vault does not take it (any more), once more with a new one.
    async fn send(&self, context: &Context, request: impl Fn(&str) -> Request) -> Result<Response, Error> {
        let (name, version) = (self.settings.certificate_name.clone(), self.settings.api_version.clone());
        let request = || request(&name).with_query("api-version", &version);
        let kept = self.session().clone().filter(|session| context.host().now() + SPARE < session.ends);
        let session = match kept {
            Some(session) => session,
            None => self.log_in(None, None, context).await?,
        };
        let answer = session.client.send(request()).await?;
        match answer.header("www-authenticate") {
            Some(header) if answer.status() == 401 => {
                let session = self.log_in(Some(header), Some(&session.challenge), context).await?;
                session.client.send(request()).await
            }
            _ => Ok(answer),
        }
    }

    fn session(&self) -> MutexGuard<'_, Option<Session>> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By what the vault asks for. The request that asks it has no body, and nothing secret in it.
    async fn log_in(&self, header: Option<&str>, before: Option<&Challenge>, context: &Context) -> Result<Session, Error> {
        let challenge = match header {
            Some(header) => Challenge::read(header, &self.settings, before)?,
            None => {
                let request = Request::get(&["certificates", &self.settings.certificate_name]);
                let answer =
                    self.vault().build(context)?.send(request.with_query("api-version", &self.settings.api_version)).await?;
                match answer.header("www-authenticate") {
                    Some(header) if answer.status() == 401 => Challenge::read(header, &self.settings, None)?,
                    _ => return Err(problem::error(&answer, &self.settings)),
                }
            }
        };
        let token = credentials::fetch(&self.settings, &challenge, context).await?;
        let client = self.vault().with_bearer_token(&token.secret).build(context)?;
        let session = Session { client, challenge, ends: token.ends };
        *self.session() = Some(session.clone());
        Ok(session)
    }

    fn vault(&self) -> ClientBuilder {
        Client::builder(&self.settings.vault).with_ca_file(self.settings.ca_file.clone())
    }
}

impl Version {
    fn read(answer: &Response) -> Result<Self, Error> {
        let Bundle { id, cer, attributes, tags, policy } = answer.json()?;
        let leaf = STANDARD
            .decode(cer)
            .map_err(|error| Error::new(ErrorKind::Unavailable, "the vault's certificate is no Base64").with_source(error))?;
        Ok(Self {
            id: id.rsplit('/').next().unwrap_or_default().to_owned(),
            fingerprint: hex(&sha256(&leaf)),
            enabled: attributes.enabled,
            tags: tags.unwrap_or_default(),
            policy,
        })
    }
}

/// The key first, as in Microsoft's example, and as PKCS#8, which is all that a vault takes.
fn in_pem(certificate: &Certificate) -> SecretString {
    let (key, fullchain) = (certificate.key_pkcs8_pem(), certificate.fullchain_pem());
    let mut text = Zeroizing::new(Vec::with_capacity(key.len() + fullchain.len()));
    text.extend_from_slice(key.expose());
    text.extend_from_slice(&fullchain);
    SecretString::from(STANDARD.encode(&*text))
}

/// Under a password of its own. Vaults have refused AES-256 (MicrosoftDocs/azure-docs, issue 39861), and a store without a password;
/// what protects it on the way is TLS.
fn in_pkcs12(certificate: &Certificate, context: &Context) -> Result<(SecretString, Option<SecretString>), Error> {
    let random = context.provider().secure_random;
    let mut bytes = Zeroizing::new([0; 24]);
    random.fill(&mut *bytes).map_err(|_| Error::new(ErrorKind::Internal, "there is no randomness"))?;
    let password = SecretString::from(STANDARD.encode(*bytes));
    let failed = |error| Error::new(ErrorKind::Internal, "the PKCS#12 cannot be made").with_source(error);
    let mut store = Keystore::empty(StoreType::Pkcs12, Encryption::Legacy);
    let entry = KeyEntry::new("certificate", certificate, &password);
    store.put(&entry, None, context.host().now(), random).map_err(failed)?;
    let store = store.to_bytes(&password, random).map_err(failed)?;
    Ok((SecretString::from(STANDARD.encode(store.expose())), Some(password)))
}

/// Without the token.
impl fmt::Debug for Session {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Session").field("challenge", &self.challenge).field("ends", &self.ends).finish_non_exhaustive()
    }
}

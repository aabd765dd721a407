//! Secrets of the cluster: read, compared, and written down, with values that are cleared when they are dropped.

use std::collections::BTreeMap;
use std::fmt;

use base64::display::Base64Display;
use base64::engine::general_purpose::STANDARD;
use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Error, ErrorKind};
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, Serializer};
use zeroize::Zeroize as _;

use crate::config::K8sSettings;

/// What cert-manager writes at the Secrets that it fills (cert-manager.io, "Annotations").
const CERT_MANAGER: &str = "cert-manager.io/certificate-name";

/// A Secret as it is, or was.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub(crate) struct Held(Secret);

impl Held {
    pub(crate) fn uid(&self) -> Option<&str> {
        self.0.metadata.uid.as_deref()
    }

    pub(crate) fn revision(&self) -> Option<&str> {
        self.0.metadata.resource_version.as_deref()
    }

    /// Where none is given, it is this one.
    pub(crate) fn type_name(&self) -> &str {
        self.0.type_.as_deref().unwrap_or("Opaque")
    }

    pub(crate) fn is_immutable(&self) -> bool {
        self.0.immutable == Some(true)
    }

    /// The certificate, where there is one with its key.
    pub(crate) fn certificate(&self, settings: &K8sSettings) -> Option<Certificate> {
        let key = SecretBytes::from(self.entry(&settings.key)?);
        Certificate::from_pem(self.entry(&settings.fullchain)?, &key).ok()
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&[u8]> {
        Some(self.0.data.as_ref()?.get(name)?.0.as_slice())
    }

    /// Type and entries are what the settings want, whatever the certificate is.
    pub(crate) fn is_as_wanted(&self, settings: &K8sSettings) -> bool {
        let Some(certificate) = self.certificate(settings) else { return false };
        let chain = certificate.chain_pem();
        let ca = settings.ca.as_ref().map(|name| self.entry(name).unwrap_or_default());
        self.type_name() == settings.secret_type.name() && ca.is_none_or(|ca| ca == chain)
    }

    /// A controller that would write it again: cert-manager, or an owner.
    pub(crate) fn controller(&self) -> Option<String> {
        let annotations = self.0.metadata.annotations.as_ref();
        if let Some(name) = annotations.and_then(|annotations| annotations.get(CERT_MANAGER)) {
            return Some(format!("cert-manager, for its Certificate {name}"));
        }
        let owners = self.0.metadata.owner_references.iter().flatten();
        let mut controllers = owners.filter(|owner| owner.controller == Some(true));
        controllers.next().map(|owner| format!("the {} {}", owner.kind, owner.name))
    }

    /// Whether none but this manager owns these entries, by whatever kind of request it has written them.
    pub(crate) fn is_owned_by(&self, manager: &str, entries: &[&str]) -> bool {
        let others = self.0.metadata.managed_fields.iter().flatten().filter(|entry| entry.manager.as_deref() != Some(manager));
        !others.filter_map(|entry| entry.fields_v1.as_ref()).any(|fields| {
            let owns = |path: &str| !fields.0["f:data"][format!("f:{path}")].is_null();
            entries.iter().any(|entry| owns(entry))
        })
    }

    /// The same entries, of these names.
    pub(crate) fn has_same(&self, other: &Self, entries: &[&str]) -> bool {
        entries.iter().all(|entry| self.entry(entry) == other.entry(entry))
    }

    /// To be made again: what others have put into it as well, and no trace of where it came from.
    pub(crate) fn body(&self) -> Body<'_> {
        let metadata = &self.0.metadata;
        Body {
            metadata: ObjectMeta {
                name: metadata.name.clone(),
                namespace: metadata.namespace.clone(),
                labels: metadata.labels.clone(),
                annotations: metadata.annotations.clone(),
                owner_references: metadata.owner_references.clone(),
                ..ObjectMeta::default()
            },
            type_name: self.type_name(),
            immutable: self.0.immutable,
            data: self.0.data.iter().flatten().map(|(name, value)| (name.as_str(), Encoded(&value.0))).collect(),
            ..Body::default()
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.data.iter_mut().flatten().for_each(|(_, value)| value.0.zeroize());
    }
}

/// Without the values.
impl fmt::Debug for Held {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, name) = (&self.0.metadata.namespace, &self.0.metadata.name);
        formatter.debug_struct("Held").field("namespace", namespace).field("name", name).finish_non_exhaustive()
    }
}

/// A Secret to be sent. Values are borrowed, and written straight into the body of the request.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Body<'a> {
    api_version: &'static str,
    kind: &'static str,
    pub(crate) metadata: ObjectMeta,
    #[serde(rename = "type")]
    pub(crate) type_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) immutable: Option<bool>,
    pub(crate) data: BTreeMap<&'a str, Encoded<'a>>,
}

impl<'a> Body<'a> {
    /// Nothing but these entries, for server-side apply: what is left out stays with whoever owns it.
    pub(crate) fn of_entries(namespace: &str, name: &str, type_name: &'a str, data: BTreeMap<&'a str, Encoded<'a>>) -> Self {
        let metadata = ObjectMeta { name: Some(name.to_owned()), namespace: Some(namespace.to_owned()), ..ObjectMeta::default() };
        Self { metadata, type_name, data, ..Self::default() }
    }

    /// Only if the Secret is still this one, in this revision.
    pub(crate) fn on(mut self, found: Option<&Held>) -> Self {
        self.metadata.uid = found.and_then(Held::uid).map(str::to_owned);
        self.metadata.resource_version = found.and_then(Held::revision).map(str::to_owned);
        self
    }
}

impl Default for Body<'_> {
    fn default() -> Self {
        let (metadata, data) = (ObjectMeta::default(), BTreeMap::new());
        Self { api_version: "v1", kind: "Secret", metadata, type_name: "Opaque", immutable: None, data }
    }
}

/// A value of a Secret, as Base64 without a copy of it.
#[derive(Clone, Copy)]
pub(crate) struct Encoded<'a>(pub(crate) &'a [u8]);

impl Serialize for Encoded<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Base64Display::new(self.0, &STANDARD))
    }
}

/// A certificate in the form of the entries.
pub(crate) struct Pem {
    fullchain: Vec<u8>,
    chain: Vec<u8>,
    key: SecretBytes,
}

impl Pem {
    pub(crate) fn of(certificate: &Certificate) -> Self {
        Self { fullchain: certificate.fullchain_pem(), chain: certificate.chain_pem(), key: certificate.key_pem() }
    }

    /// By the entries of the settings.
    pub(crate) fn entries<'a>(&'a self, settings: &'a K8sSettings) -> BTreeMap<&'a str, Encoded<'a>> {
        let mut entries = BTreeMap::from([
            (settings.fullchain.as_str(), Encoded(&self.fullchain)),
            (settings.key.as_str(), Encoded(self.key.expose())),
        ]);
        if let Some(ca) = settings.ca.as_deref().filter(|_| !self.chain.is_empty()) {
            entries.insert(ca, Encoded(&self.chain));
        }
        entries
    }
}

/// How a Secret gets other entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// By server-side apply.
    Apply,
    /// It is deleted, and made again with everything that was in it.
    Recreate,
}

impl Change {
    /// What it takes with the Secret that is there.
    pub(crate) fn of(found: Option<&Held>, settings: &K8sSettings, namespace: &str) -> Result<Self, Error> {
        let Some(found) = found else { return Ok(Self::Apply) };
        let refused = |message: String, step: &str| {
            Err(Error::new(ErrorKind::PlanInvalid, format!("the Secret {} in {namespace} {message}", settings.secret))
                .with_next_step(step))
        };
        if let Some(controller) = found.controller() {
            let message = format!("is managed by {controller}, which would write it again");
            return refused(message, "have it managed by one of the two: name another Secret, or remove the other one's");
        }
        let (wanted, is) = (settings.secret_type.name(), found.type_name());
        let why = if wanted != is {
            format!("has the type {is} and not {wanted}, and no cluster changes that")
        } else if found.is_immutable() {
            "is immutable".to_owned()
        } else {
            return Ok(Self::Apply);
        };
        if !settings.recreate {
            let step = "set `recreate = true` to have it deleted and made again, or `type` to what it has; then run again";
            return refused(why, step);
        }
        // After a crash in between, the way back is found by the certificate that was there.
        if found.certificate(settings).is_none() {
            let message = format!("{why}, and has no certificate with its key, by which it could be brought back");
            return refused(message, "delete it by hand; then run again");
        }
        Ok(Self::Recreate)
    }
}

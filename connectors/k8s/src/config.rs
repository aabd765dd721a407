//! The settings of a target of the kind `k8s`. The doc comments are the reference page.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{Period, check_endpoints, check_path, default_verify_timeout};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Which Secrets get the certificate, how the cluster is reached, and where success can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct K8sSettings {
    /// The name of the Secret, the same in every namespace. It is made where it is missing.
    ///
    /// Required. Example: `secret = "www-tls"`.
    pub secret: String,

    /// The namespaces that the Secret is in: all of them get the certificate, or none.
    ///
    /// Default: the namespace of the kubeconfig's context, or of the pod; else `default`.
    /// Example: `namespaces = ["web", "shop"]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Vec<String>>,

    /// Instead of `namespaces`: those that have these labels, looked up at every run, as in `kubectl get --selector`.
    ///
    /// Namespaces that are being deleted are left out. Default: absent. Example: `namespace_selector = "tls=www,stage!=test"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<String>,

    /// The type of the Secret: `kubernetes.io/tls` or `Opaque`. A cluster never changes the type of one that is there.
    ///
    /// Default: `"kubernetes.io/tls"`. Example: `type = "Opaque"`.
    #[serde(rename = "type", default)]
    pub secret_type: SecretType,

    /// The entry of the Secret that gets the leaf and its intermediates, in order, without the root.
    ///
    /// Default: `"tls.crt"`, and nothing else for the type `kubernetes.io/tls`. Example: `fullchain = "server.pem"`.
    #[serde(default = "default_fullchain")]
    pub fullchain: String,

    /// The entry of the Secret that gets the private key.
    ///
    /// Default: `"tls.key"`, and nothing else for the type `kubernetes.io/tls`. Example: `key = "server.key"`.
    #[serde(default = "default_key")]
    pub key: String,

    /// The entry of the Secret that gets the intermediates alone. It is there only if the certificate has any.
    ///
    /// ingress-nginx takes an entry `ca.crt` for the authorities of *clients*. Default: absent; then there is no such entry.
    /// Example: `ca = "ca.crt"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,

    /// The kubeconfig that says where the cluster is and who asks. Only its owner and group may read it.
    ///
    /// An absolute path. Default: absent; then the service account of the pod that certdeploy runs in.
    /// Example: `kubeconfig = "/etc/certdeploy/kubeconfig"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubeconfig: Option<PathBuf>,

    /// The context of the kubeconfig.
    ///
    /// Default: its `current-context`. Example: `context = "production"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,

    /// Where the token, the authority and the namespace of the pod's service account are, if there is no kubeconfig.
    ///
    /// Default: `"/var/run/secrets/kubernetes.io/serviceaccount"`. Example: `service_account = "/run/tokens/certdeploy"`.
    #[serde(default = "default_service_account")]
    pub service_account: PathBuf,

    /// The name that the cluster notes as the owner of what certdeploy writes (server-side apply).
    ///
    /// At most 128 characters. Default: `"certdeploy"`. Example: `field_manager = "certdeploy-edge"`.
    #[serde(default = "default_field_manager")]
    pub field_manager: String,

    /// Whether entries that somebody else has written are taken over, and are certdeploy's from then on.
    ///
    /// A Secret that `kubectl create` or Helm has made needs it once. What cert-manager or another controller manages is never
    /// taken over. Default: `false`. Example: `force_conflicts = true`.
    #[serde(default)]
    pub force_conflicts: bool,

    /// Whether a Secret may be deleted and made again, where its type is another one, or where it is immutable.
    ///
    /// For a moment there is no Secret. Everything else in it is carried over. Default: `false`. Example: `recreate = true`.
    #[serde(default)]
    pub recreate: bool,

    /// Workloads whose pods are replaced after a switch, in every namespace: for programs that do not read the Secret again.
    ///
    /// A deployment, a statefulset or a daemonset, and its name. Default: `[]`. Example: `restart = ["deployment/web"]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub restart: Vec<Workload>,

    /// Where the certificate can be seen being served, such as an ingress or a gateway: a list of endpoints, all of which must.
    ///
    /// Without it, what the API says of itself counts. Default: absent.
    /// Example: `verify = [{ connect = "203.0.113.7:443", server_name = "www.example.com" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Pods that mount the Secret see it after a minute or more. Default: `"15s"`. Example: `verify_timeout = "2m"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl K8sSettings {
    /// The Secret of this name, and everything else at its default.
    #[must_use]
    pub fn new(secret: &str) -> Self {
        Self {
            secret: secret.to_owned(),
            namespaces: None,
            namespace_selector: None,
            secret_type: SecretType::Tls,
            fullchain: default_fullchain(),
            key: default_key(),
            ca: None,
            kubeconfig: None,
            context: None,
            service_account: default_service_account(),
            field_manager: default_field_manager(),
            force_conflicts: false,
            recreate: false,
            restart: Vec::new(),
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without a call.
    pub(crate) fn check(&self, target: &str) -> Result<(), SettingError> {
        check_name("secret", &self.secret)?;
        for (index, namespace) in self.namespaces.iter().flatten().enumerate() {
            check_name(&format!("namespaces[{index}]"), namespace)?;
        }
        let refuse = |setting: &str, message: String| Err(SettingError::new(setting, message));
        if self.namespaces.as_ref().is_some_and(Vec::is_empty) {
            return refuse("namespaces", "is empty; leave it out for the namespace of the context".to_owned());
        }
        match &self.namespace_selector {
            Some(_) if self.namespaces.is_some() => {
                return refuse("namespace_selector", "stands beside `namespaces`; one of the two says where".to_owned());
            }
            Some(selector) if selector.trim().is_empty() => {
                return refuse("namespace_selector", "is empty, which would be every namespace of the cluster".to_owned());
            }
            _ => {}
        }
        self.check_entries()?;
        if let Some(path) = &self.kubeconfig {
            check_path("kubeconfig", path)?;
        } else if self.context.is_some() {
            return refuse("context", "is of a kubeconfig, and there is none".to_owned());
        }
        check_path("service_account", &self.service_account)?;
        let manager = &self.field_manager;
        if manager.is_empty() || manager.chars().count() > 128 || manager.chars().any(char::is_control) {
            return refuse("field_manager", "has to be 1 to 128 characters that can be printed".to_owned());
        }
        let letters = [target.bytes().next(), target.bytes().last()];
        let is_annotation = target.len() <= 63 && letters.iter().flatten().all(u8::is_ascii_alphanumeric);
        if !self.restart.is_empty() && !is_annotation {
            let message = format!("`{target}` cannot be noted at a workload: a name begins and ends with a letter or a digit");
            return refuse("restart", message);
        }
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_entries(&self) -> Result<(), SettingError> {
        let entries = self.entries();
        for (index, (setting, name)) in entries.iter().enumerate() {
            let plain = |character: char| character.is_ascii_alphanumeric() || "-_.".contains(character);
            if name.is_empty() || name.len() > 253 || !name.chars().all(plain) || name.starts_with("..") || *name == "." {
                let message = format!("`{name}` cannot be an entry of a Secret: write letters, digits, `-`, `_` and `.`");
                return Err(SettingError::new(*setting, message));
            }
            if entries[..index].iter().any(|(_, other)| other == name) {
                return Err(SettingError::new(*setting, format!("`{name}` stands for two entries")));
            }
        }
        for (setting, name, fixed) in [("fullchain", &self.fullchain, "tls.crt"), ("key", &self.key, "tls.key")] {
            if self.secret_type == SecretType::Tls && name != fixed {
                let message =
                    format!("a Secret of the type kubernetes.io/tls has it in `{fixed}`; with type = \"Opaque\" it is free");
                return Err(SettingError::new(setting, message));
            }
        }
        Ok(())
    }

    /// The entries of the Secret that are ours, each with its setting.
    pub(crate) fn entries(&self) -> Vec<(&'static str, &str)> {
        let ca = self.ca.as_deref().map(|ca| ("ca", ca));
        [("fullchain", self.fullchain.as_str()), ("key", self.key.as_str())].into_iter().chain(ca).collect()
    }
}

/// The type of a Secret.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[non_exhaustive]
pub enum SecretType {
    /// Entries with names of one's own.
    Opaque,
    /// What ingresses and gateways want: `tls.crt` and `tls.key`.
    #[default]
    #[serde(rename = "kubernetes.io/tls")]
    Tls,
}

impl SecretType {
    /// As the API has it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Opaque => "Opaque",
            Self::Tls => "kubernetes.io/tls",
        }
    }
}

/// A workload, as `kubectl rollout restart` names it: `deployment/web`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Workload {
    /// What it is.
    pub kind: WorkloadKind,
    /// Its name.
    pub name: String,
}

/// What has pods that can be replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WorkloadKind {
    /// One on every node.
    DaemonSet,
    /// Alike, and any number.
    Deployment,
    /// Each with a name of its own.
    StatefulSet,
}

impl WorkloadKind {
    const ALL: [Self; 3] = [Self::DaemonSet, Self::Deployment, Self::StatefulSet];

    const fn singular(self) -> &'static str {
        match self {
            Self::DaemonSet => "daemonset",
            Self::Deployment => "deployment",
            Self::StatefulSet => "statefulset",
        }
    }

    /// As it stands in roles, with its group.
    pub(crate) const fn resource(self) -> &'static str {
        match self {
            Self::DaemonSet => "daemonsets.apps",
            Self::Deployment => "deployments.apps",
            Self::StatefulSet => "statefulsets.apps",
        }
    }

    /// As it stands in the API's paths, below `apis/apps/v1`.
    pub(crate) fn plural(self) -> &'static str {
        self.resource().trim_end_matches(".apps")
    }
}

impl fmt::Display for Workload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.kind.singular(), self.name)
    }
}

impl FromStr for Workload {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = |word: &str| WorkloadKind::ALL.into_iter().find(|kind| kind.singular() == word);
        match text.split_once('/').map(|(word, name)| (kind(word), name)) {
            Some((Some(kind), name)) if is_name(name) => Ok(Self { kind, name: name.to_owned() }),
            _ => Err(format!("`{text}` is no workload: write deployment/NAME, statefulset/NAME or daemonset/NAME")),
        }
    }
}

impl<'de> Deserialize<'de> for Workload {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Workload {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl JsonSchema for Workload {
    fn schema_name() -> Cow<'static, str> {
        "Workload".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(daemonset|deployment|statefulset)/[a-z0-9.-]+$",
            "description": "A workload: deployment/NAME, statefulset/NAME or daemonset/NAME.",
        })
    }
}

/// Names of objects are those of DNS: kubernetes.io, "Object Names and IDs".
fn check_name(setting: &str, name: &str) -> Result<(), SettingError> {
    if is_name(name) {
        return Ok(());
    }
    Err(SettingError::new(setting, format!("`{name}` cannot be a name: write small letters, digits, `-` and `.`")))
}

fn is_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    let ends = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = name.as_bytes();
    bytes.len() <= 253 && bytes.iter().copied().all(plain) && ends(bytes.first()) && ends(bytes.last())
}

fn default_fullchain() -> String {
    "tls.crt".to_owned()
}

fn default_key() -> String {
    "tls.key".to_owned()
}

fn default_field_manager() -> String {
    "certdeploy".to_owned()
}

fn default_service_account() -> PathBuf {
    Path::new("/var/run/secrets/kubernetes.io/serviceaccount").to_owned()
}

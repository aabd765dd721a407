//! The settings of a target of the kind `azure-keyvault`. The doc comments are the reference page.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{Period, check_endpoints, check_path, default_verify_timeout};
use deploy_http::check_url;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The domains of vaults, and who vouches for identities there.
const CLOUDS: [(&str, &str); 3] = [
    (".vault.azure.net", "https://login.microsoftonline.com"),
    (".vault.azure.cn", "https://login.chinacloudapi.cn"),
    (".vault.usgovcloudapi.net", "https://login.microsoftonline.us"),
];

/// Which certificate of which vault is renewed, and who asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AzureKeyvaultSettings {
    /// The address of the vault.
    ///
    /// Required. Example: `vault = "https://example.vault.azure.net"`.
    pub vault: String,

    /// The name of the certificate in the vault: letters, digits and hyphens, at most 127 characters.
    ///
    /// It gets a new version, or is made. Required. Example: `certificate_name = "www-example-com"`.
    pub certificate_name: String,

    /// Who asks: `{ managed_identity = {} }`, `{ workload_identity = {} }`, `{ client_secret = {...} }` or `{ azure_cli = {} }`.
    ///
    /// Nothing is tried in turn: who asks does not depend on where the program happens to run. Required.
    /// Example: `credentials = { managed_identity = {} }`.
    pub credentials: Credentials,

    /// In which form the vault gives the certificate away: `pkcs12` or `pem`.
    ///
    /// Whoever reads the secret of the certificate has to expect it. Default: as it is in the vault; `"pkcs12"` for a new name,
    /// which App Service and Application Gateway want. Example: `content_type = "pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content_type: Option<ContentType>,

    /// Whether the vault may give the private key away.
    ///
    /// Servers that get their certificate from the vault need it. Default: as it is in the vault; `true` for a new name.
    /// Example: `exportable = false`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exportable: Option<bool>,

    /// Tags for the new version, beside those that the certificate has already.
    ///
    /// `managed-by` and `certdeploy-target` are set in any case; a vault takes 15 in all. Default: none.
    /// Example: `tags = { team = "edge" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,

    /// Whether a certificate of this name that was deleted and can be recovered is recovered, with all its versions.
    ///
    /// Otherwise it is an error, because the name is taken until it is purged. Default: `false`.
    /// Example: `recover_deleted = true`.
    #[serde(default)]
    pub recover_deleted: bool,

    /// Who vouches for the identity, with `https://`, for vaults in a domain of one's own (Azure Stack Hub).
    ///
    /// Default: that of the cloud which the vault's domain belongs to.
    /// Example: `authority = "https://login.microsoftonline.us"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,

    /// What the vault has to ask tokens for, where its address is not below that domain.
    ///
    /// A vault whose address is below the domain needs no such word. Anything else that an address asks tokens for is refused, so
    /// that it cannot collect tokens for others. Default: absent. Example: `resource = "https://vault.local.azurestack.external"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,

    /// The version of the vault's API.
    ///
    /// Below `2025` the order of the chain is the vault's own. Default: `"2025-07-01"`. Example: `api_version = "7.4"`.
    #[serde(default = "default_api_version")]
    pub api_version: String,

    /// A file of PEM certificates: the authorities that the certificates of the vault and of `authority` may come from.
    ///
    /// Others do not count then. An absolute path. Default: absent, the authorities that this machine trusts.
    /// Example: `ca_file = "/etc/certdeploy/azurestack-ca.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,

    /// Where the certificate can be seen being served: a list of endpoints, all of which must.
    ///
    /// Most servers take hours to fetch a new version, so that this is for those that are quick. Default: absent; then what the
    /// vault publishes counts. Example: `verify = [{ connect = "www.example.com:443" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`. Example: `verify_timeout = "60s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

/// Who asks for the certificate.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Credentials {
    /// Whoever has logged in with `az login`. For trying things out.
    AzureCli(AzureCli),
    /// An application with a client secret.
    ClientSecret(ClientSecret),
    /// The identity of the machine (virtual machines, App Service, Container Apps).
    ManagedIdentity(ManagedIdentity),
    /// The identity of a Kubernetes service account, or another one with a token in a file.
    WorkloadIdentity(WorkloadIdentity),
}

/// Whoever has logged in with `az login`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AzureCli {
    /// The program. Default: `az` in the search path of commands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<PathBuf>,
    /// The directory in which `az` keeps its login. Default: `.azure` in `HOME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_directory: Option<PathBuf>,
    /// The tenant, by name or number. Default: the one that the vault names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// An application with a client secret.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ClientSecret {
    /// The application's (client) ID.
    pub client_id: String,
    /// Where the secret is found: its value, not its ID.
    pub secret: SecretRef,
    /// The tenant, by name or number. Default: the one that the vault names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
}

/// The identity of the machine. Without any of these, it is the one that the system has assigned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ManagedIdentity {
    /// The client ID of an identity that a user has assigned. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// Its object ID, instead. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object_id: Option<String>,
    /// Its resource ID, instead. Default: absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource_id: Option<String>,
}

/// The identity of a Kubernetes service account. AKS sets the variables that are the defaults.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct WorkloadIdentity {
    /// The client ID. Default: the variable `AZURE_CLIENT_ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_id: Option<String>,
    /// The tenant. Default: the variable `AZURE_TENANT_ID`, or the one that the vault names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// The file with the token. It is read anew for each login. Default: the variable `AZURE_FEDERATED_TOKEN_FILE`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
}

/// In which form the vault gives a certificate away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum ContentType {
    /// PEM: the key (PKCS#8), and the certificates.
    Pem,
    /// PKCS#12, in Base64.
    Pkcs12,
}

impl ContentType {
    /// As in a policy.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Self::Pem => "application/x-pem-file",
            Self::Pkcs12 => "application/x-pkcs12",
        }
    }
}

impl AzureKeyvaultSettings {
    /// Everything at its default but what is required.
    #[must_use]
    pub fn new(vault: impl Into<String>, certificate_name: impl Into<String>, credentials: Credentials) -> Self {
        Self {
            vault: vault.into(),
            certificate_name: certificate_name.into(),
            credentials,
            content_type: None,
            exportable: None,
            tags: BTreeMap::new(),
            recover_deleted: false,
            authority: None,
            resource: None,
            api_version: default_api_version(),
            ca_file: None,
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without a call.
    pub(crate) fn check(&self) -> Result<(), SettingError> {
        let url = |setting: &str, url: &str| check_url(url).map_err(|error| SettingError::new(setting, error.full_message()));
        url("vault", &self.vault)?;
        self.authority.as_deref().map_or(Ok(()), |authority| url("authority", authority))?;
        self.resource.as_deref().map_or(Ok(()), |resource| url("resource", resource))?;
        let name = &self.certificate_name;
        if !(1..=127).contains(&name.len()) || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            let message = format!("`{name}` cannot be the name of a certificate: write letters, digits and hyphens");
            return Err(SettingError::new("certificate_name", message));
        }
        if self.tags.len() > 13 {
            return Err(SettingError::new("tags", "a vault takes 15 tags for a certificate, two of which are certdeploy's"));
        }
        if self.api_version.is_empty()
            || !self.api_version.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
        {
            return Err(SettingError::new("api_version", "is no version, such as \"2025-07-01\""));
        }
        self.ca_file.as_ref().map_or(Ok(()), |path| check_path("ca_file", path))?;
        self.check_credentials()?;
        check_endpoints("verify", self.verify.as_deref())
    }

    fn check_credentials(&self) -> Result<(), SettingError> {
        let at = |setting: &str| format!("credentials.{setting}");
        match &self.credentials {
            Credentials::AzureCli(cli) => cli.program.as_ref().map_or(Ok(()), |path| check_path(&at("azure_cli.program"), path)),
            Credentials::ClientSecret(application) if application.client_id.is_empty() => {
                Err(SettingError::new(at("client_secret.client_id"), "is empty"))
            }
            Credentials::ClientSecret(_) if self.authority().is_none() => Err(SettingError::new(
                "authority",
                "is needed for a vault in a domain that is not one of Azure's: who vouches for the identity?",
            )),
            Credentials::ManagedIdentity(identity) if identity.parameters().len() > 1 => Err(SettingError::new(
                at("managed_identity"),
                "an identity is named once: by client_id, object_id or resource_id",
            )),
            Credentials::WorkloadIdentity(identity) => {
                identity.token_file.as_ref().map_or(Ok(()), |path| check_path(&at("workload_identity.token_file"), path))
            }
            _ => Ok(()),
        }
    }

    /// Who vouches for identities, as far as the settings say it.
    pub(crate) fn authority(&self) -> Option<&str> {
        let host = self.vault_host();
        let of_cloud = || CLOUDS.iter().find(|(domain, _)| host.ends_with(domain)).map(|(_, authority)| *authority);
        self.authority.as_deref().or_else(of_cloud)
    }

    /// In lower case, without a port.
    pub(crate) fn vault_host(&self) -> String {
        let host = crate::challenge::host(&self.vault).unwrap_or_default();
        host.to_ascii_lowercase()
    }
}

impl ManagedIdentity {
    /// What names it, by the parameter's name in a request to a virtual machine's endpoint.
    pub(crate) fn parameters(&self) -> Vec<(&'static str, &str)> {
        let named = [("client_id", &self.client_id), ("object_id", &self.object_id), ("msi_res_id", &self.resource_id)];
        named.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

fn default_api_version() -> String {
    "2025-07-01".to_owned()
}

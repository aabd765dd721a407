//! Where the cluster is, and who asks: a kubeconfig (kubernetes.io, "kubeconfig (v1)"), or the service account of a pod.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::secret::{SecretBytes, SecretRef, SecretString, read_source_file};
use deploy_core::{Context, Error, ErrorKind};
use deploy_http::{Client, ClientBuilder};
use kube::config::{AuthInfo, Cluster, ExecConfig, ExecInteractiveMode, Kubeconfig};
use secrecy::ExposeSecret as _;
use serde::{Deserialize, Deserializer, Serialize};

use crate::config::K8sSettings;

/// The longest answer: a Secret holds 1 MiB, which Base64 makes a third longer.
const ANSWER_LIMIT: usize = 4 << 20;
/// The longest token or certificate.
const SIZE_LIMIT: u64 = 1 << 20;
/// Under this name a kubeconfig has settings for its credential plugin.
const PLUGIN_SETTINGS: &str = "client.authentication.k8s.io/exec";

/// A way to the API, and the namespace that is meant where none is named.
#[derive(Debug)]
pub(crate) struct Access {
    pub(crate) client: Client,
    pub(crate) namespace: String,
}

impl Access {
    /// Connects to nothing; a credential plugin is run.
    pub(crate) fn of(settings: &K8sSettings, context: &Context) -> Result<Self, Error> {
        match &settings.kubeconfig {
            Some(path) => of_kubeconfig(path, settings.context.as_deref(), context),
            None => of_service_account(&settings.service_account, context),
        }
    }

    fn new(builder: ClientBuilder, namespace: Option<&str>, context: &Context) -> Result<Self, Error> {
        let client = builder.with_body_limit(ANSWER_LIMIT).build(context)?;
        Ok(Self { client, namespace: namespace.unwrap_or("default").to_owned() })
    }
}

/// kubernetes.io, "Accessing the Kubernetes API from a Pod".
fn of_service_account(directory: &Path, context: &Context) -> Result<Access, Error> {
    let variable = |name| context.variable(name).map(|value| value.expose().to_owned());
    let (Some(host), Some(port)) = (variable("KUBERNETES_SERVICE_HOST"), variable("KUBERNETES_SERVICE_PORT")) else {
        return Err(invalid("this is no pod, and there is no kubeconfig".to_owned())
            .with_next_step("name one with `kubeconfig`, or run certdeploy in the cluster"));
    };
    let host = if host.contains(':') { format!("[{host}]") } else { host };
    let read = |name| text(&directory.join(name), context);
    let token = read("token")?;
    let namespace = read("namespace")?;
    let builder = Client::builder(&format!("https://{host}:{port}"))
        .with_ca_file(directory.join("ca.crt"))
        .with_bearer_token(&SecretString::from(token.expose().trim().to_owned()));
    Access::new(builder, Some(namespace.expose().trim()), context)
}

fn of_kubeconfig(path: &Path, wanted: Option<&str>, context: &Context) -> Result<Access, Error> {
    let text = SecretRef::File(path.to_owned()).resolve(context)?;
    // What the reader says would quote the file.
    let config = Kubeconfig::from_yaml(text.expose()).map_err(|_| {
        invalid(format!("{} is no kubeconfig", path.display()))
            .with_next_step(format!("see what `kubectl --kubeconfig {} config view` says", path.display()))
    })?;
    let missing = |what: &str, name: &str| {
        invalid(format!("{} has no {what} `{name}`", path.display()))
            .with_next_step(format!("see with `kubectl --kubeconfig {} config get-contexts` what there is", path.display()))
    };
    let Some(name) = wanted.or(config.current_context.as_deref()) else { return Err(missing("context", "current-context")) };
    let chosen = config.contexts.iter().find(|named| named.name == name).and_then(|named| named.context.as_ref());
    let chosen = chosen.ok_or_else(|| missing("context", name))?;
    let cluster = config.clusters.iter().find(|named| named.name == chosen.cluster).and_then(|named| named.cluster.as_ref());
    let cluster = cluster.ok_or_else(|| missing("cluster", &chosen.cluster))?;
    let user = chosen.user.as_deref().unwrap_or_default();
    let found = config.auth_infos.iter().find(|named| named.name == user).and_then(|named| named.auth_info.as_ref());
    let files = Files { directory: path.parent().unwrap_or(path), context };
    let builder = files.of_cluster(cluster)?;
    let builder = files.of_user(builder, found.ok_or_else(|| missing("user", user))?, cluster)?;
    Access::new(builder, chosen.namespace.as_deref(), context)
}

/// Reads what a kubeconfig names; relative paths begin where it lies.
struct Files<'a> {
    directory: &'a Path,
    context: &'a Context,
}

impl Files<'_> {
    fn of_cluster(&self, cluster: &Cluster) -> Result<ClientBuilder, Error> {
        let refused = |what: &str, step: &str| Err(invalid(format!("the kubeconfig has {what}")).with_next_step(step));
        if cluster.insecure_skip_tls_verify == Some(true) {
            return refused(
                "insecure-skip-tls-verify, which would give the key to anybody",
                "write certificate-authority instead",
            );
        }
        if cluster.proxy_url.is_some() {
            return refused("a proxy-url, and no proxy is used here", "give certdeploy a way to the API without one");
        }
        let server =
            cluster.server.as_deref().ok_or_else(|| invalid("the kubeconfig does not say where the cluster is".to_owned()))?;
        let builder = Client::builder(server).with_server_name(cluster.tls_server_name.clone());
        Ok(match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(data), _) => builder.with_ca_pem(decode("certificate-authority-data", data)?.expose()),
            (None, Some(file)) => builder.with_ca_file(self.directory.join(file)),
            (None, None) => builder,
        })
    }

    fn of_user(&self, builder: ClientBuilder, user: &AuthInfo, cluster: &Cluster) -> Result<ClientBuilder, Error> {
        if let Some(exec) = &user.exec {
            return self.run(exec, cluster)?.show(builder);
        }
        let has_password = user.username.is_some() || user.password.is_some();
        if has_password || user.auth_provider.is_some() || user.impersonate.is_some() {
            return Err(invalid(
                "the kubeconfig has a password, an auth-provider or an impersonation, none of which is used here".to_owned(),
            )
            .with_next_step("use a token, a client certificate or a credential plugin (exec)"));
        }
        let token = match (&user.token_file, &user.token) {
            (Some(file), _) => Some(text(&self.directory.join(file), self.context)?),
            (None, Some(token)) => Some(SecretString::from(token.expose_secret().to_owned())),
            (None, None) => None,
        };
        let certificate = match (&user.client_certificate_data, &user.client_certificate) {
            (Some(data), _) => Some(decode("client-certificate-data", data)?),
            (None, Some(file)) => Some(bytes(&self.directory.join(file), self.context)?),
            (None, None) => None,
        };
        let key = match (&user.client_key_data, &user.client_key) {
            (Some(data), _) => Some(decode("client-key-data", data.expose_secret())?),
            (None, Some(file)) => Some(bytes(&self.directory.join(file), self.context)?),
            (None, None) => None,
        };
        Credential { token, certificate, key }.show(builder)
    }

    /// A credential plugin (kubernetes.io, "client-go credential plugins"). Standard input is closed: nobody sits there.
    fn run(&self, exec: &ExecConfig, cluster: &Cluster) -> Result<Credential, Error> {
        let invalid = |message: &str| Err(invalid(format!("the credential plugin of the kubeconfig {message}")));
        let Some(command) = &exec.command else { return invalid("has no command") };
        let version = exec.api_version.as_deref().unwrap_or_default();
        if !matches!(version, "client.authentication.k8s.io/v1" | "client.authentication.k8s.io/v1beta1") {
            return invalid("wants another protocol than client.authentication.k8s.io/v1");
        }
        if exec.interactive_mode == Some(ExecInteractiveMode::Always) {
            return invalid("wants to ask somebody (interactiveMode: Always)");
        }
        let program = if command.contains('/') { self.directory.join(command).display().to_string() } else { command.clone() };
        let arguments = exec.args.iter().flatten().cloned();
        let reference = SecretRef::Exec([program].into_iter().chain(arguments).collect());
        let printed = reference.resolve_with(&self.environment(exec, cluster)?, self.context)?;
        let printed: Printed = serde_json::from_str(printed.expose()).map_err(|_| {
            Error::new(ErrorKind::Unauthenticated, format!("{reference} did not print an ExecCredential"))
                .with_next_step("run it by hand, with KUBERNETES_EXEC_INFO as kubernetes.io describes it, and see what it prints")
        })?;
        let Status { token, client_certificate_data, client_key_data } = printed.status;
        let pem = |text: Option<SecretString>| text.map(|text| SecretBytes::from(text.expose().as_bytes()));
        Ok(Credential { token, certificate: pem(client_certificate_data), key: pem(client_key_data) })
    }

    /// What a plugin gets beside `PATH`: what it asks for, and where its own settings may lie.
    fn environment(&self, exec: &ExecConfig, cluster: &Cluster) -> Result<BTreeMap<String, String>, Error> {
        let home = self.context.variable("HOME").map(|home| ("HOME".to_owned(), home.expose().to_owned()));
        let asked = exec.env.iter().flatten().filter_map(|pair| Some((pair.get("name")?.clone(), pair.get("value")?.clone())));
        let mut environment: BTreeMap<String, String> = home.into_iter().chain(asked).collect();
        let cluster = if exec.provide_cluster_info { Some(self.told(cluster)?) } else { None };
        let info = ExecInfo {
            api_version: exec.api_version.as_deref().unwrap_or_default(),
            kind: "ExecCredential",
            spec: ExecSpec { interactive: false, cluster },
        };
        let info = serde_json::to_string(&info)
            .map_err(|error| Error::new(ErrorKind::Internal, "KUBERNETES_EXEC_INFO cannot be written").with_source(error))?;
        environment.insert("KUBERNETES_EXEC_INFO".to_owned(), info);
        Ok(environment)
    }

    fn told<'a>(&self, cluster: &'a Cluster) -> Result<ExecCluster<'a>, Error> {
        let authority = match (&cluster.certificate_authority_data, &cluster.certificate_authority) {
            (Some(data), _) => Some(data.clone()),
            (None, Some(file)) => Some(STANDARD.encode(bytes(&self.directory.join(file), self.context)?.expose())),
            (None, None) => None,
        };
        let settings = cluster.extensions.iter().flatten().find(|named| named.name == PLUGIN_SETTINGS);
        Ok(ExecCluster {
            server: cluster.server.as_deref(),
            tls_server_name: cluster.tls_server_name.as_deref(),
            certificate_authority_data: authority,
            config: settings.map(|named| &named.extension),
        })
    }
}

/// Who asks. A pair in PEM, for TLS, and a token.
struct Credential {
    token: Option<SecretString>,
    certificate: Option<SecretBytes>,
    key: Option<SecretBytes>,
}

impl Credential {
    fn show(self, mut builder: ClientBuilder) -> Result<ClientBuilder, Error> {
        if self.token.is_none() && self.certificate.is_none() {
            return Err(invalid("the user of the kubeconfig has neither a token nor a client certificate".to_owned()));
        }
        if let Some(token) = self.token {
            builder = builder.with_bearer_token(&SecretString::from(token.expose().trim().to_owned()));
        }
        match (self.certificate, self.key) {
            (Some(certificate), Some(key)) => Ok(builder.with_client_certificate(certificate.expose(), key)),
            (None, None) => Ok(builder),
            _ => Err(invalid("a client certificate and its key belong together, and one of them is missing".to_owned())),
        }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ExecInfo<'a> {
    api_version: &'a str,
    kind: &'a str,
    spec: ExecSpec<'a>,
}

#[derive(Serialize)]
struct ExecSpec<'a> {
    interactive: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster: Option<ExecCluster<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "kebab-case")]
struct ExecCluster<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_server_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_authority_data: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    config: Option<&'a serde_json::Value>,
}

#[derive(Deserialize)]
struct Printed {
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    #[serde(default, deserialize_with = "secret")]
    token: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    client_certificate_data: Option<SecretString>,
    #[serde(default, deserialize_with = "secret")]
    client_key_data: Option<SecretString>,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<SecretString>, D::Error> {
    Option::<String>::deserialize(deserializer).map(|text| text.map(SecretString::from))
}

/// A cluster's own tokens are readable by everybody in their pod, so that the mode is not looked at.
fn bytes(path: &Path, context: &Context) -> Result<SecretBytes, Error> {
    let read = read_source_file(context.host(), path, SIZE_LIMIT);
    let (bytes, _) =
        read.map_err(|error| invalid("a file of the cluster's credentials cannot be used".to_owned()).with_source(error))?;
    Ok(bytes)
}

fn text(path: &Path, context: &Context) -> Result<SecretString, Error> {
    bytes(path, context)?.try_into().map_err(|_| invalid(format!("{} is not text", path.display())))
}

fn decode(what: &str, data: &str) -> Result<SecretBytes, Error> {
    // The error would show what it does not understand.
    STANDARD.decode(data.trim()).map(SecretBytes::from).map_err(|_| invalid(format!("{what} of the kubeconfig is not Base64")))
}

fn invalid(message: String) -> Error {
    Error::new(ErrorKind::ConfigurationInvalid, message)
}

/// Without what was found.
impl fmt::Debug for Credential {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Credential").finish_non_exhaustive()
    }
}

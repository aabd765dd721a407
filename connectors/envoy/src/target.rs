//! The description of a deployment to Envoy, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use deploy_core::secret::SecretBytes;
use deploy_core::settings::Mode;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Hooks, LinkPolicy, Plan, PlanFile,
    Recovery, Reload, Role, Target, Verify,
};
use serde::Serialize;

use crate::Envoy;
use crate::client::Confirmation;
use crate::config::EnvoySettings;

/// The longest `sds` of an operator, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// One secret of one Envoy.
#[derive(Debug)]
pub(crate) struct EnvoyTarget {
    name: String,
    settings: EnvoySettings,
}

#[async_trait]
impl Target for EnvoyTarget {
    fn capabilities(&self) -> Capabilities {
        Envoy::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks(None))
    }

    fn destinations(&self) -> Vec<PathBuf> {
        let settings = &self.settings;
        // A directory of generations is written by one target only, too; the file of the secret is not written then.
        let first = settings.layout.directory().unwrap_or(&settings.sds);
        [Some(first), settings.fullchain.as_deref(), settings.key.as_deref()].into_iter().flatten().map(Path::to_owned).collect()
    }

    async fn prepare(&self, certificate: &Certificate, context: &Context) -> Result<Deployment, Error> {
        let settings = &self.settings;
        let plan = Plan::new(&self.name)
            .with_certificate(certificate)
            .with_hooks(self.hooks(Some(certificate)))
            .with_backups(settings.backups)
            // Envoy would not see what happens behind a link.
            .with_links(LinkPolicy::Refuse)
            .with_layout(settings.layout.clone())
            .with_unsafe_parent_allowed(settings.allow_unsafe_parent);
        let Some((fullchain, key)) = settings.pair() else {
            return Ok(Deployment::Files(plan.with_file(self.inline(certificate)?)));
        };
        let plan = plan
            .with_file(self.file(fullchain, Role::Fullchain, certificate.fullchain_pem().into(), settings.mode))
            .with_file(self.file(key, Role::Key, certificate.key_pem(), settings.key_mode));
        match settings.layout.directory() {
            Some(directory) => self.watches(directory, [fullchain, key], context).map(|()| Deployment::Files(plan)),
            None => Ok(Deployment::Files(plan.with_file(self.reference(fullchain, key)?))),
        }
    }
}

impl EnvoyTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: EnvoySettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    /// The secret with everything in it: one rename, and nothing that could be seen half-way.
    fn inline(&self, certificate: &Certificate) -> Result<PlanFile, Error> {
        let (fullchain, key) = (certificate.fullchain_pem(), certificate.key_pem());
        let sds = self.secret(DataSource::inline(&fullchain)?, DataSource::inline(key.expose())?)?;
        let mode = self.settings.key_mode.unwrap_or(Mode::new(0o600));
        Ok(self.file(&self.settings.sds, Role::Opaque, sds, Some(mode)))
    }

    /// The secret that names the two files. Its text is always the same; that it is written anew has Envoy read them together.
    fn reference(&self, fullchain: &Path, key: &Path) -> Result<PlanFile, Error> {
        let sds = self.secret(DataSource::Filename(fullchain), DataSource::Filename(key))?;
        let mode = self.settings.mode.unwrap_or(Mode::new(0o644));
        Ok(self.file(&self.settings.sds, Role::Opaque, sds, Some(mode)).touched())
    }

    fn file(&self, path: &Path, role: Role, bytes: SecretBytes, mode: Option<Mode>) -> PlanFile {
        let settings = &self.settings;
        PlanFile::new(path, role, bytes).with_owner(settings.owner.clone()).with_group(settings.group.clone()).with_mode(mode)
    }

    /// JSON, which is YAML, too.
    fn secret(&self, certificate_chain: DataSource<'_>, private_key: DataSource<'_>) -> Result<SecretBytes, Error> {
        let secret = Secret {
            kind: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
            name: self.settings.secret_name.as_deref().unwrap_or_default(),
            tls_certificate: TlsCertificate { certificate_chain, private_key },
        };
        SecretBytes::from_json(&DiscoveryResponse { resources: [secret] })
            .map_err(|error| Error::new(ErrorKind::PlanInvalid, "the file of the secret cannot be written").with_source(error))
    }

    /// Whether the operator's secret has Envoy notice a switch of generations.
    fn watches(&self, directory: &Path, pair: [&Path; 2], context: &Context) -> Result<(), Error> {
        let sds = &self.settings.sds;
        let refuse = |message: String| Error::new(ErrorKind::ConfigurationInvalid, message);
        let read = context.host().read_path(sds, SIZE_LIMIT);
        let read = read.map_err(|error| refuse(format!("{} cannot be read", sds.display())).with_source(error))?;
        let bytes = read.map(|(bytes, _)| bytes).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.expose());
        let [fullchain, key] = pair.map(|path| path.display().to_string());
        let watched = text.contains("watched_directory") || text.contains("watchedDirectory");
        if watched && text.contains(&fullchain) && text.contains(&key) {
            return Ok(());
        }
        let line = "{resources: [{\"@type\": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret, name: NAME, \
                    tls_certificate: ";
        Err(refuse(format!("{} does not have Envoy watch {} for the two files", sds.display(), directory.display()))
            .with_next_step(format!(
                "have it say {line}{{certificate_chain: {{filename: {fullchain}}}, private_key: {{filename: {key}}}, \
                 watched_directory: {{path: {}}}}}}}]}}",
                directory.display()
            )))
    }

    fn hooks(&self, certificate: Option<&Certificate>) -> Hooks {
        let settings = &self.settings;
        let at_most = settings.verify_timeout.duration();
        let reload = settings.reload.reload();
        let told = match &settings.admin {
            Some(admin) => Some(Reload::Call(Arc::new(Confirmation {
                admin: admin.clone(),
                serial: certificate.map(|certificate| certificate.serial().to_owned()),
                at_most,
                reload,
            }))),
            None => reload,
        };
        Hooks::new().with_reload(told).with_verify(Verify::from_setting(settings.verify.clone()).with_timeout(at_most))
    }
}

/// What a file of path_config_source holds (envoyproxy.io, "Secret discovery service (SDS)"): exactly one secret.
#[derive(Serialize)]
struct DiscoveryResponse<'a> {
    resources: [Secret<'a>; 1],
}

#[derive(Serialize)]
struct Secret<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    name: &'a str,
    tls_certificate: TlsCertificate<'a>,
}

#[derive(Serialize)]
struct TlsCertificate<'a> {
    certificate_chain: DataSource<'a>,
    private_key: DataSource<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "snake_case")]
enum DataSource<'a> {
    Filename(&'a Path),
    InlineString(&'a str),
}

impl<'a> DataSource<'a> {
    fn inline(pem: &'a [u8]) -> Result<Self, Error> {
        let text = std::str::from_utf8(pem);
        text.map(Self::InlineString).map_err(|error| Error::new(ErrorKind::Internal, "PEM is not text").with_source(error))
    }
}

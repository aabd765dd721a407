//! The description of a deployment to Traefik, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use deploy_core::host::FileKind;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Hooks, Plan, PlanFile, Recovery, Reload,
    Role, Target, Verify,
};

use crate::Traefik;
use crate::client::Confirmation;
use crate::config::TraefikSettings;

/// The longest dynamic configuration, in bytes.
const SIZE_LIMIT: u64 = 1 << 20;

/// One certificate of one Traefik.
#[derive(Debug)]
pub(crate) struct TraefikTarget {
    name: String,
    settings: TraefikSettings,
}

#[async_trait]
impl Target for TraefikTarget {
    fn capabilities(&self) -> Capabilities {
        Traefik::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks(None))
    }

    fn destinations(&self) -> Vec<PathBuf> {
        let settings = &self.settings;
        vec![settings.fullchain.clone(), settings.key.clone(), settings.dynamic.clone()]
    }

    async fn prepare(&self, certificate: &Certificate, context: &Context) -> Result<Deployment, Error> {
        let settings = &self.settings;
        let dynamic = self.dynamic(context)?;
        let file = |path: &Path, role, bytes, mode| {
            PlanFile::new(path, role, bytes).with_owner(settings.owner.clone()).with_group(settings.group.clone()).with_mode(mode)
        };
        let plan = Plan::new(&self.name)
            .with_certificate(certificate)
            .with_hooks(self.hooks(Some(certificate)))
            .with_backups(settings.backups)
            .with_read(&settings.dynamic, Some(dynamic.expose()))
            .with_file(file(&settings.fullchain, Role::Fullchain, certificate.fullchain_pem().into(), settings.mode))
            .with_file(file(&settings.key, Role::Key, certificate.key_pem(), settings.key_mode))
            .with_file(PlanFile::new(&settings.dynamic, Role::Opaque, dynamic).touched());
        Ok(Deployment::Files(plan))
    }
}

impl TraefikTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: TraefikSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    /// The operator's file, which has to be one by which Traefik notices the new certificate.
    fn dynamic(&self, context: &Context) -> Result<SecretBytes, Error> {
        let path = &self.settings.dynamic;
        let refuse = |problem: &str| Error::new(ErrorKind::ConfigurationInvalid, format!("{} {problem}", path.display()));
        let unreadable = |error| refuse("cannot be read").with_source(error);
        let status = context.host().path_status(path).map_err(unreadable)?;
        if status.is_some_and(|status| status.kind == FileKind::Symlink) {
            return Err(refuse("is a symbolic link, behind which Traefik does not watch")
                .with_next_step("name the file itself in `dynamic`, in the directory that Traefik's file provider has"));
        }
        let read = context.host().read_path(path, SIZE_LIMIT).map_err(unreadable)?;
        let Some((bytes, _)) = read else { return Err(refuse("does not exist").with_next_step(self.lines())) };
        let text = String::from_utf8_lossy(bytes.expose());
        let named = [&self.settings.fullchain, &self.settings.key].iter().all(|file| text.contains(&*file.to_string_lossy()));
        if named { Ok(bytes) } else { Err(refuse("does not name both files").with_next_step(self.lines())) }
    }

    /// What the operator's file has to say.
    fn lines(&self) -> String {
        let TraefikSettings { fullchain, key, dynamic, .. } = &self.settings;
        let (fullchain, key) = (fullchain.display(), key.display());
        let lines = if dynamic.extension().is_some_and(|extension| extension == "toml") {
            format!("[[tls.certificates]]\ncertFile = \"{fullchain}\"\nkeyFile = \"{key}\"")
        } else {
            format!("tls:\n  certificates:\n    - certFile: {fullchain}\n      keyFile: {key}")
        };
        format!("have Traefik's file provider watch it, with these lines in it:\n{lines}")
    }

    fn hooks(&self, certificate: Option<&Certificate>) -> Hooks {
        let settings = &self.settings;
        let at_most = settings.verify_timeout.duration();
        let reload = settings.reload.reload();
        let told = match &settings.api {
            Some(api) => Some(Reload::Call(Arc::new(Confirmation {
                api: api.clone(),
                ca_file: settings.api_ca_file.clone(),
                token: settings.api_token.clone(),
                fingerprint: certificate.map(|certificate| certificate.fingerprint().to_owned()),
                at_most,
                reload,
            }))),
            None => reload,
        };
        Hooks::new().with_reload(told).with_verify(Verify::from_setting(settings.verify.clone()).with_timeout(at_most))
    }
}

//! The description of a deployment to a PKCS#12 file, and nothing else.

use std::path::PathBuf;

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, Hooks, Plan, PlanFile, Recovery, Role, Target,
    Validate, Verify,
};
use deploy_keystore::{Placement, StoreType};

use crate::Pkcs12;
use crate::config::Pkcs12Settings;

/// One file.
#[derive(Debug)]
pub(crate) struct Pkcs12Target {
    name: String,
    settings: Pkcs12Settings,
}

#[async_trait]
impl Target for Pkcs12Target {
    fn capabilities(&self) -> Capabilities {
        Pkcs12::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        vec![self.settings.path.clone()]
    }

    async fn prepare(&self, certificate: &Certificate, context: &Context) -> Result<Deployment, Error> {
        let settings = &self.settings;
        let rendered = self.placement().render(certificate, context)?;
        let read = rendered.read.bytes.as_ref().map(|bytes| bytes.expose());
        let plan = Plan::new(&self.name)
            .with_certificate(certificate)
            .with_hooks(self.hooks())
            .with_backups(settings.backups)
            .with_links(settings.links)
            .with_unsafe_parent_allowed(settings.allow_unsafe_parent)
            .with_read(&rendered.read.path, read);
        let file = PlanFile::new(&settings.path, Role::Opaque, rendered.bytes)
            .with_identity(rendered.identity)
            .with_owner(settings.owner.clone())
            .with_group(settings.group.clone())
            .with_mode(settings.mode);
        Ok(Deployment::Files(plan.with_file(file)))
    }
}

impl Pkcs12Target {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: Pkcs12Settings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn placement(&self) -> Placement<'_> {
        let settings = &self.settings;
        Placement {
            path: &settings.path,
            links: settings.links,
            alias: settings.friendly_name.as_deref().unwrap_or(&self.name),
            store_type: Some(StoreType::Pkcs12),
            encryption: settings.encryption,
            password: &settings.password,
            key_password: None,
            for_java: false,
        }
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new()
            .with_validate(settings.validate.command().map(Validate::new))
            .with_reload(settings.reload.reload())
            .with_restart(settings.restart.as_ref().and_then(|restart| restart.command()))
            .with_verify(verify)
    }
}

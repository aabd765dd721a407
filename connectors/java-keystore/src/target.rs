//! The description of a deployment to a Java keystore, and nothing else.

use std::path::PathBuf;

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, Hooks, Plan, PlanFile, Recovery, Role, Target,
    Validate, Verify,
};
use deploy_keystore::Placement;

use crate::JavaKeystore;
use crate::config::JavaKeystoreSettings;

/// One keystore.
#[derive(Debug)]
pub(crate) struct JavaKeystoreTarget {
    name: String,
    settings: JavaKeystoreSettings,
}

#[async_trait]
impl Target for JavaKeystoreTarget {
    fn capabilities(&self) -> Capabilities {
        JavaKeystore::CAPABILITIES
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

impl JavaKeystoreTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, mut settings: JavaKeystoreSettings) -> Self {
        // Java looks for aliases in lower case, and in a JKS finds no others.
        settings.alias.make_ascii_lowercase();
        Self { name: name.to_owned(), settings }
    }

    fn placement(&self) -> Placement<'_> {
        let settings = &self.settings;
        Placement {
            path: &settings.path,
            links: settings.links,
            alias: &settings.alias,
            store_type: settings.store_type,
            encryption: settings.encryption,
            password: &settings.password,
            key_password: settings.key_password.as_ref(),
            for_java: true,
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

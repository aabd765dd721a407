//! The description of a deployment to Dovecot, and nothing else.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, Hooks, Plan, PlanFile, Recovery, Role, Target,
    Validate, Verify,
};

use crate::Dovecot;
use crate::config::DovecotSettings;

/// One Dovecot.
#[derive(Debug)]
pub(crate) struct DovecotTarget {
    name: String,
    settings: DovecotSettings,
}

#[async_trait]
impl Target for DovecotTarget {
    fn capabilities(&self) -> Capabilities {
        Dovecot::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        vec![self.settings.fullchain.clone(), self.settings.key.clone()]
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        let settings = &self.settings;
        let file = |path: &Path, role, bytes, mode| {
            PlanFile::new(path, role, bytes).with_owner(settings.owner.clone()).with_group(settings.group.clone()).with_mode(mode)
        };
        let plan = Plan::new(&self.name)
            .with_certificate(certificate)
            .with_hooks(self.hooks())
            .with_backups(settings.backups)
            .with_file(file(&settings.fullchain, Role::Fullchain, certificate.fullchain_pem().into(), settings.mode))
            .with_file(file(&settings.key, Role::Key, certificate.key_pem(), settings.key_mode));
        Ok(Deployment::Files(plan))
    }
}

impl DovecotTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: DovecotSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new()
            .with_validate(settings.validate.command().map(Validate::new))
            .with_shadow(settings.shadow.command())
            .with_reload(settings.reload.reload())
            .with_pid_files([settings.pid_file.clone()])
            .with_verify(verify)
    }
}

//! The description of a deployment: nothing here writes, starts or waits.

use std::path::PathBuf;

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, Hooks, Plan, PlanFile, Recovery, Role, Target, Verify,
};

use crate::Reloading;
use crate::config::ReloadingSettings;

/// One server.
#[derive(Debug)]
pub(crate) struct ReloadingTarget {
    name: String,
    settings: ReloadingSettings,
}

#[async_trait]
impl Target for ReloadingTarget {
    fn capabilities(&self) -> Capabilities {
        Reloading::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        vec![self.settings.fullchain.clone(), self.settings.key.clone()]
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        let plan = Plan::new(&self.name)
            .with_certificate(certificate)
            .with_hooks(self.hooks())
            .with_file(PlanFile::new(&self.settings.fullchain, Role::Fullchain, certificate.fullchain_pem()))
            .with_file(PlanFile::new(&self.settings.key, Role::Key, certificate.key_pem()));
        Ok(Deployment::Files(plan))
    }
}

impl ReloadingTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: ReloadingSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new().with_reload(settings.reload.reload()).with_verify(verify)
    }
}

//! The description of a deployment to Caddy, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use deploy_core::command::Command;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, Hooks, Minimal, Plan, PlanFile, Recovery, Reload,
    Role, Target, Validate, Verify,
};

use crate::Caddy;
use crate::client::AdminReload;
use crate::config::{CaddySettings, default_reload};

/// Makes Caddy load the two files and nothing else. `caddy validate` binds no port.
const MINIMAL: &str = r#"{
	admin off
	auto_https off
}
https://localhost {
	tls "{staged:0}" "{staged:1}"
}
"#;

/// One Caddy.
#[derive(Debug)]
pub(crate) struct CaddyTarget {
    name: String,
    settings: CaddySettings,
}

#[async_trait]
impl Target for CaddyTarget {
    fn capabilities(&self) -> Capabilities {
        Caddy::CAPABILITIES
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

impl CaddyTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: CaddySettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new().with_validate(settings.validate.command().map(validate)).with_reload(self.reload()).with_verify(verify)
    }

    fn reload(&self) -> Option<Reload> {
        let settings = &self.settings;
        match (&settings.admin, &settings.reload) {
            (Some(admin), _) => Some(Reload::Call(Arc::new(AdminReload::new(admin.clone())))),
            (None, Some(reload)) => reload.reload(),
            (None, None) => default_reload().reload(),
        }
    }
}

/// The checker, with a minimal configuration where it is Caddy itself: what a script or a container runs, nobody knows.
fn validate(command: Command) -> Validate {
    let program = command.arguments.first().cloned().unwrap_or_default();
    let checker = Validate::new(command);
    if Path::new(&program).file_name().is_none_or(|name| name != "caddy") {
        return checker;
    }
    let arguments = ["validate", "--adapter", "caddyfile", "--config", "{configuration}"].map(Into::into);
    checker.with_minimal(Minimal::new(MINIMAL, Command::new(std::iter::once(program).chain(arguments))))
}

//! The description of a deployment to lighttpd, and nothing else.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use deploy_core::command::Command;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, Hooks, Minimal, Plan, PlanFile, Recovery, Role,
    Target, Validate, Verify,
};

use crate::Lighttpd;
use crate::config::LighttpdSettings;

/// Makes lighttpd load the two files and nothing else. `-tt` binds no port, so that the number stands for none.
const MINIMAL: &str = r#"server.modules = ("mod_openssl")
server.document-root = "{scratch}"
server.bind = "127.0.0.1"
server.port = 443
ssl.engine = "enable"
ssl.pemfile = "{staged:0}"
ssl.privkey = "{staged:1}"
"#;

/// One lighttpd.
#[derive(Debug)]
pub(crate) struct LighttpdTarget {
    name: String,
    settings: LighttpdSettings,
}

#[async_trait]
impl Target for LighttpdTarget {
    fn capabilities(&self) -> Capabilities {
        Lighttpd::CAPABILITIES
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

impl LighttpdTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: LighttpdSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new()
            .with_validate(settings.validate.command().map(validate))
            .with_reload(settings.reload.reload())
            .with_restart(settings.restart.command())
            .with_verify(verify)
    }
}

/// The checker, with a minimal configuration where it is lighttpd itself: what a script or a container runs, nobody knows.
fn validate(command: Command) -> Validate {
    let program = command.arguments.first().cloned().unwrap_or_default();
    let checker = Validate::new(command);
    if Path::new(&program).file_name().is_none_or(|name| name != "lighttpd") {
        return checker;
    }
    let arguments = [program, "-tt".into(), "-f".into(), "{configuration}".into()];
    checker.with_minimal(Minimal::new(MINIMAL, Command::new(arguments)))
}

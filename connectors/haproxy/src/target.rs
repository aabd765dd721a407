//! The description of a deployment to HAProxy, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use deploy_core::command::Command;
use deploy_core::settings::ReloadSetting;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, Hooks, Minimal, Plan, PlanFile, Recovery, Reload,
    Role, Target, Validate, Verify,
};

use crate::Haproxy;
use crate::client::{MasterReload, RuntimeUpdate};
use crate::config::{HaproxySettings, default_reload};

/// Makes HAProxy load the file and nothing else. `-c` binds no port, so that the number stands for none.
const MINIMAL: &str = "frontend certdeploy
    mode http
    timeout client 1s
    bind 127.0.0.1:443 ssl crt '{staged:0}'
";

/// One HAProxy, or several that serve one file.
#[derive(Debug)]
pub(crate) struct HaproxyTarget {
    name: String,
    settings: HaproxySettings,
}

#[async_trait]
impl Target for HaproxyTarget {
    fn capabilities(&self) -> Capabilities {
        Haproxy::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        vec![self.settings.combined.clone()]
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        let settings = &self.settings;
        let file = PlanFile::new(&settings.combined, Role::Combined, certificate.combined_pem())
            .with_owner(settings.owner.clone())
            .with_group(settings.group.clone())
            .with_mode(settings.mode);
        let plan = Plan::new(&self.name)
            .with_certificate(certificate)
            .with_hooks(self.hooks())
            .with_backups(settings.backups)
            .with_file(file);
        Ok(Deployment::Files(plan))
    }
}

impl HaproxyTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: HaproxySettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new()
            .with_validate(settings.validate.command().map(|command| self.validate(command)))
            .with_shadow(settings.shadow.command())
            .with_reload(self.reload())
            .with_verify(verify)
    }

    fn reload(&self) -> Option<Reload> {
        let settings = &self.settings;
        let master = settings.master_socket.clone().map(|socket| Reload::Call(Arc::new(MasterReload::new(socket))));
        let configured = master.or_else(|| settings.reload.as_ref().and_then(ReloadSetting::reload));
        if !settings.runtime.is_empty() {
            return Some(Reload::Call(Arc::new(RuntimeUpdate {
                sockets: settings.runtime.clone(),
                name: settings.runtime_name(),
                file: settings.combined.clone(),
                crt_list: settings.crt_list.clone(),
                otherwise: configured,
            })));
        }
        if settings.reload.is_none() { configured.or_else(|| default_reload().reload()) } else { configured }
    }

    /// The checker, with a minimal configuration where it is HAProxy itself (what a script or a container runs, nobody knows)
    /// and where the path can be quoted in it.
    fn validate(&self, command: Command) -> Validate {
        let program = command.arguments.first().cloned().unwrap_or_default();
        let checker = Validate::new(command);
        let is_haproxy = Path::new(&program).file_name().is_some_and(|name| name == "haproxy");
        if !is_haproxy || self.settings.combined.as_os_str().as_encoded_bytes().contains(&b'\'') {
            return checker;
        }
        let arguments = [program, "-c".into(), "-f".into(), "{configuration}".into()];
        checker.with_minimal(Minimal::new(MINIMAL, Command::new(arguments)))
    }
}

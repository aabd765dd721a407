//! The description of a deployment to Apache, and nothing else.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Hooks, Plan, PlanFile, Recovery, Role,
    Target, Validate, Verify,
};

use crate::Apache;
use crate::config::ApacheSettings;

/// Where the pid file is by default on Debian, RHEL and Alpine.
const PID_FILES: [&str; 3] = ["/run/apache2/apache2.pid", "/run/httpd/httpd.pid", "/run/apache2/httpd.pid"];

/// One Apache.
#[derive(Debug)]
pub(crate) struct ApacheTarget {
    name: String,
    settings: ApacheSettings,
}

#[async_trait]
impl Target for ApacheTarget {
    fn capabilities(&self) -> Capabilities {
        Apache::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        // A directory of generations is written by one target only, too.
        let directory = self.settings.layout.directory();
        directory.into_iter().chain(self.settings.files().map(|(_, path, _)| path)).map(Path::to_owned).collect()
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        self.plan(certificate).map(Deployment::Files)
    }
}

impl ApacheTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: ApacheSettings) -> Self {
        Self { name: name.to_owned(), settings }
    }

    fn plan(&self, certificate: &Certificate) -> Result<Plan, Error> {
        let settings = &self.settings;
        let plan = Plan::new(&self.name)
            .with_certificate(certificate)
            .with_hooks(self.hooks())
            .with_backups(settings.backups)
            .with_links(settings.links)
            .with_layout(settings.layout.clone())
            .with_unsafe_parent_allowed(settings.allow_unsafe_parent)
            .with_in_place_allowed(settings.allow_in_place);
        settings.files().try_fold(plan, |plan, (_, path, role)| {
            let file = match role {
                Role::Key => PlanFile::new(path, role, certificate.key_pem()).with_mode(settings.key_mode),
                Role::Chain => PlanFile::new(path, role, chain(certificate)?).with_mode(settings.mode),
                Role::Leaf => PlanFile::new(path, role, certificate.leaf_pem()).with_mode(settings.mode),
                _ => PlanFile::new(path, role, certificate.fullchain_pem()).with_mode(settings.mode),
            };
            Ok(plan.with_file(file.with_owner(settings.owner.clone()).with_group(settings.group.clone())))
        })
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let pid_files = match &settings.pid_file {
            Some(pid_file) => vec![pid_file.clone()],
            None => PID_FILES.map(PathBuf::from).into(),
        };
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new()
            .with_validate(settings.validate.command().map(Validate::new))
            .with_shadow(settings.shadow.command())
            .with_reload(settings.reload.reload())
            .with_pid_files(pid_files)
            .with_restart(settings.restart.command())
            .with_verify(verify)
    }
}

/// The intermediates. Apache does not start with an empty `SSLCertificateChainFile`.
fn chain(certificate: &Certificate) -> Result<Vec<u8>, Error> {
    let chain = certificate.chain_pem();
    if chain.is_empty() {
        let message = "the certificate comes without intermediates, and `chain` needs at least one";
        return Err(Error::new(ErrorKind::MaterialRejected, message).with_next_step(
            "write `fullchain` instead of `leaf` and `chain`, or add the intermediates to the source of the certificate",
        ));
    }
    Ok(chain)
}

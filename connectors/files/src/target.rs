//! The description of a deployment to a server that reads files, and nothing else.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Hooks, Plan, PlanFile, Recovery, Role,
    Target, Validate, Verify,
};

use crate::Files;
use crate::config::{DEFAULT_ORDER, FileContent, FileSetting, FilesSettings};

/// One server that reads files.
#[derive(Debug)]
pub(crate) struct FilesTarget {
    name: String,
    settings: FilesSettings,
}

#[async_trait]
impl Target for FilesTarget {
    fn capabilities(&self) -> Capabilities {
        Files::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        // A directory of generations is written by one target only, too.
        let directory = self.settings.layout.directory();
        directory.into_iter().chain(self.files().map(|file| file.path.as_path())).map(Path::to_owned).collect()
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        self.plan(certificate).map(Deployment::Files)
    }
}

impl FilesTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: FilesSettings) -> Self {
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
        self.files().try_fold(plan, |plan, file| Ok(plan.with_file(plan_file(file, certificate)?)))
    }

    /// The files in the order of switching: what is of use without the others first, what holds the key last.
    fn files(&self) -> impl Iterator<Item = &FileSetting> {
        let mut files: Vec<_> = self.settings.files.iter().collect();
        files.sort_by_key(|file| match file.content.role() {
            Role::Chain => 0,
            role if !role.holds_key() => 1,
            _ => 2,
        });
        files.into_iter()
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

fn plan_file(file: &FileSetting, certificate: &Certificate) -> Result<PlanFile, Error> {
    let bytes: SecretBytes = match file.content {
        FileContent::Leaf => certificate.leaf_pem().into(),
        FileContent::Chain => chain(file, certificate)?.into(),
        FileContent::Fullchain => certificate.fullchain_pem().into(),
        FileContent::Key => certificate.key_pem(),
        FileContent::Combined => certificate.combined_in_order(file.order.as_deref().unwrap_or(&DEFAULT_ORDER)),
    };
    Ok(PlanFile::new(&file.path, file.content.role(), bytes)
        .with_owner(file.owner.clone())
        .with_group(file.group.clone())
        .with_mode(file.mode))
}

/// The intermediates. A file without any would be empty, which most servers refuse.
fn chain(file: &FileSetting, certificate: &Certificate) -> Result<Vec<u8>, Error> {
    let chain = certificate.chain_pem();
    if chain.is_empty() {
        let message = format!("the certificate comes without intermediates, and `{}` is for them", file.path.display());
        return Err(Error::new(ErrorKind::MaterialRejected, message).with_next_step(
            "remove the file with `content = \"chain\"` from the target, or add the intermediates to the source of the certificate",
        ));
    }
    Ok(chain)
}

#[cfg(test)]
mod tests;

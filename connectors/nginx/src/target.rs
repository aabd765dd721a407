//! The description of a deployment to nginx, and nothing else.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use deploy_core::command::Command;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Hooks, Minimal, Plan, PlanFile, Recovery,
    Role, Target, Validate, Verify,
};

use crate::Nginx;
use crate::config::NginxSettings;

/// One nginx.
#[derive(Debug)]
pub(crate) struct NginxTarget {
    name: String,
    settings: NginxSettings,
}

#[async_trait]
impl Target for NginxTarget {
    fn capabilities(&self) -> Capabilities {
        Nginx::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        // A directory of generations is written by one target only, too.
        let directory = self.settings.layout.directory();
        directory.into_iter().chain(self.files().into_iter().map(|(path, _)| path)).map(Path::to_owned).collect()
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        self.plan(certificate).map(Deployment::Files)
    }
}

impl NginxTarget {
    /// A target of settings that were checked.
    pub(crate) fn new(name: &str, settings: NginxSettings) -> Self {
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
        self.files().into_iter().try_fold(plan, |plan, (path, role)| {
            let file = match role {
                Role::Key => PlanFile::new(path, role, certificate.key_pem()).with_mode(settings.key_mode),
                Role::Chain => PlanFile::new(path, role, chain(certificate)?).with_mode(settings.mode),
                _ => PlanFile::new(path, role, certificate.fullchain_pem()).with_mode(settings.mode),
            };
            Ok(plan.with_file(file.with_owner(settings.owner.clone()).with_group(settings.group.clone())))
        })
    }

    /// The files in the order of switching: what is of use without the others first, the key last.
    fn files(&self) -> Vec<(&Path, Role)> {
        let settings = &self.settings;
        let chain = settings.trusted_chain.as_deref().map(|path| (path, Role::Chain));
        chain.into_iter().chain([(settings.fullchain.as_path(), Role::Fullchain), (settings.key.as_path(), Role::Key)]).collect()
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new()
            .with_validate(settings.validate.command().map(|command| self.validate(command)))
            .with_shadow(settings.shadow.command())
            .with_reload(settings.reload.reload())
            .with_restart(settings.restart.as_ref().and_then(|restart| restart.command()))
            .with_verify(verify)
    }

    fn validate(&self, command: Command) -> Validate {
        let minimal = minimal(&command, &self.files());
        let validate = Validate::new(command);
        match minimal {
            Some(minimal) => validate.with_minimal(minimal),
            None => validate,
        }
    }
}

/// The intermediates. nginx refuses an empty `ssl_trusted_certificate`.
fn chain(certificate: &Certificate) -> Result<Vec<u8>, Error> {
    let chain = certificate.chain_pem();
    if chain.is_empty() {
        let message = "the certificate comes without intermediates, and `trusted_chain` needs at least one";
        return Err(Error::new(ErrorKind::MaterialRejected, message).with_next_step(
            "remove `trusted_chain` from the target, or add the intermediates to the source of the certificate",
        ));
    }
    Ok(chain)
}

/// A configuration that loads the staged files and nothing else, for the program that the validator runs; `None` where
/// that is a wrapper whose file system may be another one, or where a path cannot be written in a configuration.
fn minimal(validate: &Command, files: &[(&Path, Role)]) -> Option<Minimal> {
    let program = validate.arguments.first()?;
    if !is_nginx(program) || !files.iter().all(|(path, _)| is_quotable(path)) {
        return None;
    }
    let directives: String = files
        .iter()
        .enumerate()
        .map(|(index, (_, role))| {
            let directive = match role {
                Role::Key => "ssl_certificate_key",
                Role::Chain => "ssl_trusted_certificate",
                _ => "ssl_certificate",
            };
            format!("        {directive} \"{{staged:{index}}}\";\n")
        })
        .collect();
    // Everything that nginx creates while it checks goes to the scratch directory, which is also its working directory: the
    // path of a socket may have 107 bytes only (unix(7)). The log is set here and not by `-e`,
    // which nginx has only since 1.19.5 (CHANGES of nginx).
    let configuration = format!(
        r#"error_log stderr;
pid "{{scratch}}/nginx.pid";
events {{}}
http {{
    access_log off;
    client_body_temp_path "{{scratch}}/client_body";
    proxy_temp_path "{{scratch}}/proxy";
    fastcgi_temp_path "{{scratch}}/fastcgi";
    uwsgi_temp_path "{{scratch}}/uwsgi";
    scgi_temp_path "{{scratch}}/scgi";
    server {{
        listen unix:nginx.sock ssl;
{directives}    }}
}}
"#
    );
    let mut command = validate.clone();
    command.arguments =
        [program.as_os_str(), "-t".as_ref(), "-c".as_ref(), "{configuration}".as_ref(), "-p".as_ref(), "{scratch}".as_ref()]
            .map(OsString::from)
            .into();
    Some(Minimal::new(configuration, command))
}

fn is_nginx(program: &OsStr) -> bool {
    Path::new(program).file_name().is_some_and(|name| ["nginx", "openresty", "angie"].iter().any(|known| name == *known))
}

/// Whether nginx takes a quoted path literally: a dollar sign would begin a variable, and then nothing is loaded.
fn is_quotable(path: &Path) -> bool {
    path.as_os_str().as_encoded_bytes().iter().all(|byte| !matches!(byte, b'"' | b'\\' | b'$' | 0..=31))
}

#[cfg(test)]
mod tests;

//! The description of a deployment to Postfix, and nothing else.

use std::path::{Path, PathBuf};

use async_trait::async_trait;
use deploy_core::command::Command;
use deploy_core::host::FileKind;
use deploy_core::{
    Capabilities, Certificate, Connector as _, Context, Deployment, Error, ErrorKind, Hooks, Plan, PlanFile, Recovery, Reload,
    Role, SettingError, Target, Validate, Verify,
};

use crate::Postfix;
use crate::config::{Files, PostfixSettings, Table};

/// One Postfix.
#[derive(Debug)]
pub(crate) struct PostfixTarget {
    name: String,
    settings: PostfixSettings,
    files: Files,
    tables: Vec<Table>,
}

#[async_trait]
impl Target for PostfixTarget {
    fn capabilities(&self) -> Capabilities {
        Postfix::CAPABILITIES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        match &self.files {
            Files::Chain(path) => vec![path.clone()],
            Files::Pair(fullchain, key) => vec![fullchain.clone(), key.clone()],
        }
    }

    async fn prepare(&self, certificate: &Certificate, context: &Context) -> Result<Deployment, Error> {
        self.tables.iter().try_for_each(|table| check_closed(table, context))?;
        let settings = &self.settings;
        let file = |path: &Path, role, bytes, mode| {
            PlanFile::new(path, role, bytes).with_owner(settings.owner.clone()).with_group(settings.group.clone()).with_mode(mode)
        };
        let plan = Plan::new(&self.name).with_certificate(certificate).with_hooks(self.hooks()).with_backups(settings.backups);
        Ok(Deployment::Files(match &self.files {
            Files::Chain(path) => {
                plan.with_file(file(path, Role::Combined, certificate.combined_key_first_pem(), settings.key_mode))
            }
            Files::Pair(fullchain, key) => plan
                .with_file(file(fullchain, Role::Fullchain, certificate.fullchain_pem().into(), settings.mode))
                .with_file(file(key, Role::Key, certificate.key_pem(), settings.key_mode)),
        }))
    }
}

impl PostfixTarget {
    /// A target of these settings, which are checked.
    pub(crate) fn new(name: &str, settings: PostfixSettings) -> Result<Self, SettingError> {
        settings.check()?;
        Ok(Self { name: name.to_owned(), files: settings.files()?, tables: settings.tables()?, settings })
    }

    fn hooks(&self) -> Hooks {
        let settings = &self.settings;
        let index = |table: &Table| Reload::Command(Command::new(["postmap", "-F", &table.name]));
        let steps: Vec<Reload> = self.tables.iter().map(index).chain(settings.reload.reload()).collect();
        let reload = (!steps.is_empty()).then_some(Reload::Steps(steps));
        let verify = Verify::from_setting(settings.verify.clone()).with_timeout(settings.verify_timeout.duration());
        Hooks::new().with_validate(settings.validate.command().map(Validate::new)).with_reload(reload).with_verify(verify)
    }
}

/// `postmap` gives a new index the mode of its table and leaves that of an old one, and the index holds keys.
fn check_closed(table: &Table, context: &Context) -> Result<(), Error> {
    let invalid = |message| Error::new(ErrorKind::PlanInvalid, message);
    for path in [&table.path, &table.index] {
        let status = context.host().path_status(path.as_ref());
        let status = status.map_err(|error| invalid(format!("{path} cannot be looked at")).with_source(error))?;
        match status {
            Some(status) if status.kind == FileKind::Symlink => {
                return Err(invalid(format!("{path} is a symbolic link")).with_next_step("name the file itself in `sni_maps`"));
            }
            Some(status) if status.mode & 0o007 != 0 => {
                let message = format!("{path} is open to every user, and the index of this table holds private keys");
                return Err(invalid(message).with_next_step(format!("chmod 0600 {path}")));
            }
            None if path == &table.path => {
                let message = format!("the table {} does not exist", table.name);
                return Err(invalid(message).with_next_step("write it, or correct `sni_maps`"));
            }
            _ => {}
        }
    }
    Ok(())
}

//! A connector of files to the kit's own TLS server, right or with one defect, and its world.

use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Mode};
use deploy_core::{
    Capabilities, Certificate, Connector, Context, Deployment, Error, Hooks, Plan, PlanFile, Recovery, Reload, Role,
    SettingError, Target, Verify,
};
use deploy_testkit::conformance::{Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{ReloadingServer, ScriptedCommand, observe};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is wrong with the connector.
pub(crate) mod defect {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const LEAF_ONLY: u8 = 1;
    pub(crate) const CLAIMS_HOT_UPDATE: u8 = 2;
    pub(crate) const OPEN_KEY: u8 = 3;
    pub(crate) const NO_RELOAD: u8 = 4;
    pub(crate) const NOBODY_LOOKS: u8 = 5;
    pub(crate) const OTHER_CAPABILITIES: u8 = 6;
    pub(crate) const HIDES_DESTINATIONS: u8 = 7;
    pub(crate) const WRITES_IN_PREPARE: u8 = 8;
    pub(crate) const TAKES_ANY_SETTING: u8 = 9;
    pub(crate) const KEY_IN_ARGUMENTS: u8 = 10;
    pub(crate) const CHANGES_EVERY_TIME: u8 = 11;
    pub(crate) const CLAIMS_A_CHECKER: u8 = 12;
}

/// The kind `plain`.
#[derive(Debug)]
pub(crate) struct Plain<const DEFECT: u8>;

#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub(crate) struct PlainSettings {
    fullchain: PathBuf,
    key: PathBuf,
    reload: CommandSetting,
    verify: Option<Vec<Endpoint>>,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, serde_json::Value>,
}

impl<const DEFECT: u8> Connector for Plain<DEFECT> {
    const KIND: &'static str = "plain";
    const SUMMARY: &'static str = "a TLS server that reads its files at SIGHUP";
    const CAPABILITIES: Capabilities = match DEFECT {
        defect::CLAIMS_HOT_UPDATE => Capabilities::FILES.with_hot_update(),
        defect::CLAIMS_A_CHECKER => Capabilities::FILES.with_staged_validation(),
        _ => Capabilities::FILES,
    };
    type Settings = PlainSettings;

    fn build(name: &str, settings: PlainSettings) -> Result<Box<dyn Target>, SettingError> {
        match settings.others.keys().next() {
            Some(unknown) if DEFECT != defect::TAKES_ANY_SETTING => Err(SettingError::new(unknown, "there is no such setting")),
            _ => Ok(Box::new(PlainTarget::<DEFECT> { name: name.to_owned(), settings })),
        }
    }
}

#[derive(Debug)]
struct PlainTarget<const DEFECT: u8> {
    name: String,
    settings: PlainSettings,
}

impl<const DEFECT: u8> PlainTarget<DEFECT> {
    fn hooks(&self) -> Hooks {
        let verify = self.settings.verify.clone().filter(|_| DEFECT != defect::NOBODY_LOOKS).unwrap_or_default();
        let verify = Verify::from_setting(Some(verify)).with_timeout(Duration::from_secs(2));
        let reload = self.settings.reload.command().filter(|_| DEFECT != defect::NO_RELOAD);
        Hooks::new().with_reload(reload.map(Reload::Command)).with_verify(verify)
    }
}

#[async_trait]
impl<const DEFECT: u8> Target for PlainTarget<DEFECT> {
    fn capabilities(&self) -> Capabilities {
        if DEFECT == defect::OTHER_CAPABILITIES { Capabilities::NONE } else { Plain::<DEFECT>::CAPABILITIES }
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks())
    }

    fn destinations(&self) -> Vec<PathBuf> {
        if DEFECT == defect::HIDES_DESTINATIONS {
            return Vec::new();
        }
        vec![self.settings.fullchain.clone(), self.settings.key.clone()]
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        if DEFECT == defect::WRITES_IN_PREPARE {
            std::fs::write(self.settings.key.with_extension("prepared"), "").unwrap();
        }
        let mut fullchain = if DEFECT == defect::LEAF_ONLY { certificate.leaf_pem() } else { certificate.fullchain_pem() };
        if DEFECT == defect::CHANGES_EVERY_TIME {
            fullchain.extend(format!("# {:?}\n", std::time::Instant::now()).into_bytes());
        }
        let mut key = PlanFile::new(&self.settings.key, Role::Key, certificate.key_pem());
        if DEFECT == defect::OPEN_KEY {
            key = PlanFile::new(&self.settings.key, Role::Opaque, certificate.key_pem()).with_mode(Some(Mode::new(0o644)));
        }
        let mut hooks = self.hooks();
        if let Some(Reload::Command(command)) = hooks.reload.as_mut().filter(|_| DEFECT == defect::KEY_IN_ARGUMENTS) {
            command.arguments.push(String::from_utf8_lossy(certificate.key_pem().expose()).into_owned().into());
        }
        let plan = Plan::new(&self.name)
            .with_file(PlanFile::new(&self.settings.fullchain, Role::Fullchain, fullchain))
            .with_file(key)
            .with_certificate(certificate)
            .with_hooks(hooks);
        Ok(Deployment::Files(plan))
    }
}

/// A server that waits for its first files.
pub(crate) struct PlainWorld<const DEFECT: u8> {
    server: ReloadingServer,
    reload: ScriptedCommand,
    tls: PathBuf,
}

impl<const DEFECT: u8> Harness for PlainWorld<DEFECT> {
    type Connector = Plain<DEFECT>;

    const FAULTS: &'static [Fault] = &[Fault::ReloadFails, Fault::ReloadAlwaysFails, Fault::ReloadHangs, Fault::Ignored];

    fn start(directory: &Path) -> Result<Self, String> {
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| error.to_string())?;
        let server = ReloadingServer::start(directory, &tls.join("www.crt"), &tls.join("www.key"))?;
        let reload = ScriptedCommand::new(directory, "reload", &server.reload_command());
        Ok(Self { server, reload, tls })
    }

    fn settings(&self) -> PlainSettings {
        PlainSettings {
            fullchain: self.tls.join("www.crt"),
            key: self.tls.join("www.key"),
            reload: CommandSetting::Arguments(self.reload.command()),
            verify: Some(vec![Endpoint::new(self.server.address().to_string()).with_server_name(NAME)]),
            others: std::collections::BTreeMap::new(),
        }
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.server.address(), Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(&self.tls).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        assert!(self.reload.break_reload(fault), "{fault:?} is not one of FAULTS");
    }

    fn heal(&mut self) {
        self.reload.heal();
    }
}

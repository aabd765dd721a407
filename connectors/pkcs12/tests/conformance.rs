//! The conformance suite, with a server whose reload turns the store into PEM.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_pkcs12::{Pkcs12, Pkcs12Settings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Order, ReloadingServer, ScriptedCommand, observe};

const PASSWORD: &str = "the password of a store";

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A server for two files of its own, a command that makes them of the store and has it read them, and a checker that is
/// content with everything.
struct World {
    server: ReloadingServer,
    validate: ScriptedCommand,
    reload: ScriptedCommand,
    own: PathBuf,
    password: PathBuf,
    store: PathBuf,
}

impl Harness for World {
    type Connector = Pkcs12;

    const FAULTS: &'static [Fault] =
        &[Fault::CheckerHangs, Fault::ReloadFails, Fault::ReloadAlwaysFails, Fault::ReloadHangs, Fault::Ignored];

    fn start(directory: &Path) -> Result<Self, String> {
        let [store, own, password] = ["tls/www.p12", "own", "password"].map(|name| directory.join(name));
        for made in [&directory.join("tls"), &own] {
            std::fs::create_dir(made).map_err(|error| format!("{}: {error}", made.display()))?;
        }
        write_password(&password)?;
        let server = ReloadingServer::start(directory, &own.join("crt"), &own.join("key"))?;
        // The server takes no pair that it cannot use, and no more does it notice that the store is gone.
        let read = format!("openssl pkcs12 -in {} -passin file:{} -nodes", store.display(), password.display());
        let script = format!(
            "umask 077; test ! -e {store} || {{ {read} -nokeys >{own}/crt && {read} -nocerts >{own}/key; }} && {hup}",
            store = store.display(),
            own = own.display(),
            hup = server.reload_command()[2],
        );
        let validate = ScriptedCommand::new(directory, "validate", &["true".to_owned()]);
        let reload = ScriptedCommand::new(directory, "reload", &["sh".to_owned(), "-c".to_owned(), script]);
        Ok(Self { server, validate, reload, own, password, store })
    }

    fn settings(&self) -> Pkcs12Settings {
        let mut settings = Pkcs12Settings::new(&self.store, SecretRef::File(self.password.clone()));
        settings.validate = CommandSetting::Arguments(self.validate.command());
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.verify = Some(vec![Endpoint::new(self.server.address().to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(2));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.server.address(), Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(self.store.parent().unwrap_or(&self.store)).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        match fault {
            Fault::CheckerHangs => self.validate.order(Order::Hang),
            other => assert!(self.reload.break_reload(other), "{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.validate.heal();
        self.reload.heal();
    }

    fn left_out(case: &str) -> Option<&'static str> {
        (case == "deployment::drift_of_bytes_is_repaired")
            .then_some("a file that is written anew has other bytes; tests/deployments.rs compares what is in it")
    }

    fn keeps_keys_in(&self) -> Vec<PathBuf> {
        vec![self.own.clone()]
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        vec![(PASSWORD.to_owned(), self.password.clone())]
    }
}

/// Readable by its owner alone, as a secret has to be.
fn write_password(path: &Path) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt as _;
    let written =
        std::fs::write(path, PASSWORD).and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)));
    written.map_err(|error| format!("{}: {error}", path.display()))
}

//! The conformance suite for the kind `ssh`, over a real SSH server, with a server that reads two files when it is told.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use deploy_core::host::Host;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_files::{FileContent, FileSetting, FilesSettings, RemoteFiles};
use deploy_ssh::Ssh;
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::tree::Tree;
use deploy_testkit::{ReloadingServer, ScriptedCommand, Sshd, observe};

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A server for two files, a command that has it read them, and the way there.
struct World {
    server: ReloadingServer,
    reload: ScriptedCommand,
    tls: PathBuf,
    _sshd: Sshd,
}

impl World {
    /// What `via` says, in a directory that the world's tree is not of.
    const VIA: &str = "via.json";

    fn files(tls: &Path) -> [PathBuf; 2] {
        ["www.crt", "www.key"].map(|name| tls.join(name))
    }
}

impl Harness for World {
    type Connector = RemoteFiles;

    // Without private views the checker first sees the new files in place: see tests/deployments.rs.
    const FAULTS: &'static [Fault] = &[Fault::ReloadFails, Fault::ReloadAlwaysFails, Fault::ReloadHangs, Fault::Ignored];

    fn left_out(case: &str) -> Option<&'static str> {
        let kept = ["material::rsa_2048", "material::mismatch", "material::long_chain"].contains(&case);
        (case.starts_with("material::") && !kept).then_some("material is judged before the host is asked, and tried with `files`")
    }

    fn start(directory: &Path) -> Result<Self, String> {
        let sshd = Sshd::start(&directory.join("sshd"))?;
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| format!("{}: {error}", tls.display()))?;
        std::fs::write(directory.join(Self::VIA), sshd.settings().to_string()).map_err(|error| error.to_string())?;
        let [fullchain, key] = Self::files(&tls);
        let server = ReloadingServer::start(directory, &fullchain, &key)?;
        let reload = ScriptedCommand::new(directory, "reload", &server.reload_command());
        Ok(Self { server, reload, tls, _sshd: sshd })
    }

    fn host(directory: &Path) -> Option<Arc<dyn Host>> {
        let via = std::fs::read_to_string(directory.join(Self::VIA)).ok()?;
        Some(Arc::new(Ssh::new(serde_json::from_str(&via).ok()?)))
    }

    fn settings(&self) -> FilesSettings {
        let [fullchain, key] = Self::files(&self.tls);
        let mut settings =
            FilesSettings::new([FileSetting::new(key, FileContent::Key), FileSetting::new(fullchain, FileContent::Fullchain)]);
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.verify = Some(vec![Endpoint::new(self.server.address().to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(3));
        settings
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

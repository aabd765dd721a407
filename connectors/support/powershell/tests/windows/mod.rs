//! A stand-in for a Windows host: WinRM with a remote shell, a certificate store, IIS and http.sys as far as the scripts of this
//! project reach, and a listener that serves what http.sys would. Built from Microsoft's documents; no Windows was seen.
//!
//! It does not interpret PowerShell. It knows the scripts by their whole text, and does what they say to a state of its own.
#![allow(
    dead_code,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "each test binary that includes this uses a part of it"
)]

mod host;
mod scripts;
mod soap;

pub use host::{Binding, Host, Serves, Stored, Switch, mapping_name, thumbprint};
pub use soap::{fault_answer, quota_fault};

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use deploy_powershell::WinrmSettings;
use deploy_testkit::stand_in::StandIn;
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Request, TlsServer, observe};

/// The account, and its password.
pub const USER: &str = "deployer";
pub const PASSWORD: &str = "Passwort-mit-36-Zeichen-0123456789ab";

/// A host that runs.
pub struct Windows {
    pub winrm: StandIn<Host>,
    /// Where http.sys listens, or whatever uses certificates here.
    pub address: SocketAddr,
    directory: PathBuf,
}

impl Windows {
    /// Starts one; the files of a client go into the directory.
    pub fn start(directory: &Path, host: Host) -> Self {
        let authority = Authority::new();
        let issued = authority.issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
        private_file(&directory.join("password"), PASSWORD);
        private_file(&directory.join("ca.pem"), &authority.root_pem());
        let listener = TlsServer::builder().start();
        let address = listener.address();
        let mut host = host;
        host.serve_on(listener, directory);
        let winrm = StandIn::start(&issued, host, soap::answer);
        Self { winrm, address, directory: directory.to_owned() }
    }

    pub fn password_file(&self) -> PathBuf {
        self.directory.join("password")
    }

    pub fn ca_file(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// How a connector reaches it.
    pub fn settings(&self) -> WinrmSettings {
        let password = format!("file:{}", self.password_file().display()).parse().unwrap();
        let mut settings = WinrmSettings::new("127.0.0.1", USER, password);
        settings.port = self.winrm.address().port();
        settings.ca_file = Some(self.ca_file());
        settings
    }

    /// Runs what came over another way than WinRM: a command line, and its standard input.
    pub fn run(&self, line: &str, stdin: &[u8]) -> (i32, Vec<u8>) {
        self.with(|host| scripts::run_whole(line, stdin, host))
    }

    pub fn served(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.address, Some(name)).ok()
    }

    /// Everything on the host that a deployment may change. Issuers are left out: they are added to the store `CA`, and stay.
    pub fn state(&self) -> Tree {
        self.winrm.with_state(|host| Tree::of_objects(host.objects()))
    }

    pub fn with<T>(&self, work: impl FnOnce(&mut Host) -> T) -> T {
        self.winrm.with_state(|host| {
            let result = work(host);
            host.serve();
            result
        })
    }
}

fn private_file(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

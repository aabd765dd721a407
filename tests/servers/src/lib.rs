//! What the tests of slow servers share: a directory, a target as it stands on a page of the book, and deployments to it.
//!
//! `cargo xtask test --servers all` installs the servers and runs these tests. By themselves they are ignored.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a world that cannot be set up ends the test, and worlds write files and start servers"
)]

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Entry, Job, Report, deploy};
use deploy_testkit::{Authority, Issued, Request, observe};
use rustix::process::{Pid, Signal, kill_process};
use rustls_pki_types::pem::PemObject as _;
use tempfile::TempDir;
use toml::Table;

/// The name that the pages of the book have certificates for.
pub const NAME: &str = "www.example.com";

/// A directory for one target and its server, which ends when the world is dropped.
#[derive(Debug)]
pub struct World {
    /// Everything is in here.
    pub root: TempDir,
    /// The settings of the target.
    pub settings: Table,
    /// What deployments run with.
    pub context: Context,
    /// What `openssl s_client` calls the protocol of a server that begins in plain text.
    pub starttls: Option<&'static str>,
    authority: Authority,
    server: Option<Child>,
}

impl World {
    /// An empty directory, which other users can enter.
    ///
    /// # Panics
    /// It cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let root = TempDir::new().unwrap();
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        Self { root, settings: Table::new(), context, starttls: None, authority: Authority::new(), server: None }
    }

    /// A path in the directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Writes a file, readable by its owner alone, and the directories that it is in.
    ///
    /// # Panics
    /// It cannot be written.
    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// Takes the settings of a target from a configuration.
    ///
    /// # Panics
    /// There is no target in it.
    pub fn set_target(&mut self, configuration: &str) {
        let configuration: Table = toml::from_str(configuration).unwrap();
        self.settings = configuration["target"][0].as_table().unwrap().clone();
        for field in ["name", "kind", "certificate"] {
            self.settings.remove(field).unwrap();
        }
    }

    /// Sets settings, or replaces them.
    ///
    /// # Panics
    /// They are not TOML.
    pub fn set(&mut self, more: &str) {
        self.settings.extend(toml::from_str::<Table>(more).unwrap());
    }

    /// Another certificate.
    #[must_use]
    pub fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    /// Deploys with the settings as they are.
    ///
    /// # Panics
    /// The settings are refused.
    pub async fn deploy(&self, entry: &Entry, issued: &Issued) -> Report {
        let settings = serde_json::to_value(&self.settings).unwrap();
        let target = entry.build("front", settings).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        deploy(&[Job::new("front", "test", Arc::from(target), Arc::new(certificate))], &self.context).await.remove(0)
    }

    /// Starts the server, in place of one that runs. What it prints is in the file `log`.
    ///
    /// # Panics
    /// It cannot be started.
    pub fn start(&mut self, command: &mut Command) {
        self.stop();
        let log = fs::File::create(self.path("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().expect("the server is needed: `cargo xtask test --servers all` installs it"));
    }

    /// The fingerprint of what is served.
    #[must_use]
    pub fn served(&self, address: SocketAddr) -> Option<String> {
        match self.starttls {
            None => served(address),
            Some(protocol) => served_after(protocol, address),
        }
    }

    /// Asks the server to end, which removes what it has in shared memory, and ends it if it does not.
    fn stop(&mut self) {
        let Some(mut server) = self.server.take() else { return };
        // One that has ended by itself is not there any more.
        let _asked = kill_process(Pid::from_child(&server), Signal::TERM);
        let end = Instant::now() + Duration::from_secs(5);
        while Instant::now() < end && matches!(server.try_wait(), Ok(None)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        drop(server.kill());
        drop(server.wait());
    }

    /// Waits until the certificate is served.
    ///
    /// # Panics
    /// It is not within half a minute.
    pub fn await_served(&self, address: SocketAddr, issued: &Issued) {
        let end = Instant::now() + Duration::from_secs(30);
        while self.served(address).as_ref() != Some(&issued.fingerprint) {
            let log = || fs::read_to_string(self.path("log")).unwrap_or_default();
            assert!(Instant::now() < end, "the server does not serve what was deployed: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Waits until somebody listens.
///
/// # Panics
/// Nobody does within half a minute.
pub fn await_listener(address: SocketAddr) {
    let end = Instant::now() + Duration::from_secs(30);
    while TcpStream::connect(address).is_err() {
        assert!(Instant::now() < end, "nobody listens on {address}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The fingerprint of what is served.
#[must_use]
pub fn served(address: SocketAddr) -> Option<String> {
    observe::served_fingerprint(address, Some(NAME)).ok()
}

/// The same after STARTTLS, seen by OpenSSL, whose exit status says whether the handshake was completed.
fn served_after(protocol: &str, address: SocketAddr) -> Option<String> {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-connect", &address.to_string(), "-servername", NAME, "-starttls", protocol]);
    let seen = client.stdin(Stdio::null()).stderr(Stdio::null()).output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8(seen.stdout).ok()?;
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let pem = text.get(text.find(begin)?..text.find(end)? + end.len())?.to_owned() + "\n";
    let leaf = rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).ok()?;
    Some(deploy_testkit::pki::fingerprint(&leaf))
}

/// The code block in this language, with this word behind it, of a page of the book.
///
/// # Panics
/// There is none.
#[must_use]
pub fn block(page: &str, language: &str, word: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = fs::read_to_string(&path).unwrap();
    let opening = format!("```{language} {word}\n");
    let (_, rest) = text.split_once(&opening).unwrap_or_else(|| panic!("{page} has no {language} of {word}"));
    rest.split("```").next().unwrap().to_owned()
}

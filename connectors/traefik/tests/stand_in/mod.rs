//! A stand-in for Traefik, by the rules of its documentation and its source: Traefik itself is no package of Debian, and was not
//! tried.
//!
//! - It watches the dynamic configuration: what takes its place by a rename, or is written to it, is read anew. The certificate
//!   files are read then, and at no other time.
//! - What stands for a file and does not exist is taken for PEM. A pair that cannot be used is left out, and its names get the
//!   default certificate: the old one is not kept.
//! - A dynamic configuration that cannot be parsed changes nothing.
#![allow(dead_code, clippy::disallowed_methods, clippy::expect_used, reason = "each test uses a part of it, and it is a server")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use deploy_core::Certificate;
use deploy_core::secret::SecretBytes;
use deploy_testkit::stand_in::{Answer, StandIn};
use deploy_testkit::{Authority, Issued, Request, TlsServer, observe};
use serde_json::json;

/// How often it looks; a Traefik is told by the kernel.
const LOOKS_EVERY: Duration = Duration::from_millis(5);

/// A Traefik that runs, with a default certificate of its own. It stops when it is dropped.
pub(crate) struct StandInTraefik {
    pub(crate) fullchain: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) dynamic: PathBuf,
    api: StandIn<Loaded>,
    shared: Arc<Shared>,
    watcher: Option<JoinHandle<()>>,
}

/// The fingerprints that the API shows.
type Loaded = Arc<Mutex<Vec<String>>>;

struct Shared {
    server: TlsServer,
    default: Issued,
    another: Issued,
    loaded: Loaded,
    rebuilds: AtomicUsize,
    /// It does not notice anything.
    deaf: AtomicBool,
    stop: AtomicBool,
}

impl StandInTraefik {
    /// Starts it with a dynamic configuration in `directory/dynamic`, which names two files in `directory/tls` that do not exist.
    pub(crate) fn start(directory: &Path) -> Result<Self, String> {
        let [tls, watched] = ["tls", "dynamic"].map(|name| directory.join(name));
        for directory in [&tls, &watched] {
            fs::create_dir(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        }
        let (fullchain, key, dynamic) = (tls.join("www.crt"), tls.join("www.key"), watched.join("tls.toml"));
        let text = format!("# The operator's.\n[[tls.certificates]]\ncertFile = {fullchain:?}\nkeyFile = {key:?}\n");
        fs::write(&dynamic, text).map_err(|error| format!("{}: {error}", dynamic.display()))?;
        let authority = Authority::new();
        let default = authority.issue(&Request::new(&["traefik.default"]));
        let loaded = Loaded::default();
        let shared = Arc::new(Shared {
            server: TlsServer::start(&default),
            another: authority.issue(&Request::new(&["another.test"])),
            default,
            loaded: Arc::clone(&loaded),
            rebuilds: AtomicUsize::new(0),
            deaf: AtomicBool::new(false),
            stop: AtomicBool::new(false),
        });
        let api = StandIn::start_plain(loaded, |request, loaded| {
            let Some(id) = request.path.strip_prefix("/api/certificates/") else { return Answer::new(404) };
            if loaded.lock().expect("the list").iter().any(|known| known == id) {
                Answer::new(200).with_json(&json!({ "name": id, "certFingerprint": id }))
            } else {
                Answer::new(404).with_json(&json!({ "message": format!("certificate not found: {id}") }))
            }
        });
        let watcher = {
            let (shared, dynamic, told) = (Arc::clone(&shared), dynamic.clone(), directory.join("told"));
            std::thread::spawn(move || shared.watch(&dynamic, &told))
        };
        Ok(Self { fullchain, key, dynamic, api, shared, watcher: Some(watcher) })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.shared.server.address()
    }

    pub(crate) fn api_url(&self) -> String {
        self.api.url()
    }

    /// What it serves, unless that is its own default certificate.
    pub(crate) fn served_chain(&self, name: &str) -> Option<Vec<Vec<u8>>> {
        let default = observe::served_fingerprint(self.address(), Some(name)).ok()? == self.shared.default.fingerprint;
        if default { None } else { observe::served_chain(self.address(), Some(name)).ok() }
    }

    /// The fingerprint of what it serves.
    pub(crate) fn served(&self, name: &str) -> Option<String> {
        observe::served_fingerprint(self.address(), Some(name)).ok()
    }

    /// The fingerprint of its own default certificate.
    pub(crate) fn default_certificate(&self) -> String {
        self.shared.default.fingerprint.clone()
    }

    /// How often it has read everything anew.
    pub(crate) fn rebuilds(&self) -> usize {
        self.shared.rebuilds.load(Ordering::SeqCst)
    }

    /// Whether it notices nothing from now on.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.shared.deaf.store(deaf, Ordering::SeqCst);
    }
}

impl Drop for StandInTraefik {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::SeqCst);
        if let Some(watcher) = self.watcher.take() {
            drop(watcher.join());
        }
    }
}

impl Shared {
    /// Until it is stopped. A file `told` has it serve another certificate until the next rebuild, and is gone when it does.
    fn watch(&self, dynamic: &Path, told: &Path) {
        let mut seen = None;
        while !self.stop.load(Ordering::SeqCst) {
            // What is told last is looked at first: what came before it is there then.
            let (is_told, now) = (told.exists(), state(dynamic));
            if now != seen && !self.deaf.load(Ordering::SeqCst) {
                seen = now;
                self.rebuild(dynamic);
            }
            if is_told {
                self.server.set_certificate(&self.another);
                fs::remove_file(told).expect("it was there");
            }
            std::thread::sleep(LOOKS_EVERY);
        }
    }

    fn rebuild(&self, dynamic: &Path) {
        let Ok(text) = fs::read_to_string(dynamic) else { return };
        let Ok(configuration) = text.parse::<toml::Table>() else { return };
        let entries = configuration.get("tls").and_then(|tls| tls.get("certificates")).and_then(toml::Value::as_array);
        let mut fingerprints = Vec::new();
        let mut serving = false;
        for entry in entries.into_iter().flatten() {
            let [fullchain, key] = ["certFile", "keyFile"].map(|field| content(entry.get(field)));
            let Ok(certificate) = Certificate::from_pem(fullchain.as_bytes(), &SecretBytes::from(key.as_bytes())) else {
                continue;
            };
            if self.server.set_pem(&fullchain, &key).is_ok() {
                fingerprints.push(certificate.fingerprint().to_owned());
                serving = true;
            }
        }
        if !serving {
            self.server.set_certificate(&self.default);
        }
        *self.loaded.lock().expect("the list") = fingerprints;
        self.rebuilds.fetch_add(1, Ordering::SeqCst);
    }
}

/// Of a file, or else the text itself.
fn content(value: Option<&toml::Value>) -> String {
    let text = value.and_then(toml::Value::as_str).unwrap_or_default();
    fs::read_to_string(text).unwrap_or_else(|_| text.to_owned())
}

/// By what a change is noticed.
fn state(path: &Path) -> Option<(u64, i64, i64, u64)> {
    let status = fs::metadata(path).ok()?;
    Some((status.ino(), status.mtime(), status.mtime_nsec(), status.size()))
}

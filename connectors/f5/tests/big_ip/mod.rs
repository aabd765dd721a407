//! A stand-in for a BIG-IP: its iControl REST, and virtual servers that serve what its client-ssl profiles have.
//!
//! It is built from what F5 documents and what devices were seen to answer, and refuses what they refuse: unknown and expired tokens,
//! uploads without the role, wrong and overlapping ranges, unknown partitions, second objects of one name, pairs that do not match,
//! objects that are in use, empty transactions, and those that are over. Where F5 does not say what is refused, it refuses more.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "each test uses a part of it, and a fixture that cannot be set up ends the test"
)]

mod api;
pub(crate) mod config;
pub(crate) mod device;
mod refusal;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use deploy_testkit::stand_in::StandIn;
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Issued, Request, TlsServer, observe};
use serde_json::{Map, Value, json};

use self::config::Config;
use self::device::{Device, User};

/// Who may do everything, and who may not upload.
pub(crate) const ADMINISTRATOR: &str = "certdeploy";
pub(crate) const OPERATOR: &str = "operator";
pub(crate) const PASSWORD: &str = "canary-of-the-password";

/// One BIG-IP with the profiles `/Common/www`, `/Common/api` (client-ssl) and `/Common/backend` (server-ssl), the partition `Shop`,
/// and objects of others. What a profile has before anything is deployed is the pair of the factory.
pub(crate) struct BigIp {
    stand_in: StandIn<Device>,
    factory: Issued,
    /// The authorities of its API, and the password.
    pub(crate) ca_file: PathBuf,
    pub(crate) password_file: PathBuf,
}

impl BigIp {
    pub(crate) fn start(directory: &Path) -> Self {
        let authority = Authority::new();
        let certificate = authority.issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
        let factory = Authority::new().issue(&Request::new(&["localhost.localdomain"]));
        let other = Authority::new().issue(&Request::new(&["other.example.test"]));
        let (ca_file, password_file) = (directory.join("ca.pem"), directory.join("password"));
        std::fs::write(&ca_file, authority.root_pem()).unwrap();
        private_file(&password_file, PASSWORD);
        let big_ip = Self { stand_in: StandIn::start(&certificate, Device::new(), api::answer), factory, ca_file, password_file };
        for (name, is_administrator) in [(ADMINISTRATOR, true), (OPERATOR, false)] {
            let user = User { password: PASSWORD.to_owned(), is_administrator };
            big_ip.with(|device| device.users.insert(name.to_owned(), user));
        }
        big_ip.with(|device| device.config.partitions.extend(["Common".to_owned(), "Shop".to_owned()]));
        big_ip.put("Common", "default", &big_ip.factory);
        big_ip.put("Common", "others", &other);
        // That of another target, whose name begins like ours.
        let digest = "0".repeat(64);
        big_ip.put("Common", &format!("certdeploy-front-2-{digest}"), &other);
        for profile in ["/Common/www", "/Common/api"] {
            big_ip.add_client_ssl(profile, &[entry("default", "/Common/default")]);
        }
        big_ip.add_client_ssl("/Common/others", &[entry("default", "/Common/others")]);
        let backend =
            json!({ "cert": "/Common/default.crt", "key": "/Common/default.key", "chain": "none", "serverName": "backend" });
        big_ip.with(|device| {
            device.config.server_ssl.insert("/Common/backend".to_owned(), object(&backend));
            device.saved = device.config.clone();
        });
        big_ip
    }

    pub(crate) fn url(&self) -> String {
        self.stand_in.url()
    }

    pub(crate) fn port(&self) -> u16 {
        self.stand_in.address().port()
    }

    pub(crate) fn stand_in(&self) -> &StandIn<Device> {
        &self.stand_in
    }

    pub(crate) fn with<T>(&self, work: impl FnOnce(&mut Device) -> T) -> T {
        self.stand_in.with_state(work)
    }

    /// A pair, as somebody else would put it there: `NAME.crt` and `NAME.key`.
    pub(crate) fn put(&self, partition: &str, name: &str, issued: &Issued) {
        self.with(|device| {
            let path = format!("/{partition}/{name}");
            device.config.certificates.insert(format!("{path}.crt"), issued.fullchain_pem.clone().into_bytes());
            device.config.keys.insert(format!("{path}.key"), issued.key_pem.clone().into_bytes());
        });
    }

    /// A profile with entries, and a virtual server that has it.
    pub(crate) fn add_client_ssl(&self, profile: &str, entries: &[Value]) {
        self.with(|device| {
            let fields = json!({ "certKeyChain": entries, "inheritCertkeychain": "false", "sniDefault": "true" });
            device.config.client_ssl.insert(profile.to_owned(), object(&fields));
            device.virtual_servers.insert(profile.to_owned(), TlsServer::builder().start());
            device.saved = device.config.clone();
            device.serve();
        });
    }

    /// Where the virtual server of a profile is.
    pub(crate) fn address(&self, profile: &str) -> SocketAddr {
        self.with(|device| device.virtual_servers[profile].address())
    }

    /// What it serves; `None` for the factory's, which nobody has deployed: a profile is never without a pair.
    pub(crate) fn served(&self, profile: &str) -> Option<Vec<Vec<u8>>> {
        let chain = observe::served_chain(self.address(profile), None).ok()?;
        (chain[0] != self.factory.leaf_der).then_some(chain)
    }

    pub(crate) fn served_fingerprint(&self, profile: &str) -> String {
        observe::served_fingerprint(self.address(profile), None).unwrap()
    }

    /// What the profile says of itself.
    pub(crate) fn client_ssl(&self, profile: &str) -> Map<String, Value> {
        self.with(|device| device.config.client_ssl[profile].clone())
    }

    pub(crate) fn config(&self) -> Config {
        self.with(|device| device.config.clone())
    }

    /// Everything that is configured, uploaded and saved.
    pub(crate) fn state(&self) -> Tree {
        self.with(|device| {
            let uploads = device.downloads.iter().map(|(name, content)| (format!("downloads/{name}"), content.clone()));
            let objects = [("running", &device.config), ("saved", &device.saved)];
            let objects = objects.into_iter().flat_map(|(place, config)| {
                let Config { certificates, keys, client_ssl, server_ssl, revocation, .. } = config;
                let files =
                    certificates.iter().chain(keys).map(move |(path, content)| (format!("{place}{path}"), content.clone()));
                let profiles = client_ssl.iter().chain(server_ssl);
                let lookups = revocation
                    .iter()
                    .map(move |(path, fields)| (format!("{place}-revocation{path}"), format!("{fields:?}").into_bytes()));
                let files = files.chain(lookups);
                files.chain(profiles.map(move |(path, fields)| (format!("{place}{path}"), format!("{fields:?}").into_bytes())))
            });
            Tree::of_objects(objects.chain(uploads))
        })
    }

    /// What runs is forgotten, and what was saved is loaded.
    pub(crate) fn restart(&self) {
        self.with(|device| {
            device.config = device.saved.clone();
            device.serve();
        });
    }
}

/// An entry of `certKeyChain` with the pair of this name.
pub(crate) fn entry(name: &str, pair: &str) -> Value {
    json!({ "name": name, "cert": format!("{pair}.crt"), "key": format!("{pair}.key"), "chain": "none", "usage": "SERVER" })
}

fn object(value: &Value) -> Map<String, Value> {
    value.as_object().unwrap().clone()
}

fn private_file(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

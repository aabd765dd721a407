//! Stand-ins for a vault, for Microsoft Entra ID and for the metadata service of a virtual machine, built from Microsoft's reference and
//! from what its own clients send and expect.
#![allow(
    dead_code,
    unused_imports,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "each test uses a part of it, and it is a test's"
)]

mod identity;
mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use deploy_testkit::stand_in::{Answer, StandIn};
use deploy_testkit::{Authority, Request};
use serde_json::{Value, json};

pub(crate) use identity::{CLIENT, Login, TENANT};
pub(crate) use vault::{Named, Pair, Vault};

/// What vaults ask tokens for.
pub(crate) const RESOURCE: &str = "https://vault.azure.net";
/// The name of the certificate in the vault.
pub(crate) const NAME: &str = "www-example-test";

/// Tokens that were given out: until when, and for what.
#[derive(Clone, Debug, Default)]
pub(crate) struct Tokens(Arc<Mutex<BTreeMap<String, (Instant, String)>>>);

impl Tokens {
    fn with<T>(&self, work: impl FnOnce(&mut BTreeMap<String, (Instant, String)>) -> T) -> T {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn give(&self, resource: &str, holds: Duration) -> String {
        self.with(|tokens| {
            let token = format!("token-{:04}-of-the-stand-in", tokens.len());
            tokens.insert(token.clone(), (Instant::now() + holds, resource.to_owned()));
            token
        })
    }

    fn takes(&self, token: &str) -> bool {
        self.with(|tokens| tokens.get(token).is_some_and(|(ends, resource)| Instant::now() < *ends && resource == RESOURCE))
    }

    /// Nobody is logged in any more.
    pub(crate) fn revoke(&self) {
        self.with(|tokens| tokens.values_mut().for_each(|(ends, _)| *ends = Instant::now()));
    }

    pub(crate) fn given(&self) -> usize {
        self.with(|tokens| tokens.len())
    }
}

/// All of them, and the files of a client.
pub(crate) struct Cloud {
    pub(crate) vault: StandIn<Vault>,
    pub(crate) login: StandIn<Login>,
    pub(crate) metadata: StandIn<Tokens>,
    pub(crate) tokens: Tokens,
    pub(crate) secret: String,
    directory: PathBuf,
}

impl Cloud {
    pub(crate) fn start(directory: &Path) -> Self {
        let authority = Authority::new();
        let issue = || authority.issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
        let (of_vault, of_login) = (issue(), issue());
        let secret = format!("secret-{}", &deploy_testkit::pki::fingerprint(of_login.key_pem.as_bytes())[..24]);
        let tokens = Tokens::default();
        let login = StandIn::start(&of_login, Login::new(&secret, &tokens), Login::answer);
        let vault = StandIn::start(&of_vault, Vault::new(&tokens), Vault::answer);
        for (name, text) in [("ca.pem", &authority.root_pem()), ("secret", &secret)] {
            private_file(&directory.join(name), text);
        }
        let metadata = StandIn::start_plain(tokens.clone(), identity::of_machine);
        let url = vault.url();
        vault.with_state(|state| state.url = url);
        let url = login.url();
        login.with_state(|state| state.url = url);
        Self { vault, login, metadata, tokens, secret, directory: directory.to_owned() }
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The settings of a target, with a client secret and without `verify`.
    pub(crate) fn settings(&self) -> Value {
        json!({
            "vault": self.vault.url(),
            "certificate_name": NAME,
            "credentials": { "client_secret": { "client_id": CLIENT, "secret": format!("file:{}", self.file("secret").display()) } },
            "authority": self.login.url(),
            "resource": RESOURCE,
            "ca_file": self.file("ca.pem"),
        })
    }
}

pub(crate) fn private_file(path: &Path, text: &str) {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
}

/// `{"error":{"code","message","innererror":{"code"}}}`.
pub(crate) fn refusal(status: u16, code: &str, message: &str, inner: Option<&str>) -> Answer {
    let mut error = json!({ "code": code, "message": message });
    if let Some(inner) = inner {
        error["innererror"] = json!({ "code": inner });
    }
    Answer::new(status).with_json(&json!({ "error": error }))
}

/// The parameters of a query or a form.
fn parameters(text: &str) -> BTreeMap<String, String> {
    let decode = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            bytes.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits = [rest.next().unwrap(), rest.next().unwrap()];
                    u8::from_str_radix(std::str::from_utf8(&digits).unwrap(), 16).unwrap()
                }
                byte => byte,
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    let pairs = text.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(name, value)| (decode(name), decode(value))).collect()
}

//! Which certificate a client gets: by server name, then by what its signature schemes allow.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::pki::Issued;

type Pair = Arc<CertifiedKey>;

#[derive(Debug, Default)]
pub(super) struct Certificates(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    default: Vec<Pair>,
    named: HashMap<String, Vec<Pair>>,
    server_names: Vec<Option<String>>,
}

impl Certificates {
    pub(super) fn add_default(&self, pair: Pair) {
        self.state().default.push(pair);
    }

    pub(super) fn add_named(&self, name: &str, pair: Pair) {
        self.state().named.entry(name.to_owned()).or_default().push(pair);
    }

    pub(super) fn set_default(&self, pair: Pair) {
        self.state().default = vec![pair];
    }

    pub(super) fn set_named(&self, name: &str, pair: Pair) {
        self.state().named.insert(name.to_owned(), vec![pair]);
    }

    pub(super) fn clear_default(&self) {
        self.state().default.clear();
    }

    /// In place of those with the same kind of key; the others stay.
    pub(super) fn renew(&self, name: Option<&str>, pair: Pair) {
        let mut state = self.state();
        let pairs = match name {
            Some(name) => state.named.entry(name.to_owned()).or_default(),
            None => &mut state.default,
        };
        let kind = pair.key.algorithm();
        let place = pairs.iter().position(|other| other.key.algorithm() == kind).unwrap_or(pairs.len());
        pairs.retain(|other| other.key.algorithm() != kind);
        pairs.insert(place, pair);
    }

    pub(super) fn is_empty(&self) -> bool {
        let state = self.state();
        state.default.is_empty() && state.named.is_empty()
    }

    pub(super) fn server_names(&self) -> Vec<Option<String>> {
        self.state().server_names.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Pair> {
        let mut state = self.state();
        state.server_names.push(hello.server_name().map(str::to_owned));
        let named = hello.server_name().and_then(|name| state.named.get(name));
        let pairs = named.unwrap_or(&state.default);
        pairs.iter().find(|pair| pair.key.choose_scheme(hello.signature_schemes()).is_some()).cloned()
    }
}

/// The pair as it is: whether key and certificate match is the test's business.
pub(super) fn pair(issued: &Issued) -> Pair {
    let key = crate::provider().key_provider.load_private_key(issued.private_key()).expect("a key that loads");
    Arc::new(CertifiedKey::new(issued.certificates(), key))
}

/// The same from PEM.
pub(super) fn pair_from_pem(fullchain: &str, key: &str) -> Result<Pair, String> {
    let certificates = CertificateDer::pem_slice_iter(fullchain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| format!("the certificates: {error}"))?;
    let private_key = PrivateKeyDer::from_pem_slice(key.as_bytes()).map_err(|error| format!("the key: {error}"))?;
    CertifiedKey::from_der(certificates, private_key, &crate::provider()).map(Arc::new).map_err(|error| error.to_string())
}

/// The pair in these files, as a careful server loads it: complete and matching.
pub(super) fn load(fullchain: &Path, key: &Path) -> Result<Pair, String> {
    let certificates = CertificateDer::pem_file_iter(fullchain)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| format!("{}: {error}", fullchain.display()))?;
    if certificates.is_empty() {
        return Err(format!("{}: no certificate in it", fullchain.display()));
    }
    let private_key = PrivateKeyDer::from_pem_file(key).map_err(|error| format!("{}: {error}", key.display()))?;
    let pair = CertifiedKey::from_der(certificates, private_key, &crate::provider());
    pair.map(Arc::new).map_err(|error| format!("{} and {}: {error}", fullchain.display(), key.display()))
}

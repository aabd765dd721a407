//! What lies on the shelf, and what the listeners have.

use std::collections::{BTreeMap, VecDeque};

use rustls::server::ParsedCertificate;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use crate::pki::{Issued, fingerprint};
use crate::tls_server::TlsServer;

/// All that a shelf has. Revisions are not part of it: they grow with every switch, also with one that goes back.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Objects {
    /// The ID of each listener's certificate, by the listener's name.
    pub listeners: BTreeMap<String, Option<String>>,
    /// The certificates, by ID.
    pub certificates: BTreeMap<String, CertificateObject>,
}

/// One certificate on a shelf.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CertificateObject {
    /// SHA-256 of the leaf's DER in lowercase hexadecimal.
    pub fingerprint: String,
    /// SHA-256 of every certificate, leaf first.
    pub chain: Vec<String>,
    /// SHA-256 of the key as it was sent; `None` as long as there is none.
    pub key: Option<String>,
    /// The labels.
    pub labels: BTreeMap<String, String>,
}

pub(super) struct State {
    pub(super) reader: String,
    pub(super) writer: String,
    pub(super) listeners: BTreeMap<String, Listener>,
    pub(super) certificates: BTreeMap<String, Stored>,
    overtaking: VecDeque<(String, Option<String>)>,
}

pub(super) struct Listener {
    pub(super) certificate: Option<String>,
    pub(super) revision: u64,
    pub(super) server: TlsServer,
    frozen: bool,
}

pub(super) struct Stored {
    pub(super) fingerprint: String,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) fullchain: String,
    pub(super) key: Option<String>,
    pub(super) labels: BTreeMap<String, String>,
}

impl Stored {
    /// A certificate without its key.
    pub(super) fn new(fullchain: &str, labels: BTreeMap<String, String>) -> Result<Self, String> {
        let chain = CertificateDer::pem_slice_iter(fullchain.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("fullchain is not PEM: {error}"))?;
        for certificate in &chain {
            ParsedCertificate::try_from(certificate).map_err(|error| format!("fullchain has no certificate in it: {error}"))?;
        }
        let leaf = chain.first().ok_or("fullchain is empty")?;
        Ok(Self { fingerprint: fingerprint(leaf), fullchain: fullchain.to_owned(), chain, key: None, labels })
    }

    fn object(&self) -> CertificateObject {
        CertificateObject {
            fingerprint: self.fingerprint.clone(),
            chain: self.chain.iter().map(|certificate| fingerprint(certificate)).collect(),
            key: self.key.as_ref().map(|key| fingerprint(key.as_bytes())),
            labels: self.labels.clone(),
        }
    }
}

impl State {
    pub(super) fn new(reader: &str, writer: &str) -> Self {
        Self {
            reader: reader.to_owned(),
            writer: writer.to_owned(),
            listeners: BTreeMap::new(),
            certificates: BTreeMap::new(),
            overtaking: VecDeque::new(),
        }
    }

    pub(super) fn add_listener(&mut self, name: &str) {
        let listener = Listener { certificate: None, revision: 1, server: TlsServer::builder().start(), frozen: false };
        assert!(self.listeners.insert(name.to_owned(), listener).is_none(), "two listeners of one name");
    }

    pub(super) fn listener(&self, name: &str) -> &Listener {
        self.listeners.get(name).expect("a listener that was added")
    }

    pub(super) fn put(&mut self, id: &str, issued: &Issued, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut stored = Stored::new(&issued.fullchain_pem, labels).expect("a certificate");
        crate::tls_server::check_pair(&issued.fullchain_pem, &issued.key_pem).expect("a pair that matches");
        stored.key = Some(issued.key_pem.clone());
        self.certificates.insert(id.to_owned(), stored);
    }

    /// Gives a listener another certificate, and a new revision.
    pub(super) fn switch(&mut self, listener: &str, id: Option<&str>) -> Result<(), String> {
        self.serve(listener, id)?;
        let listener = self.listeners.get_mut(listener).ok_or("no such listener")?;
        listener.certificate = id.map(str::to_owned);
        listener.revision += 1;
        Ok(())
    }

    fn serve(&self, listener: &str, id: Option<&str>) -> Result<(), String> {
        let listener = self.listeners.get(listener).ok_or("no such listener")?;
        let pair = match id {
            None => None,
            Some(id) => {
                let stored = self.certificates.get(id).ok_or_else(|| format!("there is no certificate {id}"))?;
                Some((stored, stored.key.as_ref().ok_or_else(|| format!("the certificate {id} has no key yet"))?))
            }
        };
        match pair {
            _ if listener.frozen => {}
            None => listener.server.clear_certificate(),
            Some((stored, key)) => listener.server.set_pem(&stored.fullchain, key)?,
        }
        Ok(())
    }

    pub(super) fn freeze(&mut self, listener: &str, frozen: bool) {
        let entry = self.listeners.get_mut(listener).expect("a listener that was added");
        entry.frozen = frozen;
        let certificate = entry.certificate.clone();
        self.serve(listener, certificate.as_deref()).expect("what it was switched to");
    }

    pub(super) fn is_used(&self, id: &str) -> bool {
        self.listeners.values().any(|listener| listener.certificate.as_deref() == Some(id))
    }

    pub(super) fn overtake(&mut self, listener: &str, id: Option<&str>) {
        self.listener(listener);
        self.overtaking.push_back((listener.to_owned(), id.map(str::to_owned)));
    }

    /// Lets the other writer go first.
    pub(super) fn let_others_pass(&mut self) {
        if let Some((listener, id)) = self.overtaking.pop_front() {
            self.switch(&listener, id.as_deref()).expect("a complete certificate on the shelf");
        }
    }

    pub(super) fn objects(&self) -> Objects {
        let listeners = self.listeners.iter().map(|(name, listener)| (name.clone(), listener.certificate.clone()));
        let certificates = self.certificates.iter().map(|(id, stored)| (id.clone(), stored.object()));
        Objects { listeners: listeners.collect(), certificates: certificates.collect() }
    }
}

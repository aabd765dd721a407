//! What there is on the host, and what http.sys makes of it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_powershell::Script;
use deploy_testkit::stand_in::Answer;
use deploy_testkit::{Issued, TlsServer};
use sha1::{Digest as _, Sha1};

/// A certificate in a store.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    pub der: Vec<u8>,
    /// What Windows finds in the store `CA` for it.
    pub chain: Vec<Vec<u8>>,
    pub key_pem: Option<String>,
    pub friendly_name: String,
    pub exportable: bool,
    /// SIDs with an entry of their own for the key.
    pub readers: BTreeSet<String>,
    /// The provider that the PFX asked for.
    pub provider: String,
}

impl Stored {
    /// As if somebody had imported it.
    pub fn new(issued: &Issued, friendly_name: &str) -> Self {
        Self {
            der: issued.leaf_der.clone(),
            chain: issued.chain_der.clone(),
            key_pem: Some(issued.key_pem.clone()),
            friendly_name: friendly_name.to_owned(),
            exportable: false,
            readers: BTreeSet::new(),
            provider: "by hand".to_owned(),
        }
    }
}

/// An https binding in applicationHost.config.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    pub site: String,
    pub information: String,
    pub flags: u32,
}

/// A mapping of http.sys: the certificate, its store, and what nobody but an administrator set (client certificates and such).
pub type Mapped = (String, String, String);

/// What the next scripts that switch do instead.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Switch {
    #[default]
    Works,
    FailsOnce,
    /// From the second one on.
    FailsLater(bool),
    NeverAnswers,
    /// Takes the next switch, and http.sys serves what this record of its has.
    ServesAnother(&'static str),
    /// The connection is closed before or after the work, once for each script that changes something.
    Dropped {
        done: bool,
    },
}

/// What somebody else does.
pub type Work = Box<dyn FnOnce(&mut Host) + Send>;

/// A remote shell, and the command in it.
#[derive(Default)]
pub(super) struct Shell {
    pub(super) command: Option<Running>,
}

pub(super) struct Running {
    pub(super) id: String,
    pub(super) line: Vec<String>,
    pub(super) stdin: Vec<u8>,
    pub(super) ended: bool,
    /// What it printed, in the pieces in which it is handed out; the first is the answer that there is nothing yet.
    pub(super) output: Vec<Option<Vec<u8>>>,
    pub(super) status: i32,
}

pub struct Host {
    pub user: (String, String),
    /// Who asks is known by a certificate, which this stand-in's TLS does not ask for.
    pub by_certificate: bool,
    pub build: u32,
    pub elevated: bool,
    pub constrained: bool,
    pub has_iis: bool,
    pub stores: BTreeMap<String, BTreeMap<String, Stored>>,
    pub bindings: Vec<Binding>,
    pub mappings: BTreeMap<String, Mapped>,
    pub files: BTreeMap<String, Vec<u8>>,
    pub folders: BTreeSet<String>,
    pub accounts: BTreeMap<String, String>,
    /// Which script switches, in the world at hand.
    pub switches: Script,
    pub switch: Switch,
    pub(super) struck: Vec<Script>,
    /// Somebody else's work, right before the next change.
    pub overtaken_by: Option<Work>,
    /// Output comes at once, and not bit by bit after a while: for a suite with thousands of requests.
    pub brief: bool,
    /// Every script that changes something is run twice, and the second answer counts.
    pub doubles: bool,
    /// The listener goes on serving what it has.
    pub frozen: bool,
    /// Whose certificate is served: that of the binding for this name and address, or that of a friendly name with this in it.
    pub serves: Serves,
    pub(super) shells: BTreeMap<String, Shell>,
    pub(super) number: u32,
    /// What becomes of the request whose script nobody is told of.
    pub(super) silence: Option<Answer>,
    /// The scripts that ran.
    pub ran: Vec<Script>,
    listener: Option<(TlsServer, PathBuf)>,
}

#[derive(Clone, Debug)]
pub enum Serves {
    /// What http.sys takes for a handshake at this address (`10.0.0.5`), port and name.
    Binding(&'static str, u16, &'static str),
    /// A service that takes the certificate from `My` whose friendly name has this in it.
    Named(String),
    /// The central store's file.
    File(String, String),
}

impl Host {
    pub fn new(serves: Serves, switches: Script) -> Self {
        let stores = ["My", "WebHosting", "CA"].map(|name| (name.to_owned(), BTreeMap::new()));
        Self {
            user: (super::USER.to_owned(), super::PASSWORD.to_owned()),
            by_certificate: false,
            build: 20_348,
            elevated: true,
            constrained: false,
            has_iis: true,
            stores: stores.into(),
            bindings: Vec::new(),
            mappings: BTreeMap::new(),
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            accounts: [
                ("IIS AppPool\\shop".to_owned(), "S-1-5-82-1".to_owned()),
                ("NT SERVICE\\DB".to_owned(), "S-1-5-80-2".to_owned()),
            ]
            .into(),
            switches,
            switch: Switch::Works,
            struck: Vec::new(),
            overtaken_by: None,
            brief: false,
            doubles: false,
            frozen: false,
            serves,
            shells: BTreeMap::new(),
            number: 0,
            silence: None,
            ran: Vec::new(),
            listener: None,
        }
    }

    pub(super) fn serve_on(&mut self, listener: TlsServer, directory: &Path) {
        self.listener = Some((listener, directory.to_owned()));
        self.serve();
    }

    /// Puts a certificate into a store, as an administrator would.
    pub fn import(&mut self, store: &str, issued: &Issued, friendly_name: &str) -> String {
        let thumbprint = thumbprint(&issued.leaf_der);
        self.stores.get_mut(store).unwrap().insert(thumbprint.clone(), Stored::new(issued, friendly_name));
        thumbprint
    }

    /// Adds a binding, with a certificate or without.
    pub fn bind(&mut self, site: &str, information: &str, flags: u32, certificate: Option<(&str, &str)>) {
        let binding = Binding { site: site.to_owned(), information: information.to_owned(), flags };
        if let Some((thumbprint, store)) = certificate {
            self.mappings
                .insert(mapping_name(&binding), (thumbprint.to_owned(), store.to_owned(), "clientcert=negotiate".into()));
        }
        self.bindings.push(binding);
    }

    /// What IIS shows for a binding.
    pub fn thumbprint_of(&self, binding: &Binding) -> (String, String) {
        let mapped = self.mappings.get(&mapping_name(binding)).filter(|_| binding.flags & 2 == 0);
        mapped.map(|(thumbprint, store, _)| (thumbprint.clone(), store.clone())).unwrap_or_default()
    }

    /// Has the listener serve what the state says now.
    pub fn serve(&mut self) {
        let Some((listener, directory)) = &self.listener else { return };
        if self.frozen {
            return;
        }
        match self.chosen(directory) {
            Some((chain, key)) => listener.set_pem(&chain, &key).unwrap(),
            None => listener.clear_certificate(),
        }
    }

    fn chosen(&self, directory: &Path) -> Option<(String, String)> {
        let stored = match &self.serves {
            Serves::Binding(address, port, name) => {
                // An address of its own wins, then the name, then the address that stands for all.
                let names = [format!("{address}!{port}"), format!("!{port}!{name}"), format!("0.0.0.0!{port}")];
                let (thumbprint, store, _) = names.iter().find_map(|name| self.mappings.get(name))?;
                self.stores.get(store)?.get(thumbprint)?
            }
            Serves::Named(mark) => self.stores["My"].values().find(|stored| stored.friendly_name.contains(mark))?,
            Serves::File(path, password) => {
                let (chain, key) = open_pfx(self.files.get(path)?, password, directory).ok()?;
                return Some((chain, key));
            }
        };
        let chain: String = std::iter::once(&stored.der).chain(&stored.chain).map(|der| pem(der)).collect();
        Some((chain, stored.key_pem.clone()?))
    }

    pub fn open_shells(&self) -> usize {
        self.shells.len()
    }

    /// Ends every fault.
    pub fn heal(&mut self) {
        (self.switch, self.frozen, self.elevated, self.overtaken_by) = (Switch::Works, false, true, None);
        self.doubles = false;
        self.struck.clear();
    }

    pub(super) fn silence(&mut self) -> Answer {
        self.silence.take().unwrap_or_else(Answer::closed)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.listener.as_ref().unwrap().1
    }

    pub fn objects(&self) -> Vec<(String, Vec<u8>)> {
        let mut objects = Vec::new();
        for (name, store) in self.stores.iter().filter(|(name, _)| *name != "CA") {
            for (thumbprint, stored) in store {
                let Stored { der, key_pem, friendly_name, exportable, readers, provider, .. } = stored;
                let text = format!("{friendly_name} {exportable} {readers:?} {provider} {der:?} {key_pem:?}");
                objects.push((format!("store/{name}/{thumbprint}"), text.into_bytes()));
            }
        }
        for binding in &self.bindings {
            objects.push((format!("binding/{}/{}", binding.site, binding.information), format!("{binding:?}").into_bytes()));
        }
        for (name, mapped) in &self.mappings {
            objects.push((format!("mapping/{name}"), format!("{mapped:?}").into_bytes()));
        }
        for (path, content) in &self.files {
            objects.push((format!("file/{}", path.replace('\\', "/")), content.clone()));
        }
        objects
    }
}

/// The record of http.sys that a binding has: SNI by port and name whatever its address, others by address and port.
pub fn mapping_name(binding: &Binding) -> String {
    let (rest, host) = binding.information.rsplit_once(':').unwrap();
    let (ip, port) = rest.rsplit_once(':').unwrap();
    match ip.trim_matches(['[', ']']) {
        _ if binding.flags & 1 != 0 => format!("!{port}!{host}"),
        "*" | "" => format!("0.0.0.0!{port}"),
        ip => format!("{ip}!{port}"),
    }
}

pub fn thumbprint(der: &[u8]) -> String {
    Sha1::digest(der).iter().map(|byte| format!("{byte:02X}")).collect()
}

pub(super) fn pem(der: &[u8]) -> String {
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(der))
}

/// Opened by OpenSSL: the certificates with the leaf first, and the key.
pub(super) fn open_pfx(pfx: &[u8], password: &str, directory: &Path) -> Result<(String, String), String> {
    let file = tempfile::NamedTempFile::new_in(directory).unwrap();
    std::fs::write(file.path(), pfx).unwrap();
    let open = |what: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["pkcs12", "-in"]).arg(file.path()).args(["-passin", &format!("pass:{password}"), "-legacy"]).args(what);
        let output = command.stdin(Stdio::null()).output().unwrap();
        if output.status.success() { Ok(String::from_utf8(output.stdout).unwrap()) } else { Err("0x80070056".to_owned()) }
    };
    let all = open(&["-noenc"])?;
    let blocks = |label: &str| -> Vec<String> {
        let (begin, end) = (format!("-----BEGIN {label}-----"), format!("-----END {label}-----\n"));
        all.split(&begin).skip(1).map(|rest| format!("{begin}{}{end}", rest.split(&end).next().unwrap())).collect()
    };
    let keys = blocks("PRIVATE KEY");
    match keys.len() {
        1 => Ok((blocks("CERTIFICATE").concat(), keys.concat())),
        _ => Err("0x80092004".to_owned()),
    }
}

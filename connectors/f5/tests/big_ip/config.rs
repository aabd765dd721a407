//! What a BIG-IP has configured, which requests change it, and what it refuses.

use std::collections::{BTreeMap, BTreeSet};

use deploy_testkit::stand_in::HttpRequest;
use deploy_testkit::{TlsServer, pki};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Map, Value, json};
use sha1::{Digest as _, Sha1};

use super::refusal::{Refusal, daemon, framework};

pub(crate) const VERSION: &str = "17.1.0";
const DOWNLOADS: &str = "/var/config/rest/downloads/";

/// Objects by their full paths.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Config {
    pub(crate) partitions: BTreeSet<String>,
    pub(crate) certificates: BTreeMap<String, Vec<u8>>,
    pub(crate) keys: BTreeMap<String, Vec<u8>>,
    /// How revocation of certificates is looked up.
    pub(crate) revocation: BTreeMap<String, Map<String, Value>>,
    /// As the API shows them, without kind, links and generation.
    pub(crate) client_ssl: BTreeMap<String, Map<String, Value>>,
    pub(crate) server_ssl: BTreeMap<String, Map<String, Value>>,
}

/// A collection of the API, and one of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) kind: Kind,
    pub(crate) path: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Certificate,
    Key,
    ClientSsl,
    ServerSsl,
}

impl Kind {
    fn place(self) -> &'static str {
        match self {
            Self::Certificate => "sys/file/ssl-cert",
            Self::Key => "sys/file/ssl-key",
            Self::ClientSsl => "ltm/profile/client-ssl",
            Self::ServerSsl => "ltm/profile/server-ssl",
        }
    }

    pub(crate) fn is_profile(self) -> bool {
        matches!(self, Self::ClientSsl | Self::ServerSsl)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Certificate => "Certificate File",
            Self::Key => "Certificate Key File",
            Self::ClientSsl => "ClientSSL Profile",
            Self::ServerSsl => "ServerSSL Profile",
        }
    }
}

impl Resource {
    /// Of a path below `/mgmt/tm/`.
    pub(crate) fn find(path: &str) -> Option<Self> {
        [Kind::Certificate, Kind::Key, Kind::ClientSsl, Kind::ServerSsl].into_iter().find_map(|kind| {
            match path.strip_prefix(kind.place())? {
                "" => Some(Self { kind, path: None }),
                name => {
                    let name = name.strip_prefix("/~").filter(|name| !name.contains('/'))?;
                    Some(Self { kind, path: Some(format!("/{}", name.replace('~', "/"))) })
                }
            }
        })
    }
}

impl Config {
    /// Does what a request says, or nothing. The result may still be one that cannot be; see [`Self::check`].
    pub(crate) fn apply(
        &mut self,
        resource: &Resource,
        request: &HttpRequest,
        downloads: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Value, Refusal> {
        match (request.method.as_str(), &resource.path) {
            ("POST", None) => self.create(resource.kind, &body(request)?, downloads),
            ("PATCH" | "PUT", Some(path)) => self.change(resource.kind, path, body(request)?, downloads),
            ("DELETE", Some(path)) => self.remove(resource.kind, path),
            (method, _) => Err(framework(405, &format!("{method} is not allowed here"))),
        }
    }

    pub(crate) fn show(&self, resource: &Resource) -> Result<Value, Refusal> {
        let Resource { kind, path } = resource;
        if let Some(path) = path {
            return self.shown(*kind, path).ok_or_else(|| not_found(*kind, path));
        }
        let items: Vec<Value> = self.paths(*kind).iter().filter_map(|path| self.shown(*kind, path)).collect();
        let mut list = json!({ "kind": format!("{}collectionstate", kind_of(*kind)), "selfLink": link(kind.place()) });
        // Left out where there are none, as the real one does.
        if !items.is_empty() {
            list["items"] = items.into();
        }
        Ok(list)
    }

    fn paths(&self, kind: Kind) -> Vec<String> {
        match kind {
            Kind::Certificate => self.certificates.keys().cloned().collect(),
            Kind::Key => self.keys.keys().cloned().collect(),
            Kind::ClientSsl => self.client_ssl.keys().cloned().collect(),
            Kind::ServerSsl => self.server_ssl.keys().cloned().collect(),
        }
    }

    fn shown(&self, kind: Kind, path: &str) -> Option<Value> {
        let mut shown = match kind {
            Kind::Certificate => {
                let mut shown = show_certificate(self.certificates.get(path)?);
                for (field, value) in self.revocation.get(path).into_iter().flatten() {
                    shown[field] = value.clone();
                }
                shown
            }
            Kind::Key => json!({ "checksum": checksum(self.keys.get(path)?), "securityType": "normal" }),
            Kind::ClientSsl => {
                let mut profile = self.client_ssl.get(path)?.clone();
                for entry in profile["certKeyChain"].as_array_mut().into_iter().flatten() {
                    let link =
                        link(&format!("sys/file/ssl-cert/{}", entry["cert"].as_str().unwrap_or_default().replace('/', "~")));
                    entry["certReference"] = json!({ "link": link });
                }
                Value::Object(profile)
            }
            Kind::ServerSsl => Value::Object(self.server_ssl.get(path)?.clone()),
        };
        let (partition, name) = path.trim_start_matches('/').split_once('/')?;
        shown["kind"] = format!("{}state", kind_of(kind)).into();
        shown["name"] = name.into();
        shown["partition"] = partition.into();
        shown["fullPath"] = path.into();
        shown["generation"] = 1.into();
        shown["selfLink"] = link(&format!("{}/{}", kind.place(), path.replace('/', "~"))).into();
        Some(shown)
    }

    fn create(&mut self, kind: Kind, body: &Map<String, Value>, downloads: &BTreeMap<String, Vec<u8>>) -> Result<Value, Refusal> {
        let name = body.get("name").and_then(Value::as_str).ok_or_else(|| daemon(400, "01020059:3", "a name is needed"))?;
        let partition = body.get("partition").and_then(Value::as_str).unwrap_or("Common");
        if !self.partitions.contains(partition) {
            return Err(daemon(404, "01020036:3", &format!("The requested folder (/{partition}) was not found.")));
        }
        let path = format!("/{partition}/{name}");
        if self.paths(kind).contains(&path) {
            let text = format!("The requested {} ({path}) already exists in partition {partition}.", kind.title());
            return Err(daemon(409, "01020066:3", &text));
        }
        let mut fields = body.clone();
        fields.retain(|field, _| !["name", "partition"].contains(&field.as_str()));
        match kind {
            Kind::ClientSsl => drop(self.client_ssl.insert(path.clone(), Map::new())),
            Kind::ServerSsl => drop(self.server_ssl.insert(path.clone(), Map::new())),
            Kind::Certificate | Kind::Key => {}
        }
        self.set(kind, &path, fields, downloads)
    }

    fn change(
        &mut self,
        kind: Kind,
        path: &str,
        body: Map<String, Value>,
        downloads: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Value, Refusal> {
        if !self.paths(kind).iter().any(|known| known == path) {
            return Err(not_found(kind, path));
        }
        self.set(kind, path, body, downloads)
    }

    fn set(
        &mut self,
        kind: Kind,
        path: &str,
        body: Map<String, Value>,
        downloads: &BTreeMap<String, Vec<u8>>,
    ) -> Result<Value, Refusal> {
        match kind {
            Kind::Certificate if !body.contains_key("sourcePath") => self.set_revocation(path, body)?,
            Kind::Certificate => {
                if body.contains_key("certValidationOptions") {
                    return Err(daemon(400, "01071ac6:3", "OCSP cannot be configured together with the source of a certificate"));
                }
                self.certificates.insert(path.to_owned(), certificates(source(&body, downloads)?)?);
            }
            Kind::Key => drop(self.keys.insert(path.to_owned(), key(source(&body, downloads)?)?)),
            Kind::ClientSsl => {
                check_entries(&body)?;
                self.client_ssl.entry(path.to_owned()).or_default().extend(body);
            }
            Kind::ServerSsl => self.server_ssl.entry(path.to_owned()).or_default().extend(body),
        }
        self.shown(kind, path).ok_or_else(|| not_found(kind, path))
    }

    /// The validators come by name, and are shown as objects.
    fn set_revocation(&mut self, path: &str, mut body: Map<String, Value>) -> Result<(), Refusal> {
        let issuer = body.get("issuerCert").and_then(Value::as_str).unwrap_or_default();
        if !self.certificates.contains_key(issuer) {
            return Err(daemon(400, "01070277:3", &format!("The requested certificate ({issuer}) was not found.")));
        }
        for validator in body["certValidatorsReference"]["items"].as_array_mut().into_iter().flatten() {
            let path = validator["name"].as_str().unwrap_or_default().to_owned();
            *validator = json!({ "name": path.rsplit('/').next(), "partition": "Common", "fullPath": path });
        }
        self.revocation.insert(path.to_owned(), body);
        Ok(())
    }

    fn remove(&mut self, kind: Kind, path: &str) -> Result<Value, Refusal> {
        if !self.paths(kind).iter().any(|known| known == path) {
            return Err(not_found(kind, path));
        }
        if let Some(user) = self.users(path) {
            let text = format!("The {} ({path}) is in use by {user}.", kind.title());
            return Err(daemon(400, "01071349:3", &text));
        }
        match kind {
            Kind::Certificate => {
                self.revocation.remove(path);
                self.certificates.remove(path);
            }
            Kind::Key => drop(self.keys.remove(path)),
            Kind::ClientSsl => drop(self.client_ssl.remove(path)),
            Kind::ServerSsl => drop(self.server_ssl.remove(path)),
        }
        Ok(Value::Null)
    }

    /// A profile that refers to it.
    fn users(&self, path: &str) -> Option<&String> {
        let names =
            |fields: &Map<String, Value>| ["cert", "key", "chain"].iter().any(|field| fields.get(*field) == Some(&path.into()));
        let by_entry = |profile: &Map<String, Value>| entries(profile).any(names);
        let client = self.client_ssl.iter().find(|(_, profile)| by_entry(profile)).map(|(name, _)| name);
        client.or_else(|| self.server_ssl.iter().find(|(_, profile)| names(profile)).map(|(name, _)| name))
    }

    /// Whether all of it fits together, as the daemon checks when a change takes effect. `server` says whether a pair matches.
    pub(crate) fn check(&self, server: &TlsServer) -> Result<(), Refusal> {
        for (profile, fields) in &self.client_ssl {
            let mut kinds = BTreeSet::new();
            for entry in entries(fields) {
                let pair = self.pair(profile, entry)?.ok_or_else(|| daemon(400, "010717e3:3", "an entry has no certificate"))?;
                server.set_pem(&pair.0, &pair.1).map_err(|_| mismatch(profile, entry))?;
                if !kinds.insert(key_type(pair.0.as_bytes())) {
                    let text =
                        format!("Client SSL profile ({profile}): cannot contain more than one set of same certificate/key type.");
                    return Err(daemon(400, "01070317:3", &text));
                }
            }
        }
        for (profile, fields) in &self.server_ssl {
            if let Some((fullchain, key)) = self.pair(profile, fields)? {
                server.set_pem(&fullchain, &key).map_err(|_| mismatch(profile, fields))?;
            }
        }
        Ok(())
    }

    /// What a profile or an entry refers to: certificate with intermediates, and key.
    pub(crate) fn pair(&self, profile: &str, fields: &Map<String, Value>) -> Result<Option<(String, String)>, Refusal> {
        let text = |field: &str| fields.get(field).and_then(Value::as_str).filter(|text| *text != "none");
        let (Some(certificate), Some(key)) = (text("cert"), text("key")) else { return Ok(None) };
        let missing =
            |what: &str, path: &str| daemon(400, "01070277:3", &format!("The requested {what} ({path}) was not found."));
        let visible = |path: &str| {
            let partition = |path: &str| path.split('/').nth(1).map(str::to_owned);
            partition(path).as_deref() == Some("Common") || partition(path) == partition(profile)
        };
        let find = |objects: &BTreeMap<String, Vec<u8>>, what: &str, path: &str| {
            let found = objects.get(path).filter(|_| visible(path)).ok_or_else(|| missing(what, path))?;
            Ok::<_, Refusal>(String::from_utf8_lossy(found).into_owned())
        };
        let mut fullchain = find(&self.certificates, "certificate", certificate)?;
        if let Some(chain) = text("chain") {
            fullchain += &find(&self.certificates, "chain certificate", chain)?;
        }
        Ok(Some((fullchain, find(&self.keys, "key", key)?)))
    }
}

pub(crate) fn entries(profile: &Map<String, Value>) -> impl Iterator<Item = &Map<String, Value>> {
    profile.get("certKeyChain").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

pub(crate) fn body(request: &HttpRequest) -> Result<Map<String, Value>, Refusal> {
    let kind = request.header("content-type").unwrap_or_default();
    if !kind.starts_with("application/json") {
        return Err(framework(415, &format!("Unsupported content type: {kind}")));
    }
    serde_json::from_slice(&request.body)
        .map_err(|error| framework(400, &format!("Found invalid JSON body in the request: {error}")))
}

pub(crate) fn link(place: &str) -> String {
    format!("https://localhost/mgmt/tm/{place}?ver={VERSION}")
}

fn kind_of(kind: Kind) -> String {
    let place = kind.place();
    format!("tm:{}:{}", place.replace('/', ":"), place.rsplit('/').next().unwrap_or_default())
}

fn check_entries(body: &Map<String, Value>) -> Result<(), Refusal> {
    let both =
        body.contains_key("certKeyChain") && ["cert", "key", "chain", "passphrase"].iter().any(|field| body.contains_key(*field));
    if both {
        return Err(daemon(400, "01b4002a:3", "Client SSL profile: cannot use both cert-key-chain and cert, key, chain."));
    }
    if ["cert", "key"].iter().any(|field| body.contains_key(*field)) {
        return Err(daemon(
            400,
            "01b4002b:3",
            "Client SSL profile: no RSA certificate and key that can be modified, use cert-key-chain add.",
        ));
    }
    for entry in entries(body) {
        if let Some(field) = ["name", "cert", "key", "chain"].iter().find(|field| !entry.contains_key(**field)) {
            return Err(daemon(400, "01020057:3", &format!("one or more configuration identifiers must be provided ({field})")));
        }
        if let Some(field) = entry.keys().find(|field| field.ends_with("Reference")) {
            return Err(framework(400, &format!("Found unexpected json pair {field}")));
        }
    }
    Ok(())
}

fn source<'a>(body: &Map<String, Value>, downloads: &'a BTreeMap<String, Vec<u8>>) -> Result<&'a [u8], Refusal> {
    let path = body.get("sourcePath").and_then(Value::as_str).unwrap_or_default();
    let name = path.strip_prefix("file:").map(|path| path.trim_start_matches("//")).and_then(|path| path.strip_prefix(DOWNLOADS));
    let found = name.and_then(|name| downloads.get(name)).map(Vec::as_slice);
    found.ok_or_else(|| daemon(400, "01070734:3", &format!("Configuration error: the source path ({path}) cannot be read.")))
}

/// RSA, DSA and ECDSA are the keys that it has.
fn certificates(content: &[u8]) -> Result<Vec<u8>, Refusal> {
    let ed25519 = [0x06, 0x03, 0x2b, 0x65, 0x70];
    match CertificateDer::pem_slice_iter(content).next() {
        Some(Ok(first)) if !first.windows(ed25519.len()).any(|window| window == ed25519) => Ok(content.to_vec()),
        _ => Err(daemon(400, "01070712:3", "unable to validate certificate, unknown format")),
    }
}

fn key(content: &[u8]) -> Result<Vec<u8>, Refusal> {
    match PrivateKeyDer::from_pem_slice(content) {
        Ok(_) => Ok(content.to_vec()),
        Err(_) => Err(daemon(400, "01070712:3", "unable to validate key, unknown format")),
    }
}

fn show_certificate(content: &[u8]) -> Value {
    let all: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(content).filter_map(Result::ok).collect();
    let fingerprint = pki::fingerprint(&all[0]).to_uppercase();
    let pairs: Vec<&str> = (0..32).map(|index| &fingerprint[2 * index..2 * index + 2]).collect();
    json!({
        "checksum": checksum(content),
        "fingerprint": format!("SHA256/{}", pairs.join(":")),
        "isBundle": (all.len() > 1).to_string(),
        "keyType": key_type(content),
        "size": content.len(),
    })
}

fn checksum(content: &[u8]) -> String {
    let digest: String = Sha1::digest(content).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("SHA1:{}:{digest}", content.len())
}

/// By the object identifier rsaEncryption, which no other key has in it.
fn key_type(certificate: &[u8]) -> &'static str {
    let rsa = [0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    let leaf = CertificateDer::from_pem_slice(certificate).unwrap();
    if leaf.windows(rsa.len()).any(|window| window == rsa) { "rsa-public" } else { "ec-public" }
}

fn mismatch(profile: &str, fields: &Map<String, Value>) -> Refusal {
    daemon(
        400,
        "01070317:3",
        &format!("profile {profile}'s key ({}) and certificate ({}) do not match", fields["key"], fields["cert"]),
    )
}

fn not_found(kind: Kind, path: &str) -> Refusal {
    daemon(404, "01020036:3", &format!("The requested {} ({path}) was not found.", kind.title()))
}

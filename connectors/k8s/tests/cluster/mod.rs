//! A stand-in for the API server of a cluster (`kube-apiserver`), as strict as the real one about what the connector asks of it:
//! bearer tokens, roles, server-side apply with its owners of fields, dry runs, revisions, preconditions, admission. Built from
//! kubernetes.io ("API Conventions", "API Concepts", "Server-Side Apply", "Using RBAC Authorization") and from answers of a real
//! one, version 1.36, that were written down. An ingress serves one Secret of it over TLS.

#![allow(dead_code, reason = "every test uses a part of it")]

mod api;
mod objects;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_testkit::stand_in::{Faults, Record, StandIn};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Issued, Request, TlsServer};
use serde_json::{Value, json};

use self::objects::{Manager, Object};

pub(crate) const NAMESPACE: &str = "web";
pub(crate) const SECRET: &str = "www-tls";
pub(crate) const USER: &str = "system:serviceaccount:certdeploy:certdeploy";

/// One cluster, with the namespaces `web` and `shop`.
pub(crate) struct Cluster {
    stand_in: StandIn<State>,
    pub(crate) root_pem: String,
    pub(crate) token: String,
    ingress: SocketAddr,
}

pub(crate) struct State {
    token: String,
    namespaces: BTreeMap<String, Namespace>,
    secrets: BTreeMap<(String, String), Object>,
    /// By namespace, `deployments`, and name.
    workloads: BTreeMap<(String, String, String), Value>,
    /// Verb, resource, namespace.
    denied: BTreeSet<(String, String, String)>,
    /// What an admission webhook says to the next certificate, dry run or not.
    webhook: Option<String>,
    /// What somebody else does before a change, and how many changes come before that.
    overtaking: Option<(usize, Object)>,
    ingress: TlsServer,
    frozen: bool,
    revision: u64,
    uids: u64,
}

#[derive(Default)]
struct Namespace {
    labels: BTreeMap<String, String>,
    terminating: bool,
}

impl Cluster {
    pub(crate) fn start() -> Self {
        Self::start_with(TlsServer::builder().start())
    }

    pub(crate) fn start_with(ingress: TlsServer) -> Self {
        let authority = Authority::new();
        let names = Request::new(&["localhost", "kubernetes.default.svc"]).with_ips(&[[127, 0, 0, 1].into()]);
        let issued = authority.issue(&names);
        let token = format!("token-{}", &issued.fingerprint[..24]);
        let address = ingress.address();
        let state = State {
            token: token.clone(),
            namespaces: BTreeMap::new(),
            secrets: BTreeMap::new(),
            workloads: BTreeMap::new(),
            denied: BTreeSet::new(),
            webhook: None,
            overtaking: None,
            ingress,
            frozen: false,
            revision: 100,
            uids: 0,
        };
        let stand_in = StandIn::start(&issued, state, api::answer);
        let cluster = Self { stand_in, root_pem: authority.root_pem(), token, ingress: address };
        for namespace in [NAMESPACE, "shop", "kube-system"] {
            cluster.add_namespace(namespace, &[("kubernetes.io/metadata.name", namespace)]);
        }
        cluster
    }

    pub(crate) fn url(&self) -> String {
        self.stand_in.url()
    }

    pub(crate) fn faults(&self) -> &Faults {
        self.stand_in.faults()
    }

    pub(crate) fn record(&self) -> &Record {
        self.stand_in.record()
    }

    /// Where the ingress serves the Secret [`SECRET`] of [`NAMESPACE`].
    pub(crate) fn ingress(&self) -> SocketAddr {
        self.ingress
    }

    pub(crate) fn add_namespace(&self, name: &str, labels: &[(&str, &str)]) {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.with(|state| state.namespaces.insert(name.to_owned(), Namespace { labels, terminating: false }));
    }

    pub(crate) fn terminate(&self, namespace: &str) {
        self.with(|state| state.namespaces.get_mut(namespace).unwrap().terminating = true);
    }

    pub(crate) fn remove_namespace(&self, namespace: &str) {
        self.with(|state| {
            state.namespaces.remove(namespace);
            state.secrets.retain(|(other, _), _| other != namespace);
        });
    }

    /// Adds a workload whose pods have no annotations.
    pub(crate) fn add_workload(&self, namespace: &str, plural: &str, name: &str) {
        let workload = json!({
            "apiVersion": "apps/v1",
            "metadata": { "name": name, "namespace": namespace },
            "spec": { "template": { "metadata": { "labels": { "app": name } }, "spec": { "containers": [] } } },
        });
        let key = (namespace.to_owned(), plural.to_owned(), name.to_owned());
        self.with(|state| state.workloads.insert(key, workload));
    }

    /// The annotations of a workload's pods.
    pub(crate) fn pods(&self, namespace: &str, plural: &str, name: &str) -> Value {
        let key = (namespace.to_owned(), plural.to_owned(), name.to_owned());
        self.with(|state| state.workloads[&key]["spec"]["template"]["metadata"]["annotations"].clone())
    }

    /// Takes a permission away.
    pub(crate) fn deny(&self, verb: &str, resource: &str, namespace: &str) {
        self.with(|state| state.denied.insert((verb.to_owned(), resource.to_owned(), namespace.to_owned())));
    }

    pub(crate) fn allow_everything(&self) {
        self.with(|state| state.denied.clear());
    }

    /// Has an admission webhook refuse Secrets.
    pub(crate) fn refuse_with(&self, message: Option<&str>) {
        self.with(|state| state.webhook = message.map(str::to_owned));
    }

    /// Has the ingress go on with what it has, whatever the Secret is.
    pub(crate) fn freeze(&self, frozen: bool) {
        self.with(|state| {
            state.frozen = frozen;
            state.publish();
        });
    }

    /// Puts a Secret there, as somebody else's PUT would.
    pub(crate) fn put(&self, namespace: &str, name: &str, kind: &str, entries: &[(&str, &[u8])], manager: &str) {
        self.put_with(namespace, name, manager, &body(kind, entries));
    }

    /// The same with labels, annotations and whatever a body may have.
    pub(crate) fn put_with(&self, namespace: &str, name: &str, manager: &str, body: &Value) {
        self.with(|state| state.put(object(namespace, name, manager, body)));
    }

    /// Just before the next change, has somebody else change this Secret.
    pub(crate) fn overtake(&self, namespace: &str, name: &str, entries: &[(&str, &[u8])], manager: &str) {
        self.overtake_after(0, namespace, name, entries, manager);
    }

    /// The same after so many other changes, dry runs counted.
    pub(crate) fn overtake_after(&self, skip: usize, namespace: &str, name: &str, entries: &[(&str, &[u8])], manager: &str) {
        let object = object(namespace, name, manager, &body("kubernetes.io/tls", entries));
        self.with(|state| state.overtaking = Some((skip, object)));
    }

    /// A Secret as the API shows it.
    pub(crate) fn secret(&self, namespace: &str, name: &str) -> Option<Value> {
        self.with(|state| state.secrets.get(&(namespace.to_owned(), name.to_owned())).map(Object::shown))
    }

    /// An entry of a Secret.
    pub(crate) fn entry(&self, namespace: &str, name: &str, entry: &str) -> Option<Vec<u8>> {
        let secret = self.secret(namespace, name)?;
        Some(STANDARD.decode(secret["data"][entry].as_str()?).unwrap())
    }

    /// All that there is, but revisions, identities and owners of fields.
    pub(crate) fn state(&self) -> Tree {
        self.with(|state| {
            let secrets = state.secrets.iter().map(|((namespace, name), object)| {
                (format!("{namespace}/secrets/{name}"), format!("{:?} {}", object.fields, object.owners).into_bytes())
            });
            let workloads = state.workloads.iter().map(|((namespace, plural, name), object)| {
                (format!("{namespace}/{plural}/{name}"), object.to_string().into_bytes())
            });
            Tree::of_objects(secrets.chain(workloads))
        })
    }

    /// A kubeconfig for it, with the token in it.
    pub(crate) fn kubeconfig(&self, directory: &Path) -> PathBuf {
        self.kubeconfig_of(directory, &format!("token: {}", self.token))
    }

    /// The same with another user.
    pub(crate) fn kubeconfig_of(&self, directory: &Path, user: &str) -> PathBuf {
        let path = directory.join("kubeconfig");
        let text = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: here\n\
             clusters:\n- name: stand-in\n  cluster:\n    server: {}\n    certificate-authority-data: {}\n\
             contexts:\n- name: here\n  context:\n    cluster: stand-in\n    user: certdeploy\n    namespace: {NAMESPACE}\n\
             users:\n- name: certdeploy\n  user:\n    {}\n",
            self.url(),
            STANDARD.encode(&self.root_pem),
            user.replace('\n', "\n    "),
        );
        write_private(&path, &text);
        path
    }

    fn with<T>(&self, work: impl FnOnce(&mut State) -> T) -> T {
        self.stand_in.with_state(work)
    }
}

/// Entries for a Secret with this certificate.
pub(crate) fn pair(issued: &Issued) -> [(&'static str, &[u8]); 2] {
    [("tls.crt", issued.fullchain_pem.as_bytes()), ("tls.key", issued.key_pem.as_bytes())]
}

/// The body of a Secret.
pub(crate) fn body(kind: &str, entries: &[(&str, &[u8])]) -> Value {
    let data: BTreeMap<&str, String> = entries.iter().map(|(name, value)| (*name, STANDARD.encode(value))).collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": {}, "type": kind, "data": data })
}

pub(crate) fn write_private(path: &Path, text: &str) {
    drop(fs::remove_file(path));
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

fn object(namespace: &str, name: &str, manager: &str, body: &Value) -> Object {
    let fields = Object::read(body).unwrap();
    // Another certdeploy would use server-side apply.
    let operation = if manager == "certdeploy" { "Apply" } else { "Update" };
    let managers = vec![Manager { name: manager.to_owned(), operation, fields: fields.keys().cloned().collect() }];
    Object {
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        uid: String::new(),
        revision: 0,
        owners: body["metadata"]["ownerReferences"].clone(),
        fields,
        managers,
    }
}

impl State {
    /// Writes one down: with a new revision, and an identity if it is a new one.
    fn put(&mut self, mut object: Object) {
        self.revision += 1;
        object.revision = self.revision;
        let key = (object.namespace.clone(), object.name.clone());
        if object.uid.is_empty() {
            let there = self.secrets.get(&key).map(|there| there.uid.clone());
            object.uid = there.unwrap_or_else(|| self.new_uid());
        }
        self.secrets.insert(key, object);
        self.publish();
    }

    /// Lets somebody else go first, where it is their turn.
    fn let_others_pass(&mut self) {
        match self.overtaking.take() {
            Some((0, object)) => self.put(object),
            Some((left, object)) => self.overtaking = Some((left - 1, object)),
            None => {}
        }
    }

    fn new_uid(&mut self) -> String {
        self.uids += 1;
        format!("00000000-0000-4000-8000-{:012}", self.uids)
    }

    /// The ingress takes up what it can use, and goes on with what it has otherwise.
    fn publish(&mut self) {
        if self.frozen {
            return;
        }
        let Some(object) = self.secrets.get(&(NAMESPACE.to_owned(), SECRET.to_owned())) else {
            return self.ingress.clear_certificate();
        };
        let entry = |name: &str| {
            let value = object.field(&format!("data.{name}"))?;
            String::from_utf8(STANDARD.decode(value).ok()?).ok()
        };
        if let (Some(fullchain), Some(key)) = (entry("tls.crt"), entry("tls.key")) {
            drop(self.ingress.set_pem(&fullchain, &key));
        }
    }
}

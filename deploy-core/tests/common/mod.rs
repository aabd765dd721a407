//! A world for plans: a directory with a certificate and a key, and a TLS server that loads them when it is told to.

#![allow(dead_code, reason = "each test program uses a part of it")]

pub(crate) mod crash;
pub(crate) mod wrapped;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use deploy_core::probe::Endpoint;
use deploy_core::{
    Context, Error, ErrorKind, Event, EventSink, Hooks, Layout, Plan, PlanFile, Reload, ReloadCall, Report, Role, Verify,
};
use deploy_testkit::pki::{Authority, Issued, Request};
use deploy_testkit::tls_server::TlsServer;

pub(crate) const NAME: &str = "www.example.test";

/// The directory, the server, the state directory.
pub(crate) struct World {
    pub(crate) root: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) server: Arc<TlsServer>,
    pub(crate) reload: Arc<CountingReload>,
    pub(crate) events: Arc<Recorder>,
    pub(crate) context: Context,
    pub(crate) layout: Layout,
}

impl World {
    /// A server that waits for its first files, and an empty directory.
    pub(crate) fn new() -> Self {
        Self::with_layout(|_| Layout::Replace)
    }

    /// The same, with the files in the generations of a directory that does not exist yet.
    pub(crate) fn with_generations() -> Self {
        Self::with_layout(|tls| Layout::Generation(tls.join("www")))
    }

    fn with_layout(layout: impl Fn(&Path) -> Layout) -> Self {
        let root = tempfile::tempdir().unwrap();
        let tls = root.path().join("tls");
        fs::create_dir(&tls).unwrap();
        let layout = layout(&tls);
        let [crt, key] = paths(&tls, &layout);
        let server = TlsServer::builder().files(&crt, &key).wait_for_files().start();
        let server = Arc::new(server);
        let reload = Arc::new(CountingReload::new(Arc::clone(&server)));
        let events = Arc::new(Recorder::default());
        let context = Context::new(root.path().join("state"), deploy_testkit::provider()).with_events(events.clone());
        Self { authority: Authority::new(), root, server, reload, events, context, layout }
    }

    pub(crate) fn tls(&self) -> PathBuf {
        self.root.path().join("tls")
    }

    pub(crate) fn crt(&self) -> PathBuf {
        self.place("www.crt")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.place("www.key")
    }

    /// The path of a file of the plan.
    pub(crate) fn place(&self, name: &str) -> PathBuf {
        place(&self.tls(), &self.layout, name)
    }

    pub(crate) fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    pub(crate) fn hooks(&self) -> Hooks {
        Hooks::new().with_reload(Reload::Call(self.reload.clone())).with_verify(Verify::endpoints([self.endpoint()]))
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new(self.server.address().to_string()).with_server_name(NAME)
    }

    pub(crate) fn plan(&self, issued: &Issued) -> Plan {
        Plan::new("front")
            .with_file(PlanFile::new(self.crt(), Role::Fullchain, issued.fullchain_pem.as_bytes()))
            .with_file(PlanFile::new(self.key(), Role::Key, issued.key_pem.as_bytes()))
            .with_layout(self.layout.clone())
            .with_hooks(self.hooks())
    }

    pub(crate) async fn deploy(&self, issued: &Issued) -> Report {
        self.plan(issued).apply(&self.context).await
    }

    /// What the server serves, seen by a client that shares no code with the engine.
    pub(crate) fn served(&self) -> Option<String> {
        deploy_testkit::observe::served_fingerprint(self.server.address(), Some(NAME)).ok()
    }

    /// Everything below the directory with the files: kind, bytes, owner, mode.
    pub(crate) fn tree(&self) -> BTreeMap<PathBuf, Entry> {
        let mut tree = BTreeMap::new();
        collect(&self.tls(), &mut tree);
        tree
    }

    /// The tree without the engine's hidden directories; with generations, what is in the current one.
    pub(crate) fn visible(&self) -> BTreeMap<PathBuf, Entry> {
        let mut tree = self.tree();
        if self.layout != Layout::Replace {
            tree.clear();
            let current = self.crt().parent().unwrap().to_owned();
            if current.exists() {
                collect(&current, &mut tree);
            }
            return tree;
        }
        tree.retain(|path, _| !path.components().any(|component| component.as_os_str() == ".certdeploy"));
        tree
    }

    /// Backups in the hidden directories that belong to no kept set; there must never be any.
    pub(crate) fn stray_backups(&self) -> Vec<PathBuf> {
        let mut stray = stray_backups(self.root.path());
        stray.extend(stray_generations(self.root.path()));
        stray
    }

    /// The same world on another host.
    pub(crate) fn context_on(&self, host: &Arc<wrapped::Wrapped>) -> Context {
        let host: Arc<wrapped::Wrapped> = Arc::clone(host);
        self.context.clone().with_host(host)
    }

    /// Whether both live files are those of one certificate.
    pub(crate) fn holds(&self, issued: &Issued) -> bool {
        let read = |path: PathBuf| fs::read(path).unwrap_or_default();
        read(self.crt()) == issued.fullchain_pem.as_bytes() && read(self.key()) == issued.key_pem.as_bytes()
    }

    /// How many earlier states can be gone back to.
    pub(crate) fn sets(&self) -> usize {
        let names = fs::read_dir(self.root.path().join("state/targets")).unwrap().flatten();
        names.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "set")).count()
    }

    /// Staging files and journals that are left; there must never be any.
    pub(crate) fn litter(&self) -> Vec<PathBuf> {
        litter(self.root.path())
    }
}

/// Where certificate and key are, in a directory.
pub(crate) fn paths(tls: &Path, layout: &Layout) -> [PathBuf; 2] {
    ["www.crt", "www.key"].map(|name| place(tls, layout, name))
}

fn place(tls: &Path, layout: &Layout, name: &str) -> PathBuf {
    layout.directory().map_or_else(|| tls.to_owned(), |directory| directory.join("current")).join(name)
}

/// Generations below a directory, but for the current one, that no set in its `state/targets` goes back to; and what is
/// left of links.
pub(crate) fn stray_generations(root: &Path) -> Vec<PathBuf> {
    let mut tree = BTreeMap::new();
    collect(root, &mut tree);
    let is_set = |path: &Path| path.extension().is_some_and(|ending| ending == "set");
    let sets = tree.iter().filter(|(path, _)| is_set(path)).map(|(_, entry)| String::from_utf8_lossy(&entry.bytes).into_owned());
    let sets: String = sets.collect();
    let current: Vec<PathBuf> = tree.iter().filter_map(|(path, entry)| Some(path.with_file_name(entry.link.as_ref()?))).collect();
    let stray = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("generation-") && !current.contains(path) && !sets.contains(&format!("\"old\":\"{name}\""))
    };
    tree.into_keys().filter(stray).collect()
}

/// Staging files and journals below a directory.
pub(crate) fn litter(root: &Path) -> Vec<PathBuf> {
    let mut tree = BTreeMap::new();
    collect(root, &mut tree);
    let litter = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        [".new", ".back", ".jnl", ".push", ".snapshot"].iter().any(|ending| name.ends_with(ending))
    };
    tree.into_keys().filter(litter).collect()
}

/// Backups below a directory that no set in its `state/targets` names.
pub(crate) fn stray_backups(root: &Path) -> Vec<PathBuf> {
    let mut tree = BTreeMap::new();
    collect(root, &mut tree);
    let sets: String = tree
        .iter()
        .filter(|(path, _)| path.extension().is_some_and(|ending| ending == "set"))
        .map(|(_, entry)| String::from_utf8_lossy(&entry.bytes).into_owned())
        .collect();
    let stray = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let owner = path.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        name.ends_with(".old") && !(sets.contains(&format!("\"{name}\"")) && sets.contains(&format!("\"{owner}\"")))
    };
    tree.into_keys().filter(stray).collect()
}

/// One file or directory as it can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) link: Option<PathBuf>,
}

pub(crate) fn collect(directory: &Path, tree: &mut BTreeMap<PathBuf, Entry>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        let metadata = fs::symlink_metadata(&path).unwrap();
        let link = fs::read_link(&path).ok();
        let bytes = if metadata.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
        let (mode, uid, gid) = (metadata.permissions().mode(), metadata.uid(), metadata.gid());
        if metadata.is_dir() {
            collect(&path, tree);
        }
        tree.insert(path, Entry { bytes, mode, uid, gid, link });
    }
}

/// A reload by a call, which counts and can be made to fail.
#[derive(Debug)]
pub(crate) struct CountingReload {
    server: Mutex<ServerHandle>,
    pub(crate) applied: AtomicUsize,
    pub(crate) undone: AtomicUsize,
    pub(crate) fail_forward: AtomicBool,
    pub(crate) fail_back: AtomicBool,
    pub(crate) ignore: AtomicBool,
}

struct ServerHandle(Arc<TlsServer>);

impl std::fmt::Debug for ServerHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("server")
    }
}

impl CountingReload {
    fn new(server: Arc<TlsServer>) -> Self {
        Self {
            server: Mutex::new(ServerHandle(server)),
            applied: AtomicUsize::new(0),
            undone: AtomicUsize::new(0),
            fail_forward: AtomicBool::new(false),
            fail_back: AtomicBool::new(false),
            ignore: AtomicBool::new(false),
        }
    }

    pub(crate) fn applied(&self) -> usize {
        self.applied.load(Ordering::SeqCst)
    }

    pub(crate) fn undone(&self) -> usize {
        self.undone.load(Ordering::SeqCst)
    }

    fn reload(&self, fail: &AtomicBool) -> Result<(), Error> {
        if fail.load(Ordering::SeqCst) {
            return Err(Error::new(ErrorKind::ReloadFailed, "told to fail"));
        }
        if self.ignore.load(Ordering::SeqCst) {
            return Ok(());
        }
        self.server.lock().unwrap().0.reload().map_err(|error| Error::new(ErrorKind::ReloadFailed, error))
    }
}

#[async_trait]
impl ReloadCall for CountingReload {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        self.applied.fetch_add(1, Ordering::SeqCst);
        self.reload(&self.fail_forward)
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        self.undone.fetch_add(1, Ordering::SeqCst);
        self.reload(&self.fail_back)
    }
}

/// Keeps every event, and can act on one.
#[derive(Default)]
pub(crate) struct Recorder {
    pub(crate) events: Mutex<Vec<Event>>,
    pub(crate) action: Mutex<Option<Action>>,
}

pub(crate) type Action = Box<dyn Fn(&Event) + Send>;

impl Recorder {
    /// Does something at every event, on the engine's thread.
    pub(crate) fn at_each(&self, action: impl Fn(&Event) + Send + 'static) {
        *self.action.lock().unwrap() = Some(Box::new(action));
    }

    pub(crate) fn finished(&self) -> usize {
        self.events.lock().unwrap().iter().filter(|event| matches!(event, Event::Finished { .. })).count()
    }
}

impl EventSink for Recorder {
    fn event(&self, event: &Event) {
        self.events.lock().unwrap().push(event.clone());
        if let Some(action) = &*self.action.lock().unwrap() {
            action(event);
        }
    }
}

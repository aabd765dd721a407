//! Real crashes: a deployment in a process of its own, which is killed at an event or an operation of choice. The server
//! is a process, too, and outlives it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use deploy_core::host::Signal;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Context, Deployment, Error, Event, EventSink, Hooks, Job, Layout, Plan, PlanFile, Recovered,
    Recovery, RecoveryScope, Reload, Report, Role, Target, Verify,
};
use deploy_testkit::pki::{Authority, Issued, Request};

use super::NAME;
use super::wrapped::Wrapped;

/// A directory, a state directory and a running server that loads files at SIGHUP.
pub(crate) struct CrashWorld {
    server: Child,
    pub(crate) root: tempfile::TempDir,
    pub(crate) authority: Authority,
    pub(crate) address: SocketAddr,
    pub(crate) context: Context,
    pub(crate) layout: Layout,
    pairs: AtomicUsize,
}

impl Drop for CrashWorld {
    fn drop(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }
}

impl CrashWorld {
    pub(crate) fn new() -> Self {
        Self::with_layout(|_| Layout::Replace)
    }

    /// The same, with the files in the generations of a directory that does not exist yet.
    pub(crate) fn with_generations() -> Self {
        Self::with_layout(|root| Layout::Generation(root.join("tls/www")))
    }

    fn with_layout(layout: impl Fn(&Path) -> Layout) -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("tls")).unwrap();
        let layout = layout(root.path());
        let (server, address) = start_server(root.path(), &layout);
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        Self { server, root, authority: Authority::new(), address, context, layout, pairs: AtomicUsize::new(0) }
    }

    pub(crate) fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    pub(crate) fn crt(&self) -> PathBuf {
        self.target().crt
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.target().key
    }

    pub(crate) fn target(&self) -> FilesTarget {
        FilesTarget::new(self.root.path(), self.address, self.layout.clone())
    }

    pub(crate) fn job(&self, issued: &Issued) -> Job {
        self.job_with(self.target(), issued)
    }

    pub(crate) fn job_with(&self, target: FilesTarget, issued: &Issued) -> Job {
        Job::new("front", "files", Arc::new(target), Arc::new(certificate(issued)))
    }

    pub(crate) async fn deploy(&self, issued: &Issued) -> Report {
        deploy_core::deploy(&[self.job(issued)], &self.context).await.remove(0)
    }

    pub(crate) async fn recover(&self, issued: &Issued) -> Vec<Recovered> {
        deploy_core::recover(&[self.job(issued)], RecoveryScope::Full, &self.context).await
    }

    /// Deploys in a process that dies at `at`; says whether it got there.
    pub(crate) fn deploy_and_die(&self, issued: &Issued, at: &str) -> bool {
        self.child("deploy", issued, at)
    }

    /// Recovers in a process that dies at `at`; says whether it got there.
    pub(crate) fn recover_and_die(&self, issued: &Issued, at: &str) -> bool {
        self.child("recover", issued, at)
    }

    pub(crate) fn child(&self, work: &str, issued: &Issued, at: &str) -> bool {
        let pair = self.root.path().join(format!("pair-{}", self.pairs.fetch_add(1, Ordering::SeqCst)));
        std::fs::create_dir(&pair).unwrap();
        deploy_testkit::write_pair(&pair, issued);
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "inner", "--ignored", "--nocapture", "--test-threads=1"])
            .env("CRASH_ROOT", self.root.path())
            .env("CRASH_ADDRESS", self.address.to_string())
            .env("CRASH_PAIR", &pair)
            .env("CRASH_WORK", work)
            .env("CRASH_LAYOUT", self.layout.directory().unwrap_or(Path::new("")))
            .env("CRASH_AT", at)
            .stdin(Stdio::null())
            .output()
            .unwrap();
        std::fs::remove_dir_all(&pair).unwrap();
        let killed = output.status.signal() == Some(9);
        assert!(killed || output.status.success(), "{at}: {output:?}");
        killed
    }

    pub(crate) fn served(&self) -> Option<String> {
        deploy_testkit::observe::served_fingerprint(self.address, Some(NAME)).ok()
    }

    pub(crate) fn holds(&self, issued: &Issued) -> bool {
        let read = |path: PathBuf| std::fs::read(path).unwrap_or_default();
        let wanted = certificate(issued);
        read(self.crt()) == wanted.fullchain_pem() && read(self.key()) == wanted.key_pem().expose()
    }

    pub(crate) fn litter(&self) -> Vec<PathBuf> {
        let mut litter = super::litter(self.root.path());
        // A marker that was being written: the next one takes it away, and there is no secret in it.
        litter.retain(|path| !path.ends_with("applied/.front.new"));
        litter.extend(super::stray_backups(self.root.path()));
        litter.extend(super::stray_generations(self.root.path()));
        litter
    }

    pub(crate) fn journals(&self) -> Vec<PathBuf> {
        let directory = self.root.path().join("state/journal");
        std::fs::read_dir(directory).map(|entries| entries.flatten().map(|entry| entry.path()).collect()).unwrap_or_default()
    }

    pub(crate) fn hidden(&self) -> PathBuf {
        let hidden = self.root.path().join("tls/.certdeploy");
        let target = |entry: &std::fs::DirEntry| entry.file_name().to_string_lossy().starts_with("front-");
        std::fs::read_dir(hidden).unwrap().flatten().find(target).unwrap().path()
    }

    /// Has the server load what is on disk, and waits until it serves that.
    pub(crate) fn hang_up(&self, issued: &Issued) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.server), rustix::process::Signal::HUP).unwrap();
        let end = std::time::Instant::now() + Duration::from_secs(10);
        while self.served().as_ref() != Some(&issued.fingerprint) {
            assert!(std::time::Instant::now() < end, "the server does not take up its files");
            std::thread::yield_now();
        }
    }
}

pub(crate) fn certificate(issued: &Issued) -> Certificate {
    Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(issued.key_pem.as_bytes().to_vec())).unwrap()
}

/// The target of these tests: a chain and a key, a reload by signal, a look on the wire.
#[derive(Clone, Debug)]
pub(crate) struct FilesTarget {
    pub(crate) name: String,
    pub(crate) crt: PathBuf,
    pub(crate) key: PathBuf,
    pub(crate) hooks: Hooks,
    pub(crate) backups: usize,
    pub(crate) layout: Layout,
}

impl FilesTarget {
    pub(crate) fn new(root: &Path, address: SocketAddr, layout: Layout) -> Self {
        let [crt, key] = super::paths(&root.join("tls"), &layout);
        let endpoint = Endpoint::new(address.to_string()).with_server_name(NAME);
        let hooks = Hooks::new()
            .with_reload(Reload::Signal { signal: Signal::Hup, pid_file: root.join("pid") })
            .with_verify(Verify::Endpoints { endpoints: vec![endpoint], timeout: Duration::from_secs(5) });
        Self { name: "front".to_owned(), crt, key, hooks, backups: 3, layout }
    }

    pub(crate) fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }
}

#[async_trait]
impl Target for FilesTarget {
    fn capabilities(&self) -> Capabilities {
        Capabilities::FILES
    }

    fn recovery(&self) -> Recovery {
        Recovery::Files(self.hooks.clone())
    }

    async fn prepare(&self, certificate: &Certificate, _: &Context) -> Result<Deployment, Error> {
        let plan = Plan::new(&self.name)
            .with_file(PlanFile::new(&self.crt, Role::Fullchain, certificate.fullchain_pem()))
            .with_file(PlanFile::new(&self.key, Role::Key, certificate.key_pem()))
            .with_backups(self.backups)
            .with_layout(self.layout.clone())
            .with_in_place_allowed(true)
            .with_hooks(self.hooks.clone());
        Ok(Deployment::Files(plan))
    }
}

/// What the child does.
pub(crate) async fn inner() {
    let variable = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is for the outer test to set"));
    let root = PathBuf::from(variable("CRASH_ROOT"));
    let (pair, at) = (PathBuf::from(variable("CRASH_PAIR")), variable("CRASH_AT"));
    let (chain, key) = (std::fs::read(pair.join("fullchain.pem")).unwrap(), std::fs::read(pair.join("privkey.pem")).unwrap());
    let certificate = Certificate::from_pem(&chain, &SecretBytes::from(key)).unwrap();
    let layout = match variable("CRASH_LAYOUT").as_str() {
        "" => Layout::Replace,
        directory => Layout::Generation(directory.into()),
    };
    let target = FilesTarget::new(&root, variable("CRASH_ADDRESS").parse().unwrap(), layout);
    let host = Arc::new(Wrapped::default());
    let mut context = Context::new(root.join("state"), deploy_testkit::provider());
    match at.strip_prefix("operation ") {
        Some(number) => host.kill_at(number.parse().unwrap()),
        None => context = context.with_events(Arc::new(Killer { at, seen: Mutex::default() })),
    }
    let context = context.with_host(host);
    let jobs = [Job::new("front", "files", Arc::new(target), Arc::new(certificate))];
    match variable("CRASH_WORK").as_str() {
        "deploy" => drop(deploy_core::deploy(&jobs, &context).await),
        "recover" => drop(deploy_core::recover(&jobs, RecoveryScope::Full, &context).await),
        other => panic!("unknown work {other}"),
    }
}

/// Ends this process at an event: `event 7`, or `swapped 2` for the second of its kind.
struct Killer {
    at: String,
    seen: Mutex<Vec<&'static str>>,
}

impl EventSink for Killer {
    fn event(&self, event: &Event) {
        let name = match event {
            Event::Stage { stage, .. } => stage.name(),
            Event::Swapped { .. } => "swapped",
            Event::Restored { .. } => "restored",
            Event::Warning { .. } => "warning",
            _ => "finished",
        };
        let mut seen = self.seen.lock().unwrap();
        seen.push(name);
        let same = seen.iter().filter(|other| **other == name).count();
        if self.at == format!("{name} {same}") || self.at == format!("event {}", seen.len()) {
            die();
        }
    }
}

/// As if somebody pulled the plug on this process.
pub(crate) fn die() -> ! {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL).unwrap();
    unreachable!("the signal cannot be caught")
}

fn start_server(root: &Path, layout: &Layout) -> (Child, SocketAddr) {
    let [crt, key] = super::paths(&root.join("tls"), layout);
    let mut child = Command::new(server_program())
        .args(["--listen", "127.0.0.1:0", "--wait-for-files", "--fullchain"])
        .arg(crt)
        .arg("--key")
        .arg(key)
        .arg("--pid-file")
        .arg(root.join("pid"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening ").unwrap().parse().unwrap();
    (child, address)
}

/// Beside the test programs; built once where it is missing.
fn server_program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let own = std::env::current_exe().unwrap();
        let directory = own.ancestors().nth(2).unwrap();
        let program = directory.join("reloading-tls-server");
        if !program.exists() {
            let mut cargo = Command::new(option_env!("CARGO").unwrap_or("cargo"));
            cargo.args(["build", "--quiet", "-p", "deploy-testkit", "--bin", "reloading-tls-server"]);
            if directory.file_name().is_some_and(|name| name == "release") {
                cargo.arg("--release");
            }
            cargo.current_dir(env!("CARGO_MANIFEST_DIR"));
            cargo.env("CARGO_TARGET_DIR", directory.parent().unwrap());
            assert!(cargo.status().unwrap().success());
        }
        program
    })
}

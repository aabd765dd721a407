//! One case's world: the harness's, with a source of certificates, a state directory, and everything that was seen.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deploy_core::secret::SecretString;
use deploy_core::{
    Connector, Context, Deployment, Error, Event, Job, Outcome, PemFiles, Plan, Preview, Push, Registry, Report, Target,
};
use tempfile::TempDir;

use super::child;
use super::harness::{Harness, NAME, Settings};
use crate::canary::Canary;
use crate::events::Recorder;
use crate::pki::{Authority, Issued, Request, fingerprint, write_pair};
use crate::tree::{Tree, assert_same};

/// How long something may take that happens by itself: much longer than it ever does.
const PATIENCE: Duration = Duration::from_secs(15);

/// The name of the target in every case.
pub(crate) const TARGET: &str = "front";

pub(crate) struct World<H: Harness> {
    pub(crate) harness: H,
    pub(crate) context: Context,
    pub(crate) events: Recorder,
    pub(crate) authority: Authority,
    runtime: tokio::runtime::Runtime,
    foreign: Tree,
    directory: TempDir,
}

impl<H: Harness> World<H> {
    /// Nothing is deployed.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a directory for a world");
        for name in ["world", "source"] {
            std::fs::create_dir(directory.path().join(name)).expect("a new directory");
        }
        let harness = H::start(&directory.path().join("world")).unwrap_or_else(|error| panic!("no world: {error}"));
        let events = Recorder::default();
        let context = context::<H>(&directory.path().join("state"), &directory.path().join("world")).with_events(events.sink());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let foreign = harness.foreign();
        Self { harness, context, events, authority: Authority::new(), runtime, foreign, directory }
    }

    /// A first certificate is deployed and served.
    pub(crate) fn serving() -> (Self, Issued) {
        let world = Self::new();
        let issued = world.issue();
        world.deploy_and_see(&issued);
        (world, issued)
    }

    /// A certificate that nobody has seen yet.
    pub(crate) fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[NAME]))
    }

    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn source(&self) -> PathBuf {
        self.directory.path().join("source")
    }

    pub(crate) fn target(&self) -> Box<dyn Target> {
        target::<H::Connector>(settings_value::<H>(self.harness.settings()))
    }

    /// The target with a certificate in the source.
    pub(crate) fn job(&self, issued: &Issued) -> Job {
        self.job_for(Arc::from(self.target()), issued)
    }

    pub(crate) fn job_for(&self, target: Arc<dyn Target>, issued: &Issued) -> Job {
        // A pair of its own, so that jobs for two certificates can exist at once.
        let directory = self.source().join(&issued.fingerprint);
        std::fs::create_dir_all(&directory).expect("a directory in the source");
        let (fullchain, key) = write_pair(&directory, issued);
        job::<H::Connector>(target, fullchain, key)
    }

    pub(crate) fn deploy(&self, issued: &Issued) -> Report {
        self.deploy_in(issued, &self.context)
    }

    pub(crate) fn deploy_in(&self, issued: &Issued, context: &Context) -> Report {
        self.run(&self.job(issued), context)
    }

    /// Every run of every case ends with one event and leaves what belongs to others alone.
    pub(crate) fn run(&self, job: &Job, context: &Context) -> Report {
        self.events.clear();
        let report = self.block_on(deploy_core::deploy(std::slice::from_ref(job), context)).remove(0);
        let finished = self.events.events().iter().filter(|event| matches!(event, Event::Finished { .. })).count();
        assert!(finished <= 1, "A8: a run ended {finished} times");
        assert_same(&self.foreign, &self.harness.foreign());
        if let Some(error) = &report.error {
            assert!(!error.next_step().is_empty() && !error.to_string().is_empty(), "an error says nothing: {report:?}");
        }
        report
    }

    /// Deploys, and the certificate is seen served.
    #[track_caller]
    pub(crate) fn deploy_and_see(&self, issued: &Issued) -> Report {
        let report = self.deploy(issued);
        assert!(report.error.is_none(), "{}", told(&report));
        self.sees(issued);
        report
    }

    /// Deploys what another run may have begun or finished, and the certificate is seen served; a second run has nothing to do.
    #[track_caller]
    pub(crate) fn ends_with(&self, issued: &Issued) {
        self.deploy_and_see(issued);
        self.is_settled_with(issued);
    }

    /// It is served, and a run has nothing to do.
    #[track_caller]
    pub(crate) fn is_settled_with(&self, issued: &Issued) {
        self.sees(issued);
        let again = self.deploy(issued);
        assert_eq!(again.outcome, Outcome::Unchanged, "after it is settled: {}", told(&again));
    }

    pub(crate) fn preview(&self, issued: &Issued) -> Preview {
        self.block_on(deploy_core::preview(&self.job(issued), &self.context))
    }

    pub(crate) fn block_on<F: Future>(&self, work: F) -> F::Output {
        self.runtime.block_on(work)
    }

    pub(crate) fn prepare(&self, issued: &Issued) -> Result<Deployment, Error> {
        let job = self.job(issued);
        let loaded = job.certificate.load(self.context.host())?;
        self.block_on(job.target.prepare(&loaded.certificate, &self.context))
    }

    pub(crate) fn plan(&self, issued: &Issued) -> Plan {
        match self.prepare(issued) {
            Ok(Deployment::Files(plan)) => plan,
            other => panic!("no files are described: {other:?}"),
        }
    }

    pub(crate) fn push(&self, issued: &Issued) -> Box<dyn Push> {
        match self.prepare(issued) {
            Ok(Deployment::Push(push)) => push,
            other => panic!("no calls are described: {other:?}"),
        }
    }

    /// Deploys in a process that is killed at its event of this number, counted from 1; says whether it got there.
    pub(crate) fn deploy_and_die(&self, issued: &Issued, event: usize) -> bool {
        self.job(issued);
        let settings = settings_value::<H>(self.harness.settings());
        let (pair, world) = (self.source().join(&issued.fingerprint), self.directory().join("world"));
        child::run(settings, pair, self.context.state_directory().to_owned(), world, event)
    }

    pub(crate) fn served(&self) -> Option<String> {
        self.harness.served().and_then(|chain| chain.first().map(|leaf| fingerprint(leaf)))
    }

    /// Waits until this is served.
    #[track_caller]
    pub(crate) fn sees(&self, issued: &Issued) {
        self.sees_leaf(Some(&issued.fingerprint));
    }

    /// Waits until this is served, or nothing.
    #[track_caller]
    pub(crate) fn sees_leaf(&self, wanted: Option<&String>) {
        self.await_that(&format!("{wanted:?} is served"), || self.served().as_ref() == wanted);
    }

    #[track_caller]
    pub(crate) fn await_that(&self, what: &str, condition: impl Fn() -> bool) {
        self.await_some(what, || condition().then_some(()));
    }

    /// Asks again and again until there is an answer.
    #[track_caller]
    pub(crate) fn await_some<T>(&self, what: &str, ask: impl Fn() -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask() {
                return answer;
            }
            assert!(Instant::now() < deadline, "never came true: {what}; served is {:?}", self.served());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The state is as it was.
    #[track_caller]
    pub(crate) fn is_as(&self, before: &Tree) {
        assert_same(before, &self.harness.state());
    }

    /// What must not be anywhere but where it belongs: in the source, where it is served from, in hidden directories.
    pub(crate) fn canary(&self, issued: &Issued) -> Canary {
        let canary = self.harness.keeps_keys_in().into_iter().fold(Canary::new(issued), Canary::kept_in).kept_in(self.source());
        self.harness.secrets().iter().fold(canary, |canary, (secret, file)| canary.and_password(secret).kept_in(file))
    }

    /// Where staged files, journals, or snapshots of a run that is over still lie.
    pub(crate) fn litter(&self) -> Vec<PathBuf> {
        let all = Tree::of(self.directory.path());
        let litter = |path: &&Path| {
            let ours = path.components().any(|part| [".certdeploy", "state"].iter().any(|name| part.as_os_str() == *name));
            let ending = path.extension().unwrap_or_default();
            ours && ["new", "back", "jnl", "push", "snapshot"].iter().any(|known| ending == *known)
        };
        // A marker that was being written: the next one takes it away, and there is no secret in it.
        let marker = |path: &Path| path.components().any(|part| part.as_os_str() == "applied");
        all.paths().filter(litter).filter(|path| !marker(path)).map(Path::to_owned).collect()
    }
}

/// A report as a message of a test: outcome, and the error with its causes.
pub(crate) fn told(report: &Report) -> String {
    let error = report.error.as_ref().map(|error| format!("{} ({:?})", error.full_message(), error.kind()));
    format!(
        "{} at {}, live: {}: {}; warnings: {:?}",
        report.outcome.name(),
        report.stage.name(),
        report.live.name(),
        error.unwrap_or_else(|| "no error".to_owned()),
        report.warnings
    )
}

pub(crate) fn context<H: Harness>(state: &Path, world: &Path) -> Context {
    // What an agent would do for `env:` references.
    let context = Context::new(state, crate::provider()).with_variables(|name| std::env::var(name).ok().map(SecretString::from));
    match H::host(world) {
        Some(host) => context.with_host(host),
        None => context,
    }
}

pub(crate) fn settings_value<H: Harness>(settings: Settings<H>) -> serde_json::Value {
    serde_json::to_value(settings).expect("settings that can be written")
}

/// As an agent makes it: from a configuration, by way of the registry.
pub(crate) fn target<C: Connector>(settings: serde_json::Value) -> Box<dyn Target> {
    let registry = Registry::new().with::<C>();
    let entry = registry.get(C::KIND).expect("it was registered");
    entry
        .build(TARGET, settings)
        .unwrap_or_else(|error| panic!("the settings of the world are refused at `{}`: {error}", error.path))
}

pub(crate) fn job<C: Connector>(target: Arc<dyn Target>, fullchain: PathBuf, key: PathBuf) -> Job {
    Job::new(TARGET, C::KIND, target, Arc::new(PemFiles::new(fullchain, key)))
}

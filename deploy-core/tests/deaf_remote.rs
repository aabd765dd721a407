//! Deployments by calls to a remote that takes pairs, and never gives one back; it may not even say which one it has.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic, reason = "tests look at files")]

mod common;

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use common::crash::certificate;
use deploy_core::secret::SecretBytes;
use deploy_core::{
    Capabilities, Certificate, Context, Deployment, Error, ErrorKind, Job, Live, Observed, Outcome, Push, Recovery,
    RecoveryScope, Report, Rung, Snapshot, Target, TargetState, Validation, Verify, deploy, preview, recover, status,
};
use deploy_testkit::pki::{Authority, Issued, Request};

#[derive(Debug, Default)]
struct Remote {
    /// Fingerprint, and the key that came with it.
    live: Option<(String, Vec<u8>)>,
    says_what_is_live: bool,
    /// The next pairs that it takes: with an error, and dying.
    refuses: bool,
    dies: bool,
    waived: bool,
    sent: usize,
    /// What it gave out last, and what a push was reminded of.
    name: Option<String>,
    recalled: Vec<String>,
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Remote>>);

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Remote) -> T) -> T {
        // A test that kills a call poisons nothing that matters.
        work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn take(&self, pair: &Certificate) {
        self.with(|remote| {
            remote.sent += 1;
            remote.name = Some(format!("object {}", remote.sent));
            remote.live = Some((pair.fingerprint().to_owned(), pair.key_pem().expose().to_vec()));
        });
    }
}

#[async_trait]
impl Push for Shared {
    fn keeps_pair(&self) -> bool {
        true
    }

    fn note(&self) -> Option<String> {
        self.with(|remote| remote.name.clone())
    }

    fn recall(&mut self, note: &str) {
        self.with(|remote| remote.recalled.push(note.to_owned()));
    }

    fn verify(&self) -> Verify {
        if self.with(|remote| remote.waived) { Verify::Waived } else { Verify::NotConfigured }
    }

    async fn observe(&mut self, _: &Context) -> Result<Observed, Error> {
        Ok(self.with(|remote| match remote.says_what_is_live {
            true => Observed::new(remote.live.as_ref().map(|(fingerprint, _)| fingerprint.clone()), None),
            false => Observed::unknown(),
        }))
    }

    async fn validate(&mut self, _: &Certificate, _: &Context) -> Result<Validation, Error> {
        Ok(Validation::Unavailable("it has no dry run".to_owned()))
    }

    async fn snapshot(&mut self, _: &Context) -> Result<Snapshot, Error> {
        Ok(Snapshot::new(1, SecretBytes::default()))
    }

    async fn upload(&mut self, _: &Certificate, _: &Context) -> Result<(), Error> {
        Ok(())
    }

    async fn activate(&mut self, certificate: &Certificate, _: &Context) -> Result<(), Error> {
        self.take(certificate);
        assert!(!self.with(|remote| std::mem::take(&mut remote.dies)), "the process dies");
        match self.with(|remote| std::mem::take(&mut remote.refuses)) {
            true => Err(Error::new(ErrorKind::ReloadFailed, "as the test wants it")),
            false => Ok(()),
        }
    }

    async fn restore(&mut self, snapshot: &Snapshot, _: &Context) -> Result<(), Error> {
        match &snapshot.previous {
            Some(pair) => {
                self.take(pair);
                Ok(())
            }
            None => Err(Error::new(ErrorKind::RollbackFailed, "there is no pair to go back to")),
        }
    }

    async fn prune(&mut self, _: &Context) -> Result<(), Error> {
        Ok(())
    }
}

#[async_trait]
impl Target for Shared {
    fn capabilities(&self) -> Capabilities {
        Capabilities::NONE
    }

    fn recovery(&self) -> Recovery {
        Recovery::Push(Box::new(self.clone()))
    }

    async fn prepare(&self, _: &Certificate, _: &Context) -> Result<Deployment, Error> {
        Ok(Deployment::Push(Box::new(self.clone())))
    }
}

struct World {
    root: tempfile::TempDir,
    authority: Authority,
    remote: Shared,
    context: Context,
}

impl World {
    fn new(says_what_is_live: bool) -> Self {
        let root = tempfile::tempdir().unwrap();
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        let remote = Shared::default();
        remote.with(|remote| remote.says_what_is_live = says_what_is_live);
        Self { root, authority: Authority::new(), remote, context }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.test"]))
    }

    fn job(&self, issued: &Issued) -> Job {
        Job::new("cloud", "memory", Arc::new(self.remote.clone()), Arc::new(certificate(issued)))
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        deploy(&[self.job(issued)], &self.context).await.remove(0)
    }

    fn has(&self, issued: &Issued) -> bool {
        let key = certificate(issued).key_pem().expose().to_vec();
        self.remote.with(|remote| remote.live.clone()) == Some((issued.fingerprint.clone(), key))
    }

    fn sent(&self) -> usize {
        self.remote.with(|remote| remote.sent)
    }

    fn pair(&self) -> PathBuf {
        self.root.path().join("state/vault/cloud.pair")
    }
}

#[tokio::test]
async fn p5_previous_pair_goes_back_with_its_own_key_where_the_remote_gives_none() {
    for says_what_is_live in [true, false] {
        let world = World::new(says_what_is_live);
        let old = world.issue();
        world.deploy(&old).await;
        world.remote.with(|remote| remote.refuses = true);
        let report = world.deploy(&world.issue()).await;
        assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
        assert!(world.has(&old));
        assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
    }
}

#[tokio::test]
async fn s3_kept_pair_is_private_and_the_last_one() {
    let world = World::new(true);
    for issued in [world.issue(), world.issue()] {
        world.deploy(&issued).await;
        let kept = std::fs::read(world.pair()).unwrap();
        assert_eq!(kept, certificate(&issued).combined_pem().expose());
        assert_eq!(world.pair().metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(world.root.path().join("state/vault")).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn what_a_success_noted_is_recalled_by_every_later_look() {
    let world = World::new(true);
    let recalled = || world.remote.with(|remote| std::mem::take(&mut remote.recalled));
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    assert!(recalled().is_empty(), "there was nothing to recall");
    preview(&world.job(&new), &world.context).await;
    status(&world.job(&new), &world.context).await;
    world.remote.with(|remote| remote.refuses = true);
    assert_eq!(world.deploy(&new).await.outcome, Outcome::RolledBack);
    world.deploy(&new).await;
    // Neither a look nor a failure notes anything.
    assert_eq!(recalled(), ["object 1"; 4]);
    world.remote.with(|remote| remote.dies = true);
    world.deploy(&old).await;
    recalled();
    recover(&[world.job(&old)], RecoveryScope::Full, &world.context).await;
    assert_eq!(recalled(), ["object 4"]);
}

#[tokio::test]
async fn what_was_not_deployed_from_here_cannot_be_brought_back_and_the_report_says_so() {
    let world = World::new(true);
    world.deploy(&world.issue()).await;
    let theirs = world.issue();
    world.remote.take(&certificate(&theirs));
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::Changed);
    assert!(report.degraded.iter().any(|degraded| degraded.what == "restore"), "{:?}", report.degraded);
    world.remote.take(&certificate(&theirs));
    world.remote.with(|remote| remote.refuses = true);
    let report = world.deploy(&world.issue()).await;
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{report:?}");
}

#[tokio::test]
async fn p1_remote_that_says_nothing_gets_each_certificate_once() {
    let world = World::new(false);
    let (old, new) = (world.issue(), world.issue());
    for (sent, issued) in [(1, &old), (2, &new)] {
        assert_eq!(preview(&world.job(issued), &world.context).await.state, TargetState::Change);
        let report = world.deploy(issued).await;
        assert_eq!((report.outcome, report.live), (Outcome::Unverified, Live::Applied), "{report:?}");
        assert_eq!((report.validated, report.fingerprint.served), (Rung::V1, None), "nobody saw anything");
        assert_eq!(world.deploy(issued).await.outcome, Outcome::Unchanged);
        assert_eq!(preview(&world.job(issued), &world.context).await.state, TargetState::Unchanged);
        assert_eq!(status(&world.job(issued), &world.context).await.on_disk.as_ref(), Some(&issued.fingerprint));
        assert_eq!(world.sent(), sent);
    }
    let forced = deploy(&[world.job(&new)], &world.context.clone().with_force(true)).await.remove(0);
    assert_eq!((forced.outcome, world.sent()), (Outcome::Unverified, 3));
}

#[tokio::test]
async fn nobody_can_look_is_a_success_where_the_operator_says_so() {
    let world = World::new(false);
    world.remote.with(|remote| remote.waived = true);
    assert_eq!(world.deploy(&world.issue()).await.outcome, Outcome::Changed);
}

#[tokio::test]
async fn p2_remote_that_says_nothing_gets_one_again_after_a_death() {
    let world = World::new(false);
    let old = world.issue();
    world.deploy(&old).await;
    world.remote.with(|remote| remote.dies = true);
    let died = world.deploy(&world.issue()).await;
    assert_eq!(died.outcome, Outcome::Failed, "{died:?}");
    // The source went back meanwhile: the marker must not stand for what is live.
    let recovered = recover(&[world.job(&old)], RecoveryScope::Full, &world.context).await.remove(0);
    assert_eq!(recovered.live, Live::Unknown, "{recovered:?}");
    assert!(!world.has(&old));
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unverified);
    assert!(world.has(&old));
}

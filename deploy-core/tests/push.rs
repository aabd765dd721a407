//! Deployments by calls: order, journal, retries, rollback, against a remote that lives in memory and fails on demand.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests look at files")]

mod common;

use std::collections::{BTreeMap, VecDeque};
use std::fs;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use common::crash::certificate;
use deploy_core::probe::Endpoint;
use deploy_core::{
    Capabilities, Certificate, Context, Deployment, Error, ErrorKind, Event, EventSink, Job, Live, Observed, Outcome, Push,
    Recovery, RecoveryScope, Report, Retry, Rung, Snapshot, Stage, Target, Validation, Verify, deploy, recover,
};
use deploy_testkit::pki::{Authority, Issued, Request};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Activate,
    Observe,
    Prune,
    Restore,
    Snapshot,
    Upload,
    Validate,
}

/// How one call goes wrong.
#[derive(Clone, Debug)]
enum Fault {
    /// It does nothing and says so.
    Before(ErrorKind, Retry),
    /// It does its work, and the answer is an error.
    After(ErrorKind, Retry),
    /// It says that it has done its work, and has not.
    Ignored,
    /// The process dies before the call does anything.
    Dies,
    /// The process dies when the work is done.
    DiesAfter,
    /// No answer ever comes.
    Hangs,
    /// Somebody else switches to this, and then the call is refused.
    Overtaken(String),
    /// It switches to this although it was not asked to, and its answer is an error.
    Oversteps(String),
    /// It switches one part of the target, and then somebody else has changed the other part.
    StopsHalfway,
    /// The process dies when one part of the target is switched.
    DiesHalfway,
}

#[derive(Debug, Default)]
struct Remote {
    /// Fingerprint, and the key that belongs to it.
    certificates: BTreeMap<String, Vec<u8>>,
    ours: Vec<String>,
    active: Option<String>,
    /// The key that is in use: a remote may keep it apart.
    active_key: Vec<u8>,
    /// Only a part has what `active` says.
    mixed: bool,
    labels: Vec<String>,
    uploads: usize,
    closed: usize,
    close_fails: bool,
    calls: Vec<(Call, Instant)>,
    faults: VecDeque<(Call, Fault)>,
    endpoint: Option<Endpoint>,
}

#[derive(Clone, Debug, Default)]
struct Shared(Arc<Mutex<Remote>>);

impl Shared {
    fn with<T>(&self, work: impl FnOnce(&mut Remote) -> T) -> T {
        // A test that kills a call poisons nothing that matters.
        work(&mut self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn fail(&self, call: Call, fault: Fault) {
        self.with(|remote| remote.faults.push_back((call, fault)));
    }

    fn calls(&self) -> Vec<Call> {
        self.with(|remote| remote.calls.iter().map(|(call, _)| *call).collect())
    }

    fn count(&self, call: Call) -> usize {
        self.calls().into_iter().filter(|other| *other == call).count()
    }

    fn active(&self) -> Option<String> {
        self.with(|remote| remote.active.clone())
    }

    async fn call<T>(&self, call: Call, work: impl FnOnce(&mut Remote) -> T) -> Result<T, Error> {
        let fault = self.with(|remote| {
            remote.calls.push((call, Instant::now()));
            let index = remote.faults.iter().position(|(other, _)| *other == call)?;
            remote.faults.remove(index).map(|(_, fault)| fault)
        });
        let error = |kind, retry| Err(Error::new(kind, "as the test wants it").with_retry(retry));
        match fault {
            None => Ok(self.with(work)),
            Some(Fault::Before(kind, retry)) => error(kind, retry),
            Some(Fault::After(kind, retry)) => {
                self.with(work);
                error(kind, retry)
            }
            Some(Fault::Ignored) => Ok(self.with(|remote| {
                let before = (remote.active.clone(), remote.active_key.clone());
                let done = work(remote);
                (remote.active, remote.active_key) = before;
                done
            })),
            Some(Fault::Dies) => panic!("the process dies before {call:?}"),
            Some(Fault::DiesAfter) => {
                self.with(work);
                panic!("the process dies after {call:?}");
            }
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Overtaken(by)) => {
                self.with(|remote| remote.active = Some(by));
                error(ErrorKind::Conflict, Retry::Never)
            }
            Some(Fault::StopsHalfway) => {
                self.with(|remote| remote.mixed = true);
                error(ErrorKind::Conflict, Retry::Never)
            }
            Some(Fault::DiesHalfway) => {
                self.with(|remote| remote.mixed = true);
                panic!("the process dies half-way through {call:?}");
            }
            Some(Fault::Oversteps(to)) => {
                self.with(|remote| {
                    work(remote);
                    remote.active = Some(to);
                });
                error(ErrorKind::Unavailable, Retry::Never)
            }
        }
    }
}

#[async_trait]
impl Push for Shared {
    fn verify(&self) -> Verify {
        let endpoint = self.with(|remote| remote.endpoint.clone());
        let timeout = Duration::from_millis(200);
        endpoint.map_or(Verify::NotConfigured, |endpoint| Verify::Endpoints { endpoints: vec![endpoint], timeout })
    }

    async fn observe(&mut self, _: &Context) -> Result<Observed, Error> {
        let observed = |remote: &mut Remote| {
            if remote.mixed { Observed::mixed() } else { Observed::new(remote.active.clone(), None) }
        };
        self.call(Call::Observe, observed).await
    }

    async fn validate(&mut self, _: &Certificate, _: &Context) -> Result<Validation, Error> {
        self.call(Call::Validate, |_| Validation::Passed(Rung::V3)).await
    }

    async fn snapshot(&mut self, _: &Context) -> Result<Snapshot, Error> {
        let bytes = |remote: &mut Remote| {
            let name = remote.active.clone().unwrap_or_default();
            [name.as_bytes(), b"\n", &remote.active_key].concat()
        };
        self.call(Call::Snapshot, bytes).await.map(|bytes| Snapshot::new(1, bytes))
    }

    async fn upload(&mut self, certificate: &Certificate, _: &Context) -> Result<(), Error> {
        let (name, key) = (certificate.fingerprint().to_owned(), certificate.key_pem().expose().to_vec());
        self.call(Call::Upload, |remote| {
            remote.uploads += 1;
            if !remote.ours.contains(&name) {
                remote.ours.push(name.clone());
            }
            remote.certificates.insert(name, key);
        })
        .await
    }

    async fn activate(&mut self, certificate: &Certificate, _: &Context) -> Result<(), Error> {
        let name = certificate.fingerprint().to_owned();
        self.call(Call::Activate, |remote| {
            remote.active_key = remote.certificates[&name].clone();
            remote.active = Some(name);
        })
        .await
    }

    async fn restore(&mut self, snapshot: &Snapshot, _: &Context) -> Result<(), Error> {
        assert_eq!(snapshot.version, 1);
        let bytes = snapshot.bytes.expose().to_vec();
        self.call(Call::Restore, |remote| {
            let end = bytes.iter().position(|&byte| byte == b'\n').unwrap();
            let name = String::from_utf8(bytes[..end].to_vec()).unwrap();
            remote.active = Some(name).filter(|name| !name.is_empty());
            remote.active_key = bytes[end + 1..].to_vec();
            remote.mixed = false;
        })
        .await
    }

    async fn prune(&mut self, _: &Context) -> Result<(), Error> {
        self.call(Call::Prune, |remote| {
            let (active, ours) = (remote.active.clone(), remote.ours.clone());
            let unused = |name: &String| ours.contains(name) && Some(name) != active.as_ref();
            remote.certificates.retain(|name, _| !unused(name));
            remote.ours.retain(|name| Some(name) == active.as_ref());
        })
        .await
    }
    async fn close(&mut self, context: &Context) -> Result<(), Error> {
        assert!(!context.cancellation().is_cancelled(), "a session is ended although the caller wants to stop");
        self.with(|remote| remote.closed += 1);
        if self.with(|remote| remote.close_fails) {
            return Err(Error::new(ErrorKind::Unavailable, "the session stays open"));
        }
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
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        let remote = Shared::default();
        remote.with(|remote| {
            remote.certificates.insert("foreign".to_owned(), b"a key of somebody else".to_vec());
            remote.labels.push("team=edge".to_owned());
        });
        Self { root, authority: Authority::new(), remote, context }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.test"]))
    }

    fn job(&self, issued: &Issued) -> Job {
        Job::new("cloud", "memory", Arc::new(self.remote.clone()), Arc::new(certificate(issued)))
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        self.deploy_in(issued, &self.context).await
    }

    async fn deploy_in(&self, issued: &Issued, context: &Context) -> Report {
        let report = deploy(&[self.job(issued)], context).await.remove(0);
        self.remote.with(|remote| {
            assert_eq!(remote.labels, ["team=edge"], "P4");
            assert!(remote.certificates.contains_key("foreign"), "P4, P7");
        });
        report
    }

    /// Deployed once, with the calls forgotten.
    async fn renewed() -> (Self, Issued, Issued) {
        let world = Self::new();
        let (old, new) = (world.issue(), world.issue());
        assert_eq!(world.deploy(&old).await.outcome, Outcome::Changed);
        world.remote.with(|remote| remote.calls.clear());
        (world, old, new)
    }

    fn is_old(&self, old: &Issued) {
        assert_eq!(self.remote.active().as_ref(), Some(&old.fingerprint));
        let key = self.remote.with(|remote| remote.active_key.clone());
        assert_eq!(key, certificate(old).key_pem().expose(), "P5: with its own key");
    }

    fn litter(&self) -> Vec<PathBuf> {
        common::litter(self.root.path())
    }

    async fn ends_with_new(&self, new: &Issued) {
        let report = self.deploy(new).await;
        assert!(matches!(report.outcome, Outcome::Changed | Outcome::Repaired | Outcome::Unchanged), "{report:?}");
        assert_eq!(self.remote.active().as_ref(), Some(&new.fingerprint));
        assert_eq!(self.litter(), Vec::<PathBuf>::new());
        assert_eq!(self.deploy(new).await.outcome, Outcome::Unchanged);
    }
}

const LATER: Retry = Retry::Later;
const NEVER: Retry = Retry::Never;

#[tokio::test]
async fn first_deployment_calls_in_order_and_is_changed() {
    let world = World::new();
    let new = world.issue();
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.live, report.validated), (Outcome::Changed, Live::Applied, Rung::V5), "{report:?}");
    assert_eq!(report.fingerprint.served.as_ref(), Some(&new.fingerprint));
    use Call::{Activate, Observe, Prune, Snapshot, Upload, Validate};
    assert_eq!(world.remote.calls(), [Observe, Validate, Snapshot, Upload, Activate, Observe, Prune]);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn p1_remote_that_has_it_is_only_looked_at() {
    let (world, old, _) = World::renewed().await;
    let report = world.deploy(&old).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "{report:?}");
    assert_eq!(world.remote.calls(), [Call::Observe]);
    // Without the marker as well: it is adopted.
    fs::remove_dir_all(world.root.path().join("state/targets")).unwrap();
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
    assert_eq!(world.remote.calls(), [Call::Observe; 2]);
}

#[tokio::test]
async fn p2_lost_answer_after_the_work_was_done_makes_no_second_object() {
    for call in [Call::Upload, Call::Activate] {
        let (world, _, new) = World::renewed().await;
        world.remote.fail(call, Fault::After(ErrorKind::Unavailable, LATER));
        let report = world.deploy(&new).await;
        assert_eq!(report.outcome, Outcome::Changed, "{call:?}: {report:?}");
        assert_eq!(world.remote.count(call), 2, "{call:?}");
        let names: Vec<String> = world.remote.with(|remote| remote.certificates.keys().cloned().collect());
        assert_eq!(names.len(), 2, "the new one and the foreign one: {names:?}");
        assert_eq!(world.remote.active(), Some(new.fingerprint));
    }
}

#[tokio::test]
async fn p2_lost_answer_that_is_not_retried_is_found_by_the_next_run() {
    let (world, old, new) = World::renewed().await;
    world.remote.fail(Call::Upload, Fault::After(ErrorKind::Timeout, NEVER));
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{report:?}");
    world.is_old(&old);
    world.ends_with_new(&new).await;
    assert_eq!(world.remote.with(|remote| remote.certificates.len()), 2);
}

#[tokio::test]
async fn p3_loser_of_a_race_reads_again_and_decides_again_once() {
    for call in [Call::Validate, Call::Upload, Call::Activate] {
        let (world, _, new) = World::renewed().await;
        world.remote.fail(call, Fault::Overtaken("foreign".to_owned()));
        let report = world.deploy(&new).await;
        assert_eq!(report.outcome, Outcome::Changed, "{call:?}: {report:?}");
        assert_eq!(world.remote.count(Call::Restore), 0, "{call:?}: the other's switch is not ours to undo");
        assert_eq!(world.remote.count(call), 2, "{call:?}");

        let (world, _, new) = World::renewed().await;
        world.remote.fail(call, Fault::Overtaken("foreign".to_owned()));
        world.remote.fail(call, Fault::Overtaken("foreign".to_owned()));
        let report = world.deploy(&new).await;
        assert_eq!(report.error.as_ref().unwrap().kind(), ErrorKind::Conflict, "{call:?}: {report:?}");
        assert_eq!(world.remote.active().as_deref(), Some("foreign"), "{call:?}");
        assert_eq!(world.remote.count(call), 2, "{call:?}");
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{call:?}");
    }
}

#[tokio::test]
async fn p3_overtaken_by_the_same_certificate_is_unchanged() {
    let (world, _, new) = World::renewed().await;
    world.remote.fail(Call::Validate, Fault::Overtaken(new.fingerprint.clone()));
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Unchanged, "{report:?}");
    assert_eq!(world.remote.count(Call::Upload), 0);
}

#[tokio::test]
async fn p5_failed_activation_brings_back_what_was_live_with_its_own_key() {
    for fault in [Fault::Before(ErrorKind::PermissionDenied, NEVER), Fault::After(ErrorKind::Unavailable, NEVER), Fault::Ignored]
    {
        let (world, old, new) = World::renewed().await;
        world.remote.fail(Call::Activate, fault.clone());
        let report = world.deploy(&new).await;
        assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{fault:?}: {report:?}");
        world.is_old(&old);
        assert_eq!(world.remote.count(Call::Restore), 1, "{fault:?}");
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{fault:?}");
        world.ends_with_new(&new).await;
    }
}

#[tokio::test]
async fn p5_failed_upload_that_switched_all_the_same_is_undone() {
    let (world, old, new) = World::renewed().await;
    world.remote.fail(Call::Upload, Fault::Oversteps(new.fingerprint.clone()));
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    world.is_old(&old);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    world.ends_with_new(&new).await;
}

#[tokio::test]
async fn p5_first_activation_that_fails_leaves_nothing_active() {
    let world = World::new();
    let new = world.issue();
    world.remote.fail(Call::Activate, Fault::After(ErrorKind::VerifyFailed, NEVER));
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(world.remote.active(), None);
    world.ends_with_new(&new).await;
}

#[tokio::test]
async fn restore_that_fails_needs_a_person_and_is_settled_by_the_next_run() {
    for fault in [Fault::Before(ErrorKind::PermissionDenied, NEVER), Fault::Ignored] {
        let (world, _, new) = World::renewed().await;
        // It is switched, the answer is an error, and the way back fails, too.
        world.remote.fail(Call::Activate, Fault::After(ErrorKind::PermissionDenied, NEVER));
        world.remote.fail(Call::Restore, fault.clone());
        let report = world.deploy(&new).await;
        assert_eq!((report.outcome, report.live), (Outcome::RollbackFailed, Live::Unknown), "{fault:?}: {report:?}");
        assert!(report.error.unwrap().next_step().contains("certdeploy recover"));
        assert!(!world.litter().is_empty(), "the snapshot is kept for the next run");
        let recovered = recover(&[world.job(&new)], RecoveryScope::Full, &world.context).await;
        assert!(recovered.len() == 1 && recovered[0].error.is_none(), "{recovered:?}");
        world.ends_with_new(&new).await;
    }
}

#[tokio::test]
async fn restore_is_retried_where_that_can_help() {
    let (world, old, new) = World::renewed().await;
    world.remote.fail(Call::Activate, Fault::After(ErrorKind::PermissionDenied, NEVER));
    world.remote.fail(Call::Restore, Fault::Before(ErrorKind::Unavailable, Retry::After(Duration::from_millis(20))));
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(world.remote.count(Call::Restore), 2);
    world.is_old(&old);
}

#[tokio::test]
async fn p4_p7_superseded_objects_of_ours_go_and_others_stay() {
    let (world, old, new) = World::renewed().await;
    assert_eq!(world.deploy(&new).await.outcome, Outcome::Changed);
    let names: Vec<String> = world.remote.with(|remote| remote.certificates.keys().cloned().collect());
    assert!(!names.contains(&old.fingerprint) && names.contains(&new.fingerprint) && names.contains(&"foreign".to_owned()));
}

#[tokio::test]
async fn p7_prune_that_fails_is_a_warning() {
    let (world, _, new) = World::renewed().await;
    world.remote.fail(Call::Prune, Fault::Before(ErrorKind::PermissionDenied, NEVER));
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(report.warnings.iter().any(|warning| warning.contains("could not be removed")), "{report:?}");
}

#[tokio::test]
async fn p8_retry_after_is_honoured() {
    for call in [Call::Observe, Call::Validate, Call::Snapshot, Call::Upload, Call::Activate] {
        let (world, _, new) = World::renewed().await;
        let wait = Duration::from_millis(60);
        world.remote.fail(call, Fault::Before(ErrorKind::RateLimited, Retry::After(wait)));
        let report = world.deploy(&new).await;
        assert_eq!(report.outcome, Outcome::Changed, "{call:?}: {report:?}");
        let times: Vec<Instant> =
            world.remote.with(|remote| remote.calls.iter().filter(|(other, _)| *other == call).map(|(_, at)| *at).collect());
        assert!(times[1] - times[0] >= wait, "{call:?}: {:?}", times[1] - times[0]);
    }
}

#[tokio::test]
async fn p8_retry_after_beyond_the_deadline_is_not_waited_for() {
    let (world, old, new) = World::renewed().await;
    world.remote.fail(Call::Upload, Fault::Before(ErrorKind::RateLimited, Retry::After(Duration::from_secs(3600))));
    let started = Instant::now();
    let report = world.deploy(&new).await;
    assert!(started.elapsed() < Duration::from_secs(5));
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(report.error.unwrap().retry(), Retry::After(Duration::from_secs(3600)));
    world.is_old(&old);
}

#[tokio::test]
async fn p8_what_cannot_get_better_is_tried_once() {
    for kind in [ErrorKind::Unauthenticated, ErrorKind::PermissionDenied, ErrorKind::PlanInvalid] {
        for call in [Call::Observe, Call::Validate, Call::Snapshot, Call::Upload] {
            let (world, old, new) = World::renewed().await;
            world.remote.fail(call, Fault::Before(kind, NEVER));
            let report = world.deploy(&new).await;
            assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{call:?}: {report:?}");
            assert_eq!(report.error.unwrap().kind(), kind);
            assert_eq!(world.remote.count(call), 1, "{call:?}");
            assert_eq!((world.remote.count(Call::Activate), world.remote.count(Call::Restore)), (0, 0));
            world.is_old(&old);
            assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{call:?}");
        }
    }
}

#[tokio::test]
async fn p8_remote_that_stays_away_is_given_up_after_a_few_tries() {
    let (world, old, new) = World::renewed().await;
    for _ in 0..20 {
        world.remote.fail(Call::Upload, Fault::Before(ErrorKind::Unavailable, Retry::After(Duration::from_millis(1))));
    }
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
    assert_eq!(world.remote.count(Call::Upload), 5);
    world.is_old(&old);
}

#[tokio::test]
async fn p8_call_without_an_answer_ends_with_the_time() {
    for call in [Call::Observe, Call::Validate, Call::Snapshot, Call::Upload, Call::Activate] {
        let (world, old, new) = World::renewed().await;
        world.remote.fail(call, Fault::Hangs);
        let context = world.context.clone().with_timeout(Duration::from_millis(200));
        let report = world.deploy_in(&new, &context).await;
        let expected = if call == Call::Activate { Outcome::RolledBack } else { Outcome::Rejected };
        assert_eq!(report.outcome, expected, "{call:?}: {report:?}");
        assert_eq!(report.error.unwrap().kind(), ErrorKind::Timeout, "{call:?}");
        world.is_old(&old);
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{call:?}");
    }
}

#[tokio::test]
async fn f21_call_without_an_answer_ends_when_the_caller_asks_to_stop() {
    for (call, stage, live) in [
        (Call::Observe, Stage::Inspect, Live::Unchanged),
        (Call::Validate, Stage::Validate, Live::Unchanged),
        (Call::Activate, Stage::Swap, Live::RolledBack),
    ] {
        let (world, old, new) = World::renewed().await;
        world.remote.fail(call, Fault::Hangs);
        let cancellation = deploy_core::Cancellation::default();
        let context = world.context.clone().with_cancellation(cancellation.clone());
        let context = context.with_events(Arc::new(CancelAt(stage, cancellation)));
        let started = Instant::now();
        let report = world.deploy_in(&new, &context).await;
        assert!(started.elapsed() < context.timeout() / 2, "{call:?} was waited for");
        assert_eq!((report.outcome, report.live), (Outcome::Interrupted, live), "{call:?}: {report:?}");
        world.is_old(&old);
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{call:?}");
    }
}

struct CancelAt(Stage, deploy_core::Cancellation);

impl EventSink for CancelAt {
    fn event(&self, event: &Event) {
        if matches!(event, Event::Stage { stage, .. } if *stage == self.0) {
            self.1.cancel();
        }
    }
}

#[tokio::test]
async fn f21_cancelled_before_the_upload_leaves_everything_and_nothing_behind() {
    for stage in [Stage::Journal, Stage::Stage] {
        let (world, old, new) = World::renewed().await;
        let cancellation = deploy_core::Cancellation::default();
        let events = Arc::new(CancelAt(stage, cancellation.clone()));
        let context = world.context.clone().with_cancellation(cancellation).with_events(events);
        let report = world.deploy_in(&new, &context).await;
        assert_eq!((report.outcome, report.live), (Outcome::Interrupted, Live::Unchanged), "{stage:?}: {report:?}");
        world.is_old(&old);
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{stage:?}");
    }
}

/// The engine's thread dies by a panic in the call: nothing that it would have done afterwards is done.
#[tokio::test]
async fn killed_at_any_call_is_settled_by_the_next_run() {
    for call in [Call::Validate, Call::Snapshot, Call::Upload, Call::Activate, Call::Prune] {
        for after in [false, true] {
            for recover_first in [false, true] {
                let (world, old, new) = World::renewed().await;
                world.remote.fail(call, if after { Fault::DiesAfter } else { Fault::Dies });
                let report = world.deploy(&new).await;
                let what = format!("{call:?}, after: {after}, recover: {recover_first}");
                assert_eq!((report.outcome, report.live), (Outcome::Failed, Live::Unknown), "{what}: {report:?}");
                let live = if call == Call::Prune || (call == Call::Activate && after) { &new } else { &old };
                assert_eq!(world.remote.active().as_ref(), Some(&live.fingerprint), "{what}");
                if recover_first {
                    let recovered = recover(&[world.job(&new)], RecoveryScope::Full, &world.context).await;
                    assert!(recovered.iter().all(|recovered| recovered.error.is_none()), "{what}: {recovered:?}");
                    assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{what}");
                    assert_eq!(world.remote.active().as_ref(), Some(&live.fingerprint), "{what}");
                    let names = world.remote.with(|remote| remote.certificates.len());
                    assert_eq!(
                        names,
                        2 + usize::from(call == Call::Prune && !after),
                        "{what}: P7, the live one and the foreign one"
                    );
                }
                world.ends_with_new(&new).await;
            }
        }
    }
}

#[tokio::test]
async fn killed_and_then_switched_by_somebody_else_is_left_alone() {
    let (world, _, new) = World::renewed().await;
    world.remote.fail(Call::Activate, Fault::Dies);
    world.deploy(&new).await;
    world.remote.with(|remote| remote.active = Some("foreign".to_owned()));
    let preview = deploy_core::preview(&world.job(&new), &world.context).await;
    assert!(preview.pending_recovery.is_some(), "{preview:?}");
    let recovered = recover(&[world.job(&new)], RecoveryScope::Full, &world.context).await;
    assert!(recovered.len() == 1 && recovered[0].error.is_none(), "{recovered:?}");
    assert!(recovered[0].action.contains("somebody else"), "{recovered:?}");
    assert_eq!(world.remote.active().as_deref(), Some("foreign"), "F35");
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a2_preview_asks_for_the_dry_run_and_changes_nothing() {
    let (world, old, new) = World::renewed().await;
    let preview = deploy_core::preview(&world.job(&new), &world.context).await;
    assert_eq!((preview.validated, preview.commands.len()), (Rung::V3, 1), "{preview:?}");
    assert_eq!(world.remote.calls(), [Call::Observe, Call::Validate]);
    world.is_old(&old);
    let preview = deploy_core::preview(&world.job(&old), &world.context).await;
    assert_eq!((preview.commands.len(), world.remote.count(Call::Validate)), (0, 1), "{preview:?}");
}

#[tokio::test]
async fn killed_in_the_middle_of_a_switch_goes_back_with_the_snapshot() {
    let (world, old, new) = World::renewed().await;
    world.remote.fail(Call::Activate, Fault::Dies);
    world.deploy(&new).await;
    // The remote was left in neither state.
    world.remote.with(|remote| (remote.active, remote.active_key) = (None, Vec::new()));
    let recovered = recover(&[world.job(&new)], RecoveryScope::Full, &world.context).await;
    assert!(recovered.len() == 1 && recovered[0].error.is_none(), "{recovered:?}");
    assert_eq!(recovered[0].live, Live::RolledBack);
    world.is_old(&old);
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn a4_what_the_remote_says_is_not_enough_where_somebody_can_look() {
    let (world, old, new) = World::renewed().await;
    let server = deploy_testkit::TlsServer::start(&old);
    world.remote.with(|remote| remote.endpoint = Some(Endpoint::new(server.address().to_string())));
    let report = world.deploy(&new).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    world.is_old(&old);

    // The same where the process dies before it has looked.
    world.remote.fail(Call::Activate, Fault::DiesAfter);
    world.deploy(&new).await;
    let report = world.deploy(&new).await;
    assert_eq!(report.error.as_ref().map(Error::kind), Some(ErrorKind::VerifyFailed), "{report:?}");
    server.set_certificate(&new);
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.validated), (Outcome::Unchanged, Rung::V6), "{report:?}");
}

#[tokio::test]
async fn torn_record_means_that_the_remote_was_never_called() {
    for bytes in [&b""[..], b"{\"target\":\"cl", b"\0\0\0\0"] {
        let (world, old, new) = World::renewed().await;
        world.remote.fail(Call::Upload, Fault::Dies);
        world.deploy(&new).await;
        let record = world.litter().into_iter().find(|path| path.extension().is_some_and(|e| e == "push")).unwrap();
        fs::write(&record, bytes).unwrap();
        world.is_old(&old);
        world.ends_with_new(&new).await;
    }
}

#[tokio::test]
async fn a_switch_of_several_parts_that_stops_half_way_is_taken_back() {
    let (world, old, new) = World::renewed().await;
    world.remote.fail(Call::Activate, Fault::StopsHalfway);
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(report.error.as_ref().unwrap().kind(), ErrorKind::Conflict);
    assert!(!world.remote.with(|remote| remote.mixed));
    world.is_old(&old);
    world.ends_with_new(&new).await;
}

#[tokio::test]
async fn killed_half_way_through_a_first_switch_of_several_parts_goes_back() {
    let world = World::new();
    let new = world.issue();
    world.remote.fail(Call::Activate, Fault::DiesHalfway);
    assert_eq!(world.deploy(&new).await.live, Live::Unknown);
    let recovered = recover(&[world.job(&new)], RecoveryScope::Full, &world.context).await;
    assert_eq!(recovered.len(), 1, "{recovered:?}");
    assert_eq!((world.remote.with(|remote| remote.mixed), world.remote.active()), (false, None));
    world.ends_with_new(&new).await;
}

#[tokio::test]
async fn recovery_for_files_only_leaves_the_network_alone() {
    let (world, _, new) = World::renewed().await;
    world.remote.fail(Call::Activate, Fault::Dies);
    world.deploy(&new).await;
    let before = world.remote.calls().len();
    assert!(recover(&[world.job(&new)], RecoveryScope::FilesOnly, &world.context).await.is_empty());
    assert_eq!(world.remote.calls().len(), before);
    assert!(!world.litter().is_empty());
}

#[tokio::test]
async fn s3_snapshot_is_private_and_gone_after_success() {
    use std::os::unix::fs::PermissionsExt as _;
    let (world, _, new) = World::renewed().await;
    world.remote.fail(Call::Upload, Fault::Dies);
    world.deploy(&new).await;
    let files = world.litter();
    assert_eq!(files.len(), 2, "{files:?}");
    for file in files {
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600, "{}", file.display());
    }
    world.ends_with_new(&new).await;
}

#[tokio::test]
async fn session_is_ended_once_whatever_comes_of_the_calls() {
    let (world, old, new) = World::renewed().await;
    let ended = || world.remote.with(|remote| std::mem::take(&mut remote.closed));
    assert_eq!(ended(), 1, "after a success");
    assert_eq!(world.deploy(&old).await.outcome, Outcome::Unchanged);
    assert_eq!(ended(), 1, "where there was nothing to do");
    assert!(deploy_core::preview(&world.job(&new), &world.context).await.error.is_none());
    assert!(deploy_core::status(&world.job(&new), &world.context).await.error.is_none());
    assert_eq!(ended(), 2, "by those who only look");
    for call in [Call::Observe, Call::Validate, Call::Upload, Call::Activate] {
        world.remote.fail(call, Fault::Before(ErrorKind::PermissionDenied, Retry::Never));
        assert!(world.deploy(&new).await.error.is_some());
        assert_eq!(ended(), 1, "after a failure of {call:?}");
    }
    world.remote.fail(Call::Activate, Fault::Hangs);
    let report = world.deploy_in(&new, &world.context.clone().with_timeout(Duration::from_millis(200))).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(ended(), 1, "when the time is over");

    world.remote.with(|remote| remote.close_fails = true);
    let report = world.deploy(&new).await;
    assert_eq!((report.outcome, report.warnings.len()), (Outcome::Changed, 1), "{report:?}");
}

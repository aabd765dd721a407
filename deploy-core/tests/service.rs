//! Targets that share a service: one deployment, one reload; and what happens when one of them is bad.

#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests make and look at files"
)]

mod common;

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use common::crash::{FilesTarget, certificate};
use common::stray_backups;
use deploy_core::command::Command;
use deploy_core::probe::Endpoint;
use deploy_core::{
    CertificateSource, Context, Error, ErrorKind, Event, EventSink, Hooks, Job, Layout, Live, Outcome, PemFiles, RecoveryScope,
    Reload, ReloadCall, Report, Verify, deploy, recover, rollback,
};
use deploy_testkit::pki::{Authority, Issued, Request};
use deploy_testkit::tls_server::TlsServer;

const NAMES: [&str; 3] = ["a.example.test", "b.example.test", "c.example.test"];

/// One service with a certificate for each of three names; a reload makes all of them take up their files.
#[derive(Debug)]
struct Service {
    root: tempfile::TempDir,
    authority: Authority,
    servers: Vec<TlsServer>,
    reloads: AtomicUsize,
    /// This one goes on serving what it has.
    deaf: Mutex<Option<usize>>,
}

#[derive(Debug)]
struct ReloadAll(Arc<Service>);

impl ReloadAll {
    fn reload(&self) {
        self.0.reloads.fetch_add(1, Ordering::SeqCst);
        let deaf = *self.0.deaf.lock().unwrap();
        for (index, server) in self.0.servers.iter().enumerate() {
            if deaf != Some(index) {
                // A member that was never installed has no files yet, and that is the test's business.
                drop(server.reload());
            }
        }
    }
}

#[async_trait]
impl ReloadCall for ReloadAll {
    async fn apply(&self, _: &Context) -> Result<(), Error> {
        self.reload();
        Ok(())
    }

    async fn undo(&self, _: &Context) -> Result<(), Error> {
        self.reload();
        Ok(())
    }
}

struct World {
    service: Arc<Service>,
    reload: Arc<dyn ReloadCall>,
    context: Context,
}

impl World {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let servers = (0..NAMES.len()).map(|index| {
            let directory = root.path().join(format!("tls-{index}"));
            fs::create_dir(&directory).unwrap();
            TlsServer::builder().files(&directory.join("www.crt"), &directory.join("www.key")).wait_for_files().start()
        });
        let servers = servers.collect();
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        let service =
            Service { root, authority: Authority::new(), servers, reloads: AtomicUsize::new(0), deaf: Mutex::default() };
        let service = Arc::new(service);
        Self { reload: Arc::new(ReloadAll(service.clone())), service, context }
    }

    fn issue(&self) -> Vec<Issued> {
        NAMES.iter().map(|name| self.service.authority.issue(&Request::new(&[name]))).collect()
    }

    fn target(&self, index: usize) -> FilesTarget {
        let address = self.service.servers[index].address();
        let endpoint = Endpoint::new(address.to_string()).with_server_name(NAMES[index]);
        let mut target = FilesTarget::new(self.service.root.path(), address, Layout::Replace);
        let directory = self.service.root.path().join(format!("tls-{index}"));
        target.name = format!("member-{index}");
        (target.crt, target.key) = (directory.join("www.crt"), directory.join("www.key"));
        target.with_hooks(
            Hooks::new()
                .with_reload(Reload::Call(self.reload.clone()))
                .with_verify(Verify::Endpoints { endpoints: vec![endpoint], timeout: Duration::from_millis(500) }),
        )
    }

    fn job(&self, index: usize, source: Arc<dyn CertificateSource>) -> Job {
        Job::new(format!("member-{index}"), "files", Arc::new(self.target(index)), source)
    }

    fn jobs(&self, issued: &[Issued]) -> Vec<Job> {
        issued.iter().enumerate().map(|(index, issued)| self.job(index, Arc::new(certificate(issued)))).collect()
    }

    async fn deploy(&self, issued: &[Issued]) -> Vec<Report> {
        deploy(&self.jobs(issued), &self.context).await
    }

    fn served(&self, index: usize) -> Option<String> {
        deploy_testkit::observe::served_fingerprint(self.service.servers[index].address(), Some(NAMES[index])).ok()
    }

    fn reloads(&self) -> usize {
        self.service.reloads.load(Ordering::SeqCst)
    }

    fn litter(&self) -> Vec<PathBuf> {
        let root = self.service.root.path();
        let mut litter = common::litter(root);
        litter.extend(stray_backups(root));
        litter
    }
}

fn outcomes(reports: &[Report]) -> Vec<Outcome> {
    reports.iter().map(|report| report.outcome).collect()
}

#[tokio::test]
async fn members_of_a_service_are_deployed_with_one_reload_and_each_is_seen() {
    for count in [2, 3] {
        let world = World::new();
        let issued = &world.issue()[..count];
        let reports = world.deploy(issued).await;
        assert_eq!(outcomes(&reports), vec![Outcome::Changed; count], "{reports:?}");
        assert_eq!(world.reloads(), 1);
        for (index, (report, issued)) in reports.iter().zip(issued).enumerate() {
            assert_eq!(report.target, format!("member-{index}"));
            assert_eq!(report.fingerprint.served.as_ref(), Some(&issued.fingerprint));
            assert_eq!(world.served(index).as_ref(), Some(&issued.fingerprint));
        }
        assert_eq!(outcomes(&world.deploy(issued).await), vec![Outcome::Unchanged; count]);
        assert_eq!(world.reloads(), 1);
        assert_eq!(world.litter(), Vec::<PathBuf>::new());
    }
}

#[tokio::test]
async fn member_that_is_as_wanted_is_not_touched() {
    let world = World::new();
    let mut issued = world.issue();
    world.deploy(&issued).await;
    let before = fs::metadata(&world.target(1).key).unwrap();
    issued[0] = world.issue().remove(0);
    let reports = world.deploy(&issued).await;
    assert_eq!(outcomes(&reports), [Outcome::Changed, Outcome::Unchanged, Outcome::Unchanged], "{reports:?}");
    use std::os::unix::fs::MetadataExt as _;
    let after = fs::metadata(&world.target(1).key).unwrap();
    assert_eq!((before.ino(), before.ctime_nsec()), (after.ino(), after.ctime_nsec()));
    assert_eq!(world.reloads(), 2);
}

#[tokio::test]
async fn a6_member_with_bad_material_does_not_stop_the_others() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let mut jobs = world.jobs(&new);
    jobs[1] = world.job(1, Arc::new(PemFiles::new("/nowhere/fullchain.pem", "/nowhere/privkey.pem")));
    let reports = deploy(&jobs, &world.context).await;
    assert_eq!(outcomes(&reports), [Outcome::Changed, Outcome::Rejected, Outcome::Changed], "{reports:?}");
    assert_eq!(reports[1].error.as_ref().unwrap().kind(), ErrorKind::MaterialRejected);
    assert_eq!(world.served(1), Some(old[1].fingerprint.clone()));
    assert_eq!(world.reloads(), 2);
}

#[tokio::test]
async fn a6_member_that_loses_a_name_is_refused_alone() {
    let world = World::new();
    let mut old = world.issue();
    old[2] = world.service.authority.issue(&Request::new(&[NAMES[2], "more.example.test"]));
    world.deploy(&old).await;
    let reports = world.deploy(&world.issue()).await;
    assert_eq!(outcomes(&reports), [Outcome::Changed, Outcome::Changed, Outcome::Rejected], "{reports:?}");
    assert_eq!(world.served(2), Some(old[2].fingerprint.clone()));
}

#[tokio::test]
async fn a6_member_that_fails_verification_is_rolled_back_and_the_others_are_changed() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    *world.service.deaf.lock().unwrap() = Some(1);
    let reports = world.deploy(&new).await;
    assert_eq!(outcomes(&reports), [Outcome::Changed, Outcome::RolledBack, Outcome::Changed], "{reports:?}");
    assert_eq!(reports[1].error.as_ref().unwrap().kind(), ErrorKind::VerifyFailed);
    assert_eq!(reports[1].live, Live::RolledBack);
    for (index, wanted) in [&new[0], &old[1], &new[2]].into_iter().enumerate() {
        assert_eq!(world.served(index).as_ref(), Some(&wanted.fingerprint), "{index}");
        assert_eq!(fs::read(world.target(index).crt).unwrap(), certificate(wanted).fullchain_pem(), "{index}");
    }
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
    *world.service.deaf.lock().unwrap() = None;
    let reports = world.deploy(&new).await;
    assert_eq!(outcomes(&reports), [Outcome::Unchanged, Outcome::Changed, Outcome::Unchanged], "{reports:?}");
}

#[tokio::test]
async fn reload_that_fails_for_one_kind_of_member_rolls_the_group_back_and_tries_each() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let mut jobs = world.jobs(&new);
    let mut broken = world.target(0);
    // It fails with the new files and works with the old ones.
    let kept = world.service.root.path().join("kept.crt");
    fs::write(&kept, certificate(&old[0]).fullchain_pem()).unwrap();
    broken.hooks.reload = Some(Reload::Command(Command::new(["cmp".as_ref(), broken.crt.as_os_str(), kept.as_os_str()])));
    jobs[0] = Job::new("member-0", "files", Arc::new(broken), Arc::new(certificate(&new[0])));
    let reports = deploy(&jobs, &world.context).await;
    assert_eq!(outcomes(&reports), [Outcome::RolledBack, Outcome::Changed, Outcome::Changed], "{reports:?}");
    assert_eq!(fs::read(world.target(0).crt).unwrap(), certificate(&old[0]).fullchain_pem());
}

#[tokio::test]
async fn each_member_can_be_rolled_back_by_itself() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    world.deploy(&new).await;
    let jobs = world.jobs(&new);
    for index in [2, 0] {
        let report = rollback(&jobs[index], None, &world.context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(world.served(index), Some(old[index].fingerprint.clone()));
    }
    assert_eq!(world.served(1), Some(new[1].fingerprint.clone()));
    // The two are held on what they went back to, until their source changes.
    let reports = world.deploy(&new).await;
    assert_eq!(outcomes(&reports), [Outcome::Unchanged; 3], "{reports:?}");
    assert!(reports[0].warnings.iter().any(|warning| warning.starts_with("held")), "{reports:?}");
    let reports = world.deploy(&world.issue()).await;
    assert_eq!(outcomes(&reports), [Outcome::Changed; 3], "{reports:?}");
    assert_eq!(world.litter(), Vec::<PathBuf>::new());
}

#[tokio::test]
async fn f28_part_of_a_set_that_a_killed_run_left_spoils_no_later_one() {
    let world = World::new();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&old).await;
    let targets = world.context.state_directory().join("targets");
    for index in 0..3 {
        fs::write(targets.join(format!("member-{index}-00000002.jnl")), "CDJ1\n0123").unwrap();
    }
    world.deploy(&new).await;
    let report = rollback(&world.jobs(&new)[1], None, &world.context).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(world.served(1), Some(old[1].fingerprint.clone()));
}

/// Ends the engine's thread at one event: what it would have done afterwards is not done.
struct DiesAt(usize, AtomicUsize);

impl EventSink for DiesAt {
    fn event(&self, _: &Event) {
        assert_ne!(self.1.fetch_add(1, Ordering::SeqCst), self.0, "the process dies here");
    }
}

#[tokio::test]
async fn f28_group_that_died_at_any_event_is_all_old_or_all_new_after_recovery() {
    for at in 0.. {
        let world = World::new();
        let (old, new) = (world.issue(), world.issue());
        world.deploy(&old).await;
        let context = world.context.clone().with_events(Arc::new(DiesAt(at, AtomicUsize::new(0))));
        let reports = deploy(&world.jobs(&new), &context).await;
        if reports.iter().all(|report| report.outcome == Outcome::Changed) {
            assert!(at > 20, "{at}");
            break;
        }
        assert_eq!(outcomes(&reports), [Outcome::Failed; 3], "{at}: {reports:?}");
        for recovered in recover(&world.jobs(&new), RecoveryScope::Full, &world.context).await {
            assert!(recovered.error.is_none(), "{at}: {recovered:?}");
            assert_eq!(recovered.targets.len(), 3, "{at}: {recovered:?}");
        }
        let holds = |issued: &[Issued]| {
            issued.iter().enumerate().all(|(index, issued)| {
                let (target, wanted) = (world.target(index), certificate(issued));
                fs::read(target.crt).unwrap() == wanted.fullchain_pem()
                    && fs::read(target.key).unwrap() == wanted.key_pem().expose()
            })
        };
        assert!(holds(&old) || holds(&new), "{at}: a mixture");
        let reports = world.deploy(&new).await;
        assert!(reports.iter().all(|report| report.error.is_none()), "{at}: {reports:?}");
        assert!(holds(&new), "{at}");
        for (index, new) in new.iter().enumerate() {
            assert_eq!(world.served(index).as_ref(), Some(&new.fingerprint), "{at}");
        }
        assert_eq!(outcomes(&world.deploy(&new).await), [Outcome::Unchanged; 3], "{at}");
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "{at}");
    }
}

#[tokio::test]
async fn two_members_that_write_one_file_are_refused_or_serialised_and_never_mixed() {
    let world = World::new();
    let issued = world.issue();
    let mut same = world.target(0);
    same.name = "member-1".to_owned();
    let jobs = [
        world.job(0, Arc::new(certificate(&issued[0]))),
        Job::new("member-1", "files", Arc::new(same), Arc::new(certificate(&world.issue()[0]))),
    ];
    let reports = deploy(&jobs, &world.context).await;
    assert!(reports.iter().any(|report| report.error.is_some()), "{reports:?}");
    let chain = fs::read(world.target(0).crt).unwrap_or_default();
    let key = fs::read(world.target(0).key).unwrap_or_default();
    if !chain.is_empty() || !key.is_empty() {
        deploy_core::Certificate::from_pem(&chain, &deploy_core::secret::SecretBytes::from(key)).expect("a pair");
    }
}

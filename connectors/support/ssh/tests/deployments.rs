//! Whole deployments over a real SSH server: trust, users, full disks, locks, and connections that are cut.
#![allow(clippy::panic, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with files of its own")]

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deploy_core::host::Host;
use deploy_core::settings::CommandSetting;
use deploy_core::{Connector as _, Context, ErrorKind, Job, Live, Outcome, PemFiles, Report};
use deploy_files::{FileContent, FileSetting, FilesSettings, RemoteFiles};
use deploy_ssh::{Ssh, SshSettings};
use deploy_testkit::{Authority, Canary, Issued, Relay, Request, Sshd, write_pair};
use tempfile::TempDir;

/// A server, a directory of files on it, and certificates here.
struct World {
    sshd: Sshd,
    authority: Authority,
    directory: TempDir,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let sshd = Sshd::start(&directory.path().join("sshd")).unwrap();
        fs::create_dir(directory.path().join("tls")).unwrap();
        Self { sshd, authority: Authority::new(), directory }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn via(&self) -> SshSettings {
        serde_json::from_value(self.sshd.settings()).unwrap()
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.test"]))
    }

    /// Two files and nobody to tell.
    fn settings(&self, tls: &Path) -> FilesSettings {
        let mut settings = FilesSettings::new([
            FileSetting::new(tls.join("www.key"), FileContent::Key),
            FileSetting::new(tls.join("www.crt"), FileContent::Fullchain),
        ]);
        settings.reload = deploy_core::settings::ReloadSetting::Command(CommandSetting::new(&[]));
        settings.verify = Some(Vec::new());
        settings
    }

    fn job(&self, name: &str, settings: FilesSettings, issued: &Issued) -> Job {
        let source = self.path(&issued.fingerprint);
        fs::create_dir_all(&source).unwrap();
        let (fullchain, key) = write_pair(&source, issued);
        Job::new(
            name,
            "ssh",
            Arc::from(RemoteFiles::build(name, settings).unwrap()),
            Arc::new(ReadHere(PemFiles::new(fullchain, key))),
        )
    }

    fn context(&self, host: &Arc<Ssh>) -> Context {
        let host: Arc<dyn Host> = Arc::clone(host) as _;
        Context::new(self.path("sshd/state"), deploy_testkit::provider()).with_host(host).with_timeout(Duration::from_secs(30))
    }

    fn deploy_as(&self, via: SshSettings, issued: &Issued) -> Report {
        let job = self.job("front", self.settings(&self.path("tls")), issued);
        run(&job, &self.context(&Arc::new(Ssh::new(via))))
    }

    fn deploy(&self, issued: &Issued) -> Report {
        self.deploy_as(self.via(), issued)
    }

    /// Which of these certificates the files are of; panics where they are not all of one.
    fn on_disk<'a>(&self, known: &[&'a Issued]) -> Option<&'a Issued> {
        let read = |name: &str| fs::read_to_string(self.path("tls").join(name)).ok();
        let (fullchain, key) = (read("www.crt"), read("www.key"));
        if (&fullchain, &key) == (&None, &None) {
            return None;
        }
        let same = |issued: &&&Issued| {
            fullchain.as_deref() == Some(&issued.fullchain_pem) && key.as_deref() == Some(issued.key_pem.as_str())
        };
        Some(known.iter().find(same).unwrap_or_else(|| panic!("mixed, or foreign: {fullchain:?} with another key")))
    }

    fn nothing_is_left_over(&self) {
        let journals = fs::read_dir(self.path("sshd/state/journal")).unwrap().count();
        let staged =
            fs::read_dir(self.path("tls/.certdeploy")).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
        let left: Vec<_> =
            staged.flat_map(|entry| fs::read_dir(entry.path()).unwrap().flatten()).map(|entry| entry.file_name()).collect();
        let left: Vec<_> = left.into_iter().filter(|name| !name.to_string_lossy().ends_with(".old")).collect();
        assert_eq!((journals, left), (0, Vec::new()));
    }
}

/// As the agent does it: certificates are this machine's.
#[derive(Debug)]
struct ReadHere(PemFiles);

impl deploy_core::CertificateSource for ReadHere {
    fn load(&self, _: &dyn Host) -> Result<deploy_core::certificate::Loaded, deploy_core::Error> {
        self.0.load(&deploy_core::host::Local::new())
    }
}

fn run(job: &Job, context: &Context) -> Report {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(deploy_core::deploy(std::slice::from_ref(job), context)).remove(0)
}

fn told(report: &Report) -> String {
    format!(
        "{} {}: {}",
        report.outcome.name(),
        report.live.name(),
        report.error.as_ref().map(|error| error.full_message()).unwrap_or_default()
    )
}

/// Refused before anything was changed, for this reason, with these words.
#[track_caller]
fn refused(report: &Report, kind: ErrorKind, words: &[&str]) {
    let error = report.error.as_ref().unwrap_or_else(|| panic!("{}", told(report)));
    assert_eq!((error.kind(), report.live), (kind, Live::Unchanged), "{}", told(report));
    let text = format!("{} | {}", error.full_message(), error.next_step());
    assert!(words.iter().all(|word| text.contains(word)), "{words:?} in {text}");
}

#[test]
fn a3_a_pair_is_deployed_over_ssh_and_the_second_run_has_nothing_to_do() {
    let world = World::new();
    let [old, new] = [world.issue(), world.issue()];
    let first = world.deploy(&old);
    assert_eq!(first.outcome, Outcome::Changed, "{}", told(&first));
    assert!(first.degraded.iter().any(|degraded| degraded.why.contains("attributes")), "{:?}", first.degraded);
    assert_eq!(world.deploy(&new).outcome, Outcome::Changed);
    assert_eq!(world.on_disk(&[&old, &new]).unwrap().fingerprint, new.fingerprint);
    assert_eq!(world.deploy(&new).outcome, Outcome::Unchanged);
    world.nothing_is_left_over();
    // What is kept over there is closed to others.
    for directory in ["sshd/state", "tls/.certdeploy"] {
        use std::os::unix::fs::PermissionsExt as _;
        assert_eq!(fs::metadata(world.path(directory)).unwrap().permissions().mode() & 0o777, 0o700, "{directory}");
    }
}

#[test]
fn p9_a_host_that_is_not_known_is_refused_and_so_is_one_that_has_changed() {
    let world = World::new();
    let issued = world.issue();
    let changed = world.via();
    world.sshd.forget_its_key();
    refused(&world.deploy_as(changed, &issued), ErrorKind::Unauthenticated, &["shows another host key", "has changed"]);
    let mut unknown = world.via();
    let empty = world.path("empty");
    fs::write(&empty, "").unwrap();
    unknown.known_hosts = Some(empty);
    refused(&world.deploy_as(unknown, &issued), ErrorKind::Unauthenticated, &["not known", "ssh-keygen -lf"]);
    // Neither got as far as to leave anything there.
    assert!(!world.path("sshd/state").exists() && world.on_disk(&[]).is_none());
}

#[test]
fn p9_a_pinned_fingerprint_is_enough_and_another_one_is_refused() {
    let world = World::new();
    let issued = world.issue();
    let pinned = |fingerprint: String| {
        let mut via = world.via();
        (via.known_hosts, via.host_key) = (None, Some(fingerprint));
        via.check().unwrap();
        via
    };
    let other = format!("SHA256:{}", "A".repeat(43));
    refused(&world.deploy_as(pinned(other), &issued), ErrorKind::Unauthenticated, &["not known"]);
    let report = world.deploy_as(pinned(world.sshd.fingerprint()), &issued);
    assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
}

#[test]
fn p9_an_authority_for_host_keys_is_enough() {
    let mut world = World::new();
    let issued = world.issue();
    let keygen = |arguments: &[&str]| {
        let output = std::process::Command::new("ssh-keygen").args(arguments).current_dir(world.path("sshd")).output().unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    keygen(&["-q", "-t", "ed25519", "-N", "", "-f", "ca"]);
    keygen(&["-q", "-s", "ca", "-I", "host", "-h", "-n", &world.sshd.address().ip().to_string(), "host.pub"]);
    // The same key, and a certificate for it.
    let configuration = fs::read_to_string(world.path("sshd/sshd_config")).unwrap();
    let certificate = world.path("sshd/host-cert.pub");
    fs::write(world.path("sshd/sshd_config"), format!("{configuration}HostCertificate {}\n", certificate.display())).unwrap();
    world.sshd.restart().unwrap();
    let ca = fs::read_to_string(world.path("sshd/ca.pub")).unwrap();
    let line = format!("@cert-authority [{}]:{} {ca}", world.sshd.address().ip(), world.sshd.address().port());
    fs::write(world.path("authorities"), line).unwrap();
    let mut via = world.via();
    via.known_hosts = Some(world.path("authorities"));
    let report = world.deploy_as(via, &issued);
    assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
}

#[test]
fn p8_whom_it_does_not_let_in_it_does_not_and_the_error_says_so() {
    let world = World::new();
    let issued = world.issue();
    let mut stranger = world.via();
    stranger.identity = Some(world.path("sshd/other_host"));
    refused(&world.deploy_as(stranger, &issued), ErrorKind::Unauthenticated, &["does not let us log in", "authorized_keys"]);
    let mut nobody = world.via();
    nobody.port = Some(1);
    refused(&world.deploy_as(nobody, &issued), ErrorKind::Unavailable, &["cannot be reached"]);
}

#[test]
fn a_login_shell_that_is_none_of_posix_is_refused() {
    assert!(Path::new("/bin/csh").exists(), "apt-get install tcsh");
    let world = World::new();
    let mut via = world.via();
    via.user = Some("csh".to_owned());
    refused(&world.deploy_as(via, &world.issue()), ErrorKind::PlanInvalid, &["logs in with /bin/csh", "chsh -s /bin/sh"]);
}

#[test]
fn everything_is_done_as_root_with_sudo_and_without_its_rule_the_error_says_so() {
    assert!(Path::new("/usr/bin/sudo").exists(), "apt-get install sudo");
    let world = World::new();
    let issued = world.issue();
    let by_sudo = |user: &str| {
        let mut via = world.via();
        (via.user, via.sudo) = (Some(user.to_owned()), true);
        via
    };
    refused(&world.deploy_as(by_sudo("plain"), &issued), ErrorKind::PermissionDenied, &["sudo without a password", "NOPASSWD"]);
    let mut settings = world.settings(&world.path("tls"));
    let witness = world.path("tls/witness");
    let told_by = format!("id -u > {}", witness.display());
    settings.reload = deploy_core::settings::ReloadSetting::Command(CommandSetting::new(&["sh", "-c", &told_by]));
    let context = world.context(&Arc::new(Ssh::new(by_sudo("ops"))));
    let report = run(&world.job("front", settings, &issued), &context);
    assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
    assert_eq!(fs::read_to_string(witness).unwrap(), "0\n");
}

#[test]
fn who_may_not_write_there_is_told_where() {
    let world = World::new();
    let mut via = world.via();
    via.user = Some("plain".to_owned());
    let report = world.deploy_as(via, &world.issue());
    refused(&report, ErrorKind::StateInvalid, &["cannot be opened or created", "Permission denied"]);
}

#[test]
fn f36_a_full_disk_is_called_one_and_leaves_nothing() {
    let world = World::new();
    let host = Arc::new(Ssh::new(world.via()));
    let small = host.open_directory(&world.sshd.small()).unwrap();
    host.append(&small, "filler".as_ref(), &vec![b'x'; 250 * 1024], false).unwrap();
    let large = vec![b'k'; 64 * 1024];
    let metadata = deploy_core::host::Metadata::new(0, 0, 0o600);
    let error = host.create(&small, "key".as_ref(), &large, &metadata).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::StorageFull, "{error}");
    assert_eq!(host.list(&small).unwrap(), ["filler"]);
    host.append(&small, "filler".as_ref(), &vec![b'x'; 16 * 1024], false).unwrap_err();
    let report = run(&world.job("front", world.settings(&world.sshd.small()), &world.issue()), &world.context(&host));
    refused(&report, ErrorKind::StageFailed, &["No space left on device", "free space"]);
    assert_eq!(host.list(&small).unwrap().iter().filter(|name| *name != "filler" && *name != ".certdeploy").count(), 0);
}

#[test]
fn f3_a_checker_that_refuses_the_new_files_is_asked_when_they_are_in_place_and_they_are_taken_back() {
    let world = World::new();
    let [old, new] = [world.issue(), world.issue()];
    let mut settings = world.settings(&world.path("tls"));
    let key = world.path("tls/www.key");
    let known = world.path("old.key");
    fs::write(&known, old.key_pem.as_str()).unwrap();
    settings.validate = CommandSetting::new(&["cmp", key.to_str().unwrap(), known.to_str().unwrap()]);
    let context = world.context(&Arc::new(Ssh::new(world.via())));
    let first = run(&world.job("front", settings.clone(), &old), &context);
    assert_eq!(first.outcome, Outcome::Changed, "{}", told(&first));
    let report = run(&world.job("front", settings, &new), &context);
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{}", told(&report));
    assert_eq!(world.on_disk(&[&old, &new]).unwrap().fingerprint, old.fingerprint);
    world.nothing_is_left_over();
}

#[test]
fn f10_runs_of_one_process_go_on_beside_each_other_and_another_process_waits() {
    let world = World::new();
    let issued = world.issue();
    let (waits, goes_on) = (world.path("waits"), world.path("goes_on"));
    let mut slow = world.settings(&world.path("tls"));
    let script = format!("touch {}; until [ -e {} ]; do sleep 0.02; done", waits.display(), goes_on.display());
    slow.reload = deploy_core::settings::ReloadSetting::Command(CommandSetting::new(&["sh", "-c", &script]));
    let slow = world.job("slow", slow, &issued);
    fs::create_dir(world.path("other")).unwrap();
    let other = world.job("other", world.settings(&world.path("other")), &issued);
    let host = Arc::new(Ssh::new(world.via()));
    std::thread::scope(|scope| {
        let (context, beside) = (world.context(&host), world.context(&host));
        let running = scope.spawn(move || run(&slow, &context));
        let end = Instant::now() + Duration::from_secs(20);
        while !waits.exists() {
            assert!(Instant::now() < end && !running.is_finished(), "the slow one never came to its reload");
            std::thread::yield_now();
        }
        let report = run(&other, &beside);
        assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
        // Another host of this process is to the other side what another process is.
        let late = world.context(&Arc::new(Ssh::new(world.via()))).with_timeout(Duration::from_secs(1)).with_force(true);
        let report = run(&other, &late);
        assert_eq!((report.outcome, report.live), (Outcome::Locked, Live::Unchanged), "{}", told(&report));
        assert!(told(&report).contains("deploying to slow"), "{}", told(&report));
        fs::write(&goes_on, "").unwrap();
        assert_eq!(running.join().unwrap().outcome, Outcome::Changed);
    });
}

#[test]
fn s1_a_key_is_in_no_command_line_environment_or_error_while_it_goes_over() {
    let world = World::new();
    let issued = world.issue();
    let canary = Canary::new(&issued);
    let (over, looks, seen) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                looks.fetch_add(1, Ordering::Relaxed);
                for entry in fs::read_dir("/proc").unwrap().flatten() {
                    for name in ["cmdline", "environ"] {
                        let bytes = fs::read(entry.path().join(name)).unwrap_or_default();
                        assert_eq!(canary.found_in(&bytes), None, "{}", String::from_utf8_lossy(&bytes));
                        seen.fetch_add(usize::from(bytes.windows(11).any(|part| part == b"iflag=fullb")), Ordering::Relaxed);
                    }
                }
            }
        });
        let report = world.deploy(&issued);
        over.store(true, Ordering::Relaxed);
        assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
        assert_eq!(canary.found_in(format!("{report:?}").as_bytes()), None);
    });
    assert!(
        looks.load(Ordering::Relaxed) > 3 && seen.load(Ordering::Relaxed) > 0,
        "nobody looked, or not at the right processes"
    );
    let leaks =
        Canary::new(&issued).kept_in(world.path(&issued.fingerprint)).kept_in(world.path("tls")).in_tree(world.directory.path());
    assert!(leaks.is_empty(), "{leaks:?}");
}

/// Deploys again and again, with the connection cut after more and more of what is said: there is what the report says, and
/// after the next run the new pair, whole.
fn cut(offset: u64, step: u64, for_good: bool) {
    let world = World::new();
    let relay = Relay::to(world.sshd.address());
    let via: SshSettings = serde_json::from_value(world.sshd.settings_at(relay.address())).unwrap();
    let mut old = world.issue();
    assert_eq!(world.deploy_as(via.clone(), &old).outcome, Outcome::Changed);
    for (cuts, pieces) in (0..).map(|turn| offset + turn * step).enumerate() {
        let new = world.issue();
        let job = world.job("front", world.settings(&world.path("tls")), &new);
        relay.cut_after(pieces, for_good);
        let report = run(&job, &world.context(&Arc::new(Ssh::new(via.clone()))));
        let was_cut = relay.was_cut();
        // A run that says that it does not know is believed: between two renames the files are of two pairs.
        if report.live != Live::Unknown {
            let there = world.on_disk(&[&old, &new]).unwrap_or_else(|| panic!("the files are gone: {}", told(&report)));
            let expected = if report.live == Live::Applied { &new } else { &old };
            assert_eq!(there.fingerprint, expected.fingerprint, "after {pieces} pieces: {}", told(&report));
        }
        assert!(was_cut || report.outcome == Outcome::Changed, "{}", told(&report));
        // The next run, of another process.
        let next = run(&job, &world.context(&Arc::new(Ssh::new(via.clone()))));
        assert!(next.error.is_none(), "after {pieces} pieces, {}, then {}", told(&report), told(&next));
        assert_eq!(world.on_disk(&[&old, &new]).unwrap().fingerprint, new.fingerprint, "{}", told(&next));
        world.nothing_is_left_over();
        old = new;
        if !was_cut {
            assert!(cuts > 5, "it was cut {cuts} times only");
            return;
        }
    }
}

#[test]
fn f21_a_connection_that_is_cut_and_comes_back_leaves_old_or_new() {
    cut(3, 8, false);
}

#[test]
fn f21_a_connection_that_is_cut_for_good_is_recovered_by_the_next_run() {
    cut(7, 8, true);
}

#[test]
fn a_slow_network_changes_nothing_but_the_time() {
    let world = World::new();
    let relay = Relay::to(world.sshd.address());
    relay.delay(Duration::from_millis(10));
    let via = serde_json::from_value(world.sshd.settings_at(relay.address())).unwrap();
    let report = world.deploy_as(via, &world.issue());
    assert_eq!(report.outcome, Outcome::Changed, "{}", told(&report));
}

#[test]
fn p8_a_network_that_swallows_everything_is_given_up_and_the_next_run_ends_it() {
    let world = World::new();
    let relay = Relay::to(world.sshd.address());
    let mut via: SshSettings = serde_json::from_value(world.sshd.settings_at(relay.address())).unwrap();
    via.connect_timeout = deploy_core::settings::Period::new(Duration::from_secs(1));
    let [old, new] = [world.issue(), world.issue()];
    assert_eq!(world.deploy_as(via.clone(), &old).outcome, Outcome::Changed);
    let mut settings = world.settings(&world.path("tls"));
    let (waits, goes_on) = (world.path("waits"), world.path("goes_on"));
    let script = format!("touch {}; until [ -e {} ]; do sleep 0.02; done", waits.display(), goes_on.display());
    settings.reload = deploy_core::settings::ReloadSetting::Command(CommandSetting::new(&["sh", "-c", &script]));
    let job = world.job("front", settings, &new);
    let started = Instant::now();
    std::thread::scope(|scope| {
        let context = world.context(&Arc::new(Ssh::new(via.clone())));
        let job = &job;
        let running = scope.spawn(move || run(job, &context));
        while !waits.exists() {
            assert!(started.elapsed() < Duration::from_secs(20) && !running.is_finished(), "it never came to its reload");
            std::thread::yield_now();
        }
        relay.stall(true);
        let report = running.join().unwrap();
        assert!(report.error.is_some() && report.live == Live::Unknown, "{}", told(&report));
        assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    });
    // The network is back, and with it the news that the connection is gone.
    relay.stall(false);
    relay.cut();
    fs::write(&goes_on, "").unwrap();
    let next = run(&job, &world.context(&Arc::new(Ssh::new(via))));
    assert!(next.error.is_none(), "{}", told(&next));
    assert_eq!(world.on_disk(&[&old, &new]).unwrap().fingerprint, new.fingerprint);
    world.nothing_is_left_over();
}

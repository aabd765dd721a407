//! What a deployment to a real Postfix does where certificates are bad, apart, or copied into a table.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests of a server write its files")]

mod server;

use std::error::Error as _;
use std::fs::{self, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use deploy_core::probe::{Endpoint, StartTls};
use deploy_core::secret::SecretBytes;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_core::{Certificate, Connector as _, Context, ErrorKind, Job, Outcome, Report, Target, deploy};
use deploy_postfix::{Postfix, PostfixSettings};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, Order, Request, ScriptedCommand, observe, provider};
use tempfile::TempDir;

use crate::server::{Server, can_start, chain_setting};

/// Another name, which a table of names knows.
const OTHER: &str = "other.example.test";

/// Its server ends before its directory goes.
struct World {
    server: Server,
    authority: Authority,
    context: Context,
    root: TempDir,
}

impl World {
    /// A Postfix that was prepared and does not run.
    fn prepare() -> Self {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("world");
        fs::create_dir(&directory).unwrap();
        let server = Server::prepare(&directory).unwrap();
        let context = Context::new(root.path().join("state"), provider());
        Self { server, authority: Authority::new(), context, root }
    }

    /// A Postfix that runs with these lines about TLS.
    fn start(tls: impl Fn(&Server) -> String) -> Self {
        let world = Self::prepare();
        world.server.configure("wanted.cf", &tls(&world.server)).unwrap();
        world.server.run("start", "wanted.cf").unwrap();
        world
    }

    fn issue(&self, name: &str) -> Issued {
        self.authority.issue(&Request::new(&[name]))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.server.directory.join(name)
    }

    /// The files, the reload and the two ports.
    fn settings(&self, settings: PostfixSettings, name: &str) -> PostfixSettings {
        let endpoint = |address: SocketAddr| Endpoint::new(address.to_string()).with_server_name(name);
        let mut settings = settings;
        settings.reload = reload(self.server.command("reload", "wanted.cf"));
        settings.verify = Some(vec![endpoint(self.server.smtp).with_starttls(StartTls::Smtp), endpoint(self.server.smtps)]);
        settings.verify_timeout = Period::new(Duration::from_secs(2));
        settings
    }

    fn chain_file(&self) -> PostfixSettings {
        self.settings(PostfixSettings::new(&self.server.chain_file), NAME)
    }

    fn deploy(&self, settings: PostfixSettings, issued: &Issued) -> Report {
        let target: Arc<dyn Target> = Postfix::build("mail", settings).unwrap().into();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let jobs = [Job::new("mail", Postfix::KIND, target, Arc::new(certificate))];
        runtime.block_on(deploy(&jobs, &self.context)).remove(0)
    }

    #[track_caller]
    fn changes(&self, settings: PostfixSettings, issued: &Issued) {
        let report = self.deploy(settings, issued);
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}\n{}", self.server.log());
    }

    #[track_caller]
    fn assert_served(&self, name: &str, issued: &Issued) {
        let served = observe::served_fingerprint(self.server.smtps, Some(name));
        assert_eq!(served.as_ref(), Ok(&issued.fingerprint), "{}", self.server.log());
    }
}

fn reload(command: Vec<String>) -> ReloadSetting {
    ReloadSetting::Command(CommandSetting::Arguments(command))
}

fn write_closed(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(0o600)).unwrap();
}

/// An error with its causes.
fn said(report: &Report) -> String {
    let error = report.error.as_ref().unwrap();
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[test]
fn bad_pair_is_answered_with_454_and_rolled_back_although_check_and_reload_accept_it() {
    if !can_start() {
        return;
    }
    let world = World::start(|server| chain_setting(&server.chain_file));
    let old = world.issue(NAME);
    world.changes(world.chain_file(), &old);

    // The reload makes Postfix load a key that does not belong to the certificate, once.
    let wrong = world.path("wrong.pem");
    write_closed(&wrong, &(world.issue(NAME).key_pem + &world.issue(NAME).fullchain_pem));
    world.server.configure("wrong.cf", &chain_setting(&wrong)).unwrap();
    let [wanted, other] = ["wanted.cf", "wrong.cf"].map(|name| world.server.command("reload", name));
    let breaking = ScriptedCommand::with_other(world.root.path(), "breaking", &wanted, &other);
    breaking.order(Order::OtherOnce);
    let mut settings = world.chain_file();
    settings.reload = reload(breaking.command());
    settings.validate = CommandSetting::new(&["postfix", "-c", &world.path("etc").display().to_string(), "check"]);
    let report = world.deploy(settings, &world.issue(NAME));
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(report.error.as_ref().map(deploy_core::Error::kind), Some(ErrorKind::VerifyFailed));
    assert!(said(&report).contains("454"), "{}", said(&report));
    world.assert_served(NAME, &old);
}

#[test]
fn postfix_check_accepts_what_is_no_certificate() {
    if !can_start() {
        return;
    }
    let world = World::start(|server| chain_setting(&server.chain_file));
    write_closed(&world.server.chain_file, "garbage\n");
    world.server.run("check", "wanted.cf").unwrap();
}

#[test]
fn certificate_and_key_may_be_two_files() {
    if !can_start() {
        return;
    }
    let (fullchain, key) = ("tls/mail.crt", "tls/mail.key");
    let world = World::start(|server| {
        let [fullchain, key] = [fullchain, key].map(|name| server.directory.join(name).display().to_string());
        format!("smtpd_tls_cert_file = {fullchain}\nsmtpd_tls_key_file = {key}")
    });
    let settings = || world.settings(PostfixSettings::with_pair(world.path(fullchain), world.path(key)), NAME);
    for _ in 0..2 {
        let issued = world.issue(NAME);
        world.changes(settings(), &issued);
        world.assert_served(NAME, &issued);
        assert_eq!(fs::read_to_string(world.path(fullchain)).unwrap(), issued.fullchain_pem);
        assert_eq!(fs::metadata(world.path(key)).unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn new_processes_use_a_renewal_without_a_reload() {
    if !can_start() {
        return;
    }
    // Every process serves one client, so that each is a new one.
    let world = World::start(|server| chain_setting(&server.chain_file) + "\nmax_use = 1");
    let mut settings = world.chain_file();
    settings.reload = ReloadSetting::Command(CommandSetting::new(&[]));
    for _ in 0..2 {
        let issued = world.issue(NAME);
        world.changes(settings.clone(), &issued);
        world.assert_served(NAME, &issued);
    }
}

#[test]
fn postfix_that_does_not_run_cannot_be_reloaded_and_nothing_stays() {
    if !can_start() {
        return;
    }
    let world = World::prepare();
    world.server.configure("wanted.cf", &chain_setting(&world.server.chain_file)).unwrap();
    let report = world.deploy(world.chain_file(), &world.issue(NAME));
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(report.error.as_ref().map(deploy_core::Error::kind), Some(ErrorKind::ReloadFailed));
    assert!(!world.server.chain_file.exists());
}

/// A Postfix with a default certificate of its own, and a table that names the deployed file for [`OTHER`].
fn with_table() -> (World, PostfixSettings) {
    let world = World::start(|server| {
        let [default, table] = ["default.pem", "sni"].map(|name| server.directory.join(name).display().to_string());
        format!("smtpd_tls_chain_files = {default}\ntls_server_sni_maps = hash:{table}")
    });
    let default = world.issue(NAME);
    write_closed(&world.path("default.pem"), &(default.key_pem + &default.fullchain_pem));
    write_closed(&world.path("sni"), &format!("{OTHER} {}\n", world.server.chain_file.display()));
    let mut settings = world.settings(PostfixSettings::new(&world.server.chain_file), OTHER);
    settings.sni_maps = vec![format!("hash:{}", world.path("sni").display())];
    (world, settings)
}

#[test]
fn table_of_names_is_rebuilt_on_the_way_there_and_on_the_way_back() {
    if !can_start() {
        return;
    }
    let (world, settings) = with_table();
    let old = world.issue(OTHER);
    world.changes(settings.clone(), &old);
    world.assert_served(OTHER, &old);
    let in_index = || {
        let table = format!("hash:{}", world.path("sni").display());
        let output = Command::new("postmap").args(["-Fq", OTHER, &table]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    };
    assert_eq!(in_index().trim(), (old.key_pem + &old.fullchain_pem).trim());

    let new = world.issue(OTHER);
    world.changes(settings.clone(), &new);
    world.assert_served(OTHER, &new);

    let failing = ScriptedCommand::new(world.root.path(), "failing", &world.server.command("reload", "wanted.cf"));
    failing.order(Order::FailOnce);
    let mut broken = settings;
    broken.reload = reload(failing.command());
    let report = world.deploy(broken, &world.issue(OTHER));
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(in_index().trim(), (new.key_pem.clone() + &new.fullchain_pem).trim(), "the pair before is in the index again");
    world.assert_served(OTHER, &new);
    assert_eq!(fs::metadata(world.path("sni.db")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn table_that_others_can_read_is_refused_before_a_key_gets_into_it() {
    if !can_start() {
        return;
    }
    let (world, settings) = with_table();
    let refused = |settings: PostfixSettings, path: &Path| {
        let report = world.deploy(settings, &world.issue(OTHER));
        assert_eq!(report.outcome, Outcome::Rejected, "{report:?}");
        assert!(said(&report).contains(&path.display().to_string()), "{}", said(&report));
        assert!(!world.server.chain_file.exists());
    };
    let (table, index) = (world.path("sni"), world.path("sni.db"));
    let set_mode = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    set_mode(&table, 0o644);
    refused(settings.clone(), &table);
    assert!(!index.exists());
    set_mode(&table, 0o600);
    fs::write(&index, "").unwrap();
    set_mode(&index, 0o644);
    refused(settings.clone(), &index);
    fs::remove_file(&table).unwrap();
    refused(settings, &table);
}

#[test]
fn settings_that_cannot_be_right_are_refused() {
    let refused = |settings: PostfixSettings, path: &str, words: &str| {
        let error = Postfix::build("mail", settings).unwrap_err();
        assert_eq!(error.path, path, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    };
    let mut both = PostfixSettings::new("/etc/postfix/tls/mail.pem");
    both.key = Some("/etc/postfix/tls/mail.key".into());
    refused(both, "chain_file", "excludes");
    let mut half = PostfixSettings::with_pair("/etc/postfix/tls/mail.crt", "/etc/postfix/tls/mail.key");
    half.key = None;
    refused(half.clone(), "key", "missing");
    half.fullchain = None;
    refused(half, "chain_file", "missing");
    for (table, words) in [("/etc/postfix/sni", "TYPE:FILE"), ("texthash:/etc/postfix/sni", "no index"), ("hash:sni", "absolute")]
    {
        let mut settings = PostfixSettings::new("/etc/postfix/tls/mail.pem");
        settings.sni_maps = vec!["hash:/etc/postfix/names".to_owned(), table.to_owned()];
        refused(settings, "sni_maps[1]", words);
    }
}

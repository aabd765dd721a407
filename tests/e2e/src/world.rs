//! Everything that one test has for itself.

use std::cell::RefCell;
use std::fs::Permissions;
use std::net::TcpStream;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use deploy_testkit::{Authority, Issued, KeyKind, Nginx, NginxConfig, Request, observe, write_pair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::Tree;
use crate::config::TargetConfig;
use crate::program::{Program, Run, Running};
use crate::system::{children, needs_root, tool};
use crate::{quoted, until};

/// The name in all certificates.
pub const NAME: &str = "www.example.test";

/// Directories, an nginx, a configuration, and the program.
#[derive(Debug)]
pub struct World {
    /// The authority of its certificates.
    pub authority: Authority,
    /// The server: plain HTTP to begin with.
    pub nginx: Nginx,
    /// How the program is started.
    pub program: Program,
    certificates: RefCell<Vec<String>>,
    /// The server, where another user runs it.
    server: Option<Child>,
    directory: TempDir,
}

/// The user of [`World::of_user`]: one that no system has.
const USER: u32 = 1234;

impl World {
    /// With an nginx that serves plain HTTP, and nothing deployed yet.
    ///
    /// # Panics
    ///
    /// When nginx is not installed or does not start: with the line that installs it, or with its own words.
    #[must_use]
    pub fn new() -> Self {
        let mut world = Self::prepare();
        world.nginx.launch().unwrap_or_else(|error| panic!("{error}"));
        world
    }

    fn prepare() -> Self {
        let directory = tempfile::Builder::new().prefix("certdeploy-e2e-").tempdir().expect("a directory");
        std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("our own directory");
        for name in ["source", "live", "config", "tools"] {
            std::fs::create_dir(directory.path().join(name)).expect("a new directory");
        }
        let nginx =
            Nginx::prepare(&directory.path().join("nginx"), &NginxConfig::plain()).unwrap_or_else(|error| panic!("{error}"));
        let program = Program::new(directory.path().join("config/certdeploy.toml"), directory.path().join("state"));
        Self { authority: Authority::new(), nginx, program, certificates: RefCell::default(), server: None, directory }
    }

    /// As [`Self::new`], but nginx, program and all files belong to an ordinary user, whose number is returned. Only root can
    /// set that up.
    ///
    /// # Panics
    ///
    /// When this is not root, and as [`Self::new`].
    #[must_use]
    pub fn of_user() -> (Self, u32) {
        needs_root("it starts nginx and the program as another user");
        let mut world = Self::prepare();
        let program = world.path("tools/certdeploy");
        std::fs::copy(&world.program.path, &program).expect("a copy that every user can reach");
        (world.program.path, world.program.user) = (program, Some(USER));
        tool("coreutils", &["chown", "-R", &format!("{USER}:{USER}"), world.directory.path().to_str().expect("UTF-8")]);
        let check = world.nginx.validate_command();
        let mut command = Command::new(&check[0]);
        command.args(&check[2..]).uid(USER).gid(USER).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        world.server = Some(command.spawn().expect("nginx starts"));
        until("nginx listens", || TcpStream::connect(world.nginx.address()).is_ok());
        (world, USER)
    }

    /// In a world of an ordinary user: deploys a first certificate.
    ///
    /// # Panics
    ///
    /// When the deployment does not succeed.
    #[must_use]
    pub fn serve_as_user(&self) -> Issued {
        let issued = self.renew();
        self.use_tls();
        self.configure(&[self.front()]);
        self.deploy().expect(0, "changed");
        self.assert_served(&issued);
        issued
    }

    /// With a first certificate deployed and served over TLS; returns that certificate, too.
    ///
    /// # Panics
    ///
    /// As [`Self::new`], and when the deployment does not succeed.
    #[must_use]
    pub fn serving() -> (Self, Issued) {
        Self::serving_as(|target| target)
    }

    /// As [`Self::serving`], with other settings of the target.
    ///
    /// # Panics
    ///
    /// As [`Self::serving`].
    #[must_use]
    pub fn serving_as(settings: impl FnOnce(TargetConfig) -> TargetConfig) -> (Self, Issued) {
        let world = Self::new();
        let issued = world.renew();
        world.use_tls();
        world.configure(&[settings(world.front())]);
        world.deploy().expect(0, "changed");
        world.assert_served(&issued);
        (world, issued)
    }

    /// A path in the directory of the test.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Where nginx finds its certificate.
    #[must_use]
    pub fn fullchain(&self) -> PathBuf {
        self.path("live/www.crt")
    }

    /// Where nginx finds its key.
    #[must_use]
    pub fn key(&self) -> PathBuf {
        self.path("live/www.key")
    }

    /// nginx's configuration serves the certificate from its next reload on.
    pub fn use_tls(&self) {
        self.nginx.set_config(&NginxConfig::tls(NAME, &self.fullchain(), &self.key()));
    }

    /// The target for [`Self::fullchain`] and [`Self::key`], with nginx's own commands and one endpoint.
    pub fn front(&self) -> TargetConfig {
        self.target("front", &self.fullchain(), &self.key())
    }

    /// A target for other files of the same nginx.
    pub fn target(&self, name: &str, fullchain: &Path, key: &Path) -> TargetConfig {
        TargetConfig::new(name, fullchain, key)
            .command("validate", &self.nginx.validate_command())
            .command("reload", &self.nginx.reload_command())
            .set("verify", format!("[{}]", self.endpoint("")))
    }

    /// The endpoint of nginx as TOML, with more settings of it.
    #[must_use]
    pub fn endpoint(&self, more: &str) -> String {
        format!("{{ connect = {}, server_name = {}{more} }}", quoted(&self.nginx.address().to_string()), quoted(NAME))
    }

    /// Writes the configuration: every certificate of the source, and these targets.
    pub fn configure(&self, targets: &[TargetConfig]) {
        let certificates = self.certificates.borrow();
        let certificates = certificates.iter().map(|name| {
            let directory = self.path("source").join(name);
            let file = |file: &str| quoted(directory.join(file).to_str().expect("UTF-8"));
            format!(
                "[[certificate]]\nname = {}\nfullchain = {}\nkey = {}\n",
                quoted(name),
                file("fullchain.pem"),
                file("privkey.pem")
            )
        });
        let text: Vec<String> = certificates.chain(targets.iter().map(TargetConfig::to_toml)).collect();
        self.configure_text(&text.join("\n"));
    }

    /// Writes any text as the configuration.
    pub fn configure_text(&self, text: &str) {
        write(&self.program.config, text, 0o644);
    }

    /// The configuration.
    #[must_use]
    pub fn configuration(&self) -> String {
        std::fs::read_to_string(&self.program.config).expect("the configuration")
    }

    /// Puts a new certificate into the source, as a renewal does.
    pub fn renew(&self) -> Issued {
        let issued = self.issue(&Request::new(&[NAME]));
        self.put("www", &issued);
        issued
    }

    /// A certificate that is put nowhere.
    #[must_use]
    pub fn issue(&self, request: &Request) -> Issued {
        self.authority.issue(request)
    }

    /// A certificate with another kind of key.
    #[must_use]
    pub fn issue_with(&self, key: KeyKind) -> Issued {
        self.issue(&Request::new(&[NAME]).key(key))
    }

    /// Puts a certificate into the source under a name.
    pub fn put(&self, name: &str, issued: &Issued) {
        let directory = self.path("source").join(name);
        std::fs::create_dir_all(&directory).expect("a directory");
        let (fullchain, key) = write_pair(&directory, issued);
        if let Some(user) = self.program.user {
            for path in [fullchain, key] {
                chown(path, Some(user), Some(user)).expect("our own file");
            }
        }
        let mut known = self.certificates.borrow_mut();
        if !known.iter().any(|other| other == name) {
            known.push(name.to_owned());
        }
    }

    /// The file of the certificate in the source.
    #[must_use]
    pub fn source_fullchain(&self) -> PathBuf {
        self.path("source/www/fullchain.pem")
    }

    /// The file of the key in the source.
    #[must_use]
    pub fn source_key(&self) -> PathBuf {
        self.path("source/www/privkey.pem")
    }

    /// A shell script in the directory of the test: an operator's own command.
    #[must_use]
    pub fn script(&self, name: &str, text: &str) -> String {
        let path = self.path("tools").join(name);
        write(&path, &format!("#!/bin/sh\n{text}\n"), 0o755);
        path.to_str().expect("UTF-8").to_owned()
    }

    /// nginx's reload command, quoted for a shell.
    #[must_use]
    pub fn shell_reload(&self) -> String {
        self.nginx.reload_command().iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ")
    }

    /// A reload that leaves a line in a file each time; see [`Self::reloads`].
    #[must_use]
    pub fn counting_reload(&self) -> String {
        let text = format!("echo reload >>'{}'\nexec {}", self.path("reloads").display(), self.shell_reload());
        self.script("reload", &text)
    }

    /// How often [`Self::counting_reload`] ran.
    #[must_use]
    pub fn reloads(&self) -> usize {
        std::fs::read_to_string(self.path("reloads")).unwrap_or_default().lines().count()
    }

    /// Runs the program to the end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.program.run(arguments)
    }

    /// Starts the program.
    #[must_use]
    pub fn start(&self, arguments: &[&str]) -> Running {
        self.program.start(arguments)
    }

    /// `deploy --json`.
    #[must_use]
    pub fn deploy(&self) -> Run {
        self.run(&["deploy", "--json"])
    }

    /// The certificate that is served now.
    ///
    /// # Errors
    ///
    /// Nobody answers, or the handshake fails.
    pub fn served(&self) -> Result<String, String> {
        observe::served_fingerprint(self.nginx.address(), Some(NAME))
    }

    /// Asserts that this certificate is served, now or as soon as the workers that a reload has ended are gone.
    ///
    /// # Panics
    ///
    /// When it is not.
    #[track_caller]
    pub fn assert_served(&self, issued: &Issued) {
        self.settle();
        until("the certificate is served", || self.served().as_deref() == Ok(&issued.fingerprint));
    }

    /// Waits until the workers that a reload has ended are gone. Until then they may still answer, each with what it knew.
    ///
    /// # Panics
    ///
    /// When they stay.
    pub fn settle(&self) {
        let master = || std::fs::read_to_string(self.nginx.pid_file()).ok()?.trim().parse::<u32>().ok();
        until("the old workers are gone", || master().is_some_and(|master| children(master).len() == 1));
    }

    /// Asserts that this certificate is on disk with its key, whole.
    ///
    /// # Panics
    ///
    /// When another one is.
    #[track_caller]
    pub fn assert_on_disk(&self, issued: &Issued) {
        assert!(read(&self.fullchain()) == issued.fullchain_pem.as_bytes(), "another certificate is on disk");
        assert!(read(&self.key()) == issued.key_pem.as_bytes(), "another key is on disk");
    }

    /// The destinations, with what certdeploy keeps beside them.
    #[must_use]
    pub fn live(&self) -> Tree {
        Tree::of(&self.path("live"))
    }

    /// Asserts that no staged file, no journal and no scratch directory is left.
    ///
    /// # Panics
    ///
    /// When one is.
    #[track_caller]
    pub fn assert_nothing_left(&self) {
        let (live, state) = (self.live(), Tree::of(&self.program.state));
        let left: Vec<&Path> = live.paths().chain(state.paths()).filter(|path| is_left_over(path)).collect();
        assert!(left.is_empty(), "left over: {left:?}");
    }

    /// The lines of the history.
    #[must_use]
    pub fn history(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.program.state.join("history.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect("a line of the history is JSON")).collect()
    }

    /// The journals that are there.
    #[must_use]
    pub fn journals(&self) -> Vec<PathBuf> {
        let tree = Tree::of(&self.program.state);
        tree.paths().filter(|path| path.extension().is_some_and(|ending| ending == "jnl")).map(Path::to_owned).collect()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let Some(server) = &mut self.server else { return };
        if matches!(server.try_wait(), Ok(None)) {
            kill_process(Pid::from_child(server), Signal::TERM).ok();
        }
        drop(server.wait());
    }
}

/// Only what certdeploy makes for the time of a run. Journals include what a run leaves on purpose: a debt.
fn is_left_over(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let ending = Path::new(name).extension().and_then(|ending| ending.to_str()).unwrap_or_default();
    ["new", "back", "jnl"].contains(&ending) || ["minimal-", "plan-", "preview-"].iter().any(|start| name.starts_with(start))
}

/// Writes a file of the test itself, with this mode.
pub(crate) fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("our own file");
}

fn read(path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

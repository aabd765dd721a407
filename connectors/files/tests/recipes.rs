//! The recipes of docs/files.md as they stand there, each with the real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests start servers")]

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Outcome, Registry, Report, deploy};
use deploy_files::Files;
use deploy_testkit::nginx::free_port;
use deploy_testkit::{Authority, Issued, Request, observe};
use tempfile::TempDir;
use toml::Table;

const NAME: &str = "www.example.com";

/// A server of a recipe, in a directory and on a port of its own.
struct World {
    root: TempDir,
    address: SocketAddr,
    target: Table,
    context: Context,
    server: Option<Child>,
}

impl World {
    /// The recipe with this word: its target, and the server's configuration, with the directories and the port of the page
    /// replaced by ours, and more lines before and after it.
    fn new(word: &str, port: u16, directories: [&str; 2], [before, after]: [&str; 2]) -> (Self, PathBuf) {
        let root = TempDir::new().unwrap();
        // The server may be another user, who has to come in.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let ours = ["etc", "run"].map(|name| root.path().join(name));
        ours.iter().for_each(|directory| fs::create_dir(directory).unwrap());
        let adapted = |text: &str| {
            let text = text.replace(&port.to_string(), &address.port().to_string());
            text.replace(directories[0], ours[0].to_str().unwrap()).replace(directories[1], ours[1].to_str().unwrap())
        };
        let mut target: Table = toml::from_str(&adapted(&block("toml", word))).unwrap();
        target = target["target"][0].as_table().unwrap().clone();
        assert_eq!(target.remove("kind").unwrap().as_str(), Some("files"));
        ["name", "certificate"].iter().for_each(|field| drop(target.remove(*field).unwrap()));
        if !rustix::process::geteuid().is_root() {
            target["files"]
                .as_array_mut()
                .unwrap()
                .iter_mut()
                .for_each(|file| drop(file.as_table_mut().unwrap().remove("group")));
        }
        let configuration = root.path().join("configuration");
        fs::write(&configuration, adapted(&format!("{before}{}{after}", block("ini", word)))).unwrap();
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        (Self { root, address, target, context, server: None }, configuration)
    }

    fn start(&mut self, command: &mut Command) {
        let log = fs::File::create(self.root.path().join("log")).unwrap();
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.server = Some(command.spawn().expect("the server of the recipe is needed: `cargo xtask test` installs it"));
    }

    /// Deploys with some settings of the recipe replaced.
    async fn deploy(&self, issued: &Issued, replaced: &str) -> Report {
        let mut settings = self.target.clone();
        settings.extend(toml::from_str::<Table>(replaced).unwrap());
        let settings = serde_json::to_value(settings).unwrap();
        let target = Registry::new().with::<Files>().get("files").unwrap().build("front", settings).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        deploy(&[Job::new("front", "files", Arc::from(target), Arc::new(certificate))], &self.context).await.remove(0)
    }

    fn served(&self) -> Option<String> {
        observe::served_fingerprint(self.address, Some(NAME)).ok()
    }

    fn await_served(&self, issued: &Issued) {
        let end = Instant::now() + Duration::from_secs(20);
        while self.served().as_ref() != Some(&issued.fingerprint) {
            let log = || fs::read_to_string(self.root.path().join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "the server does not serve what was deployed: {}", log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if let Some(server) = &mut self.server {
            drop(server.kill());
            drop(server.wait());
        }
    }
}

/// The code block of the page in this language that carries this word.
fn block(language: &str, word: &str) -> String {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/files.md")).unwrap();
    let opening = format!("```{language} {word}\n");
    let (_, rest) = page.split_once(&opening).unwrap_or_else(|| panic!("the page has no {language} of {word}"));
    rest.split("```").next().unwrap().to_owned()
}

/// A first deployment as the page says, a renewal, nothing to do, and a renewal that the server is not told of.
async fn lives_through_renewals(mut world: World, command: &mut Command) {
    let authority = Authority::new();
    let [first, second, third] = [(); 3].map(|()| authority.issue(&Request::new(&[NAME])));

    let report = world.deploy(&first, "reload = []\nverify = []").await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    world.start(command);
    world.await_served(&first);

    let report = world.deploy(&second, "").await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(world.served().as_ref(), Some(&second.fingerprint));
    assert_eq!(world.deploy(&second, "").await.outcome, Outcome::Unchanged);

    let report = world.deploy(&third, "reload = []\nverify_timeout = \"1s\"").await;
    assert_eq!(report.outcome, Outcome::RolledBack, "the server takes up files without being told: {report:?}");
    assert_eq!(world.served().as_ref(), Some(&second.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn stunnel_is_told_by_a_signal() {
    let (world, configuration) = World::new("stunnel", 8443, ["/etc/stunnel", "/run/stunnel4"], ["foreground = yes\n", ""]);
    lives_through_renewals(world, Command::new("/usr/bin/stunnel4").arg(configuration)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mosquitto_is_told_by_a_signal() {
    // The first line is in Debian's own configuration; the last one keeps to loopback.
    let around = ["pid_file /run/mosquitto/mosquitto.pid\n", "bind_interface lo\n"];
    let (world, configuration) = World::new("mosquitto", 8883, ["/etc/mosquitto/certs", "/run/mosquitto"], around);
    if rustix::process::geteuid().is_root() {
        // As Debian's unit does: the broker has given up root when it writes its pid file.
        let chown = Command::new("chown").arg("mosquitto").arg(world.root.path().join("run")).status();
        assert!(chown.unwrap().success());
    }
    lives_through_renewals(world, Command::new("/usr/sbin/mosquitto").arg("-c").arg(configuration)).await;
}

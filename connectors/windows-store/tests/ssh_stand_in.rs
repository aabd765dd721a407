//! The way over SSH: the system's own `ssh` and a real OpenSSH server, behind which the stand-in for a Windows host runs what
//! comes. The server is started for each connection, by `ProxyCommand`, and needs no port.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test, with a world of its own")]

#[path = "../../support/powershell/tests/windows/deployment.rs"]
mod deployment;
#[path = "../../support/powershell/tests/windows/mod.rs"]
mod windows;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use deploy_core::{ErrorKind, Outcome, Report};
use deploy_powershell::Script;
use deploy_testkit::{Authority, Issued, Request};
use deploy_windows_store::WindowsStore;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::deployment::deploy_to;
use crate::windows::{Host, Serves, Windows};

struct World {
    root: TempDir,
    windows: Arc<Windows>,
}

impl World {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        let host = Host::new(Serves::Named("[certdeploy:db live".to_owned()), Script::NameCertificates);
        let windows = Arc::new(Windows::start(root.path(), host));
        let port = forward(Arc::clone(&windows));
        let path = root.path().display().to_string();
        for key in ["host", "id", "other"] {
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(root.path().join(key)).status();
            assert!(made.unwrap().success());
        }
        // The server gives up its rights there, and wants the directory.
        fs::create_dir_all("/run/sshd").unwrap();
        // One line comes in. What the stand-in answers begins with the exit status.
        let remote = format!(
            "#!/bin/bash\nread -r line\nexec 3<>/dev/tcp/127.0.0.1/{port}\nprintf '%s\\n%s\\n' \"$SSH_ORIGINAL_COMMAND\" \"$line\" >&3\n\
             read -r status <&3\ncat <&3\nexit \"$status\"\n"
        );
        let server = format!(
            "HostKey {path}/host\nAuthorizedKeysFile {path}/id.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nForceCommand /bin/bash {path}/remote\n"
        );
        let client = format!("Host web1\n  ProxyCommand /usr/sbin/sshd -i -f {path}/sshd_config\n");
        for (name, text) in [("remote", remote), ("sshd_config", server), ("ssh_config", client)] {
            fs::write(root.path().join(name), text).unwrap();
        }
        knows(root.path(), "host");
        Self { root, windows }
    }

    fn settings(&self) -> Value {
        let file = |name: &str| self.root.path().join(name);
        let ssh = json!({
            "host": "web1",
            "identity": file("id"),
            "known_hosts": file("known_hosts"),
            "config": file("ssh_config"),
        });
        json!({
            "connection": { "ssh": ssh },
            "verify": [{ "connect": self.windows.address.to_string(), "server_name": "db.example.com" }],
            "verify_timeout": "2s",
        })
    }

    async fn deploy(&self, issued: &Issued) -> Report {
        deploy_to::<WindowsStore>("db", self.settings(), issued, self.root.path()).await
    }
}

/// Takes a command line and a line of standard input, and gives them to the stand-in.
fn forward(windows: Arc<Windows>) -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut lines = BufReader::new(stream.try_clone().unwrap());
            let (mut command, mut stdin) = (String::new(), String::new());
            lines.read_line(&mut command).unwrap();
            lines.read_line(&mut stdin).unwrap();
            let (status, printed) = windows.run(command.trim_end(), stdin.as_bytes());
            stream.write_all(&[format!("{status}\n").as_bytes(), &printed].concat()).unwrap();
        }
    });
    port
}

fn knows(root: &Path, key: &str) {
    let public = fs::read_to_string(root.join(format!("{key}.pub"))).unwrap();
    fs::write(root.join("known_hosts"), format!("web1 {public}")).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_deployed_over_ssh_as_over_winrm() {
    let world = World::start();
    let authority = Authority::new();
    let issued = authority.issue(&Request::new(&["db.example.com"]));
    let report = world.deploy(&issued).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(world.windows.served("db.example.com").unwrap()[0], issued.leaf_der);
    assert_eq!(world.deploy(&issued).await.outcome, Outcome::Unchanged);
    assert!(world.windows.winrm.record().exchanges().is_empty(), "nothing went over WinRM");
    world.windows.with(|host| host.elevated = false);
    let report = world.deploy(&authority.issue(&Request::new(&["db.example.com"]))).await;
    assert_eq!(report.error.unwrap().kind(), ErrorKind::PermissionDenied, "what a script says comes through");
}

#[tokio::test(flavor = "multi_thread")]
async fn p9_a_host_whose_key_is_another_one_gets_nothing() {
    let world = World::start();
    knows(world.root.path(), "other");
    let report = world.deploy(&Authority::new().issue(&Request::new(&["db.example.com"]))).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::Unauthenticated), "{}", error.full_message());
    world.windows.with(|host| assert!(host.ran.is_empty()));
}

#[test]
fn settings_that_mean_nothing_on_windows_are_refused() {
    let refused = |ssh: Value| {
        let settings = json!({ "connection": { "ssh": ssh } });
        deploy_core::Registry::new().with::<WindowsStore>().get("windows-store").unwrap().build("db", settings).unwrap_err().path
    };
    assert_eq!(refused(json!({ "host": "web1", "sudo": true })), "connection.ssh.sudo");
    assert_eq!(refused(json!({ "host": "-oProxyCommand=id" })), "connection.ssh.host");
}

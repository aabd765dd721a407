//! The program `reloading-tls-server`, driven from outside by files and signals.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test that starts a program")]

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::{Duration, Instant};

use deploy_testkit::observe::served_fingerprint;
use deploy_testkit::{Authority, Issued, Request, write_pair};
use rustix::process::{Pid, Signal, kill_process};

struct Running {
    child: Child,
    address: SocketAddr,
    errors: BufReader<ChildStderr>,
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Running {
    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn await_served(&self, fingerprint: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        while served_fingerprint(self.address, None).as_deref() != Ok(fingerprint) {
            assert!(Instant::now() < deadline, "{fingerprint} was never served");
        }
    }
}

fn command(directory: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_reloading-tls-server"));
    command.args(["--listen", "127.0.0.1:0", "--fullchain"]).arg(directory.join("fullchain.pem"));
    command.arg("--key").arg(directory.join("privkey.pem")).arg("--pid-file").arg(directory.join("pid")).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn start(directory: &Path, more: &[&str]) -> Running {
    let mut child = command(directory, more).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim_end().strip_prefix("listening ").unwrap().parse().unwrap();
    let errors = BufReader::new(child.stderr.take().unwrap());
    assert_eq!(std::fs::read_to_string(directory.join("pid")).unwrap().trim(), child.id().to_string());
    Running { child, address, errors }
}

fn issue(authority: &Authority) -> Issued {
    authority.issue(&Request::new(&["www.example.test"]))
}

#[test]
fn hangup_loads_a_good_pair_and_keeps_the_old_one_instead_of_a_bad_one() {
    let (authority, directory) = (Authority::new(), tempfile::tempdir().unwrap());
    let (old, new) = (issue(&authority), issue(&authority));
    write_pair(directory.path(), &old);
    let mut server = start(directory.path(), &[]);
    assert_eq!(served_fingerprint(server.address, None), Ok(old.fingerprint.clone()));

    write_pair(directory.path(), &new.with_key_of(&old));
    server.signal(Signal::HUP);
    let mut line = String::new();
    server.errors.read_line(&mut line).unwrap();
    assert!(line.contains("kept the old certificate"), "{line}");
    assert_eq!(served_fingerprint(server.address, None), Ok(old.fingerprint.clone()));

    write_pair(directory.path(), &new);
    assert_eq!(served_fingerprint(server.address, None), Ok(old.fingerprint));
    server.signal(Signal::HUP);
    server.await_served(&new.fingerprint);

    server.signal(Signal::TERM);
    assert!(server.child.wait().unwrap().success());
}

#[test]
fn missing_files_end_it_with_one_line_unless_it_is_told_to_wait() {
    let directory = tempfile::tempdir().unwrap();
    let output = command(directory.path(), &[]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("fullchain.pem"), "{output:?}");

    let server = start(directory.path(), &["--wait-for-files"]);
    served_fingerprint(server.address, None).unwrap_err();
    let issued = issue(&Authority::new());
    write_pair(directory.path(), &issued);
    server.signal(Signal::HUP);
    server.await_served(&issued.fingerprint);
}

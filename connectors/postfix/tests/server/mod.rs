//! A real Postfix in a directory of its own, for the tests of this crate. Its master has to be root.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "each test uses a part of it, a server is a process, and who is not root has to hear of it"
)]

use std::fs::{File, Permissions};
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use deploy_testkit::own_addresses;

/// Where Debian puts it.
const POSTFIX: &str = "/usr/sbin/postfix";

/// Makes the directories of a queue as `postfix check` does, which takes its time, and has it left out at the start.
const QUEUE: &str = "cd \"$0\" && chown postfix ../data && \
    mkdir active bounce corrupt defer deferred flush hold incoming maildrop pid private public saved trace && \
    chmod 700 * && chown postfix * && chown root pid && chgrp postdrop maildrop public && \
    chmod 755 pid && chmod 730 maildrop && chmod 710 public && : > quick-start";

/// Does something with the `main.cf` that is to be used from then on.
const SERVICE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" && cp -p "$2" etc/main.cf && exec /usr/sbin/postfix -c "$PWD/etc" "$1"
"#;

/// Said in place of every test that cannot be run.
pub(crate) const NEEDS_ROOT: &str = "Postfix has to be started by root: run the tests of deploy-postfix as root";

/// Whether this can be tried at all. Says loudly that it can't.
pub(crate) fn can_start() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("NOT TRIED: {NEEDS_ROOT}");
    }
    root
}

/// A Postfix that an operator has configured: with STARTTLS on one port and TLS from the first byte on another. It runs before
/// its files are there, and ends when this is dropped.
pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) smtp: SocketAddr,
    pub(crate) smtps: SocketAddr,
    pub(crate) chain_file: PathBuf,
}

impl Server {
    /// Starts it for a chain file in a directory `tls`, which is empty.
    pub(crate) fn start(directory: &Path) -> Result<Self, String> {
        let server = Self::prepare(directory)?;
        server.configure("wanted.cf", &chain_setting(&server.chain_file))?;
        server.run("start", "wanted.cf")?;
        Ok(server)
    }

    /// Prepares all but `main.cf`, and starts nothing.
    pub(crate) fn prepare(directory: &Path) -> Result<Self, String> {
        if !Path::new(POSTFIX).exists() {
            return Err(format!("there is no {POSTFIX}: apt-get install postfix"));
        }
        // Processes of Postfix are another user, who has to come in.
        for open in directory.ancestors().take(2) {
            std::fs::set_permissions(open, Permissions::from_mode(0o711)).map_err(failed(open))?;
        }
        for name in ["data", "etc", "log", "queue", "tls"] {
            let made = directory.join(name);
            std::fs::create_dir(&made).map_err(failed(&made))?;
        }
        run(Command::new("sh").args(["-c", QUEUE]).arg(directory.join("queue")))?;
        let [smtp, smtps] = own_addresses();
        let chain_file = directory.join("tls/mail.pem");
        let server = Self { directory: directory.to_owned(), smtp, smtps, chain_file };
        write_old(&directory.join("etc/master.cf"), &master_cf(smtp, smtps))?;
        write_old(&server.service(), SERVICE)?;
        std::fs::set_permissions(server.service(), Permissions::from_mode(0o755)).map_err(failed(&server.service()))?;
        Ok(server)
    }

    /// Writes a `main.cf` with these lines about TLS.
    pub(crate) fn configure(&self, name: &str, tls: &str) -> Result<(), String> {
        write_old(&self.directory.join(name), &main_cf(&self.directory, tls))
    }

    /// Adds lines to `master.cf`.
    pub(crate) fn add_services(&self, lines: &str) -> Result<(), String> {
        write_old(&self.directory.join("etc/master.cf"), &(master_cf(self.smtp, self.smtps) + lines))
    }

    /// The command that does this with this `main.cf`.
    pub(crate) fn command(&self, action: &str, configuration: &str) -> Vec<String> {
        vec![self.service().display().to_string(), action.to_owned(), configuration.to_owned()]
    }

    pub(crate) fn run(&self, action: &str, configuration: &str) -> Result<(), String> {
        run(Command::new(self.service()).args([action, configuration]))
    }

    fn service(&self) -> PathBuf {
        self.directory.join("service")
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log/mail.log")).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // `postfix stop` waits for a second and more; the master ends its children with itself.
        let Ok(master) = std::fs::read_to_string(self.directory.join("queue/pid/master.pid")) else { return };
        drop(Command::new("kill").arg(master.trim()).status());
    }
}

/// The line of `main.cf` for this chain file.
pub(crate) fn chain_setting(chain_file: &Path) -> String {
    format!("smtpd_tls_chain_files = {}", chain_file.display())
}

fn main_cf(directory: &Path, tls: &str) -> String {
    format!(
        "compatibility_level = 3.6
queue_directory = {0}/queue
data_directory = {0}/data
maillog_file = {0}/log/mail.log
maillog_file_prefixes = {0}
myhostname = mail.example.test
inet_interfaces = loopback-only
inet_protocols = ipv4
mydestination =
alias_maps =
notify_classes =
smtpd_tls_security_level = may
{tls}
",
        directory.display()
    )
}

fn master_cf(smtp: SocketAddr, smtps: SocketAddr) -> String {
    format!(
        "{smtp} inet n - n - - smtpd
{smtps} inet n - n - - smtpd
    -o smtpd_tls_wrappermode=yes
anvil unix - - n - 1 anvil
bounce unix - - n - 0 bounce
cleanup unix n - n - 0 cleanup
pickup unix n - n 60 1 pickup
postlog unix-dgram n - n - 1 postlogd
proxymap unix - - n - - proxymap
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
tlsmgr unix - - n 1000? 1 tlsmgr
"
    )
}

/// Postfix waits for two seconds where a file of its configuration is new, for somebody may still be writing.
pub(crate) fn write_old(path: &Path, text: &str) -> Result<(), String> {
    let mut file = File::create(path).map_err(failed(path))?;
    file.write_all(text.as_bytes()).map_err(failed(path))?;
    file.set_modified(SystemTime::now() - Duration::from_secs(60)).map_err(failed(path))
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    let text = || String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", text())) }
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

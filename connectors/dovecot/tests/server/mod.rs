//! A real Dovecot in a directory of its own, for the tests of this crate. It is run as root, as its packages do.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::print_stderr,
    reason = "each test uses a part of it, a server is a process, and who is not root has to hear of it"
)]

use std::fs::{File, Permissions};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Request, own_addresses, write_pair};

/// Where Debian puts it.
const DOVECOT: &str = "/usr/sbin/dovecot";

/// Does something with the configuration that is to be used from then on: `start`, or a command of doveadm. `wanted.conf` is not
/// used without its files: Dovecot reads its configuration again whenever it likes, and fails where a file is missing.
const SERVICE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
configuration="$2"
[ "$2" != wanted.conf ] || { [ -e tls/mail.crt ] && [ -e tls/mail.key ]; } || configuration=first.conf
cp "$configuration" dovecot.conf || exit 1
case "$1" in
    start) exec /usr/sbin/dovecot -c "$PWD/dovecot.conf" ;;
    *) exec /usr/bin/doveadm -c "$PWD/dovecot.conf" "$1" ;;
esac
"#;

/// Said in place of every test that cannot be run.
pub(crate) const NEEDS_ROOT: &str = "Dovecot is started by root here: run the tests of deploy-dovecot as root";

/// Whether this can be tried at all. Says loudly that it can't.
pub(crate) fn can_start() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("NOT TRIED: {NEEDS_ROOT}");
    }
    root
}

/// A Dovecot that ends when this is dropped. Until it is reloaded it serves a certificate of its own, because it does not start
/// with one that is not there.
pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) imap: SocketAddr,
    pub(crate) imaps: SocketAddr,
    pub(crate) pop3: SocketAddr,
    pub(crate) pop3s: SocketAddr,
    pub(crate) sieve: SocketAddr,
    pub(crate) fullchain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Server {
    /// Starts it, to be reloaded with `wanted.conf` when two files are in a directory `tls`, which is empty.
    pub(crate) fn start(directory: &Path) -> Result<Self, String> {
        let server = Self::prepare(directory)?;
        server.configure_own("first.conf")?;
        server.configure("wanted.conf", &ssl_settings(&server.fullchain, &server.key))?;
        server.run("start", "first.conf")?;
        Ok(server)
    }

    /// Prepares all but its configuration, and starts nothing.
    pub(crate) fn prepare(directory: &Path) -> Result<Self, String> {
        if !Path::new(DOVECOT).exists() {
            return Err(format!("there is no {DOVECOT}: apt-get install dovecot-imapd dovecot-pop3d dovecot-managesieved"));
        }
        // Processes of Dovecot are other users, who have to come in.
        for open in directory.ancestors().take(2) {
            std::fs::set_permissions(open, Permissions::from_mode(0o711)).map_err(failed(open))?;
        }
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(failed(&tls))?;
        let [imap, imaps, pop3, pop3s, sieve] = own_addresses();
        let (fullchain, key) = (tls.join("mail.crt"), tls.join("mail.key"));
        let server = Self { directory: directory.to_owned(), imap, imaps, pop3, pop3s, sieve, fullchain, key };
        write(&server.service(), SERVICE)?;
        std::fs::set_permissions(server.service(), Permissions::from_mode(0o755)).map_err(failed(&server.service()))?;
        Ok(server)
    }

    /// Writes a configuration with these lines about TLS.
    pub(crate) fn configure(&self, name: &str, ssl: &str) -> Result<(), String> {
        write(&self.directory.join(name), &configuration(self, ssl))
    }

    /// Writes one for a new certificate that is not part of any deployment.
    pub(crate) fn configure_own(&self, name: &str) -> Result<(), String> {
        let own = self.directory.join(name).with_extension("tls");
        std::fs::create_dir(&own).map_err(failed(&own))?;
        let (fullchain, key) = write_pair(&own, &Authority::new().issue(&Request::new(&[NAME])));
        self.configure(name, &ssl_settings(&fullchain, &key))
    }

    /// The command that does this with this configuration.
    pub(crate) fn command(&self, action: &str, configuration: &str) -> Vec<String> {
        vec![self.service().display().to_string(), action.to_owned(), configuration.to_owned()]
    }

    pub(crate) fn run(&self, action: &str, configuration: &str) -> Result<(), String> {
        // A pipe would stay open for as long as Dovecot runs.
        let said = self.directory.join("said");
        let output = File::create(&said).map_err(failed(&said))?;
        let status = Command::new(self.service()).args([action, configuration]).stderr(output).status();
        match status.map_err(failed(&self.service()))?.success() {
            true => Ok(()),
            false => Err(std::fs::read_to_string(&said).unwrap_or_default()),
        }
    }

    /// The command that checks the configuration that is used.
    pub(crate) fn check_command(&self) -> Vec<String> {
        let used = self.directory.join("dovecot.conf").display().to_string();
        ["/usr/bin/doveconf", "-n", "-c", &used].map(str::to_owned).to_vec()
    }

    /// The command that runs it in the foreground.
    pub(crate) fn shadow_command(&self) -> Vec<String> {
        let used = self.directory.join("dovecot.conf").display().to_string();
        [DOVECOT, "-F", "-c", &used].map(str::to_owned).to_vec()
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.join("run/master.pid")
    }

    /// What it has said so far.
    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    fn service(&self) -> PathBuf {
        self.directory.join("service")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Ok(master) = std::fs::read_to_string(self.pid_file()) else { return };
        drop(Command::new("kill").arg(master.trim()).status());
    }
}

/// The lines about TLS for these files.
pub(crate) fn ssl_settings(fullchain: &Path, key: &Path) -> String {
    format!("ssl = yes\nssl_cert = <{}\nssl_key = <{}", fullchain.display(), key.display())
}

fn configuration(server: &Server, ssl: &str) -> String {
    let directory = server.directory.display();
    let listener = |name: &str, address: SocketAddr, tls: &str| {
        format!("inet_listener {name} {{\naddress = {}\nport = {}\nssl = {tls}\n}}\n", address.ip(), address.port())
    };
    format!(
        "base_dir = {directory}/run
state_dir = {directory}/state
log_path = {directory}/log
protocols = imap pop3 sieve
passdb {{
driver = static
args = nopassword=y
}}
userdb {{
driver = static
args = uid=65534 gid=65534 home=/nonexistent
}}
service imap-login {{
{}{}}}
service pop3-login {{
{}{}}}
service managesieve-login {{
{}}}
{ssl}
",
        listener("imap", server.imap, "no"),
        listener("imaps", server.imaps, "yes"),
        listener("pop3", server.pop3, "no"),
        listener("pop3s", server.pop3s, "yes"),
        listener("sieve", server.sieve, "no"),
    )
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(failed(path))
}

fn failed(path: &Path) -> impl Fn(std::io::Error) -> String {
    move |error| format!("{}: {error}", path.display())
}

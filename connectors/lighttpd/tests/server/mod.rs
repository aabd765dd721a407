//! A real lighttpd in a directory of its own, for the tests of this crate.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test uses a part of it, and a server is a process")]

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use deploy_testkit::own_address;

/// Where Debian puts it. A reload in the background needs the whole path, too.
pub(crate) const LIGHTTPD: &str = "/usr/sbin/lighttpd";

/// Does for one lighttpd what systemd does: `restart`, `reload-or-restart` and `reload`, each with the configuration that is to
/// be used from then on, and `stop`. A process that has ended and was not collected yet does not run.
const SERVICE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
runs() {
    pid=$(cat lighttpd.pid 2>/dev/null) && [ -n "$pid" ] || return 1
    case "$(cat "/proc/$pid/stat" 2>/dev/null)" in ''|*') Z '*|*') X '*) return 1 ;; esac
}
stop() {
    while runs; do kill -KILL "$pid" 2>/dev/null; sleep 0.05; done
}
case "$1" in stop) stop; exit 0 ;; esac
cp "$2" lighttpd.conf || exit 1
case "$1" in reload*) if runs; then kill -USR1 "$pid"; exit; fi ;; esac
case "$1" in reload) echo "lighttpd does not run" >&2; exit 1 ;; esac
stop
exec LIGHTTPD -f "$PWD/lighttpd.conf"
"#;

/// A lighttpd that an operator has configured and that cannot run before its files are there: a command starts it. It ends when
/// this is dropped.
pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) fullchain: PathBuf,
    pub(crate) key: PathBuf,
}

impl Server {
    /// Prepares it for two files in a directory `tls`, which is empty, and starts nothing.
    pub(crate) fn prepare(directory: &Path) -> Result<Self, String> {
        if !Path::new(LIGHTTPD).exists() {
            return Err(format!("there is no {LIGHTTPD}: apt-get install lighttpd lighttpd-mod-openssl"));
        }
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| format!("{}: {error}", tls.display()))?;
        let (fullchain, key) = (tls.join("www.crt"), tls.join("www.key"));
        let server = Self { directory: directory.to_owned(), address: own_address(), fullchain, key };
        server.configure("wanted.conf", &server.fullchain, &server.key)?;
        let service = server.service();
        write(&service, &SERVICE.replace("LIGHTTPD", LIGHTTPD))?;
        std::fs::set_permissions(&service, Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
        Ok(server)
    }

    /// Writes a configuration for two files.
    pub(crate) fn configure(&self, name: &str, fullchain: &Path, key: &Path) -> Result<(), String> {
        write(&self.directory.join(name), &configuration(&self.directory, self.address, fullchain, key))
    }

    /// The command that checks `wanted.conf`, with certificate and key.
    pub(crate) fn check_command(&self) -> Vec<String> {
        let wanted = self.directory.join("wanted.conf").display().to_string();
        [LIGHTTPD, "-tt", "-f", &wanted].map(str::to_owned).to_vec()
    }

    /// The command that does this with this configuration.
    pub(crate) fn command(&self, action: &str, configuration: &str) -> Vec<String> {
        let configuration = self.directory.join(configuration).display().to_string();
        vec![self.service().display().to_string(), action.to_owned(), configuration]
    }

    fn service(&self) -> PathBuf {
        self.directory.join("service")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(Command::new(self.service()).arg("stop").status());
    }
}

/// A configuration for these two files.
fn configuration(directory: &Path, address: SocketAddr, fullchain: &Path, key: &Path) -> String {
    format!(
        r#"server.modules = ("mod_openssl")
server.document-root = {directory:?}
server.pid-file = "{0}/lighttpd.pid"
server.errorlog = "{0}/error.log"
server.feature-flags += ("server.graceful-shutdown-timeout" => 5)
server.bind = "{1}"
server.port = {2}
ssl.engine = "enable"
ssl.pemfile = {fullchain:?}
ssl.privkey = {key:?}
"#,
        directory.display(),
        address.ip(),
        address.port()
    )
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

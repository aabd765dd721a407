//! A real Apache in a directory of its own, for the tests of this crate.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test uses a part of it, and a server is a process")]

use std::fs::Permissions;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use deploy_testkit::own_address;

/// Where Debian puts it.
pub(crate) const APACHE: &str = "/usr/sbin/apache2";

/// `graceful CONFIGURATION`, `signal CONFIGURATION` and `stop`: what `apachectl` does for the one in `/etc`, with the
/// configuration that is to be used from then on. A process that has ended and that nobody collected does not run.
const SERVICE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
runs() {
    pid=$(cat httpd.pid 2>/dev/null) && [ -n "$pid" ] || return 1
    case "$(cat "/proc/$pid/stat" 2>/dev/null)" in ''|*') Z '*|*') X '*) return 1 ;; esac
}
[ "$1" = stop ] || cp "$2" httpd.conf || exit 1
case "$1" in
    graceful) runs || rm -f httpd.pid; exec APACHE -d "$PWD" -f "$PWD/httpd.conf" -k graceful ;;
    signal) runs && exec kill -USR1 "$pid" ;;
    # One that is starting has no pid file yet, and what starts it may have been left by a run that was killed.
    stop) while pkill -TERM -f "$PWD/(reload|restart|start|service (graceful|signal))|^APACHE -d $PWD "; do sleep 0.02; done ;;
esac
"#;

/// An Apache that an operator has configured and that cannot run before its files are there: a command starts it. It ends when
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
        if !Path::new(APACHE).exists() {
            return Err(format!("there is no {APACHE}: apt-get install apache2"));
        }
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| format!("{}: {error}", tls.display()))?;
        let (fullchain, key) = (tls.join("www.crt"), tls.join("www.key"));
        let server = Self { directory: directory.to_owned(), address: own_address(), fullchain, key };
        server.configure("wanted.conf", &server.fullchain, &server.key)?;
        server.configure("httpd.conf", &server.fullchain, &server.key)?;
        let service = server.service();
        write(&service, &SERVICE.replace("APACHE", APACHE))?;
        std::fs::set_permissions(&service, Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
        Ok(server)
    }

    /// Writes a configuration for two files.
    pub(crate) fn configure(&self, name: &str, fullchain: &Path, key: &Path) -> Result<(), String> {
        let host = format!("SSLEngine on\nSSLCertificateFile {fullchain:?}\nSSLCertificateKeyFile {key:?}\n");
        self.configure_hosts(name, &[("www.example.test", &host)])
    }

    /// Writes a configuration of virtual hosts: name, and directives.
    pub(crate) fn configure_hosts(&self, name: &str, hosts: &[(&str, &str)]) -> Result<(), String> {
        let Self { directory, address, .. } = self;
        let hosts: String = hosts
            .iter()
            .map(|(name, lines)| format!("<VirtualHost {address}>\nServerName {name}\n{lines}</VirtualHost>\n"))
            .collect();
        let user = if rustix::process::geteuid().is_root() { "User www-data\nGroup www-data\n" } else { "" };
        let modules = ["mpm_event", "authz_core", "socache_shmcb", "ssl"]
            .map(|module| format!("LoadModule {module}_module /usr/lib/apache2/modules/mod_{module}.so\n"))
            .concat();
        let text = format!(
            "{modules}{user}ServerName localhost\nDefaultRuntimeDir {directory:?}\nPidFile \"{0}/httpd.pid\"\n\
             ErrorLog \"{0}/error.log\"\nStartServers 1\nThreadsPerChild 8\nMaxRequestWorkers 16\nServerLimit 2\n\
             MinSpareThreads 1\nMaxSpareThreads 16\nListen {address}\n{hosts}",
            directory.display()
        );
        write(&directory.join(name), &text)
    }

    /// The command that checks the configuration in use.
    pub(crate) fn check_command(&self) -> Vec<String> {
        self.apache("-t")
    }

    /// The command that runs it in the foreground.
    pub(crate) fn shadow_command(&self) -> Vec<String> {
        self.apache("-DFOREGROUND")
    }

    fn apache(&self, argument: &str) -> Vec<String> {
        let [directory, configuration] = [self.directory.clone(), self.directory.join("httpd.conf")];
        let [directory, configuration] = [directory, configuration].map(|path| path.display().to_string());
        [APACHE, "-d", &directory, "-f", &configuration, argument].map(str::to_owned).to_vec()
    }

    /// The command that does this with this configuration.
    pub(crate) fn command(&self, action: &str, configuration: &str) -> Vec<String> {
        let configuration = self.directory.join(configuration).display().to_string();
        vec![self.service().display().to_string(), action.to_owned(), configuration]
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.directory.join("httpd.pid")
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

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

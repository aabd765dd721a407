//! The conformance suite, with a real lighttpd as its world.
#![allow(clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_lighttpd::{Lighttpd, LighttpdSettings};
use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::nginx::free_port;
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Order, Request, ScriptedCommand, observe, write_pair};

/// Where Debian puts it. A reload in the background needs the whole path, too.
const LIGHTTPD: &str = "/usr/sbin/lighttpd";

/// Does for one lighttpd what systemd does: `restart` and `reload-or-restart`, each with the configuration that is to be used
/// from then on, and `stop`. A process that has ended and was not collected yet does not run.
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
case "$1" in reload-or-restart) if runs; then kill -USR1 "$pid"; exit; fi ;; esac
stop
exec LIGHTTPD -f "$PWD/lighttpd.conf"
"#;

fn main() -> ExitCode {
    conformance::run::<World>()
}

/// A lighttpd that an operator has configured and that cannot run before its files are there: the first reload starts it.
struct World {
    address: SocketAddr,
    checker: ScriptedCommand,
    reload: ScriptedCommand,
    restart: ScriptedCommand,
    service: PathBuf,
    tls: PathBuf,
}

impl World {
    fn files(tls: &Path) -> (PathBuf, PathBuf) {
        (tls.join("www.crt"), tls.join("www.key"))
    }
}

/// An address for this world alone: it listens only after the first deployment, and by then the port that was free may have been
/// given to another process.
fn own_address() -> SocketAddr {
    static WORLDS: AtomicU8 = AtomicU8::new(0);
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let world = WORLDS.fetch_add(1, Ordering::Relaxed) % 200;
    SocketAddr::from((Ipv4Addr::new(127, 10 + world, high, low), free_port()))
}

/// A configuration for these two files.
fn configuration(directory: &Path, address: SocketAddr, (fullchain, key): &(PathBuf, PathBuf)) -> String {
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

impl Harness for World {
    type Connector = Lighttpd;

    const FAULTS: &'static [Fault] = &[
        Fault::CheckerRefuses,
        Fault::CheckerHangs,
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::ServesAnother,
    ];

    fn start(directory: &Path) -> Result<Self, String> {
        if !Path::new(LIGHTTPD).exists() {
            return Err(format!("there is no {LIGHTTPD}: apt-get install lighttpd lighttpd-mod-openssl"));
        }
        let [tls, another] = ["tls", "another"].map(|name| directory.join(name));
        for made in [&tls, &another] {
            std::fs::create_dir(made).map_err(|error| format!("{}: {error}", made.display()))?;
        }
        let address = own_address();
        let (wanted, other) = (directory.join("wanted.conf"), directory.join("other.conf"));
        let other_pair = write_pair(&another, &Authority::new().issue(&Request::new(&[NAME])));
        write(&wanted, &configuration(directory, address, &Self::files(&tls)))?;
        write(&other, &configuration(directory, address, &other_pair))?;

        let service = directory.join("service");
        write(&service, &SERVICE.replace("LIGHTTPD", LIGHTTPD))?;
        std::fs::set_permissions(&service, std::fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
        let command = |action: &str, configuration: &Path| {
            vec![service.display().to_string(), action.to_owned(), configuration.display().to_string()]
        };
        let check = [LIGHTTPD, "-tt", "-f"].map(str::to_owned).into_iter().chain([wanted.display().to_string()]);
        let reload = command("reload-or-restart", &wanted);
        Ok(Self {
            address,
            checker: ScriptedCommand::new(directory, "lighttpd", &check.collect::<Vec<_>>()),
            reload: ScriptedCommand::with_other(directory, "reload", &reload, &command("reload-or-restart", &other)),
            restart: ScriptedCommand::new(directory, "restart", &command("restart", &wanted)),
            service,
            tls,
        })
    }

    fn settings(&self) -> LighttpdSettings {
        let (fullchain, key) = Self::files(&self.tls);
        let mut settings = LighttpdSettings::new(fullchain, key);
        settings.validate = CommandSetting::Arguments(self.checker.command());
        settings.reload = ReloadSetting::Command(CommandSetting::Arguments(self.reload.command()));
        settings.restart = CommandSetting::Arguments(self.restart.command());
        settings.verify = Some(vec![Endpoint::new(self.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(3));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.address, Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        Tree::of(&self.tls).visible()
    }

    fn break_with(&mut self, fault: Fault) {
        let (fullchain, key) = Self::files(&self.tls);
        match fault {
            Fault::CheckerRefuses => self.checker.accept_only_as_now(&[fullchain, key]),
            Fault::CheckerHangs => self.checker.order(Order::Hang),
            Fault::ReloadFails => self.reload.order(Order::FailOnce),
            Fault::ReloadAlwaysFails => [&self.reload, &self.restart].iter().for_each(|command| command.order(Order::Fail)),
            Fault::ReloadHangs => self.reload.order(Order::HangOnce),
            Fault::Ignored => self.reload.order(Order::Ignore),
            Fault::ServesAnother => self.reload.order(Order::OtherOnce),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        [&self.checker, &self.reload, &self.restart].iter().for_each(|command| command.heal());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        drop(Command::new(&self.service).arg("stop").status());
    }
}

//! A real HAProxy in a directory of its own, for the tests of this crate.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test uses a part of it, and a server is a process")]

pub(crate) mod gate;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period};
use deploy_haproxy::{HaproxySettings, Socket};
use deploy_testkit::conformance::{NAME, Work};
use deploy_testkit::{observe, own_address};

/// Where Debian puts it.
pub(crate) const HAPROXY: &str = "/usr/sbin/haproxy";

/// A HAProxy with a master process, that serves what is in the directory `tls`, at first nothing. It ends when this is dropped.
pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) combined: PathBuf,
    process: Child,
}

impl Server {
    pub(crate) fn start(directory: &Path) -> Result<Self, String> {
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| format!("{}: {error}", tls.display()))?;
        Self::start_with(directory, &format!("crt {}", tls.display()), &[])
    }

    /// With this after `ssl`, and more lines in the section `global`.
    pub(crate) fn start_with(directory: &Path, certificates: &str, global: &[&str]) -> Result<Self, String> {
        let address = own_address();
        Self::start_at(directory, address, &configuration(directory, address, certificates, global))
    }

    /// With sections of one's own after `global` and `defaults`.
    pub(crate) fn start_with_sections(directory: &Path, sections: impl FnOnce(SocketAddr) -> String) -> Result<Self, String> {
        let address = own_address();
        Self::start_at(directory, address, &(beginning(directory, &[]) + &sections(address)))
    }

    fn start_at(directory: &Path, address: SocketAddr, configuration: &str) -> Result<Self, String> {
        if !Path::new(HAPROXY).exists() {
            return Err(format!("there is no {HAPROXY}: apt-get install haproxy"));
        }
        write(&directory.join("haproxy.cfg"), configuration)?;
        let process = run(directory)?;
        Ok(Self { combined: directory.join("tls/www.pem"), process, directory: directory.to_owned(), address })
    }

    /// What HAProxy starts with the next time.
    pub(crate) fn configure(&self, name: &str, certificates: &str) -> Result<(), String> {
        write(&self.directory.join(name), &configuration(&self.directory, self.address, certificates, &[]))
    }

    /// Ends it and starts it anew, as after a reboot.
    pub(crate) fn restart(&mut self) -> Result<(), String> {
        end(&mut self.process);
        self.process = run(&self.directory)?;
        Ok(())
    }

    pub(crate) fn settings(&self) -> HaproxySettings {
        let mut settings = HaproxySettings::new(&self.combined);
        settings.validate = CommandSetting::Arguments(self.check_command());
        settings.verify = Some(vec![Endpoint::new(self.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(3));
        settings
    }

    pub(crate) fn check_command(&self) -> Vec<String> {
        [HAPROXY, "-c", "-f", &self.directory.join("haproxy.cfg").display().to_string()].map(str::to_owned).to_vec()
    }

    /// The command that runs it in the foreground, without a master process.
    pub(crate) fn shadow_command(&self) -> Vec<String> {
        [HAPROXY, "-db", "-f", &self.directory.join("haproxy.cfg").display().to_string()].map(str::to_owned).to_vec()
    }

    /// A command that takes this configuration and has the master read it.
    pub(crate) fn reload_command(&self, configuration: &str) -> Vec<String> {
        let copy = format!("cp '{0}/{configuration}' '{0}/haproxy.cfg'", self.directory.display());
        ["sh", "-c", &format!("{copy} && kill -USR2 {}", self.process.id())].map(str::to_owned).to_vec()
    }

    /// What somebody else may do at any time.
    pub(crate) fn signal_a_reload(&self) {
        let signalled = Command::new("kill").args(["-USR2", &self.process.id().to_string()]).status();
        assert!(signalled.is_ok_and(|status| status.success()), "the master is gone");
    }

    pub(crate) fn admin(&self) -> PathBuf {
        self.directory.join("admin.sock")
    }

    pub(crate) fn master(&self) -> PathBuf {
        self.directory.join("master.sock")
    }

    /// What it answers to a command, with a client that shares nothing with the connector.
    pub(crate) fn ask(&self, command: &str) -> String {
        ask(&self.admin(), command.as_bytes()).unwrap_or_else(|error| error.to_string())
    }

    /// The process that serves now, as soon as the master says which.
    pub(crate) fn worker(&self) -> String {
        let end_of_patience = Instant::now() + Duration::from_secs(10);
        loop {
            let answer = ask(&self.master(), b"show proc\n").unwrap_or_default();
            let line = answer.lines().skip_while(|line| *line != "# workers").nth(1);
            if let Some(worker) = line.and_then(|line| line.split_whitespace().next()) {
                return worker.to_owned();
            }
            assert!(Instant::now() < end_of_patience, "the master does not say which worker it has: {answer}");
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

/// The socket as it stands in the settings.
pub(crate) fn socket(path: &Path) -> Socket {
    Socket::try_from(path.display().to_string()).unwrap_or_else(|error| panic!("{error}"))
}

/// One connection to a unix socket: a request, and everything that comes back.
pub(crate) fn ask(path: &Path, request: &[u8]) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut answer = Vec::new();
    // HAProxy hangs up on what does not fit.
    if stream.write_all(request).and_then(|()| stream.shutdown(Shutdown::Write)).is_ok() {
        drop(stream.read_to_end(&mut answer));
    }
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Starts it, and waits until it answers on its socket.
fn run(directory: &Path) -> Result<Child, String> {
    let log = File::create(directory.join("haproxy.log")).map_err(|error| error.to_string())?;
    let admin = directory.join("admin.sock");
    drop(std::fs::remove_file(&admin));
    let mut process = Command::new(HAPROXY)
        .args(["-W", "-f"])
        .arg(directory.join("haproxy.cfg"))
        .arg("-S")
        .arg(directory.join("master.sock"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|error| error.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("{HAPROXY}: {error}"))?;
    let end_of_patience = Instant::now() + Duration::from_secs(10);
    while ask(&admin, b"show info\n").map_or(true, |answer| answer.is_empty()) {
        if Instant::now() > end_of_patience || process.try_wait().is_ok_and(|status| status.is_some()) {
            end(&mut process);
            let log = std::fs::read_to_string(directory.join("haproxy.log")).unwrap_or_default();
            return Err(format!("HAProxy does not start: {log}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(process)
}

/// Has the master end its workers and itself.
fn end(process: &mut Child) {
    drop(Command::new("kill").arg(process.id().to_string()).status());
    let end_of_patience = Instant::now() + Duration::from_secs(5);
    while process.try_wait().is_ok_and(|status| status.is_none()) && Instant::now() < end_of_patience {
        std::thread::sleep(Duration::from_millis(2));
    }
    drop(process.kill());
    drop(process.wait());
}

fn configuration(directory: &Path, address: SocketAddr, certificates: &str, global: &[&str]) -> String {
    let frontend = format!(
        "frontend https
    bind {address} ssl {certificates} strict-sni ssl-min-ver TLSv1.2
    http-request return status 200 content-type text/plain string ok
"
    );
    beginning(directory, global) + &frontend
}

fn beginning(directory: &Path, global: &[&str]) -> String {
    let global: String = global.iter().map(|line| format!("    {line}\n")).collect();
    format!(
        "global
    stats socket {}/admin.sock level admin expose-fd listeners
{global}defaults
    mode http
    timeout connect 5s
    timeout client 50s
    timeout server 50s
",
        directory.display()
    )
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

/// Half a request, whose other half comes after a renewal.
pub(crate) fn half_a_request(address: SocketAddr) -> Option<Work> {
    let mut stream = observe::connect(address, Some(NAME)).ok()?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: www.example.test\r\n").ok()?;
    stream.flush().ok()?;
    Some(Box::new(move || {
        let mut answer = String::new();
        let finished = stream.write_all(b"Connection: close\r\n\r\n").and_then(|()| stream.flush());
        // HAProxy ends such a connection without TLS's own goodbye.
        let _end = finished.and_then(|()| stream.read_to_string(&mut answer));
        if answer.starts_with("HTTP/1.1 200") { Ok(()) } else { Err(format!("HAProxy answered {answer:?}")) }
    }))
}

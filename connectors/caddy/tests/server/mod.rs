//! A real Caddy in a directory of its own, for the tests of this crate.
#![allow(dead_code, clippy::disallowed_methods, reason = "each test uses a part of it, and a server is a process")]

use std::fs::File;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deploy_caddy::CaddySettings;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_testkit::conformance::NAME;
use deploy_testkit::own_address;

/// Where Debian puts it.
pub(crate) const CADDY: &str = "/usr/bin/caddy";

/// A Caddy that runs with its admin API and no site, and a Caddyfile for two files in the directory `tls`, which is empty. It
/// ends when this is dropped.
pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    /// As the global option `admin` has it.
    pub(crate) admin: String,
    pub(crate) fullchain: PathBuf,
    pub(crate) key: PathBuf,
    process: Child,
}

impl Server {
    /// With its admin API on a unix socket.
    pub(crate) fn start(directory: &Path) -> Result<Self, String> {
        Self::start_with(directory, format!("unix/{}/admin.sock", directory.display()))
    }

    pub(crate) fn start_with(directory: &Path, admin: String) -> Result<Self, String> {
        if !Path::new(CADDY).exists() {
            return Err(format!("there is no {CADDY}: apt-get install caddy"));
        }
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| format!("{}: {error}", tls.display()))?;
        let (fullchain, key) = (tls.join("www.crt"), tls.join("www.key"));
        write(&directory.join("Caddyfile"), &options(&admin))?;
        let process = run(directory, &admin)?;
        let server = Self { directory: directory.to_owned(), address: own_address(), admin, fullchain, key, process };
        server.configure("wanted", &server.fullchain, &server.key)?;
        server.use_configuration("wanted")?;
        Ok(server)
    }

    /// Writes a configuration for two files.
    pub(crate) fn configure(&self, name: &str, fullchain: &Path, key: &Path) -> Result<(), String> {
        let (ip, port) = (self.address.ip(), self.address.port());
        let site =
            format!("https://{NAME}:{port} {{\n\tbind {ip}\n\ttls {} {}\n\trespond ok\n}}\n", fullchain.display(), key.display());
        write(&self.directory.join(name), &(options(&self.admin) + &site))
    }

    /// What is read by the next `caddy reload` and `caddy validate`.
    pub(crate) fn use_configuration(&self, name: &str) -> Result<(), String> {
        let copied = std::fs::copy(self.directory.join(name), self.caddyfile());
        copied.map(drop).map_err(|error| format!("{name}: {error}"))
    }

    pub(crate) fn settings(&self) -> CaddySettings {
        let mut settings = CaddySettings::new(&self.fullchain, &self.key);
        settings.validate = CommandSetting::Arguments(self.check_command());
        settings.reload = Some(ReloadSetting::Command(CommandSetting::Arguments(self.reload_command())));
        settings.verify = Some(vec![Endpoint::new(self.address.to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(3));
        settings
    }

    pub(crate) fn check_command(&self) -> Vec<String> {
        [CADDY, "validate", "--config", &self.caddyfile().display().to_string()].map(str::to_owned).to_vec()
    }

    pub(crate) fn reload_command(&self) -> Vec<String> {
        [CADDY, "reload", "--force", "--config", &self.caddyfile().display().to_string()].map(str::to_owned).to_vec()
    }

    pub(crate) fn caddyfile(&self) -> PathBuf {
        self.directory.join("Caddyfile")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        end(&mut self.process);
    }
}

pub(crate) fn options(admin: &str) -> String {
    format!("{{\n\tadmin {admin}\n\tauto_https off\n}}\n")
}

/// Starts it, and waits until its admin API answers. What it writes by itself stays in the directory.
fn run(directory: &Path, admin: &str) -> Result<Child, String> {
    let log = File::create(directory.join("caddy.log")).map_err(|error| error.to_string())?;
    let mut process = Command::new(CADDY)
        .args(["run", "--config"])
        .arg(directory.join("Caddyfile"))
        .envs(["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, directory.join("home"))))
        .stdin(Stdio::null())
        .stdout(log.try_clone().map_err(|error| error.to_string())?)
        .stderr(log)
        .spawn()
        .map_err(|error| format!("{CADDY}: {error}"))?;
    let end_of_patience = Instant::now() + Duration::from_secs(10);
    while self::admin(admin, "GET", "/config/", "").is_err() {
        if Instant::now() > end_of_patience || process.try_wait().is_ok_and(|status| status.is_some()) {
            end(&mut process);
            let log = std::fs::read_to_string(directory.join("caddy.log")).unwrap_or_default();
            return Err(format!("Caddy does not start: {log}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(process)
}

/// One request to the admin API, by a client that shares nothing with the connector: the body, or what went wrong.
pub(crate) fn admin(admin: &str, method: &str, path: &str, body: &str) -> Result<String, String> {
    let host = if admin.starts_with("unix/") { "" } else { admin };
    let request = format!(
        "{method} {path} HTTP/1.0\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut answer = String::new();
    let asked = match admin.strip_prefix("unix/") {
        Some(path) => UnixStream::connect(path).and_then(|stream| exchange(stream, &request, &mut answer)),
        None => TcpStream::connect(admin).and_then(|stream| exchange(stream, &request, &mut answer)),
    };
    asked.map_err(|error| error.to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    if head.contains(" 200 ") { Ok(body.to_owned()) } else { Err(answer) }
}

fn exchange(mut stream: impl Read + Write, request: &str, answer: &mut String) -> std::io::Result<()> {
    stream.write_all(request.as_bytes())?;
    stream.read_to_string(answer).map(drop)
}

fn end(process: &mut Child) {
    drop(process.kill());
    drop(process.wait());
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

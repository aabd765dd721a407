//! A real nginx in a directory of its own, for whoever has one installed.

use std::fmt::Write as _;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long nginx may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(10);

/// The nginx of this machine: in `/usr/sbin`, `/usr/local/sbin`, or somewhere on `PATH`.
#[must_use]
pub fn find_nginx() -> Option<PathBuf> {
    let usual = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    usual.into_iter().chain(std::env::split_paths(&path)).map(|directory| directory.join("nginx")).find(|file| file.is_file())
}

/// What an [`Nginx`] serves. Every server listens on one port of 127.0.0.1 and answers `200 ok`.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct NginxConfig {
    servers: Vec<Server>,
}

impl NginxConfig {
    /// Plain HTTP only: what runs before the first certificate exists.
    pub fn plain() -> Self {
        Self::default().server(Server { name: "_".to_owned(), pair: None, lines: Vec::new() })
    }

    /// HTTPS for one name, from these files.
    pub fn tls(server_name: &str, fullchain: &Path, key: &Path) -> Self {
        Self::default().and_tls(server_name, fullchain, key)
    }

    /// And HTTPS for another name on the same port.
    pub fn and_tls(self, server_name: &str, fullchain: &Path, key: &Path) -> Self {
        let pair = Some((fullchain.to_owned(), key.to_owned()));
        self.server(Server { name: server_name.to_owned(), pair, lines: Vec::new() })
    }

    /// With this directive, semicolon included, in the server that was added last.
    pub fn line(mut self, directive: &str) -> Self {
        self.servers.last_mut().expect("a server to add the line to").lines.push(directive.to_owned());
        self
    }

    fn server(mut self, server: Server) -> Self {
        self.servers.push(server);
        self
    }

    fn text(&self, directory: &Path, port: u16) -> String {
        let mut text = String::new();
        if rustix::process::geteuid().is_root() {
            // Else the workers could not enter a test's private directory.
            text.push_str("user root;\n");
        }
        let d = directory.display();
        let head = format!(
            "daemon off;\nmaster_process on;\nworker_processes 1;\npid {d}/nginx.pid;\nerror_log {d}/error.log;\n\
             events {{ worker_connections 64; }}\nhttp {{\n  access_log off;\n"
        );
        text.push_str(&head);
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(text, "  {kind}_temp_path {d}/{kind};").expect("a string grows");
        }
        for server in &self.servers {
            text.push_str(&server.text(port));
        }
        text.push_str("}\n");
        text
    }
}

#[derive(Clone, Debug)]
struct Server {
    name: String,
    pair: Option<(PathBuf, PathBuf)>,
    lines: Vec<String>,
}

impl Server {
    fn text(&self, port: u16) -> String {
        let tls = match &self.pair {
            None => format!("listen 127.0.0.1:{port};"),
            Some((fullchain, key)) => format!(
                "listen 127.0.0.1:{port} ssl;\n    ssl_certificate {};\n    ssl_certificate_key {};",
                fullchain.display(),
                key.display()
            ),
        };
        let lines: String = self.lines.iter().map(|line| format!("    {line}\n")).collect();
        format!(
            "  server {{\n    {tls}\n    server_name {};\n{lines}    location / {{ return 200 \"ok\\n\"; }}\n  }}\n",
            self.name
        )
    }
}

/// An nginx in a directory of its own, on a free port of 127.0.0.1. It stops when it is dropped.
#[derive(Debug)]
pub struct Nginx {
    binary: PathBuf,
    directory: PathBuf,
    port: u16,
    child: Option<Child>,
}

impl Nginx {
    /// Writes the configuration into `directory` and starts nginx with it; returns when it listens.
    ///
    /// # Errors
    ///
    /// A text with nginx's own words: it is not installed, refuses the configuration, or does not listen within 10 seconds.
    pub fn start(directory: &Path, config: &NginxConfig) -> Result<Self, String> {
        let mut nginx = Self::prepare(directory, config)?;
        nginx.launch()?;
        Ok(nginx)
    }

    /// Writes the configuration into `directory`, which is made if it is missing, and starts nothing.
    ///
    /// # Errors
    ///
    /// A text: nginx is not installed, or the file cannot be written.
    pub fn prepare(directory: &Path, config: &NginxConfig) -> Result<Self, String> {
        let binary = find_nginx()
            .ok_or("nginx is not installed: `apt-get install nginx-light`, `apk add nginx` or `dnf install nginx`")?;
        std::fs::create_dir_all(directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let directory = directory.canonicalize().map_err(|error| format!("{}: {error}", directory.display()))?;
        let nginx = Self { binary, directory, port: free_port(), child: None };
        nginx.set_config(config);
        Ok(nginx)
    }

    /// Starts what [`Self::prepare`] prepared, or starts it again after [`Self::stop`].
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn launch(&mut self) -> Result<(), String> {
        let output = File::create(self.directory.join("output.log")).map_err(|error| error.to_string())?;
        let child = Command::new(&self.binary)
            .args(self.arguments(&[]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(|error| format!("can't run {}: {error}", self.binary.display()))?;
        self.child = Some(child);
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address()).is_err() {
            if !self.is_running() || Instant::now() > deadline {
                self.stop();
                return Err(format!("nginx does not listen on {}:\n{}", self.address(), self.log()));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// The port it listens on.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.directory.join("nginx.conf")
    }

    /// Where its master's process id stands.
    #[must_use]
    pub fn pid_file(&self) -> PathBuf {
        self.directory.join("nginx.pid")
    }

    /// Replaces the configuration, port kept; nginx reads it at the next reload.
    pub fn set_config(&self, config: &NginxConfig) {
        self.set_config_text(&config.text(&self.directory, self.port));
    }

    /// Replaces the configuration by any text, a broken one included.
    pub fn set_config_text(&self, text: &str) {
        std::fs::write(self.config_path(), text).unwrap_or_else(|error| panic!("{}: {error}", self.config_path().display()));
    }

    /// The command that checks configuration, certificates and keys: `nginx -t`.
    #[must_use]
    pub fn validate_command(&self) -> Vec<String> {
        self.command(&["-t"])
    }

    /// The command that makes the master read everything again: `nginx -s reload`.
    #[must_use]
    pub fn reload_command(&self) -> Vec<String> {
        self.command(&["-s", "reload"])
    }

    /// Runs one of its commands to the end.
    ///
    /// # Errors
    ///
    /// Its standard error, when it does not exit with 0.
    pub fn run(command: &[String]) -> Result<(), String> {
        let output = Command::new(&command[0]).args(&command[1..]).output().map_err(|error| error.to_string())?;
        if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    /// Whether the master lives.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// What it logged so far.
    #[must_use]
    pub fn log(&self) -> String {
        let read = |name: &str| std::fs::read_to_string(self.directory.join(name)).unwrap_or_default();
        read("output.log") + &read("error.log")
    }

    /// Ends it, workers included, and waits for that.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        let pid = rustix::process::Pid::from_child(&child);
        if matches!(child.try_wait(), Ok(None)) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("our child, not waited for yet");
        }
        let deadline = Instant::now() + PATIENCE;
        while matches!(child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                drop(child.kill());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn command(&self, action: &[&str]) -> Vec<String> {
        std::iter::once(self.binary.display().to_string()).chain(self.arguments(action)).collect()
    }

    fn arguments(&self, action: &[&str]) -> Vec<String> {
        let directory = self.directory.display().to_string();
        let log = format!("{directory}/error.log");
        let base = ["-p", &directory, "-c", "nginx.conf", "-e", &log];
        action.iter().copied().chain(base).map(str::to_owned).collect()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A port that was free a moment ago.
#[must_use]
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::served_fingerprint;
    use crate::pki::{Authority, Request, write_pair};

    /// Waits until nginx's new workers have taken over.
    fn await_served(nginx: &Nginx, fingerprint: &str) {
        let deadline = Instant::now() + PATIENCE;
        while served_fingerprint(nginx.address(), Some("www.example.test")).as_deref() != Ok(fingerprint) {
            assert!(Instant::now() < deadline, "never served:\n{}", nginx.log());
        }
    }

    #[test]
    fn plain_nginx_takes_its_first_certificate_and_then_the_next() {
        if find_nginx().is_none() {
            let error = Nginx::prepare(Path::new("/nonexistent"), &NginxConfig::plain()).unwrap_err();
            assert!(error.contains("not installed"), "{error}");
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut nginx = Nginx::start(&directory.path().join("nginx"), &NginxConfig::plain()).unwrap();
        let authority = Authority::new();
        let request = Request::new(&["www.example.test"]);
        let (old, new) = (authority.issue(&request), authority.issue(&request));

        let (fullchain, key) = write_pair(directory.path(), &old);
        nginx.set_config(&NginxConfig::tls("www.example.test", &fullchain, &key));
        Nginx::run(&nginx.validate_command()).unwrap();
        Nginx::run(&nginx.reload_command()).unwrap();
        await_served(&nginx, &old.fingerprint);

        write_pair(directory.path(), &new);
        Nginx::run(&nginx.reload_command()).unwrap();
        await_served(&nginx, &new.fingerprint);

        nginx.set_config_text("nonsense");
        assert!(Nginx::run(&nginx.validate_command()).unwrap_err().contains("nginx.conf"));
        nginx.stop();
        assert!(!nginx.is_running());
        assert!(TcpStream::connect(nginx.address()).is_err());
    }
}

//! A real Caddy whose configuration has certificates in it, for the tests of this crate.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "each test uses a part of it, and a server is a process"
)]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deploy_testkit::stand_in::Answer;
use deploy_testkit::{Issued, own_address};
use serde_json::{Value, json};

/// Where Debian puts it.
const CADDY: &str = "/usr/bin/caddy";

/// Where Caddy has the certificates of its configuration.
pub(crate) const LOADED: &str = "/config/apps/tls/certificates/load_pem";

/// A Caddy with one site on all names, and its admin API on a socket. It ends when this is dropped.
pub(crate) struct Caddy {
    pub(crate) address: SocketAddr,
    pub(crate) socket: PathBuf,
    process: Child,
}

impl Caddy {
    /// With these certificates; without any, its configuration has nothing about TLS.
    pub(crate) fn start(directory: &Path, loaded: &[Value]) -> Result<Self, String> {
        let (address, socket) = (own_address(), directory.join("admin.sock"));
        Self::start_with(directory, address, &configuration(address, &socket, loaded).to_string())
    }

    /// With a configuration that listens on this address, and on the socket `admin.sock` in the directory.
    pub(crate) fn start_with(directory: &Path, address: SocketAddr, configuration: &str) -> Result<Self, String> {
        if !Path::new(CADDY).exists() {
            return Err(format!("there is no {CADDY}: apt-get install caddy"));
        }
        let (file, socket) = (directory.join("caddy.json"), directory.join("admin.sock"));
        std::fs::write(&file, configuration).map_err(|error| error.to_string())?;
        let log = File::create(directory.join("caddy.log")).map_err(|error| error.to_string())?;
        let process = Command::new(CADDY)
            .args(["run", "--config"])
            .arg(&file)
            .envs(["HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"].map(|name| (name, directory.join("home"))))
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|error| error.to_string())?)
            .stderr(log)
            .spawn()
            .map_err(|error| format!("{CADDY}: {error}"))?;
        let mut caddy = Self { address, socket, process };
        let end_of_patience = Instant::now() + Duration::from_secs(10);
        while UnixStream::connect(&caddy.socket).is_err() || caddy.get("/config/").status != 200 {
            if Instant::now() > end_of_patience || caddy.process.try_wait().is_ok_and(|status| status.is_some()) {
                let log = std::fs::read_to_string(directory.join("caddy.log")).unwrap_or_default();
                return Err(format!("Caddy does not start: {log}"));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(caddy)
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        ask(&self.socket, "GET", path, &[], &[])
    }
}

impl Drop for Caddy {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// An entry of `load_pem`.
pub(crate) fn entry(id: &str, issued: &Issued) -> Value {
    json!({ "@id": id, "certificate": issued.fullchain_pem, "key": issued.key_pem })
}

/// One request, by a client that shares nothing with the connector. An `ETag` after the body becomes a header, as Caddy 2.8 has it.
pub(crate) fn ask(socket: &Path, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: \r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if headers.iter().all(|(name, _)| *name != "content-type") {
        head += "Content-Type: application/json\r\n";
    }
    head.extend(headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")));
    stream.write_all(&[head.as_bytes(), b"\r\n", body].concat()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();

    let (head, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let answer = Answer::new(head.split(' ').nth(1).unwrap().parse().unwrap());
    if !head.contains("Transfer-Encoding: chunked") {
        return answer.with_body(rest);
    }
    let mut body = String::new();
    while let Some((length, after)) = rest.split_once("\r\n") {
        let length = usize::from_str_radix(length, 16).unwrap();
        rest = after;
        if length == 0 {
            break;
        }
        body += &rest[..length];
        rest = &rest[length + 2..];
    }
    let answer = answer.with_body(body);
    match rest.lines().find_map(|line| line.strip_prefix("Etag: ")) {
        Some(etag) => answer.with_header("Etag", etag),
        None => answer,
    }
}

/// Nothing is saved by Caddy itself, so that no key is on the disk.
fn configuration(address: SocketAddr, socket: &Path, loaded: &[Value]) -> Value {
    let site = json!({
        "listen": [address.to_string()],
        "automatic_https": { "disable": true },
        "tls_connection_policies": [{}],
        "routes": [{ "handle": [{ "handler": "static_response", "body": "ok" }] }],
    });
    let mut configuration = json!({
        "admin": { "listen": format!("unix/{}", socket.display()), "config": { "persist": false } },
        "apps": { "http": { "servers": { "site": site } } },
    });
    if !loaded.is_empty() {
        configuration["apps"]["tls"] = json!({ "certificates": { "load_pem": loaded } });
    }
    configuration
}

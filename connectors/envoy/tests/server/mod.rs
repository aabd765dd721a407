//! A real Envoy in a directory of its own, for the tests of this crate.
#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "each test uses a part of it, and a server is a process"
)]

use std::fs::Permissions;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use deploy_testkit::own_address;
use serde_json::{Value, json};

/// The name of the secret.
pub(crate) const SECRET: &str = "www";

/// `start CONFIGURATION` does nothing to an Envoy that runs with this configuration, and starts one otherwise; `stop`. Envoy has the
/// kernel end it together with its parent, so that it gets one that stays. A process that nobody collected does not run.
const SERVICE: &str = r#"#!/bin/sh
cd "$(dirname "$0")" || exit 1
runs() {
    pid=$(cat envoy.pid 2>/dev/null) && [ -n "$pid" ] || return 1
    case "$(cat "/proc/$pid/stat" 2>/dev/null)" in ''|*') Z '*|*') X '*) return 1 ;; esac
}
[ "$1" = start ] && runs && cmp -s "$2" running.yaml && exit 0
runs && kill -KILL "$pid"
while runs; do sleep 0.01; done
[ "$1" = start ] || exit 0
cp "$2" running.yaml && rm -f envoy.pid && : >envoy.log || exit 1
setsid sh -c 'ENVOY -c running.yaml --use-dynamic-base-id --concurrency 1 & echo $! >envoy.pid; wait' </dev/null >envoy.log 2>&1 &
until grep -q 'starting main dispatch loop' envoy.log; do
    sleep 0.01
    [ ! -s envoy.pid ] || runs || { tail -n 3 envoy.log >&2; exit 1; }
done
"#;

/// An Envoy that an operator has configured, and that does not start before the file of the secret exists: a command starts it.
/// It ends when this is dropped.
pub(crate) struct Server {
    pub(crate) directory: PathBuf,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) sds: PathBuf,
}

impl Server {
    /// Prepares it for a secret in a directory `tls`, which is empty, and starts nothing.
    pub(crate) fn prepare(directory: &Path) -> Result<Self, String> {
        let program = deploy_testkit::installed("envoy")?;
        let tls = directory.join("tls");
        std::fs::create_dir(&tls).map_err(|error| format!("{}: {error}", tls.display()))?;
        let [address, admin] = [own_address(), own_address()];
        let server = Self { directory: directory.to_owned(), address, admin, sds: tls.join("www.json") };
        server.configure("wanted.json", &server.sds)?;
        let service = server.service();
        write(&service, &SERVICE.replace("ENVOY", &program.display().to_string()))?;
        std::fs::set_permissions(&service, Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
        Ok(server)
    }

    /// Writes a configuration that takes the secret from this file.
    pub(crate) fn configure(&self, name: &str, sds: &Path) -> Result<(), String> {
        self.configure_tls(name, &sds_from(sds))
    }

    /// Writes a configuration with this `common_tls_context`.
    pub(crate) fn configure_tls(&self, name: &str, common_tls_context: &Value) -> Result<(), String> {
        self.write_configuration(name, &socket(self.admin), common_tls_context)
    }

    /// Writes a configuration that takes the secret from this file, with the admin interface on a unix socket.
    pub(crate) fn configure_admin_socket(&self, name: &str, admin: &Path) -> Result<(), String> {
        self.write_configuration(name, &json!({ "pipe": { "path": admin } }), &sds_from(&self.sds))
    }

    fn write_configuration(&self, name: &str, admin: &Value, common_tls_context: &Value) -> Result<(), String> {
        let filters = "type.googleapis.com/envoy.extensions.filters";
        let configuration = json!({
            "node": { "id": "test", "cluster": "test" },
            "admin": { "address": admin },
            "static_resources": { "listeners": [{
                "name": "https",
                "address": socket(self.address),
                "filter_chains": [{
                    "transport_socket": { "name": "tls", "typed_config": {
                        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
                        "common_tls_context": common_tls_context,
                    }},
                    "filters": [{ "name": "http", "typed_config": {
                        "@type": format!("{filters}.network.http_connection_manager.v3.HttpConnectionManager"),
                        "stat_prefix": "http",
                        "route_config": { "virtual_hosts": [{ "name": "all", "domains": ["*"], "routes": [
                            { "match": { "prefix": "/" }, "direct_response": { "status": 200 } },
                        ]}]},
                        "http_filters": [{
                            "name": "router",
                            "typed_config": { "@type": format!("{filters}.http.router.v3.Router") },
                        }],
                    }}],
                }],
            }]},
        });
        write(&self.directory.join(name), &configuration.to_string())
    }

    /// The command that has it run with this configuration.
    pub(crate) fn start_command(&self, configuration: &str) -> Vec<String> {
        let configuration = self.directory.join(configuration).display().to_string();
        vec![self.service().display().to_string(), "start".to_owned(), configuration]
    }

    /// Has it run with this configuration.
    pub(crate) fn start(&self, configuration: &str) {
        let command = self.start_command(configuration);
        assert!(Command::new(&command[0]).args(&command[1..]).status().is_ok_and(|status| status.success()));
    }

    /// The base URL of the admin interface.
    pub(crate) fn admin_url(&self) -> String {
        format!("http://{}", self.admin)
    }

    /// A counter of the secret, by its last word.
    pub(crate) fn counter(&self, name: &str) -> u64 {
        let wanted = format!("{name}: ");
        let stats = self.ask(&format!("/stats?filter={name}$"));
        stats.lines().filter_map(|line| line.rsplit_once('.')?.1.strip_prefix(&wanted)?.parse::<u64>().ok()).sum()
    }

    fn ask(&self, path: &str) -> String {
        use std::io::{Read as _, Write as _};
        let mut answer = String::new();
        let mut stream = TcpStream::connect(self.admin).expect("the admin interface");
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("a request");
        stream.read_to_string(&mut answer).expect("an answer");
        answer
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

fn sds_from(sds: &Path) -> Value {
    let source = json!({ "path_config_source": { "path": sds }, "resource_api_version": "V3" });
    json!({ "tls_certificate_sds_secret_configs": [{ "name": SECRET, "sds_config": source }] })
}

fn socket(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip(), "port_value": address.port() } })
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

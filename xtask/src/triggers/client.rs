//! The ACME clients: how each is told to issue and to renew, and where it leaves what it got.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::pebble::Pebble;
use crate::demo::site::NAME;
use crate::{Outcome, shell};

/// In arguments, `{directory}`, `{http}`, `{hook}`, `{name}` and `{server}` stand for what the trial chose.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) name: &'static str,
    pub(super) issue: &'static [&'static str],
    pub(super) renew: &'static [&'static str],
    fullchain: &'static str,
    key: &'static str,
    /// The variable that names the roots to trust.
    roots: &'static str,
}

/// The hook is given once: certbot keeps it in the certificate's renewal configuration.
pub(super) const CERTBOT: Client = Client {
    name: "certbot",
    issue: &[
        "certonly",
        "--non-interactive",
        "--agree-tos",
        "--register-unsafely-without-email",
        "--standalone",
        "--http-01-address",
        "127.0.0.1",
        "--http-01-port",
        "{port}",
        "--server",
        "{server}",
        "--config-dir",
        "{directory}/etc",
        "--work-dir",
        "{directory}/work",
        "--logs-dir",
        "{directory}/log",
        "--domain",
        "{name}",
        "--deploy-hook",
        "{hook}",
    ],
    renew: &[
        "renew",
        "--non-interactive",
        "--force-renewal",
        "--no-random-sleep-on-renew",
        "--config-dir",
        "{directory}/etc",
        "--work-dir",
        "{directory}/work",
        "--logs-dir",
        "{directory}/log",
    ],
    fullchain: "etc/live/{name}/fullchain.pem",
    key: "etc/live/{name}/privkey.pem",
    roots: "REQUESTS_CA_BUNDLE",
};

/// The hook is given each time. `--days` is larger than what pebble's certificates last, so that each run renews.
pub(super) const LEGO: Client = Client {
    name: "lego",
    issue: &[
        "--accept-tos",
        "--email",
        "admin@{name}",
        "--server",
        "{server}",
        "--path",
        "{directory}/lego",
        "--domains",
        "{name}",
        "--http",
        "--http.port",
        "{http}",
        "run",
        "--run-hook",
        "{hook}",
    ],
    renew: &[
        "--accept-tos",
        "--email",
        "admin@{name}",
        "--server",
        "{server}",
        "--path",
        "{directory}/lego",
        "--domains",
        "{name}",
        "--http",
        "--http.port",
        "{http}",
        "renew",
        "--days",
        "9999",
        "--no-random-sleep",
        "--renew-hook",
        "{hook}",
    ],
    fullchain: "lego/certificates/{name}.crt",
    key: "lego/certificates/{name}.key",
    roots: "LEGO_CA_CERTIFICATES",
};

impl Client {
    /// Where it leaves certificates with chain, and key.
    pub(super) fn files(&self, directory: &Path) -> (PathBuf, PathBuf) {
        let path = |pattern: &str| directory.join(pattern.replace("{name}", NAME));
        (path(self.fullchain), path(self.key))
    }

    pub(super) fn command(&self, arguments: &[&str], directory: &Path, pebble: &Pebble, hook: &str) -> Outcome<Command> {
        let [http]: [SocketAddr; 1] = shell::free_addresses()?;
        let fill = |argument: &&str| {
            argument
                .replace("{directory}", &directory.display().to_string())
                .replace("{http}", &http.to_string())
                .replace("{port}", &http.port().to_string())
                .replace("{name}", NAME)
                .replace("{server}", &pebble.directory_url)
                .replace("{hook}", hook)
        };
        let mut command = Command::new(self.name);
        command.args(arguments.iter().map(fill)).env(self.roots, &pebble.root);
        Ok(command)
    }
}

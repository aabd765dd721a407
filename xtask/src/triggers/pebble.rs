//! Pebble, the small ACME server of Let's Encrypt's tests, at a loopback address.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

use deploy_testkit::pki::{Authority, Request};

use crate::{Outcome, shell};

/// A running pebble. It believes every challenge: names of `.test` lead nowhere, and the challenge is not what is tried.
#[derive(Debug)]
pub(super) struct Pebble {
    /// The ACME directory.
    pub(super) directory_url: String,
    /// The root that clients have to trust for the ACME server's own certificate.
    pub(super) root: PathBuf,
    _server: shell::Server,
}

impl Pebble {
    pub(super) fn start(directory: &Path) -> Outcome<Self> {
        shell::create_directory(directory)?;
        let authority = Authority::new();
        let issued = authority.issue(&Request::new(&["localhost"]).with_ips(&[IpAddr::V4(Ipv4Addr::LOCALHOST)]));
        let file = |name: &str| directory.join(name);
        let root = file("root.pem");
        shell::write_private(&root, authority.root_pem().as_bytes())?;
        shell::write_private(&file("api.crt"), issued.fullchain_pem.as_bytes())?;
        shell::write_private(&file("api.key"), issued.key_pem.as_bytes())?;

        let [listen, management, http, tls]: [SocketAddr; 4] = shell::free_addresses()?;
        let configuration = serde_json::json!({ "pebble": {
            "listenAddress": listen.to_string(),
            "managementListenAddress": management.to_string(),
            "certificate": file("api.crt"),
            "privateKey": file("api.key"),
            "httpPort": http.port(),
            "tlsPort": tls.port(),
            "ocspResponderURL": "",
            "externalAccountBindingRequired": false,
        }});
        shell::write_private(&file("pebble.json"), configuration.to_string().as_bytes())?;

        let mut command = Command::new("pebble");
        command.arg("-config").arg(file("pebble.json")).current_dir(directory);
        command.env("PEBBLE_VA_ALWAYS_VALID", "1").env("PEBBLE_VA_NOSLEEP", "1").env("PEBBLE_WFE_NONCEREJECT", "0");
        let log = file("pebble.log");
        let mut server = shell::Server::start(&mut command, &log)?;
        server.wait_for_listener(listen, &log)?;
        Ok(Self { directory_url: format!("https://localhost:{}/dir", listen.port()), root, _server: server })
    }
}

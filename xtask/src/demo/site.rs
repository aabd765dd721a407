//! The site that gets certificates: nginx, or a TLS server that behaves like it in what matters here.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use deploy_testkit::nginx::{Nginx, NginxConfig};
use deploy_testkit::observe;

use crate::{Outcome, shell};

/// The site's name.
pub(crate) const NAME: &str = "www.example.test";

/// A running server and the files that it is to serve.
#[derive(Debug)]
pub(crate) struct Site {
    /// Where certdeploy puts leaf and intermediates.
    pub(crate) fullchain: PathBuf,
    /// Where certdeploy puts the key.
    pub(crate) key: PathBuf,
    address: SocketAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Embedded { _server: shell::Server, pid_file: PathBuf },
    Nginx(Nginx),
}

impl Site {
    /// Starts it. The files do not exist yet: nginx already has a configuration that names them, but has not read it.
    pub(crate) fn start(directory: &Path, embedded: bool) -> Outcome<Self> {
        let tls = directory.join("tls");
        shell::create_directory(&tls)?;
        let (fullchain, key) = (tls.join("www.crt"), tls.join("www.key"));
        let (address, kind) = if embedded {
            start_embedded(directory, &fullchain, &key)?
        } else {
            let nginx = Nginx::start(&directory.join("nginx"), &NginxConfig::plain())?;
            // As in life, the port of TLS is closed until the first certificate is there.
            let [address] = shell::free_addresses()?;
            nginx.set_config(&NginxConfig::tls(NAME, &fullchain, &key).line(&format!("listen {address} ssl;")));
            (address, Kind::Nginx(nginx))
        };
        Ok(Self { fullchain, key, address, kind })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it is.
    pub(crate) fn server(&self) -> &'static str {
        match self.kind {
            Kind::Embedded { .. } => "The embedded TLS server",
            Kind::Nginx(_) => "nginx",
        }
    }

    /// A configuration for certdeploy that brings these files to this site.
    pub(crate) fn configuration(&self, fullchain: &Path, key: &Path, reload: &[String]) -> String {
        format!(
            "[[certificate]]\nname = \"www\"\nfullchain = {fullchain:?}\nkey = {key:?}\n\n\
             [[target]]\nname = \"front\"\nkind = \"nginx\"\ncertificate = \"www\"\nfullchain = {:?}\nkey = {:?}\n\
             validate = {:?}\nreload = {reload:?}\nverify = [{{ connect = \"{}\", server_name = \"{NAME}\" }}]\n",
            self.fullchain,
            self.key,
            self.validate(),
            self.address,
        )
    }

    /// The command that checks the configuration; empty where there is none.
    fn validate(&self) -> Vec<String> {
        match &self.kind {
            Kind::Embedded { .. } => Vec::new(),
            Kind::Nginx(nginx) => nginx.validate_command(),
        }
    }

    /// The command that reloads.
    pub(crate) fn reload(&self) -> Vec<String> {
        match &self.kind {
            Kind::Embedded { pid_file, .. } => {
                ["sh", "-c", "kill -HUP \"$(cat \"$0\")\"", &pid_file.display().to_string()].map(str::to_owned).into()
            }
            Kind::Nginx(nginx) => nginx.reload_command(),
        }
    }

    /// The leaf that a client gets, as SHA-256 in hexadecimal.
    pub(crate) fn served(&self) -> Outcome<String> {
        observe::served_fingerprint(self.address, Some(NAME))
    }

    /// The leaf that a client gets, with some time for the expected one to appear: old workers may answer for a moment.
    pub(crate) fn served_after(&self, expected: Option<&str>) -> Outcome<String> {
        let awaited = expected.and_then(|expected| {
            let seen = || self.served().ok().filter(|seen| seen == expected);
            shell::wait_for("the expected certificate", Duration::from_secs(5), seen).ok()
        });
        awaited.map_or_else(|| self.served(), Ok)
    }
}

fn start_embedded(directory: &Path, fullchain: &Path, key: &Path) -> Outcome<(SocketAddr, Kind)> {
    let program = shell::build("deploy-testkit", "reloading-tls-server", false)?;
    let [address] = shell::free_addresses()?;
    let pid_file = directory.join("server.pid");
    let log = directory.join("server.log");
    let mut command = Command::new(program);
    command.args(["--listen", &address.to_string(), "--wait-for-files"]);
    command.arg("--fullchain").arg(fullchain).arg("--key").arg(key).arg("--pid-file").arg(&pid_file);
    let mut server = shell::Server::start(&mut command, &log)?;
    server.wait_for_listener(address, &log)?;
    Ok((address, Kind::Embedded { _server: server, pid_file }))
}

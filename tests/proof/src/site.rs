//! A small site: a source of certificates, three files, a real TLS server that loads them at SIGHUP, and the real program.

use std::fs::{File, Permissions};
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use deploy_e2e::{Program, Run, array, quoted, server_path, until};
use deploy_testkit::{Authority, Issued, Request, observe, write_pair};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::observer;
#[cfg(target_arch = "x86_64")]
use crate::tracer::{self, Call, Decision, Ended};

/// The name in all certificates.
pub const NAME: &str = "www.example.test";

/// The three files of the target `front`, in the plan's order.
const FILES: [&str; 3] = ["www.chain.crt", "www.crt", "www.key"];

/// Directories, a server, a configuration and the program; all of it is gone when it is dropped.
#[derive(Debug)]
pub struct Site {
    /// How the program is started.
    pub program: Program,
    address: SocketAddr,
    server: Child,
    home: PathBuf,
    /// The directory of the generations, with that layout.
    generations: Option<PathBuf>,
    /// The directory of the three files.
    live: PathBuf,
    directory: TempDir,
}

impl Site {
    /// With a server that waits for its first files, and nothing deployed.
    ///
    /// # Panics
    ///
    /// When it can't be set up.
    #[must_use]
    pub fn new() -> Self {
        let directory = new_directory();
        let home = directory.path().to_owned();
        Self::in_directory(directory, home, None)
    }

    /// As [`Site::new`], with the three files in generations.
    ///
    /// # Panics
    ///
    /// When it can't be set up.
    #[must_use]
    pub fn with_generations() -> Self {
        let directory = new_directory();
        let home = directory.path().to_owned();
        Self::in_directory(directory, home, Some("www"))
    }

    /// As [`Site::new`], with the three files and the state directory in another place, which has to be there.
    ///
    /// # Panics
    ///
    /// When it can't be set up.
    #[must_use]
    pub fn with_files_in(home: &Path) -> Self {
        Self::in_directory(new_directory(), home.to_owned(), None)
    }

    fn in_directory(directory: TempDir, home: PathBuf, generations: Option<&str>) -> Self {
        for path in [directory.path().join("source"), home.join("tls")] {
            std::fs::create_dir(path).expect("a new directory");
        }
        let generations = generations.map(|name| home.join("tls").join(name));
        let live = generations.as_ref().map_or(home.join("tls"), |generations| generations.join("current"));
        let (server, address) = start_server(directory.path(), &live, "127.0.0.1:0");
        let program = Program::new(directory.path().join("certdeploy.toml"), home.join("state"));
        let site = Self { program, address, server, home, generations, live, directory };
        site.configure("");
        site
    }

    /// With a first certificate deployed and served; returns that certificate, too.
    ///
    /// # Panics
    ///
    /// When the deployment does not succeed.
    #[must_use]
    pub fn serving() -> (Self, Issued) {
        let site = Self::new();
        let issued = site.serve();
        (site, issued)
    }

    /// Deploys a first certificate.
    ///
    /// # Panics
    ///
    /// When the deployment does not succeed.
    pub fn serve(&self) -> Issued {
        let issued = self.renew();
        self.deploy().expect(0, "changed");
        issued
    }

    /// Whether the three files are in generations.
    #[must_use]
    pub fn has_generations(&self) -> bool {
        self.generations.is_some()
    }

    /// The directory that all of it is in.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.directory.path()
    }

    /// A path in that directory.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.root().join(name)
    }

    /// The directory of the three files, or of the one that their generations are in.
    #[must_use]
    pub fn tls(&self) -> PathBuf {
        self.home.join("tls")
    }

    /// The three files.
    #[must_use]
    pub fn files(&self) -> [PathBuf; 3] {
        FILES.map(|name| self.live.join(name))
    }

    /// The three files as they are now.
    #[must_use]
    pub fn live(&self) -> [Option<observer::File>; 3] {
        self.files().map(|path| observer::File::at(&path))
    }

    /// What the three files hold when a certificate is deployed.
    #[must_use]
    pub fn contents(issued: &Issued) -> [Vec<u8>; 3] {
        let end = "-----END CERTIFICATE-----\n";
        let leaf = issued.fullchain_pem.find(end).expect("a leaf") + end.len();
        let chain = &issued.fullchain_pem[leaf..];
        [chain.as_bytes().to_vec(), issued.fullchain_pem.as_bytes().to_vec(), issued.key_pem.as_bytes().to_vec()]
    }

    /// Writes the configuration: one target of three files, syncs one by one, no checker; `more` are lines of the target.
    /// A line for `validate`, `reload` or `verify_timeout` in `more` takes the place of the usual one.
    pub fn configure(&self, more: &str) {
        let text = |path: PathBuf| quoted(path.to_str().expect("UTF-8"));
        let path = |name: &str| text(self.path(name));
        let [chain, fullchain, key] = self.files().map(text);
        let usual = [
            ("validate", array::<&str>(&[])),
            ("reload", format!("{{ signal = \"HUP\", pid_file = {} }}", path("pid"))),
            ("verify_timeout", quoted("10s")),
        ];
        let layout = self.generations.clone().map(text);
        let layout = layout.map(|directory| format!("layout = {{ generation = {directory} }}\n")).unwrap_or_default();
        let usual: String = usual
            .iter()
            .filter(|(name, _)| !more.lines().any(|line| line.starts_with(&format!("{name} "))))
            .map(|(name, value)| format!("{name} = {value}\n"))
            .collect();
        let text = format!(
            "[agent]\nsync_width = 1\n\n\
             [[certificate]]\nname = \"www\"\nfullchain = {}\nkey = {}\n\n\
             [[target]]\nname = \"front\"\nkind = \"nginx\"\ncertificate = \"www\"\n\
             trusted_chain = {chain}\nfullchain = {fullchain}\nkey = {key}\n\
             verify = [{{ connect = \"{}\", server_name = \"{NAME}\" }}]\n{usual}{layout}{more}\n",
            path("source/fullchain.pem"),
            path("source/privkey.pem"),
            self.address,
        );
        std::fs::write(&self.program.config, text).expect("the configuration is written");
    }

    /// A certificate that is put nowhere. Each has another intermediate, so that all three files differ.
    #[must_use]
    pub fn issue(&self) -> Issued {
        Authority::new().issue(&Request::new(&[NAME]))
    }

    /// Puts a certificate into the source.
    pub fn put(&self, issued: &Issued) {
        write_pair(&self.path("source"), issued);
    }

    /// Puts a new certificate into the source, as a renewal does.
    pub fn renew(&self) -> Issued {
        let issued = self.issue();
        self.put(&issued);
        issued
    }

    /// Runs the program to the end.
    #[must_use]
    pub fn run(&self, arguments: &[&str]) -> Run {
        self.program.run(arguments)
    }

    /// `deploy --json`.
    #[must_use]
    pub fn deploy(&self) -> Run {
        self.run(&["deploy", "--json"])
    }

    /// The certificate that is served now, as its fingerprint.
    #[must_use]
    pub fn served(&self) -> Option<String> {
        observe::served_fingerprint(self.address, Some(NAME)).ok()
    }

    /// Has the server load what is on disk, and waits until it serves this certificate.
    ///
    /// # Panics
    ///
    /// When it does not.
    pub fn hang_up(&self, issued: &Issued) {
        kill_process(Pid::from_child(&self.server), Signal::HUP).expect("the server runs");
        until("the server takes up its files", || self.served().as_ref() == Some(&issued.fingerprint));
    }

    /// Starts the server anew, on the same port: it serves what is on disk, or waits for its first files.
    ///
    /// # Panics
    ///
    /// When it does not start.
    pub fn restart_server(&mut self) {
        self.stop_server();
        (self.server, self.address) = start_server(self.root(), &self.live, &self.address.to_string());
    }

    fn stop_server(&mut self) {
        drop(self.server.kill());
        drop(self.server.wait());
    }

    /// Runs the program under the tracer, started by the stub `traced`.
    ///
    /// # Panics
    ///
    /// When it cannot be traced.
    #[cfg(target_arch = "x86_64")]
    #[must_use]
    pub fn trace(&self, stub: &str, arguments: &[&str], decide: impl FnMut(&Call) -> Decision) -> Run {
        let mut program = self.program.clone();
        program.wrapper.insert(0, stub.to_owned());
        let output = ["out", "err"].map(|name| self.path(name));
        let [out, err] = output.each_ref().map(|path| File::create(path).expect("a file for the output"));
        let ended = tracer::trace(program.command(arguments).stdout(out).stderr(err), decide);
        let status = match ended {
            Ended::Exited(code) => code << 8,
            Ended::Signalled(signal) => signal,
        };
        let [out, err] = output.map(|path| String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned());
        Run::new(ExitStatus::from_raw(status), out, err)
    }

    /// Where the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Default for Site {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        self.stop_server();
    }
}

fn new_directory() -> TempDir {
    let directory = tempfile::Builder::new().prefix("certdeploy-proof-").tempdir().expect("a directory");
    std::fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("our own directory");
    directory
}

fn start_server(root: &Path, live: &Path, listen: &str) -> (Child, SocketAddr) {
    serve(&live.join("www.crt"), &live.join("www.key"), &root.join("pid"), listen)
}

/// A server of these files, for which it waits.
pub(crate) fn serve(fullchain: &Path, key: &Path, pid_file: &Path, listen: &str) -> (Child, SocketAddr) {
    let mut child = Command::new(server_path())
        .args(["--listen", listen, "--wait-for-files", "--fullchain"])
        .arg(fullchain)
        .arg("--key")
        .arg(key)
        .arg("--pid-file")
        .arg(pid_file)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("{}: {error}", server_path().display()));
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("it was piped")).read_line(&mut line).expect("the server speaks");
    let address = line.trim_end().strip_prefix("listening ").and_then(|text| text.parse().ok());
    (child, address.unwrap_or_else(|| panic!("the server said {line:?}")))
}

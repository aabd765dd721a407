//! A real SSH server in a directory of its own, and a relay that cuts, stalls and delays what goes through it.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::own_address;

/// How long the server may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where Debian, Fedora and Alpine have it. It wants to be started by its whole path.
const SSHD: &str = "/usr/sbin/sshd";

/// OpenSSH's server, with keys, users and a port of its own. It ends when it is dropped, and its connections with it.
///
/// Its users are `deploy`, who is root by another name and logs in with `/bin/sh`; `csh`, the same with `/bin/csh`; `plain`,
/// who may do nothing; and `ops`, who may do everything with `sudo` and is asked for no password. They exist in a mount
/// namespace of the server only, as does a file system of 256 KiB at [`Sshd::small`]. All have the one key.
#[derive(Debug)]
pub struct Sshd {
    child: Child,
    address: SocketAddr,
    directory: PathBuf,
}

impl Sshd {
    /// Starts it; returns when it listens.
    ///
    /// # Errors
    ///
    /// One sentence: OpenSSH is not installed, we are not root, or the server says why it does not start.
    pub fn start(directory: &Path) -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can start an SSH server with users of its own".to_owned());
        }
        let failed = |error: std::io::Error| format!("{}: {error}", directory.display());
        std::fs::create_dir_all(directory.join("home")).map_err(failed)?;
        // Where it wants to go when it gives up its rights.
        std::fs::create_dir_all("/run/sshd").map_err(|error| format!("/run/sshd: {error}"))?;
        // The users have to reach their keys.
        std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
        for key in ["host", "id", "other_host"] {
            make_key(&directory.join(key))?;
        }
        let address = own_address();
        let d = directory.display();
        let configuration = format!(
            "ListenAddress {address}\nHostKey {d}/host\nAuthorizedKeysFile {d}/id.pub\nStrictModes no\nUsePAM no\nPidFile none\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\nLogLevel ERROR\nUseDNS no\n\
             MaxStartups 100\nMaxSessions 100\n"
        );
        let users = format!(
            "{}deploy:x:0:0::{d}/home:/bin/sh\ncsh:x:0:0::{d}/home:/bin/csh\nplain:x:65533:65533::{d}/home:/bin/sh\n\
             ops:x:65532:65532::{d}/home:/bin/sh\n",
            std::fs::read_to_string("/etc/passwd").map_err(|error| format!("/etc/passwd: {error}"))?
        );
        // Without an entry there, sudo takes an account for locked.
        let shadow = std::fs::read_to_string("/etc/shadow").map_err(|error| format!("/etc/shadow: {error}"))?;
        let shadow = format!("{shadow}plain:*:19000:0:99999:7:::\nops:*:19000:0:99999:7:::\n");
        let sudoers = "Defaults !pam_session, !pam_setcred\nroot ALL=(ALL) ALL\nops ALL=(root) NOPASSWD: ALL\n".to_owned();
        for (name, text) in [("sshd_config", configuration), ("passwd", users), ("shadow", shadow), ("sudoers", sudoers)] {
            std::fs::write(directory.join(name), text).map_err(failed)?;
        }
        // As sudo wants it.
        for name in ["shadow", "sudoers"] {
            std::fs::set_permissions(directory.join(name), std::fs::Permissions::from_mode(0o440)).map_err(failed)?;
        }
        std::fs::create_dir_all(directory.join("small")).map_err(failed)?;
        write_known_host(directory, address, "host")?;
        let child = launch(directory)?;
        let mut sshd = Self { child, address, directory: directory.to_owned() };
        sshd.await_listening()?;
        Ok(sshd)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A directory on a file system of 256 KiB, which is there for its connections only.
    #[must_use]
    pub fn small(&self) -> PathBuf {
        self.directory.join("small")
    }

    /// How it is reached as `deploy`, as the settings of a `via` say it.
    #[must_use]
    pub fn settings(&self) -> serde_json::Value {
        self.settings_at(self.address)
    }

    /// The same through a relay, whose address gets the server's key.
    ///
    /// # Panics
    ///
    /// When the file of known hosts cannot be written.
    #[must_use]
    pub fn settings_at(&self, address: SocketAddr) -> serde_json::Value {
        write_known_host(&self.directory, address, "host").expect("a file of known hosts");
        serde_json::json!({
            "host": address.ip().to_string(),
            "port": address.port(),
            "user": "deploy",
            "identity": self.directory.join("id"),
            "known_hosts": self.directory.join("known_hosts"),
            "config": self.no_configuration(),
            "connect_timeout": "3s",
            "state_dir": self.directory.join("state"),
        })
    }

    /// From now on, another key than the server's is the known one.
    ///
    /// # Panics
    ///
    /// When the file of known hosts cannot be written.
    pub fn forget_its_key(&self) {
        write_known_host(&self.directory, self.address, "other_host").expect("a file of known hosts");
    }

    /// The fingerprint of its key.
    ///
    /// # Panics
    ///
    /// When `ssh-keygen` does not say it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        let output = Command::new("ssh-keygen").arg("-lf").arg(self.directory.join("host.pub")).output().expect("ssh-keygen");
        String::from_utf8_lossy(&output.stdout).split(' ').nth(1).expect("a fingerprint").to_owned()
    }

    /// Ends all its connections without a word, as a machine does that loses its network card.
    ///
    /// # Panics
    ///
    /// When the processes of this machine cannot be listed.
    pub fn cut(&self) {
        for process in children_of(self.child.id()) {
            rustix::process::kill_process(process, rustix::process::Signal::KILL).ok();
        }
    }

    /// Ends it and starts it again, with the configuration that now stands in its directory.
    ///
    /// # Errors
    ///
    /// As [`Self::start`].
    pub fn restart(&mut self) -> Result<(), String> {
        self.stop();
        self.child = launch(&self.directory)?;
        self.await_listening()
    }

    fn stop(&mut self) {
        self.cut();
        self.child.kill().ok();
        self.child.wait().ok();
    }

    fn no_configuration(&self) -> PathBuf {
        let path = self.directory.join("ssh_config");
        if !path.exists() {
            std::fs::write(&path, "").expect("an empty configuration of ssh");
        }
        path
    }

    fn await_listening(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(self.address).is_err() {
            let ended = self.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || Instant::now() >= deadline {
                let said = std::fs::read_to_string(self.directory.join("sshd.log")).unwrap_or_default();
                return Err(format!("{SSHD} does not listen: {}", said.trim_end()));
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.stop();
    }
}

fn launch(directory: &Path) -> Result<Child, String> {
    let log = File::create(directory.join("sshd.log")).map_err(|error| error.to_string())?;
    let script = r#"mount --bind "$0/passwd" /etc/passwd && mount --bind "$0/shadow" /etc/shadow || exit
        if [ -e /etc/sudoers ]; then mount --bind "$0/sudoers" /etc/sudoers || exit; fi
        mount -t tmpfs -o size=256k,mode=0755 small "$0/small" || exit
        exec "$1" -D -e -f "$0/sshd_config""#;
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(directory).arg(SSHD);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.spawn().map_err(|error| format!("unshare cannot be started: {error}"))
}

fn make_key(path: &Path) -> Result<(), String> {
    if path.exists() {
        return Ok(());
    }
    let output = Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(path).output();
    let output = output.map_err(|error| format!("ssh-keygen cannot be started: {error}; apt-get install openssh-server"))?;
    if output.status.success() { Ok(()) } else { Err(format!("ssh-keygen: {}", String::from_utf8_lossy(&output.stderr))) }
}

fn write_known_host(directory: &Path, address: SocketAddr, key: &str) -> Result<(), String> {
    let public = std::fs::read_to_string(directory.join(format!("{key}.pub"))).map_err(|error| error.to_string())?;
    let mut words = public.split_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let line = format!("[{}]:{} {kind} {key}\n", address.ip(), address.port());
    std::fs::write(directory.join("known_hosts"), line).map_err(|error| error.to_string())
}

fn children_of(parent: u32) -> Vec<rustix::process::Pid> {
    let numbers = std::fs::read_dir("/proc").expect("processes").flatten();
    let numbers = numbers.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let is_child = |number: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
        stat.rsplit(')').next().and_then(|rest| rest.split_whitespace().nth(1)?.parse().ok()) == Some(parent)
    };
    numbers.filter(is_child).filter_map(rustix::process::Pid::from_raw).collect()
}

/// A network between a client and a server: everything goes through it until it is told otherwise.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    state: Arc<RelayState>,
}

#[derive(Debug, Default)]
struct RelayState {
    open: Mutex<Vec<TcpStream>>,
    stalled: AtomicBool,
    delay_ms: AtomicU64,
    refuses: AtomicBool,
    /// How many pieces may still come from a client; 0 for as many as there are.
    left: AtomicU64,
    /// What is done when the last one of them was carried.
    for_good: AtomicBool,
    was_cut: AtomicBool,
}

impl RelayState {
    fn cut(&self) {
        for stream in self.open.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            stream.shutdown(Shutdown::Both).ok();
        }
    }

    /// Counts a piece from a client; cuts after the last one.
    fn count(&self) {
        let last = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
        if last == Ok(1) {
            self.refuses.store(self.for_good.load(Ordering::SeqCst), Ordering::SeqCst);
            self.was_cut.store(true, Ordering::SeqCst);
            self.cut();
        }
    }
}

impl Relay {
    /// To this server.
    ///
    /// # Panics
    ///
    /// When the system has no port to give.
    #[must_use]
    pub fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("a listener has an address");
        let state = Arc::<RelayState>::default();
        let shared = Arc::clone(&state);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.refuses.load(Ordering::SeqCst) {
                    continue;
                }
                let Ok(server) = TcpStream::connect(server) else { continue };
                let pair = (client.try_clone().expect("a descriptor"), server.try_clone().expect("a descriptor"));
                shared
                    .open
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .extend([client.try_clone().expect("a descriptor"), server.try_clone().expect("a descriptor")]);
                for (from, to, counts) in [(client, server, true), (pair.1, pair.0, false)] {
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || carry(from, to, counts, &shared));
                }
            }
        });
        Self { address, state }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Ends every connection that goes through it.
    pub fn cut(&self) {
        self.state.cut();
    }

    /// Ends every connection after so many more pieces of what clients say, and with `for_good` every new one, too.
    pub fn cut_after(&self, pieces: u64, for_good: bool) {
        self.state.was_cut.store(false, Ordering::SeqCst);
        self.state.for_good.store(for_good, Ordering::SeqCst);
        self.state.left.store(pieces, Ordering::SeqCst);
    }

    /// Whether it has come to that. Nothing is cut any more after this.
    #[must_use]
    pub fn was_cut(&self) -> bool {
        self.state.left.store(0, Ordering::SeqCst);
        self.refuse(false);
        self.state.was_cut.load(Ordering::SeqCst)
    }

    /// Whether new connections are closed at once.
    pub fn refuse(&self, refuses: bool) {
        self.state.refuses.store(refuses, Ordering::SeqCst);
    }

    /// Whether bytes are swallowed, with every connection left open.
    pub fn stall(&self, stalled: bool) {
        self.state.stalled.store(stalled, Ordering::SeqCst);
    }

    /// How long every piece of what is said takes, in each direction.
    pub fn delay(&self, by: Duration) {
        self.state.delay_ms.store(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.refuse(true);
        self.cut();
        // It hears of it with the next one.
        TcpStream::connect(self.address).ok();
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, counts: bool, state: &RelayState) {
    let mut buffer = [0; 16 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if state.stalled.load(Ordering::SeqCst) {
            continue;
        }
        std::thread::sleep(Duration::from_millis(state.delay_ms.load(Ordering::SeqCst)));
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        if counts {
            state.count();
        }
    }
    from.shutdown(Shutdown::Both).ok();
    to.shutdown(Shutdown::Both).ok();
}

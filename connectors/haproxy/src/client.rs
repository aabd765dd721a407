//! What HAProxy is told over its sockets: the Runtime API of a worker, and the commands of the master process (Management
//! Guide, chapters 9.3 and 9.4). The answers are texts and nothing else; one that is not known is an error.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use deploy_core::secret::{SecretBytes, SourceFileError, read_source_file};
use deploy_core::{Certificate, Context, Error, ErrorKind, Reload, ReloadCall, Retry};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

/// A file of certificate and key is never larger.
const FILE_LIMIT: u64 = 1 << 20;

/// Longer answers are cut off: a list of a hundred thousand certificates is shorter.
const ANSWER_LIMIT: u64 = 16 << 20;

/// How long one answer may take: a commit has to update every SNI of the certificate. Less than a rollback has, so that one
/// silent socket does not keep it from the others.
const PATIENCE: Duration = Duration::from_secs(20);

/// How long a master process may take to listen again that somebody else has just reloaded.
const STARTING: Duration = Duration::from_secs(5);

/// Between two looks at what HAProxy is busy with.
const PAUSE: Duration = Duration::from_millis(10);

/// Where HAProxy can be told something: an absolute path, or `ADDRESS:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
#[non_exhaustive]
pub enum Socket {
    /// A port.
    Tcp(SocketAddr),
    /// A unix socket.
    Unix(PathBuf),
}

impl TryFrom<String> for Socket {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        match text.parse() {
            _ if text.starts_with('/') => Ok(Self::Unix(text.into())),
            Ok(address) => Ok(Self::Tcp(address)),
            Err(_) => Err(format!("`{text}` is not a socket: write an absolute path, or an IP address and port")),
        }
    }
}

impl From<Socket> for String {
    fn from(socket: Socket) -> Self {
        socket.to_string()
    }
}

impl fmt::Display for Socket {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => path.display().fmt(formatter),
        }
    }
}

/// Gives what stands on the disk to every HAProxy that runs, without a reload.
#[derive(Debug)]
pub(crate) struct RuntimeUpdate {
    pub(crate) sockets: Vec<Socket>,
    /// What HAProxy calls the file.
    pub(crate) name: String,
    /// What we call it.
    pub(crate) file: PathBuf,
    pub(crate) crt_list: Option<String>,
    /// For what the sockets are not suited to.
    pub(crate) otherwise: Option<Reload>,
}

/// Why HAProxy does not have what stands on the disk.
enum Refusal {
    /// A reload can do what the socket cannot.
    NeedsReload(Error),
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

#[async_trait]
impl ReloadCall for RuntimeUpdate {
    async fn apply(&self, context: &Context) -> Result<(), Error> {
        let pem = self.read(context)?;
        for socket in &self.sockets {
            if let Err(refusal) = self.update(socket, pem.as_ref(), context).await {
                return self.otherwise(refusal, context).await;
            }
        }
        Ok(())
    }

    /// A socket that is dead does not keep the old certificate from the others.
    async fn undo(&self, context: &Context) -> Result<(), Error> {
        let pem = self.read(context)?;
        let mut refused = None;
        for socket in &self.sockets {
            if let Err(refusal) = self.update(socket, pem.as_ref(), context).await {
                refused.get_or_insert(refusal);
            }
        }
        match refused {
            Some(refusal) => self.otherwise(refusal, context).await,
            None => Ok(()),
        }
    }
}

impl RuntimeUpdate {
    /// What stands on the disk now; `None` after the undoing of a first deployment.
    fn read(&self, context: &Context) -> Result<Option<SecretBytes>, Error> {
        match read_source_file(context.host(), &self.file, FILE_LIMIT) {
            Ok((pem, _)) => Ok(Some(pem)),
            Err(SourceFileError::Missing { .. } | SourceFileError::Empty { .. }) => Ok(None),
            Err(error) => Err(Error::new(ErrorKind::ReloadFailed, "HAProxy cannot be given the file").with_source(error)),
        }
    }

    async fn otherwise(&self, refusal: Refusal, context: &Context) -> Result<(), Error> {
        match (refusal, &self.otherwise) {
            (Refusal::NeedsReload(_), Some(reload)) => reload.carry_out(context).await,
            (Refusal::NeedsReload(error) | Refusal::Failed(error), _) => Err(error),
        }
    }

    async fn update(&self, socket: &Socket, pem: Option<&SecretBytes>, context: &Context) -> Result<(), Refusal> {
        let cli = Cli { socket, context };
        let loaded = Loaded::read(&cli).await?;
        // There is one transaction in the whole process, and a `set` under another name can end up in it.
        if let Some(other) = loaded.transaction.as_ref().filter(|name| **name != self.name) {
            return Err(Refusal::Failed(
                Error::new(ErrorKind::Conflict, format!("somebody is changing the certificate {other} over {socket}"))
                    .with_retry(Retry::Later)
                    .with_next_step(format!("wait for them, or send `abort ssl cert {other}` to the socket; then run again")),
            ));
        }
        match pem {
            Some(pem) => self.load(&cli, loaded.names.contains(&self.name), pem).await,
            None if loaded.names.contains(&self.name) => self.unload(&cli).await,
            None => Ok(()),
        }
    }

    async fn load(&self, cli: &Cli<'_>, known: bool, pem: &SecretBytes) -> Result<(), Refusal> {
        let name = &self.name;
        if !known && self.crt_list.is_none() {
            return Err(Refusal::NeedsReload(self.not_loaded(cli.socket)));
        }
        if !known {
            cli.expect(&["new", "ssl", "cert", name], &[&format!("New empty certificate store '{name}'!")]).await?;
        }
        let committed = self.set_and_commit(cli, pem).await;
        if committed.is_err() {
            // Best effort, and by our name: a transaction that is left open is in everybody's way.
            let _reported_by_committed = cli.ask(&["abort", "ssl", "cert", name], None).await;
        }
        committed?;
        if let Some(list) = &self.crt_list
            && !self.is_listed(cli, list).await?
        {
            cli.expect(&["add", "ssl", "crt-list", list, name], &["Success!"]).await?;
        }
        Ok(self.confirm(cli, pem).await?)
    }

    async fn set_and_commit(&self, cli: &Cli<'_>, pem: &SecretBytes) -> Result<(), Refusal> {
        let (name, set) = (&self.name, ["set", "ssl", "cert", &self.name]);
        let Some(answer) = cli.ask(&set, Some(pem)).await? else {
            return Err(Refusal::NeedsReload(too_large(cli.socket, pem.len())));
        };
        let begun = ["created", "updated"].map(|done| format!("Transaction {done} for certificate {name}!"));
        cli.is_one_of(&set, &answer, &begun.each_ref().map(String::as_str))?;
        cli.expect(&["commit", "ssl", "cert", name], &["Success!"]).await?;
        Ok(())
    }

    /// Takes back what a first deployment added.
    async fn unload(&self, cli: &Cli<'_>) -> Result<(), Refusal> {
        let name = &self.name;
        let Some(list) = &self.crt_list else {
            let message = format!("HAProxy has {name} in use, and there is no file to go back to");
            return Err(Refusal::NeedsReload(Error::new(ErrorKind::ReloadFailed, message)));
        };
        if self.is_listed(cli, list).await? {
            let deleted = format!("Entry '{name}' deleted in crtlist '{list}'!");
            cli.expect(&["del", "ssl", "crt-list", list, name], &[&deleted]).await?;
        }
        cli.expect(&["del", "ssl", "cert", name], &[&format!("Certificate '{name}' deleted!")]).await?;
        Ok(())
    }

    /// Whether the list has the certificate, with whatever options and filters.
    async fn is_listed(&self, cli: &Cli<'_>, list: &str) -> Result<bool, Error> {
        let command = ["show", "ssl", "crt-list", list];
        let answer = cli.answer(&command).await?;
        let mut lines = answer.lines();
        if lines.next() != Some(&format!("# {list}")) {
            return Err(cli.unexpected(&command, &answer));
        }
        Ok(lines.any(|line| line.strip_prefix(&*self.name).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))))
    }

    /// That HAProxy has the leaf and uses it. What it serves, `verify` sees.
    async fn confirm(&self, cli: &Cli<'_>, pem: &SecretBytes) -> Result<(), Error> {
        let command = ["show", "ssl", "cert", &self.name];
        let answer = cli.answer(&command).await?;
        let field = |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        let (Some(status), Some(serial)) = (field("Status"), field("Serial")) else {
            return Err(cli.unexpected(&command, &answer));
        };
        if status != "Used" {
            let message = format!("HAProxy has {} and no `bind` line uses it", self.name);
            return Err(Error::new(ErrorKind::ReloadFailed, message)
                .with_next_step("name the file in HAProxy's configuration, or set `crt_list`; then run again"));
        }
        // An old file that is put back may be something that only HAProxy can read.
        let wanted = Certificate::from_combined_pem(pem).ok();
        if wanted.is_some_and(|wanted| !is_same_number(wanted.serial(), serial)) {
            let message = format!("HAProxy said that it took {}, and has the certificate with the serial {serial}", self.name);
            return Err(Error::new(ErrorKind::VerifyFailed, message).with_next_step("see who else changes it; then run again"));
        }
        Ok(())
    }

    fn not_loaded(&self, socket: &Socket) -> Error {
        let message = format!("the HAProxy behind {socket} has not loaded {}", self.name);
        Error::new(ErrorKind::ReloadFailed, message).with_next_step(
            "see what `show ssl cert` lists: set `runtime_path` to the name there; or, for a new certificate, set `crt_list`, \
             or `reload`",
        )
    }
}

fn too_large(socket: &Socket, length: usize) -> Error {
    let message = format!(
        "HAProxy closed {socket} without an answer, as it does when certificate, chain and key ({length} bytes) do not fit \
         its buffer"
    );
    Error::new(ErrorKind::ReloadFailed, message)
        .with_next_step("set `reload` or `master_socket`, for HAProxy to read the file; or raise `tune.bufsize` in HAProxy")
}

/// Two serial numbers in hexadecimal.
fn is_same_number(one: &str, other: &str) -> bool {
    one.trim_start_matches('0').eq_ignore_ascii_case(other.trim_start_matches('0'))
}

/// What `show ssl cert` lists.
struct Loaded {
    /// The certificate that somebody is changing.
    transaction: Option<String>,
    names: Vec<String>,
}

impl Loaded {
    async fn read(cli: &Cli<'_>) -> Result<Self, Error> {
        let command = ["show", "ssl", "cert"];
        let answer = cli.answer(&command).await?;
        Self::parse(&answer).ok_or_else(|| cli.unexpected(&command, &answer))
    }

    fn parse(answer: &str) -> Option<Self> {
        let mut lines = answer.lines().filter(|line| !line.is_empty());
        let mut transaction = None;
        // Where nothing is loaded at all, the answer is a blank line.
        let Some(mut first) = lines.next() else { return Some(Self { transaction, names: Vec::new() }) };
        if first == "# transaction" {
            transaction = Some(lines.next()?.strip_prefix('*')?.to_owned());
            first = lines.next()?;
        }
        (first == "# filename").then(|| Self { transaction, names: lines.map(str::to_owned).collect() })
    }
}

/// Has the master process start a new worker, and waits until it has one.
#[derive(Debug)]
pub(crate) struct MasterReload(Socket);

#[async_trait]
impl ReloadCall for MasterReload {
    async fn apply(&self, context: &Context) -> Result<(), Error> {
        let cli = Cli { socket: &self.0, context };
        let before = Reloads::read_when_awake(&cli).await;
        let answer = cli.ask(&["reload"], None).await?.unwrap_or_default();
        match answer.lines().next() {
            Some("Success=1") => Ok(()),
            Some("Success=0") => Err(reload_failed(&shortened(answer.trim_start_matches("Success=0")))),
            Some(_) => Err(cli.unexpected(&["reload"], &answer)),
            // Before 2.7 it says nothing, and counts.
            None => Reloads::wait_for_next(&cli, before?).await,
        }
    }

    async fn undo(&self, context: &Context) -> Result<(), Error> {
        self.apply(context).await
    }
}

impl MasterReload {
    pub(crate) fn new(socket: Socket) -> Self {
        Self(socket)
    }
}

/// What `show proc` says of the master's reloads.
struct Reloads {
    all: u64,
    /// How many have failed since the last one that did not.
    failed: u64,
}

impl Reloads {
    async fn read(cli: &Cli<'_>) -> Result<Self, Error> {
        let command = ["show", "proc"];
        let answer = cli.answer(&command).await?;
        answer.lines().find_map(Self::parse).ok_or_else(|| cli.unexpected(&command, &answer))
    }

    async fn read_when_awake(cli: &Cli<'_>) -> Result<Self, Error> {
        let end = Instant::now() + STARTING;
        loop {
            match Self::read(cli).await {
                Err(error) if error.kind() == ErrorKind::Unavailable && Instant::now() < end => cli.context.pause(PAUSE).await?,
                read => return read,
            }
        }
    }

    /// Of `825 master 1 [failed: 0] 0d00h00m05s 2.6.12`.
    fn parse(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace().skip(1);
        if words.next()? != "master" {
            return None;
        }
        let all = words.next()?.parse().ok()?;
        let failed = words.next().filter(|word| *word == "[failed:").and_then(|_| words.next())?;
        Some(Self { all, failed: failed.strip_suffix(']')?.parse().ok()? })
    }

    /// While the master executes itself anew, its socket is dead.
    async fn wait_for_next(cli: &Cli<'_>, before: Self) -> Result<(), Error> {
        loop {
            match Self::read(cli).await {
                Ok(now) if now.all != before.all && now.failed == 0 => return Ok(()),
                Ok(now) if now.all != before.all => return Err(reload_failed("its old worker goes on")),
                _ => cli.context.pause(PAUSE).await?,
            }
        }
    }
}

fn reload_failed(said: &str) -> Error {
    Error::new(ErrorKind::ReloadFailed, format!("HAProxy could not load its configuration: {said}"))
        .with_next_step("read HAProxy's log, and run `haproxy -c -f /etc/haproxy/haproxy.cfg`; then run again")
}

/// One socket, for the length of one deployment. Every command has a connection of its own.
struct Cli<'a> {
    socket: &'a Socket,
    context: &'a Context,
}

impl Cli<'_> {
    /// Sends a command that has to be answered by one of these lines, whatever warnings come before it.
    async fn expect(&self, command: &[&str], answers: &[&str]) -> Result<(), Error> {
        let answer = self.answer(command).await?;
        self.is_one_of(command, &answer, answers)
    }

    fn is_one_of(&self, command: &[&str], answer: &str, answers: &[&str]) -> Result<(), Error> {
        let last = answer.lines().rev().find(|line| !line.is_empty()).unwrap_or_default();
        if answers.contains(&last) { Ok(()) } else { Err(self.unexpected(command, answer)) }
    }

    async fn answer(&self, command: &[&str]) -> Result<String, Error> {
        self.ask(command, None).await?.ok_or_else(|| {
            Error::new(ErrorKind::Unavailable, format!("HAProxy closed {} without an answer", self.socket))
                .with_retry(Retry::Later)
                .with_next_step("see with `systemctl status haproxy` whether HAProxy runs; then run again")
        })
    }

    /// Sends a command, again while the certificates are locked; `None` if the connection was closed without an answer.
    async fn ask(&self, command: &[&str], payload: Option<&SecretBytes>) -> Result<Option<String>, Error> {
        let request = request(command, payload);
        loop {
            let answer = self.socket.exchange(&request).await.map_err(|error| self.unreachable(error))?;
            if answer.contains("Operations on certificates are currently locked!") {
                self.context.pause(PAUSE).await?;
            } else if answer.starts_with("Permission denied") {
                return Err(self.not_admin());
            } else {
                return Ok(Some(answer).filter(|answer| !answer.is_empty()));
            }
        }
    }

    fn unreachable(&self, error: io::Error) -> Error {
        let (kind, step) = match error.kind() {
            io::ErrorKind::PermissionDenied => (
                ErrorKind::PermissionDenied,
                "run as root or in the group of the socket (`mode` and `group` of `stats socket` in HAProxy's configuration)",
            ),
            _ => (ErrorKind::Unavailable, "start HAProxy, or correct the path or address in the target; then run again"),
        };
        Error::new(kind, format!("HAProxy cannot be asked over {}", self.socket))
            .with_source(error)
            .with_retry(Retry::Later)
            .with_next_step(step)
    }

    fn not_admin(&self) -> Error {
        let message = format!("the socket {} may not change certificates", self.socket);
        Error::new(ErrorKind::PermissionDenied, message).with_next_step(
            "give it `level admin` in HAProxy's configuration (`stats socket ... level admin`) and reload HAProxy",
        )
    }

    fn unexpected(&self, command: &[&str], answer: &str) -> Error {
        let command = command.join(" ");
        Error::new(ErrorKind::ReloadFailed, format!("HAProxy answers `{command}` over {}: {}", self.socket, shortened(answer)))
    }
}

/// A command as HAProxy reads it: one line, in which a space, a semicolon and a backslash of an argument are escaped. The
/// payload ends with an empty line, so that it may have none.
fn request(command: &[&str], payload: Option<&SecretBytes>) -> SecretBytes {
    let escape = |word: &&str| word.replace('\\', r"\\").replace(' ', r"\ ").replace(';', r"\;");
    let line = command.iter().map(escape).collect::<Vec<_>>().join(" ");
    let pem = payload.map_or(&[][..], SecretBytes::expose);
    // The buffer never grows: growing would leave a copy of the key behind.
    let mut request = Vec::with_capacity(line.len() + pem.len() + 6);
    request.extend_from_slice(line.as_bytes());
    if payload.is_some() {
        request.extend_from_slice(b" <<\n");
        for line in pem.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
            request.extend_from_slice(line);
            request.push(b'\n');
        }
    }
    request.push(b'\n');
    SecretBytes::from(request)
}

/// What of an answer goes into an error: after an error HAProxy sometimes lists all its commands.
fn shortened(answer: &str) -> String {
    let said = answer.split("Unknown command.").next().filter(|said| !said.trim().is_empty()).unwrap_or(answer);
    let words = said.split_whitespace().collect::<Vec<_>>().join(" ");
    if words.is_empty() { "nothing".to_owned() } else { words.chars().take(400).collect() }
}

impl Socket {
    /// One connection: a request, and everything that comes back.
    async fn exchange(&self, request: &SecretBytes) -> io::Result<String> {
        let exchange = async {
            match self {
                Self::Tcp(address) => talk(TcpStream::connect(address).await?, request).await,
                Self::Unix(path) => talk(UnixStream::connect(path).await?, request).await,
            }
        };
        tokio::time::timeout(PATIENCE, exchange).await?
    }
}

/// HAProxy hangs up in the middle of what it cannot take; then whatever it said counts.
async fn talk(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &SecretBytes) -> io::Result<String> {
    let sent = async {
        stream.write_all(request.expose()).await?;
        // The master process goes on listening for more otherwise.
        stream.shutdown().await
    };
    unless_hung_up(sent.await)?;
    let mut answer = Vec::new();
    unless_hung_up(stream.take(ANSWER_LIMIT).read_to_end(&mut answer).await.map(drop))?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

fn unless_hung_up(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests;

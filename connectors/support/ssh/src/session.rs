//! One connection: the shell on the other side that answers requests, and the socket by which commands share it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deploy_core::command::{CommandError, PATH};
use deploy_core::host::{Conversation, Directory, Host as _, Local};
use deploy_core::{Error, ErrorKind};
use zeroize::Zeroizing;

use crate::answer::{self, Introduction};
use crate::quote::quote_in_line;
use crate::settings::SshSettings;

/// What the shell on the other side reads first.
const REMOTE: &str = include_str!("remote.sh");

/// How long an answer may take. The slowest is the sync of a file; a connection that is dead is given up earlier.
const PATIENCE: Duration = Duration::from_secs(60);

/// What may come before the introduction: start-up files of the login shell that print.
const NOISE: usize = 1000;

/// The longest answer but for the content of a file.
const ANSWER: usize = 16 << 20;

/// Login shells that take a line as POSIX says.
const POSIX_SHELLS: &[&str] =
    &["ash", "bash", "busybox", "dash", "ksh", "ksh93", "lksh", "mksh", "oksh", "rbash", "sh", "yash", "zsh"];

/// An open connection.
#[derive(Debug)]
pub(crate) struct Session {
    conversation: Option<Conversation>,
    number: u64,
    pub(crate) introduction: Introduction,
    pub(crate) control: Control,
}

/// A call of a function of remote.sh.
#[derive(Debug)]
pub(crate) struct Request<'a> {
    words: Vec<OsString>,
    after: Vec<OsString>,
    bytes: &'a [u8],
    limit: usize,
}

impl<'a> Request<'a> {
    /// In a directory, given as path and identity; or in none.
    pub(crate) fn in_directory(place: Option<(&Path, &str)>, call: &[&OsStr]) -> Self {
        Self::with_bytes(place, call, &[])
    }

    /// With bytes on its standard input.
    pub(crate) fn with_bytes(place: Option<(&Path, &str)>, call: &[&OsStr], bytes: &'a [u8]) -> Self {
        let (path, identity) = place.map_or((OsStr::new(""), ""), |(path, identity)| (path.as_os_str(), identity));
        let after = [OsString::from(bytes.len().to_string()), path.to_owned(), identity.into()].into_iter();
        let after = after.chain(call.iter().map(|&word| word.to_owned())).collect();
        Self { words: vec!["do_in".into()], after, bytes, limit: ANSWER }
    }

    /// From one directory to another.
    pub(crate) fn between(from: (&Path, &str), to: (&Path, &str), call: &[&OsStr]) -> Self {
        let places = [from.0.as_os_str(), OsStr::new(from.1), to.0.as_os_str(), OsStr::new(to.1)];
        let after = places.iter().chain(call).map(|&word| word.to_owned()).collect();
        Self { words: vec!["do_between".into()], after, bytes: &[], limit: ANSWER }
    }

    /// A function that answers itself.
    pub(crate) fn direct(function: &str, arguments: &[&OsStr]) -> Self {
        let after = arguments.iter().map(|&word| word.to_owned()).collect();
        Self { words: vec![function.into()], after, bytes: &[], limit: ANSWER }
    }

    /// With an answer that may have this many bytes of a file in it.
    pub(crate) fn reading(mut self, bytes: u64) -> Self {
        self.limit = usize::try_from(bytes).unwrap_or(usize::MAX).saturating_mul(2).saturating_add(ANSWER);
        self
    }

    fn line(&self, number: u64) -> Vec<u8> {
        let number = OsString::from(number.to_string());
        quote_in_line(self.words.iter().chain([&number]).chain(&self.after))
    }
}

/// What is answered: what was asked for, or the error that the system there gave.
pub(crate) type Answer = io::Result<Zeroizing<Vec<u8>>>;

impl Session {
    /// Connects, and starts the shell.
    pub(crate) fn open(settings: &SshSettings) -> Result<Self, Error> {
        let control = Control::new().map_err(|error| {
            Error::new(ErrorKind::Internal, "a private directory for the socket of ssh cannot be made in /tmp").with_source(error)
        })?;
        let mut options = control.options();
        options.insert(0, "ControlMaster=yes".to_owned());
        let command = settings.command_with(&options, first_line(settings));
        let mut conversation = Conversation::start(&command).map_err(not_started)?;
        let deadline = Instant::now() + settings.connect_timeout.duration() * 2 + Duration::from_secs(10);
        let introduction = conversation.say(REMOTE.as_bytes(), deadline).and_then(|()| introduction(&mut conversation, deadline));
        let introduction = introduction.map_err(|error| {
            // What it says comes with its end.
            let complaint = String::from_utf8_lossy(&conversation.complaint()).into_owned();
            settings.not_answered(&complaint, error)
        })?;
        acceptable(settings, &introduction)?;
        Ok(Self { conversation: Some(conversation), number: 0, introduction, control })
    }

    /// Asks all of these and then reads the answers: one trip for many requests. The outer error is that of the connection,
    /// of which nothing more can be expected then.
    pub(crate) fn ask_all(&mut self, requests: &[Request<'_>]) -> io::Result<Vec<Answer>> {
        let Some(conversation) = &mut self.conversation else { return Err(io::ErrorKind::NotConnected.into()) };
        let deadline = Instant::now() + PATIENCE;
        let first = self.number + 1;
        for (number, request) in (first..).zip(requests) {
            let mut line = request.line(number);
            line.push(b'\n');
            conversation.say(&line, deadline)?;
            conversation.say(request.bytes, deadline)?;
            self.number = number;
        }
        (first..).zip(requests).map(|(number, request)| answer_to(&conversation.line(request.limit, deadline)?, number)).collect()
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(conversation) = self.conversation.take() {
            conversation.end(Instant::now() + Duration::from_secs(2));
        }
    }
}

/// The answer with this number, or an error if it is another's.
fn answer_to(line: &[u8], number: u64) -> io::Result<Answer> {
    let mut parts = line.splitn(3, |byte| *byte == b' ');
    let (Some(found), Some(failed), Some(rest)) = (parts.next(), parts.next(), parts.next()) else {
        return Err(answer::nonsense("answer"));
    };
    if found != number.to_string().as_bytes() {
        return Err(answer::nonsense("answer to this question"));
    }
    match failed {
        b"0" => Ok(Ok(Zeroizing::new(rest.to_vec()))),
        b"1" => Ok(Err(answer::system_error(&answer::bytes(rest)?))),
        _ => Err(answer::nonsense("answer")),
    }
}

/// What the login shell is told: become a shell that reads the rest from us. In words that every shell takes for the same,
/// so that one that is none of POSIX's gets as far as saying which it is.
fn first_line(settings: &SshSettings) -> String {
    let sudo = if settings.sudo { "sudo -n -- " } else { "" };
    format!(
        "exec {sudo}/bin/sh -c 'PATH={PATH}; export PATH; eval \"$(dd bs={} count=1 iflag=fullblock 2>/dev/null)\"' certdeploy \"$SHELL\"",
        REMOTE.len()
    )
}

fn introduction(conversation: &mut Conversation, deadline: Instant) -> io::Result<Introduction> {
    for _ in 0..NOISE {
        let line = conversation.line(ANSWER, deadline)?;
        if let Some(rest) = line.strip_prefix(b"certdeploy ") {
            return Introduction::parse(rest).ok_or_else(|| answer::nonsense("introduction"));
        }
    }
    Err(answer::nonsense("introduction"))
}

/// Whether files can be deployed there.
fn acceptable(settings: &SshSettings, introduction: &Introduction) -> Result<(), Error> {
    let name = settings.name();
    let shell = Path::new(&introduction.login_shell);
    let refuse = |message: String, step: &str| Err(Error::new(ErrorKind::PlanInvalid, message).with_next_step(step));
    if introduction.system != "Linux" {
        let message = format!("{name} runs {}; files are deployed to Linux only", introduction.system);
        return refuse(message, "run certdeploy on that machine itself");
    }
    if !shell.file_name().is_some_and(|shell| POSIX_SHELLS.iter().any(|known| shell == *known)) {
        let message = format!("{name} logs in with {}, which is not known as a POSIX shell", shell.display());
        return refuse(message, "give that user /bin/sh as its login shell (chsh -s /bin/sh), or log in as another user");
    }
    if !introduction.missing.is_empty() {
        let message = format!("{name} lacks programs that are needed: {}", introduction.missing);
        return refuse(message, "install them: they are those of GNU coreutils, grep and util-linux, or of BusyBox");
    }
    Ok(())
}

fn not_started(error: CommandError) -> Error {
    Error::new(ErrorKind::ConfigurationInvalid, "ssh cannot be started")
        .with_source(error)
        .with_next_step("install openssh-client")
}

/// A private directory on this machine, for the socket by which commands share the connection. Who can write to that socket
/// can run commands on the other machine.
#[derive(Debug)]
pub(crate) struct Control {
    parent: Directory,
    name: OsString,
}

impl Control {
    const SOCKET: &str = "s";
    const PREFIX: &str = "certdeploy-ssh-";

    fn new() -> io::Result<Self> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let local = Local::new();
        let parent = local.open_directory(Path::new("/tmp"))?;
        Self::sweep(&local, &parent);
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let name = OsString::from(format!("{}{}-{number}", Self::PREFIX, std::process::id()));
            match local.create_child(&parent, &name) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                created => return created.map(|()| Self { parent, name }),
            }
        }
    }

    /// Removes what processes have left that were killed.
    fn sweep(local: &Local, parent: &Directory) {
        let of = |name: &OsString| name.to_str()?.strip_prefix(Self::PREFIX)?.split('-').next()?.parse().ok();
        for name in local.list(parent).unwrap_or_default() {
            if of(&name).is_some_and(|process| matches!(local.is_running(process), Ok(false))) {
                Self::remove(local, parent, &name);
            }
        }
    }

    /// What cannot be removed is somebody else's, or in use.
    fn remove(local: &Local, parent: &Directory, name: &OsStr) {
        let _left = local
            .open_child(parent, name)
            .and_then(|directory| local.unlink(&directory, OsStr::new(Self::SOCKET)))
            .and_then(|()| local.remove_child(parent, name));
    }

    fn directory(&self) -> PathBuf {
        self.parent.path().join(&self.name)
    }

    /// How `ssh` is told.
    pub(crate) fn options(&self) -> Vec<String> {
        vec![format!("ControlPath={}", self.directory().join(Self::SOCKET).display())]
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // `ssh` removes its socket, unless it was killed.
        Self::remove(&Local::new(), &self.parent, &self.name);
    }
}

/// A word that is in no other command line: for what has to be found again.
pub(crate) fn unique() -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let since = Local::new().now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    format!("certdeploy-{:x}-{:x}-{:x}", std::process::id(), since.as_nanos(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A name that can stand in one line after another's.
pub(crate) fn check_bytes(name: &OsStr) -> io::Result<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') || bytes.contains(&0) {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a single file name")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_process_left_is_removed_and_what_a_running_one_uses_is_not() {
        let local = Local::new();
        let parent = local.open_directory(Path::new("/tmp")).unwrap();
        // No process has this number: it is above what the kernel gives.
        let left = OsString::from(format!("{}{}-0", Control::PREFIX, 1_u32 << 30));
        local.create_child(&parent, &left).unwrap();
        let used = Control::new().unwrap();
        assert!(local.status(&parent, &left).unwrap().is_none());
        let _other = Control::new().unwrap();
        let status = local.status(&parent, &used.name).unwrap().unwrap();
        assert_eq!(status.mode, 0o700);
        let name = used.name.clone();
        drop(used);
        assert!(local.status(&parent, &name).unwrap().is_none());
    }
}

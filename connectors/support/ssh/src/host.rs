//! The host: every operation of [`Host`] as a request to the shell on the other side.

use std::any::Any;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};

use deploy_core::command::{Command, CommandError, CommandOutput, Limits};
use deploy_core::host::{
    Attributes, Directory, Facilities, FileKind, Host, Identity, Local, LockAttempt, Metadata, NewFile, Signal, Status, SyncPoint,
};
use deploy_core::secret::SecretBytes;
use deploy_core::staged_view::StagedView;
use deploy_core::{Error, Remote, Route, SettingError};
use zeroize::Zeroizing;

use crate::answer;
use crate::commands;
use crate::connection::Connection;
use crate::session::{Request, check_bytes};
use crate::settings::SshSettings;

/// How often a file that changes while it is read is read again.
const READ_ATTEMPTS: usize = 8;

/// A machine that is reached with the system's `ssh`. It connects when it is first needed, and again after the connection
/// was lost.
#[derive(Debug)]
pub struct Ssh {
    name: String,
    settings: SshSettings,
    connection: Arc<Connection>,
    /// How much its clock is ahead of ours, in seconds.
    ahead: AtomicI64,
}

/// What is behind a [`Directory`] of this host: device and inode, which it must still have when it is entered by its path.
struct Pin(String);

impl Ssh {
    /// A machine with these settings, which should have been checked. Does not connect.
    #[must_use]
    pub fn new(settings: SshSettings) -> Self {
        let connection = Arc::new(Connection::new(settings.clone()));
        Self { name: settings.name(), settings, connection, ahead: AtomicI64::new(0) }
    }

    fn ask(&self, request: Request<'_>) -> io::Result<Zeroizing<Vec<u8>>> {
        self.connection.ask(request)
    }

    /// A call in a directory.
    fn call(&self, directory: &Directory, call: &[&OsStr]) -> io::Result<Zeroizing<Vec<u8>>> {
        self.ask(Request::in_directory(Some(place(directory)?), call))
    }

    fn status_by(&self, place: Option<(&Path, &str)>, path: &OsStr) -> io::Result<Option<Status>> {
        found(self.ask(Request::in_directory(place, &[OsStr::new("status"), path])))?
            .map(|text| answer::status(&text))
            .transpose()
    }

    fn read_by(&self, place: Option<(&Path, &str)>, path: &OsStr, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        // One more byte than is allowed tells whether there are too many.
        let most = OsString::from(limit.saturating_add(1).to_string());
        for _ in 0..READ_ATTEMPTS {
            let request = Request::in_directory(place, &[OsStr::new("read_file"), path, &most]).reading(limit);
            let Some(text) = found(self.ask(request))? else { return Ok(None) };
            let end = text.iter().rposition(|byte| *byte == b'|').ok_or_else(|| answer::nonsense("file"))?;
            let (status, mut bytes) = (answer::status(&text[..end])?, answer::bytes(&text[end + 1..])?);
            if status.size > limit || bytes.len() as u64 > limit {
                let message = format!("is {} bytes long; at most {limit} are read", status.size.max(bytes.len() as u64));
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
            }
            if bytes.len() as u64 == status.size {
                return Ok(Some((SecretBytes::from(std::mem::take(&mut *bytes)), status)));
            }
        }
        Err(io::Error::new(io::ErrorKind::ResourceBusy, "kept changing while it was read"))
    }

    fn between(&self, function: &str, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        check_bytes(from.1)?;
        check_bytes(to.1)?;
        // Programs that rename copy where they cannot rename.
        if from.0.status().device != to.0.status().device {
            return Err(io::Error::new(io::ErrorKind::CrossesDevices, "the directories are on two file systems"));
        }
        let call = [OsStr::new(function), from.1, to.1];
        self.ask(Request::between(place(from.0)?, place(to.0)?, &call)).map(drop)
    }

    fn principal(&self, database: &str, name: &str) -> io::Result<Option<u32>> {
        if !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit()) {
            // The highest one means "leave as it is" to chown and is nobody's.
            return Ok(name.parse().ok().filter(|id| *id != u32::MAX));
        }
        let text = self.ask(Request::in_directory(None, &[OsStr::new("entry"), OsStr::new(database), OsStr::new(name)]))?;
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(|_| answer::nonsense("number")) }
    }
}

impl Route for Ssh {
    const KIND: &'static str = "ssh";
    const SUMMARY: &'static str =
        "with the system's ssh; the other side needs an SSH server, a POSIX shell and the usual programs";
    type Settings = SshSettings;

    fn build(settings: SshSettings) -> Result<Remote, SettingError> {
        settings.check()?;
        let state_directory = settings.state_dir.clone();
        Ok(Remote::new(Arc::new(Self::new(settings)), state_directory))
    }
}

impl Host for Ssh {
    fn name(&self) -> &str {
        &self.name
    }

    fn facilities(&self) -> Facilities {
        let mut facilities = Facilities::FULL;
        (facilities.staged_view, facilities.attributes) = (false, false);
        facilities
    }

    fn reach(&self) -> Result<(), Error> {
        let introduction = self.connection.reach()?;
        let ours = Local::new().now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let ahead = i64::try_from(introduction.time).unwrap_or_default() - i64::try_from(ours).unwrap_or_default();
        self.ahead.store(ahead, Ordering::Relaxed);
        Ok(())
    }

    fn identity(&self) -> io::Result<Identity> {
        Ok(self.connection.introduction()?.identity)
    }

    fn open_directory(&self, path: &Path) -> io::Result<Directory> {
        check_absolute(path)?;
        // With the dot the directory itself is meant, even by a path that is a link.
        let mut itself = path.as_os_str().to_owned();
        itself.push("/.");
        let text = self.ask(Request::in_directory(None, &[OsStr::new("status"), &itself]))?;
        pinned(path.to_owned(), answer::status(&text)?)
    }

    fn open_child(&self, parent: &Directory, name: &OsStr) -> io::Result<Directory> {
        check_bytes(name)?;
        let text = self.call(parent, &[OsStr::new("open_child"), name])?;
        pinned(parent.path().join(name), answer::status(&text)?)
    }

    fn create_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        check_bytes(name)?;
        self.call(parent, &[OsStr::new("mkdir"), OsStr::new("-m"), OsStr::new("700"), OsStr::new("--"), &here(name)]).map(drop)
    }

    fn set_directory_mode(&self, directory: &Directory, mode: u32) -> io::Result<()> {
        let mode = OsString::from(format!("{:o}", mode & 0o777));
        self.call(directory, &[OsStr::new("chmod"), OsStr::new("--"), &mode, OsStr::new(".")]).map(drop)
    }

    fn remove_child(&self, parent: &Directory, name: &OsStr) -> io::Result<()> {
        check_bytes(name)?;
        self.call(parent, &[OsStr::new("rmdir"), OsStr::new("--"), &here(name)]).map(drop)
    }

    fn list(&self, directory: &Directory) -> io::Result<Vec<OsString>> {
        answer::names(&self.call(directory, &[OsStr::new("list")])?)
    }

    fn path_status(&self, path: &Path) -> io::Result<Option<Status>> {
        check_absolute(path)?;
        self.status_by(None, path.as_os_str())
    }

    fn read_link(&self, directory: &Directory, name: &OsStr) -> io::Result<PathBuf> {
        check_bytes(name)?;
        let mut target = answer::bytes(&self.call(directory, &[OsStr::new("read_a_link"), name])?)?;
        Ok(OsString::from_vec(std::mem::take(&mut *target)).into())
    }

    fn status(&self, directory: &Directory, name: &OsStr) -> io::Result<Option<Status>> {
        check_bytes(name)?;
        self.status_by(Some(place(directory)?), &here(name))
    }

    fn read(&self, directory: &Directory, name: &OsStr, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        check_bytes(name)?;
        self.read_by(Some(place(directory)?), &here(name), limit)
    }

    fn read_path(&self, path: &Path, limit: u64) -> io::Result<Option<(SecretBytes, Status)>> {
        check_absolute(path)?;
        self.read_by(None, path.as_os_str(), limit)
    }

    /// None: see [`Host::facilities`].
    fn attributes(&self, directory: &Directory, name: &OsStr) -> io::Result<Attributes> {
        self.status(directory, name)?.map(|_| Attributes::new()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn create(&self, directory: &Directory, name: &OsStr, bytes: &[u8], metadata: &Metadata) -> io::Result<NewFile> {
        check_bytes(name)?;
        let [owner, mode] = words(metadata);
        let length = OsString::from(bytes.len().to_string());
        let call = [OsStr::new("create"), name, &owner, &mode, &length];
        let text = self.ask(Request::with_bytes(Some(place(directory)?), &call, bytes))?;
        let status = as_asked(answer::status(&text)?, metadata).inspect_err(|_| {
            // The first error is the one to report.
            let _left = self.unlink(directory, name);
        })?;
        Ok(NewFile::new(status, None))
    }

    fn overwrite(&self, directory: &Directory, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
        check_bytes(name)?;
        let length = OsString::from(bytes.len().to_string());
        let call = [OsStr::new("overwrite"), name, &length];
        self.ask(Request::with_bytes(Some(place(directory)?), &call, bytes)).map(drop)
    }

    fn set_metadata(&self, directory: &Directory, name: &OsStr, metadata: &Metadata) -> io::Result<Status> {
        check_bytes(name)?;
        let [owner, mode] = words(metadata);
        let text = self.call(directory, &[OsStr::new("set_metadata"), name, &owner, &mode])?;
        as_asked(answer::status(&text)?, metadata)
    }

    fn append(&self, directory: &Directory, name: &OsStr, bytes: &[u8], durable: bool) -> io::Result<()> {
        check_bytes(name)?;
        let call = [OsStr::new("append"), name, OsStr::new(if durable { "durable" } else { "" })];
        self.ask(Request::with_bytes(Some(place(directory)?), &call, bytes)).map(drop)
    }

    fn symlink(&self, directory: &Directory, name: &OsStr, target: &Path) -> io::Result<()> {
        check_bytes(name)?;
        self.call(directory, &[OsStr::new("make_link"), target.as_os_str(), name]).map(drop)
    }

    fn link(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.between("hard_link", from, to)
    }

    fn rename(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.between("rename", from, to)
    }

    fn rename_new(&self, from: (&Directory, &OsStr), to: (&Directory, &OsStr)) -> io::Result<()> {
        self.between("rename_new", from, to)
    }

    fn unlink(&self, directory: &Directory, name: &OsStr) -> io::Result<()> {
        check_bytes(name)?;
        self.call(directory, &[OsStr::new("rm"), OsStr::new("-f"), OsStr::new("--"), &here(name)]).map(drop)
    }

    fn sync(&self, round: &[SyncPoint]) -> io::Result<()> {
        let requests = round.iter().map(|point| {
            let (directory, what) = match point {
                SyncPoint::Directory(directory) => (directory, OsString::from(".")),
                SyncPoint::File(directory, name) => (directory, check_bytes(name).map(|()| here(name))?),
                _ => return Err(io::Error::new(io::ErrorKind::InvalidInput, "the file was created by another host")),
            };
            Ok(Request::in_directory(Some(place(directory)?), &[OsStr::new("sync"), OsStr::new("--"), &what]))
        });
        self.connection.ask_all(&requests.collect::<io::Result<Vec<_>>>()?)?.into_iter().try_for_each(|answer| answer.map(drop))
    }

    fn try_lock(&self, directory: &Directory, name: &OsStr, holder: &[u8]) -> io::Result<LockAttempt> {
        check_bytes(name)?;
        self.connection.try_lock(place(directory)?, &[name.to_owned()], holder)
    }

    fn try_lock_bytes(&self, directory: &Directory, name: &OsStr, positions: &BTreeSet<u64>) -> io::Result<LockAttempt> {
        check_bytes(name)?;
        let names: Vec<OsString> = positions
            .iter()
            .map(|position| {
                let mut byte = name.to_owned();
                byte.push(format!("/{position}"));
                byte
            })
            .collect();
        self.connection.try_lock(place(directory)?, &names, b"")
    }

    fn run(&self, command: &Command, view: Option<&StagedView>, limits: &Limits<'_>) -> Result<CommandOutput, CommandError> {
        if view.is_some() {
            return Err(no_view());
        }
        let control = self.connection.control().map_err(CommandError::Spawn)?;
        let ended = commands::run(&self.settings, &control, command, limits);
        if let Some(mark) = ended.alive {
            // Whether it could be ended or not, the caller hears that it did not end by itself.
            let _asked = self.ask(Request::in_directory(None, &[OsStr::new("end"), OsStr::new(&mark)]));
        }
        ended.outcome
    }

    fn shadow(
        &self,
        _: &Command,
        _: &StagedView,
        _: &Limits<'_>,
        _: &mut (dyn FnMut(&dyn Fn() -> bool) + Send),
    ) -> Result<CommandOutput, CommandError> {
        Err(no_view())
    }

    fn is_running(&self, process: u32) -> io::Result<bool> {
        let process = OsString::from(process.to_string());
        Ok(**self.ask(Request::in_directory(None, &[OsStr::new("running"), &process]))? == *b"yes")
    }

    fn signal(&self, process: u32, signal: Signal) -> io::Result<()> {
        if i32::try_from(process).ok().is_none_or(|process| process == 0) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a process number"));
        }
        let signal = match signal {
            Signal::Hup => "HUP",
            Signal::Term => "TERM",
            Signal::Usr1 => "USR1",
            Signal::Usr2 => "USR2",
            _ => return Err(io::ErrorKind::Unsupported.into()),
        };
        let process = OsString::from(process.to_string());
        self.ask(Request::in_directory(None, &[OsStr::new("kill"), OsStr::new("-s"), OsStr::new(signal), &process])).map(drop)
    }

    fn user_id(&self, name: &str) -> io::Result<Option<u32>> {
        self.principal("passwd", name)
    }

    fn group_id(&self, name: &str) -> io::Result<Option<u32>> {
        self.principal("group", name)
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(self.connection.introduction()?.boot_id)
    }

    fn now(&self) -> SystemTime {
        let ahead = self.ahead.load(Ordering::Relaxed);
        let difference = Duration::from_secs(ahead.unsigned_abs());
        let now = Local::new().now();
        if ahead < 0 { now - difference } else { now + difference }
    }
}

fn no_view() -> CommandError {
    let message = "private views are of the machine that certdeploy runs on";
    CommandError::View { step: "over ssh".to_owned(), source: io::Error::new(io::ErrorKind::Unsupported, message) }
}

fn pinned(path: PathBuf, status: Status) -> io::Result<Directory> {
    if status.kind != FileKind::Directory {
        return Err(io::ErrorKind::NotADirectory.into());
    }
    let pin = Pin(format!("{}:{}", status.device, status.inode));
    Ok(Directory::new(path, status, Arc::new(pin) as Arc<dyn Any + Send + Sync>))
}

/// Where a directory is, and what it has to be.
fn place(directory: &Directory) -> io::Result<(&Path, &str)> {
    let pin = directory.handle::<Pin>();
    let pin = pin.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the directory was opened by another host"))?;
    Ok((directory.path(), &pin.0))
}

/// A name that no program takes for an option.
fn here(name: &OsStr) -> OsString {
    OsString::from_vec([b"./", name.as_bytes()].concat())
}

fn words(metadata: &Metadata) -> [OsString; 2] {
    [format!("{}:{}", metadata.uid, metadata.gid).into(), format!("{:04o}", metadata.mode & 0o7777).into()]
}

fn as_asked(status: Status, wanted: &Metadata) -> io::Result<Status> {
    if (status.uid, status.gid, status.mode) == (wanted.uid, wanted.gid, wanted.mode & 0o7777) {
        return Ok(status);
    }
    Err(io::Error::other(format!(
        "the file system did not keep owner and mode: asked for {}:{} {:04o}, got {}:{} {:04o}",
        wanted.uid, wanted.gid, wanted.mode, status.uid, status.gid, status.mode
    )))
}

/// `None` for what does not exist.
fn found(answer: io::Result<Zeroizing<Vec<u8>>>) -> io::Result<Option<Zeroizing<Vec<u8>>>> {
    match answer {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

fn check_absolute(path: &Path) -> io::Result<()> {
    if path.is_absolute() && !path.as_os_str().as_bytes().contains(&0) {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not an absolute path", path.display())))
}

//! The write-ahead record of one deployment.
//!
//! A text file that a person can read in an incident: the magic `CDJ1`, then lines `<hex16> <number> <KIND> <json>`. Each
//! `hex16` is the start of the SHA-256 of the one before it and the rest of its line, so that a line that is
//! torn or foreign is never believed. What is old and what is new is recorded by digest; key material never is. When a
//! deployment is acknowledged, its journal moves to the sets and becomes the manifest of what can be rolled back to: that
//! rename is the commit.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::digest::{hex, sha256_of_parts};
use crate::error::{Error, ErrorKind};
use crate::host::{Directory, Host, Signal};
use crate::plan::Role;
use crate::probe::Endpoint;
use crate::report::Rung;
use crate::state::invalid;
use crate::vault::HIDDEN;

const MAGIC: &str = "CDJ1\n";
const SIZE_LIMIT: u64 = 64 << 20;

/// What a deployment set out to do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Begin {
    pub(crate) id: u64,
    pub(crate) boot: String,
    pub(crate) process: u32,
    /// Seconds since 1970.
    pub(crate) started: u64,
    pub(crate) validated: Rung,
    pub(crate) members: Vec<Member>,
    pub(crate) files: Vec<FileRecord>,
}

/// One target of the deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) target: String,
    /// Digest of its plan's paths and contents.
    pub(crate) plan: String,
    pub(crate) backups: usize,
    pub(crate) old_leaf: Option<String>,
    pub(crate) new_leaf: Option<String>,
    /// For the case that the target is no longer configured when recovery needs its hooks.
    pub(crate) reload: RecordedReload,
    pub(crate) restart: Option<Vec<EncodedPath>>,
    pub(crate) verify: Vec<Endpoint>,
    /// What each endpoint served before.
    pub(crate) baseline: Vec<Option<String>>,
    /// The set that this deployment goes back to, if an operator asked for that.
    pub(crate) hold: Option<crate::state::Hold>,
    /// The marker of the state before; comes back with it.
    pub(crate) before: Option<crate::state::Marker>,
}

/// A reload as far as it can be written down.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum RecordedReload {
    None,
    Call,
    Command(Vec<EncodedPath>),
    Signal { signal: Signal, pid_file: EncodedPath },
    Steps(Vec<Self>),
}

/// One file of the deployment; unchanged ones are recorded too, so that a set is complete.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct FileRecord {
    /// Index of its target.
    pub(crate) member: usize,
    pub(crate) role: Role,
    /// The path in the plan.
    pub(crate) path: EncodedPath,
    /// The directory that really holds it, and its device and inode.
    pub(crate) directory: EncodedPath,
    pub(crate) directory_id: (u64, u64),
    pub(crate) name: EncodedPath,
    /// The target's own directory in `.certdeploy`, where `staged` and `backup` are.
    pub(crate) hidden: String,
    pub(crate) staged: Option<String>,
    pub(crate) backup: Option<String>,
    /// The name was a symbolic link, which the plan replaces.
    pub(crate) old_is_link: bool,
    /// `None`: did not exist.
    pub(crate) old: Option<Facts>,
    /// `None`: is not to exist. For an unchanged file the same as `old`.
    pub(crate) new: Option<Facts>,
    pub(crate) changes: bool,
    /// The new bytes are written over the old ones; the backup is a copy, and the staged file stays until they are on the medium.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) in_place: bool,
    /// In the layout `generation`. Then `directory` is that of the generations, and the backup is the file of that name in
    /// the old one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) generation: Option<GenerationRecord>,
}

/// The generations that a file changes between.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GenerationRecord {
    /// Device and inode of what the directory of the generations is in: it is locked by that and its name.
    pub(crate) parent_id: (u64, u64),
    /// `None`: there was none.
    pub(crate) old: Option<String>,
    pub(crate) new: String,
}

/// What is needed to recognise a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Facts {
    pub(crate) sha256: String,
    pub(crate) inode: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
}

/// A path or name as text where it is UTF-8, as Base64 with a tag where it is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EncodedPath(pub(crate) OsString);

impl EncodedPath {
    pub(crate) fn path(&self) -> &Path {
        Path::new(&self.0)
    }
}

impl From<&OsStr> for EncodedPath {
    fn from(name: &OsStr) -> Self {
        Self(name.to_owned())
    }
}

impl From<&Path> for EncodedPath {
    fn from(path: &Path) -> Self {
        Self(path.as_os_str().to_owned())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Encoded {
    Text(String),
    Bytes { base64: String },
}

impl Serialize for EncodedPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => serializer.serialize_str(text),
            None => Encoded::Bytes { base64: BASE64.encode(self.0.as_bytes()) }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for EncodedPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Encoded::deserialize(deserializer)? {
            Encoded::Text(text) => Ok(Self(text.into())),
            Encoded::Bytes { base64 } => {
                BASE64.decode(base64).map(|bytes| Self(OsString::from_vec(bytes))).map_err(serde::de::Error::custom)
            }
        }
    }
}

/// A journal file, as far as it can be believed.
#[derive(Clone, Debug)]
pub(crate) struct Journal {
    /// Its name in the journal directory.
    pub(crate) file: OsString,
    /// `None`: torn before the first line was complete, so that nothing was switched.
    pub(crate) begin: Option<Begin>,
    /// The way back was begun.
    pub(crate) rollback: bool,
    /// A person has to decide.
    pub(crate) conflict: bool,
    chain: String,
    lines: u64,
    /// The file ends in the middle of a line.
    torn: bool,
}

impl Journal {
    /// Writes the first line of a new journal. Not durable before the next round of syncs.
    pub(crate) fn create(host: &dyn Host, directory: &Directory, begin: &Begin) -> io::Result<Self> {
        let mut journal = Self {
            file: file_name(begin),
            begin: Some(begin.clone()),
            rollback: false,
            conflict: false,
            chain: String::new(),
            lines: 0,
            torn: false,
        };
        let line = journal.line("BEGIN", &serde_json::to_string(begin)?);
        if let Err(error) = host.append(directory, &journal.file, format!("{MAGIC}{line}").as_bytes(), false) {
            // A part of it may be there. The first error is the one to report.
            let _swept_by_recovery = host.unlink(directory, &journal.file);
            return Err(error);
        }
        Ok(journal)
    }

    /// Records that the way back begins; on the medium when it returns.
    pub(crate) fn record_rollback(&mut self, host: &dyn Host, directory: &Directory, reason: &str) -> io::Result<()> {
        if self.rollback {
            return Ok(());
        }
        let line = self.line("ROLLBACK", &serde_json::json!({ "reason": reason }).to_string());
        self.rollback = true;
        host.append(directory, &self.file, line.as_bytes(), true)
    }

    /// Records that a person has to decide.
    pub(crate) fn record_conflict(&mut self, host: &dyn Host, directory: &Directory, reason: &str) -> io::Result<()> {
        if self.conflict {
            return Ok(());
        }
        let line = self.line("CONFLICT", &serde_json::json!({ "reason": reason }).to_string());
        self.conflict = true;
        host.append(directory, &self.file, line.as_bytes(), false)
    }

    /// The targets that it was for; of a torn one as its name says.
    pub(crate) fn targets(&self) -> Vec<String> {
        match &self.begin {
            Some(begin) => begin.members.iter().map(|member| member.target.clone()).collect(),
            None => target_of(&self.file).into_iter().collect(),
        }
    }

    fn line(&mut self, kind: &str, json: &str) -> String {
        let rest = format!("{} {kind} {json}", self.lines);
        self.chain = chain(&self.chain, &rest);
        self.lines += 1;
        let separator = if std::mem::take(&mut self.torn) { "\n" } else { "" };
        format!("{separator}{} {rest}\n", self.chain)
    }
}

/// What the journal of a deployment is called.
pub(crate) fn file_name(begin: &Begin) -> OsString {
    let target = begin.members.first().map_or("", |member| &member.target);
    format!("{target}-{:08}.jnl", begin.id).into()
}

/// The names of all journals of a state directory, in order.
pub(crate) fn names(host: &dyn Host, directory: &Directory) -> Result<Vec<OsString>, Error> {
    let mut names = host.list(directory).map_err(|error| invalid(directory.path(), "cannot be listed", error))?;
    names.retain(|name| name.as_bytes().ends_with(b".jnl"));
    names.sort();
    Ok(names)
}

/// All journals of a state directory, by name.
pub(crate) fn read_all(host: &dyn Host, directory: &Directory) -> Result<Vec<Journal>, Error> {
    names(host, directory)?.iter().filter_map(|name| read(host, directory, name).transpose()).collect()
}

/// One journal or set; `None` if it is gone.
pub(crate) fn read(host: &dyn Host, directory: &Directory, name: &OsStr) -> Result<Option<Journal>, Error> {
    let path = directory.path().join(name);
    let Some((bytes, _)) = host.read(directory, name, SIZE_LIMIT).map_err(|error| invalid(&path, "cannot be read", error))?
    else {
        return Ok(None);
    };
    parse(name, bytes.expose()).map(Some).map_err(|problem| {
        Error::new(ErrorKind::StateInvalid, format!("{} {problem}", path.display()))
            .with_next_step("leave it alone and run the version of the program that wrote it")
    })
}

/// The first target of a journal, as its name says.
pub(crate) fn target_of(name: &OsStr) -> Option<String> {
    let name = name.to_string_lossy();
    name.strip_suffix(".jnl").and_then(|stem| stem.rsplit_once('-')).map(|(target, _)| target.to_owned())
}

fn parse(name: &OsStr, bytes: &[u8]) -> Result<Journal, &'static str> {
    let mut journal = Journal {
        file: name.to_owned(),
        begin: None,
        rollback: false,
        conflict: false,
        chain: String::new(),
        lines: 0,
        torn: false,
    };
    let Some(body) = bytes.strip_prefix(MAGIC.as_bytes()) else {
        // Before it is synced, a file can have the length of a journal and show what its blocks held before.
        let torn = MAGIC.as_bytes().starts_with(bytes) || !bytes.starts_with(&MAGIC.as_bytes()[..3]);
        return if torn { Ok(journal) } else { Err("is a journal of a version that this program does not know") };
    };
    journal.torn = !body.ends_with(b"\n");
    for line in body.split_inclusive(|&byte| byte == b'\n') {
        let Some((kind, json)) = believe(&mut journal, line) else { continue };
        match kind.as_str() {
            "BEGIN" => match serde_json::from_str::<Begin>(&json) {
                Ok(begin) if begin.is_consistent() => journal.begin = Some(begin),
                _ => return Err("has a first line that this program does not understand"),
            },
            "ROLLBACK" => journal.rollback = true,
            "CONFLICT" => journal.conflict = true,
            _ => {}
        }
    }
    Ok(journal)
}

/// Kind and content of a line that is whole and in its place.
fn believe(journal: &mut Journal, line: &[u8]) -> Option<(String, String)> {
    let line = std::str::from_utf8(line.strip_suffix(b"\n")?).ok()?;
    let (check, rest) = line.split_once(' ')?;
    let mut parts = rest.splitn(3, ' ');
    let number: u64 = parts.next()?.parse().ok()?;
    let (kind, json) = (parts.next()?, parts.next()?);
    if number != journal.lines || chain(&journal.chain, rest) != check {
        return None;
    }
    check.clone_into(&mut journal.chain);
    journal.lines += 1;
    Some((kind.to_owned(), json.to_owned()))
}

fn chain(previous: &str, rest: &str) -> String {
    hex(&sha256_of_parts([previous.as_bytes(), rest.as_bytes()])[..8])
}

impl Begin {
    /// Every file belongs to a target, and every name is one.
    fn is_consistent(&self) -> bool {
        let is_name = |name: &OsStr| Path::new(name).file_name() == Some(name);
        let files_fit = self.files.iter().all(|file| {
            let generation = file.generation.as_ref();
            let generations = [generation.map(|generation| &generation.new), generation.and_then(|it| it.old.as_ref())];
            let texts = [Some(&file.hidden), file.staged.as_ref(), file.backup.as_ref()].into_iter().chain(generations);
            file.member < self.members.len() && is_name(&file.name.0) && texts.flatten().all(|text| is_name(OsStr::new(text)))
        });
        !self.members.is_empty() && files_fit
    }
}

impl FileRecord {
    pub(crate) fn real_path(&self) -> PathBuf {
        match self.generation {
            Some(_) => self.path.path().to_owned(),
            None => self.directory.path().join(&self.name.0),
        }
    }

    /// Whether the file that is written has the bytes of the one before: it is written for somebody who watches it, or for its
    /// owner and mode.
    pub(crate) fn keeps_its_bytes(&self) -> bool {
        let digest = |facts: &Option<Facts>| facts.as_ref().map(|facts| facts.sha256.clone());
        self.old.is_some() && digest(&self.old) == digest(&self.new)
    }

    /// What its backup is called, if it has one.
    pub(crate) fn backup_name(&self) -> Option<&OsStr> {
        let backup = self.backup.as_deref().map(OsStr::new);
        backup.map(|backup| if self.generation.is_some() { &*self.name.0 } else { backup })
    }

    /// The directory of its backup.
    pub(crate) fn backup_directory(&self) -> PathBuf {
        match &self.generation {
            Some(generation) => self.directory.path().join(generation.old.as_deref().unwrap_or_default()),
            None => self.directory.path().join(HIDDEN).join(&self.hidden),
        }
    }

    /// What it is locked by: a directory and a name.
    pub(crate) fn lock(&self) -> ((u64, u64), &OsStr) {
        match &self.generation {
            Some(generation) => (generation.parent_id, self.directory.path().file_name().unwrap_or_default()),
            None => (self.directory_id, &self.name.0),
        }
    }
}

#[cfg(test)]
mod tests;

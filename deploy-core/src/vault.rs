//! The hidden 0700 directory beside each destination: `.certdeploy/<target>-<hash>/`, with staged files and backups.
//!
//! It lies on the destination's file system, so that names can be linked and renamed between them, and is invisible to
//! servers that load whole directories. One `.certdeploy` has one owner: a user and a state directory, written inside.

use std::ffi::OsStr;
use std::io;

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::digest::{hex, sha256_of_parts};
use crate::error::{Error, ErrorKind};
use crate::host::{Directory, Host, Identity, Metadata, SyncPoint};
use crate::journal::EncodedPath;
use crate::secret::SecretBytes;

pub(crate) const HIDDEN: &str = ".certdeploy";
const OWNER: &str = "owner";
/// The owner file of a directory of generations before it is whole.
const CLAIM: &str = "owner.new";

/// Who a `.certdeploy` belongs to.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Owner {
    uid: u32,
    state_directory: EncodedPath,
    /// The directory around it is for the generations of this target, and for nothing else.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    generations_of: Option<String>,
}

impl Owner {
    fn new(context: &Context, us: &Identity, generations_of: Option<&str>) -> Self {
        let state_directory = context.state_directory().into();
        Self { uid: us.uid, state_directory, generations_of: generations_of.map(str::to_owned) }
    }
}

/// The name of a target's own directory: unique for the state directory, readable in an incident.
pub(crate) fn target_directory(context: &Context, target: &str) -> String {
    let digest = sha256_of_parts([context.state_directory().as_os_str().as_encoded_bytes(), target.as_bytes()]);
    format!("{target}-{}", hex(&digest[..4]))
}

/// Opens the target's own directory beside a destination; `None` if there is none yet.
pub(crate) fn open(host: &dyn Host, us: &Identity, parent: &Directory, target: &str) -> Result<Option<Directory>, Error> {
    let hidden = match host.open_child(parent, OsStr::new(HIDDEN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(|error| unusable(parent, error))?,
    };
    check(&hidden, us, parent)?;
    match host.open_child(&hidden, OsStr::new(target)) {
        Ok(directory) => check(&directory, us, parent).map(|()| Some(directory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(parent, error)),
    }
}

/// The directories of all targets of this state directory beside a destination.
pub(crate) fn all(context: &Context, us: &Identity, parent: &Directory) -> Result<Vec<(String, Directory)>, Error> {
    let host = context.host();
    let hidden = match host.open_child(parent, OsStr::new(HIDDEN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        opened => opened.map_err(|error| unusable(parent, error))?,
    };
    check(&hidden, us, parent)?;
    let mut found = Vec::new();
    for name in host.list(&hidden).map_err(|error| unusable(parent, error))? {
        let target = name.to_str().and_then(|name| name.rsplit_once('-')).map(|(target, _)| target.to_owned());
        let Some(target) = target.filter(|target| name.as_os_str() == OsStr::new(&target_directory(context, target))) else {
            continue;
        };
        let directory = host.open_child(&hidden, &name).map_err(|error| unusable(parent, error))?;
        check(&directory, us, parent)?;
        found.push((target, directory));
    }
    Ok(found)
}

/// Opens or creates it. Comes with what has to be synced so that it lasts, if that was never done.
pub(crate) fn open_or_create(
    context: &Context,
    us: &Identity,
    parent: &Directory,
    target: &str,
) -> Result<(Directory, [SyncPoint; 3]), Error> {
    let host = context.host();
    let open = |outer: &Directory, name: &str| -> Result<Directory, Error> {
        let opened = crate::state::open_or_create_child(host, outer, OsStr::new(name), &mut false);
        let directory = opened.map_err(|error| unusable(parent, error))?;
        check(&directory, us, parent).map(|()| directory)
    };
    let hidden = open(parent, HIDDEN)?;
    let directory = open(&hidden, target)?;
    // In the target's own directory, where the next run sweeps it if this one dies.
    claim(context, us, &hidden, (&directory, OsStr::new(OWNER)), &Owner::new(context, us, None)).inspect_err(|_| {
        let _not_empty = host.remove_child(&hidden, OsStr::new(target));
    })?;
    let owner = SyncPoint::File(hidden.clone(), OWNER.into());
    Ok((directory, [owner, SyncPoint::Directory(hidden), SyncPoint::Directory(parent.clone())]))
}

/// Whether a directory is marked as that of this target's generations; an error if it is somebody else's.
pub(crate) fn is_claimed(context: &Context, us: &Identity, directory: &Directory, target: &str) -> Result<bool, Error> {
    let host = context.host();
    let hidden = match host.open_child(directory, OsStr::new(HIDDEN)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened.map_err(|error| unusable(directory, error))?,
    };
    check(&hidden, us, directory)?;
    match written(host, &hidden).map_err(|error| unusable(directory, error))? {
        Some(bytes) => is_ours(&Owner::new(context, us, Some(target)), bytes.expose(), &hidden).map(|()| true),
        None => Ok(false),
    }
}

/// Marks a directory as that of this target's generations, or checks that it is. What has to be synced so that a new mark
/// lasts is added to `round`.
pub(crate) fn claim_for_generations(
    context: &Context,
    us: &Identity,
    directory: &Directory,
    target: &str,
    round: &mut Vec<SyncPoint>,
) -> Result<(), Error> {
    let failed = |error| unusable(directory, error);
    let hidden = crate::state::open_or_create_child(context.host(), directory, OsStr::new(HIDDEN), &mut false).map_err(failed)?;
    check(&hidden, us, directory)?;
    let temporary = (&hidden, OsStr::new(CLAIM));
    claim(context, us, &hidden, temporary, &Owner::new(context, us, Some(target)))?;
    // Nobody else sweeps here, and a power cut can leave the rename of it half done.
    context.host().unlink(temporary.0, temporary.1).map_err(failed)?;
    round.push(SyncPoint::File(hidden.clone(), OWNER.into()));
    round.push(SyncPoint::Directory(hidden));
    Ok(())
}

/// Writes who it belongs to, or checks that it is us. Another target may be doing the same right now, so that the file
/// appears whole or not at all, and is never taken away.
fn claim(
    context: &Context,
    us: &Identity,
    hidden: &Directory,
    temporary: (&Directory, &OsStr),
    ours: &Owner,
) -> Result<(), Error> {
    let host = context.host();
    let path = hidden.path().join(OWNER);
    let failed = |error: io::Error| {
        Error::new(ErrorKind::StageFailed, format!("{} cannot be read or written", path.display()))
            .with_next_step(crate::engine::advice(&error, hidden.path()))
            .with_source(error)
    };
    let owner = OsStr::new(OWNER);
    if let Some(bytes) = written(host, hidden).map_err(failed)? {
        return is_ours(ours, bytes.expose(), hidden);
    }
    host.unlink(temporary.0, temporary.1).map_err(failed)?;
    let bytes = serde_json::to_vec(ours).map_err(|error| failed(error.into()))?;
    host.create(temporary.0, temporary.1, &bytes, &Metadata::new(us.uid, us.gid, 0o600)).map_err(failed)?;
    let claimed = match host.rename_new(temporary, (hidden, owner)) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match written(host, hidden).map_err(failed)? {
            Some(bytes) => is_ours(ours, bytes.expose(), hidden),
            None => host.rename(temporary, (hidden, owner)).map_err(failed),
        },
        renamed => renamed.map_err(failed),
    };
    host.unlink(temporary.0, temporary.1).map_err(failed)?;
    claimed
}

/// What the owner file says, if it says anything: a power failure before it was ever synced empties it, or leaves zeros.
fn written(host: &dyn Host, hidden: &Directory) -> io::Result<Option<SecretBytes>> {
    let read = host.read(hidden, OsStr::new(OWNER), 64 << 10)?;
    Ok(read.map(|(bytes, _)| bytes).filter(|bytes| !bytes.is_empty() && !bytes.expose().contains(&0)))
}

fn is_ours(ours: &Owner, bytes: &[u8], hidden: &Directory) -> Result<(), Error> {
    match serde_json::from_slice::<Owner>(bytes) {
        Ok(owner) if owner == *ours => Ok(()),
        Ok(owner) => {
            let purpose = match &owner.generations_of {
                Some(target) => format!(", for the generations of the target {target} alone"),
                None if ours.generations_of.is_some() => ", for single files".to_owned(),
                None => String::new(),
            };
            Err(Error::new(
                ErrorKind::Conflict,
                format!(
                    "{} belongs to user {} with the state directory {}{purpose}",
                    hidden.path().display(),
                    owner.uid,
                    owner.state_directory.path().display()
                ),
            )
            .with_next_step(if purpose.is_empty() {
                "deploy with that user and --state-dir, or remove the hidden directory if they are gone for good"
            } else {
                "name another directory, or remove the hidden directory if nothing needs it any more"
            }))
        }
        Err(error) => {
            let path = hidden.path().join(OWNER);
            Err(Error::new(ErrorKind::Conflict, format!("{} is not of this program", path.display()))
                .with_source(error)
                .with_next_step("find out who made it; remove the hidden directory if nobody needs it"))
        }
    }
}

/// It must be ours, private, and on the destination's file system.
fn check(hidden: &Directory, us: &Identity, parent: &Directory) -> Result<(), Error> {
    let status = hidden.status();
    if status.uid == us.uid && status.mode & 0o077 == 0 && status.device == parent.status().device {
        return Ok(());
    }
    Err(Error::new(
        ErrorKind::Conflict,
        format!(
            "{} must belong to user {}, have mode 0700 and be on its parent's file system; it belongs to user {} and has mode {:04o}",
            hidden.path().display(),
            us.uid,
            status.uid,
            status.mode
        ),
    )
    .with_next_step("find out who made it; remove it if nobody needs it"))
}

fn unusable(parent: &Directory, error: io::Error) -> Error {
    let path = parent.path().join(HIDDEN);
    Error::new(ErrorKind::StageFailed, format!("{} cannot be opened or created", path.display()))
        .with_next_step(crate::engine::advice(&error, parent.path()))
        .with_source(error)
}

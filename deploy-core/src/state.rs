//! The state directory: locks, journals, markers, the sets that can be rolled back to, history.

use std::cell::OnceCell;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::host::{Directory, Host, SyncPoint};

/// The directory of everything that is kept for a target.
pub(crate) const TARGETS: &str = "targets";

const READ_LIMIT: u64 = 16 << 20;

/// The opened state directory.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) root: Directory,
    pub(crate) journal: Directory,
    /// Of each target: its lock, its marker, its sets.
    pub(crate) targets: Directory,
}

impl State {
    /// Opens it, and creates what is missing.
    pub(crate) fn open(context: &Context) -> Result<Self, Error> {
        let host = context.host();
        let path = context.state_directory();
        let root = open_or_create_path(host, path).map_err(|error| invalid(path, "cannot be opened or created", error))?;
        let us = host.identity().map_err(|error| invalid(path, "is of no use without knowing who we are", error))?;
        if root.status().uid != us.uid || root.status().mode & 0o022 != 0 {
            return Err(Error::new(
                ErrorKind::StateInvalid,
                format!("the state directory {} must belong to user {} and be writable by nobody else", path.display(), us.uid),
            )
            .with_next_step(format!("chown {} {0} && chmod 700 {0}, or choose another with --state-dir", path.display())));
        }
        let mut created = false;
        let mut child = |name: &str| {
            open_or_create_child(host, &root, OsStr::new(name), &mut created)
                .map_err(|error| invalid(&path.join(name), "cannot be opened or created", error))
        };
        let (journal, targets) = (child("journal")?, child(TARGETS)?);
        if created {
            host.sync(&[SyncPoint::Directory(root.clone())]).map_err(|error| invalid(path, "cannot be made durable", error))?;
        }
        Ok(Self { root, journal, targets })
    }

    /// Puts the directory, and what [`State::open`] made in it, onto the medium: a run that made it may have been killed before
    /// it could.
    pub(crate) fn make_durable(&self, host: &dyn Host) -> Result<(), Error> {
        let failed = |error| invalid(self.root.path(), "cannot be made durable", error);
        host.sync(&[SyncPoint::Directory(self.root.clone())]).map_err(failed)?;
        let Some(parent) = self.root.path().parent() else { return Ok(()) };
        match host.open_directory(parent).and_then(|parent| host.sync(&[SyncPoint::Directory(parent)])) {
            // Whoever may not look into it has not made the directory in it, either.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
            synced => synced.map_err(failed),
        }
    }

    /// Where the mount point of private views is; created if needed.
    pub(crate) fn view(&self, host: &dyn Host) -> io::Result<PathBuf> {
        let name = OsStr::new("view");
        open_or_create_child(host, &self.root, name, &mut false).map(|_| self.root.path().join(name))
    }

    /// Takes the whole directory away again, if nothing was written to it.
    pub(crate) fn remove(&self, host: &dyn Host) {
        for name in [TARGETS, "journal", "view"] {
            let _not_empty = host.remove_child(&self.root, OsStr::new(name));
        }
        let (Some(parent), Some(name)) = (self.root.path().parent(), self.root.path().file_name()) else { return };
        let _not_empty = host.open_directory(parent).and_then(|parent| host.remove_child(&parent, name));
    }

    /// The sets of a target that are there, the oldest first: for when the marker, which knows them, is lost.
    pub(crate) fn sets_of(&self, host: &dyn Host, target: &str) -> Result<Vec<u64>, Error> {
        let names = host.list(&self.targets).map_err(|error| invalid(self.targets.path(), "cannot be listed", error))?;
        let prefix = format!("{target}-");
        let id = |name: &OsString| name.to_str()?.strip_prefix(&prefix)?.strip_suffix(".set")?.parse().ok();
        let mut ids: Vec<u64> = names.iter().filter_map(id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    pub(crate) fn write_marker(&self, host: &dyn Host, target: &str, marker: &Marker) -> io::Result<()> {
        let (name, temporary) = (format!("{target}.json"), format!(".{target}.new"));
        let bytes = serde_json::to_vec_pretty(marker)?;
        let temporary = OsStr::new(&temporary);
        // A run that was killed may have left one, to which this would be added.
        host.unlink(&self.targets, temporary)?;
        let written = host
            .append(&self.targets, temporary, &bytes, false)
            .and_then(|()| host.rename((&self.targets, temporary), (&self.targets, OsStr::new(&name))));
        if written.is_err() {
            // The first error is the one to report.
            let _removed_by_the_next = host.unlink(&self.targets, temporary);
        }
        written
    }

    pub(crate) fn remove_marker(&self, host: &dyn Host, target: &str) -> io::Result<()> {
        host.unlink(&self.targets, OsStr::new(&format!("{target}.json")))
    }
}

/// The state directory of one run: opened when it is first needed, if it is.
#[derive(Debug, Default)]
pub(crate) struct LazyState(OnceCell<State>);

impl LazyState {
    pub(crate) fn open(&self, context: &Context) -> Result<&State, Error> {
        if let Some(state) = self.0.get() {
            return Ok(state);
        }
        let state = State::open(context)?;
        Ok(self.0.get_or_init(|| state))
    }
}

/// What is known about the last success of a target. Losing it costs one reload, so it is written atomically but not synced.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Marker {
    /// Format of this file.
    pub(crate) version: u32,
    /// Digest of paths and contents of the plan.
    pub(crate) plan: String,
    /// The leaf, where the plan has one.
    pub(crate) leaf: Option<String>,
    /// The target took up the files.
    pub(crate) reloaded: bool,
    /// How that was seen.
    pub(crate) verified: Verified,
    /// The number of the last deployment.
    pub(crate) sequence: u64,
    /// The deployments whose state before can be brought back, the oldest first.
    pub(crate) sets: Vec<u64>,
    /// What the operator rolled back from.
    pub(crate) hold: Option<Hold>,
    /// An old generation may still be open to its readers, and is to be closed when its time has come.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) open: bool,
    /// What a push wants to know again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) note: Option<String>,
    /// The file that it was read from: inode and time of its last change.
    #[serde(skip)]
    pub(crate) at: Option<(u64, i128)>,
}

/// How a success was seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verified {
    /// On the wire.
    Seen,
    /// The configuration says that nobody can look.
    Waived,
    /// Nobody looked.
    #[default]
    Nobody,
}

/// What the operator rolled back from: not deployed again until the source changes or `--force`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hold {
    pub(crate) plan: String,
    pub(crate) leaf: Option<String>,
}

/// Reads a target's marker without opening anything else. An unreadable or unknown one counts as lost.
pub(crate) fn read_marker(context: &Context, target: &str) -> Result<Option<Marker>, Error> {
    let path = marker_path(context, target);
    let read = match context.host().read_path(&path, READ_LIMIT) {
        Ok(read) => read,
        Err(error) if error.kind() == io::ErrorKind::NotADirectory => None,
        Err(error) => return Err(invalid(&path, "cannot be read", error)),
    };
    let Some((bytes, status)) = read else { return Ok(None) };
    let marker = serde_json::from_slice::<Marker>(bytes.expose()).ok();
    let marker = marker.filter(|marker| marker.version == Marker::VERSION);
    Ok(marker.map(|marker| Marker { at: Some((status.inode, status.modified)), ..marker }))
}

/// The marker as it is now, given what was read before: one look where nothing has changed.
pub(crate) fn read_marker_again(context: &Context, target: &str, before: Option<Marker>) -> Result<Option<Marker>, Error> {
    let path = marker_path(context, target);
    let status = context.host().path_status(&path).map_err(|error| invalid(&path, "cannot be looked at", error))?;
    let now = status.map(|status| (status.inode, status.modified));
    if before.as_ref().and_then(|marker| marker.at) == now { Ok(before) } else { read_marker(context, target) }
}

fn marker_path(context: &Context, target: &str) -> PathBuf {
    context.state_directory().join(TARGETS).join(format!("{target}.json"))
}

impl Marker {
    pub(crate) const VERSION: u32 = 1;

    /// Nothing is owed for this digest.
    pub(crate) fn settles(&self, plan: &str) -> bool {
        self.plan == plan && self.reloaded
    }
}

pub(crate) fn invalid(path: &Path, problem: &str, error: io::Error) -> Error {
    Error::new(ErrorKind::StateInvalid, format!("{} {problem}", path.display()))
        .with_source(error)
        .with_next_step("check the owner, the mode and the free space of the state directory")
}

/// Opens a directory inside another and creates it if needed; sets `created` if it did.
pub(crate) fn open_or_create_child(
    host: &dyn Host,
    parent: &Directory,
    name: &OsStr,
    created: &mut bool,
) -> io::Result<Directory> {
    match host.open_child(parent, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    match host.create_child(parent, name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => *created = true,
    }
    host.open_child(parent, name)
}

fn open_or_create_path(host: &dyn Host, path: &Path) -> io::Result<Directory> {
    match host.open_directory(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        opened => return opened,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return host.open_directory(path);
    };
    let parent = open_or_create_path(host, parent)?;
    match host.create_child(&parent, name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => host.sync(&[SyncPoint::Directory(parent)])?,
    }
    host.open_directory(path)
}

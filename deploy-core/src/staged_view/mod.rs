//! Running a validator so that it sees the new files at their final paths, while everybody else sees the old ones.
//!
//! The view is a private mount namespace of the child: overlays take up whatever the validator writes (pid files, logs,
//! sockets), and each staged file is bound onto its final path, whether that exists already or not. It ends with the
//! child; nothing has to be undone, even after `kill -9`. Where mounting is not allowed (containers without user
//! namespaces), the caller falls back to a lower rung and says so.
//!
//! # What it shows
//! - With CAP_SYS_ADMIN: an overlay over `/` and one over every other real file system. Without: a user namespace with the
//!   caller's own user and group, and one overlay per top-level directory, because there a tree with mounts in it must not
//!   be taken apart. The same, without another namespace, where we are in one already (rootless containers).
//! - `/proc`, `/sys`, `/dev`, network file systems and what cannot be the lower layer of an overlay are the real ones.
//! - `/var/log` is shown with its directories and without its files: opening a log for appending would copy all of it.
//! - The view is made before the command's timeout can end it: a mount that hangs (a dead NFS server) hangs the start.
//! - Processes, sockets and the network are shared; the view protects files and nothing else.
//!
//! In a user namespace, files of other users show as owned by `nobody`, and directories of other users can be written to
//! only where an overlay begins (`/tmp`, `/run`, the directories of new files).

mod child;
mod inherited;
mod mounts;
mod network;
mod recipe;

#[cfg(test)]
mod tests;

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::command::CommandError;
pub(crate) use child::{end_with_parent, enter_processes};
pub(crate) use inherited::keep_out;
pub(crate) use network::enter as enter_network;
use recipe::Recipe;

/// What stands where in a private view.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StagedView {
    /// Each staged file and the final path that it is to be seen at; both absolute. May be empty: then the view shows the
    /// live files, which is how a failing validator is told from a view that it cannot work in. A final path that is a
    /// symbolic link is followed, so that the staged bytes are seen under every name of the real file. Neither the final
    /// path nor the directory that it lies in needs to exist.
    pub files: Vec<(PathBuf, PathBuf)>,
    /// An existing private directory that the view may use as its mount point. Nothing is written to it outside the view.
    /// No staged file may lie in it.
    pub mount_point: PathBuf,
    /// Whether what the child writes is taken up by the view (the default). If not, only the staged files are bound: that
    /// works where overlays don't, needs every final path to exist, and lets the child write to the live tree.
    pub writes_diverted: bool,
}

impl StagedView {
    /// A view with these (staged, final) paths that takes up what the child writes.
    #[must_use]
    pub fn new(files: Vec<(PathBuf, PathBuf)>, mount_point: PathBuf) -> Self {
        Self { files, mount_point, writes_diverted: true }
    }

    /// The smaller view: the staged files are bound onto final paths that exist, and writes are not diverted.
    #[must_use]
    pub fn binds_only(mut self) -> Self {
        self.writes_diverted = false;
        self
    }
}

/// Makes a command set the view up in its child before it starts the program in `directory`.
///
/// # Errors
/// [`CommandError::View`] if the view cannot even be planned. What fails in the child is told by [`Report::failure`].
pub(crate) fn attach(command: &mut std::process::Command, view: &StagedView, directory: &Path) -> Result<Report, CommandError> {
    let failed = |step: &str| {
        let step = step.to_owned();
        move |source| CommandError::View { step, source }
    };
    let Recipe { steps, names, user_namespace } = Recipe::plan(view, directory)?;
    let (reader, writer) = io::pipe().map_err(failed("report pipe"))?;
    child::attach(command, child::Work::new(steps, user_namespace, writer.into()));
    Ok(Report { reader, names })
}

/// Where the child tells which step failed. Its end is closed when the program starts.
pub(crate) struct Report {
    reader: io::PipeReader,
    names: Vec<String>,
}

impl Report {
    /// The step that failed, if one did. The command must have been dropped before, or this waits for ever.
    pub(crate) fn failure(mut self) -> Option<CommandError> {
        let mut record = [0; child::RECORD];
        self.reader.read_exact(&mut record).ok()?;
        let (index, errno) = child::decode(record);
        let step = self.names.get(index).cloned().unwrap_or_else(|| format!("step {index}"));
        Some(CommandError::View { step, source: io::Error::from_raw_os_error(errno) })
    }
}

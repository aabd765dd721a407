//! Whether the process that a reload must not end goes on running.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::host::Host;

/// How long a process may be gone, or its file be missing: a server that is restarted is, for a moment.
const GONE_FOR: Duration = Duration::from_secs(1);

/// How long a server that ends itself in a reload takes to do so, where nobody can see what it serves. Apache took 180 ms.
const SETTLES_IN: Duration = Duration::from_secs(2);

/// How long between two looks.
const PAUSE: Duration = Duration::from_millis(50);

/// The process of one of some pid files, watched from one look to the next. One that was never seen is not missed: then the
/// files may be another server's, or none.
#[derive(Debug)]
pub(super) struct Watch {
    pid_files: Vec<PathBuf>,
    seen: bool,
    gone_since: Option<Instant>,
}

impl Watch {
    /// Looks for the first time; `None` where there is nothing to look at.
    pub(super) fn begin(host: &dyn Host, pid_files: &[PathBuf]) -> Option<Self> {
        let seen = runs(host, pid_files);
        (!pid_files.is_empty()).then(|| Self { pid_files: pid_files.to_vec(), seen, gone_since: None })
    }

    /// Whether it is gone for good.
    pub(super) fn has_ended(&mut self, host: &dyn Host) -> bool {
        if runs(host, &self.pid_files) {
            (self.seen, self.gone_since) = (true, None);
            return false;
        }
        self.seen && self.gone_since.get_or_insert_with(Instant::now).elapsed() >= GONE_FOR
    }

    /// Forgets that it is gone: it is told or started once more, and gets time to come back.
    pub(super) fn pardon(&mut self) {
        self.gone_since = None;
    }

    /// Watches for as long as a server takes to end itself, where nothing else can be looked at.
    pub(super) fn settle(&mut self, context: &Context) -> Result<Settled, Error> {
        let until = (Instant::now() + SETTLES_IN).min(context.deadline());
        while Instant::now() < until {
            if self.has_ended(context.host()) {
                return Err(self.ended());
            }
            if context.cancellation().wait(PAUSE) {
                return Err(Error::new(ErrorKind::Interrupted, "interrupted while watching the server after its reload"));
            }
        }
        Ok(if self.seen { Settled::Runs } else { Settled::NeverSeen })
    }

    /// The error that it has ended.
    pub(super) fn ended(&self) -> Error {
        let files: Vec<String> = self.pid_files.iter().map(|file| file.display().to_string()).collect();
        let message = format!("the server ended in the reload: the process of {} is gone", files.join(" or "));
        Error::new(ErrorKind::ReloadFailed, message)
            .with_next_step("read the server's log: it refuses the new files, or something else in its configuration")
    }
}

/// What came of watching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Settled {
    NeverSeen,
    Runs,
}

/// Whether one of the files names a process that runs.
fn runs(host: &dyn Host, pid_files: &[PathBuf]) -> bool {
    let process = |file: &PathBuf| {
        let (bytes, _) = host.read_path(file, 64).ok()??;
        std::str::from_utf8(bytes.expose()).ok()?.trim().parse().ok()
    };
    pid_files.iter().filter_map(process).any(|process| host.is_running(process).unwrap_or(false))
}

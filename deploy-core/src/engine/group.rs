//! What the stages work on: the targets that share one service, with what was found out about them.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::time::Instant;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::destination::Place;
use crate::digest::{hex, sha256_of_parts};
use crate::engine::liveness::Watch;
use crate::engine::overview::{FileAction, TargetState};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::hooks::Reload;
use crate::host::{Attributes, Directory, Host, Metadata, Status};
use crate::journal::Journal;
use crate::plan::{Content, Plan, Role};
use crate::report::{Live, Outcome, Report, Stage};
use crate::secret::SecretBytes;
use crate::state::{Marker, State, Verified};

/// One deployment: usually of one target.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) context: &'a Context,
    pub(super) state: &'a State,
    pub(super) members: Vec<Member>,
    /// The number that staging files, backups and the journal go by.
    pub(super) id: u64,
    pub(super) journal: Option<Journal>,
    /// A reload was tried, so that the way back needs one, too.
    pub(super) told: bool,
}

/// One target of a deployment.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) plan: Plan,
    /// Digest of the plan's paths and contents.
    pub(super) digest: String,
    pub(super) certificate: Option<Certificate>,
    pub(super) marker: Option<Marker>,
    pub(super) files: Vec<File>,
    pub(super) state: TargetState,
    /// What each endpoint served before; `None` where none could be seen.
    pub(super) baseline: Vec<Option<String>>,
    /// The leaf that stood there before.
    pub(super) old_leaf: Option<String>,
    /// The process that must go on running, from just before the reload.
    pub(super) watch: Option<Watch>,
    pub(super) report: Report,
    pub(super) started: Instant,
}

/// One file of a target.
#[derive(Debug)]
pub(super) struct File {
    pub(super) path: PathBuf,
    pub(super) role: Role,
    pub(super) place: Place,
    /// `None`: is not to exist.
    pub(super) wanted: Option<Wanted>,
    /// `None`: does not exist.
    pub(super) before: Option<Before>,
    pub(super) action: FileAction,
    /// It goes into a new generation with the others, whatever happens to it itself.
    pub(super) moves: bool,
    /// No other file can take its place, so that its bytes are written over the old ones.
    pub(super) in_place: bool,
    /// The target's own directory beside it; the new generation, in that layout.
    pub(super) hidden: Option<Directory>,
    /// The new file.
    pub(super) staged: Option<Status>,
    /// The old file has a second name, or a copy, in the hidden directory.
    pub(super) backup: Option<Backup>,
}

#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) bytes: SecretBytes,
    pub(super) sha256: String,
    pub(super) metadata: Metadata,
}

#[derive(Debug)]
pub(super) struct Before {
    pub(super) bytes: SecretBytes,
    pub(super) sha256: String,
    pub(super) status: Status,
    pub(super) attributes: Attributes,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backup {
    Copy,
    /// It stays where it is: in the old generation.
    Generation,
    Link,
}

impl File {
    /// Whether its name is switched in this deployment.
    pub(super) fn switches(&self) -> bool {
        self.moves || self.action != FileAction::Keep
    }

    /// What the new file is called in the hidden directory, or in the new generation.
    pub(super) fn staged_name(&self, id: u64, index: usize) -> OsString {
        self.place.generations.as_ref().map_or_else(|| staged_name(id, index).into(), |_| self.place.name.clone())
    }

    /// What the old file is called there, or in the old generation.
    pub(super) fn backup_name(&self, id: u64, index: usize) -> OsString {
        self.place.generations.as_ref().map_or_else(|| format!("{id:08}.{index}.old").into(), |_| self.place.name.clone())
    }

    pub(super) fn live(&self) -> (&Directory, &OsStr) {
        (&self.place.directory, &self.place.name)
    }

    pub(super) fn unstaged(&self) -> Error {
        Error::new(ErrorKind::Internal, format!("{} was not staged", self.path.display()))
    }
}

impl Before {
    /// Owner, mode and attributes, to be given to a copy.
    pub(super) fn metadata(&self) -> Metadata {
        Metadata::new(self.status.uid, self.status.gid, self.status.mode).with_attributes(self.attributes.clone())
    }

    /// Whether it is still the file that was looked at.
    pub(super) fn is_still(&self, now: &Status) -> bool {
        let then = &self.status;
        then.same_file(now)
            && (then.size, then.modified, then.uid, then.gid, then.mode) == (now.size, now.modified, now.uid, now.gid, now.mode)
    }
}

pub(super) fn staged_name(id: u64, index: usize) -> String {
    format!("{id:08}.{index}.new")
}

/// Digest of what a plan wants: every path with its content, or with what stands for it.
pub(super) fn plan_digest(plan: &Plan) -> String {
    let parts = plan.files.iter().flat_map(|file| {
        let content: &[u8] = match (&file.content, &file.identity) {
            (Content::Bytes(_), Some(identity)) => identity,
            (Content::Bytes(bytes), None) => bytes.expose(),
            (Content::Absent, _) => b"\0absent",
        };
        [file.path.as_os_str().as_encoded_bytes(), content]
    });
    let layout = plan.layout.directory().map(|directory| directory.as_os_str().as_encoded_bytes());
    hex(&sha256_of_parts(parts.chain(layout)))
}

impl Member {
    pub(super) fn new(plan: Plan, kind: &str) -> Self {
        let mut report = Report::new(&plan.name, kind);
        report.stage = Stage::Check;
        Self {
            digest: plan_digest(&plan),
            plan,
            certificate: None,
            marker: None,
            files: Vec::new(),
            state: TargetState::Unchanged,
            baseline: Vec::new(),
            old_leaf: None,
            watch: None,
            report,
            started: Instant::now(),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.plan.name
    }

    pub(super) fn enter(&mut self, context: &Context, stage: Stage) {
        self.report.stage = stage;
        context.emit(&Event::Stage { target: self.plan.name.clone(), stage });
    }

    pub(super) fn warn(&mut self, context: &Context, message: impl Into<String>) {
        let message = message.into();
        context.emit(&Event::Warning { target: self.plan.name.clone(), message: message.clone() });
        self.report.warn(message);
    }

    /// The same member before anything was found out under the locks.
    pub(super) fn fresh(&self) -> Self {
        let mut fresh = Self::new(self.plan.clone(), &self.report.kind);
        fresh.certificate.clone_from(&self.certificate);
        fresh.started = self.started;
        fresh.report.fingerprint.wanted.clone_from(&self.report.fingerprint.wanted);
        fresh.report.not_after = self.report.not_after;
        fresh.report.recovered = self.report.recovered;
        fresh.report.warnings.clone_from(&self.report.warnings);
        fresh
    }

    /// Whether its report is final.
    pub(super) fn has_ended(&self) -> bool {
        self.report.error.is_some() || self.report.outcome != Outcome::Unchanged
    }

    /// Whether the marker says that the target took up just these files.
    pub(super) fn was_told(&self) -> bool {
        self.marker.as_ref().is_some_and(|marker| marker.settles(&self.digest))
    }

    /// The leaf of the last success.
    pub(super) fn marker_leaf(&self) -> Option<&String> {
        self.marker.as_ref()?.leaf.as_ref()
    }

    /// Whether the last success was seen on the wire.
    pub(super) fn was_seen(&self) -> bool {
        self.marker.as_ref().is_some_and(|marker| marker.verified == Verified::Seen)
    }

    /// Ends it with an error, if it has not ended in another way already.
    pub(super) fn fail(&mut self, error: Error) {
        let error = error.at(self.report.stage);
        self.report.outcome = outcome(&error);
        self.report.live = error.live();
        if error.live() != Live::Unknown {
            self.report.changed_files.clear();
        }
        self.report.error = Some(error);
    }
}

/// The outcome that an error stands for: design, "one table".
pub(super) fn outcome(error: &Error) -> Outcome {
    match error.kind() {
        ErrorKind::Internal => Outcome::Failed,
        ErrorKind::Interrupted => Outcome::Interrupted,
        ErrorKind::Locked => Outcome::Locked,
        ErrorKind::RollbackFailed => Outcome::RollbackFailed,
        _ => match error.live() {
            Live::RolledBack => Outcome::RolledBack,
            Live::Unknown => Outcome::RollbackFailed,
            Live::Applied | Live::Unchanged => Outcome::Rejected,
        },
    }
}

impl Group<'_> {
    pub(super) fn host(&self) -> &dyn Host {
        self.context.host()
    }

    pub(super) fn enter(&mut self, stage: Stage) {
        for member in &mut self.members {
            member.enter(self.context, stage);
        }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = &File> {
        self.members.iter().flat_map(|member| &member.files)
    }

    /// Whether the caller wants to stop, or time is up.
    pub(super) fn check_time(&self) -> Result<(), Error> {
        check_time(self.context)
    }

    /// The different ways in which the members are told, in order.
    pub(super) fn reloads(&self) -> Vec<Reload> {
        let mut reloads: Vec<Reload> = Vec::new();
        for reload in self.members.iter().filter_map(|member| member.plan.hooks.reload.as_ref()) {
            if !reloads.iter().any(|known| same_reload(known, reload)) {
                reloads.push(reload.clone());
            }
        }
        reloads
    }
}

pub(super) fn check_time(context: &Context) -> Result<(), Error> {
    if context.cancellation().is_cancelled() {
        return Err(Error::new(ErrorKind::Interrupted, "interrupted by the caller").with_next_step("run it again"));
    }
    if Instant::now() >= context.deadline() {
        return Err(Error::new(ErrorKind::Timeout, "the time for this deployment is up")
            .with_next_step("give it more with --timeout, or `timeout` of the target"));
    }
    Ok(())
}

fn same_reload(one: &Reload, other: &Reload) -> bool {
    match (one, other) {
        (Reload::Call(one), Reload::Call(other)) => std::sync::Arc::ptr_eq(one, other),
        (Reload::Command(one), Reload::Command(other)) => one == other,
        (Reload::Signal { signal, pid_file }, Reload::Signal { signal: other, pid_file: other_file }) => {
            (signal, pid_file) == (other, other_file)
        }
        (Reload::Steps(one), Reload::Steps(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same_reload(one, other))
        }
        _ => false,
    }
}

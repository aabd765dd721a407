//! The engine: it carries plans and pushes out, and everything dangerous stands here once.

mod acknowledge;
mod check;
mod deploy;
mod generation;
mod go_back;
mod group;
mod in_place;
mod inspect;
mod job;
mod litter;
mod liveness;
mod overview;
mod preview;
mod prove;
mod push;
mod push_journal;
mod recover;
mod rollback;
mod second_names;
mod service;
mod shadow;
mod shared;
mod stage;
mod status;
mod switch;
mod undo;
mod validate;

pub use job::Job;
pub use overview::{
    EndpointStatus, FileAction, FilePreview, FileState, Preview, Recovered, RecoveryScope, SetStatus, TargetState, TargetStatus,
    Verification,
};
pub use shared::{SharedDestination, shared_destination};

use std::io;
use std::path::Path;

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::hooks::Reload;
use crate::plan::Plan;
use crate::report::Report;

/// Deploys to the targets of one service: usually one target, or several that one reload serves.
///
/// The stages, for files:
/// 1. *check*: the plan is sane, the material is good (V0, V1);
/// 2. *lock*: every target and every destination;
/// 3. *recover*: what a dead process left for them is finished or undone;
/// 4. *inspect*: what is there is compared with what is wanted; if nothing is to be done, it ends here, with nothing
///    written and no command run;
/// 5. *stage*: new files are written beside the old ones, old ones get a second name;
/// 6. *validate*: the target's own checker sees the new files at their final places (V3, else V2);
/// 7. *journal*: the intent and all that it rests on are put on the medium;
/// 8. *swap*: the names are switched and put on the medium; the checker looks once more (V5);
/// 9. *reload*: the target is told;
/// 10. *verify*: the target is asked as a client would ask (V6);
/// 11. *acknowledge*, *prune*: the success is recorded, old backups go.
///
/// A failure up to 7 leaves everything as it was; a failure in 8 to 10 rolls everything back. Several targets are one
/// deployment; if it fails, each is tried by itself. Interrupted deployments are settled before a certificate is read.
/// The reports are in the order of the jobs. Needs a Tokio runtime, and uses one blocking thread of it.
pub async fn deploy(jobs: &[Job], context: &Context) -> Vec<Report> {
    let (owned, context) = (jobs.to_vec(), context.started());
    let surroundings = context.clone();
    let done = tokio::task::spawn_blocking(move || deploy::deploy(&owned, &context)).await;
    done.unwrap_or_else(|error| jobs.iter().map(|job| died(&job.name, &job.kind, &error, &surroundings)).collect())
}

pub(crate) async fn apply(plan: Plan, context: &Context) -> Report {
    let (name, context) = (plan.name.clone(), context.started());
    let surroundings = context.clone();
    let done = tokio::task::spawn_blocking(move || deploy::apply_one(plan, "files", &context)).await;
    done.unwrap_or_else(|error| died(&name, "files", &error, &surroundings))
}

/// Says what [`deploy`] would do, and has the target's checker look at the new files. Changes nothing.
pub async fn preview(job: &Job, context: &Context) -> Preview {
    let (owned, context) = (job.clone(), context.started());
    let done = tokio::task::spawn_blocking(move || preview::preview(&owned, &context)).await;
    done.unwrap_or_else(|error| {
        let mut preview = Preview::new(&job.name, &job.kind);
        preview.error = Some(defect(&error));
        preview
    })
}

/// Compares what is served with the wanted certificate. Changes nothing.
pub async fn verify(job: &Job, context: &Context) -> Verification {
    let (owned, context) = (job.clone(), context.started());
    let done = tokio::task::spawn_blocking(move || status::verify(&owned, &context)).await;
    done.unwrap_or_else(|error| {
        let mut verification = Verification::new(&job.name, &job.kind);
        verification.error = Some(defect(&error));
        verification
    })
}

/// Says where a target stands: on disk, served, owed, held. Changes nothing.
pub async fn status(job: &Job, context: &Context) -> TargetStatus {
    let (owned, context) = (job.clone(), context.started());
    let done = tokio::task::spawn_blocking(move || status::status(&owned, &context)).await;
    done.unwrap_or_else(|error| {
        let mut status = TargetStatus::new(&job.name, &job.kind);
        status.error = Some(defect(&error));
        status
    })
}

/// Brings back the state before a deployment: the last one, or the one with this id. The target then stays away from what
/// it went back from until the source changes, or until it is forced.
pub async fn rollback(job: &Job, to: Option<&str>, context: &Context) -> Report {
    let (owned, to, context) = (job.clone(), to.map(str::to_owned), context.started());
    let surroundings = context.clone();
    let done = tokio::task::spawn_blocking(move || go_back::go_back(&owned, to.as_deref(), &context)).await;
    done.unwrap_or_else(|error| died(&job.name, &job.kind, &error, &surroundings))
}

/// Settles every interrupted deployment in the state directory. Hooks are those of the jobs; the ones in the journal serve
/// only where a target is no longer configured.
pub async fn recover(jobs: &[Job], scope: RecoveryScope, context: &Context) -> Vec<Recovered> {
    let (owned, context) = (jobs.to_vec(), context.started());
    let done = tokio::task::spawn_blocking(move || recover::recover_all(&owned, scope, &context)).await;
    done.unwrap_or_else(|error| vec![Recovered::failed(Vec::new(), defect(&error))])
}

/// A defect ended the engine's thread; it is one outcome like any other.
fn died(name: &str, kind: &str, error: &tokio::task::JoinError, context: &Context) -> Report {
    let mut report = Report::new(name, kind);
    report.outcome = crate::report::Outcome::Failed;
    report.live = crate::report::Live::Unknown;
    report.error = Some(defect(error));
    deploy::finish(report, std::time::Instant::now(), context, &crate::state::LazyState::default())
}

fn defect(error: &tokio::task::JoinError) -> Error {
    Error::new(ErrorKind::Internal, format!("the engine stopped: {error}"))
        .with_live(crate::report::Live::Unknown)
        .with_next_step("run `certdeploy recover`, and report this defect")
}

/// Waits for asynchronous work on the engine's blocking thread.
fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Handle::current().block_on(future)
}

/// Tells a target once more, in another way than its plan does. Not for calls: they are awaited.
pub(crate) fn tell(context: &Context, reload: &Reload) -> Result<(), Error> {
    prove::tell(context, reload, prove::Direction::Forward)
}

/// What to do about an error of the file system.
pub(crate) fn advice(error: &io::Error, directory: &Path) -> String {
    let directory = directory.display();
    match error.kind() {
        io::ErrorKind::StorageFull => format!("free space or inodes on the file system of {directory}"),
        io::ErrorKind::QuotaExceeded => format!("raise the quota, or free space on the file system of {directory}"),
        io::ErrorKind::ReadOnlyFilesystem => format!("remount the file system of {directory} writable, or choose another place"),
        io::ErrorKind::PermissionDenied => format!("run as a user that may write to {directory}, or change its owner and mode"),
        io::ErrorKind::ResourceBusy => format!("something in {directory} is mounted; mount the directory instead of the file"),
        _ => format!("look at the file system of {directory} and at the kernel's log"),
    }
}

//! The dry run: everything up to the switch, in a private directory, with nothing changed.

use std::ffi::OsStr;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::destination::Resolver;
use crate::engine::group::{File, Member, check_time, staged_name};
use crate::engine::inspect;
use crate::engine::job::Job;
use crate::engine::overview::{FileAction, FilePreview, FileState, Preview, TargetState};
use crate::engine::validate::{Scratch, Staged, check_staged};
use crate::engine::{block_on, check, push, push_journal, second_names};
use crate::error::{Error, ErrorKind};
use crate::hooks::Reload;
use crate::host::Metadata;
use crate::journal;
use crate::lock::LockKeys;
use crate::plan::Plan;
use crate::probe::probe;
use crate::push::{Push, Validation};
use crate::report::{Degraded, Report};
use crate::secret::SecretBytes;
use crate::state::{State, read_marker};
use crate::target::Deployment;

/// See [`crate::preview`].
pub(super) fn preview(job: &Job, context: &Context) -> Preview {
    let mut preview = Preview::new(&job.name, &job.kind);
    if let Err(error) = fill(&mut preview, job, context) {
        preview.error = Some(error);
    }
    preview
}

fn fill(preview: &mut Preview, job: &Job, context: &Context) -> Result<(), Error> {
    let loaded = job.certificate.load(context.host())?;
    preview.warnings.extend(loaded.warnings);
    preview.fingerprint.wanted = Some(loaded.certificate.fingerprint().to_owned());
    preview.not_after = Some(loaded.certificate.not_after());
    match block_on(job.target.prepare(&loaded.certificate, context))? {
        Deployment::Files(plan) => files(preview, plan, &job.kind, context),
        Deployment::Push(mut push) => {
            let looked = calls(preview, &mut *push, &loaded.certificate, &job.name, context);
            if let Err(error) = push::close(&mut *push, context) {
                preview.warnings.push(format!("what was left open at the remote could not be ended: {}", error.full_message()));
            }
            looked
        }
    }
}

fn calls(
    preview: &mut Preview,
    push: &mut dyn Push,
    certificate: &Certificate,
    target: &str,
    context: &Context,
) -> Result<(), Error> {
    let observed = push::observe(push, target, context)?;
    let same = observed.settled && observed.fingerprint == preview.fingerprint.wanted;
    preview.state = if same { TargetState::Unchanged } else { TargetState::Change };
    preview.fingerprint.served = observed.fingerprint;
    preview.pending_recovery = push_journal::pending(target, context)?;
    if same {
        return Ok(());
    }
    preview.commands = vec!["upload and activate the certificate".to_owned()];
    match push::validate(push, certificate, context)? {
        Validation::Passed(rung) => preview.validated = preview.validated.max(rung),
        Validation::Unavailable(why) => preview.degraded.push(Degraded { what: "validate".to_owned(), why }),
    }
    Ok(())
}

fn files(preview: &mut Preview, plan: Plan, kind: &str, context: &Context) -> Result<(), Error> {
    let mut member = Member::new(plan, kind);
    preview.pending_recovery = pending(&member, context)?;
    let looked = look(&mut member, context);
    preview.state = member.state;
    preview.files = member.files.iter().map(describe).collect();
    let checked = looked.and_then(|()| {
        let held = member.marker.as_ref().and_then(|marker| marker.hold.as_ref()).is_some_and(|hold| hold.plan == member.digest);
        if held && !context.force() {
            preview.state = TargetState::Unchanged;
            member.report.warn("held: this certificate was rolled back; a new one, or --force, ends the hold");
        }
        if preview.state == TargetState::Change { validate(&mut member, context) } else { Ok(()) }
    });
    preview.commands = commands(&member, preview.state);
    served(preview, &member, context);
    let Report { validated, degraded, warnings, .. } = member.report;
    preview.validated = validated;
    preview.degraded = degraded;
    preview.warnings.extend(warnings);
    checked
}

fn look(member: &mut Member, context: &Context) -> Result<(), Error> {
    check_time(context)?;
    check::check(member, context)?;
    check::handshake(member, context)?;
    member.marker = read_marker(context, member.name())?;
    let us = context
        .host()
        .identity()
        .map_err(|error| Error::new(ErrorKind::Internal, "the system does not say who we are").with_source(error))?;
    let mut places = inspect::locate(member, context, &us, &mut Resolver::default(), &mut LockKeys::default())?;
    second_names::discount(context, &us, &mut places)?;
    inspect::inspect(member, context, &us, places)
}

/// An interrupted deployment of this target, if the state directory is there at all.
fn pending(member: &Member, context: &Context) -> Result<Option<String>, Error> {
    let path = context.state_directory().join("journal");
    let Ok(directory) = context.host().open_directory(&path) else { return Ok(None) };
    let journals = journal::read_all(context.host(), &directory)?;
    let own = journals.iter().find(|journal| journal.targets().iter().any(|target| target == member.name()));
    Ok(own.map(|journal| format!("an interrupted deployment ({}) is settled first", journal.file.to_string_lossy())))
}

/// Writes the new files to a private directory in the state directory, and has the checker look at them there.
fn validate(member: &mut Member, context: &Context) -> Result<(), Error> {
    let host = context.host();
    let Some(validate) = member.plan.hooks.validate.clone() else {
        member.report.degrade("validate", "no checker is configured");
        return Ok(());
    };
    let existed = host.path_status(context.state_directory()).is_ok_and(|status| status.is_some());
    let state = State::open(context)?;
    let failed = |error| Error::new(ErrorKind::StageFailed, "the new files cannot be staged for the checker").with_source(error);
    let verdict = {
        let scratch = Scratch::create(host, &state.root, "plan").map_err(failed)?;
        let us = host.identity().map_err(failed)?;
        let mut view = Vec::new();
        let mut found = Vec::new();
        for (index, file) in member.files.iter().enumerate() {
            let (Some(wanted), true) = (&file.wanted, file.switches()) else {
                found.push(file.place.path());
                continue;
            };
            let name = staged_name(0, index);
            let mode = wanted.metadata.mode;
            let (uid, gid) = if us.can_change_owner { (wanted.metadata.uid, wanted.metadata.gid) } else { (us.uid, us.gid) };
            let bytes: &SecretBytes = &wanted.bytes;
            host.create(&scratch.directory, OsStr::new(&name), bytes.expose(), &Metadata::new(uid, gid, mode)).map_err(failed)?;
            let staged = scratch.directory.path().join(name);
            view.push((staged.clone(), file.place.path()));
            found.push(staged);
        }
        let staged = Staged {
            view,
            found,
            removes: member.files.iter().any(|file| file.action == FileAction::Remove),
            renewal: member.files.iter().all(|file| file.before.is_some()),
            scratch: &state.root,
            mount_point: state.view(host).map_err(failed)?,
        };
        check_staged(context, &validate, &staged)
    };
    if !existed {
        state.remove(host);
    }
    verdict?.write(member);
    Ok(())
}

fn describe(file: &File) -> FilePreview {
    let real = file.place.path();
    let state = |sha256: &str, size: u64, uid, gid, mode: u32| FileState {
        sha256: sha256.to_owned(),
        size,
        uid,
        gid,
        mode: format!("{mode:04o}"),
    };
    FilePreview {
        path: file.path.clone(),
        real_path: (real != file.path).then_some(real),
        action: file.action,
        before: file
            .before
            .as_ref()
            .map(|before| state(&before.sha256, before.status.size, before.status.uid, before.status.gid, before.status.mode)),
        after: file.wanted.as_ref().map(|wanted| {
            let metadata = &wanted.metadata;
            state(&wanted.sha256, wanted.bytes.len() as u64, metadata.uid, metadata.gid, metadata.mode)
        }),
    }
}

fn commands(member: &Member, state: TargetState) -> Vec<String> {
    let hooks = &member.plan.hooks;
    let told = matches!(state, TargetState::Change | TargetState::Owed);
    let mut commands = Vec::new();
    if let Some(validate) = hooks.validate.as_ref().filter(|_| told) {
        commands.push(format!("validate: {}", validate.command.display()));
    }
    let steps = hooks.reload.as_ref().filter(|_| told).map(Reload::steps).unwrap_or_default();
    commands.extend(steps.into_iter().map(|step| match step {
        Reload::Command(command) => format!("reload: {}", command.display()),
        Reload::Signal { signal, pid_file } => format!("reload: {signal:?} to the process in {}", pid_file.display()),
        Reload::Call(call) => format!("reload: {call:?}"),
        Reload::Steps(steps) => format!("reload: {steps:?}"),
    }));
    if told {
        commands.extend(hooks.verify.list().0.iter().map(|endpoint| format!("verify: {endpoint}")));
    }
    commands
}

fn served(preview: &mut Preview, member: &Member, context: &Context) {
    for endpoint in member.plan.hooks.verify.list().0 {
        let deadline = (std::time::Instant::now() + std::time::Duration::from_secs(5)).min(context.deadline());
        match probe(endpoint, context.provider(), deadline, Some(context.cancellation())) {
            Ok(seen) => {
                let served = seen.into_iter().next().map(|observation| observation.fingerprint);
                preview.fingerprint.served = preview.fingerprint.served.take().or(served);
            }
            Err(problem) => preview.warnings.push(format!("{endpoint} shows no certificate now: {problem}")),
        }
    }
}

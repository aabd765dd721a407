//! What a dead process left is finished or undone: files by what is there, never by replay; then the service.
//!
//! The rules R1 to R16 and the probe table are those of the book's page on failures.

use std::time::Duration;

use crate::command::Command;
use crate::context::Context;
use crate::engine::acknowledge::{keep_as_sets, prune_sets};
use crate::engine::generation::old_content;
use crate::engine::inspect::is_pair;
use crate::engine::job::Job;
use crate::engine::litter;
use crate::engine::overview::{Recovered, RecoveryScope};
use crate::engine::prove::{Direction, run, tell, verify_old};
use crate::engine::rollback::{self, rollback_failed};
use crate::engine::undo::{self, Now, Recorded};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::hooks::{Hooks, Reload, Verify};
use crate::journal::{self, Begin, Journal, Member, RecordedReload};
use crate::lock::{self, LockKeys};
use crate::plan::Role;
use crate::probe::{Endpoint, probe};
use crate::report::Live;
use crate::secret::SecretBytes;
use crate::state::{Marker, State, Verified, invalid};
use crate::target::Recovery;

/// How the hooks of a target are found: as they are configured now, if they are.
pub(super) type HooksOf<'a> = &'a dyn Fn(&str) -> Option<Hooks>;

const GLANCE: Duration = Duration::from_secs(5);

/// Settles every journal in the state directory.
pub(super) fn recover_all(jobs: &[Job], scope: RecoveryScope, context: &Context) -> Vec<Recovered> {
    let state = match State::open(context) {
        Ok(state) => state,
        Err(error) => return vec![Recovered::failed(Vec::new(), error)],
    };
    let names = match journal::names(context.host(), &state.journal) {
        Ok(names) => names,
        Err(error) => return vec![Recovered::failed(Vec::new(), error)],
    };
    // One that cannot be read keeps none of the others from being settled.
    let one = |name: &std::ffi::OsString| match journal::read(context.host(), &state.journal, name) {
        Ok(journal) => lock_and_settle(jobs, scope, context, &state, &journal?),
        Err(error) => Some(Recovered::failed(journal::target_of(name).into_iter().collect(), error)),
    };
    let mut done: Vec<Recovered> = names.iter().filter_map(one).collect();
    let left =
        |job: &Job| litter::sweep(job, context, &state).err().map(|error| Recovered::failed(vec![job.name.clone()], error));
    done.extend(jobs.iter().filter_map(left));
    done.extend(super::push::recover_all(jobs, scope, context, &state));
    done
}

/// Settles the journals of one target.
pub(super) fn recover_target(job: &Job, scope: RecoveryScope, context: &Context) -> Result<Vec<Recovered>, Error> {
    let state = State::open(context)?;
    let mut journals = journal::read_all(context.host(), &state.journal)?;
    journals.retain(|journal| journal.targets().contains(&job.name));
    let jobs = std::slice::from_ref(job);
    Ok(journals.iter().filter_map(|journal| lock_and_settle(jobs, scope, context, &state, journal)).collect())
}

fn lock_and_settle(jobs: &[Job], scope: RecoveryScope, context: &Context, state: &State, journal: &Journal) -> Option<Recovered> {
    let targets = journal.targets();
    let locks = match lock::acquire(context, state, &keys(journal)) {
        Ok((locks, _)) => locks,
        Err(error) => return Some(Recovered::failed(targets, error)),
    };
    // Its owner may have ended it while we waited.
    let journal = match journal::read(context.host(), &state.journal, &journal.file) {
        Ok(journal) => journal?,
        Err(error) => return Some(Recovered::failed(targets, error)),
    };
    let hooks = |target: &str| match jobs.iter().find(|job| job.name == target)?.target.recovery() {
        Recovery::Files(hooks) => Some(hooks),
        Recovery::Push(_) => None,
    };
    let recovered = settle(context, state, journal, &hooks, scope);
    drop(locks);
    Some(recovered)
}

/// The locks of everything that a journal is about.
pub(super) fn keys(journal: &Journal) -> LockKeys {
    let mut keys = LockKeys::of_targets(journal.targets());
    for file in journal.begin.iter().flat_map(|begin| &begin.files) {
        let (directory, name) = file.lock();
        keys.add_destination(directory, name);
    }
    keys
}

/// The journals that are about one of these targets or one of these files.
pub(super) fn overlapping(context: &Context, state: &State, targets: &[String], own: &LockKeys) -> Result<Vec<Journal>, Error> {
    let mut overlapping = Vec::new();
    for name in journal::names(context.host(), &state.journal)? {
        match journal::read(context.host(), &state.journal, &name) {
            Ok(Some(journal)) => {
                let same_target = journal.targets().iter().any(|target| targets.contains(target));
                if same_target || !keys(&journal).is_disjoint(own) {
                    overlapping.push(journal);
                }
            }
            Ok(None) => {}
            // One that cannot be read holds up its own target only.
            Err(error) if journal::target_of(&name).is_none_or(|target| targets.contains(&target)) => return Err(error),
            Err(_) => {}
        }
    }
    Ok(overlapping)
}

/// Settles one journal, under its locks.
pub(super) fn settle(
    context: &Context,
    state: &State,
    mut journal: Journal,
    hooks: HooksOf<'_>,
    scope: RecoveryScope,
) -> Recovered {
    let targets = journal.targets();
    let id = journal.file.to_string_lossy().into_owned();
    let Some(begin) = journal.begin.clone() else {
        return torn(context, state, &journal, targets, id);
    };
    let context = context.undisturbed(rollback::LIMIT.max(context.timeout()));
    let settled = Settling { context: &context, state, begin: &begin, hooks, scope, journal: &mut journal }.settle();
    match settled {
        Ok((action, live, owed)) => {
            let mut recovered = Recovered::new(targets, id, action, live);
            recovered.owed = owed;
            recovered
        }
        Err(error) => {
            if error.kind() == ErrorKind::Conflict {
                let _only_a_note = journal.record_conflict(context.host(), &state.journal, &error.full_message());
            }
            let mut recovered = Recovered::failed(targets, error);
            recovered.id = id;
            recovered
        }
    }
}

/// R2: names are switched only after the first line is on the medium.
fn torn(context: &Context, state: &State, journal: &Journal, targets: Vec<String>, id: String) -> Recovered {
    match context.host().unlink(&state.journal, &journal.file) {
        Ok(()) => Recovered::new(targets, id, "it had died before it changed anything; its journal was removed", Live::Unchanged),
        Err(error) => Recovered::failed(targets, invalid(&state.journal.path().join(&journal.file), "cannot be removed", error)),
    }
}

struct Settling<'a> {
    context: &'a Context,
    state: &'a State,
    begin: &'a Begin,
    hooks: HooksOf<'a>,
    scope: RecoveryScope,
    journal: &'a mut Journal,
}

type Settled = Result<(String, Live, bool), Error>;

impl Settling<'_> {
    fn settle(&mut self) -> Settled {
        let host = self.context.host();
        let begin = self.begin;
        let files = undo::open(host, begin)?;
        let mut now = Vec::with_capacity(files.len());
        for file in files.iter().filter(|file| file.record.changes) {
            now.push(file.now(host).map_err(|error| {
                invalid(&file.record.real_path(), "cannot be looked at; recovery stops here and can be repeated", error)
            })?);
        }
        let all = |state: &Now| now.iter().all(|now| now == state);
        if now.contains(&Now::Foreign) {
            return self.foreign(&files);
        }
        match (self.journal.rollback, all(&Now::Old), all(&Now::New)) {
            (false, true, _) => self.nothing_was_switched(&files),
            (true, true, _) => self.owe_old(&files, "the way back was finished"),
            (false, false, true) => self.keep(&files),
            _ => self.back(&files),
        }
    }

    /// R3.
    fn nothing_was_switched(&mut self, files: &[Recorded<'_>]) -> Settled {
        self.restore_markers();
        self.forget(files)?;
        Ok(("it had died before it changed anything; what it had prepared was removed".to_owned(), Live::Unchanged, false))
    }

    /// R4, R6: everything goes back.
    fn back(&mut self, files: &[Recorded<'_>]) -> Settled {
        // Without the record, the debt of the old files would be forgotten if this process dies, too.
        self.journal
            .record_rollback(self.context.host(), &self.state.journal, "recovery")
            .map_err(|error| invalid(self.state.journal.path(), "cannot be written", error))?;
        let (_, errors) = undo::restore_all(self.context, files, |record| {
            let target = self.begin.members[record.member].target.clone();
            self.context.emit(&Event::Restored { target, path: record.path.path().to_owned() });
        });
        if !errors.is_empty() {
            return Err(rollback_failed(&Error::new(ErrorKind::Conflict, "an interrupted deployment is to be undone"), errors));
        }
        self.owe_old(files, "it had died in the middle; every file was put back")
    }

    /// R7, R15: the service has to be told, unless it starts after this. After a reboot nobody knows whether it has started
    /// already; one that cannot be told has not.
    fn owe_old(&mut self, files: &[Recorded<'_>], action: &str) -> Settled {
        self.context
            .host()
            .sync(&undo::directories(files))
            .map_err(|error| invalid(self.state.journal.path(), "and the directories could not be synced", error))?;
        let rebooted = self.rebooted()?;
        if self.scope == RecoveryScope::FilesOnly && !rebooted {
            return Ok((format!("{action}; the reload is owed"), Live::RolledBack, true));
        }
        if self.scope == RecoveryScope::Full && !self.old_is_served() {
            for (index, member) in self.begin.members.iter().enumerate() {
                let hooks = self.hooks_of(member);
                if let Some(Err(error)) = hooks.reload.as_ref().map(|reload| tell(self.context, reload, Direction::Back)) {
                    match &hooks.restart {
                        _ if rebooted => continue,
                        // Without its files a server cannot reload, and there is nothing that it would serve.
                        _ if self.was_first(index) => {}
                        Some(restart) => run(self.context, restart)?,
                        None => return Err(error.with_live(Live::RolledBack)),
                    }
                }
                let (endpoints, timeout) = hooks.verify.list();
                verify_old(self.context, endpoints, &member.baseline, timeout, &mut || true)
                    .map_err(|error| error.with_live(Live::RolledBack))?;
            }
        }
        self.restore_markers();
        self.forget(files)?;
        Ok((format!("{action}, and the service uses the old files"), Live::RolledBack, false))
    }

    /// R5 and the probe table: the new files are whole; the service has to follow, or everything goes back.
    fn keep(&mut self, files: &[Recorded<'_>]) -> Settled {
        self.context
            .host()
            .sync(&undo::directories(files))
            .map_err(|error| invalid(self.state.journal.path(), "and the directories could not be synced", error))?;
        if self.scope == RecoveryScope::FilesOnly {
            return Ok(("all new files are in place; reload and verification are owed".to_owned(), Live::Applied, true));
        }
        let mut verified = Vec::with_capacity(self.begin.members.len());
        for member in &self.begin.members {
            match self.follow(member) {
                Ok(how) => verified.push(how),
                Err(error) => {
                    let (action, ..) = self.back(files)?;
                    return Ok((
                        format!("the new files were not taken up ({}): {action}", error.full_message()),
                        Live::RolledBack,
                        false,
                    ));
                }
            }
        }
        for file in files {
            file.sweep_staged(self.context.host())
                .map_err(|error| invalid(&file.record.real_path(), "has staging files that cannot be removed", error))?;
        }
        let kept = keep_as_sets(self.context.host(), self.state, self.journal);
        // A rename that the crash left half done is finished: where both names are there, renaming does nothing.
        kept.and_then(|()| self.context.host().unlink(&self.state.journal, &self.journal.file)).map_err(|error| {
            invalid(&self.state.journal.path().join(&self.journal.file), "cannot be moved to the sets", error)
        })?;
        for (member, verified) in self.begin.members.iter().zip(verified) {
            self.acknowledge(member, verified);
        }
        Ok(("its files were all in place; the service now uses them".to_owned(), Live::Applied, false))
    }

    /// Sees that the service serves the new leaf, telling it if it has to be told.
    fn follow(&self, member: &Member) -> Result<Verified, Error> {
        let hooks = self.hooks_of(member);
        let (endpoints, timeout) = hooks.verify.list();
        let served: Vec<Option<String>> = endpoints.iter().map(|endpoint| self.glance(endpoint)).collect();
        let new = member.new_leaf.as_deref();
        if !endpoints.is_empty() && new.is_some() && served.iter().all(|served| served.as_deref() == new) {
            return Ok(Verified::Seen);
        }
        if let Some(reload) = &hooks.reload {
            tell(self.context, reload, Direction::Forward)?;
        }
        let Some(new) = new.filter(|_| !endpoints.is_empty()) else {
            return Ok(if hooks.verify == Verify::Waived { Verified::Waived } else { Verified::Nobody });
        };
        let mut verified = Verified::Seen;
        for (index, endpoint) in endpoints.iter().enumerate() {
            let deadline = (std::time::Instant::now() + timeout).min(self.context.deadline());
            if let Err(failure) = crate::probe::wait_for(endpoint, new, self.context.provider(), deadline, None) {
                let never_seen = member.baseline.get(index).is_none_or(Option::is_none)
                    && failure.served.is_none()
                    && failure.is_unreachable();
                if !never_seen && !failure.is_inconclusive() {
                    return Err(Error::new(ErrorKind::VerifyFailed, format!("{endpoint} does not serve the new certificate"))
                        .with_source(failure));
                }
                verified = Verified::Nobody;
            }
        }
        Ok(verified)
    }

    /// R10: what somebody else wrote is never overwritten. The others go back if that gives a pair that works.
    fn foreign(&mut self, files: &[Recorded<'_>]) -> Settled {
        let host = self.context.host();
        let changing = || files.iter().filter(|file| file.record.changes);
        let foreign: Vec<&Recorded<'_>> = changing().filter(|file| matches!(file.now(host), Ok(Now::Foreign))).collect();
        let conflict =
            || foreign.first().map_or_else(|| Error::new(ErrorKind::Conflict, "a file was changed"), |file| file.foreign());
        // Of a generation, all files go back or none.
        if foreign.iter().any(|file| file.record.generation.is_some()) {
            return Err(conflict().with_live(Live::Unknown));
        }
        let after =
            files.iter().map(|file| Ok((file.record.role, self.bytes_after(file)?))).collect::<Result<Vec<_>, Error>>()?;
        if !is_pair(&after) {
            return Err(conflict().with_live(Live::Unknown));
        }
        self.journal
            .record_rollback(host, &self.state.journal, "recovery, with somebody else's change")
            .map_err(|error| invalid(self.state.journal.path(), "cannot be written", error))?;
        let kept: Vec<String> = foreign.iter().map(|file| file.record.path.path().display().to_string()).collect();
        for file in changing().filter(|file| matches!(file.now(host), Ok(Now::Missing | Now::New))) {
            file.restore(host, files)?;
        }
        self.owe_old(
            files,
            &format!("it had died in the middle; its files were put back, and somebody else's {} was kept", kept.join(", ")),
        )
    }

    /// What will stand there when the others have gone back.
    fn bytes_after(&self, file: &Recorded<'_>) -> Result<Option<SecretBytes>, Error> {
        const SIZE_LIMIT: u64 = 64 << 20;
        let host = self.context.host();
        let failed = |error: std::io::Error| invalid(&file.record.real_path(), "cannot be read", error);
        if file.record.role == Role::Opaque {
            return Ok(None);
        }
        // None of these is foreign, so that its place shows the old generation then.
        if let Some(generation) = &file.record.generation {
            return old_content(host, file, generation).map_err(failed);
        }
        let goes_back = file.record.changes && matches!(file.now(host).map_err(failed)?, Now::Missing | Now::New);
        let read = match (&file.hidden, &file.record.backup) {
            (Some(hidden), Some(backup)) if goes_back => host.read(hidden, std::ffi::OsStr::new(backup), SIZE_LIMIT),
            _ if goes_back => Ok(None),
            _ => host.read(&file.directory, &file.record.name.0, SIZE_LIMIT),
        };
        read.map(|read| read.map(|(bytes, _)| bytes)).map_err(failed)
    }

    fn hooks_of(&self, member: &Member) -> Hooks {
        (self.hooks)(&member.target).unwrap_or_else(|| recorded_hooks(member))
    }

    fn glance(&self, endpoint: &Endpoint) -> Option<String> {
        let deadline = (std::time::Instant::now() + GLANCE).min(self.context.deadline());
        let seen = probe(endpoint, self.context.provider(), deadline, None).ok()?;
        seen.first().filter(|observation| observation.handshake.is_ok()).map(|observation| observation.fingerprint.clone())
    }

    /// The service was never told of the new files, or has been told already.
    fn old_is_served(&self) -> bool {
        self.begin.members.iter().all(|member| {
            let (endpoints, old) = (self.hooks_of(member).verify.list().0.to_vec(), member.old_leaf.as_deref());
            !endpoints.is_empty() && old.is_some() && endpoints.iter().all(|endpoint| self.glance(endpoint).as_deref() == old)
        })
    }

    /// The first installation of a target: none of its files was there, and nobody saw it serve anything.
    fn was_first(&self, member: usize) -> bool {
        let served = self.begin.members[member].baseline.iter().any(Option::is_some);
        let files = self.begin.files.iter().filter(|file| file.member == member && file.changes);
        !served && files.into_iter().all(|file| file.old.is_none() && !file.old_is_link)
    }

    fn rebooted(&self) -> Result<bool, Error> {
        let boot =
            self.context.host().boot_id().map_err(|error| invalid(self.state.root.path(), "cannot tell a reboot", error))?;
        Ok(boot != self.begin.boot)
    }

    /// Removes what the deployment left; the journal goes last.
    fn forget(&mut self, files: &[Recorded<'_>]) -> Result<(), Error> {
        let host = self.context.host();
        for file in files {
            file.sweep(host)
                .map_err(|error| invalid(&file.record.real_path(), "has staging files that cannot be removed", error))?;
        }
        host.unlink(&self.state.journal, &self.journal.file)
            .map_err(|error| invalid(&self.state.journal.path().join(&self.journal.file), "cannot be removed", error))
    }

    /// The state before was acknowledged then, and is again. Losing this costs a reload.
    fn restore_markers(&self) {
        for member in &self.begin.members {
            if let Some(marker) = &member.before {
                let _costs_a_reload = self.state.write_marker(self.context.host(), &member.target, marker);
            }
        }
    }

    fn acknowledge(&self, member: &Member, verified: Verified) {
        let before = member.before.clone().unwrap_or_default();
        let mut sets = before.sets;
        sets.push(self.begin.id);
        let mut marker = Marker {
            version: Marker::VERSION,
            plan: member.plan.clone(),
            leaf: member.new_leaf.clone(),
            reloaded: true,
            verified,
            sequence: self.begin.id.max(before.sequence),
            sets,
            hold: member.hold.clone(),
            open: self.begin.files.iter().any(|file| file.generation.is_some()),
            note: None,
            at: None,
        };
        let host = self.context.host();
        for message in prune_sets(host, self.state, &member.target, member.backups, &mut marker) {
            self.context.emit(&Event::Warning { target: member.target.clone(), message });
        }
        let _costs_a_reload = self.state.write_marker(host, &member.target, &marker);
    }
}

/// The hooks of a target that is not configured any more.
fn recorded_hooks(member: &Member) -> Hooks {
    let verify = if member.verify.is_empty() { Verify::NotConfigured } else { Verify::endpoints(member.verify.clone()) };
    Hooks::new()
        .with_reload(recorded_reload(&member.reload))
        .with_restart(member.restart.as_deref().map(command))
        .with_verify(verify)
}

/// What of it could be written down: a call could not.
fn recorded_reload(reload: &RecordedReload) -> Option<Reload> {
    match reload {
        RecordedReload::None | RecordedReload::Call => None,
        RecordedReload::Command(arguments) => Some(Reload::Command(command(arguments))),
        RecordedReload::Signal { signal, pid_file } => {
            Some(Reload::Signal { signal: *signal, pid_file: pid_file.path().to_owned() })
        }
        RecordedReload::Steps(steps) => Some(Reload::Steps(steps.iter().filter_map(recorded_reload).collect())),
    }
}

fn command(arguments: &[journal::EncodedPath]) -> Command {
    Command::new(arguments.iter().map(|argument| argument.0.clone()))
}

//! What happens when the switch, the reload or the verification fails: everything goes back, whatever the caller's deadline says.

use std::time::Duration;

use crate::context::Context;
use crate::engine::group::{Group, Member};
use crate::engine::liveness::Watch;
use crate::engine::prove::{Direction, run, tell, verify_old};
use crate::engine::undo::{self, Recorded};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::hooks::Reload;
use crate::journal::Begin;
use crate::report::{Live, Stage};

/// How long the way back may take, of its own.
pub(super) const LIMIT: Duration = Duration::from_secs(60);

impl Group<'_> {
    /// Puts everything back and says so in the error: rolled back, or what a person has to do.
    pub(super) fn roll_back(&mut self, cause: Error) -> Error {
        let cause = cause.at(self.members.first().map_or(Stage::Swap, |member| member.report.stage));
        self.enter(Stage::RollBack);
        let context = self.context.undisturbed(LIMIT);
        let Some(begin) = self.journal.as_ref().and_then(|journal| journal.begin.clone()) else { return cause };
        let recorded = self.recorded(&begin);
        self.announce_rollback(&cause);
        let (restored, mut errors) = undo::restore_all(&context, &recorded, |record| {
            let target = begin.members[record.member].target.clone();
            self.context.emit(&Event::Restored { target, path: record.path.path().to_owned() });
        });
        if errors.is_empty() && self.told {
            errors.extend(self.settle_old(&context).err());
        }
        if !errors.is_empty() {
            return rollback_failed(&cause, errors);
        }
        self.clean_up(&recorded);
        cause.with_live(if restored > 0 || self.told { Live::RolledBack } else { Live::Unchanged })
    }

    fn recorded<'r>(&self, begin: &'r Begin) -> Vec<Recorded<'r>> {
        let files = self.members.iter().flat_map(|member| &member.files);
        let pair = |(record, file): (&'r crate::journal::FileRecord, &super::group::File)| Recorded {
            record,
            directory: file.place.switched_in().clone(),
            hidden: file.hidden.clone().filter(|_| record.generation.is_none()),
        };
        begin.files.iter().zip(files).map(pair).collect()
    }

    /// Best effort: without the record, recovery decides by what it finds, which is the same unless all files are new.
    fn announce_rollback(&mut self, cause: &Error) {
        let (host, directory) = (self.context.host(), &self.state.journal);
        let Some(journal) = &mut self.journal else { return };
        if let Err(error) = journal.record_rollback(host, directory, cause.kind().name()) {
            for member in &mut self.members {
                member.warn(self.context, format!("the way back could not be recorded in the journal: {error}"));
            }
        }
    }

    /// Has every service take up the old files again, and sees that they do. A reload that fails is forgiven where all is
    /// seen to be as before: often it failed forward, too, and the service never took the new files.
    fn settle_old(&mut self, context: &Context) -> Result<(), Error> {
        let told: Vec<Error> = self.reloads().iter().filter_map(|reload| self.tell_or_restart(context, reload).err()).collect();
        for member in &mut self.members {
            see_old(context, member)?;
            if let Some(old) = member.baseline.iter().flatten().next() {
                member.report.fingerprint.served = Some(old.clone());
            }
        }
        let Some(error) = told.into_iter().next() else { return Ok(()) };
        if !self.members.iter().all(is_as_before) {
            return Err(error);
        }
        let message = format!("everything is as before, although telling the service of it failed: {}", error.full_message());
        self.members.iter_mut().for_each(|member| member.warn(self.context, message.clone()));
        Ok(())
    }

    fn tell_or_restart(&mut self, context: &Context, reload: &Reload) -> Result<(), Error> {
        self.members.iter_mut().filter_map(|member| member.watch.as_mut()).for_each(Watch::pardon);
        let Err(error) = tell(context, reload, Direction::Back) else { return Ok(()) };
        let mut restarts = self.members.iter().filter_map(|member| member.plan.hooks.restart.as_ref());
        match restarts.next() {
            Some(restart) => run(context, restart),
            None => Err(error),
        }
    }

    /// Everything is as before: what was prepared goes, then the record of it.
    fn clean_up(&mut self, recorded: &[Recorded<'_>]) {
        for file in recorded {
            if let Err(error) = file.sweep(self.context.host()) {
                self.left_behind("staging files", &error);
            }
        }
        self.forget();
    }

    /// The old state is acknowledged again, if a journal had taken that away; the journal goes last.
    pub(super) fn forget(&mut self) {
        let Some(journal) = self.journal.take() else { return };
        let host = self.context.host();
        let markers = self.members.iter().filter_map(|member| Some((member.name(), member.marker.as_ref()?)));
        let errors: Vec<_> = markers.filter_map(|(name, marker)| self.state.write_marker(host, name, marker).err()).collect();
        let gone = host.unlink(&self.state.journal, &journal.file);
        errors.iter().for_each(|error| self.left_behind("the marker", error));
        if let Err(error) = gone {
            self.left_behind("the journal", &error);
        }
    }

    fn left_behind(&mut self, what: &str, error: &std::io::Error) {
        for member in &mut self.members {
            member.warn(self.context, format!("{what} could not be settled, and is left for the next run: {error}"));
        }
    }
}

/// Waits until a member serves again what it served before. A server that has ended meanwhile is started once.
fn see_old(context: &Context, member: &mut Member) -> Result<(), Error> {
    let (endpoints, timeout) = member.plan.hooks.verify.list();
    let Some(watch) = &mut member.watch else {
        return verify_old(context, endpoints, &member.baseline, timeout, &mut || true);
    };
    let look = |watch: &mut Watch| {
        let looked = verify_old(context, endpoints, &member.baseline, timeout, &mut || !watch.has_ended(context.host()));
        match looked {
            Ok(()) if member.baseline.iter().all(Option::is_none) => watch.settle(context).map(drop),
            looked => looked,
        }
    };
    let looked = look(watch);
    match &member.plan.hooks.restart {
        Some(restart) if looked.is_err() && watch.has_ended(context.host()) => {
            run(context, restart)?;
            watch.pardon();
            look(watch)
        }
        _ => looked,
    }
}

/// Whether a reload that fails is forgiven: every endpoint was seen to serve the old certificate; or it is a first
/// installation, where nothing was served and a server without its files cannot reload.
fn is_as_before(member: &Member) -> bool {
    let seen = !member.baseline.is_empty() && member.baseline.iter().all(Option::is_some);
    let first = member.baseline.iter().all(Option::is_none) && member.files.iter().all(|file| file.place.status.is_none());
    seen || first
}

/// A person is needed: every problem, and the first step.
pub(super) fn rollback_failed(cause: &Error, mut errors: Vec<Error>) -> Error {
    let problems: Vec<String> = errors.iter().map(Error::full_message).collect();
    let steps: Vec<String> = errors.iter().filter_map(|error| error.own_next_step().map(str::to_owned)).collect();
    let first = errors.remove(0);
    let kind = if first.kind() == ErrorKind::Conflict {
        "somebody else's change stands in the way"
    } else {
        "the old state could not be brought back in full"
    };
    let step = match steps.as_slice() {
        [] => "repair the server, then run `certdeploy recover`".to_owned(),
        steps => format!("{}; then run `certdeploy recover`", steps.join("; ")),
    };
    Error::new(ErrorKind::RollbackFailed, format!("{}; and then {kind}: {}", cause.full_message(), problems.join("; ")))
        .with_source(first)
        .with_live(Live::Unknown)
        .with_next_step(step)
        .at(Stage::RollBack)
}

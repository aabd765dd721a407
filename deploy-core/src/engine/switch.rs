//! Stages 7 and 8: the intent goes onto the medium, then the names are switched, then the names go onto the medium.

use crate::engine::group::{File, Group, Member};
use crate::engine::overview::FileAction;
use crate::engine::{advice, generation, in_place};
use crate::error::{Error, ErrorKind};
use crate::event::Event;
use crate::hooks::Reload;
use crate::host::{FileKind, Host, Status, SyncPoint};
use crate::journal::{Begin, EncodedPath, Facts, FileRecord, Journal, Member as MemberRecord, RecordedReload};
use crate::report::{Live, Rung, Stage};
use crate::state::Hold;

impl Group<'_> {
    /// Writes the journal and syncs everything that the switch rests on, in one round; then looks again whether anybody
    /// changed a destination.
    pub(super) fn record(&mut self, mut round: Vec<SyncPoint>) -> Result<(), Error> {
        self.enter(Stage::Journal);
        let journal = self.state.journal.clone();
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::NotDurable, "the new files and the journal could not be put on the medium")
                .with_next_step(advice(&error, journal.path()))
                .with_source(error)
        };
        let begin = self.begin().map_err(failed)?;
        let written = Journal::create(self.host(), &journal, &begin).map_err(failed)?;
        round.push(SyncPoint::File(journal.clone(), written.file.clone()));
        round.push(SyncPoint::Directory(journal.clone()));
        self.journal = Some(written);
        self.host().sync(&without_repeats(round)).map_err(failed)?;
        self.nobody_else()?;
        for member in &self.members {
            self.state.remove_marker(self.host(), member.name()).map_err(failed)?;
        }
        Ok(())
    }

    /// Switches every name in the plan's order, then syncs the directories.
    pub(super) fn switch(&mut self) -> Result<(), Error> {
        self.enter(Stage::Swap);
        for member in &mut self.members {
            for (index, file) in member.files.iter().enumerate().filter(|(_, file)| file.switches()) {
                switch(self.context.host(), self.id, index, file)?;
                self.context.emit(&Event::Swapped { target: member.plan.name.clone(), path: file.path.clone() });
                if file.action != FileAction::Keep {
                    member.report.changed_files.push(file.path.clone());
                }
            }
        }
        let round: Vec<SyncPoint> = self.files().filter(|file| file.switches()).map(to_be_synced).collect();
        let place = self.files().find(|file| file.switches()).map(|file| file.place.switched_in().path().to_owned());
        self.host().sync(&without_repeats(round)).map_err(|error| {
            Error::new(ErrorKind::NotDurable, "the switch could not be put on the medium")
                .with_next_step(advice(&error, place.as_deref().unwrap_or(self.state.root.path())))
                .with_source(error)
                .with_live(Live::Unknown)
        })?;
        in_place::sweep(self);
        Ok(())
    }

    /// Stops if a destination is not what was inspected any more.
    fn nobody_else(&self) -> Result<(), Error> {
        for file in self.files().filter(|file| file.switches()) {
            if let Some(generations) = &file.place.generations {
                let still = generations.is_still(self.host()).map_err(|error| conflict(file).with_source(error))?;
                match (still, &generations.current) {
                    (false, _) => return Err(conflict(file)),
                    (true, None) => continue,
                    (true, Some(_)) => {}
                }
            }
            let (directory, name) = file.live();
            let now = self.host().status(directory, name).map_err(|error| conflict(file).with_source(error))?;
            let same = match (&file.before, &now) {
                (Some(before), Some(now)) => before.is_still(now),
                (None, now) => match (&file.place.status, now) {
                    (Some(then), Some(now)) => then.same_file(now),
                    (None, None) => true,
                    _ => false,
                },
                _ => false,
            };
            if !same {
                return Err(conflict(file));
            }
        }
        Ok(())
    }

    fn begin(&self) -> std::io::Result<Begin> {
        let host = self.host();
        let started = host.now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs());
        let files = self.members.iter().enumerate().flat_map(|(member, from)| {
            from.files.iter().enumerate().map(move |(index, file)| self.file_record(member, from, index, file))
        });
        Ok(Begin {
            id: self.id,
            boot: host.boot_id()?,
            process: std::process::id(),
            started,
            validated: self.members.iter().map(|member| member.report.validated).min().unwrap_or(Rung::V0),
            files: files.collect(),
            members: self.members.iter().map(member_record).collect(),
        })
    }

    fn file_record(&self, member: usize, from: &Member, index: usize, file: &File) -> FileRecord {
        let (switches, directory) = (file.switches(), file.place.switched_in());
        let text = |name: std::ffi::OsString| name.to_string_lossy().into_owned();
        let old = file.before.as_ref().map(|before| facts(before.sha256.clone(), &before.status));
        let new = match (&file.wanted, &file.staged) {
            (Some(wanted), Some(staged)) if switches => {
                let inode = file.before.as_ref().filter(|_| file.in_place).map_or(staged.inode, |before| before.status.inode);
                Some(Facts { inode, ..facts(wanted.sha256.clone(), staged) })
            }
            _ if switches => None,
            _ => old.clone(),
        };
        FileRecord {
            member,
            role: file.role,
            path: file.path.as_path().into(),
            directory: directory.path().into(),
            directory_id: (directory.status().device, directory.status().inode),
            name: file.place.name.as_os_str().into(),
            hidden: crate::vault::target_directory(self.context, from.name()),
            staged: file.staged.as_ref().filter(|_| switches).map(|_| text(file.staged_name(self.id, index))),
            backup: file.backup.map(|_| text(file.backup_name(self.id, index))),
            old_is_link: file.place.status.as_ref().is_some_and(|status| status.kind == FileKind::Symlink),
            old,
            new,
            changes: switches,
            in_place: switches && file.in_place,
            generation: generation::record(self.id, file),
        }
    }
}

fn member_record(member: &Member) -> MemberRecord {
    let hooks = &member.plan.hooks;
    MemberRecord {
        target: member.name().to_owned(),
        plan: member.digest.clone(),
        backups: member.plan.backups,
        old_leaf: member.old_leaf.clone(),
        new_leaf: new_leaf(member),
        reload: hooks.reload.as_ref().map_or(RecordedReload::None, recorded),
        restart: hooks.restart.as_ref().map(|command| encode(&command.arguments)),
        verify: hooks.verify.list().0.to_vec(),
        baseline: member.baseline.clone(),
        hold: hold_after(member),
        before: member.marker.clone(),
    }
}

fn recorded(reload: &Reload) -> RecordedReload {
    match reload {
        Reload::Call(_) => RecordedReload::Call,
        Reload::Command(command) => RecordedReload::Command(encode(&command.arguments)),
        Reload::Signal { signal, pid_file } => {
            RecordedReload::Signal { signal: *signal, pid_file: EncodedPath::from(pid_file.as_path()) }
        }
        Reload::Steps(steps) => RecordedReload::Steps(steps.iter().map(recorded).collect()),
    }
}

fn encode(arguments: &[std::ffi::OsString]) -> Vec<EncodedPath> {
    arguments.iter().map(|argument| argument.as_os_str().into()).collect()
}

/// The leaf that is live when the deployment has succeeded.
pub(super) fn new_leaf(member: &Member) -> Option<String> {
    member.certificate.as_ref().map(|certificate| certificate.fingerprint().to_owned())
}

/// Going back holds the target off what it went back from; everything else ends the hold.
pub(super) fn hold_after(member: &Member) -> Option<Hold> {
    let marker = member.marker.as_ref().filter(|_| member.plan.going_back)?;
    if marker.plan == member.digest {
        return marker.hold.clone();
    }
    Some(Hold { plan: marker.plan.clone(), leaf: marker.leaf.clone() })
}

fn switch(host: &dyn Host, id: u64, index: usize, file: &File) -> Result<(), Error> {
    let failed = |error: std::io::Error| {
        let kind = if error.kind() == std::io::ErrorKind::AlreadyExists { ErrorKind::Conflict } else { ErrorKind::StageFailed };
        Error::new(kind, format!("{} could not be switched", file.path.display()))
            .with_next_step(advice(&error, file.place.switched_in().path()))
            .with_source(error)
    };
    if let Some(generations) = &file.place.generations {
        return generation::switch(host, id, generations).map_err(failed);
    }
    let Some(hidden) = &file.hidden else { return Err(file.unstaged()) };
    let name = file.staged_name(id, index);
    let (from, to) = ((hidden, name.as_os_str()), file.live());
    match file.action {
        FileAction::Keep => Ok(()),
        FileAction::Remove => host.unlink(to.0, to.1).map_err(failed),
        FileAction::Replace if file.in_place => in_place::write(host, file).map_err(failed),
        FileAction::Create if file.place.status.is_none() => host.rename_new(from, to).map_err(failed),
        FileAction::Create | FileAction::Repair | FileAction::Replace => host.rename(from, to).map_err(failed),
    }
}

/// What puts a switched name onto the medium.
fn to_be_synced(file: &File) -> SyncPoint {
    match file.in_place {
        true => SyncPoint::File(file.place.directory.clone(), file.place.name.clone()),
        false => SyncPoint::Directory(file.place.switched_in().clone()),
    }
}

fn facts(sha256: String, status: &Status) -> Facts {
    Facts { sha256, inode: status.inode, uid: status.uid, gid: status.gid, mode: status.mode }
}

fn conflict(file: &File) -> Error {
    Error::new(ErrorKind::Conflict, format!("somebody else changed {} while this run was preparing", file.path.display()))
        .with_next_step("find out who writes that file; then run again")
}

/// Every directory once.
fn without_repeats(round: Vec<SyncPoint>) -> Vec<SyncPoint> {
    let mut seen = std::collections::HashSet::new();
    let is_new = |point: &SyncPoint| match point {
        SyncPoint::File(..) | SyncPoint::New(_) => true,
        SyncPoint::Directory(directory) => {
            let id = (directory.status().device, directory.status().inode);
            seen.insert(id)
        }
    };
    round.into_iter().filter(is_new).collect()
}

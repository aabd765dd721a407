//! Stage 6: the target's own checker looks at the new files before anything live changes.

use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};

use crate::command::{Command, CommandError, CommandOutput, Limits};
use crate::context::Context;
use crate::engine::group::{File, Group, Member};
use crate::engine::inspect::reached;
use crate::engine::overview::FileAction;
use crate::error::{Error, ErrorKind};
use crate::hooks::{Minimal, Validate};
use crate::host::{Directory, Host, Metadata};
use crate::report::{Rung, Stage};
use crate::staged_view::StagedView;
use crate::state::open_or_create_child;

/// The staged files of a plan.
pub(super) struct Staged<'a> {
    /// Staged path and final path, of every file that changes.
    pub(super) view: Vec<(PathBuf, PathBuf)>,
    /// For `{staged:N}`: where the checker finds each file of the plan.
    pub(super) found: Vec<PathBuf>,
    /// Something is to be removed, which a view cannot show.
    pub(super) removes: bool,
    /// Every destination existed before, so that the checker must have passed before, too.
    pub(super) renewal: bool,
    /// A private directory for scratch files.
    pub(super) scratch: &'a Directory,
    /// The mount point for private views.
    pub(super) mount_point: PathBuf,
}

/// What a checker said of staged files.
pub(super) struct Verdict {
    /// The rung that was reached, if any.
    pub(super) rung: Option<Rung>,
    /// What could not be checked, and why.
    pub(super) missing: Option<String>,
}

impl Verdict {
    /// Puts it into the report.
    pub(super) fn write(self, member: &mut Member) {
        if let Some(rung) = self.rung {
            reached(member, rung);
        }
        if let Some(why) = self.missing {
            member.report.degrade("validate", why);
        }
    }
}

impl Group<'_> {
    /// Runs every checker of the members on the staged files (V3, else V2).
    pub(super) fn validate(&mut self) -> Result<(), Error> {
        self.enter(Stage::Validate);
        let mut passed: Vec<Validate> = Vec::new();
        for index in 0..self.members.len() {
            let verdict = match self.members[index].plan.hooks.validate.clone() {
                None => Verdict { rung: None, missing: Some("no checker is configured".to_owned()) },
                // One view shows the files of all members, so that one look of a checker is enough.
                Some(validate) if passed.contains(&validate) => Verdict { rung: Some(Rung::V3), missing: None },
                Some(validate) => {
                    let verdict = self.check_staged(index, &validate)?;
                    if verdict.rung == Some(Rung::V3) {
                        passed.push(validate);
                    }
                    verdict
                }
            };
            verdict.write(&mut self.members[index]);
        }
        self.start_in_private()
    }

    fn check_staged(&self, index: usize, validate: &Validate) -> Result<Verdict, Error> {
        check_staged(self.context, validate, &self.staged(index)?)
    }

    /// The staged files of all members, and where those of one are found.
    pub(super) fn staged(&self, index: usize) -> Result<Staged<'_>, Error> {
        Ok(Staged {
            view: self.members.iter().flat_map(|member| self.staged_paths(member)).collect(),
            found: self.found_paths(&self.members[index]),
            removes: self.files().any(|file| file.action == FileAction::Remove),
            renewal: self.files().all(|file| file.before.is_some()),
            scratch: &self.state.root,
            mount_point: self.state.view(self.host()).map_err(scratch_failed)?,
        })
    }

    /// Runs every checker on the live files (V5).
    pub(super) fn validate_live(&mut self) -> Result<(), Error> {
        let mut passed: Vec<Validate> = Vec::new();
        for index in 0..self.members.len() {
            let Some(validate) = self.members[index].plan.hooks.validate.clone() else { continue };
            if !passed.contains(&validate) {
                let output = run(self.context, &validate.command, None)?;
                if !output.success() {
                    return Err(refused(&validate.command, &output, "after the switch"));
                }
                passed.push(validate);
            }
            reached(&mut self.members[index], Rung::V5);
        }
        Ok(())
    }

    fn staged_paths(&self, member: &Member) -> Vec<(PathBuf, PathBuf)> {
        let id = self.id;
        let staged = member.files.iter().enumerate().filter(|(_, file)| file.staged.is_some());
        staged
            .filter_map(|(index, file)| Some((file.hidden.as_ref()?.path().join(file.staged_name(id, index)), file.place.path())))
            .collect()
    }

    fn found_paths(&self, member: &Member) -> Vec<PathBuf> {
        let id = self.id;
        let path = |(index, file): (usize, &File)| match (&file.staged, &file.hidden) {
            (Some(_), Some(hidden)) => hidden.path().join(file.staged_name(id, index)),
            _ => file.place.path(),
        };
        member.files.iter().enumerate().map(path).collect()
    }
}

/// The ladder: the real configuration in a private view (V3); else a minimal configuration (V2); else nothing, and said so.
///
/// A failure in the view is blamed on the new files only if the same checker passes without them. If it fails in an
/// unchanged view and passes outside, it cannot work in a view, and a lower rung has to do.
pub(super) fn check_staged(context: &Context, validate: &Validate, staged: &Staged<'_>) -> Result<Verdict, Error> {
    let why = match in_view(context, validate, staged)? {
        InView::Passed => return Ok(Verdict { rung: Some(Rung::V3), missing: None }),
        InView::Impossible(why) => why,
    };
    let missing =
        |rest: &str| Some(format!("the checker could not be shown the new files in the real configuration: {why}{rest}"));
    match &validate.minimal {
        Some(minimal) if !staged.removes => {
            minimal_configuration(context, minimal, staged)?;
            Ok(Verdict { rung: Some(Rung::V2), missing: missing("; a minimal configuration was checked instead") })
        }
        _ => Ok(Verdict { rung: None, missing: missing("; it looks again after the switch") }),
    }
}

enum InView {
    Passed,
    Impossible(String),
}

fn in_view(context: &Context, validate: &Validate, staged: &Staged<'_>) -> Result<InView, Error> {
    if staged.removes {
        return Ok(InView::Impossible("a file is to be removed".to_owned()));
    }
    if !context.host().facilities().staged_view {
        return Ok(InView::Impossible("the host has no private views".to_owned()));
    }
    let full = StagedView::new(staged.view.clone(), staged.mount_point.clone());
    let (view, first) = match run(context, &validate.command, Some(&full)) {
        Err(error) if is_view_error(&error) && staged.renewal => {
            let binds = full.binds_only();
            let first = run(context, &validate.command, Some(&binds));
            (binds, first)
        }
        first => (full, first),
    };
    let output = match first {
        Err(error) if is_view_error(&error) => return Ok(InView::Impossible(error.full_message())),
        first => first?,
    };
    if output.success() {
        return Ok(InView::Passed);
    }
    if !staged.renewal {
        return Err(refused(&validate.command, &output, "with the new files in place"));
    }
    let unchanged = StagedView { files: Vec::new(), ..view };
    if run(context, &validate.command, Some(&unchanged))?.success() {
        return Err(refused(&validate.command, &output, "with the new files in place"));
    }
    let outside = run(context, &validate.command, None)?;
    if outside.success() {
        return Ok(InView::Impossible(format!("it does not work in a private view ({})", output.message())));
    }
    Err(Error::new(
        ErrorKind::TargetAlreadyBroken,
        format!("`{}` fails without the new files, too: {}", validate.command.display(), outside.verdict()),
    )
    .with_next_step(format!("repair the configuration until `{}` passes, then run again", validate.command.display())))
}

fn minimal_configuration(context: &Context, minimal: &Minimal, staged: &Staged<'_>) -> Result<(), Error> {
    let host = context.host();
    let scratch = Scratch::create(host, staged.scratch, "minimal").map_err(scratch_failed)?;
    let path = scratch.directory.path().join("configuration");
    let fill = |text: &str| fill(text, &staged.found, scratch.directory.path(), &path);
    let us = host.identity().map_err(scratch_failed)?;
    let text = fill(&minimal.configuration);
    let name = OsStr::new("configuration");
    host.create(&scratch.directory, name, text.as_bytes(), &Metadata::new(us.uid, us.gid, 0o600)).map_err(scratch_failed)?;
    let mut command = minimal.command.clone();
    command.arguments = command.arguments.iter().map(|argument| OsString::from(fill(&argument.to_string_lossy()))).collect();
    command.directory = Some(scratch.directory.path().to_owned());
    let output = run(context, &command, None)?;
    if output.success() { Ok(()) } else { Err(refused(&command, &output, "in a minimal configuration with the new files")) }
}

fn fill(text: &str, staged: &[PathBuf], scratch: &Path, configuration: &Path) -> String {
    let mut text = text.to_owned();
    for (index, path) in staged.iter().enumerate() {
        text = text.replace(&format!("{{staged:{index}}}"), &path.to_string_lossy());
    }
    text.replace("{scratch}", &scratch.to_string_lossy()).replace("{configuration}", &configuration.to_string_lossy())
}

/// A private directory that goes away with what was written to it.
pub(super) struct Scratch<'a> {
    host: &'a dyn Host,
    parent: Directory,
    name: OsString,
    pub(super) directory: Directory,
}

impl<'a> Scratch<'a> {
    pub(super) fn create(host: &'a dyn Host, parent: &Directory, purpose: &str) -> io::Result<Self> {
        let name =
            OsString::from(format!("{purpose}-{}-{:?}", std::process::id(), std::thread::current().id()).replace(['(', ')'], ""));
        let directory = open_or_create_child(host, parent, &name, &mut false)?;
        let scratch = Self { host, parent: parent.clone(), name, directory };
        scratch.empty(&scratch.directory);
        Ok(scratch)
    }

    fn empty(&self, directory: &Directory) {
        for name in self.host.list(directory).unwrap_or_default() {
            if self.host.unlink(directory, &name).is_err() {
                if let Ok(child) = self.host.open_child(directory, &name) {
                    self.empty(&child);
                }
                let _swept_by_recovery = self.host.remove_child(directory, &name);
            }
        }
    }
}

impl Drop for Scratch<'_> {
    fn drop(&mut self) {
        self.empty(&self.directory);
        let _swept_by_recovery = self.host.remove_child(&self.parent, &self.name);
    }
}

fn run(context: &Context, command: &Command, view: Option<&StagedView>) -> Result<CommandOutput, Error> {
    let limits = Limits::new(context.deadline(), Some(context.cancellation()));
    context.host().run(command, view, &limits).map_err(|error| {
        let (kind, step) = match &error {
            CommandError::Interrupted => (ErrorKind::Interrupted, "run it again"),
            CommandError::NotFound { .. } => (ErrorKind::PlanInvalid, "install it, or write its whole path in `validate`"),
            _ => (
                ErrorKind::ValidateFailed,
                "run it by hand; give it more time with `validate = { command = [...], timeout = \"60s\" }`",
            ),
        };
        Error::new(kind, format!("`{}` could not be asked", command.display())).with_source(error).with_next_step(step)
    })
}

fn is_view_error(error: &Error) -> bool {
    std::error::Error::source(error)
        .and_then(|source| source.downcast_ref::<CommandError>())
        .is_some_and(|error| matches!(error, CommandError::View { .. }))
}

fn refused(command: &Command, output: &CommandOutput, when: &str) -> Error {
    Error::new(ErrorKind::ValidateFailed, format!("`{}` refuses {when}: {}", command.display(), output.verdict()))
        .with_next_step("read what it says; the new certificate or the configuration has to change")
}

fn scratch_failed(error: io::Error) -> Error {
    Error::new(ErrorKind::StageFailed, "a private directory for the checker cannot be made in the state directory")
        .with_next_step("check the owner, the mode and the free space of the state directory")
        .with_source(error)
}

//! `doctor`: looks for what would keep deployments from working. Changes nothing that stays.

use std::collections::BTreeSet;
use std::fs::{DirBuilder, Metadata};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deploy_core::command::{Command, Limits, PATH};
use deploy_core::host::Local;
use deploy_core::staged_view::StagedView;
use deploy_core::{Context, Preview, Recovery, Registry, Reload};
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::{AccessFlags, access};

use crate::cli::Options;
use crate::config::{self, ConfiguredTarget};
use crate::exit;
use crate::failure::Failure;
use crate::output::json::{Doctor, Finding, TargetError};
use crate::output::{self, text};
use crate::session::{Runner, Session, absolute};

/// Looks at everything; 1 if something fails, otherwise 0.
pub(crate) fn run(options: &Options, registry: &Registry) -> Result<u8, Failure> {
    let mut findings = Vec::new();
    match config::load(&absolute(&options.config)?, registry, &Local::new()) {
        Ok(configuration) => {
            let session = Session::with(options, configuration)?;
            findings.push(ok("configuration", format!("{} is right", options.config.display())));
            system(session.runner().context(), &mut findings);
            targets(&session, &mut findings)?;
        }
        Err(error) => {
            let advice = error.next_step();
            findings.extend(error.problems.iter().map(|problem| fail("configuration", problem.to_string(), &advice)));
            system(Runner::new(options, error.state_directory.as_deref())?.context(), &mut findings);
        }
    }
    let document = Doctor { findings };
    output::print(options.json, &document, text::doctor);
    Ok(if document.findings.iter().any(|finding| finding.level == "fail") { exit::FAILURE } else { exit::SUCCESS })
}

fn ok(check: &str, message: impl Into<String>) -> Finding {
    Finding { check: check.to_owned(), level: "ok", message: message.into(), advice: None }
}

fn warn(check: &str, message: impl Into<String>, advice: &str) -> Finding {
    Finding { level: "warn", advice: Some(advice.to_owned()), ..ok(check, message) }
}

fn fail(check: &str, message: impl Into<String>, advice: &str) -> Finding {
    Finding { level: "fail", ..warn(check, message, advice) }
}

/// What does not depend on a target.
fn system(context: &Context, findings: &mut Vec<Finding>) {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    findings.push(ok("program", format!("certdeploy {}, Linux {}", env!("CARGO_PKG_VERSION"), kernel.trim())));
    findings.push(user(context));
    findings.push(match context.host().boot_id() {
        Ok(id) => ok("boot id", id),
        Err(error) => warn("boot id", format!("cannot be read: {error}"), "mount /proc: locks and journals tell reboots by it"),
    });
    state_directory(context, findings);
    findings.push(private_view(context));
}

fn user(context: &Context) -> Finding {
    match context.host().identity() {
        Ok(identity) if identity.can_change_owner => ok("user", format!("uid {}, may give files to any owner", identity.uid)),
        Ok(identity) => warn(
            "user",
            format!("uid {} may not give files to other owners", identity.uid),
            "run as root or with CAP_CHOWN, or let the files belong to this user; see \"running without root\" in the documentation",
        ),
        Err(error) => fail("user", format!("cannot be found out: {error}"), "check that /proc is mounted"),
    }
}

fn state_directory(context: &Context, findings: &mut Vec<Finding>) {
    const CHECK: &str = "state directory";
    let path = context.state_directory();
    let uid = nix::unistd::geteuid().as_raw();
    match std::fs::metadata(path) {
        Ok(metadata) => findings.push(existing_state_directory(path, &metadata, uid)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => findings.push(missing_state_directory(path)),
        Err(error) => findings.push(fail(CHECK, format!("{}: {error}", path.display()), "name another with --state-dir")),
    }
    let Some(parent) = path.ancestors().find(|ancestor| ancestor.is_dir()) else { return };
    let Ok(filesystem) = statfs(parent) else { return };
    if filesystem.filesystem_type() == TMPFS_MAGIC {
        let message =
            format!("{} is in memory (tmpfs): after a power loss, interrupted deployments cannot be settled", path.display());
        findings.push(warn(CHECK, message, "put it on a disk that survives a reboot"));
    }
    let free = filesystem.blocks_available().saturating_mul(u64::try_from(filesystem.block_size()).unwrap_or(0)) >> 20;
    findings.push(if free < 16 {
        warn(CHECK, format!("{free} MiB are free"), "make room: journals and backups need a few MiB")
    } else {
        ok(CHECK, format!("{free} MiB are free"))
    });
}

fn existing_state_directory(path: &Path, metadata: &Metadata, uid: u32) -> Finding {
    const CHECK: &str = "state directory";
    let (shown, mode) = (path.display(), metadata.mode() & 0o7777);
    if !metadata.is_dir() {
        fail(CHECK, format!("{shown} is not a directory"), "remove it, or name another with --state-dir")
    } else if metadata.uid() != uid {
        let message = format!("{shown} belongs to uid {}, not to uid {uid}", metadata.uid());
        fail(CHECK, message, "always run as the same user, or give each user a --state-dir of its own")
    } else if mode & 0o077 != 0 {
        fail(CHECK, format!("others can get into {shown} (mode {mode:04o})"), &format!("run `chmod 0700 {shown}`"))
    } else {
        ok(CHECK, format!("{shown}, mode {mode:04o}"))
    }
}

fn missing_state_directory(path: &Path) -> Finding {
    const CHECK: &str = "state directory";
    let parent = path.ancestors().skip(1).find(|ancestor| ancestor.is_dir()).unwrap_or(Path::new("/"));
    match access(parent, AccessFlags::W_OK | AccessFlags::X_OK) {
        Ok(()) => ok(CHECK, format!("{} will be created by the first deployment", path.display())),
        Err(error) => fail(
            CHECK,
            format!("{} cannot be created in {}: {error}", path.display(), parent.display()),
            "create it with mode 0700 for this user, or name another with --state-dir",
        ),
    }
}

/// Whether a validator can be shown staged files at their final paths.
fn private_view(context: &Context) -> Finding {
    const CHECK: &str = "staged validation";
    const ADVICE: &str = "allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, or the container's security options), or run as \
                          root; without them, a lower rung of validation is used";
    let directory = std::env::temp_dir().join(format!("certdeploy-doctor-{}", std::process::id()));
    if let Err(error) = DirBuilder::new().mode(0o700).create(&directory) {
        return warn(
            CHECK,
            format!("{} cannot be created: {error}", directory.display()),
            "make the directory for temporary files writable",
        );
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let view = StagedView::new(Vec::new(), directory.clone());
    let result = context.host().run(&Command::new(["true"]), Some(&view), &Limits::new(deadline, None));
    std::fs::remove_dir(&directory).ok();
    match result {
        Ok(output) if output.success() => ok(CHECK, "private views work: checkers see new files at their final paths"),
        Ok(output) => warn(CHECK, format!("`true` ended in a private view with {}", output.ending()), ADVICE),
        Err(error) => warn(CHECK, chain(&error), ADVICE),
    }
}

/// Commands, and what the engine says about each target.
fn targets(session: &Session, findings: &mut Vec<Finding>) -> Result<(), Failure> {
    let selected = session.targets();
    // Those of other machines are looked for when the targets are tried.
    let here = selected.iter().filter(|target| target.machine.is_none());
    let programs: BTreeSet<_> =
        here.flat_map(|target| commands(target)).filter_map(|command| command.arguments.first().cloned()).collect();
    for program in programs {
        let name = Path::new(&program);
        let shown = name.display();
        findings.push(match find_program(name) {
            Some(path) => ok("command", format!("{shown}: {}", path.display())),
            None => fail(
                "command",
                format!("{shown} is not there, or not executable (searched: {PATH})"),
                "install it, or write its full path",
            ),
        });
    }
    let previews = session.each(|target, context| {
        let job = target.job();
        async move { deploy_core::preview(&job, &context).await }
    })?;
    for (target, preview) in selected.iter().zip(previews) {
        let check = format!("target {}", target.name);
        match preview {
            Some(preview) => describe(&check, &preview, findings),
            None => findings.push(fail(&check, "the engine ended without a result", "please report this as a defect")),
        }
    }
    Ok(())
}

fn describe(check: &str, preview: &Preview, findings: &mut Vec<Finding>) {
    if let Some(pending) = &preview.pending_recovery {
        findings.push(warn(check, pending, "run `certdeploy recover`"));
    }
    findings
        .extend(preview.warnings.iter().map(|warning| warn(check, warning, "see the page about this kind in the documentation")));
    let limits = preview.degraded.iter().map(|degraded| format!("{}: {}", degraded.what, degraded.why));
    findings.extend(limits.map(|limit| warn(check, limit, "see \"validation\" in the documentation")));
    findings.push(match &preview.error {
        None => ok(check, format!("can be deployed to, checked up to {:?}", preview.validated)),
        Some(error) => {
            let error = TargetError::from(error);
            fail(check, error.message, error.next_step.as_deref().unwrap_or("run `certdeploy plan`"))
        }
    });
}

fn commands(target: &ConfiguredTarget) -> Vec<Command> {
    let Recovery::Files(hooks) = target.target.recovery() else { return Vec::new() };
    let steps = hooks.reload.as_ref().map(Reload::steps).unwrap_or_default();
    let reload = steps.into_iter().filter_map(|step| match step {
        Reload::Command(command) => Some(command.clone()),
        _ => None,
    });
    hooks.validate.map(|validate| validate.command).into_iter().chain(reload).chain(hooks.restart).collect()
}

/// As the engine looks programs up.
fn find_program(program: &Path) -> Option<PathBuf> {
    let candidates: Vec<PathBuf> = if program.components().count() > 1 || program.is_absolute() {
        vec![program.to_owned()]
    } else {
        PATH.split(':').map(|directory| Path::new(directory).join(program)).collect()
    };
    candidates.into_iter().find(|path| path.is_file() && access(path.as_path(), AccessFlags::X_OK).is_ok())
}

fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_up_as_the_engine_does() {
        assert!(find_program(Path::new("true")).is_some());
        assert!(find_program(Path::new("/bin/sh")).is_some());
        assert_eq!(find_program(Path::new("no-such-program-here")), None);
        assert_eq!(find_program(Path::new("/etc/passwd")), None, "not executable");
    }

    #[test]
    fn s3_a_state_directory_that_others_can_enter_fails() {
        let directory = tempfile::tempdir().unwrap();
        let uid = nix::unistd::geteuid().as_raw();
        let level = |path: &Path, uid| existing_state_directory(path, &std::fs::metadata(path).unwrap(), uid).level;
        let [private, open] = [("private", 0o700), ("open", 0o755)].map(|(name, mode)| {
            let path = directory.path().join(name);
            DirBuilder::new().mode(mode).create(&path).unwrap();
            path
        });
        assert_eq!(level(&private, uid), "ok");
        assert_eq!(level(&private, uid + 1), "fail");
        assert_eq!(level(&open, uid), "fail");
        assert_eq!(level(Path::new("/etc/passwd"), uid), "fail");
    }
}

//! `recover`: finishes or undoes what an interrupted run left.

use deploy_core::host::Local;
use deploy_core::{Job, Live, Recovered, RecoveryScope, Registry};

use crate::cli::Options;
use crate::config::{self, ConfiguredTarget};
use crate::exit;
use crate::failure::Failure;
use crate::output::json::Recover;
use crate::output::{self, text};
use crate::session::{Runner, Session, absolute, concurrently};

use super::verify::stopped;

/// Settles everything that is left over: 0, or the most severe of what could not be settled.
///
/// The journal says which files have to become what, so that `--files-only` works without a configuration, too: a mistake in
/// it must not keep servers from starting after a crash. It is reported, and the exit code is 2.
pub(crate) fn run(files_only: bool, options: &Options, registry: &Registry) -> Result<u8, Failure> {
    if !options.target.is_empty() || !options.certificate.is_empty() {
        // The engine would take the others for targets that are gone, and run the hooks that they had then.
        return Err(Failure::Usage(
            "`recover` settles everything that is left over: leave --target and --certificate out".to_owned(),
        ));
    }
    let (recovered, failure) = match config::load(&absolute(&options.config)?, registry, &Local::new()) {
        Ok(configuration) => {
            let session = Session::with(options, configuration)?;
            (everywhere(&session, files_only)?, None)
        }
        Err(error) if files_only => {
            let runner = Runner::new(options, error.state_directory.as_deref())?;
            let recovered = runner.block_on(deploy_core::recover(&[], RecoveryScope::FilesOnly, runner.context()))?;
            (recovered, Some(Failure::from(error)))
        }
        Err(error) => return Err(error.into()),
    };
    if let Some(failure) = &failure {
        output::complain(&text::failure(failure));
    }
    let document = Recover { recovered: recovered.iter().map(Into::into).collect(), error: failure.as_ref().map(Into::into) };
    output::print(options.json, &document, text::recover);
    Ok(exit::most_severe(recovered.iter().map(code).chain(failure.as_ref().map(Failure::code))))
}

/// On this machine, and then on the others. With `files_only` not on those: that is for the start of this one.
fn everywhere(session: &Session, files_only: bool) -> Result<Vec<Recovered>, Failure> {
    let scope = if files_only { RecoveryScope::FilesOnly } else { RecoveryScope::Full };
    let machines = session.machines();
    let work = machines.into_iter().take(if files_only { 1 } else { usize::MAX }).map(|targets| {
        let context = session.context(targets.iter().copied());
        let jobs: Vec<Job> = targets.into_iter().map(ConfiguredTarget::job).collect();
        async move { deploy_core::recover(&jobs, scope, &context).await }
    });
    let recovered = session.runner().block_on(concurrently(work.collect(), session.concurrency()))?;
    recovered.into_iter().map(stopped).collect::<Result<Vec<_>, _>>().map(|all| all.into_iter().flatten().collect())
}

fn code(recovered: &Recovered) -> u8 {
    match &recovered.error {
        None => exit::SUCCESS,
        Some(_) if recovered.live == Live::Unknown => exit::ROLLBACK_FAILED,
        Some(error) => exit::of_error(error),
    }
}

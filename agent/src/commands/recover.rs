//! `recover`: finishes or undoes what an interrupted run left.

use deploy_core::host::Local;
use deploy_core::{Job, Live, Recovered, RecoveryScope, Registry};

use crate::cli::Options;
use crate::config;
use crate::exit;
use crate::failure::Failure;
use crate::output::json::Recover;
use crate::output::{self, text};
use crate::session::{Runner, Session, absolute};

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
            let jobs: Vec<Job> = session.targets().into_iter().map(|target| target.job()).collect();
            let scope = if files_only { RecoveryScope::FilesOnly } else { RecoveryScope::Full };
            let context = session.context(session.targets());
            (session.runner().block_on(deploy_core::recover(&jobs, scope, &context))?, None)
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

fn code(recovered: &Recovered) -> u8 {
    match &recovered.error {
        None => exit::SUCCESS,
        Some(_) if recovered.live == Live::Unknown => exit::ROLLBACK_FAILED,
        Some(error) => exit::of_error(error),
    }
}

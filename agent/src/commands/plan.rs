//! `plan`: what `deploy` would do; nothing is changed.

use deploy_core::{Preview, TargetState};

use super::verify::stopped;
use crate::cli::Options;
use crate::exit;
use crate::failure::Failure;
use crate::output::json::Plan;
use crate::output::{self, text};
use crate::session::Session;

/// Shows what would be done with the targets that were asked for: 0, 10 with `--detailed-exitcode` if something would change,
/// 3 if something would be refused.
pub(crate) fn run(session: &Session, options: &Options) -> Result<u8, Failure> {
    let previews = session.each(|target, context| {
        let job = target.job();
        async move { deploy_core::preview(&job, &context).await }
    })?;
    let previews: Vec<Preview> = previews.into_iter().map(stopped).collect::<Result<_, _>>()?;
    let document = Plan { targets: previews.iter().map(Into::into).collect(), error: None };
    output::print(options.json, &document, text::plan);
    Ok(exit::most_severe(previews.iter().map(|preview| code(preview, options.detailed_exitcode))))
}

fn code(preview: &Preview, detailed: bool) -> u8 {
    let changes = preview.state != TargetState::Unchanged || preview.pending_recovery.is_some();
    match &preview.error {
        Some(error) => exit::of_error(error),
        None if changes && detailed => exit::CHANGED,
        None => exit::SUCCESS,
    }
}

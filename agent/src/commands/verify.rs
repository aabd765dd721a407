//! `verify`: what the endpoints serve.

use deploy_core::Verification;

use crate::cli::Options;
use crate::exit;
use crate::failure::Failure;
use crate::output::json::Verify;
use crate::output::{self, text};
use crate::session::Session;

/// Asks the endpoints of the targets that were asked for: 0 if all serve the wanted certificate, 3 if one does not or cannot
/// be reached, 6 if a target has none.
pub(crate) fn run(session: &Session, options: &Options) -> Result<u8, Failure> {
    let verifications = session.each(|target, context| {
        let job = target.job();
        async move { deploy_core::verify(&job, &context).await }
    })?;
    let verifications: Vec<Verification> = verifications.into_iter().map(stopped).collect::<Result<_, _>>()?;
    let document = Verify { targets: verifications.iter().map(Into::into).collect(), error: None };
    output::print(options.json, &document, text::verify);
    Ok(exit::most_severe(verifications.iter().map(code)))
}

/// The result of work that changes nothing, unless it panicked.
pub(super) fn stopped<T>(result: Option<T>) -> Result<T, Failure> {
    result.ok_or_else(|| Failure::Internal("the engine ended without a result; please report this as a defect".to_owned()))
}

fn code(verification: &Verification) -> u8 {
    match &verification.error {
        Some(error) => exit::of_error(error),
        None if verification.passed() => exit::SUCCESS,
        None if !verification.configured => exit::UNVERIFIED,
        None => exit::REJECTED,
    }
}

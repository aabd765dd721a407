//! `rollback`: brings an earlier deployment of one target back.

use deploy_core::Registry;

use super::deploy::{finish, lost};
use crate::cli::Options;
use crate::failure::Failure;
use crate::session::Session;

/// Goes back to the state `to`, or to the one before the last deployment. Ends as `deploy` does.
pub(crate) fn run(name: String, to: Option<&str>, mut options: Options, registry: &Registry) -> Result<u8, Failure> {
    if !options.target.is_empty() || !options.certificate.is_empty() {
        return Err(Failure::Usage(
            "`rollback` takes its target as an argument: leave --target and --certificate out".to_owned(),
        ));
    }
    options.target = vec![name];
    let session = Session::open(&options, registry)?;
    let to = to.map(str::to_owned);
    let reports = session.each(|target, context| {
        let (job, to) = (target.job(), to.clone());
        async move { deploy_core::rollback(&job, to.as_deref(), &context).await }
    })?;
    let reports: Vec<_> = reports
        .into_iter()
        .zip(session.targets())
        .map(|(report, target)| report.unwrap_or_else(|| lost(&target.name, &target.kind)))
        .collect();
    Ok(finish(&reports, &options))
}

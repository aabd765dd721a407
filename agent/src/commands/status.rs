//! `status`: where the targets stand.

use crate::cli::Options;
use crate::exit;
use crate::failure::Failure;
use crate::output::json::{Status, TargetState};
use crate::output::{self, text};
use crate::session::Session;

use super::verify::stopped;

/// Shows the targets that were asked for. 0, but 1 with `fail_under` if a certificate on disk has fewer days left or is
/// missing, or if something is owed.
pub(crate) fn run(session: &Session, options: &Options, fail_under: Option<u32>) -> Result<u8, Failure> {
    let statuses = session.each(|target, context| {
        let job = target.job();
        async move { deploy_core::status(&job, &context).await }
    })?;
    let now = session.runner().context().host().now();
    let targets = statuses.into_iter().map(|status| stopped(status).map(|status| TargetState::new(&status, now)));
    let document = Status { targets: targets.collect::<Result<_, _>>()?, error: None };
    output::print(options.json, &document, text::status);
    let alarm = fail_under.is_some_and(|days| document.targets.iter().any(|target| is_alarming(target, days)));
    Ok(if alarm { exit::FAILURE } else { exit::SUCCESS })
}

fn is_alarming(target: &TargetState, days: u32) -> bool {
    target.owed.is_some() || target.days_left.is_none_or(|left| left < i64::from(days))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(days_left: Option<i64>, owed: Option<&str>) -> TargetState {
        TargetState {
            target: "front".to_owned(),
            kind: "nginx".to_owned(),
            wanted: None,
            on_disk: None,
            not_after: None,
            days_left,
            served: Vec::new(),
            owed: owed.map(str::to_owned),
            hold: None,
            sets: Vec::new(),
            error: None,
        }
    }

    #[test]
    fn few_days_none_at_all_and_debts_are_alarming() {
        assert!(!is_alarming(&state(Some(14), None), 14));
        assert!(is_alarming(&state(Some(13), None), 14));
        assert!(is_alarming(&state(Some(-1), None), 0));
        assert!(is_alarming(&state(None, None), 0));
        assert!(is_alarming(&state(Some(90), Some("a reload")), 14));
    }
}

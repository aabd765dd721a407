//! `deploy`: each service is one deployment, and some of them run at the same time.

use std::ops::Deref;
use std::sync::Arc;

use deploy_core::{Context, Error, ErrorKind, Event, EventSink, Job, Live, Outcome, Report, Retry};

use crate::cli::Options;
use crate::exit;
use crate::failure::Failure;
use crate::output::json::Deploy;
use crate::output::{self, text};
use crate::service;
use crate::session::{Session, concurrently};

/// Deploys to the targets that were asked for.
pub(crate) fn run(session: &Session, options: &Options) -> Result<u8, Failure> {
    let targets = session.targets();
    let groups = service::groups(&targets);
    let work = groups
        .iter()
        .map(|group| {
            let members = || group.iter().map(|&index| targets[index]);
            let jobs = members().map(|target| target.job()).collect();
            let progress = Arc::clone(session.runner().progress());
            deploy_service(jobs, session.context(members()), progress)
        })
        .collect();
    let results = session.runner().block_on(concurrently(work, session.concurrency()))?;
    let mut reports: Vec<Option<Report>> = targets.iter().map(|_| None).collect();
    for (group, results) in groups.iter().zip(results) {
        group.iter().zip(results.into_iter().flatten()).for_each(|(&index, report)| reports[index] = Some(report));
    }
    let reports: Vec<Report> = reports
        .into_iter()
        .zip(&targets)
        .map(|(report, target)| report.unwrap_or_else(|| lost(&target.name, &target.kind)))
        .collect();
    Ok(finish(&reports, options))
}

/// Prints the reports; returns the exit code.
pub(super) fn finish(reports: &[Report], options: &Options) -> u8 {
    let document = Deploy { targets: reports.iter().map(Into::into).collect(), error: None };
    output::print(options.json, &document, text::deploy);
    exit::most_severe(reports.iter().map(|report| report.outcome.exit_code(options.detailed_exitcode)))
}

/// The report of a target for which the engine gave none.
pub(super) fn lost(name: &str, kind: &str) -> Report {
    let error = Error::new(ErrorKind::Internal, "the engine ended without a report")
        .with_live(Live::Unknown)
        .with_next_step("run `certdeploy recover`, then `certdeploy status`; please report this as a defect");
    let mut report = Report::new(name, kind);
    (report.outcome, report.live, report.error) = (Outcome::Failed, Live::Unknown, Some(error));
    report
}

async fn deploy_service(jobs: Vec<Job>, context: Context, events: impl Deref<Target = impl EventSink>) -> Vec<Report> {
    if !context.cancellation().is_cancelled() {
        return deploy_core::deploy(&jobs, &context).await;
    }
    let reports: Vec<Report> = jobs.iter().map(|job| not_started(&job.name, &job.kind)).collect();
    for report in &reports {
        events.event(&Event::Finished { target: report.target.clone(), outcome: report.outcome, duration_ms: 0 });
    }
    reports
}

fn not_started(name: &str, kind: &str) -> Report {
    let error = Error::new(ErrorKind::Interrupted, "stopped by a signal before it was this target's turn")
        .with_retry(Retry::Later)
        .with_next_step("run `certdeploy deploy` again");
    let mut report = Report::new(name, kind);
    (report.outcome, report.error) = (Outcome::Interrupted, Some(error));
    report
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixtures::target;

    #[test]
    fn a1_a_target_that_was_not_started_is_interrupted_and_unchanged() {
        let report = not_started("front", "nginx");
        assert_eq!((report.outcome.exit_code(false), report.live), (exit::INTERRUPTED, Live::Unchanged));
    }

    #[test]
    fn a8_a_service_after_a_signal_is_left_alone_and_each_target_ends_with_one_event() {
        #[derive(Default)]
        struct Count(std::sync::Mutex<Vec<Event>>);
        impl EventSink for Count {
            fn event(&self, event: &Event) {
                self.0.lock().unwrap().push(event.clone());
            }
        }
        let context = Context::new("/nowhere", Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        context.cancellation().cancel();
        let jobs = ["front", "back"].map(|name| target(name, None).job()).to_vec();
        let events = Count::default();
        let reports =
            tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(deploy_service(jobs, context, &events));
        assert!(reports.iter().all(|report| report.outcome == Outcome::Interrupted));
        let ended = events.0.lock().unwrap().iter().map(|event| matches!(event, Event::Finished { .. })).collect::<Vec<_>>();
        assert_eq!(ended, [true, true]);
    }

    #[test]
    fn a4_a_target_without_a_report_is_never_a_success() {
        let report = lost("front", "nginx");
        assert_eq!((report.outcome.exit_code(false), report.live), (exit::FAILURE, Live::Unknown));
    }
}

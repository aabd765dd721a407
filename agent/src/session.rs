//! One run of a command that deals with targets: configuration, selection, runtime, context.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use deploy_core::host::Local;
use deploy_core::{Cancellation, Context, Registry};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::cli::Options;
use crate::config::{self, Configuration, ConfiguredTarget};
use crate::failure::Failure;
use crate::output::progress::Progress;
use crate::{environment, nearest, signals};

/// Time for a target, unless something else is said.
const TIMEOUT: Duration = Duration::from_secs(120);

/// What a command works with.
#[derive(Debug)]
pub(crate) struct Session {
    configuration: Configuration,
    /// Indices of the targets that were asked for.
    selected: Vec<usize>,
    runner: Runner,
    options: Options,
}

/// What is needed even without a configuration.
#[derive(Debug)]
pub(crate) struct Runner {
    context: Context,
    cancellation: Cancellation,
    progress: Arc<Progress>,
    runtime: Runtime,
}

impl Session {
    /// Reads the configuration and gets ready. Touches nothing that it names.
    ///
    /// # Errors
    /// The configuration or the selection is wrong, or the system refuses a runtime.
    pub(crate) fn open(options: &Options, registry: &Registry) -> Result<Self, Failure> {
        let configuration = config::load(&absolute(&options.config)?, registry, &Local::new())?;
        Self::with(options, configuration)
    }

    /// With a configuration that is read already.
    ///
    /// # Errors
    /// As [`Session::open`].
    pub(crate) fn with(options: &Options, configuration: Configuration) -> Result<Self, Failure> {
        let selected = select(&configuration, options)?;
        let mut runner = Runner::new(options, configuration.agent.state_dir.as_deref())?;
        let host = Local::new().with_sync_width(configuration.agent.sync_width.get());
        runner.context = runner.context.with_host(Arc::new(host));
        for warning in &configuration.warnings {
            runner.progress.note(&format!("warning: {warning}"));
        }
        Ok(Self { configuration, selected, runner, options: options.clone() })
    }

    /// The targets that were asked for, in the order of the configuration.
    pub(crate) fn targets(&self) -> Vec<&ConfiguredTarget> {
        self.selected.iter().map(|&index| &self.configuration.targets[index]).collect()
    }

    /// The targets that were asked for, by the machine that they are on: this one first, even if it has none.
    pub(crate) fn machines(&self) -> Vec<Vec<&ConfiguredTarget>> {
        let (here, elsewhere): (Vec<_>, Vec<_>) = self.targets().into_iter().partition(|target| target.machine.is_none());
        let mut machines = vec![here];
        for target in elsewhere {
            match machines.iter_mut().find(|members| members.first().is_some_and(|first| first.machine == target.machine)) {
                Some(members) => members.push(target),
                None => machines.push(vec![target]),
            }
        }
        machines
    }

    /// The context for targets that are worked on together, on the machine that they are on: the longest of their time limits
    /// counts.
    pub(crate) fn context<'a>(&self, targets: impl IntoIterator<Item = &'a ConfiguredTarget>) -> Context {
        let (mut timeout, mut machine) = (None, None);
        for target in targets {
            timeout = timeout.max(Some(target.timeout.unwrap_or(TIMEOUT)));
            machine = machine.or(target.machine.as_ref());
        }
        let context = self.runner.context.clone().with_timeout(self.options.timeout.or(timeout).unwrap_or(TIMEOUT));
        machine.map_or_else(|| context.clone(), |machine| machine.remote.context(&context))
    }

    /// What is needed even without a configuration.
    pub(crate) fn runner(&self) -> &Runner {
        &self.runner
    }

    /// How many services are worked on at the same time.
    pub(crate) fn concurrency(&self) -> usize {
        self.configuration.agent.concurrency.get()
    }

    /// Does the same with each target that was asked for, some at the same time; the results are in their order.
    /// `None` where it panicked.
    ///
    /// # Errors
    /// Signal handlers cannot be installed.
    pub(crate) fn each<T, W>(&self, work: impl Fn(&ConfiguredTarget, Context) -> W) -> Result<Vec<Option<T>>, Failure>
    where
        T: Send + 'static,
        W: Future<Output = T> + Send + 'static,
    {
        let work = self.targets().into_iter().map(|target| work(target, self.context([target]))).collect();
        self.runner.block_on(concurrently(work, self.concurrency()))
    }
}

impl Runner {
    /// Gets ready. `configured` is the state directory that the configuration names.
    ///
    /// # Errors
    /// There is no state directory, or the system refuses a runtime.
    pub(crate) fn new(options: &Options, configured: Option<&Path>) -> Result<Self, Failure> {
        let state_directory = state_directory(options, configured)?;
        let cancellation = Cancellation::default();
        let progress = Arc::new(Progress::new(options.json));
        let context = Context::new(state_directory, Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_events(Arc::clone(&progress) as _)
            .with_cancellation(cancellation.clone())
            .with_variables(environment::variable)
            .with_timeout(options.timeout.unwrap_or(TIMEOUT))
            .with_force(options.force);
        // The engine works on threads of its own; one more waits for all of them and for signals.
        let runtime = Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::Internal(format!("the system refuses threads: {error}")))?;
        Ok(Self { context, cancellation, progress, runtime })
    }

    /// The context, with the common time limit.
    pub(crate) fn context(&self) -> &Context {
        &self.context
    }

    /// Where lines for the operator go while work is under way.
    pub(crate) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// Runs to the end; signals cancel.
    ///
    /// # Errors
    /// Signal handlers cannot be installed.
    pub(crate) fn block_on<T>(&self, work: impl Future<Output = T>) -> Result<T, Failure> {
        self.runtime.block_on(async {
            signals::listen(self.cancellation.clone(), Arc::clone(&self.progress))
                .map_err(|error| Failure::Internal(format!("signals cannot be handled: {error}")))?;
            let result = work.await;
            self.progress.end();
            Ok(result)
        })
    }
}

/// Runs futures, at most `limit` at a time, started in their order; the results are in their order. `None` where one panicked.
pub(crate) async fn concurrently<T, W>(work: Vec<W>, limit: usize) -> Vec<Option<T>>
where
    T: Send + 'static,
    W: Future<Output = T> + Send + 'static,
{
    let mut results: Vec<Option<T>> = work.iter().map(|_| None).collect();
    let permits = Arc::new(Semaphore::new(limit.clamp(1, Semaphore::MAX_PERMITS)));
    let mut running = JoinSet::new();
    for (index, work) in work.into_iter().enumerate() {
        // The semaphore is never closed, and is fair.
        let permit = Arc::clone(&permits).acquire_owned().await;
        running.spawn(async move {
            let result = work.await;
            drop(permit);
            (index, result)
        });
    }
    while let Some(joined) = running.join_next().await {
        if let Ok((index, result)) = joined {
            results[index] = Some(result);
        }
    }
    results
}

/// An absolute path of a flag.
///
/// # Errors
/// It is empty, or there is no current directory.
pub(crate) fn absolute(path: &Path) -> Result<PathBuf, Failure> {
    std::path::absolute(path).map_err(|error| Failure::Usage(format!("`{}` is no usable path: {error}", path.display())))
}

/// The state directory: the flag, the configuration, the default.
///
/// # Errors
/// None of them says one.
pub(crate) fn state_directory(options: &Options, configured: Option<&Path>) -> Result<PathBuf, Failure> {
    match (&options.state_dir, configured) {
        (Some(path), _) => absolute(path),
        (None, Some(path)) => Ok(path.to_owned()),
        (None, None) => environment::default_state_directory()
            .ok_or_else(|| Failure::Usage("there is no home directory to keep state in: give --state-dir PATH".to_owned())),
    }
}

fn select(configuration: &Configuration, options: &Options) -> Result<Vec<usize>, Failure> {
    let targets: Vec<&str> = configuration.targets.iter().map(|target| target.name.as_str()).collect();
    let certificates: Vec<&str> = configuration.certificates.iter().map(String::as_str).collect();
    for (what, asked, known) in [("target", &options.target, &targets), ("certificate", &options.certificate, &certificates)] {
        if let Some(unknown) = asked.iter().find(|name| !known.contains(&name.as_str())) {
            return Err(Failure::Usage(format!("there is no {what} `{unknown}`; {}", nearest::advice(unknown, known))));
        }
    }
    let wanted = |asked: &[String], name: &String| asked.is_empty() || asked.contains(name);
    let selected: Vec<usize> = (0..configuration.targets.len())
        .filter(|&index| {
            let target = &configuration.targets[index];
            wanted(&options.target, &target.name) && wanted(&options.certificate, &target.certificate)
        })
        .collect();
    if selected.is_empty() {
        return Err(Failure::Usage("no target fits what --target and --certificate ask for".to_owned()));
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::Cli;
    use crate::config::AgentSettings;
    use crate::fixtures::target;

    fn session(flags: &[&str]) -> Result<Session, Failure> {
        let targets = vec![target("front", None).within(30), target("back", None).within(300), target("side", None)];
        let configuration = Configuration {
            files: Vec::new(),
            agent: AgentSettings::default(),
            certificates: vec!["www".to_owned(), "other".to_owned()],
            targets,
            warnings: Vec::new(),
        };
        let arguments = ["certdeploy", "deploy", "--state-dir", "/nowhere"].iter().chain(flags);
        Session::with(&Cli::try_parse_from(arguments).unwrap().options, configuration)
    }

    fn timeout(flags: &[&str]) -> u64 {
        let session = session(flags).unwrap();
        session.context(session.targets()).timeout().as_secs()
    }

    #[test]
    fn the_longest_time_limit_of_a_service_counts_and_the_flag_wins() {
        assert_eq!(timeout(&["--target", "front"]), 30);
        assert_eq!(timeout(&["--target", "side"]), 120);
        assert_eq!(timeout(&["--target", "front", "--target", "side"]), 120);
        assert_eq!(timeout(&[]), 300);
        assert_eq!(timeout(&["--timeout", "5s"]), 5);
    }

    #[test]
    fn targets_are_selected_by_name_and_certificate() {
        let names =
            |flags: &[&str]| session(flags).unwrap().targets().iter().map(|target| target.name.clone()).collect::<Vec<_>>();
        assert_eq!(names(&["--target", "side", "--target", "front"]), ["front", "side"], "in the order of the configuration");
        assert_eq!(names(&["--certificate", "www"]).len(), 3);
        assert!(
            matches!(session(&["--certificate", "other"]), Err(Failure::Usage(_))),
            "a typing mistake must not look like success"
        );
    }

    #[test]
    fn each_machine_has_its_own_context_and_this_one_comes_first() {
        let targets =
            vec![target("a", None).on("web1"), target("b", None), target("c", None).on("web2"), target("d", None).on("web1")];
        let configuration = Configuration {
            files: Vec::new(),
            agent: AgentSettings::default(),
            certificates: vec!["www".to_owned()],
            targets,
            warnings: Vec::new(),
        };
        let options = Cli::try_parse_from(["certdeploy", "deploy", "--state-dir", "/s"]).unwrap().options;
        let session = Session::with(&options, configuration).unwrap();
        let machines = session.machines();
        let names = machines.iter().map(|targets| targets.iter().map(|target| target.name.as_str()).collect::<Vec<_>>());
        assert_eq!(names.collect::<Vec<_>>(), [vec!["b"], vec!["a", "d"], vec!["c"]]);
        let state = |index: usize| session.context(machines[index].iter().copied()).state_directory().to_owned();
        assert_eq!(
            [state(0), state(1), state(2)].map(|path| path.display().to_string()),
            ["/s", "/nowhere/web1", "/nowhere/web2"]
        );
    }

    #[test]
    fn the_state_directory_of_the_flag_wins() {
        let options = |flags: &[&str]| Cli::try_parse_from(["certdeploy", "plan"].iter().chain(flags)).unwrap().options;
        let configured = Some(Path::new("/configured"));
        assert_eq!(state_directory(&options(&["--state-dir", "/flag"]), configured).unwrap(), Path::new("/flag"));
        assert_eq!(state_directory(&options(&[]), configured).unwrap(), Path::new("/configured"));
    }

    #[test]
    fn results_keep_their_order_whatever_finishes_first() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let (sender, receiver) = tokio::sync::oneshot::channel::<u8>();
        let first: std::pin::Pin<Box<dyn Future<Output = u8> + Send>> = Box::pin(async { receiver.await.unwrap() });
        let second: std::pin::Pin<Box<dyn Future<Output = u8> + Send>> = Box::pin(async {
            sender.send(1).unwrap();
            2
        });
        assert_eq!(runtime.block_on(concurrently(vec![first, second], 2)), [Some(1), Some(2)]);
    }

    #[test]
    fn a6_one_panic_does_not_stop_the_others() {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let work = (0..3).map(|number| async move { if number == 1 { panic!("on purpose") } else { number } }).collect();
        assert_eq!(runtime.block_on(concurrently(work, 1)), [Some(0), None, Some(2)]);
    }
}

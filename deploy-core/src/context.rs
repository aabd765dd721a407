//! What a deployment is carried out with: host, state directory, deadline, cancellation, crypto provider, events.

use std::fmt;
use std::future::poll_fn;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::Poll;
use std::time::{Duration, Instant};

use rustls::crypto::CryptoProvider;
use tokio::sync::Notify;

use crate::error::{Error, ErrorKind, Retry};
use crate::event::{Discard, Event, EventSink};
use crate::host::{Host, Local};
use crate::secret::SecretString;

/// How long to wait before a target is asked the same once more: at first, and at most.
const BETWEEN_QUESTIONS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// Everything that a deployment needs from its surroundings. Cheap to clone; nothing is global.
///
/// ```
/// # fn provider() -> std::sync::Arc<rustls::crypto::CryptoProvider> { std::sync::Arc::new(rustls::crypto::aws_lc_rs::default_provider()) }
/// use std::time::Duration;
/// let context = deploy_core::Context::new("/var/lib/my-agent", provider()).with_timeout(Duration::from_secs(60));
/// assert_eq!(context.state_directory(), std::path::Path::new("/var/lib/my-agent"));
/// ```
#[derive(Clone)]
pub struct Context {
    host: Arc<dyn Host>,
    state_directory: Arc<Path>,
    provider: Arc<CryptoProvider>,
    events: Arc<dyn EventSink>,
    cancellation: Cancellation,
    deadline: Option<Instant>,
    timeout: Duration,
    force: bool,
    variables: Arc<Variables>,
}

type Variables = dyn Fn(&str) -> Option<SecretString> + Send + Sync;

impl Context {
    /// A context for this machine: 120 seconds for a deployment, no cancellation, events discarded.
    ///
    /// `state_directory` is an absolute path; it is created with mode 0700 when it is first needed, and must be on a disk that
    /// survives a reboot. One directory serves all targets of an agent.
    pub fn new(state_directory: impl Into<PathBuf>, provider: Arc<CryptoProvider>) -> Self {
        Self {
            host: Arc::new(Local::new()),
            state_directory: state_directory.into().into(),
            provider,
            events: Arc::new(Discard),
            cancellation: Cancellation::default(),
            deadline: None,
            timeout: Duration::from_secs(120),
            force: false,
            variables: Arc::new(|_| None),
        }
    }

    /// On another host.
    #[must_use]
    pub fn with_host(mut self, host: Arc<dyn Host>) -> Self {
        self.host = host;
        self
    }

    /// With somewhere for events to go.
    #[must_use]
    pub fn with_events(mut self, events: Arc<dyn EventSink>) -> Self {
        self.events = events;
        self
    }

    /// With a handle by which the caller can stop it.
    #[must_use]
    pub fn with_cancellation(mut self, cancellation: Cancellation) -> Self {
        self.cancellation = cancellation;
        self
    }

    /// With another time limit for one deployment, rollback (60 seconds of its own) not counted. Default 120 seconds.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Runs hooks even when nothing changed, and replaces a live certificate that lasts longer or covers more names.
    #[must_use]
    pub fn with_force(mut self, force: bool) -> Self {
        self.force = force;
        self
    }

    /// With what `env:` references are looked up in. A library never reads the environment by itself.
    #[must_use]
    pub fn with_variables(mut self, lookup: impl Fn(&str) -> Option<SecretString> + Send + Sync + 'static) -> Self {
        self.variables = Arc::new(lookup);
        self
    }

    /// The machine.
    #[must_use]
    pub fn host(&self) -> &dyn Host {
        &*self.host
    }

    /// The machine, to keep.
    #[must_use]
    pub fn host_handle(&self) -> Arc<dyn Host> {
        Arc::clone(&self.host)
    }

    /// Where journals, locks, markers and history live.
    #[must_use]
    pub fn state_directory(&self) -> &Path {
        &self.state_directory
    }

    /// The crypto provider for probes and in-memory handshakes.
    #[must_use]
    pub fn provider(&self) -> &Arc<CryptoProvider> {
        &self.provider
    }

    /// Whether the caller asked to go ahead regardless.
    #[must_use]
    pub fn force(&self) -> bool {
        self.force
    }

    /// How it can be stopped.
    #[must_use]
    pub fn cancellation(&self) -> &Cancellation {
        &self.cancellation
    }

    /// The time limit for one deployment.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When this deployment must be over: fixed when it starts.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline.unwrap_or_else(|| Instant::now() + self.timeout)
    }

    /// The value of an `env:` reference.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<SecretString> {
        (self.variables)(name)
    }

    /// Waits, for a call whose target says "not yet".
    ///
    /// # Errors
    /// The deadline comes first, or the caller asks to stop.
    pub async fn pause(&self, length: Duration) -> Result<(), Error> {
        self.within(async {
            tokio::time::sleep(length).await;
            Ok(())
        })
        .await
    }

    /// Asks a target again and again, first after 50 ms and in the end once a second, until the answer is yes, at most for so long;
    /// `false` where it never was. An error with which trying again can help counts as a no, and is returned if nothing better comes.
    ///
    /// # Errors
    /// The target cannot be asked, the deadline comes first, or the caller asks to stop.
    pub async fn wait_until<A>(&self, at_most: Duration, mut ask: impl FnMut() -> A + Send) -> Result<bool, Error>
    where
        A: Future<Output = Result<bool, Error>> + Send,
    {
        let end = Instant::now() + at_most;
        let (mut pause, longest) = BETWEEN_QUESTIONS;
        loop {
            let answer = ask().await;
            let is_final = match &answer {
                Ok(yes) => *yes,
                Err(error) => error.retry() == Retry::Never,
            };
            if is_final || Instant::now() + pause >= end {
                return answer;
            }
            self.pause(pause).await?;
            // A quick answer comes soon, and who is slow is not to be asked for more than that.
            pause = (pause * 5 / 4).min(longest);
        }
    }

    /// A step until it is done, the deadline, or the caller asks to stop.
    pub(crate) async fn within<T>(&self, step: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
        let left = self.deadline().saturating_duration_since(Instant::now());
        let (mut step, mut cancelled) = (pin!(step), pin!(self.cancellation.cancelled()));
        let step_or_stop = poll_fn(|task| match step.as_mut().poll(task) {
            Poll::Pending => cancelled.as_mut().poll(task).map(|()| {
                Err(Error::new(ErrorKind::Interrupted, "interrupted while the remote was working; whether it did is not known"))
            }),
            done => done,
        });
        tokio::time::timeout(left, step_or_stop).await.unwrap_or_else(|_| {
            Err(Error::new(ErrorKind::Timeout, "the remote did not answer in time")
                .with_next_step("give it more time with --timeout"))
        })
    }

    /// Starts the clock.
    pub(crate) fn started(&self) -> Self {
        Self { deadline: Some(self.deadline()), ..self.clone() }
    }

    /// For what must run to its end: a deadline of its own, deaf to cancellation.
    pub(crate) fn undisturbed(&self, limit: Duration) -> Self {
        Self { deadline: Some(Instant::now() + limit), cancellation: Cancellation::default(), ..self.clone() }
    }

    pub(crate) fn emit(&self, event: &Event) {
        self.events.event(event);
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Context")
            .field("host", &self.host.name())
            .field("state_directory", &self.state_directory)
            .field("timeout", &self.timeout)
            .field("force", &self.force)
            .finish_non_exhaustive()
    }
}

/// Lets a caller stop deployments that are under way. Clones share one state.
///
/// Before the swap a cancelled deployment leaves everything as it was; after it, it rolls back.
#[derive(Clone, Default)]
pub struct Cancellation(Arc<Shared>);

#[derive(Default)]
struct Shared {
    cancelled: Mutex<bool>,
    condition: Condvar,
    notify: Notify,
}

impl Cancellation {
    /// Asks for the stop, for good.
    pub fn cancel(&self) {
        *self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.condition.notify_all();
        self.0.notify.notify_waiters();
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        *self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until cancelled, at most this long; says whether it was.
    #[must_use]
    pub fn wait(&self, at_most: Duration) -> bool {
        let guard = self.0.cancelled.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.condition.wait_timeout_while(guard, at_most, |cancelled| !*cancelled);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends when it is asked for.
    pub async fn cancelled(&self) {
        loop {
            // Before the look, so that no notification falls between look and wait.
            let notified = self.0.notify.notified();
            if self.is_cancelled() {
                return;
            }
            notified.await;
        }
    }
}

impl fmt::Debug for Cancellation {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Cancellation").field(&self.is_cancelled()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(limit: Duration) -> Context {
        Context::new("/nowhere", deploy_testkit::provider()).with_timeout(limit).started()
    }

    #[tokio::test]
    async fn pause_ends_by_itself_with_the_deadline_or_when_the_caller_stops() {
        let patient = context(Duration::from_secs(60));
        assert!(patient.pause(Duration::from_millis(1)).await.is_ok());
        let hasty = context(Duration::from_millis(1));
        assert_eq!(hasty.pause(Duration::from_secs(60)).await.unwrap_err().kind(), ErrorKind::Timeout);
        patient.cancellation().cancel();
        assert_eq!(patient.pause(Duration::from_secs(60)).await.unwrap_err().kind(), ErrorKind::Interrupted);
    }

    /// What comes of asking somebody who gives these answers, and then the last one for ever.
    async fn asked(answers: &[Result<bool, Retry>], at_most: Duration) -> (Result<bool, ErrorKind>, usize) {
        let mut questions = 0;
        let context = context(Duration::from_secs(60));
        let answer = context.wait_until(at_most, || {
            let answer = answers[questions.min(answers.len() - 1)];
            questions += 1;
            async move { answer.map_err(|retry| Error::new(ErrorKind::Unavailable, "busy").with_retry(retry)) }
        });
        let answer = answer.await.map_err(|error| error.kind());
        (answer, questions)
    }

    #[tokio::test]
    async fn a_target_is_asked_until_the_answer_is_yes_or_no_hope_is_left() {
        let long = Duration::from_secs(60);
        assert_eq!(asked(&[Err(Retry::Later), Ok(false), Ok(true)], long).await, (Ok(true), 3));
        assert_eq!(asked(&[Err(Retry::Never)], long).await, (Err(ErrorKind::Unavailable), 1));
        assert_eq!(asked(&[Ok(false)], Duration::ZERO).await, (Ok(false), 1));
        assert_eq!(asked(&[Ok(false), Err(Retry::Later)], Duration::from_millis(120)).await.0, Err(ErrorKind::Unavailable));
    }
}

//! What goes wrong, for which requests, and how often.

use std::sync::Mutex;
use std::time::Duration;

use super::exchange::{Answer, HttpRequest};
use super::lock;

/// One fault: by default for every request, from the next one on, until it is healed.
///
/// ```
/// use deploy_testkit::stand_in::{Answer, Fault};
///
/// // The first two uploads are taken, the third one and all others fail.
/// let partial = Fault::answer(Answer::new(503)).changing().below("/v1/certificates").after(2);
/// // The next change is made, and nobody is told.
/// let lost = Fault::close_after().changing().times(1);
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Fault {
    effect: Effect,
    calls: Calls,
    prefix: String,
    header: Option<(String, String)>,
    skip: usize,
    left: Option<usize>,
}

#[derive(Clone, Debug)]
pub(super) enum Effect {
    Answer(Answer),
    CloseAfter,
    CloseBefore,
    Late(Duration),
    Never,
    Twice,
    UntrustedCertificate,
}

#[derive(Clone, Copy, Debug)]
enum Calls {
    All,
    Changing,
    Reading,
}

impl Fault {
    /// Answers this instead, and does nothing.
    pub fn answer(answer: Answer) -> Self {
        Self::with(Effect::Answer(answer))
    }

    /// Reads the request, does nothing, and closes the connection without an answer.
    pub fn close_before() -> Self {
        Self::with(Effect::CloseBefore)
    }

    /// Does what was asked, and closes the connection without an answer.
    pub fn close_after() -> Self {
        Self::with(Effect::CloseAfter)
    }

    /// Does what was asked, and answers only after this time.
    pub fn late(delay: Duration) -> Self {
        Self::with(Effect::Late(delay))
    }

    /// Reads the request, does nothing, and keeps the connection open without an answer.
    pub fn never() -> Self {
        Self::with(Effect::Never)
    }

    /// Does what was asked a second time, and answers that: something on the way has repeated the request.
    pub fn twice() -> Self {
        Self::with(Effect::Twice)
    }

    /// Presents a certificate of an authority that nobody trusts. Method and path are not known at that point, so that it
    /// meets every connection. Without TLS it meets none.
    pub fn untrusted_certificate() -> Self {
        Self::with(Effect::UntrustedCertificate)
    }

    fn with(effect: Effect) -> Self {
        Self { effect, calls: Calls::All, prefix: String::new(), header: None, skip: 0, left: None }
    }

    /// For GET and HEAD only.
    pub fn reading(mut self) -> Self {
        self.calls = Calls::Reading;
        self
    }

    /// For everything but GET and HEAD.
    pub fn changing(mut self) -> Self {
        self.calls = Calls::Changing;
        self
    }

    /// For paths that begin like this.
    pub fn below(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = prefix.into();
        self
    }

    /// For requests with a header that begins like this: an API that has one path for everything says there what it is asked for.
    pub fn with_header(mut self, name: impl Into<String>, beginning: impl Into<String>) -> Self {
        self.header = Some((name.into(), beginning.into()));
        self
    }

    /// For so many of them, and then no more.
    pub fn times(mut self, times: usize) -> Self {
        self.left = Some(times);
        self
    }

    /// Not for the first ones, so many of which are taken as if nothing were wrong.
    pub fn after(mut self, requests: usize) -> Self {
        self.skip = requests;
        self
    }

    fn matches(&self, request: &HttpRequest) -> bool {
        let calls = match self.calls {
            Calls::All => true,
            Calls::Changing => request.is_changing(),
            Calls::Reading => !request.is_changing(),
        };
        let header = self
            .header
            .as_ref()
            .is_none_or(|(name, beginning)| request.header(name).is_some_and(|value| value.starts_with(beginning)));
        calls && header && request.path.starts_with(&self.prefix)
    }

    /// Whether it meets a request that it is for.
    fn strikes(&mut self) -> bool {
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        match &mut self.left {
            None => true,
            Some(0) => false,
            Some(left) => {
                *left -= 1;
                true
            }
        }
    }
}

/// The switches of a stand-in. Of several faults for one request the earliest one counts.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Vec<Fault>>);

impl Faults {
    /// Adds one.
    pub fn inject(&self, fault: Fault) {
        lock(&self.0).push(fault);
    }

    /// Removes them all. An answer that is being held back stays away.
    pub fn heal(&self) {
        lock(&self.0).clear();
    }

    /// What happens to this request.
    pub(super) fn strike(&self, request: &HttpRequest) -> Option<Effect> {
        let mut faults = lock(&self.0);
        let mut candidates = faults.iter_mut().filter(|fault| !fault.is_of_connections() && fault.matches(request));
        candidates.find_map(|fault| fault.strikes().then(|| fault.effect.clone()))
    }

    /// Whether the next connection gets the untrusted certificate.
    pub(super) fn strike_connection(&self) -> bool {
        lock(&self.0).iter_mut().any(|fault| fault.is_of_connections() && fault.strikes())
    }
}

impl Fault {
    fn is_of_connections(&self) -> bool {
        matches!(self.effect, Effect::UntrustedCertificate)
    }
}

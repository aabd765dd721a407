//! What is asked, what is answered, and the record of both.

use std::fmt;
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::lock;

/// A request as it came in, read to its end.
#[derive(Clone)]
#[non_exhaustive]
pub struct HttpRequest {
    /// `GET`.
    pub method: String,
    /// Path and query, as sent: `/v1/certificates?limit=5`.
    pub path: String,
    /// Names in lower case, and values.
    pub headers: Vec<(String, String)>,
    /// The body; it may hold a key.
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// The first value of a header, whose name is compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(other, _)| other.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Whether it is neither GET nor HEAD.
    #[must_use]
    pub fn is_changing(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "HEAD")
    }
}

/// Without headers and body, which may hold secrets.
impl fmt::Debug for HttpRequest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} {} [{} bytes]", self.method, self.path, self.body.len())
    }
}

/// What a stand-in answers.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Answer {
    /// `200`.
    pub status: u16,
    /// Names and values.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    pub(super) sent: Sent,
}

/// Whether an answer reaches anybody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sent {
    #[default]
    Yes,
    Closed,
    Never,
}

impl Answer {
    /// An answer without headers and body.
    #[must_use]
    pub fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), sent: Sent::Yes }
    }

    /// None: the connection is closed instead. For a handler that alone knows which request a fault is meant for.
    #[must_use]
    pub fn closed() -> Self {
        Self { sent: Sent::Closed, ..Self::new(0) }
    }

    /// None: the connection stays open, and silent.
    #[must_use]
    pub fn never() -> Self {
        Self { sent: Sent::Never, ..Self::new(0) }
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this body, of no type.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// With this body, as JSON.
    #[must_use]
    pub fn with_json(self, body: &impl Serialize) -> Self {
        let body = serde_json::to_vec(body).expect("what can be written as JSON");
        self.with_header("Content-Type", "application/json").with_body(body)
    }
}

/// One request, and what became of it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Exchange {
    /// What was asked.
    pub request: HttpRequest,
    /// When it had come in.
    pub at: Instant,
    /// Whether the stand-in did what was asked, or looked at it and refused; a fault may come before that.
    pub taken: bool,
    /// The status of the answer; `None` as long as there is none.
    pub status: Option<u16>,
}

/// Every request since the start, or since it was cleared.
#[derive(Debug, Default)]
pub struct Record {
    exchanges: Mutex<Exchanges>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Exchanges {
    /// How many were dropped before the first of these.
    cleared: usize,
    list: Vec<Exchange>,
}

impl Record {
    /// All of them, in the order in which they came in.
    #[must_use]
    pub fn exchanges(&self) -> Vec<Exchange> {
        lock(&self.exchanges).list.clone()
    }

    /// The same in short: `GET /v1/certificates 200`, or `GET /v1/certificates -` without an answer.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let line = |exchange: &Exchange| {
            let status = exchange.status.map_or_else(|| "-".to_owned(), |status| status.to_string());
            format!("{} {} {status}", exchange.request.method, exchange.request.path)
        };
        lock(&self.exchanges).list.iter().map(line).collect()
    }

    /// Those that were neither GET nor HEAD.
    #[must_use]
    pub fn changing(&self) -> Vec<Exchange> {
        self.exchanges().into_iter().filter(|exchange| exchange.request.is_changing()).collect()
    }

    /// Forgets them all.
    pub fn clear(&self) {
        let mut exchanges = lock(&self.exchanges);
        exchanges.cleared += exchanges.list.len();
        exchanges.list.clear();
    }

    /// Waits until the record is as a test wants it, at most 30 seconds.
    ///
    /// # Panics
    ///
    /// When it never is.
    pub fn wait_until(&self, condition: impl Fn(&[Exchange]) -> bool) {
        let guard = lock(&self.exchanges);
        let waited = self.changed.wait_timeout_while(guard, Duration::from_secs(30), |exchanges| !condition(&exchanges.list));
        let (guard, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
        assert!(!timeout.timed_out(), "waited in vain: {:?}", guard.list);
    }

    /// Notes a request, and returns the number by which it can be found again.
    pub(super) fn begin(&self, request: &HttpRequest) -> usize {
        let mut exchanges = lock(&self.exchanges);
        exchanges.list.push(Exchange { request: request.clone(), at: Instant::now(), taken: false, status: None });
        self.changed.notify_all();
        exchanges.cleared + exchanges.list.len() - 1
    }

    pub(super) fn taken(&self, number: usize) {
        self.update(number, |exchange| exchange.taken = true);
    }

    pub(super) fn answered(&self, number: usize, status: u16) {
        self.update(number, |exchange| exchange.status = Some(status));
    }

    fn update(&self, number: usize, change: impl FnOnce(&mut Exchange)) {
        let mut exchanges = lock(&self.exchanges);
        let index = number.checked_sub(exchanges.cleared);
        if let Some(exchange) = index.and_then(|index| exchanges.list.get_mut(index)) {
            change(exchange);
        }
        self.changed.notify_all();
    }
}

//! The base of every stand-in for a vendor that speaks HTTP: a server with a state, faults on demand, and a record.
//!
//! A stand-in for a vendor gives it a state and a function that answers; everything else stands here once.
//!
//! ```
//! use deploy_testkit::stand_in::{Answer, Fault, StandIn};
//!
//! let counter = StandIn::start_plain(0, |request, count: &mut u32| {
//!     *count += 1;
//!     Answer::new(200).with_json(&serde_json::json!({ "path": request.path, "count": *count }))
//! });
//! counter.faults().inject(Fault::answer(Answer::new(503).with_header("Retry-After", "1")).reading().times(1));
//! assert!(counter.url().starts_with("http://127.0.0.1:"));
//! assert!(counter.record().exchanges().is_empty());
//! ```

mod exchange;
mod fault;
mod server;

pub use exchange::{Answer, Exchange, HttpRequest, Record};
pub use fault::{Fault, Faults};

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use crate::pki::{Authority, Issued, Request};
use server::{Certificates, Shared};

/// A server of a vendor's API on 127.0.0.1, with a thread and a runtime of its own. It stops when it is dropped.
///
/// Every connection is closed after one answer, so that a fault meets the request that it was meant for.
pub struct StandIn<S> {
    address: SocketAddr,
    scheme: &'static str,
    shared: Arc<Shared<S>>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl<S: Send + 'static> StandIn<S> {
    /// Speaks HTTPS with this certificate, on a free port. Requests are answered one at a time.
    #[must_use]
    pub fn start<H>(issued: &Issued, state: S, handler: H) -> Self
    where
        H: Fn(&HttpRequest, &mut S) -> Answer + Send + Sync + 'static,
    {
        let untrusted = Authority::new().issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
        Self::listen("https", Some(Certificates::new(issued, &untrusted)), state, handler)
    }

    /// Speaks HTTP without TLS, on a free port. Requests are answered one at a time.
    #[must_use]
    pub fn start_plain<H>(state: S, handler: H) -> Self
    where
        H: Fn(&HttpRequest, &mut S) -> Answer + Send + Sync + 'static,
    {
        Self::listen("http", None, state, handler)
    }

    fn listen<H>(scheme: &'static str, certificates: Option<Certificates>, state: S, handler: H) -> Self
    where
        H: Fn(&HttpRequest, &mut S) -> Answer + Send + Sync + 'static,
    {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared::new(state, handler, certificates));
        let (stop, stopped) = oneshot::channel();
        let served = Arc::clone(&shared);
        let thread = std::thread::spawn(move || server::serve(listener, &served, stopped));
        Self { address, scheme, shared, stop: Some(stop), thread: Some(thread) }
    }

    /// Looks at the state, or changes it behind the API's back.
    pub fn with_state<T>(&self, work: impl FnOnce(&mut S) -> T) -> T {
        work(&mut self.shared.state.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<S> StandIn<S> {
    /// Its base URL, without a slash at the end: `https://127.0.0.1:40123`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The switches for faults.
    #[must_use]
    pub fn faults(&self) -> &Faults {
        &self.shared.faults
    }

    /// What was asked and answered.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.shared.record
    }
}

impl<S> Drop for StandIn<S> {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl<S> std::fmt::Debug for StandIn<S> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("StandIn").field("url", &self.url()).finish_non_exhaustive()
    }
}

/// What is shared between a server's thread and a test; a test that panics meanwhile spoils nothing that matters.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(crate) mod client;
#[cfg(test)]
mod tests;

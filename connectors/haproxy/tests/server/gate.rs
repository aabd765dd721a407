//! A socket before HAProxy's own that can be told to fail.

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deploy_testkit::Order;

use super::ask;

/// Passes everything on to HAProxy, but for a `set ssl cert` while it has an order. Ends with the process.
pub(crate) struct Gate {
    pub(crate) path: PathBuf,
    state: Arc<Mutex<State>>,
}

struct State {
    order: Option<Order>,
    /// The payload for [`Order::OtherOnce`].
    other: String,
    /// Connections that are not answered.
    silent: Vec<UnixStream>,
}

impl Gate {
    pub(crate) fn open(path: &Path, to: &Path, other: String) -> Self {
        drop(std::fs::remove_file(path));
        let listener = UnixListener::bind(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let state = Arc::new(Mutex::new(State { order: None, other, silent: Vec::new() }));
        let (shared, to) = (Arc::clone(&state), to.to_owned());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                serve(client, &to, &shared);
            }
        });
        Self { path: path.to_owned(), state }
    }

    pub(crate) fn order(&self, order: Order) {
        lock(&self.state).order = Some(order);
    }

    pub(crate) fn heal(&self) {
        let mut state = lock(&self.state);
        state.order = None;
        state.silent.clear();
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn serve(mut client: UnixStream, to: &Path, state: &Mutex<State>) {
    let mut request = Vec::new();
    drop(client.set_read_timeout(Some(Duration::from_secs(10))));
    drop(client.read_to_end(&mut request));
    let mut state = lock(state);
    let line = String::from_utf8_lossy(&request).lines().next().unwrap_or_default().to_owned();
    let set = line.strip_prefix("set ssl cert ").and_then(|line| line.strip_suffix(" <<"));
    let order = if set.is_some() || state.order == Some(Order::Ignore) { state.order } else { None };
    if matches!(order, Some(Order::FailOnce | Order::HangOnce | Order::OtherOnce)) {
        state.order = None;
    }
    let answer = match (order, set) {
        (Some(Order::Fail | Order::FailOnce), _) => "Can't update: told to fail\n\n".to_owned(),
        (Some(Order::Hang | Order::HangOnce), _) => return state.silent.push(client),
        (Some(Order::Ignore), Some(name)) => format!("Transaction created for certificate {name}!\n\n"),
        (Some(Order::Ignore), None) if line.starts_with("commit") => "Committing.\nSuccess!\n\n".to_owned(),
        (Some(Order::OtherOnce), _) => ask(to, format!("{line}\n{}\n", state.other).as_bytes()).unwrap_or_default(),
        _ => ask(to, &request).unwrap_or_default(),
    };
    drop(client.write_all(answer.as_bytes()));
}

//! The connection of a host and the locks that are held through it.
//!
//! The other side has one lock, `flock` on a file of the directory that holds the lock files, held by the shell that answers:
//! it is free as soon as that shell is gone. Locks by name are kept here, and the one over there is held as long as any of
//! them is. So runs of this process go on beside each other, and those of others wait.
//!
//! After the connection was lost, what is done next connects again. With locks held it goes on only if nobody else had the
//! lock in between.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use deploy_core::host::{LockAttempt, LockGuard};
use deploy_core::{Cancellation, Error};

use crate::answer::{self, Introduction};
use crate::session::{Answer, Request, Session, unique};
use crate::settings::SshSettings;

/// The lock file of a directory of locks.
const LOCK: &str = "certdeploy-remote.lock";

/// How often the other side hears from us while a lock is held.
const PULSE: Duration = Duration::from_secs(20);

/// After how many seconds without a word it gives the lock up: a connection can be dead for hours before TCP says so. More
/// than it takes `ssh` on this side to notice.
const SILENCE: &str = "90";

/// How often a lock that is still held by the connection that was lost is tried again, every 0.2 seconds.
const PAUSES: &str = "25";

/// How a machine is reached at the moment.
#[derive(Debug)]
pub(crate) struct Connection {
    settings: SshSettings,
    state: Mutex<State>,
    /// Known to the other side as the holder of its lock.
    owner: String,
}

#[derive(Debug, Default)]
struct State {
    session: Option<Session>,
    /// It could not be had. What is asked then fails at once, until [`Connection::reach`] tries again.
    given_up: bool,
    locks: Locks,
}

#[derive(Debug, Default)]
struct Locks {
    /// By name: what their holders say of themselves.
    names: BTreeMap<OsString, Vec<u8>>,
    /// The directory that they are in: path and identity.
    place: Option<(OsString, String)>,
    /// Ends the pulse.
    pulse: Option<Cancellation>,
}

impl Connection {
    pub(crate) fn new(settings: SshSettings) -> Self {
        Self { settings, state: Mutex::default(), owner: unique() }
    }

    /// Makes sure that there is one, and that it works.
    pub(crate) fn reach(&self) -> Result<Introduction, Error> {
        let mut state = self.state();
        if state.session.is_some() && self.ask_all_in(&mut state, &[Request::in_directory(None, &[OsStr::new("true")])]).is_ok() {
            let introduction = state.session.as_ref().map(|session| session.introduction.clone());
            return introduction.ok_or_else(|| self.settings.failure_from(""));
        }
        self.connect(&mut state).map(|session| session.introduction.clone())
    }

    pub(crate) fn introduction(&self) -> io::Result<Introduction> {
        let mut state = self.state();
        self.connected(&mut state).map(|session| session.introduction.clone())
    }

    /// How `ssh` is told to share the connection.
    pub(crate) fn control(&self) -> io::Result<Vec<String>> {
        let mut state = self.state();
        self.connected(&mut state).map(|session| session.control.options())
    }

    pub(crate) fn ask(&self, request: Request<'_>) -> Answer {
        self.ask_all(&[request])?.pop().ok_or_else(|| answer::nonsense("answer"))?
    }

    pub(crate) fn ask_all(&self, requests: &[Request<'_>]) -> io::Result<Vec<Answer>> {
        self.ask_all_in(&mut self.state(), requests)
    }

    fn ask_all_in(&self, state: &mut State, requests: &[Request<'_>]) -> io::Result<Vec<Answer>> {
        let answers = self.connected(state)?.ask_all(requests);
        answers.map_err(|error| {
            // Whatever it was, questions and answers do not fit together any more.
            state.session = None;
            let message = format!("the connection to {} was lost", self.settings.name());
            io::Error::new(io::ErrorKind::ConnectionAborted, Lost { message, source: error })
        })
    }

    fn connected<'a>(&self, state: &'a mut State) -> io::Result<&'a mut Session> {
        if state.given_up {
            let message = format!("there is no connection to {}", self.settings.name());
            return Err(io::Error::new(io::ErrorKind::NotConnected, message));
        }
        if state.session.is_none() {
            self.connect(state).map_err(|error| io::Error::new(io::ErrorKind::NotConnected, error))?;
        }
        state.session.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Connects, and takes the lock again if it was held.
    fn connect<'a>(&self, state: &'a mut State) -> Result<&'a mut Session, Error> {
        state.session = None;
        state.given_up = true;
        let mut session = Session::open(&self.settings)?;
        if let Some((path, identity)) = state.locks.place.clone().filter(|_| !state.locks.names.is_empty()) {
            let place = (Path::new(&path), identity.as_str());
            let holder = state.locks.names.values().next().cloned().unwrap_or_default();
            let held = self.hold(&mut session, place, &holder, PAUSES);
            let problem = match held {
                Ok(Hold::Held) => None,
                Ok(Hold::Busy(_)) => Some("the lock there is still taken".to_owned()),
                Ok(Hold::Taken(by)) => Some(format!("another run has had the lock there: {}", String::from_utf8_lossy(&by))),
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem {
                let message = format!("the connection to {} was lost, and the run cannot go on: {problem}", self.settings.name());
                return Err(Error::new(deploy_core::ErrorKind::Locked, message)
                    .with_retry(deploy_core::Retry::Later)
                    .with_next_step("run again: what was interrupted is then finished or undone"));
            }
        }
        state.given_up = false;
        Ok(state.session.insert(session))
    }

    /// Takes all of these names, or none.
    pub(crate) fn try_lock(self: &Arc<Self>, place: (&Path, &str), names: &[OsString], holder: &[u8]) -> io::Result<LockAttempt> {
        let mut state = self.state();
        if let Some(by) = names.iter().find_map(|name| state.locks.names.get(name)) {
            return Ok(LockAttempt::Busy(by.clone()));
        }
        let first = state.locks.names.is_empty();
        if first {
            match self.hold(self.connected(&mut state)?, place, holder, "0") {
                Ok(Hold::Held) => {}
                Ok(Hold::Busy(by) | Hold::Taken(by)) => return Ok(LockAttempt::Busy(by)),
                Err(error) => return Err(error),
            }
            let pulse = Cancellation::default();
            beat(Arc::downgrade(self), pulse.clone());
            state.locks.place = Some((place.0.into(), place.1.to_owned()));
            state.locks.pulse = Some(pulse);
        } else if state.locks.place.as_ref().is_none_or(|(_, identity)| identity != place.1) {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "locks in another directory are held already"));
        }
        state.locks.names.extend(names.iter().map(|name| (name.clone(), holder.to_vec())));
        Ok(LockAttempt::Held(Box::new(Guard { connection: Arc::clone(self), names: names.to_vec() })))
    }

    fn hold(&self, session: &mut Session, (path, identity): (&Path, &str), holder: &[u8], pauses: &str) -> io::Result<Hold> {
        let text = String::from_utf8_lossy(holder).replace(['\n', '\r'], " ");
        let rest = [identity, LOCK, &self.owner, &text, pauses, SILENCE].map(OsStr::new);
        let arguments: Vec<&OsStr> = std::iter::once(path.as_os_str()).chain(rest).collect();
        let answer =
            session.ask_all(&[Request::direct("hold", &arguments)])?.pop().ok_or_else(|| answer::nonsense("answer"))??;
        let by = |digits: &[u8]| {
            let line = answer::bytes(digits)?;
            // The first word is for programs.
            Ok(line.splitn(2, |byte| *byte == b' ').nth(1).unwrap_or_default().trim_ascii().to_vec())
        };
        match &**answer {
            b"held" => Ok(Hold::Held),
            other => match other.strip_prefix(b"busy ").map(by) {
                Some(by) => by.map(Hold::Busy),
                None => other.strip_prefix(b"taken ").map_or_else(|| Err(answer::nonsense("lock")), by).map(Hold::Taken),
            },
        }
    }

    fn release(&self, names: &[OsString]) {
        let mut state = self.state();
        names.iter().for_each(|name| drop(state.locks.names.remove(name)));
        if !state.locks.names.is_empty() {
            return;
        }
        if let Some(pulse) = std::mem::take(&mut state.locks).pulse {
            pulse.cancel();
        }
        if state.session.is_some() {
            // Without a connection it is free.
            let _freed = self.ask_all_in(&mut state, &[Request::direct("release", &[])]);
        }
    }

    fn pulse(&self) {
        let mut state = self.state();
        if state.session.is_some() {
            // If it is lost, whatever is done next says so.
            let _heard = self.ask_all_in(&mut state, &[Request::direct("pulse", &[])]);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

enum Hold {
    Busy(Vec<u8>),
    Held,
    Taken(Vec<u8>),
}

/// Has the other side hear from us now and then, until it is told to stop. Without a thread for it, the lock lasts as long as
/// silence is borne there.
fn beat(connection: Weak<Connection>, stop: Cancellation) {
    let beating = move || {
        while !stop.wait(PULSE) {
            match connection.upgrade() {
                Some(connection) => connection.pulse(),
                None => return,
            }
        }
    };
    let _no_thread = std::thread::Builder::new().name("ssh pulse".to_owned()).spawn(beating);
}

/// Names that are held until it is dropped.
#[derive(Debug)]
struct Guard {
    connection: Arc<Connection>,
    names: Vec<OsString>,
}

impl LockGuard for Guard {}

impl Drop for Guard {
    fn drop(&mut self) {
        self.connection.release(&self.names);
    }
}

/// The connection is gone; why, if that is known.
#[derive(Debug)]
struct Lost {
    message: String,
    source: io::Error,
}

impl std::fmt::Display for Lost {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.message)
    }
}

impl std::error::Error for Lost {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

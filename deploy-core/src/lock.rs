//! Locks across processes and threads: one for each target and for each destination, taken in one order, with one deadline.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::digest::sha256_of_parts;
use crate::error::{Error, ErrorKind, Retry};
use crate::host::{LockAttempt, LockGuard};
use crate::report::Stage;
use crate::state::{State, invalid};

/// The file of which every destination has one byte, and what the files of targets begin with.
const DESTINATIONS: &str = "destinations.lock";
const TARGET: &str = "target-";

/// What is locked together: targets by name, destinations by the position of their byte.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LockKeys {
    targets: BTreeSet<String>,
    destinations: BTreeSet<u64>,
}

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Locks(#[expect(dead_code, reason = "held for its drop")] Vec<Box<dyn LockGuard>>);

impl LockKeys {
    /// Of targets.
    pub(crate) fn of_targets(targets: impl IntoIterator<Item = String>) -> Self {
        Self { targets: targets.into_iter().collect(), destinations: BTreeSet::new() }
    }

    /// Adds a destination: by the identity of its directory and its name in it, so that two paths to one file have one lock.
    pub(crate) fn add_destination(&mut self, (device, inode): (u64, u64), name: &OsStr) {
        let digest = sha256_of_parts([&device.to_be_bytes()[..], &inode.to_be_bytes()[..], name.as_bytes()]);
        let position = digest.iter().take(8).fold(0_u64, |position, &byte| position << 8 | u64::from(byte));
        self.destinations.insert(position >> 1);
    }

    /// Adds all of another.
    pub(crate) fn extend(&mut self, other: Self) {
        self.targets.extend(other.targets);
        self.destinations.extend(other.destinations);
    }

    /// Whether nothing is in both.
    pub(crate) fn is_disjoint(&self, other: &Self) -> bool {
        self.targets.is_disjoint(&other.targets) && self.destinations.is_disjoint(&other.destinations)
    }

    /// Whether all of this is in the other.
    pub(crate) fn is_subset(&self, other: &Self) -> bool {
        self.targets.is_subset(&other.targets) && self.destinations.is_subset(&other.destinations)
    }
}

/// Takes all of them, or none: while one is busy, the others are free, so that two runs never wait for each other. Says
/// whether it had to wait.
pub(crate) fn acquire(context: &Context, state: &State, keys: &LockKeys) -> Result<(Locks, bool), Error> {
    let started = humantime::format_rfc3339_seconds(context.host().now());
    let holder = format!("process {}, since {started}", std::process::id());
    let deadline = context.deadline();
    let mut pause = Duration::from_millis(5);
    let mut waited = false;
    loop {
        let busy = match try_all(context, state, keys, &holder)? {
            Attempt::Held(locks) => return Ok((locks, waited)),
            Attempt::Busy(busy) => busy,
        };
        waited = true;
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(locked(context, state, keys, busy));
        }
        if context.cancellation().wait(pause.min(left)) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted while waiting for another run").at(Stage::Lock));
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

enum Attempt {
    Busy(Busy),
    Held(Locks),
}

enum Busy {
    Destination,
    Target(String, Vec<u8>),
}

fn try_all(context: &Context, state: &State, keys: &LockKeys, holder: &str) -> Result<Attempt, Error> {
    let host = context.host();
    let failed = |name: &str, error| invalid(&state.targets.path().join(name), "cannot be locked", error).at(Stage::Lock);
    let mut guards = Vec::with_capacity(keys.targets.len() + 1);
    for target in &keys.targets {
        let name = format!("{TARGET}{target}.lock");
        let holder = format!("{holder}, deploying to {target}");
        match host.try_lock(&state.targets, OsStr::new(&name), holder.as_bytes()).map_err(|error| failed(&name, error))? {
            LockAttempt::Held(guard) => guards.push(guard),
            LockAttempt::Busy(by) => return Ok(Attempt::Busy(Busy::Target(target.clone(), by))),
        }
    }
    if !keys.destinations.is_empty() {
        let attempt = host.try_lock_bytes(&state.targets, OsStr::new(DESTINATIONS), &keys.destinations);
        match attempt.map_err(|error| failed(DESTINATIONS, error))? {
            LockAttempt::Held(guard) => guards.push(guard),
            LockAttempt::Busy(_) => return Ok(Attempt::Busy(Busy::Destination)),
        }
    }
    Ok(Attempt::Held(Locks(guards)))
}

/// Everybody who holds the lock of some other target: one of them holds the file.
fn holders(context: &Context, state: &State, keys: &LockKeys) -> Vec<u8> {
    let host = context.host();
    let mut holders = Vec::new();
    for name in host.list(&state.targets).unwrap_or_default() {
        let own = keys.targets.iter().any(|target| name.as_os_str() == OsStr::new(&format!("{TARGET}{target}.lock")));
        if own || !name.as_bytes().starts_with(TARGET.as_bytes()) {
            continue;
        }
        if let Ok(LockAttempt::Busy(by)) = host.try_lock(&state.targets, &name, b"somebody who asked who holds a file") {
            holders.extend_from_slice(by.trim_ascii());
            holders.extend_from_slice(b"; ");
        }
    }
    holders
}

fn locked(context: &Context, state: &State, keys: &LockKeys, busy: Busy) -> Error {
    let (what, by) = match busy {
        Busy::Target(target, by) => (format!("the target {target}"), by),
        Busy::Destination => ("one of the files".to_owned(), holders(context, state, keys)),
    };
    let by = String::from_utf8_lossy(&by);
    let by = by.trim().trim_end_matches(';');
    let by = if by.is_empty() { "a run that did not say who it is" } else { by };
    Error::new(ErrorKind::Locked, format!("another run holds {what}: {by}"))
        .with_retry(Retry::Later)
        .with_next_step("wait for it to end; the lock is free as soon as that process is gone")
        .at(Stage::Lock)
}

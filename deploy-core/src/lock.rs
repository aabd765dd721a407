//! Locks across processes and threads: one for each target and for each destination, taken in one order, with one deadline.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::time::{Duration, Instant};

use crate::context::Context;
use crate::digest::{hex, sha256_of_parts};
use crate::error::{Error, ErrorKind, Retry};
use crate::host::{LockAttempt, LockGuard, Status};
use crate::report::Stage;
use crate::state::{State, invalid};

/// Names of lock files, in the order in which they are taken.
pub(crate) type LockKeys = BTreeSet<OsString>;

/// Held until dropped.
#[derive(Debug)]
pub(crate) struct Locks(#[expect(dead_code, reason = "held for its drop")] Vec<Box<dyn LockGuard>>);

pub(crate) fn target_key(target: &str) -> OsString {
    // Sorts before every file, so that two runs of one target meet here, and one learns who the other is.
    format!("a-target-{target}.lock").into()
}

/// By the identity of the directory and the name in it, so that two paths to one file have one lock.
pub(crate) fn destination_key(directory: &Status, name: &OsStr) -> OsString {
    destination_key_of(directory.device, directory.inode, name)
}

pub(crate) fn destination_key_of(device: u64, inode: u64, name: &OsStr) -> OsString {
    let digest = sha256_of_parts([&device.to_be_bytes()[..], &inode.to_be_bytes()[..], name.as_bytes()]);
    format!("file-{}.lock", hex(&digest[..16])).into()
}

/// Takes all of them, or none: while one is busy, the others are free, so that two runs never wait for each other.
pub(crate) fn acquire(context: &Context, state: &State, keys: &LockKeys) -> Result<Locks, Error> {
    let started = humantime::format_rfc3339_seconds(context.host().now());
    let holder = format!("process {}, since {started}", std::process::id());
    let deadline = context.deadline();
    let mut pause = Duration::from_millis(5);
    loop {
        let (key, by) = match try_all(context, state, keys, holder.as_bytes())? {
            Attempt::Held(locks) => return Ok(locks),
            Attempt::Busy { key, by } => (key, by),
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(locked(&key, &by));
        }
        if context.cancellation().wait(pause.min(left)) {
            return Err(Error::new(ErrorKind::Interrupted, "interrupted while waiting for another run").at(Stage::Lock));
        }
        pause = (pause * 2).min(Duration::from_millis(200));
    }
}

enum Attempt {
    Busy { key: OsString, by: Vec<u8> },
    Held(Locks),
}

fn try_all(context: &Context, state: &State, keys: &LockKeys, holder: &[u8]) -> Result<Attempt, Error> {
    let mut guards = Vec::with_capacity(keys.len());
    for key in keys {
        match context.host().try_lock(&state.locks, key, holder) {
            Ok(LockAttempt::Held(guard)) => guards.push(guard),
            Ok(LockAttempt::Busy(by)) => return Ok(Attempt::Busy { key: key.clone(), by }),
            Err(error) => return Err(invalid(&state.locks.path().join(key), "cannot be locked", error).at(Stage::Lock)),
        }
    }
    Ok(Attempt::Held(Locks(guards)))
}

fn locked(key: &OsStr, by: &[u8]) -> Error {
    let what = match key.to_string_lossy().strip_prefix("a-target-").and_then(|name| name.strip_suffix(".lock")) {
        Some(target) => format!("the target {target}"),
        None => "one of the files".to_owned(),
    };
    let by = String::from_utf8_lossy(by);
    let by = by.trim();
    let by = if by.is_empty() { "a run that did not say who it is" } else { by };
    Error::new(ErrorKind::Locked, format!("another run holds {what}: {by}"))
        .with_retry(Retry::Later)
        .with_next_step("wait for it to end; the lock is free as soon as that process is gone")
        .at(Stage::Lock)
}

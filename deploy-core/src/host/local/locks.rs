//! Lock files. The lock is `flock` on an open file: it is gone when its holder is gone, however that ended.

use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use rustix::fs::{Mode, OFlags};

use super::super::{LockAttempt, LockGuard};
use super::files::{not_regular, status_of};

/// What is written about the holder has this length always, so that one write replaces what the last one left.
const HOLDER_LENGTH: usize = 1024;

/// At most this much is read of what somebody else wrote.
const READ_LIMIT: usize = 4096;

/// How often a lock file that was removed or replaced in the meantime is opened again.
const ATTEMPTS: usize = 16;

/// A lock that is held as long as the file is open.
#[derive(Debug)]
struct Held {
    _file: File,
}

impl LockGuard for Held {}

/// Tries once, without waiting.
pub(super) fn attempt(directory: BorrowedFd<'_>, name: &OsStr, holder: &[u8]) -> io::Result<LockAttempt> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    for _ in 0..ATTEMPTS {
        let file =
            rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| not_regular(error.into()))?;
        let file = File::from(file);
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(LockAttempt::Busy(read_holder(&file)?)),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let file = OwnedFd::from(file);
        // Somebody may have removed the file between opening and locking: then others lock another one by this name.
        if status_of(&file)?.links > 0 {
            let file = File::from(file);
            file.write_all_at(&padded(holder), 0)?;
            return Ok(LockAttempt::Held(Box::new(Held { _file: file })));
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the lock file keeps being replaced"))
}

fn padded(holder: &[u8]) -> [u8; HOLDER_LENGTH] {
    let mut text = [b' '; HOLDER_LENGTH];
    text[HOLDER_LENGTH - 1] = b'\n';
    let length = holder.len().min(HOLDER_LENGTH - 1);
    text[..length].copy_from_slice(&holder[..length]);
    text
}

fn read_holder(file: &File) -> io::Result<Vec<u8>> {
    let mut buffer = [0; READ_LIMIT];
    let length = file.read_at(&mut buffer, 0)?;
    Ok(buffer[..length].trim_ascii().to_vec())
}

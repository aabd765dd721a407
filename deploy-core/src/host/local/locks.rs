//! Lock files. The lock is `flock` on an open file: it is gone when its holder is gone, however that ended.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{File, TryLockError};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt as _;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
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
    for _ in 0..ATTEMPTS {
        let file = File::from(open(directory, name)?);
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
    Err(replaced())
}

/// Tries once to take bytes of a lock file, all or none. The locks belong to the open file, as those of `flock` do
/// (`F_OFD_SETLK`, Linux 3.15): closing another descriptor of the file leaves them alone.
pub(super) fn attempt_bytes(directory: BorrowedFd<'_>, name: &OsStr, positions: &BTreeSet<u64>) -> io::Result<LockAttempt> {
    for _ in 0..ATTEMPTS {
        let file = open(directory, name)?;
        for &position in positions {
            let start = i64::try_from(position).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
            match fcntl(&file, FcntlArg::F_OFD_SETLK(&one_byte(start))) {
                Ok(_) => {}
                Err(Errno::EAGAIN | Errno::EACCES) => return Ok(LockAttempt::Busy(Vec::new())),
                Err(error) => return Err(error.into()),
            }
        }
        if status_of(&file)?.links > 0 {
            return Ok(LockAttempt::Held(Box::new(Held { _file: file.into() })));
        }
    }
    Err(replaced())
}

fn one_byte(start: i64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: start,
        l_len: 1,
        l_pid: 0,
    }
}

fn open(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| not_regular(error.into()))
}

fn replaced() -> io::Error {
    io::Error::new(io::ErrorKind::ResourceBusy, "the lock file keeps being replaced")
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

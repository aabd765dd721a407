//! Descriptors that this process was started with and that would go on to its children.

#![expect(unsafe_code, reason = "pre_exec, and descriptors that are only known by number")]

use std::io;
use std::os::fd::{BorrowedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::sync::OnceLock;

use rustix::fs::{CWD, Dir, Mode, OFlags};
use rustix::io::FdFlags;

/// Makes a command's child close everything but its standard streams. What this program opens itself closes on exec; what
/// whoever started it left open does not.
///
/// The numbers are looked up once: whatever is opened later under one of them is closed in the child as well, as it should be.
///
/// # Errors
/// `/proc/self/fd` cannot be read.
pub(crate) fn keep_out(command: &mut std::process::Command) -> io::Result<()> {
    static INHERITED: OnceLock<Vec<RawFd>> = OnceLock::new();
    let inherited: &'static [RawFd] = match INHERITED.get() {
        Some(found) => found,
        None => {
            let found = find()?;
            INHERITED.get_or_init(|| found)
        }
    };
    if !inherited.is_empty() {
        // SAFETY: only system calls on numbers that were found before; see `child`. A number that is not open is an error
        // that does not matter.
        unsafe { command.pre_exec(move || close_on_exec(inherited)) };
    }
    Ok(())
}

fn close_on_exec(descriptors: &[RawFd]) -> io::Result<()> {
    for number in descriptors {
        // SAFETY: used for one call, which fails if it is not open.
        let descriptor = unsafe { BorrowedFd::borrow_raw(*number) };
        rustix::io::fcntl_setfd(descriptor, FdFlags::CLOEXEC).ok();
    }
    Ok(())
}

fn find() -> io::Result<Vec<RawFd>> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(CWD, c"/proc/self/fd", flags, Mode::empty())?;
    let mut found = Vec::new();
    for entry in Dir::new(directory)? {
        let entry = entry?;
        let number = entry.file_name().to_str().ok().and_then(|name| name.parse::<RawFd>().ok()).filter(|number| *number > 2);
        let Some(number) = number else { continue };
        // SAFETY: used for one call that changes nothing, and fails if it was closed meanwhile.
        let descriptor = unsafe { BorrowedFd::borrow_raw(number) };
        if rustix::io::fcntl_getfd(descriptor).is_ok_and(|flags| !flags.contains(FdFlags::CLOEXEC)) {
            found.push(number);
        }
    }
    Ok(found)
}

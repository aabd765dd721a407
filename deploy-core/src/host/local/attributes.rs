//! The extended attributes that belong to a file's identity for those who read it.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use rustix::fs::{OFlags, XattrFlags};
use rustix::io::Errno;

use super::super::Attributes;
use super::files::open_at;

/// The POSIX access ACL. A new file inherits one from a directory with a default ACL.
const ACCESS_ACL: &str = "system.posix_acl_access";

/// Linux allows 64 KiB for the list of names and for one value (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const MAXIMUM: usize = 64 * 1024;

/// The attributes of a file, found without opening it: that takes one call where there are none.
pub(super) fn of_name(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Attributes> {
    let path = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(name);
    match collect(|list| rustix::fs::llistxattr(&path, list), |key, value| rustix::fs::lgetxattr(&path, key, value)) {
        // Absent, or /proc is not mounted: opening it tells which.
        Err(Errno::NOENT | Errno::NOTDIR) => {
            let file = open_at(directory, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY)?;
            Ok(of_file(&file)?)
        }
        other => Ok(other?),
    }
}

/// Gives a file exactly these attributes, or takes only an inherited ACL from it; says whether anything was changed.
///
/// An ACL that a directory's default gave to a new file is harmless as long as the mode is 0600, and opens it to the named
/// users as soon as the mode gets a group bit. That is why this comes before the mode.
pub(super) fn apply(file: &OwnedFd, wanted: Option<&Attributes>) -> io::Result<bool> {
    let Some(wanted) = wanted else {
        return remove(file, OsStr::new(ACCESS_ACL));
    };
    let present = of_file(file)?;
    let mut changed = false;
    for name in present.keys().filter(|name| !wanted.contains_key(*name)) {
        // A label that the policy gave to the new file is not ours to take away.
        if name != "security.selinux" {
            changed |= remove(file, name)?;
        }
    }
    for (name, value) in wanted {
        if present.get(name) != Some(value) {
            rustix::fs::fsetxattr(file, name.as_os_str(), value, XattrFlags::empty())?;
            changed = true;
        }
    }
    Ok(changed)
}

fn of_file(file: &OwnedFd) -> Result<Attributes, Errno> {
    collect(|list| rustix::fs::flistxattr(file, list), |key, value| rustix::fs::fgetxattr(file, key, value))
}

/// Says whether there was one. It is asked for first, because some file systems report success where there was none.
fn remove(file: &OwnedFd, name: &OsStr) -> io::Result<bool> {
    match rustix::fs::fgetxattr_query(file, name) {
        Ok(_) => {}
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(false),
        Err(error) => return Err(error.into()),
    }
    match rustix::fs::fremovexattr(file, name) {
        Ok(()) => Ok(true),
        Err(Errno::NODATA) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// ACL, SELinux label and what users put there. Not `security.ima` and `security.evm` (they sign other bytes), not
/// `security.capability`, not `trusted.*` (overlayfs keeps its own there).
fn matters(name: &OsStr) -> bool {
    name == ACCESS_ACL || name == "security.selinux" || name.as_bytes().starts_with(b"user.")
}

fn collect(
    list: impl Fn(&mut [u8]) -> Result<usize, Errno>,
    get: impl Fn(&OsStr, &mut [u8]) -> Result<usize, Errno>,
) -> Result<Attributes, Errno> {
    let names = match sized(&list) {
        Ok(names) => names,
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(Attributes::new()),
        Err(error) => return Err(error),
    };
    let mut found = Attributes::new();
    for name in names.split(|byte| *byte == 0).map(OsStr::from_bytes).filter(|name| matters(name)) {
        match sized(|buffer| get(name, buffer)) {
            Ok(value) => drop(found.insert(OsString::from(name), value)),
            // Removed since it was listed, or listed and not kept by this file system.
            Err(Errno::NODATA | Errno::OPNOTSUPP) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
}

/// Reads into a small buffer, and into the largest there can be if that is too short.
fn sized(read: impl Fn(&mut [u8]) -> Result<usize, Errno>) -> Result<Vec<u8>, Errno> {
    let mut buffer = vec![0; 512];
    let length = match read(&mut buffer) {
        Err(Errno::RANGE) => {
            buffer = vec![0; MAXIMUM];
            read(&mut buffer)?
        }
        other => other?,
    };
    buffer.truncate(length);
    Ok(buffer)
}

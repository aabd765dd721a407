//! Files by descriptor: status, reading, creating, owner and mode.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, RawDir, RenameFlags, SeekFrom, Statx, StatxAttributes, StatxFlags, StatxTimestamp,
    Uid,
};
use rustix::io::Errno;
use zeroize::Zeroizing;

use super::super::{Directory, FileKind, Metadata, Status};
use super::{Handle, attributes};
use crate::secret::SecretBytes;

/// How often a file that grows while it is read is read again from the start.
const READ_ATTEMPTS: usize = 8;

/// Reads a regular file in one buffer that is never reallocated, so that no copy of a key stays behind.
pub(super) fn read(
    directory: BorrowedFd<'_>,
    name: impl rustix::path::Arg,
    limit: u64,
) -> io::Result<Option<(SecretBytes, Status)>> {
    // O_NONBLOCK lets the open of a FIFO return at once; the status then tells that it is none of ours to read.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_at(directory, name, flags) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(not_regular(error)),
    };
    for _ in 0..READ_ATTEMPTS {
        let status = status_of(&file)?;
        check_regular(&status)?;
        if status.size > limit {
            return Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("is {} bytes long; at most {limit} are read", status.size),
            ));
        }
        let size = usize::try_from(status.size).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // One more byte than expected tells whether it grew.
        let mut buffer = Zeroizing::new(vec![0; size + 1]);
        let filled = read_into(&file, &mut buffer, size)?;
        if filled <= size {
            buffer.truncate(filled);
            return Ok(Some((SecretBytes::from(std::mem::take(&mut *buffer)), status)));
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "kept growing while it was read"))
}

/// Creates a file that did not exist, with mode 0600 at most.
pub(crate) fn open_new(directory: &Directory, name: &OsStr) -> io::Result<OwnedFd> {
    check_name(name)?;
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(handle(directory)?, name, flags, Mode::RUSR | Mode::WUSR)?)
}

/// Writes a new file's bytes and gives it its owner, attributes and mode, in the order that never shows a key to anybody.
pub(crate) fn fill(file: &OwnedFd, bytes: &[u8], metadata: &Metadata) -> io::Result<Status> {
    write_all(file, bytes)?;
    apply_metadata(file, metadata)
}

/// Closes a file that was written to. Network file systems report lost writes only here.
pub(crate) fn close(file: OwnedFd) -> io::Result<()> {
    match nix::unistd::close(file) {
        // Linux frees the descriptor before it can be interrupted; what was written is judged by the sync.
        Ok(()) | Err(nix::Error::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Gives an existing regular file its owner, attributes and mode.
pub(super) fn set_metadata(directory: BorrowedFd<'_>, name: &OsStr, metadata: &Metadata) -> io::Result<Status> {
    let common = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = match open_at(directory, name, OFlags::RDONLY | common) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => open_unreadable(directory, name, metadata)?,
        other => other.map_err(not_regular)?,
    };
    check_regular(&status_of(&file)?)?;
    apply_metadata(&file, metadata)
}

/// Writes from the beginning and cuts off what is left: never empty in between, and every byte is an old or a new one.
pub(super) fn overwrite(directory: BorrowedFd<'_>, name: &OsStr, bytes: &[u8]) -> io::Result<()> {
    let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::openat(directory, name, flags, Mode::empty()).map_err(|error| not_regular(error.into()))?;
    check_regular(&status_of(&file)?)?;
    write_all(&file, bytes)?;
    rustix::fs::ftruncate(&file, bytes.len() as u64)?;
    close(file)
}

/// Appends in one write where the system takes it in one.
pub(super) fn append(directory: BorrowedFd<'_>, name: &OsStr, bytes: &[u8], durable: bool) -> io::Result<()> {
    let flags =
        OFlags::WRONLY | OFlags::APPEND | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = rustix::fs::openat(directory, name, flags, Mode::RUSR | Mode::WUSR).map_err(|error| not_regular(error.into()))?;
    write_all(&file, bytes)?;
    if durable {
        rustix::fs::fdatasync(&file)?;
    }
    close(file)
}

/// Renames to a name that must not exist; by link and unlink where the file system has no such rename.
pub(super) fn rename_new(from: (BorrowedFd<'_>, &OsStr), to: (BorrowedFd<'_>, &OsStr)) -> io::Result<()> {
    match rustix::fs::renameat_with(from.0, from.1, to.0, to.1, RenameFlags::NOREPLACE) {
        Err(Errno::INVAL | Errno::NOSYS) => {}
        other => return Ok(other?),
    }
    rustix::fs::linkat(from.0, from.1, to.0, to.1, AtFlags::empty())?;
    rustix::fs::unlinkat(from.0, from.1, AtFlags::empty()).map_err(|error| {
        // Both names are there: take the new one back, so that a failed rename leaves what it found.
        rustix::fs::unlinkat(to.0, to.1, AtFlags::empty()).ok();
        error.into()
    })
}

pub(super) fn list(directory: &Handle) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    let mut buffer = Vec::with_capacity(8192);
    let mut listed = directory.listed.lock().unwrap_or_else(PoisonError::into_inner);
    if std::mem::replace(&mut *listed, true) {
        rustix::fs::seek(&directory.fd, SeekFrom::Start(0))?;
    }
    let mut entries = RawDir::new(&directory.fd, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

/// The descriptor behind a directory.
pub(crate) fn handle(directory: &Directory) -> io::Result<BorrowedFd<'_>> {
    Ok(opened(directory)?.fd.as_fd())
}

pub(super) fn opened(directory: &Directory) -> io::Result<&Handle> {
    directory
        .handle::<Handle>()
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the directory was opened by another host"))
}

pub(crate) fn open_at(directory: BorrowedFd<'_>, name: impl rustix::path::Arg, flags: OFlags) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(directory, name, flags | OFlags::CLOEXEC, Mode::empty())?)
}

pub(crate) fn status_of(file: &OwnedFd) -> io::Result<Status> {
    let found = rustix::fs::statx(file, c"", AtFlags::EMPTY_PATH, StatxFlags::BASIC_STATS)?;
    Ok(status_from(&found))
}

pub(crate) fn status_of_name(directory: BorrowedFd<'_>, name: &OsStr) -> io::Result<Option<Status>> {
    match rustix::fs::statx(directory, name, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS) {
        Ok(found) => Ok(Some(status_from(&found))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn path_status_of(path: &Path) -> io::Result<Option<Status>> {
    status_of_name(CWD, path.as_os_str())
}

pub(super) fn path_from_bytes(bytes: Vec<u8>) -> PathBuf {
    OsString::from_vec(bytes).into()
}

/// A name is one component: anything else would reach outside the pinned directory.
pub(super) fn check_name(name: &OsStr) -> io::Result<()> {
    let bytes = name.as_bytes();
    if bytes.is_empty() || bytes == b"." || bytes == b".." || bytes.contains(&b'/') {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{name:?} is not a single file name")));
    }
    Ok(())
}

pub(super) fn check_absolute(path: &Path) -> io::Result<()> {
    if path.is_absolute() {
        return Ok(());
    }
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not an absolute path", path.display())))
}

/// Says what the system means when it refuses to open something that is not a regular file.
pub(super) fn not_regular(error: io::Error) -> io::Error {
    match Errno::from_io_error(&error) {
        Some(Errno::LOOP) => io::Error::new(io::ErrorKind::InvalidInput, "is a symbolic link, not a regular file"),
        Some(Errno::NXIO) => io::Error::new(io::ErrorKind::InvalidInput, "is a socket, FIFO or device, not a regular file"),
        Some(Errno::ISDIR) => io::Error::new(io::ErrorKind::InvalidInput, "is a directory, not a regular file"),
        _ => error,
    }
}

fn check_regular(status: &Status) -> io::Result<()> {
    let what = match status.kind {
        FileKind::Regular => return Ok(()),
        FileKind::Device => "a device",
        FileKind::Directory => "a directory",
        FileKind::Fifo => "a FIFO",
        FileKind::Socket => "a socket",
        FileKind::Symlink => "a symbolic link",
    };
    Err(io::Error::new(io::ErrorKind::InvalidInput, format!("is {what}, not a regular file")))
}

/// Owner first (it clears special bits), then attributes, mode last; what the file then is, is compared with what was asked.
fn apply_metadata(file: &OwnedFd, wanted: &Metadata) -> io::Result<Status> {
    let before = status_of(file)?;
    let owner = (before.uid != wanted.uid).then(|| Uid::from_raw(wanted.uid));
    let group = (before.gid != wanted.gid).then(|| Gid::from_raw(wanted.gid));
    let owned_anew = owner.is_some() || group.is_some();
    if owned_anew {
        rustix::fs::fchown(file, owner, group)?;
    }
    let attributes_changed = attributes::apply(file, wanted.attributes.as_ref())?;
    if owned_anew || attributes_changed || before.mode != wanted.mode {
        rustix::fs::fchmod(file, Mode::from_raw_mode(wanted.mode & 0o7777))?;
    } else {
        return Ok(before);
    }
    let after = status_of(file)?;
    if (after.uid, after.gid, after.mode) == (wanted.uid, wanted.gid, wanted.mode) {
        return Ok(after);
    }
    Err(io::Error::other(format!(
        "the file system did not keep owner and mode: asked for {}:{} {:04o}, got {}:{} {:04o}",
        wanted.uid, wanted.gid, wanted.mode, after.uid, after.gid, after.mode
    )))
}

/// Opens a file that its own mode keeps us from reading. The owner may change that mode, so it is made readable to the
/// owner alone, by the inode that was found and not by name.
fn open_unreadable(directory: BorrowedFd<'_>, name: &OsStr, metadata: &Metadata) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd as _;
    let place = open_at(directory, name, OFlags::PATH | OFlags::NOFOLLOW)?;
    let status = status_of(&place)?;
    check_regular(&status)?;
    let path = format!("/proc/self/fd/{}", place.as_raw_fd());
    rustix::fs::chmodat(CWD, &path, Mode::from_raw_mode(metadata.mode & status.mode & 0o777 | 0o400), AtFlags::empty())?;
    open_at(CWD, &path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY)
}

/// Reads from the start until the end or until the buffer is full. A read that ends exactly at the expected size, with room
/// left, has met the end of the file.
fn read_into(file: &OwnedFd, buffer: &mut [u8], expected: usize) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match rustix::io::pread(file, &mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(count) => {
                filled += count;
                if filled == expected {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(filled)
}

fn write_all(file: &OwnedFd, bytes: &[u8]) -> io::Result<()> {
    let mut rest = bytes;
    while !rest.is_empty() {
        match rustix::io::write(file, rest) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => rest = &rest[count..],
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn status_from(found: &Statx) -> Status {
    let mode = u32::from(found.stx_mode);
    let kind = match FileType::from_raw_mode(mode) {
        FileType::Directory => FileKind::Directory,
        FileType::Fifo => FileKind::Fifo,
        FileType::Socket => FileKind::Socket,
        FileType::Symlink => FileKind::Symlink,
        FileType::BlockDevice | FileType::CharacterDevice => FileKind::Device,
        _ => FileKind::Regular,
    };
    let known = found.stx_attributes & found.stx_attributes_mask;
    let device = rustix::fs::makedev(found.stx_dev_major, found.stx_dev_minor);
    let mut status = Status::new(kind, device, found.stx_ino);
    status.links = u64::from(found.stx_nlink);
    status.size = found.stx_size;
    status.uid = found.stx_uid;
    status.gid = found.stx_gid;
    status.mode = mode & 0o7777;
    status.modified = nanoseconds(&found.stx_mtime);
    status.changed = nanoseconds(&found.stx_ctime);
    status.immutable = known.intersects(StatxAttributes::IMMUTABLE | StatxAttributes::APPEND);
    status.mount_point = known.contains(StatxAttributes::MOUNT_ROOT);
    status
}

fn nanoseconds(time: &StatxTimestamp) -> i128 {
    i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
}

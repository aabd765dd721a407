//! Rounds of syncs. Concurrent ones share the flushes of the disk, which is what makes a plan of many files fast.

use std::io;
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use rustix::fs::OFlags;
use rustix::io::Errno;

use super::super::{Directory, SyncPoint};
use super::OpenFile;
use super::files::{check_name, handle, not_regular, open_at, opened};

/// Syncs all points, at most `width` at a time; no new one is begun after a failure.
pub(super) fn round(points: &[SyncPoint], width: usize) -> io::Result<()> {
    let width = width.min(points.len());
    if width <= 1 {
        return points.iter().try_for_each(sync);
    }
    let next = AtomicUsize::new(0);
    let failed = AtomicBool::new(false);
    let first: Mutex<Option<(usize, io::Error)>> = Mutex::new(None);
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(point) = points.get(index) else { break };
            if let Err(error) = sync(point) {
                failed.store(true, Ordering::Relaxed);
                let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                if first.as_ref().is_none_or(|(earlier, _)| index < *earlier) {
                    *first = Some((index, error));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..width {
            // Without threads it only takes longer: this one does what the others would have done.
            if std::thread::Builder::new().name("sync".to_owned()).spawn_scoped(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    first.into_inner().unwrap_or_else(PoisonError::into_inner).map_or(Ok(()), |(_, error)| Err(error))
}

/// One sync, never repeated: after a failure the kernel has marked the pages clean, so that a second sync would succeed and
/// prove nothing.
fn sync(point: &SyncPoint) -> io::Result<()> {
    match point {
        SyncPoint::Directory(directory) => sync_directory(directory),
        SyncPoint::New(file) => {
            let open = file.handle::<OpenFile>();
            let open = open.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the file was created by another host"))?;
            Ok(rustix::fs::fsync(&open.fd)?)
        }
        SyncPoint::File(directory, name) => {
            check_name(name)?;
            let directory = handle(directory)?;
            let common = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
            let file = match open_at(directory, name, OFlags::RDONLY | common) {
                // A file of mode 0200: any descriptor will do for a sync.
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                    open_at(directory, name, OFlags::WRONLY | common)
                }
                other => other,
            };
            Ok(rustix::fs::fsync(file.map_err(not_regular)?)?)
        }
    }
}

fn sync_directory(directory: &Directory) -> io::Result<()> {
    let handle = opened(directory)?;
    let synced = if handle.path_only {
        let readable = open_at(handle.fd.as_fd(), c".", OFlags::RDONLY | OFlags::DIRECTORY)?;
        rustix::fs::fsync(readable)
    } else {
        rustix::fs::fsync(&handle.fd)
    };
    match synced {
        // Some file systems cannot sync a directory and say so in one of these ways (as PostgreSQL found).
        Ok(()) | Err(Errno::BADF | Errno::INVAL) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

//! Reading a file that somebody else wrote and that may hold a secret: through the host, by hand, in bounds.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::host::{FileKind, Host, Status};
use crate::secret::SecretBytes;

/// Linux gives up after as many symbolic links (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// Why a source file cannot be read.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SourceFileError {
    /// It is empty.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It does not exist, or is a link to nothing.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is not the absolute path of a file.
    #[error("{} is not an absolute path of a file", path.display())]
    NotAbsolute {
        /// The path.
        path: PathBuf,
    },
    /// It is a directory, a FIFO, a socket or a device.
    #[error("{} is {kind}, not a regular file", path.display())]
    NotRegular {
        /// The path.
        path: PathBuf,
        /// What it is: `a directory`.
        kind: &'static str,
    },
    /// It is longer than is read.
    #[error("{} is longer than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Symbolic links go in a circle.
    #[error("{} leads through more than {LINK_LIMIT} symbolic links", path.display())]
    TooManyLinks {
        /// The path.
        path: PathBuf,
    },
    /// The system refuses.
    #[error("{} cannot be read", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Reads a regular, non-empty file of at most `limit` bytes. Symbolic links are followed, also as the last part of the
/// path (certbot's `live` directory consists of them): the host never does that, so it is done here, link by link.
///
/// # Errors
/// There is no such file, it is something else, empty or too long, or the system refuses.
pub fn read_source_file(host: &dyn Host, path: &Path, limit: u64) -> Result<(SecretBytes, Status), SourceFileError> {
    let owned = || path.to_owned();
    let unreadable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => SourceFileError::Missing { path: owned() },
        io::ErrorKind::FileTooLarge => SourceFileError::TooLarge { path: owned(), limit },
        _ => SourceFileError::Unreadable { path: owned(), source },
    };
    let mut current = owned();
    for _ in 0..=LINK_LIMIT {
        let (directory, name) = split(&current).ok_or_else(|| SourceFileError::NotAbsolute { path: owned() })?;
        let parent = host.open_directory(directory).map_err(unreadable)?;
        let status = host.status(&parent, name).map_err(unreadable)?.ok_or_else(|| SourceFileError::Missing { path: owned() })?;
        if status.kind == FileKind::Symlink {
            current = directory.join(host.read_link(&parent, name).map_err(unreadable)?);
            continue;
        }
        if let Some(kind) = irregular(status.kind) {
            return Err(SourceFileError::NotRegular { path: owned(), kind });
        }
        let (bytes, status) =
            host.read(&parent, name, limit).map_err(unreadable)?.ok_or_else(|| SourceFileError::Missing { path: owned() })?;
        return if bytes.is_empty() { Err(SourceFileError::Empty { path: owned() }) } else { Ok((bytes, status)) };
    }
    Err(SourceFileError::TooManyLinks { path: owned() })
}

/// Directory and last name of an absolute path. A path that ends in `/` or `..` has no last name.
fn split(path: &Path) -> Option<(&Path, &OsStr)> {
    let ends_in_slash = path.as_os_str().as_encoded_bytes().ends_with(b"/");
    if !path.is_absolute() || ends_in_slash { None } else { path.parent().zip(path.file_name()) }
}

fn irregular(kind: FileKind) -> Option<&'static str> {
    match kind {
        FileKind::Regular | FileKind::Symlink => None,
        FileKind::Device => Some("a device"),
        FileKind::Directory => Some("a directory"),
        FileKind::Fifo => Some("a FIFO"),
        FileKind::Socket => Some("a socket"),
    }
}

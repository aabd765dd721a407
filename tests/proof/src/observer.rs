//! What is really there: read with the standard library alone, without a line of the engine's.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// One file to the last bit.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct File {
    /// Its content.
    pub bytes: Vec<u8>,
    /// Owner and group.
    pub owner: (u32, u32),
    /// The twelve permission bits.
    pub mode: u32,
    /// Extended attributes, POSIX ACLs included.
    pub attributes: BTreeMap<OsString, Vec<u8>>,
    /// How many names it has.
    pub links: u64,
}

impl std::fmt::Debug for File {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Without the bytes, which may be a key.
        let (uid, gid) = self.owner;
        write!(formatter, "{uid}:{gid} {:04o} {} bytes, {:?}", self.mode, self.bytes.len(), self.attributes.keys())
    }
}

impl File {
    /// The file behind a path, symbolic links followed; `None` if there is none.
    ///
    /// # Panics
    ///
    /// When it is there and cannot be read.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let metadata = path.metadata().ok()?;
        let names = xattr::list(path).map(Iterator::collect::<Vec<_>>).unwrap_or_default();
        let value = |name: OsString| {
            let value = xattr::get(path, &name).ok()??;
            Some((name, value))
        };
        Some(Self {
            bytes: std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())),
            owner: (metadata.uid(), metadata.gid()),
            mode: metadata.mode() & 0o7777,
            attributes: names.into_iter().filter_map(value).collect(),
            links: metadata.nlink(),
        })
    }

    /// Whether it is as another one was: everything but the number of names.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        Self { links: 0, ..self.clone() } == Self { links: 0, ..other.clone() }
    }
}

/// Every path below a directory, itself included, symbolic links not followed. What vanishes meanwhile is left out.
#[must_use]
pub fn paths(directory: &Path) -> Vec<PathBuf> {
    let mut found = vec![directory.to_owned()];
    let mut next = 0;
    while let Some(path) = found.get(next).cloned() {
        next += 1;
        if path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) {
            let entries = path.read_dir().into_iter().flatten().flatten();
            found.extend(entries.map(|entry| entry.path()));
        }
    }
    found
}

/// What a run that has ended must not leave: staging files, journals, scratch directories.
#[must_use]
pub fn litter(directory: &Path) -> Vec<PathBuf> {
    let is_litter = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let ending = name.rsplit_once('.').map_or("", |(_, ending)| ending);
        ["new", "back", "jnl", "tmp"].contains(&ending)
            || ["minimal-", "plan-", "preview-", "owner-"].iter().any(|start| name.starts_with(start))
    };
    paths(directory).into_iter().filter(is_litter).collect()
}

/// Files below a directory that hold any of these texts and can be read by others than owner and group.
#[must_use]
pub fn exposed(directory: &Path, secrets: &[String]) -> Vec<PathBuf> {
    paths(directory)
        .into_iter()
        .filter(|path| {
            let readable = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() && metadata.mode() & 0o004 != 0);
            readable && std::fs::read(path).is_ok_and(|bytes| holds(&bytes, secrets))
        })
        .collect()
}

/// Whether any of these texts stands in the bytes.
#[must_use]
pub fn holds(bytes: &[u8], secrets: &[String]) -> bool {
    secrets.iter().any(|secret| bytes.windows(secret.len()).any(|window| window == secret.as_bytes()))
}

/// The lines of a key in PEM that no other text has.
#[must_use]
pub fn secret_lines(key_pem: &str) -> Vec<String> {
    // The first line of a key is the same for all keys of its kind.
    key_pem.lines().filter(|line| !line.starts_with('-') && line.len() > 20).skip(1).map(str::to_owned).collect()
}

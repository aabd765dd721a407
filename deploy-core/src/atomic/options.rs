//! How a file is written, and what came of it.

use std::path::PathBuf;
use std::time::Duration;

use crate::plan::LinkPolicy;

/// How a file is written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct WriteOptions {
    /// Owner; default: that of the file that is replaced, or our own.
    pub owner: Option<u32>,
    /// Group; default: that of the file that is replaced, or the one that a new file gets in this directory.
    pub group: Option<u32>,
    /// The twelve permission bits; default: those of the file that is replaced, or 0600.
    pub mode: Option<u32>,
    /// What happens if the path is a symbolic link; default [`LinkPolicy::Follow`].
    pub links: LinkPolicy,
    /// Whether a file with other hard links may be replaced, which leaves the old bytes under its other names; default no.
    pub detach: bool,
    /// How long to wait for another writer of the same file; default 10 s.
    pub wait: Duration,
}

impl WriteOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self { owner: None, group: None, mode: None, links: LinkPolicy::Follow, detach: false, wait: Duration::from_secs(10) }
    }

    /// With this owner.
    #[must_use]
    pub fn with_owner(mut self, uid: u32) -> Self {
        self.owner = Some(uid);
        self
    }

    /// With this group.
    #[must_use]
    pub fn with_group(mut self, gid: u32) -> Self {
        self.group = Some(gid);
        self
    }

    /// With these permission bits, exactly; the umask has no part in it.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.mode = Some(mode);
        self
    }

    /// With another policy for symbolic links.
    #[must_use]
    pub fn with_links(mut self, links: LinkPolicy) -> Self {
        self.links = links;
        self
    }

    /// Replaces a file that has other hard links, which keep the old bytes.
    #[must_use]
    pub fn with_detach(mut self) -> Self {
        self.detach = true;
        self
    }

    /// With another time to wait for another writer.
    #[must_use]
    pub fn with_wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }
}

impl Default for WriteOptions {
    fn default() -> Self {
        Self::new()
    }
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Written {
    /// Whether the file was replaced or created; if not, it was as wanted before.
    pub changed: bool,
    /// The file, with a final symbolic link followed.
    pub path: PathBuf,
    /// Device of the file.
    pub device: u64,
    /// Inode of the file.
    pub inode: u64,
}

//! A deployment that was made up: the plan, and what stands there before.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use deploy_core::settings::Mode;
use deploy_core::{Defaults, LinkPolicy, Role};

use super::acl::Named;

/// The directories of the files, as paths below the one of the case. The last one is a symbolic link to a directory.
pub(crate) const DIRECTORIES: [&[u8]; 3] = [b"tls", b"ssl\xff\n", b"current"];

/// What the last of the directories really is.
pub(crate) const BEHIND: &str = "releases";

#[derive(Clone, Debug)]
pub(crate) struct Case {
    /// At least one, each with a name of its own.
    pub(crate) files: Vec<Planned>,
    pub(crate) links: LinkPolicy,
    pub(crate) defaults: Owner,
    pub(crate) backups: usize,
    /// Which of the certificates is deployed, and which stood there.
    pub(crate) new: usize,
    pub(crate) old: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Planned {
    pub(crate) role: Role,
    /// One of [`DIRECTORIES`].
    pub(crate) directory: usize,
    pub(crate) name: Name,
    pub(crate) owner: Owner,
    pub(crate) before: Before,
    /// The content of an opaque file.
    pub(crate) opaque: Vec<u8>,
}

/// Owner, group and mode, each given or not.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Owner {
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) mode: Option<u32>,
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Name(pub(crate) Vec<u8>);

/// What stands at a place.
#[derive(Clone, Debug)]
pub(crate) enum Before {
    Absent,
    File(Previous),
    /// A chain of symbolic links, which ends at a file in one of the directories, or nowhere.
    Link {
        hops: usize,
        directory: usize,
        behind: Option<Previous>,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Previous {
    pub(crate) bytes: Bytes,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mode: u32,
    /// Attributes in `user.`
    pub(crate) attributes: Vec<(String, Vec<u8>)>,
    pub(crate) named: Option<Named>,
}

#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    /// What the plan wants.
    Same,
    /// Those of the old certificate.
    Old,
    /// Anything.
    Garbage(Vec<u8>),
}

impl Owner {
    pub(crate) fn defaults(self) -> Defaults {
        let Self { uid, gid, mode } = self;
        Defaults::new(uid.map(|uid| uid.to_string()), gid.map(|gid| gid.to_string()), mode.map(Mode::new))
    }
}

impl Name {
    pub(crate) fn name(&self) -> &OsStr {
        OsStr::from_bytes(&self.0)
    }

    /// The name of the link number `hop` behind this one; the last one is the file.
    pub(crate) fn behind(&self, hop: usize) -> OsString {
        let mut name = self.0.clone();
        name.truncate(200);
        name.extend(format!(".{hop}").bytes());
        OsStr::from_bytes(&name).to_owned()
    }
}

impl std::fmt::Debug for Name {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (start, length) = (&self.0[..self.0.len().min(12)], self.0.len());
        write!(formatter, "\"{}\" ({length})", start.escape_ascii())
    }
}

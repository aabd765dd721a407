//! Where the files of a plan really are: links followed, directories pinned, dangerous places refused.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Component, Path, PathBuf};

use crate::context::Context;
use crate::error::{Error, ErrorKind};
use crate::generation::{CURRENT, Generations};
use crate::host::{Directory, FileKind, Host, Identity, Status};
use crate::plan::LinkPolicy;
use crate::secret::SecretBytes;

const MAXIMUM_LINKS: usize = 40;
/// The largest file that is read to make a plan: 64 MiB.
const SIZE_LIMIT: u64 = 64 << 20;

/// A destination as it is, read to make a plan: what is to stand there depends on what does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Destination {
    /// Where it really is, links followed: for [`Plan::with_read`](crate::Plan::with_read).
    pub path: PathBuf,
    /// What stands there; `None` if nothing does.
    pub bytes: Option<SecretBytes>,
}

impl Destination {
    /// Reads it, in the way in which the engine finds it when it replaces it.
    ///
    /// # Errors
    /// It cannot be read, is no regular file, or is not where it may be.
    pub fn read(path: &Path, links: LinkPolicy, context: &Context) -> Result<Self, Error> {
        let host = context.host();
        let us = host.identity().map_err(|error| unreadable(path, error))?;
        let place = Resolver::default().resolve(host, &us, path, links)?;
        let read = host.read(&place.directory, &place.name, SIZE_LIMIT).map_err(|error| {
            unreadable(path, error).with_next_step("it must be a regular file that certdeploy can read: what is in it is kept")
        })?;
        Ok(Self { path: place.path(), bytes: read.map(|(bytes, _)| bytes) })
    }
}

/// A pinned directory and a name in it.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) directory: Directory,
    pub(crate) name: OsString,
    /// What stands there; `None` if nothing does.
    pub(crate) status: Option<Status>,
    /// Who else could change the directory, as a sentence.
    pub(crate) unsafe_parent: Option<String>,
    /// The generations that it belongs to, in that layout. Then the directory is the current one, or that in which it will be.
    pub(crate) generations: Option<Generations>,
}

impl Place {
    pub(crate) fn path(&self) -> PathBuf {
        match &self.generations {
            Some(generations) => generations.path.join(CURRENT).join(&self.name),
            None => self.directory.path().join(&self.name),
        }
    }

    /// Whether both are one name in one directory.
    pub(crate) fn same(&self, other: &Self) -> bool {
        let in_one = |(own, other): (&Directory, &Directory)| own.status().same_file(other.status());
        let there = self.stands_in().zip(other.stands_in()).is_some_and(in_one);
        self.name == other.name && (there || self.shares_generations(other))
    }

    /// The directory that the file is in; `None` before the first generation.
    fn stands_in(&self) -> Option<&Directory> {
        let is_there = self.generations.as_ref().is_none_or(|generations| generations.current.is_some());
        is_there.then_some(&self.directory)
    }

    /// Whether both are in the generations of one directory, so that they can only be switched together.
    pub(crate) fn shares_generations(&self, other: &Self) -> bool {
        self.generations.as_ref().zip(other.generations.as_ref()).is_some_and(|(own, other)| own.lock() == other.lock())
    }

    /// What it is locked by: a directory and a name.
    pub(crate) fn lock(&self) -> ((u64, u64), &OsStr) {
        let directory = self.directory.status();
        self.generations.as_ref().map_or(((directory.device, directory.inode), &self.name), Generations::lock)
    }

    /// The directory in which the switch is made.
    pub(crate) fn switched_in(&self) -> &Directory {
        self.generations.as_ref().and_then(|generations| generations.directory.as_ref()).unwrap_or(&self.directory)
    }
}

/// Directories that were resolved already, by the path that was asked for.
#[derive(Debug, Default)]
pub(crate) struct Resolver {
    known: Vec<(PathBuf, Directory, Option<String>)>,
}

impl Resolver {
    /// Finds and pins the place of a path.
    pub(crate) fn resolve(&mut self, host: &dyn Host, us: &Identity, path: &Path, links: LinkPolicy) -> Result<Place, Error> {
        check_path(path)?;
        let mut path = path.to_owned();
        for _ in 0..MAXIMUM_LINKS {
            let place = self.place(host, us, &path)?;
            match &place.status {
                Some(status) if status.kind == FileKind::Symlink => match links {
                    LinkPolicy::Replace => return Ok(place),
                    LinkPolicy::Follow if place.unsafe_parent.is_some() || !is_trusted(us, status) => {
                        return Err(refused(&path, &format!("is a {FOREIGN_LINK}")).with_next_step(
                            "name the file behind it in the configuration, remove the link, or set links = \"replace\"",
                        ));
                    }
                    LinkPolicy::Refuse => {
                        return Err(refused(&path, "is a symbolic link, and the plan refuses links")
                            .with_next_step("name the file behind it, or set links = \"follow\""));
                    }
                    LinkPolicy::Follow => path = self.target_of_link(host, &place)?,
                },
                _ => return Ok(place),
            }
        }
        Err(refused(&path, "leads through too many symbolic links"))
    }

    fn target_of_link(&self, host: &dyn Host, place: &Place) -> Result<PathBuf, Error> {
        let link = place.path();
        let target = host
            .read_link(&place.directory, &place.name)
            .map_err(|error| refused(&link, "is a symbolic link that cannot be read").with_source(error))?;
        let target = place.directory.path().join(target);
        if letsencrypt(&link) {
            return Err(refused(
                &link,
                "is a link of certbot's own; replacing the file behind it would damage certbot's archive",
            )
            .with_next_step("deploy to a path of the server's own, and use this one as the source"));
        }
        check_path(&target)?;
        let exists = host.path_status(&target).map_err(|error| unreadable(&target, error))?.is_some();
        if !exists {
            return Err(refused(&link, &format!("is a symbolic link to {}, which does not exist", target.display()))
                .with_next_step("create the directory and file that it leads to, remove the link, or set links = \"replace\""));
        }
        Ok(target)
    }

    fn place(&mut self, host: &dyn Host, us: &Identity, path: &Path) -> Result<Place, Error> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(refused(path, "names no file"));
        };
        let (directory, unsafe_parent) = self.directory(host, us, parent, path)?;
        let status = host.status(&directory, name).map_err(|error| unreadable(path, error))?;
        Ok(Place { directory, name: name.to_owned(), status, unsafe_parent, generations: None })
    }

    /// Opens a directory that something is to be placed in, and says who else could change it.
    pub(crate) fn directory(
        &mut self,
        host: &dyn Host,
        us: &Identity,
        parent: &Path,
        file: &Path,
    ) -> Result<(Directory, Option<String>), Error> {
        if let Some((_, directory, unsafe_parent)) = self.known.iter().find(|(known, ..)| known == parent) {
            return Ok((directory.clone(), unsafe_parent.clone()));
        }
        let missing = |error: io::Error| {
            let (problem, step) = match error.kind() {
                io::ErrorKind::NotFound => ("does not exist", "create it with the owner and mode that the server needs"),
                io::ErrorKind::NotADirectory => ("is not a directory", "correct the path"),
                io::ErrorKind::InvalidInput => ("cannot be trusted", "name the real directory in the configuration"),
                io::ErrorKind::PermissionDenied => ("cannot be entered", "run as a user that may, or change its mode"),
                _ => ("cannot be opened", "see the cause"),
            };
            refused(file, &format!("cannot be placed: the directory {} {problem}", parent.display()))
                .with_source(error)
                .with_next_step(step)
        };
        let Walk { real, safe, open_to: unsafe_parent } = walk(host, us, parent).map_err(missing)?;
        let directory = open(host, &real, &safe).map_err(missing)?;
        self.known.push((parent.to_owned(), directory.clone(), unsafe_parent.clone()));
        Ok((directory, unsafe_parent))
    }
}

/// A link like this could lead root to any file that its maker wants to see replaced.
const FOREIGN_LINK: &str = "symbolic link that another user could have made, and such links are not followed";

/// The way to a directory.
struct Walk {
    /// Its real path.
    real: PathBuf,
    /// The part of it that nobody else can change.
    safe: PathBuf,
    /// Who else could change what it leads to.
    open_to: Option<String>,
}

/// Opens a directory by its real path. Where others can change it, a link may have taken the place of a directory since it
/// was looked at, so that it is opened step by step and no link is followed.
fn open(host: &dyn Host, real: &Path, safe: &Path) -> io::Result<Directory> {
    let rest = real.strip_prefix(safe).unwrap_or(Path::new(""));
    rest.iter().try_fold(host.open_directory(safe)?, |directory, name| host.open_child(&directory, name))
}

/// Finds the real path of a directory, and who else could change what it leads to.
fn walk(host: &dyn Host, us: &Identity, path: &Path) -> io::Result<Walk> {
    let mut real = PathBuf::from("/");
    let mut safe = PathBuf::from("/");
    let mut rest: VecDeque<OsString> = names(path);
    let mut links = 0;
    let mut open_to = None;
    while let Some(name) = rest.pop_front() {
        if name == ".." {
            real.pop();
            continue;
        }
        let next = real.join(&name);
        let status = host.path_status(&next)?.ok_or(io::ErrorKind::NotFound)?;
        match status.kind {
            FileKind::Symlink => {
                if open_to.is_some() || !is_trusted(us, &status) {
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is a {FOREIGN_LINK}", next.display())));
                }
                links += 1;
                if links > MAXIMUM_LINKS {
                    return Err(io::Error::other("too many symbolic links"));
                }
                let parent = host.open_directory(&real)?;
                let target = host.read_link(&parent, &name)?;
                if target.is_absolute() {
                    real = PathBuf::from("/");
                }
                for component in names(&target).into_iter().rev() {
                    rest.push_front(component);
                }
            }
            FileKind::Directory => {
                let last = rest.is_empty();
                real = next;
                open_to = open_to.or_else(|| others(us, &status, last).map(|who| format!("{} {who}", real.display())));
                if open_to.is_none() {
                    safe.clone_from(&real);
                }
            }
            _ => return Err(io::ErrorKind::NotADirectory.into()),
        }
    }
    if open_to.is_none() {
        safe.clone_from(&real);
    } else if !real.starts_with(&safe) {
        // It was left through `..` again.
        safe = PathBuf::from("/");
    }
    Ok(Walk { real, safe, open_to })
}

/// Whether a link was made by somebody who may do anything here.
fn is_trusted(us: &Identity, link: &Status) -> bool {
    link.uid == 0 || link.uid == us.uid
}

/// Who else could put something of their own into a directory; the sticky bit protects what lies in an ancestor.
pub(crate) fn others(us: &Identity, status: &Status, last: bool) -> Option<String> {
    if status.uid != 0 && status.uid != us.uid {
        return Some(format!("belongs to user {}", status.uid));
    }
    if status.mode & 0o1000 != 0 && !last {
        return None;
    }
    let our_own_group = us.uid != 0 && status.gid == us.gid;
    if status.mode & 0o020 != 0 && status.gid != 0 && !our_own_group {
        return Some(format!("can be written to by group {}", status.gid));
    }
    (status.mode & 0o002 != 0).then(|| "can be written to by everybody".to_owned())
}

fn names(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        })
        .collect()
}

fn check_path(path: &Path) -> Result<(), Error> {
    if !path.is_absolute() {
        return Err(refused(path, "is not an absolute path").with_next_step("write the whole path, from /"));
    }
    let text = path.as_os_str().as_encoded_bytes();
    if text.ends_with(b"/") || text.ends_with(b"/.") || path.file_name().is_none() {
        return Err(refused(path, "names a directory, not a file"));
    }
    if text.contains(&0) {
        return Err(refused(path, "contains a zero byte"));
    }
    Ok(())
}

/// Whether a new file cannot take its place: it is mounted by itself, or its other names would keep the old content.
pub(crate) fn only_in_place(place: &Place) -> bool {
    place.status.as_ref().is_some_and(|status| status.kind == FileKind::Regular && (status.mount_point || status.links > 1))
}

/// Refuses what cannot be replaced, but for what may be written in place.
pub(crate) fn check(place: &Place, allow_in_place: bool) -> Result<(), Error> {
    let Some(status) = &place.status else { return Ok(()) };
    let problem = match status.kind {
        FileKind::Regular if status.immutable => {
            Some(("is marked immutable or append-only", "chattr -i -a on it, if that mark is not there for a reason"))
        }
        FileKind::Regular if allow_in_place => None,
        FileKind::Regular if status.mount_point => Some((
            "is a mount point of its own (a single bind-mounted file), which cannot be replaced in one step",
            "mount the directory that holds it instead of the single file, or set allow_in_place = true",
        )),
        FileKind::Regular if status.links > 1 => Some((
            "has other hard links, which would silently keep the old content",
            "remove the other names (find them with: find DIRECTORY -xdev -samefile FILE), or set allow_in_place = true",
        )),
        FileKind::Regular => None,
        FileKind::Directory => Some(("is a directory", "name a file in it")),
        FileKind::Fifo => Some(("is a named pipe, not a file", "choose another path")),
        FileKind::Device => Some(("is a device, not a file", "choose another path")),
        FileKind::Socket => Some(("is a socket, not a file", "choose another path")),
        FileKind::Symlink => None,
    };
    match problem {
        Some((problem, step)) => Err(refused(&place.path(), problem).with_next_step(step)),
        None => Ok(()),
    }
}

fn letsencrypt(path: &Path) -> bool {
    path.starts_with("/etc/letsencrypt/live")
}

fn refused(path: &Path, problem: &str) -> Error {
    Error::new(ErrorKind::PlanInvalid, format!("{} {problem}", path.display()))
}

pub(crate) fn unreadable(path: &Path, error: io::Error) -> Error {
    refused(path, "cannot be looked at").with_source(error)
}

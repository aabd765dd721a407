//! The layout `generation`: every deployment has a directory of its own, and one symbolic link says which one counts.
//!
//! ```text
//! DIR/                        made by us, or empty when we came
//!     current -> generation-00000018
//!     generation-00000017/    the one before: as open as ever for a while, then 0700
//!     generation-00000018/    0755
//!     .certdeploy/owner       whose it is
//! ```
//!
//! The link is replaced by one rename: there is one commit point, and never a mixture on disk. Whoever opens
//! `DIR/current` once and reads all files through that descriptor has a set that matches, whatever happens meanwhile.
//!
//! A generation that was replaced stays as it was for an hour ([`GRACE`]), for readers that have just opened it. A later
//! run then closes it to others, or removes it if no set needs it. The time is taken from the generation that followed;
//! a clock that jumps lets a slow reader start over, and can harm nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::context::Context;
use crate::destination::{Place, Resolver, others, unreadable};
use crate::error::{Error, ErrorKind};
use crate::host::{Directory, FileKind, Host, Identity, Status, SyncPoint};
use crate::vault::{self, HIDDEN};

/// The link.
pub(crate) const CURRENT: &str = "current";

/// How long a generation stays open to its readers after another one has replaced it.
pub(crate) const GRACE: Duration = Duration::from_secs(60 * 60);

/// A generation that readers may enter. What they may read in it, its files say.
pub(crate) const OPEN: u32 = 0o755;

/// A generation that is being filled, or is kept for going back.
const CLOSED: u32 = 0o700;

const PREFIX: &str = "generation-";
const LINK: &str = ".link";

/// The directory of a target's generations, as it was found.
#[derive(Clone, Debug)]
pub(crate) struct Generations {
    /// Its real path.
    pub(crate) path: PathBuf,
    /// The directory that it is in.
    pub(crate) parent: Directory,
    /// `None`: does not exist yet.
    pub(crate) directory: Option<Directory>,
    /// `None`: nothing was deployed yet.
    pub(crate) current: Option<Current>,
    /// Who else could change it, as a sentence.
    unsafe_parent: Option<String>,
}

/// The generation that the link leads to.
#[derive(Clone, Debug)]
pub(crate) struct Current {
    pub(crate) name: String,
    pub(crate) directory: Directory,
}

/// Where the link leads.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Pointer {
    /// To a generation, which may be gone.
    Generation(String),
    /// There is none.
    Nowhere,
    /// Somewhere else, or it is no link.
    Foreign,
}

/// The name of a generation.
pub(crate) fn name(id: u64) -> String {
    format!("{PREFIX}{id:08}")
}

/// The number of a generation, if that is what a text names, to the letter.
pub(crate) fn number(text: &str) -> Option<u64> {
    let number = text.strip_prefix(PREFIX)?.parse().ok()?;
    (name(number) == text).then_some(number)
}

/// Finds a target's generations, and refuses a directory that is not for them. Changes nothing.
pub(crate) fn locate(
    context: &Context,
    us: &Identity,
    resolver: &mut Resolver,
    path: &Path,
    target: &str,
) -> Result<Generations, Error> {
    let host = context.host();
    let (Some(above), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(ErrorKind::PlanInvalid, format!("{} names no directory of its own", path.display())));
    };
    if host.path_status(path).map_err(|error| unreadable(path, error))?.is_none() {
        let (parent, unsafe_parent) = resolver.directory(host, us, above, path)?;
        return Ok(Generations { path: parent.path().join(name), parent, directory: None, current: None, unsafe_parent });
    }
    let (directory, unsafe_parent) = resolver.directory(host, us, path, &path.join(CURRENT))?;
    let real = directory.path().to_owned();
    let parent = host.open_directory(real.parent().unwrap_or(&real)).map_err(|error| unreadable(&real, error))?;
    if !vault::is_claimed(context, us, &directory, target)? {
        nothing_else(host, &directory)?;
    }
    let current = current(host, &directory)?;
    let open_to = current.as_ref().and_then(|current| others(us, current.directory.status(), true));
    let unsafe_parent = unsafe_parent.or_else(|| open_to.map(|who| format!("{} {who}", real.join(CURRENT).display())));
    Ok(Generations { path: real, parent, directory: Some(directory), current, unsafe_parent })
}

/// A directory that nobody has claimed is taken if there is nothing in it but what we may have left there ourselves.
fn nothing_else(host: &dyn Host, directory: &Directory) -> Result<(), Error> {
    let path = directory.path();
    for name in host.list(directory).map_err(|error| unreadable(path, error))? {
        let is_link = || points_to(host, directory).map(|pointer| pointer != Pointer::Foreign);
        let ours = name == HIDDEN
            || is_ours(&name.to_string_lossy())
            || (name == CURRENT && is_link().map_err(|error| unreadable(path, error))?);
        if !ours {
            let name = name.to_string_lossy();
            let message = format!("{} was not made for generations: there is `{name}` in it", path.display());
            return Err(Error::new(ErrorKind::Conflict, message).with_next_step(
                "name a directory in `generation` that does not exist yet, have the server's configuration name the files in its \
                 `current`, deploy, and remove the old files then (see: moving to generations)",
            ));
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    number(name.strip_suffix(LINK).unwrap_or(name)).is_some()
}

fn current(host: &dyn Host, directory: &Directory) -> Result<Option<Current>, Error> {
    let path = directory.path().join(CURRENT);
    let foreign = |problem: &str| {
        Error::new(ErrorKind::Conflict, format!("{} {problem}", path.display())).with_next_step(format!(
            "find out who changed it; then have it lead to a generation again (ln -sfn {PREFIX}NUMBER {}), or remove it",
            path.display()
        ))
    };
    match points_to(host, directory).map_err(|error| unreadable(&path, error))? {
        Pointer::Nowhere => Ok(None),
        Pointer::Foreign => Err(foreign("is not a link to a generation of this target")),
        Pointer::Generation(name) => match host.open_child(directory, OsStr::new(&name)) {
            Ok(directory) => Ok(Some(Current { name, directory })),
            Err(error) => Err(foreign(&format!("leads to {name}, which cannot be opened")).with_source(error)),
        },
    }
}

/// Where the link leads now.
pub(crate) fn points_to(host: &dyn Host, directory: &Directory) -> io::Result<Pointer> {
    let link = OsStr::new(CURRENT);
    match host.status(directory, link)? {
        None => return Ok(Pointer::Nowhere),
        Some(status) if status.kind != FileKind::Symlink => return Ok(Pointer::Foreign),
        Some(_) => {}
    }
    let target = host.read_link(directory, link)?;
    let generation = target.to_str().filter(|name| number(name).is_some());
    Ok(generation.map_or(Pointer::Foreign, |name| Pointer::Generation(name.to_owned())))
}

impl Generations {
    /// What a lock of it is known by, whether it exists yet or not.
    pub(crate) fn lock(&self) -> ((u64, u64), &OsStr) {
        let parent = self.parent.status();
        ((parent.device, parent.inode), self.path.file_name().unwrap_or_default())
    }

    /// The place of a file of the current generation.
    pub(crate) fn place(&self, host: &dyn Host, path: &Path) -> Result<Place, Error> {
        let name = path.file_name().unwrap_or_default().to_owned();
        let (directory, status) = match &self.current {
            Some(current) => {
                let status = host.status(&current.directory, &name).map_err(|error| unreadable(path, error))?;
                (current.directory.clone(), status)
            }
            None => (self.directory.clone().unwrap_or_else(|| self.parent.clone()), None),
        };
        if status.as_ref().is_some_and(|status| status.kind == FileKind::Symlink) {
            let message = format!("{} is a symbolic link, and a generation has none", path.display());
            return Err(Error::new(ErrorKind::Conflict, message)
                .with_next_step("put the file itself in the place of the link, or remove the link"));
        }
        let generations = Some(self.clone());
        Ok(Place { directory, name, status, unsafe_parent: self.unsafe_parent.clone(), generations })
    }

    /// Makes the directory and claims it, where that was not done. What has to be synced is added to `round`.
    pub(crate) fn establish(
        &mut self,
        context: &Context,
        us: &Identity,
        target: &str,
        round: &mut Vec<SyncPoint>,
    ) -> Result<Directory, Error> {
        let host = context.host();
        let failed = |error: io::Error| {
            Error::new(ErrorKind::StageFailed, format!("{} cannot be opened or created", self.path.display()))
                .with_next_step(crate::engine::advice(&error, self.parent.path()))
                .with_source(error)
        };
        let name = self.path.file_name().unwrap_or_default();
        let mut created = false;
        let directory = match &self.directory {
            Some(directory) => directory.clone(),
            None => crate::state::open_or_create_child(host, &self.parent, name, &mut created).map_err(failed)?,
        };
        let claimed = vault::is_claimed(context, us, &directory, target)?;
        if !claimed {
            nothing_else(host, &directory)?;
        }
        let first = self.current.is_none();
        if first {
            // One that nobody but us can enter is what an earlier run began to make: it is to be of use to readers.
            if created || (directory.status().uid == us.uid && directory.status().mode == CLOSED) {
                host.set_directory_mode(&directory, OPEN).map_err(failed)?;
            }
            // Recovery opens it by what the journal says, which must not outlast it.
            host.sync(&[SyncPoint::Directory(self.parent.clone())]).map_err(failed)?;
        }
        if first || !claimed {
            vault::claim_for_generations(context, us, &directory, target, round)?;
        }
        round.push(SyncPoint::Directory(directory.clone()));
        self.directory = Some(directory.clone());
        Ok(directory)
    }

    /// Whether the link still leads where it did.
    pub(crate) fn is_still(&self, host: &dyn Host) -> io::Result<bool> {
        let Some(directory) = &self.directory else { return Ok(true) };
        let now = points_to(host, directory)?;
        Ok(match &self.current {
            Some(current) => now == Pointer::Generation(current.name.clone()),
            None => now == Pointer::Nowhere,
        })
    }
}

/// Makes the link lead to a generation, by one rename; `from` says whether there is one to be replaced.
pub(crate) fn flip(host: &dyn Host, directory: &Directory, from: Option<&str>, to: &str) -> io::Result<()> {
    let (temporary, link) = (format!("{to}{LINK}"), OsStr::new(CURRENT));
    let temporary = OsStr::new(&temporary);
    host.unlink(directory, temporary)?;
    host.symlink(directory, temporary, Path::new(to))?;
    let flipped = match from {
        Some(_) => host.rename((directory, temporary), (directory, link)),
        None => host.rename_new((directory, temporary), (directory, link)),
    };
    if flipped.is_err() {
        // The first error is the one to report.
        let _swept_later = host.unlink(directory, temporary);
    }
    flipped
}

/// Removes a generation with all that is in it, and what was left of the link to it.
pub(crate) fn remove(host: &dyn Host, directory: &Directory, name: &str) -> io::Result<()> {
    host.unlink(directory, OsStr::new(&format!("{name}{LINK}")))?;
    let name = OsStr::new(name);
    let generation = match host.open_child(directory, name) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        opened => opened?,
    };
    for file in host.list(&generation)? {
        host.unlink(&generation, &file)?;
    }
    host.remove_child(directory, name)
}

/// The largest number that a generation has here.
pub(crate) fn latest(host: &dyn Host, directory: &Directory) -> io::Result<u64> {
    let names = host.list(directory)?;
    Ok(names.iter().filter_map(|name| number(name.to_str()?)).max().unwrap_or_default())
}

/// Closes what readers need no more, and removes of it what is not in `kept`: what was replaced, after the time of grace,
/// and at once what a killed run left, which is above `last`, the last number that was ever live. Says whether any is
/// still open.
pub(crate) fn tidy(host: &dyn Host, directory: &Directory, kept: &BTreeSet<u64>, last: u64, now: SystemTime) -> io::Result<bool> {
    let mut found: BTreeMap<u64, Status> = BTreeMap::new();
    for name in host.list(directory)? {
        let Some(text) = name.to_str() else { continue };
        let Some(number) = number(text.strip_suffix(LINK).unwrap_or(text)) else { continue };
        match host.status(directory, &name)? {
            Some(status) if status.kind == FileKind::Symlink && text.ends_with(LINK) => host.unlink(directory, &name)?,
            Some(status) if status.kind == FileKind::Directory && !text.ends_with(LINK) => drop(found.insert(number, status)),
            _ => {}
        }
    }
    let current = match points_to(host, directory)? {
        Pointer::Generation(name) => number(&name).unwrap_or_default(),
        Pointer::Nowhere => 0,
        // Nothing is known of what somebody else is doing here.
        Pointer::Foreign => return Ok(false),
    };
    let (mut open, mut first) = (false, Ok(()));
    for (&number, status) in found.iter().filter(|(number, _)| **number != current) {
        let mut followers = found.range(number + 1..).take_while(|(follower, _)| **follower <= current);
        let past = followers.next().map_or(number > last, |(_, follower)| is_past(follower.modified, now));
        let done = if !past {
            // That includes what was live, and was taken back by hand.
            open |= status.mode & 0o777 != CLOSED;
            Ok(())
        } else if !kept.contains(&number) {
            remove(host, directory, &name(number))
        } else if status.mode & 0o777 != CLOSED {
            let generation = host.open_child(directory, OsStr::new(&name(number)));
            generation.and_then(|generation| host.set_directory_mode(&generation, CLOSED))
        } else {
            Ok(())
        };
        // One that cannot be removed keeps none of the others.
        first = first.and(done);
    }
    first.map(|()| open)
}

/// Whether the time of grace after this moment, in nanoseconds since 1970, is over.
pub(crate) fn is_past(moment: i128, now: SystemTime) -> bool {
    let nanoseconds = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    now.duration_since(UNIX_EPOCH).is_ok_and(|now| nanoseconds(now) - moment > nanoseconds(GRACE))
}

//! Planning a view in the parent, where allocating and failing are allowed.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Dir, Mode, OFlags};
use rustix::thread::CapabilitySet;

use super::StagedView;
use super::child::{OWN, Step, UserNamespace};
use super::mounts::{self, Mount, Showing};
use crate::command::CommandError;

/// A directory with mounts in it is taken apart into its entries only if it has no more of them than this.
const ENTRIES_LIMIT: usize = 512;

/// How many directories of `/var/log` are made.
const LOG_DIRECTORIES_LIMIT: usize = 512;

/// Links that may lead from one to the next (`MAXSYMLINKS` of Linux).
const LINKS_LIMIT: usize = 40;

/// Where the new root is, in the view's tmpfs.
const ROOT: &str = "root";

/// The steps for the child, and what each is called in an error.
pub(super) struct Recipe {
    pub(super) steps: Vec<Step>,
    pub(super) names: Vec<String>,
    pub(super) user_namespace: Option<UserNamespace>,
}

impl Recipe {
    pub(super) fn plan(view: &StagedView, directory: &Path) -> Result<Self, CommandError> {
        let user_namespace = user_namespace().map_err(|source| failed("privileges", source))?;
        let confined = user_namespace.is_some() || in_user_namespace().map_err(|source| failed("privileges", source))?;
        let recipe = Self { steps: Vec::new(), names: Vec::new(), user_namespace };
        let mut planner = Planner { recipe, confined, covers: Vec::new(), made: 0, mounts: Vec::new() };
        let mut finals = Vec::new();
        for (staged, live) in &view.files {
            let found = resolve(live).map_err(|source| failed(&format!("look at {}", live.display()), source))?;
            finals.push((staged.as_path(), found));
        }
        planner.push("new mount namespace".to_owned(), Step::Unshare);
        let planned =
            if view.writes_diverted { planner.whole(view, &finals, directory) } else { planner.binds(&finals, directory) };
        planned.map_err(|source| failed("planning", source))?;
        Ok(planner.recipe)
    }
}

/// A final path with every link on the way followed.
struct Final {
    path: PathBuf,
    exists: bool,
    /// The directory on the way to it that exists; from there on, directories have to be made.
    directory: PathBuf,
}

struct Planner {
    recipe: Recipe,
    /// In a user namespace, mounts that came from outside are locked: an overlay over a directory with one in it is refused.
    confined: bool,
    /// What covers which path: an overlay by its number, or nothing that may be written to.
    covers: Vec<(PathBuf, Option<usize>)>,
    /// How many directories were made in the tmpfs.
    made: usize,
    mounts: Vec<Mount>,
}

impl Planner {
    fn whole(&mut self, view: &StagedView, finals: &[(&Path, Final)], directory: &Path) -> io::Result<()> {
        let mut needed: Vec<PathBuf> = finals.iter().map(|(_, found)| found.path.clone()).collect();
        needed.push(directory.to_owned());
        let mount_point = std::fs::canonicalize(&view.mount_point)?;
        self.mounts = mounts::visible(&needed)?;
        self.mounts.retain(|mount| !mount.path.starts_with(&mount_point));
        let at = c_path(&view.mount_point)?;
        self.push(format!("tmpfs on {}", view.mount_point.display()), Step::Tmpfs { at });
        if self.confined {
            self.apart(Path::new("/"), &std::fs::metadata("/")?)?;
            self.directories_of_new_files(finals)?;
        } else {
            let root = Step::Directory { path: c_path(Path::new(ROOT))?, mode: 0o755, owner: (0, 0) };
            self.push("make the root".to_owned(), root);
            self.overlay(Path::new("/"), &std::fs::metadata("/")?, true)?;
            for mount in self.mounts.clone() {
                self.mount(&mount)?;
            }
        }
        self.logs(&needed)?;
        self.directories_on_the_way(finals)?;
        for (staged, found) in finals {
            let at = within(&found.path)?;
            if !found.exists {
                let cover = self.cover_of(&found.path);
                let step = Step::Create { at: at.clone(), cover, directory: false };
                self.push(format!("create {}", found.path.display()), step);
            }
            self.push(format!("bind {}", found.path.display()), Step::Bind { from: c_path(staged)?, at });
        }
        self.push("enter the view".to_owned(), Step::Enter { root: c_path(Path::new(ROOT))? });
        self.change(directory)
    }

    fn binds(&mut self, finals: &[(&Path, Final)], directory: &Path) -> io::Result<()> {
        for (staged, found) in finals {
            if !found.exists {
                let message = format!("{} does not exist yet, and a bind needs it", found.path.display());
                return Err(io::Error::new(io::ErrorKind::NotFound, message));
            }
            let step = Step::Bind { from: c_path(staged)?, at: c_path(&found.path)? };
            self.push(format!("bind {}", found.path.display()), step);
        }
        // The working directory is looked up again: it must not keep what lies below a bind in sight.
        self.change(directory)
    }

    /// What is mounted in the original, in the order of mounting.
    fn mount(&mut self, mount: &Mount) -> io::Result<()> {
        match mount.showing {
            Showing::Overlay => match std::fs::metadata(&mount.path) {
                Ok(status) => self.overlay(&mount.path, &status, false),
                Err(_) => self.tree(&mount.path),
            },
            Showing::File => {
                let step = Step::Bind { from: c_path(&mount.path)?, at: within(&mount.path)? };
                self.push(format!("bind {}", mount.path.display()), step);
                Ok(())
            }
            // A tree brings the mounts in it along.
            Showing::Tree if self.in_tree(&mount.path) => Ok(()),
            Showing::Tree => self.tree(&mount.path),
        }
    }

    /// Shows a directory entry by entry, down to where there are no mounts left.
    fn apart(&mut self, path: &Path, status: &Metadata) -> io::Result<()> {
        let mounted = self.mounts.iter().rev().find(|mount| mount.path == path).map(|mount| mount.showing);
        let below = self.mounts.iter().any(|mount| mount.path != path && mount.path.starts_with(path));
        let at = within(path)?;
        self.push(format!("make {}", path.display()), directory_step(at, status));
        if mounted == Some(Showing::Tree) {
            self.tree(path)?;
            for mount in self.mounts.clone() {
                let inside = mount.path != path && mount.path.starts_with(path) && mount.showing == Showing::Overlay;
                if inside && !self.mounts.iter().any(|other| other.path != mount.path && other.path.starts_with(&mount.path)) {
                    self.mount(&mount)?;
                }
            }
            return Ok(());
        }
        if !below {
            return self.overlay(path, status, false);
        }
        let Some(names) = entries(path) else { return self.tree(path) };
        // A directory of the tmpfs itself: whatever is made in it stays in the view.
        self.covers.push((path.to_owned(), Some(OWN)));
        for name in names {
            let entry = path.join(name);
            // What is on a hanging or remote mount is not looked at.
            let as_it_is = self.mounts.iter().any(|mount| mount.path == entry && mount.showing == Showing::Tree);
            let Ok(found) = (if as_it_is { std::fs::metadata(path) } else { std::fs::symlink_metadata(&entry) }) else {
                continue;
            };
            let at = within(&entry)?;
            let make = format!("make {}", entry.display());
            if found.is_dir() {
                self.apart(&entry, &found)?;
            } else if found.is_symlink() {
                let target = CString::new(std::fs::read_link(&entry)?.into_os_string().into_vec())?;
                self.push(make, Step::Link { target, path: at });
            } else {
                self.push(make, Step::File { path: at.clone() });
                self.push(format!("bind {}", entry.display()), Step::Tree { from: c_path(&entry)?, at });
            }
        }
        Ok(())
    }

    /// In a user namespace a file can be made only in an overlay's own root: to make it deeper, the overlay would have to
    /// give its copies of the directories above to users who do not exist there.
    fn directories_of_new_files(&mut self, finals: &[(&Path, Final)]) -> io::Result<()> {
        for (_, found) in finals.iter().filter(|(_, found)| !found.exists) {
            let parent = &found.directory;
            let known = self.covers.iter().any(|(path, _)| path == parent);
            let mounts_inside = self.mounts.iter().any(|mount| mount.path.starts_with(parent));
            if !known && !mounts_inside {
                self.overlay(parent, &std::fs::metadata(parent)?, true)?;
            }
        }
        Ok(())
    }

    /// Each directory that new files lie in and that does not exist, once, the outer before the inner.
    fn directories_on_the_way(&mut self, finals: &[(&Path, Final)]) -> io::Result<()> {
        let mut made = BTreeSet::new();
        for (_, found) in finals {
            let missing = found.path.ancestors().skip(1).take_while(|ancestor| *ancestor != found.directory);
            made.extend(missing.map(Path::to_owned));
        }
        for path in made {
            let step = Step::Create { at: within(&path)?, cover: self.cover_of(&path), directory: true };
            self.push(format!("create {}", path.display()), step);
        }
        Ok(())
    }

    /// The directories of `/var/log` and none of its files.
    fn logs(&mut self, needed: &[PathBuf]) -> io::Result<()> {
        let Ok(logs) = std::fs::canonicalize("/var/log") else { return Ok(()) };
        if needed.iter().any(|needed| needed.starts_with(&logs)) {
            return Ok(());
        }
        let mut places = vec![(logs.clone(), PathBuf::from("log"))];
        let mut next = 0;
        while let Some((original, place)) = places.get(next).cloned() {
            next += 1;
            let Ok(status) = std::fs::symlink_metadata(&original) else { continue };
            self.push(format!("make {}", original.display()), directory_step(c_path(&place)?, &status));
            for name in entries(&original).unwrap_or_default() {
                let entry = original.join(&name);
                if places.len() < LOG_DIRECTORIES_LIMIT && std::fs::symlink_metadata(&entry).is_ok_and(|status| status.is_dir()) {
                    places.push((entry, place.join(&name)));
                }
            }
        }
        self.push("show empty logs".to_owned(), Step::Put { from: c"log".to_owned(), at: within(&logs)? });
        Ok(())
    }

    fn overlay(&mut self, path: &Path, status: &Metadata, required: bool) -> io::Result<()> {
        let number = self.recipe.steps.iter().filter(|step| matches!(step, Step::Overlay { .. })).count();
        self.made += 1;
        let (upper, work) = (format!("u{}", self.made), format!("w{}", self.made));
        let mut options = b"lowerdir=".to_vec();
        for byte in path.as_os_str().as_bytes() {
            // These separate options, layers and escapes.
            if b",:\\".contains(byte) {
                options.push(b'\\');
            }
            options.push(*byte);
        }
        options.extend(format!(",upperdir={upper},workdir={work}").into_bytes());
        if self.confined {
            // Linux 5.11: without it an overlay here may not keep its marks.
            options.extend(b",userxattr");
        }
        let name = format!("overlay over {}", path.display());
        // What can be seen of an overlay's root is the upper directory.
        self.push(name.clone(), directory_step(CString::new(upper)?, status));
        let step = Step::Overlay {
            lower: c_path(path)?,
            at: within(path)?,
            work: CString::new(work)?,
            options: CString::new(options)?,
            cover: number,
            required,
        };
        self.push(name, step);
        self.covers.push((path.to_owned(), Some(number)));
        Ok(())
    }

    fn tree(&mut self, path: &Path) -> io::Result<()> {
        self.push(format!("bind {}", path.display()), Step::Tree { from: c_path(path)?, at: within(path)? });
        self.covers.push((path.to_owned(), None));
        Ok(())
    }

    fn change(&mut self, directory: &Path) -> io::Result<()> {
        let step = Step::Change { directory: c_path(directory)? };
        self.push(format!("working directory {}", directory.display()), step);
        Ok(())
    }

    fn in_tree(&self, path: &Path) -> bool {
        self.covers.iter().any(|(covered, cover)| cover.is_none() && path.starts_with(covered))
    }

    /// What a path's directory is covered by: the nearest above it, and of two at one place the later.
    fn cover_of(&self, path: &Path) -> Option<usize> {
        let above = self.covers.iter().filter(|(covered, _)| path.starts_with(covered));
        above.max_by_key(|(covered, _)| covered.as_os_str().len()).and_then(|(_, cover)| *cover)
    }

    fn push(&mut self, name: String, step: Step) {
        self.recipe.names.push(name);
        self.recipe.steps.push(step);
    }
}

/// Without CAP_SYS_ADMIN, mounting takes a user namespace, with ourselves as the only user and group.
fn user_namespace() -> io::Result<Option<UserNamespace>> {
    if rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::SYS_ADMIN) {
        return Ok(None);
    }
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let map = |id: u32| format!("{id} {id} 1\n").into_bytes();
    Ok(Some(UserNamespace { users: map(user), groups: map(group) }))
}

/// Whether we are in a user namespace already, as in a rootless container: the first one maps every user onto itself.
fn in_user_namespace() -> io::Result<bool> {
    let map = std::fs::read_to_string("/proc/self/uid_map")?;
    Ok(!map.split_whitespace().eq(["0", "0", "4294967295"]))
}

/// Follows the links on the way to a file that may not exist yet; nor need the directories that it lies in.
fn resolve(path: &Path) -> io::Result<Final> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_LIMIT {
        let (Some(parent), Some(name)) = (path.parent().filter(|_| path.is_absolute()), path.file_name()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not the absolute path of a file"));
        };
        let (directory, missing) = resolve_directory(parent)?;
        let real = directory.join(missing).join(name);
        match std::fs::symlink_metadata(&real) {
            Ok(found) if found.is_symlink() => path = real.parent().unwrap_or(&real).join(std::fs::read_link(&real)?),
            Ok(_) => return Ok(Final { path: real, exists: true, directory }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Final { path: real, exists: false, directory }),
            Err(error) => return Err(error),
        }
    }
    Err(rustix::io::Errno::LOOP.into())
}

/// The real path of the part of a directory's path that exists, and the rest.
fn resolve_directory(path: &Path) -> io::Result<(PathBuf, PathBuf)> {
    for existing in path.ancestors() {
        match std::fs::canonicalize(existing) {
            // A link to nowhere is not the place of a directory that could be made.
            Err(error) if error.kind() == io::ErrorKind::NotFound && std::fs::symlink_metadata(existing).is_err() => {}
            found => return Ok((found?, path.strip_prefix(existing).unwrap_or(path).to_owned())),
        }
    }
    Err(io::ErrorKind::NotFound.into())
}

/// The names in a directory; `None` if they cannot be read or are too many.
fn entries(path: &Path) -> Option<Vec<std::ffi::OsString>> {
    let directory = rustix::fs::openat(CWD, path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let mut names = Vec::new();
    for entry in Dir::new(directory).ok()? {
        let name = entry.ok()?.file_name().to_bytes().to_vec();
        if name != b"." && name != b".." {
            names.push(std::ffi::OsString::from_vec(name));
        }
        if names.len() > ENTRIES_LIMIT {
            return None;
        }
    }
    Some(names)
}

fn directory_step(path: CString, status: &Metadata) -> Step {
    Step::Directory { path, mode: status.mode() & 0o7777, owner: (status.uid(), status.gid()) }
}

/// A path of the original, in the view that is being built.
fn within(path: &Path) -> io::Result<CString> {
    let mut place = ROOT.as_bytes().to_vec();
    if path != Path::new("/") {
        place.extend(path.as_os_str().as_bytes());
    }
    Ok(CString::new(place)?)
}

fn c_path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn failed(step: &str, source: io::Error) -> CommandError {
    CommandError::View { step: step.to_owned(), source }
}

//! What the child does between `fork` and `exec`: only system calls on what the parent prepared. It must not allocate, lock
//! or panic, because another thread of the parent may have held the allocator's lock when it forked. And the namespaces that
//! a thread of the parent enters for its children.

#![expect(unsafe_code, reason = "pre_exec and unshare: this module is the one that may")]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;

use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::thread::UnshareFlags;

/// Length of what is reported about a failure: the step's index and the error number.
pub(super) const RECORD: usize = 8;

/// The cover of what lies in the view's tmpfs itself.
pub(super) const OWN: usize = usize::MAX;

/// One thing to do. Paths that don't begin with a slash are in the view's own tmpfs.
pub(super) enum Step {
    /// Leave the parent's mounts, for a namespace that passes nothing back.
    Unshare,
    /// Mount the tmpfs that takes everything up, and go there.
    Tmpfs { at: CString },
    /// Make a directory, as the original is; the owner where that is allowed.
    Directory { path: CString, mode: u32, owner: (u32, u32) },
    /// Make a symbolic link.
    Link { target: CString, path: CString },
    /// Make an empty file, for something to be bound onto.
    File { path: CString },
    /// Lay an overlay over a directory of the original. If that is refused and it is not `required`, bind it as it is.
    Overlay { lower: CString, at: CString, work: CString, options: CString, cover: usize, required: bool },
    /// Show a tree of the original as it is.
    Tree { from: CString, at: CString },
    /// Make a final path, or a directory on the way to one, that does not exist, if what covers it is ours to write to.
    Create { at: CString, cover: Option<usize>, directory: bool },
    /// Bind one file onto another, read-only.
    Bind { from: CString, at: CString },
    /// Bind a directory of the tmpfs onto another.
    Put { from: CString, at: CString },
    /// Make the view the root.
    Enter { root: CString },
    /// Go to the working directory.
    Change { directory: CString },
}

/// Maps of one user and one group onto themselves.
pub(super) struct UserNamespace {
    pub(super) users: Vec<u8>,
    pub(super) groups: Vec<u8>,
}

/// Everything the child needs.
pub(super) struct Work {
    steps: Vec<Step>,
    user_namespace: Option<UserNamespace>,
    /// For each overlay, whether it is one (and not a bind in its place).
    covers: Vec<bool>,
    report: OwnedFd,
}

impl Work {
    pub(super) fn new(steps: Vec<Step>, user_namespace: Option<UserNamespace>, report: OwnedFd) -> Self {
        let overlays = steps.iter().filter(|step| matches!(step, Step::Overlay { .. })).count();
        Self { steps, user_namespace, covers: vec![false; overlays], report }
    }

    fn run(&mut self) -> io::Result<()> {
        for (index, step) in self.steps.iter().enumerate() {
            if let Err(error) = step.run(self.user_namespace.as_ref(), &mut self.covers) {
                let mut record = [0; RECORD];
                record[..4].copy_from_slice(&u32::try_from(index).unwrap_or(u32::MAX).to_ne_bytes());
                record[4..].copy_from_slice(&error.raw_os_error().to_ne_bytes());
                // A pipe takes so few bytes at once, and nothing could be done about an error.
                rustix::io::write(&self.report, &record).ok();
                return Err(error.into());
            }
        }
        Ok(())
    }
}

/// Makes the child of this command do the work before it executes the program.
pub(super) fn attach(command: &mut std::process::Command, mut work: Work) {
    // SAFETY: the closure only makes system calls on strings and buffers that were allocated before; `io::Error` from an
    // error number does not allocate. See the head of this module.
    unsafe { command.pre_exec(move || work.run()) };
}

/// Makes the child of this command end when the thread that starts it does, whatever ends that.
pub(crate) fn end_with_parent(command: &mut std::process::Command) {
    let ask = || Ok(rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?);
    // SAFETY: one system call, and an error number.
    unsafe { command.pre_exec(ask) };
}

/// Leaves the network for an empty one: this thread, and those that it starts.
pub(super) fn unshare_network() -> io::Result<()> {
    // SAFETY: no memory is shared any less than before, and open sockets stay what they are.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Gives the next child of this thread process numbers and System V objects of its own: it is the first process there, and
/// with it all others end. The thread can start no thread any more.
pub(crate) fn enter_processes() -> io::Result<()> {
    // SAFETY: this thread itself stays where it is; only its children are concerned.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID | UnshareFlags::NEWIPC) }?)
}

/// The step's index and the error number.
pub(super) fn decode(record: [u8; RECORD]) -> (usize, i32) {
    let [a, b, c, d, e, f, g, h] = record;
    (u32::from_ne_bytes([a, b, c, d]) as usize, i32::from_ne_bytes([e, f, g, h]))
}

impl Step {
    fn run(&self, user_namespace: Option<&UserNamespace>, covers: &mut [bool]) -> Result<(), Errno> {
        match self {
            Self::Unshare => {
                unshare(user_namespace)?;
                // Without this, what is mounted here would appear in the parent's tree as well.
                rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
            }
            Self::Tmpfs { at } => {
                let flags = MountFlags::NOSUID | MountFlags::NODEV;
                rustix::mount::mount(c"certdeploy", at.as_c_str(), c"tmpfs", flags, Some(c"mode=0700,size=256m"))?;
                rustix::process::chdir(at.as_c_str())
            }
            Self::Directory { path, mode, owner } => make_directory(path, *mode, *owner),
            Self::Link { target, path } => rustix::fs::symlinkat(target.as_c_str(), CWD, path.as_c_str()),
            Self::File { path } => make_file(path),
            Self::Overlay { lower, at, work, options, cover, required } => {
                let laid = overlay(at, work, options, user_namespace.is_some());
                match laid {
                    Ok(()) => {
                        if let Some(cover) = covers.get_mut(*cover) {
                            *cover = true;
                        }
                        Ok(())
                    }
                    Err(error) if *required => Err(error),
                    Err(_) => out_of_reach(rustix::mount::mount_bind_recursive(lower.as_c_str(), at.as_c_str())),
                }
            }
            Self::Tree { from, at } => out_of_reach(rustix::mount::mount_bind_recursive(from.as_c_str(), at.as_c_str())),
            Self::Create { at, cover, directory } => {
                // On a bind of the original, this would make it for everybody.
                let ours = cover.is_some_and(|cover| cover == OWN || covers.get(cover).copied().unwrap_or(false));
                match (ours, directory) {
                    (false, _) => Err(Errno::OPNOTSUPP),
                    (true, true) => rustix::fs::mkdirat(CWD, at, Mode::RWXU)
                        .and_then(|()| rustix::fs::chmodat(CWD, at, Mode::from_raw_mode(0o755), AtFlags::empty())),
                    (true, false) => make_file(at),
                }
            }
            Self::Bind { from, at } => {
                rustix::mount::mount_bind(from.as_c_str(), at.as_c_str())?;
                // A validator has no reason to change a certificate; where the flag is refused it still may not harm more
                // than the staged file, which is compared before it goes live.
                rustix::mount::mount_remount(at.as_c_str(), MountFlags::BIND | MountFlags::RDONLY, c"").ok();
                Ok(())
            }
            Self::Put { from, at } => rustix::mount::mount_bind(from.as_c_str(), at.as_c_str()),
            Self::Enter { root } => rustix::process::chroot(root.as_c_str()),
            Self::Change { directory } => rustix::process::chdir(directory.as_c_str()),
        }
    }
}

fn unshare(user_namespace: Option<&UserNamespace>) -> Result<(), Errno> {
    let flags = match user_namespace {
        None => UnshareFlags::NEWNS,
        Some(_) => UnshareFlags::NEWUSER | UnshareFlags::NEWNS,
    };
    // SAFETY: after fork this process has one thread; neither namespace invalidates a descriptor or a pointer.
    unsafe { rustix::thread::unshare_unsafe(flags) }?;
    let Some(maps) = user_namespace else { return Ok(()) };
    // An unprivileged process may map its group only after it has given up changing groups (user_namespaces(7)).
    write_to(c"/proc/self/setgroups", b"deny")?;
    write_to(c"/proc/self/uid_map", &maps.users)?;
    write_to(c"/proc/self/gid_map", &maps.groups)
}

fn overlay(at: &CStr, work: &CStr, options: &CStr, in_user_namespace: bool) -> Result<(), Errno> {
    rustix::fs::mkdirat(CWD, work, Mode::RWXU)?;
    // What a mount in a user namespace must not be without anyway.
    let flags = if in_user_namespace { MountFlags::NOSUID | MountFlags::NODEV } else { MountFlags::empty() };
    rustix::mount::mount(c"overlay", at, c"overlay", flags, Some(options))
}

fn make_directory(path: &CStr, mode: u32, owner: (u32, u32)) -> Result<(), Errno> {
    rustix::fs::mkdirat(CWD, path, Mode::RWXU)?;
    // In a user namespace there is nobody else to give it to.
    rustix::fs::chownat(CWD, path, Some(Uid::from_raw(owner.0)), Some(Gid::from_raw(owner.1)), AtFlags::empty()).ok();
    rustix::fs::chmodat(CWD, path, Mode::from_raw_mode(mode & 0o7777), AtFlags::empty())
}

fn make_file(path: &CStr) -> Result<(), Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR) {
        Ok(_) | Err(Errno::EXIST) => Ok(()),
        Err(error) => Err(error),
    }
}

fn write_to(path: &CStr, bytes: &[u8]) -> Result<(), Errno> {
    let file = rustix::fs::openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::write(file, bytes).map(drop)
}

/// What we cannot reach, the program cannot reach either: it needs not be shown.
fn out_of_reach(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::ACCESS | Errno::NOENT) => Ok(()),
        other => other,
    }
}

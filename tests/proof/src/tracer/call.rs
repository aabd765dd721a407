//! A system call that is about to happen.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;

use nix::libc::user_regs_struct;
use nix::unistd::Pid;
use syscalls::Sysno;

/// A call, before it happens.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Call {
    /// Which one.
    pub number: Sysno,
    /// Its arguments as they are in the registers.
    pub arguments: [u64; 6],
    /// The thread that makes it.
    pub thread: Pid,
    /// The process of that thread.
    pub process: Pid,
    /// The thread belongs to the program that was started, and not to a child of it.
    pub own: bool,
    /// It is made by another program, which a child has become.
    pub foreign: bool,
}

/// What a call is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Kind {
    /// Files, directories, descriptors, mounts.
    File,
    /// Processes: start, end, identity, signals to others.
    Process,
    /// The network.
    Socket,
    /// Memory, locks of threads, clocks, signal masks, and whatever else only the language's runtime asks for.
    Runtime,
}

impl Call {
    pub(super) fn new(registers: &user_regs_struct, thread: Pid, process: Pid, own: bool, foreign: bool) -> Self {
        // A number that the kernel does not know either counts as the most harmless call.
        let number = usize::try_from(registers.orig_rax).ok().and_then(Sysno::new).unwrap_or(Sysno::getpid);
        let arguments = [registers.rdi, registers.rsi, registers.rdx, registers.r10, registers.r8, registers.r9];
        Self { number, arguments, thread, process, own, foreign }
    }

    /// Its name in the kernel's table.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.number.name()
    }

    /// What it is about.
    #[must_use]
    pub fn kind(&self) -> Kind {
        use Sysno as S;
        match self.number {
            S::accept
            | S::accept4
            | S::bind
            | S::connect
            | S::getpeername
            | S::getsockname
            | S::getsockopt
            | S::listen
            | S::recvfrom
            | S::recvmmsg
            | S::recvmsg
            | S::sendmmsg
            | S::sendmsg
            | S::sendto
            | S::setsockopt
            | S::shutdown
            | S::socket
            | S::socketpair => Kind::Socket,
            S::capget
            | S::capset
            | S::clone
            | S::clone3
            | S::execve
            | S::execveat
            | S::exit_group
            | S::fork
            | S::getgroups
            | S::kill
            | S::pidfd_open
            | S::pidfd_send_signal
            | S::setgid
            | S::setgroups
            | S::setpgid
            | S::setresgid
            | S::setresuid
            | S::setsid
            | S::setuid
            | S::tgkill
            | S::unshare
            | S::vfork
            | S::wait4
            | S::waitid => Kind::Process,
            S::arch_prctl
            | S::brk
            | S::clock_gettime
            | S::clock_nanosleep
            | S::exit
            | S::futex
            | S::get_robust_list
            | S::getcpu
            | S::getegid
            | S::geteuid
            | S::getgid
            | S::getpid
            | S::getrandom
            | S::gettid
            | S::gettimeofday
            | S::getuid
            | S::madvise
            | S::membarrier
            | S::mmap
            | S::mprotect
            | S::mremap
            | S::munmap
            | S::nanosleep
            | S::prctl
            | S::prlimit64
            | S::restart_syscall
            | S::rseq
            | S::rt_sigaction
            | S::rt_sigpending
            | S::rt_sigprocmask
            | S::rt_sigreturn
            | S::rt_sigtimedwait
            | S::sched_getaffinity
            | S::sched_yield
            | S::set_robust_list
            | S::set_tid_address
            | S::sigaltstack
            | S::uname => Kind::Runtime,
            _ => Kind::File,
        }
    }

    /// The paths that it names and the files behind the descriptors that it is given, as far as they can be told.
    #[must_use]
    pub fn places(&self) -> Vec<PathBuf> {
        use Sysno as S;
        let [a, b, c, d, ..] = self.arguments;
        match self.number {
            S::openat
            | S::openat2
            | S::newfstatat
            | S::statx
            | S::unlinkat
            | S::mkdirat
            | S::readlinkat
            | S::fchmodat
            | S::fchmodat2
            | S::fchownat
            | S::faccessat
            | S::faccessat2
            | S::utimensat
            | S::mknodat => self.place(a, b),
            S::renameat | S::renameat2 | S::linkat => [self.place(a, b), self.place(c, d)].concat(),
            S::symlinkat => self.place(b, c),
            S::open
            | S::stat
            | S::lstat
            | S::unlink
            | S::mkdir
            | S::rmdir
            | S::chmod
            | S::chown
            | S::lchown
            | S::readlink
            | S::access
            | S::getxattr
            | S::lgetxattr
            | S::listxattr
            | S::llistxattr
            | S::setxattr
            | S::lsetxattr
            | S::removexattr
            | S::chdir
            | S::statfs
            | S::execve
            | S::umount2 => self.text(a).into_iter().collect(),
            S::mount => [a, b].into_iter().filter_map(|pointer| self.text(pointer)).collect(),
            S::rename | S::link | S::symlink => [a, b].into_iter().filter_map(|pointer| self.text(pointer)).collect(),
            _ if self.kind() == Kind::File => self.behind(a).into_iter().collect(),
            _ => Vec::new(),
        }
    }

    /// A name in an open directory.
    fn place(&self, directory: u64, name: u64) -> Vec<PathBuf> {
        let name = self.text(name).unwrap_or_default();
        if name.is_absolute() {
            return vec![name];
        }
        self.behind(directory).map(|directory| directory.join(name)).into_iter().collect()
    }

    fn behind(&self, descriptor: u64) -> Option<PathBuf> {
        let descriptor = i32::try_from(descriptor & 0xffff_ffff).ok()?;
        std::fs::read_link(format!("/proc/{}/fd/{descriptor}", self.process)).ok()
    }

    fn text(&self, pointer: u64) -> Option<PathBuf> {
        const LONGEST: usize = 4096;
        const PAGE: u64 = 4096;
        let memory = std::fs::File::open(format!("/proc/{}/mem", self.thread)).ok()?;
        let (mut bytes, mut at) = (Vec::new(), pointer);
        while bytes.len() < LONGEST {
            // Up to the end of the page: the next one need not exist.
            let mut part = vec![0; usize::try_from(PAGE - at % PAGE).ok()?];
            let read = memory.read_at(&mut part, at).ok().filter(|&read| read > 0)?;
            bytes.extend_from_slice(&part[..read]);
            if let Some(end) = bytes.iter().position(|&byte| byte == 0) {
                return Some(PathBuf::from(OsStr::from_bytes(&bytes[..end])));
            }
            at += u64::try_from(read).ok()?;
        }
        None
    }
}

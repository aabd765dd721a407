//! Making a call fail.

use nix::errno::Errno;
use nix::libc::user_regs_struct;
use nix::sys::ptrace;
use nix::unistd::Pid;
use syscalls::Sysno;

use super::{Call, Kind};

/// What goes wrong with a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// It is not carried out, and the system gives this error.
    Error(Errno),
    /// It is carried out for half of the bytes.
    Short,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(errno) => write!(formatter, "{errno:?}"),
            Self::Short => formatter.write_str("half of the bytes"),
        }
    }
}

/// What can go wrong with a call, after its manual page; nothing for those of the language's runtime, and for those that do
/// not return.
#[must_use]
pub fn faults_of(call: &Call) -> Vec<Fault> {
    use Errno as E;
    use Sysno as S;
    let errors: &[Errno] = match call.number {
        // On what has no file behind it, the system fails in no way that a file system or a network has.
        S::read | S::write | S::close if is_on_no_file(call) => &[],
        S::exit_group => &[],
        S::open | S::openat | S::openat2 => &[E::EIO, E::EACCES, E::EMFILE, E::ENOSPC, E::EROFS, E::EINTR],
        S::read | S::pread64 | S::readv => &[E::EIO, E::EINTR],
        S::write | S::pwrite64 | S::writev => &[E::EIO, E::ENOSPC, E::EINTR],
        S::fsync | S::fdatasync | S::sync_file_range => &[E::EIO, E::ENOSPC],
        S::rename | S::renameat | S::renameat2 | S::symlink | S::symlinkat => &[E::EIO, E::ENOSPC, E::EACCES, E::EROFS],
        S::link | S::linkat => &[E::EIO, E::ENOSPC, E::EPERM, E::EMLINK],
        S::mkdir | S::mkdirat => &[E::EIO, E::ENOSPC, E::EACCES, E::EROFS],
        S::unlink | S::unlinkat | S::rmdir => &[E::EIO, E::EACCES, E::EROFS],
        S::fchmod | S::fchmodat | S::fchmodat2 | S::fchown | S::fchownat | S::chown | S::chmod => &[E::EIO, E::EPERM, E::EROFS],
        S::ftruncate => &[E::EIO, E::ENOSPC],
        S::stat | S::fstat | S::lstat | S::statx | S::newfstatat | S::getdents64 | S::readlink | S::readlinkat => {
            &[E::EIO, E::EACCES]
        }
        S::setxattr | S::fsetxattr | S::lsetxattr | S::fremovexattr | S::removexattr => &[E::EIO, E::ENOSPC, E::ENOTSUP],
        S::close => &[E::EIO, E::EINTR],
        S::fcntl => &[E::EIO, E::ENOLCK],
        S::connect => &[E::ECONNREFUSED, E::ETIMEDOUT, E::EINTR],
        S::recvfrom | S::sendto | S::recvmsg | S::sendmsg => &[E::ECONNRESET, E::EINTR],
        S::socket
        | S::socketpair
        | S::pipe
        | S::pipe2
        | S::eventfd2
        | S::epoll_create1
        | S::dup
        | S::dup2
        | S::dup3
        | S::pidfd_open => &[E::EMFILE],
        S::poll | S::ppoll | S::epoll_wait | S::epoll_pwait | S::select | S::pselect6 => &[E::EINTR],
        S::clone | S::clone3 | S::fork | S::vfork => &[E::EAGAIN],
        S::execve => &[E::ENOENT, E::EACCES],
        S::wait4 | S::waitid => &[E::EINTR],
        S::kill | S::tgkill | S::pidfd_send_signal => &[E::EPERM],
        S::mount | S::unshare | S::umount2 | S::pivot_root | S::chroot | S::mount_setattr => &[E::EPERM, E::EACCES],
        _ => match call.kind() {
            Kind::File => &[E::EIO],
            Kind::Process => &[E::EPERM],
            Kind::Socket => &[E::EIO],
            Kind::Runtime => &[],
        },
    };
    let mut faults: Vec<Fault> = errors.iter().copied().map(Fault::Error).collect();
    if transfers(call.number) && call.arguments[2] > 1 && !is_on_no_file(call) {
        faults.push(Fault::Short);
    }
    faults
}

/// The call is carried out even if it fails: whatever `close` says, the descriptor is closed (close(2)).
pub(super) fn is_carried_out(call: &Call) -> bool {
    call.number == Sysno::close
}

/// On a pipe, an eventfd or the like.
fn is_on_no_file(call: &Call) -> bool {
    call.places().iter().any(|place| !place.is_absolute())
}

/// Its third argument is a number of bytes.
fn transfers(number: Sysno) -> bool {
    use Sysno as S;
    matches!(number, S::read | S::write | S::pread64 | S::pwrite64 | S::recvfrom | S::sendto)
}

/// At the entry of a call: it is carried out for half of the bytes.
pub(super) fn cut_short(pid: Pid, mut registers: user_regs_struct) {
    registers.rdx /= 2;
    let _gone = ptrace::setregs(pid, registers);
}

/// At the entry of a call: it is not carried out.
pub(super) fn suppress(pid: Pid, mut registers: user_regs_struct) {
    registers.orig_rax = u64::MAX;
    let _gone = ptrace::setregs(pid, registers);
}

//! The mounts of this process, and what a view does with each.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, StatxAttributes, StatxFlags};

/// How a mount is shown in a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Showing {
    /// Through an overlay.
    Overlay,
    /// A single file that was bound.
    File,
    /// As it is: a pseudo or network file system.
    Tree,
}

/// A mount that can be seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) path: PathBuf,
    pub(super) showing: Showing,
}

/// File systems that only the kernel or a remote machine can serve. A look at one that hangs would hang us: they are never
/// looked at, only bound.
const AS_THEY_ARE: &[&str] = &[
    "9p",
    "afs",
    "autofs",
    "binder",
    "binfmt_misc",
    "bpf",
    "ceph",
    "cgroup",
    "cgroup2",
    "cifs",
    "configfs",
    "debugfs",
    "devpts",
    "devtmpfs",
    "efivarfs",
    "functionfs",
    "fusectl",
    "hugetlbfs",
    "lustre",
    "mqueue",
    "nfs",
    "nfs4",
    "nfsd",
    "nsfs",
    "proc",
    "pstore",
    "ramfs",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smb3",
    "smbfs",
    "sysfs",
    "tracefs",
    "virtiofs",
];

/// Where container engines mount the files of their containers: often hundreds, and none that a server of this host reads.
const CONTAINERS: &[&str] = &[
    "/var/lib/docker",
    "/var/lib/containers",
    "/var/lib/containerd",
    "/var/lib/kubelet",
    "/run/docker",
    "/run/containerd",
    "/run/netns",
];

/// The mounts below `/` that can be seen, in the order in which they were made.
pub(super) fn visible(needed: &[PathBuf]) -> io::Result<Vec<Mount>> {
    let table = std::fs::read("/proc/self/mountinfo")?;
    let mut found: Vec<Mount> = Vec::new();
    for line in table.split(|byte| *byte == b'\n') {
        let Some((path, kind)) = parse(line) else { continue };
        let of_containers = CONTAINERS.iter().any(|place| path.starts_with(place));
        let wanted = path != Path::new("/") && (!of_containers || needed.iter().any(|needed| needed.starts_with(&path)));
        if !wanted || found.iter().any(|mount| mount.path == path) {
            continue;
        }
        let as_it_is = kind.starts_with("fuse") || AS_THEY_ARE.contains(&kind.as_str());
        let showing = if as_it_is { Some(Showing::Tree) } else { look(&path) };
        found.extend(showing.map(|showing| Mount { path, showing }));
    }
    Ok(found)
}

/// Mount point and file system of a line of `/proc/self/mountinfo`, proc_pid_mountinfo(5).
fn parse(line: &[u8]) -> Option<(PathBuf, String)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let path = fields.nth(4)?;
    let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
    Some((PathBuf::from(OsString::from_vec(unescape(path))), String::from_utf8_lossy(kind).into_owned()))
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| *first == b'\\' && digits.iter().all(|digit| (b'0'..=b'7').contains(digit)));
        if let Some(digits) = octal {
            bytes.push(digits.iter().fold(0_u8, |value, digit| value.wrapping_mul(8).wrapping_add(digit - b'0')));
            rest = &tail[3..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    bytes
}

/// What can be seen at a mount point; `None` if another mount hides it or we may not go there.
fn look(path: &Path) -> Option<Showing> {
    let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
    let status = rustix::fs::statx(CWD, path, flags, StatxFlags::TYPE).ok()?;
    if status.stx_attributes_mask.contains(StatxAttributes::MOUNT_ROOT)
        && !status.stx_attributes.contains(StatxAttributes::MOUNT_ROOT)
    {
        return None;
    }
    let directory = FileType::from_raw_mode(u32::from(status.stx_mode)) == FileType::Directory;
    Some(if directory { Showing::Overlay } else { Showing::File })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mountinfo_line_is_parsed_with_and_without_optional_fields_and_with_escapes() {
        let line = br"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 shared:2 - ext3 /dev/root rw,errors=continue";
        assert_eq!(parse(line), Some((PathBuf::from("/mnt 2"), "ext3".to_owned())));
        let line = b"22 27 0:21 / /proc rw,relatime - proc proc rw";
        assert_eq!(parse(line), Some((PathBuf::from("/proc"), "proc".to_owned())));
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"22 27 0:21 / /proc rw"), None);
    }
}

//! POSIX access ACLs as the kernel has them in `system.posix_acl_access`: acl(5) and `linux/posix_acl_xattr.h`.

/// The attribute that holds one.
pub(crate) const NAME: &str = "system.posix_acl_access";

const VERSION: u32 = 2;
const NOBODY: u32 = u32::MAX;

/// The permissions of one more user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Named {
    pub(crate) uid: u32,
    pub(crate) permissions: u16,
}

/// The ACL of a file whose group class has these bits as its mask.
pub(crate) fn encode(mode: u32, named: Named, group: u16) -> Vec<u8> {
    let class = |shift: u32| u16::try_from(mode >> shift & 7).expect("three bits");
    let entries: [(u16, u16, u32); 5] = [
        (0x01, class(6), NOBODY),
        (0x02, named.permissions, named.uid),
        (0x04, group, NOBODY),
        (0x10, class(3), NOBODY),
        (0x20, class(0), NOBODY),
    ];
    let mut bytes = VERSION.to_le_bytes().to_vec();
    for (tag, permissions, id) in entries {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(permissions.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    }
    bytes
}

/// The same ACL after a `chmod`: owner, mask and others follow the mode.
pub(crate) fn after_chmod(acl: &[u8], mode: u32) -> Vec<u8> {
    let mut bytes = acl.to_vec();
    for entry in bytes[4..].chunks_exact_mut(8) {
        let shift = match entry[0] {
            0x01 => 6,
            0x10 => 3,
            0x20 => 0,
            _ => continue,
        };
        entry[2] = u8::try_from(mode >> shift & 7).expect("three bits");
    }
    bytes
}

//! Who we are, and who a name stands for.

use std::io;

use nix::unistd::{Group, User};
use rustix::thread::CapabilitySet;

use super::super::Identity;

pub(super) fn identity() -> io::Result<Identity> {
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    let mut groups: Vec<u32> = rustix::process::getgroups()?.iter().map(|group| group.as_raw()).collect();
    if !groups.contains(&gid) {
        groups.push(gid);
    }
    let can_change_owner = rustix::thread::capabilities(None)?.effective.contains(CapabilitySet::CHOWN);
    Ok(Identity::new(uid, gid, groups, can_change_owner))
}

pub(super) fn user_id(name: &str) -> io::Result<Option<u32>> {
    match number(name) {
        Some(id) => Ok(Some(id)),
        None => Ok(User::from_name(name)?.map(|user| user.uid.as_raw())),
    }
}

pub(super) fn group_id(name: &str) -> io::Result<Option<u32>> {
    match number(name) {
        Some(id) => Ok(Some(id)),
        None => Ok(Group::from_name(name)?.map(|group| group.gid.as_raw())),
    }
}

/// A name of digits is a number. The highest one means "leave as it is" to `chown` and is nobody's.
fn number(name: &str) -> Option<u32> {
    let digits = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| name.parse().ok()).flatten().filter(|id| *id != u32::MAX)
}

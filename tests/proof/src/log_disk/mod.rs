//! A disk that remembers every write and every flush, under a real file system: what a power cut could have left at any
//! moment is built from that log, mounted, and looked at.
//!
//! It is a file in a FUSE file system of this process, under a loop device, under what `mkfs` made of it. All of its mounts
//! are in a private mount namespace, and its loop devices go with their last user: however the process ends, nothing stays.

mod disk;
mod file_system;
mod image;
mod machine;
mod neighbour;
mod recording;

pub use disk::Disk;
pub use file_system::{FileSystem, Mounted};
pub use image::Image;
pub use machine::{AnotherBoot, Machine};
pub use neighbour::Neighbour;
pub use recording::{Cut, Operation, Recording};

use deploy_e2e::system::needs_root;
use nix::sched::{CloneFlags, unshare};
use rustix::mount::{MountPropagationFlags, mount_change};

/// Gives the calling thread, and what it starts from now on, mounts of their own.
///
/// # Panics
///
/// Without the right to do so, and without FUSE or loop devices.
pub fn private_mounts() {
    needs_root("it makes and mounts file systems");
    for device in ["/dev/fuse", "/dev/loop-control"] {
        assert!(std::path::Path::new(device).exists(), "this test needs {device}");
    }
    unshare(CloneFlags::CLONE_NEWNS).expect("root can have mounts of its own");
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).expect("our own mounts");
}

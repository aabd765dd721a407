//! A machine whose power can be cut: a site with its files and state directory on a disk that remembers.

use std::path::{Path, PathBuf};

use deploy_e2e::system::Mount;
use tempfile::TempDir;

use super::{Disk, FileSystem, Image, Mounted, Neighbour, Recording, private_mounts};
use crate::Site;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// A site, of which the three files and the state directory are on a recorded disk; the server and the source are not.
#[derive(Debug)]
pub struct Machine {
    /// The site.
    pub site: Site,
    file_system: FileSystem,
    disk: Disk,
    mount_point: PathBuf,
    directory: TempDir,
}

impl Machine {
    /// With a new file system on its disk, on which `prepare` is done with the site; off when it returns.
    ///
    /// # Panics
    ///
    /// When it can't be set up.
    #[must_use]
    pub fn new(file_system: FileSystem, prepare: impl FnOnce(&Site)) -> Self {
        private_mounts();
        let directory = tempfile::Builder::new().prefix("certdeploy-disk-").tempdir().expect("a directory");
        let path = |name: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).expect("a new directory");
            path
        };
        let (fuse, mount_point) = (path("fuse"), path("mounted"));
        let disk = Disk::new(&fuse, file_system.size());
        file_system.make(&disk);
        let mounted = file_system.mount(&disk, &mount_point).expect("a new file system can be mounted");
        let site = Site::with_files_in(&mount_point);
        prepare(&site);
        drop(mounted);
        Self { site, file_system, disk, mount_point, directory }
    }

    /// What is on its disk now.
    #[must_use]
    pub fn image(&self) -> Image {
        self.disk.image()
    }

    /// Switches it on with this on its disk; dropping what is returned switches it off.
    ///
    /// # Errors
    ///
    /// The file system could not be mounted.
    pub fn switch_on(&self, image: Image) -> Result<Mounted, String> {
        self.disk.insert(image);
        self.file_system.mount(&self.disk, &self.mount_point)
    }

    /// Switches it on with this on its disk, does some work in company, and off. Its end is recorded as acknowledged.
    ///
    /// # Panics
    ///
    /// When the file system could not be mounted.
    #[must_use]
    pub fn record(&self, image: Image, work: impl FnOnce(&Site)) -> Recording {
        let mounted = self.switch_on(image).expect("it could be mounted");
        self.disk.record();
        // A commit after the last switch would leave nothing to mix or to lose.
        let [first, second, _] = self.site.files();
        let neighbour = Neighbour::in_directory(&self.mount_point.join("neighbour"), &[first, second]);
        work(&self.site);
        self.disk.acknowledge();
        drop(neighbour);
        drop(mounted);
        self.disk.stop()
    }

    /// As long as what is returned is there, this is another boot of the system: it says so, and a file system that is mounted
    /// meanwhile can have another device number than later.
    ///
    /// # Panics
    ///
    /// When it can't be made to.
    #[must_use]
    pub fn another_boot(&self) -> AnotherBoot {
        let path = |name: &str| self.directory.path().join(name);
        std::fs::write(path("boot_id"), "d1d1d1d1-0000-4000-8000-000000000000\n").expect("our own directory");
        std::fs::create_dir_all(path("device")).expect("our own directory");
        AnotherBoot {
            _id: Mount::bind(&path("boot_id"), Path::new(BOOT_ID), true),
            _device: Mount::tmpfs(&path("device"), "64k"),
        }
    }
}

/// Ends when it is dropped.
#[derive(Debug)]
pub struct AnotherBoot {
    _id: Mount,
    _device: Mount,
}

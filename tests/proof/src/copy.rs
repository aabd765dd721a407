//! A directory kept aside, and put back as it was: names, bytes, owners, modes, attributes, symbolic links.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// Some directories as they were.
#[derive(Debug)]
pub struct Copy {
    kept: TempDir,
    directories: Vec<PathBuf>,
}

impl Copy {
    /// Of these directories; one that does not exist is kept as absent.
    ///
    /// # Panics
    ///
    /// When something in them cannot be read.
    #[must_use]
    pub fn of(directories: &[PathBuf]) -> Self {
        let kept = tempfile::tempdir().expect("a directory");
        for (index, directory) in directories.iter().enumerate().filter(|(_, directory)| directory.exists()) {
            copy(directory, &kept.path().join(index.to_string()));
        }
        Self { kept, directories: directories.to_vec() }
    }

    /// Makes them again as they were. The directories themselves stay the same inodes where they were there.
    ///
    /// # Panics
    ///
    /// When that is not possible.
    pub fn put_back(&self) {
        for (index, directory) in self.directories.iter().enumerate() {
            let kept = self.kept.path().join(index.to_string());
            if !kept.exists() {
                remove(directory);
                continue;
            }
            std::fs::create_dir_all(directory).expect("a directory");
            entries(directory).iter().for_each(|path| remove(path));
            take_over(&kept, directory);
            for path in entries(&kept) {
                copy(&path, &directory.join(path.file_name().expect("an entry has a name")));
            }
        }
    }
}

fn copy(from: &Path, to: &Path) {
    let metadata = from.symlink_metadata().unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    if metadata.is_symlink() {
        symlink(from.read_link().expect("a link"), to).expect("a new link");
        return;
    }
    if metadata.is_dir() {
        std::fs::create_dir(to).expect("a new directory");
        for path in entries(from) {
            copy(&path, &to.join(path.file_name().expect("an entry has a name")));
        }
    } else {
        std::fs::copy(from, to).expect("a file that can be read");
    }
    take_over(from, to);
}

/// Owner, attributes and mode.
fn take_over(from: &Path, to: &Path) {
    let metadata = from.metadata().expect("it is there");
    chown(to, Some(metadata.uid()), Some(metadata.gid())).expect("our own file");
    for name in xattr::list(from).into_iter().flatten() {
        if let Ok(Some(value)) = xattr::get(from, &name) {
            xattr::set(to, &name, &value).expect("the same file system");
        }
    }
    std::fs::set_permissions(to, std::fs::Permissions::from_mode(metadata.mode())).expect("our own file");
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    directory.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn remove(path: &Path) {
    let is_directory = path.symlink_metadata().is_ok_and(|metadata| metadata.is_dir());
    let removed = if is_directory { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    assert!(removed.is_ok() || !path.exists(), "{} cannot be removed", path.display());
}

//! What a deployment costs, printed as tables. Nothing here fails because a machine is slow.

mod atomic;
mod calls;
mod many;
pub(crate) mod one;
mod program;
mod sequences;
mod table;

use std::path::{Path, PathBuf};

use clap::Args;

use crate::{Outcome, shell};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Fewer rounds: rougher numbers in a tenth of the time
    #[arg(long)]
    short: bool,
    /// Measure in this build; without it, the release build is made and used
    #[arg(long, hide = true)]
    here: bool,
}

pub(crate) fn run(options: &Options) -> Outcome {
    if !options.here {
        println!("Making the release build; this takes minutes the first time ...");
        let mut command = shell::cargo(&["run", "--quiet", "--release", "--package", "xtask", "--", "bench", "--here"]);
        if options.short {
            command.arg("--short");
        }
        return shell::run(&mut command);
    }
    let certdeploy = shell::build("certdeploy", "certdeploy", true)?;
    let divisor = if options.short { 10 } else { 1 };
    let places = places()?;
    for place in &places {
        sequences::run(place, divisor)?.print();
        many::run(place, divisor)?.print();
        atomic::run(place, divisor)?.print();
    }
    let Some(disk) = places.first() else { return Ok(()) };
    calls::run(disk, &certdeploy)?.print();
    program::run(disk, &certdeploy, divisor)?.print();
    Ok(())
}

/// A directory on one file system, removed at the end.
#[derive(Debug)]
struct Place {
    name: String,
    directory: tempfile::TempDir,
}

impl Place {
    fn new(parent: &Path) -> Outcome<Self> {
        let directory = tempfile::Builder::new().prefix("certdeploy-bench-").tempdir_in(parent);
        let directory = directory.map_err(|error| format!("can't make a directory in {}: {error}", parent.display()))?;
        Ok(Self { name: file_system(parent), directory })
    }

    /// An empty directory in it.
    fn sub(&self, name: &str) -> Outcome<PathBuf> {
        let path = self.directory.path().join(name);
        shell::create_directory(&path)?;
        Ok(path)
    }
}

/// The disk that the workspace is on, and memory.
fn places() -> Outcome<Vec<Place>> {
    let disk = shell::root().join("target/bench");
    shell::create_directory(&disk)?;
    let memory = Path::new("/dev/shm");
    let mut places = vec![Place::new(&disk)?];
    if memory.is_dir() {
        places.push(Place::new(memory)?);
    }
    Ok(places)
}

/// The kind of the file system that holds a directory.
fn file_system(directory: &Path) -> String {
    use nix::sys::statfs::{EXT4_SUPER_MAGIC, OVERLAYFS_SUPER_MAGIC, TMPFS_MAGIC, statfs};
    match statfs(directory).map(|status| status.filesystem_type()) {
        Ok(EXT4_SUPER_MAGIC) => "ext4".to_owned(),
        Ok(OVERLAYFS_SUPER_MAGIC) => "overlayfs".to_owned(),
        Ok(TMPFS_MAGIC) => "tmpfs".to_owned(),
        Ok(other) => format!("file system {:#x}", other.0),
        Err(error) => format!("unknown file system ({error})"),
    }
}

//! The files of a configuration: which they are, who may write them, what they say.

use std::ffi::OsStr;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use deploy_core::host::Host;
use nix::unistd::{getegid, geteuid};

/// A configuration file is no larger than this.
const LIMIT: u64 = 16 << 20;

/// The directory beside the main file whose files are read, too.
pub(super) const FRAGMENTS: &str = "certdeploy.d";

/// One file of a configuration.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) path: PathBuf,
    pub(super) text: String,
}

/// A reason not to trust a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Distrust {
    /// Anybody could have written it, and root would run what it says.
    Refused(String),
    /// Somebody else could have written it.
    Warned(String),
}

/// The `*.toml` files of `certdeploy.d` beside the main file, in the order of their names. Hidden ones are left out: editors
/// put their copies there. Says, too, whether the directory can be trusted.
pub(super) fn fragments(main: &Path, host: &dyn Host) -> io::Result<(Vec<PathBuf>, Option<Distrust>)> {
    let directory = main.with_file_name(FRAGMENTS);
    let handle = match host.open_directory(&directory) {
        Ok(handle) => handle,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok((Vec::new(), None)),
        Err(error) => return Err(error),
    };
    let mut names = host.list(&handle)?;
    names.retain(|name| !name.as_encoded_bytes().starts_with(b".") && Path::new(name).extension() == Some(OsStr::new("toml")));
    names.sort_unstable();
    let status = handle.status();
    let distrust = judge(status.mode, (status.uid, status.gid), us());
    Ok((names.into_iter().map(|name| directory.join(name)).collect(), distrust))
}

/// Reads one file, and says whether it can be trusted.
pub(super) fn read(path: &Path) -> io::Result<(Source, Option<Distrust>)> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(io::Error::from(io::ErrorKind::IsADirectory));
    }
    let mut text = String::new();
    file.take(LIMIT + 1).read_to_string(&mut text)?;
    if text.len() as u64 > LIMIT {
        return Err(io::Error::from(io::ErrorKind::FileTooLarge));
    }
    // `--config <(generate)` hands over a pipe, whose mode says nothing.
    let distrust = metadata.is_file().then(|| distrust(&metadata)).flatten();
    Ok((Source { path: path.to_owned(), text }, distrust))
}

fn distrust(metadata: &Metadata) -> Option<Distrust> {
    judge(metadata.mode(), (metadata.uid(), metadata.gid()), us())
}

fn us() -> (u32, u32) {
    (geteuid().as_raw(), getegid().as_raw())
}

/// By mode, owner and group of a file or directory, and user and group of the program. Configurations name commands, so that whoever writes
/// one runs them as us.
fn judge(mode: u32, owner: (u32, u32), us: (u32, u32)) -> Option<Distrust> {
    if mode & 0o002 != 0 {
        let message = format!("everybody can write to it (mode {:04o}): run `chmod o-w` on it", mode & 0o7777);
        return Some(if us.0 == 0 { Distrust::Refused(message) } else { Distrust::Warned(message) });
    }
    if owner.0 != 0 && owner.0 != us.0 {
        return Some(Distrust::Warned(format!("it belongs to another user (uid {}), who can have commands run", owner.0)));
    }
    (mode & 0o020 != 0 && owner.1 != 0 && owner.1 != us.1)
        .then(|| Distrust::Warned(format!("group {} can write to it, and so have commands run", owner.1)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_refuses_what_everybody_can_write() {
        assert!(matches!(judge(0o100_646, (0, 0), (0, 0)), Some(Distrust::Refused(_))));
        assert!(matches!(judge(0o100_646, (1000, 1000), (1000, 1000)), Some(Distrust::Warned(_))));
    }

    #[test]
    fn others_who_can_write_are_warned_about() {
        assert_eq!(judge(0o100_644, (0, 0), (0, 0)), None);
        assert_eq!(judge(0o100_660, (0, 0), (1000, 1000)), None);
        assert_eq!(judge(0o100_660, (1000, 1000), (1000, 1000)), None);
        assert!(matches!(judge(0o100_664, (0, 50), (0, 0)), Some(Distrust::Warned(_))));
        assert!(matches!(judge(0o100_644, (1000, 0), (0, 0)), Some(Distrust::Warned(_))));
    }
}

//! One line for each outcome, in two files of bounded size: what an operator reads back in, not what the engine goes by.

use std::ffi::OsStr;
use std::io;

use serde::Serialize;

use crate::host::{Directory, Host, LockAttempt};

const FILE: &str = "history.jsonl";
const OLDER: &str = "history.1.jsonl";
const LOCK: &str = "history.lock";

/// At this size the file becomes the older one: some thousand outcomes.
const FULL: u64 = 1 << 20;

/// Adds one line.
pub(crate) fn append(host: &dyn Host, directory: &Directory, line: &impl Serialize) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(line)?;
    bytes.push(b'\n');
    if is_full(host, directory)? {
        turn_over(host, directory)?;
    }
    host.append(directory, OsStr::new(FILE), &bytes, false)
}

/// Under a lock, and looking again, so that of several runs one does it, and none replaces the older lines by a few new ones.
fn turn_over(host: &dyn Host, directory: &Directory) -> io::Result<()> {
    let LockAttempt::Held(_lock) = host.try_lock(directory, OsStr::new(LOCK), b"turning the history over")? else {
        return Ok(());
    };
    if is_full(host, directory)? {
        host.rename((directory, OsStr::new(FILE)), (directory, OsStr::new(OLDER)))?;
    }
    Ok(())
}

fn is_full(host: &dyn Host, directory: &Directory) -> io::Result<bool> {
    let status = host.status(directory, OsStr::new(FILE))?;
    Ok(status.is_some_and(|status| status.size >= FULL))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests make and look at files")]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::Local;

    #[test]
    fn history_is_two_files_of_bounded_size_and_keeps_the_newest_lines() {
        let root = tempfile::tempdir().unwrap();
        let host = Local::new();
        let directory = host.open_directory(root.path()).unwrap();
        let line = |number: u64| format!("{number:>width$}", width = 16 << 10);
        let turns = 3 * FULL / (16 << 10);
        for number in 0..turns {
            append(&host, &directory, &line(number)).unwrap();
        }
        let size = |name: &str| fs::metadata(root.path().join(name)).unwrap().len();
        let one_more = FULL + (16 << 10) + 3;
        assert!(size(FILE) <= one_more && size(OLDER) <= one_more, "{} and {}", size(FILE), size(OLDER));
        let read = |name: &str| fs::read_to_string(root.path().join(name)).unwrap();
        let both = read(OLDER) + &read(FILE);
        let kept: Vec<u64> = both.lines().map(|line| line.trim_matches(&['"', ' '][..]).parse().unwrap()).collect();
        let newest: Vec<u64> = (turns - u64::try_from(kept.len()).unwrap()..turns).collect();
        assert_eq!(kept, newest, "no line is missing between the oldest and the newest");
        assert!(kept.len() > 64, "at least a whole file is kept");
    }

    #[test]
    fn history_that_somebody_else_turns_over_takes_the_line_all_the_same() {
        let root = tempfile::tempdir().unwrap();
        let host = Local::new();
        let directory = host.open_directory(root.path()).unwrap();
        fs::write(root.path().join(FILE), vec![b'\n'; usize::try_from(FULL).unwrap()]).unwrap();
        let held = host.try_lock(&directory, OsStr::new(LOCK), b"a test").unwrap();
        assert!(matches!(held, LockAttempt::Held(_)));
        append(&host, &directory, &"here").unwrap();
        assert!(fs::read_to_string(root.path().join(FILE)).unwrap().ends_with("\"here\"\n"));
        assert!(!root.path().join(OLDER).exists());
        drop(held);
        append(&host, &directory, &"there").unwrap();
        assert_eq!(fs::read_to_string(root.path().join(FILE)).unwrap(), "\"there\"\n");
    }
}

//! A command of an operator that does what it should until it is told otherwise.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::conformance::Fault;

/// A program that stands before another one, such as a reload command, and lets it run, fail, hang, or be left out.
#[derive(Debug)]
pub struct ScriptedCommand {
    program: PathBuf,
}

/// What a [`ScriptedCommand`] does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Fails the next time.
    FailOnce,
    /// Fails every time.
    Fail,
    /// Does not end the next time.
    HangOnce,
    /// Does not end.
    Hang,
    /// Succeeds and does nothing.
    Ignore,
    /// Runs the other command of [`ScriptedCommand::with_other`] the next time.
    OtherOnce,
}

impl Order {
    fn word(self) -> &'static str {
        match self {
            Self::FailOnce => "fail-once",
            Self::Fail => "fail",
            Self::HangOnce => "hang-once",
            Self::Hang => "hang",
            Self::Ignore => "ignore",
            Self::OtherOnce => "other-once",
        }
    }
}

impl ScriptedCommand {
    /// A program called `name` in a directory, before `command` (program and arguments; what it is called with is added).
    ///
    /// # Panics
    ///
    /// When it can't be written.
    #[must_use]
    pub fn new(directory: &Path, name: &str, command: &[String]) -> Self {
        Self::with_other(directory, name, command, &[])
    }

    /// The same, with another command for [`Order::OtherOnce`].
    ///
    /// # Panics
    ///
    /// When it can't be written.
    #[must_use]
    pub fn with_other(directory: &Path, name: &str, command: &[String], other: &[String]) -> Self {
        let scripted = Self { program: directory.join(name) };
        let [order, runs, files] = ["order", "runs", "files"].map(|ending| quoted(&scripted.beside(ending)));
        let line = |command: &[String]| command.iter().map(|word| quoted(Path::new(word)) + " ").collect::<String>();
        let (command, other) = (line(command), line(other));
        let text = format!(
            r#"#!/bin/sh
echo run >> {runs}
order=$(cat {order} 2>/dev/null)
case "$order" in *-once) rm -f {order} ;; esac
case "$order" in
    fail*) echo "told to fail" >&2; exit 1 ;;
    hang*) exec sleep 600 ;;
    ignore) exit 0 ;;
    other-once) exec {other}"$@" ;;
    accept*) [ "accept $(sh {files} | cksum)" = "$order" ] || {{ echo "told to accept other files" >&2; exit 1; }} ;;
esac
exec {command}"$@"
"#
        );
        fs::write(&scripted.program, text).unwrap_or_else(|error| panic!("{}: {error}", scripted.program.display()));
        fs::set_permissions(&scripted.program, Permissions::from_mode(0o755)).expect("a file that was just written");
        scripted
    }

    /// What stands in a configuration for it: the program, without arguments.
    #[must_use]
    pub fn command(&self) -> Vec<String> {
        vec![self.program.display().to_string()]
    }

    /// Does this from now on.
    ///
    /// # Panics
    ///
    /// When the order can't be written.
    pub fn order(&self, order: Order) {
        fs::write(self.beside("order"), order.word()).expect("the directory of the command is there");
    }

    /// As a reload command, breaks in the way of a fault of the conformance suite; says whether it can.
    ///
    /// # Panics
    ///
    /// When the order can't be written.
    pub fn break_reload(&self, fault: Fault) -> bool {
        let order = match fault {
            Fault::ReloadFails => Order::FailOnce,
            Fault::ReloadAlwaysFails => Order::Fail,
            Fault::ReloadHangs => Order::HangOnce,
            Fault::Ignored => Order::Ignore,
            Fault::ServesAnother => Order::OtherOnce,
            _ => return false,
        };
        self.order(order);
        true
    }

    /// From now on fails as long as one of these files is not as it is now, also where a private view shows it another one.
    ///
    /// What a checker writes in such a view is gone afterwards, so that it cannot be told to fail once.
    ///
    /// # Panics
    ///
    /// When the order can't be written.
    pub fn accept_only_as_now(&self, files: &[PathBuf]) {
        let list: String = files.iter().map(|file| format!("cat {} 2>/dev/null\n", quoted(file))).collect();
        fs::write(self.beside("files"), list).expect("the directory of the command is there");
        let now = format!("printf 'accept '; sh {} | cksum", quoted(&self.beside("files")));
        let now = std::process::Command::new("sh").args(["-c", &now]).output().expect("a shell");
        fs::write(self.beside("order"), now.stdout).expect("the directory of the command is there");
    }

    /// Does its work again.
    pub fn heal(&self) {
        drop(fs::remove_file(self.beside("order")));
    }

    /// How often it was run.
    #[must_use]
    pub fn runs(&self) -> usize {
        fs::read_to_string(self.beside("runs")).unwrap_or_default().lines().count()
    }

    fn beside(&self, ending: &str) -> PathBuf {
        self.program.with_extension(ending)
    }
}

/// For a shell: in single quotes.
fn quoted(path: &Path) -> String {
    format!("'{}'", path.display().to_string().replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn every_order_is_followed_and_once_means_once() {
        let directory = tempfile::tempdir().unwrap();
        let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
        let scripted =
            ScriptedCommand::with_other(directory.path(), "it's", &words(&["echo", "the work"]), &words(&["echo", "other"]));
        let run = || {
            let output = Command::new(&scripted.command()[0]).arg("done").output().unwrap();
            (output.status.success(), String::from_utf8(output.stdout).unwrap())
        };
        let works = || assert_eq!(run(), (true, "the work done\n".to_owned()));
        works();
        scripted.order(Order::FailOnce);
        assert!(!run().0);
        works();
        scripted.order(Order::Ignore);
        assert_eq!(run(), (true, String::new()));
        scripted.order(Order::OtherOnce);
        assert_eq!(run(), (true, "other done\n".to_owned()));
        works();
        scripted.order(Order::Fail);
        assert!(!run().0 && !run().0);
        scripted.heal();
        works();
        let file = directory.path().join("file");
        fs::write(&file, "old").unwrap();
        scripted.accept_only_as_now(&[file.clone(), directory.path().join("none")]);
        works();
        fs::write(&file, "new").unwrap();
        assert!(!run().0 && !run().0);
        fs::write(&file, "old").unwrap();
        works();
        assert_eq!(scripted.runs(), 13);
    }
}

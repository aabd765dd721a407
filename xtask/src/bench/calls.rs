//! System calls of one deployment, counted with strace: what touches the files' directory or the state directory.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Stdio};

use super::table::Table;
use super::{Place, program};
use crate::{Outcome, shell};

/// Calls that put something on the medium.
const SYNCS: &[&str] = &["fdatasync", "fsync", "sync_file_range", "syncfs"];

/// Calls that change a file system.
const CHANGES: &[&str] = &[
    "chmod",
    "chown",
    "copy_file_range",
    "fallocate",
    "fchmod",
    "fchmodat",
    "fchown",
    "fchownat",
    "fremovexattr",
    "fsetxattr",
    "ftruncate",
    "link",
    "linkat",
    "mkdir",
    "mkdirat",
    "pwrite64",
    "pwritev",
    "rename",
    "renameat",
    "renameat2",
    "rmdir",
    "setxattr",
    "symlink",
    "symlinkat",
    "unlink",
    "unlinkat",
    "utimensat",
    "write",
    "writev",
];

/// What strace saw in the directories that matter.
#[derive(Debug, Default, PartialEq, Eq)]
struct Calls {
    by_name: BTreeMap<String, usize>,
    /// fsync and fdatasync.
    syncs: usize,
    /// Groups of them with nothing renamed in between.
    rounds: usize,
    /// Calls that change something, fsync not counted.
    changes: usize,
}

impl Calls {
    fn total(&self) -> usize {
        self.by_name.values().sum()
    }

    fn most_frequent(&self) -> String {
        let mut names: Vec<_> = self.by_name.iter().collect();
        names.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
        names.iter().take(12).map(|(name, count)| format!("{name} {count}")).collect::<Vec<_>>().join(", ")
    }
}

pub(super) fn run(place: &Place, certdeploy: &Path) -> Outcome<Table> {
    let title =
        format!("{}: system calls that touch the destinations or the state directory (strace), close included", place.name);
    let mut table = Table::new(title, &["what", "calls", "goal", "fsync", "goal", "rounds", "goal", "changes", "most frequent"]);
    if shell::find_program("strace").is_none() {
        table.row(["strace is not installed: apt-get install -y --no-install-recommends strace".to_owned()]);
        return Ok(table);
    }
    for files in [1, 3, 100] {
        let (tree, state) = (place.sub(&format!("calls-{files}"))?, place.sub(&format!("calls-{files}-state"))?);
        let engine = |generation: usize| one(&tree, &state, files, generation);
        // The first one creates directories that later ones find.
        shell::output(&mut engine(0))?;
        shell::output(&mut engine(1))?;
        let changed = count(place, &engine(2), &[&tree, &state])?;
        let quiet = count(place, &engine(2), &[&tree, &state])?;
        add(&mut table, &format!("engine, {files} files changed"), &changed, (files == 3).then_some(100), files + 4, 2);
        add(&mut table, &format!("engine, {files} files, nothing to do"), &quiet, (files == 3).then_some(20), 0, 0);
    }
    let world = program::World::new(place, certdeploy, "calls-program")?;
    world.renew()?;
    world.deploy()?;
    world.renew()?;
    let (tree, state) = world.directories();
    let changed = count(place, &world.command(), &[tree, state])?;
    let quiet = count(place, &world.command(), &[tree, state])?;
    add(&mut table, "certdeploy deploy, 3 files changed", &changed, Some(100), 7, 2);
    add(&mut table, "certdeploy deploy, 3 files, nothing to do", &quiet, Some(20), 0, 0);
    Ok(table)
}

fn add(table: &mut Table, what: &str, calls: &Calls, most: Option<usize>, syncs: usize, rounds: usize) {
    let most = most.map_or_else(|| "-".to_owned(), |most| format!("<= {most}"));
    let numbers = [
        calls.total().to_string(),
        most,
        calls.syncs.to_string(),
        syncs.to_string(),
        calls.rounds.to_string(),
        rounds.to_string(),
    ];
    let rest = [calls.changes.to_string(), calls.most_frequent()];
    table.row(std::iter::once(what.to_owned()).chain(numbers).chain(rest));
}

/// Ourselves as a process that deploys once.
fn one(tree: &Path, state: &Path, files: usize, generation: usize) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap_or_else(|_| "xtask".into()));
    command.arg("bench-one").arg("--directory").arg(tree).arg("--state").arg(state);
    command.args(["--files", &files.to_string(), "--generation", &generation.to_string()]);
    command
}

fn count(place: &Place, command: &Command, roots: &[&Path]) -> Outcome<Calls> {
    let log = place.directory.path().join("strace.log");
    let mut strace = Command::new("strace");
    strace.args(["--follow-forks", "--decode-fds=path", "--quiet=all", "--string-limit=4096", "--trace=%file,%desc", "--output"]);
    strace.arg(&log).arg(command.get_program()).args(command.get_args()).stdin(Stdio::null());
    shell::output(&mut strace)?;
    let bytes = std::fs::read(&log).map_err(|error| format!("{}: {error}", log.display()))?;
    let roots: Vec<String> = roots.iter().map(|root| root.display().to_string()).collect();
    Ok(parse(&String::from_utf8_lossy(&bytes), &roots))
}

/// Counts the lines that start a call and name one of the directories, as a path or behind a descriptor.
fn parse(log: &str, roots: &[String]) -> Calls {
    let mut calls = Calls::default();
    let mut in_round = false;
    for line in log.lines() {
        // Each line starts with the number of the thread; a resumed call was counted when it began.
        let call = line.trim_start_matches(|character: char| character.is_ascii_digit()).trim_start();
        let Some((name, arguments)) = call.split_once('(') else { continue };
        // What a call returns does not count: `openat` on a root is counted by the path that it is given.
        let arguments = arguments.rsplit_once(" = ").map_or(arguments, |(arguments, _)| arguments);
        // Nor does the start of a program that gets a path as an argument.
        let touches = name != "execve" && !name.contains(' ') && !name.is_empty() && !is_content(name, arguments, roots);
        if !touches {
            continue;
        }
        *calls.by_name.entry(name.to_owned()).or_default() += 1;
        if SYNCS[..2].contains(&name) {
            calls.syncs += 1;
            calls.rounds += usize::from(!in_round);
            in_round = true;
        } else if name.starts_with("rename") {
            in_round = false;
        }
        calls.changes += usize::from(CHANGES.contains(&name) || (name == "openat" && arguments.contains("O_CREAT")));
    }
    calls
}

/// Whether a root stands nowhere but in the bytes that are read or written.
fn is_content(name: &str, arguments: &str, roots: &[String]) -> bool {
    let looked_at = match name {
        "read" | "write" | "pread64" | "pwrite64" | "readv" | "writev" => arguments.split(", ").next().unwrap_or_default(),
        _ => arguments,
    };
    !roots.iter().any(|root| {
        looked_at.match_indices(root.as_str()).any(|(at, _)| {
            // `/srv/tree` is not meant by `/srv/tree-state`.
            matches!(looked_at[at + root.len()..].chars().next(), Some('/' | '"' | '>' | ')'))
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_what_they_touch() {
        let log = "\
10 execve(\"/bin/x\", [\"x\", \"/srv/tree\"], 0x7ffd /* 9 vars */) = 0\n\
10 openat(AT_FDCWD</srv>, \"/srv/tree\", O_RDONLY|O_PATH) = 3</srv/tree>\n\
10 openat(3</srv/tree>, \"a.new\", O_WRONLY|O_CREAT|O_EXCL, 0600) = 4</srv/tree/a.new>\n\
10 write(4</srv/tree/a.new>, \"bytes\", 5) = 5\n\
11 fsync(4</srv/tree/a.new> <unfinished ...>\n\
12 fsync(5</srv/tree/b.new>) = 0\n\
11 <... fsync resumed>) = 0\n\
10 renameat(3</srv/tree>, \"a.new\", 3</srv/tree>, \"a\") = 0\n\
10 fsync(3</srv/tree>) = 0\n\
10 fsync(9</srv/tree-state/journal>) = 0\n\
10 write(1</dev/null>, \"/srv/tree/\", 10) = 10\n\
10 openat(AT_FDCWD</srv>, \"/etc/passwd\", O_RDONLY) = 5</etc/passwd>\n\
10 +++ exited with 0 +++\n";
        let calls = parse(log, &["/srv/tree".to_owned()]);
        assert_eq!((calls.total(), calls.syncs, calls.rounds, calls.changes), (7, 3, 2, 3), "{calls:?}");
    }
}

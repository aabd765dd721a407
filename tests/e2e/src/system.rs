//! What only root can set up, and what /proc says.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Ends the test with a clear message unless it runs as root.
///
/// # Panics
///
/// When it does not run as root.
#[track_caller]
pub fn needs_root(why: &str) {
    assert!(rustix::process::geteuid().is_root(), "this test needs root: {why}");
}

/// Runs a system tool to the end.
///
/// # Panics
///
/// With the line that installs `package` when the tool is missing, and with its own words when it fails.
#[track_caller]
pub fn tool(package: &str, command: &[&str]) {
    let output = Command::new(command[0]).args(&command[1..]).stdin(Stdio::null()).output();
    match output {
        Ok(output) if output.status.success() => {}
        Ok(output) => panic!("{}: {}", command.join(" "), String::from_utf8_lossy(&output.stderr)),
        Err(error) => panic!("{}: {error}; install it: apt-get install -y {package}", command[0]),
    }
}

/// A mount, undone when it is dropped.
#[derive(Debug)]
pub struct Mount(PathBuf);

impl Mount {
    /// A tmpfs of this size.
    ///
    /// # Panics
    ///
    /// When it can't be mounted.
    #[must_use]
    pub fn tmpfs(at: &Path, size: &str) -> Self {
        needs_root("it mounts a file system");
        let options = format!("size={size},mode=0755");
        tool("mount", &["mount", "-t", "tmpfs", "-o", &options, "certdeploy-test", text(at)]);
        Self(at.to_owned())
    }

    /// A directory or file at another place.
    ///
    /// # Panics
    ///
    /// When it can't be mounted.
    #[must_use]
    pub fn bind(from: &Path, at: &Path, read_only: bool) -> Self {
        needs_root("it mounts a file system");
        tool("mount", &["mount", "--bind", text(from), text(at)]);
        let mount = Self(at.to_owned());
        if read_only {
            tool("mount", &["mount", "-o", "remount,bind,ro", text(at)]);
        }
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("--lazy").arg(&self.0).status());
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of the tests is UTF-8")
}

/// The processes whose command line contains a text, zombies left out.
#[must_use]
pub fn processes_with(text: &str) -> Vec<u32> {
    let own = std::process::id();
    let entries = Path::new("/proc").read_dir().expect("/proc").flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| *pid != own && command_line(*pid).contains(text)).collect()
}

/// The arguments of a process, separated by spaces; empty if it is gone.
#[must_use]
pub fn command_line(pid: u32) -> String {
    proc_file(pid, "cmdline").replace('\0', " ")
}

/// A text file of a process; empty if it is gone.
#[must_use]
pub fn proc_file(pid: u32, name: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default()).into_owned()
}

/// The children of a process.
#[must_use]
pub fn children(pid: u32) -> Vec<u32> {
    let threads = Path::new(&format!("/proc/{pid}/task")).read_dir().into_iter().flatten().flatten();
    threads
        .flat_map(|thread| {
            let children = std::fs::read_to_string(thread.path().join("children")).unwrap_or_default();
            children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>()
        })
        .collect()
}

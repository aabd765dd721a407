//! A program that dies by a signal leaves no image of its memory.

use std::path::Path;
use std::process::{Command, Stdio};

use deploy_e2e::system::{command_line, processes_with};
use deploy_e2e::{array, until};
use deploy_proof::Site;
use deploy_testkit::Canary;
use rustix::process::Signal;

use super::{Search, kill};

/// Starts a command in a directory where it may leave a core file of any size.
fn start(command: &Command, directory: &Path) -> std::process::Child {
    let mut limited = Command::new("prlimit");
    limited.arg("--core=unlimited:unlimited").arg("--").arg(command.get_program()).args(command.get_args());
    limited.current_dir(directory).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    limited.spawn().unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    directory.read_dir().unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn s1_a_crash_leaves_no_core_file() {
    let (site, old) = Site::serving();
    let new = site.renew();
    let mut search = Search::new("secrets/cores", site, Canary::new(&old).and(&new));
    let directory = search.site.path("cwd");
    std::fs::create_dir(&directory).unwrap();
    // Where the system hands cores to a program, or puts them elsewhere, there are none here in any case.
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let here = !pattern.starts_with(['|', '/']);
    let mut other = Command::new("tail");
    other.args(["-f", "/dev/null"]);
    let mut other = start(&other, &directory);
    until("the other program runs", || command_line(other.id()).starts_with("tail"));
    signal(other.id(), Signal::QUIT);
    other.wait().unwrap();
    assert_eq!(!names(&directory).is_empty(), here, "another program leaves a core file here, or the test shows nothing");
    names(&directory).iter().for_each(|name| std::fs::remove_file(directory.join(name)).unwrap());
    search.tally.add("core files that another program left", u64::from(here));
    let hangs = search.script("hangs", "exec tail -f \"$0\"");
    let marker = format!("tail -f {hangs}");
    search.site.configure(&format!("validate = {}", array(&[&hangs])));
    for how in [Signal::QUIT, Signal::ABORT] {
        let mut program = start(&search.site.program.command(&["deploy"]), &directory);
        until("the checker runs", || !processes_with(&marker).is_empty());
        let limits = std::fs::read_to_string(format!("/proc/{}/limits", program.id())).unwrap();
        let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
        assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
        signal(program.id(), how);
        program.wait().unwrap();
        // Its child has inherited the limit.
        for child in processes_with(&marker) {
            signal(child, how);
            until("the child is gone", || !processes_with(&marker).contains(&child));
        }
        search.tally.add("runs searched", 1);
        search.tally.expect(names(&directory).is_empty(), || format!("{how:?} left {:?}", names(&directory)));
        search.found("cores", search.canary.in_tree(search.site.root()));
    }
    processes_with(&marker).into_iter().for_each(kill);
    search.tally.finish();
}

fn signal(process: u32, signal: Signal) {
    let process = rustix::process::Pid::from_raw(i32::try_from(process).unwrap()).unwrap();
    // It may have ended.
    rustix::process::kill_process(process, signal).ok();
}

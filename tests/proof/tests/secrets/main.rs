//! Proof: no secret is where it does not belong.
//!
//! Canary keys and passwords go through every command and every kind of failure of the real program. After each run its
//! output, every file that it left and their names are searched for every form of them; while it runs, the arguments,
//! environments and open files of it and its children are sampled from /proc in a tight loop.
//!
//! The short form takes each case once with an EC key, the failing commands also with an RSA key, and pauses for 100 µs
//! between two looks. The full one takes four kinds of keys, watches thirty times as many renewals, and pauses for 5 µs.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests end where they cannot go on, and write the files that an operator or an attacker would"
)]

mod cores;
mod debug;
mod exposure;
mod keys;
mod passwords;
mod seeds;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use deploy_e2e::system::processes_with;
use deploy_e2e::{Program, Run, Running, until};
use deploy_proof::leaks::leaks;
use deploy_proof::watch::Watch;
use deploy_proof::{Site, Tally};
use deploy_testkit::Canary;
use rustix::process::Signal;

/// Runs whose every trace is searched.
struct Search {
    site: Site,
    canary: Canary,
    tally: Tally,
}

impl Search {
    fn new(proof: &str, site: Site, canary: Canary) -> Self {
        let canary = canary.kept_in(site.path("source")).kept_in(site.tls().join("www.key"));
        let mut tally = Tally::new(proof);
        tally.add("secrets found", 0);
        tally.add("secrets searched for", canary.secrets());
        Self { site, canary, tally }
    }

    /// Runs the program to its end, which must be this one: otherwise the case was not the one that was meant.
    fn run(&mut self, name: &str, code: i32, arguments: &[&str]) -> Run {
        let program = self.site.program.clone();
        self.run_as(&program, name, code, arguments)
    }

    fn run_as(&mut self, program: &Program, name: &str, code: i32, arguments: &[&str]) -> Run {
        let run = self.watched(name, program.start(arguments), |_| {});
        assert_eq!(run.code, code, "{name}: {run:#?}");
        run
    }

    /// Starts a deployment, waits until a command with this text in its line runs, and sends a signal.
    fn signalled(&mut self, name: &str, marker: &str, signal: Signal) -> Run {
        let next = self.site.renew();
        self.canary = self.canary.clone().and(&next);
        let running = self.site.program.start(&["deploy", "--json"]);
        let run = self.watched(name, running, |running| {
            until("the command runs", || !processes_with(marker).is_empty());
            running.signal(signal);
        });
        // A killed run leaves its children.
        processes_with(marker).into_iter().for_each(kill);
        run
    }

    fn watched(&mut self, name: &str, running: Running, meanwhile: impl FnOnce(&Running)) -> Run {
        let watch = Watch::family(running.pid(), &self.canary);
        meanwhile(&running);
        let run = running.wait();
        let seen = watch.end();
        self.tally.add("runs searched", 1);
        self.tally.add("children seen", seen.children.len() as u64);
        self.tally.add("moments looked at", seen.moments);
        self.found(name, seen.found.into_iter().chain(leaks(&self.canary, &self.site, &run)).collect());
        run
    }

    fn found(&mut self, name: &str, what: Vec<String>) {
        self.tally.add("secrets found", what.len() as u64);
        what.into_iter().for_each(|what| self.tally.violation(format!("{name}: {what}")));
    }

    /// An operator's script.
    fn script(&self, name: &str, text: &str) -> String {
        let path = self.site.path(name);
        write(&path, &format!("#!/bin/sh\n{text}\n"), 0o755);
        path.to_str().unwrap().to_owned()
    }
}

fn kill(process: u32) {
    let process = i32::try_from(process).ok().and_then(rustix::process::Pid::from_raw);
    // It may have ended by itself.
    process.map(|process| rustix::process::kill_process(process, Signal::KILL).ok());
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn other_user() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_other-user"))
}

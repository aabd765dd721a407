//! What a user does who wants to see a key, or to have root do what he may not. Started by the proofs as that user.
//!
//! `other-user OVER peek DIRECTORY...` tries to read every file, and `other-user OVER attack KIND DIRECTORY VICTIMS HIDDEN`
//! swaps files, links and directories, both again and again until the file `OVER` exists. Then they say what came of it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "an attacker's program, which writes what it likes"
)]

mod attack;

use std::path::{Path, PathBuf};

use deploy_proof::observer::paths;
use deploy_proof::watch::breathe;

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut next = || arguments.next().expect("an argument");
    let (over, work) = (PathBuf::from(next()), next());
    match work.as_str() {
        "attack" => {
            let kind = next();
            let [directory, victims, hidden] = [(); 3].map(|()| PathBuf::from(next()));
            attack::attack(&over, &kind, &attack::Place { directory, victims, hidden });
        }
        "peek" => peek(&over, &arguments.map(PathBuf::from).collect::<Vec<_>>()),
        other => panic!("there is no work {other}"),
    }
}

fn peek(over: &Path, directories: &[PathBuf]) {
    let mut looks = 0;
    let mut read = std::collections::BTreeSet::new();
    while !over.exists() {
        for path in directories.iter().flat_map(|directory| paths(directory)) {
            let public = path.extension().is_some_and(|ending| ending == "crt");
            if !public && path.is_file() && std::fs::read(&path).is_ok() {
                read.insert(path);
            }
            looks += 1;
        }
        breathe();
    }
    println!("looks {looks}");
    read.iter().for_each(|path| println!("read {}", path.display()));
}

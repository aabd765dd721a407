//! The conformance suite for the push connector of the made-up vendor, whose stand-in keeps everything in memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test, with a world of its own")]

mod shelf;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use deploy_testkit::conformance::{self, Fault, Harness, NAME};
use deploy_testkit::shelf::ShelfWorld;
use deploy_testkit::tree::Tree;
use shelf::{Shelf, ShelfSettings};

fn main() -> ExitCode {
    conformance::run::<World>()
}

struct World(ShelfWorld);

impl Harness for World {
    type Connector = Shelf;
    const FAULTS: &'static [Fault] = ShelfWorld::FAULTS;
    const PERMISSION: &'static str = ShelfWorld::PERMISSION;

    fn start(directory: &Path) -> Result<Self, String> {
        ShelfWorld::start(directory).map(Self)
    }

    fn settings(&self) -> ShelfSettings {
        let settings = serde_json::json!({
            "url": self.0.shelf().url(),
            "listener": ShelfWorld::LISTENER,
            "token": format!("file:{}", self.0.token_file().display()),
            "ca_file": self.0.ca_file(),
            "verify": [{ "connect": self.0.address().to_string(), "server_name": NAME }],
            "verify_timeout": format!("{}s", ShelfWorld::VERIFY_TIMEOUT.as_secs()),
        });
        serde_json::from_value(settings).unwrap()
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        self.0.served()
    }

    fn state(&self) -> Tree {
        self.0.state()
    }

    fn foreign(&self) -> Tree {
        self.0.foreign()
    }

    fn break_with(&mut self, fault: Fault) {
        self.0.break_with(fault);
    }

    fn heal(&mut self) {
        self.0.heal();
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        self.0.secrets()
    }
}

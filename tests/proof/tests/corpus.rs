//! What the fuzzer has kept, replayed: every input in `tests/fuzz/corpus` gives a result or a typed error.
//!
//! Both forms replay all of it; `cargo xtask fuzz TARGET` looks for more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "tests read files")]

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use deploy_proof::Tally;
use deploy_proof::fuzzing::TARGETS;

#[test]
fn any_bytes_give_a_result_or_a_typed_error() {
    let mut tally = Tally::new("corpus/replay");
    for (name, target) in TARGETS {
        let inputs = inputs(name);
        tally.expect(!inputs.is_empty(), || format!("the corpus of {name} is empty"));
        for input in inputs {
            let bytes = std::fs::read(&input).expect("a file of the corpus");
            // The panic has said why by then.
            let held = catch_unwind(AssertUnwindSafe(|| target(&bytes))).is_ok();
            tally.expect(held, || format!("{} breaks a promise", input.display()));
            tally.add("inputs replayed", 1);
        }
    }
    tally.finish();
}

fn inputs(target: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let entries = directory.read_dir().unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.expect("it can be listed").path()).collect();
    inputs.sort();
    inputs
}

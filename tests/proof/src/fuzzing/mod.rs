//! The bodies of the fuzz targets: any bytes give a result or a typed error. Each panics when a promise is broken.
//!
//! `tests/fuzz` gives them to the fuzzer, and `tests/corpus.rs` replays what the fuzzer has kept.

use std::path::Path;

mod configuration;
mod pem;
mod scene;
mod template;

pub use configuration::configuration;
pub use pem::pem;
pub use scene::{journal, state};

/// The body of a target; it panics when a promise is broken.
pub type Body = fn(&[u8]);

/// Every target by its name, which is also that of its folder in `tests/fuzz/corpus`.
pub const TARGETS: [(&str, Body); 4] = [("configuration", configuration), ("journal", journal), ("pem", pem), ("state", state)];

/// An empty directory, in memory where the machine has such a place.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let parent = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() };
    tempfile::Builder::new().prefix("certdeploy-fuzz-").tempdir_in(parent).expect("a directory")
}

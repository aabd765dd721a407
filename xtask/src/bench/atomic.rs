//! One file: the engine's `atomic_write_file` beside the crate of the same name and the plain sequence.

use std::io::Write as _;
use std::path::Path;
use std::time::Instant;

use super::Place;
use super::one::content;
use super::table::{Table, median, milliseconds, ratio};
use crate::Outcome;

const ROUNDS: usize = 201;

pub(super) fn run(place: &Place, divisor: usize) -> Outcome<Table> {
    let directory = place.sub("atomic")?;
    let (mut theirs, mut ours) = (Vec::new(), Vec::new());
    for round in 0..(ROUNDS / divisor).max(5) {
        let bytes = content(0, round);
        let start = Instant::now();
        write_theirs(&directory.join("theirs.pem"), &bytes)?;
        theirs.push(start.elapsed());
        let start = Instant::now();
        write_ours(&directory.join("ours.pem"), &bytes)?;
        ours.push(start.elapsed());
    }
    let mut table = Table::new(format!("{}: one file", place.name), &["what", "median", "ratio"]);
    let theirs = median(theirs);
    table.row(["crate atomic-write-file".to_owned(), milliseconds(theirs), "1".to_owned()]);
    let ours = median(ours);
    table.row(["deploy_core::atomic_write_file".to_owned(), milliseconds(ours), ratio(ours, theirs)]);
    Ok(table)
}

fn write_theirs(path: &Path, bytes: &[u8]) -> Outcome {
    let written = atomic_write_file::AtomicWriteFile::open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.commit()
    });
    written.map_err(|error| format!("{}: {error}", path.display()))
}

fn write_ours(path: &Path, bytes: &[u8]) -> Outcome {
    let written = deploy_core::atomic_write_file(path, bytes, &deploy_core::WriteOptions::new());
    written.map(drop).map_err(|error| format!("{}: {error}", path.display()))
}

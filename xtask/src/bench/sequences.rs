//! Three ways to bring N files into one directory, interleaved: a floor, a predecessor-like sequence, the engine.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use super::Place;
use super::one::{Engine, content, file_name, plan};
use super::table::{Table, median, milliseconds, ratio};
use crate::Outcome;

/// Numbers of files, and how often each is measured.
const SIZES: [(usize, usize); 3] = [(1, 101), (3, 101), (100, 21)];

/// Backups that the predecessor-like sequence keeps.
const BACKUPS: usize = 3;

pub(super) fn run(place: &Place, divisor: usize) -> Outcome<Table> {
    let head = ["files", "rounds", "floor", "predecessor-like", "certdeploy", "to floor", "to predecessor-like"];
    let mut table = Table::new(format!("{}: medians, the same directory, interleaved", place.name), &head);
    for (files, rounds) in SIZES {
        let rounds = (rounds / divisor).max(5);
        let directory = place.sub(&format!("sequences-{files}"))?;
        let engine = Engine::new(&place.sub(&format!("sequences-{files}-state"))?)?;
        let name = format!("sequences-{files}");
        let (mut floors, mut predecessors, mut ours) = (Vec::new(), Vec::new(), Vec::new());
        // The first generations create the files and fill the caches and backups.
        for generation in 0..rounds + BACKUPS {
            let said = |error: std::io::Error| format!("{}: {error}", directory.display());
            let times = [
                timed(|| floor(&directory, files, generation).map_err(said))?,
                timed(|| predecessor(&directory, files, generation).map_err(said))?,
                timed(|| engine.deploy(plan(&name, &directory, "ours", files, generation)).map(drop))?,
            ];
            if generation >= BACKUPS {
                floors.push(times[0]);
                predecessors.push(times[1]);
                ours.push(times[2]);
            }
        }
        let [floor, predecessor, ours] = [floors, predecessors, ours].map(median);
        let times = [floor, predecessor, ours].map(milliseconds);
        let counts = [files.to_string(), rounds.to_string()];
        table.row(counts.into_iter().chain(times).chain([ratio(ours, floor), ratio(ours, predecessor)]));
    }
    Ok(table)
}

fn timed(work: impl FnOnce() -> Outcome) -> Outcome<Duration> {
    let start = Instant::now();
    work()?;
    Ok(start.elapsed())
}

/// The least that is durable: write and fsync each, rename all, one fsync of the directory.
fn floor(directory: &Path, files: usize, generation: usize) -> std::io::Result<()> {
    for number in 0..files {
        write_synced(&directory.join(format!("{}.new", file_name("floor", number))), &content(number, generation))?;
    }
    for number in 0..files {
        let name = file_name("floor", number);
        std::fs::rename(directory.join(format!("{name}.new")), directory.join(name))?;
    }
    File::open(directory)?.sync_all()
}

/// File by file: read, copy to a backup, write, fsync, rename. Neither journal nor fsync of the directory.
fn predecessor(directory: &Path, files: usize, generation: usize) -> std::io::Result<()> {
    for number in 0..files {
        let name = file_name("predecessor", number);
        let path = directory.join(&name);
        match std::fs::read(&path) {
            Ok(old) => private(&directory.join(format!("{name}.bak.{generation}")))?.write_all(&old)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let new = directory.join(format!("{name}.tmp"));
        write_synced(&new, &content(number, generation))?;
        std::fs::rename(new, path)?;
        if generation > BACKUPS {
            std::fs::remove_file(directory.join(format!("{name}.bak.{}", generation - BACKUPS)))?;
        }
    }
    Ok(())
}

fn write_synced(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = private(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn private(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sequences_bring_the_last_generation_and_keep_three_backups() {
        let directory = tempfile::tempdir().unwrap();
        for generation in 0..6 {
            floor(directory.path(), 2, generation).unwrap();
            predecessor(directory.path(), 2, generation).unwrap();
        }
        let mut names: Vec<String> =
            std::fs::read_dir(directory.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort_unstable();
        let backups = |number: usize| (3..6).map(move |generation| format!("predecessor-00{number}.pem.bak.{generation}"));
        let mut expected: Vec<String> =
            ["floor-000.pem", "floor-001.pem", "predecessor-000.pem", "predecessor-001.pem"].map(str::to_owned).into();
        expected.extend(backups(0).chain(backups(1)));
        expected.sort_unstable();
        assert_eq!(names, expected);
        for prefix in ["floor", "predecessor"] {
            assert_eq!(std::fs::read(directory.path().join(file_name(prefix, 1))).unwrap(), content(1, 5));
        }
    }
}

//! Many plans in one directory: does the last cost what the first did, and what do eight workers gain?

use std::path::Path;
use std::time::{Duration, Instant};

use super::Place;
use super::one::{Engine, plan};
use super::table::{Table, median, milliseconds, ratio};
use crate::Outcome;

const PLANS: usize = 300;
const EDGE: usize = 30;
const FILES: usize = 2;
const WORKERS: usize = 8;

pub(super) fn run(place: &Place, divisor: usize) -> Outcome<Table> {
    let title = format!("{}: many plans of {FILES} files in one directory", place.name);
    let mut table = Table::new(title, &["what", "per plan", "compared with", "per plan", "ratio"]);
    let (directory, state) = (place.sub("many")?, place.sub("many-state")?);
    let engine = Engine::new(&state)?;
    let plans = PLANS / divisor.min(3);
    let alone = deploy(&engine, &place.sub("alone")?, 0..1, 1..EDGE)?;
    let created = deploy(&engine, &directory, 0..plans, 0..1)?;
    let renewed = deploy(&engine, &directory, 0..plans, 1..2)?;
    let edges = |times: &[Duration]| {
        let first = times.iter().take(EDGE).copied().collect();
        let last = times.iter().rev().take(EDGE).copied().collect();
        (median(first), median(last))
    };
    for (name, times) in [("created", &created), ("renewed", &renewed)] {
        let (first, last) = edges(times);
        table.row([
            format!("last {EDGE} of {plans}, {name}"),
            milliseconds(last),
            format!("first {EDGE}"),
            milliseconds(first),
            ratio(last, first),
        ]);
    }
    let (alone, among) = (median(alone), median(renewed));
    table.row([
        format!("one of {plans}, renewed"),
        milliseconds(among),
        "alone in its directory".to_owned(),
        milliseconds(alone),
        ratio(among, alone),
    ]);

    let each = (plans / WORKERS).max(1);
    let serial = wall(1, each * WORKERS, &directory, &state, 2)?;
    let parallel = wall(WORKERS, each, &directory, &state, 3)?;
    let per_plan = |time: Duration| time.div_f64((each * WORKERS) as f64);
    let (serial, parallel) = (per_plan(serial), per_plan(parallel));
    table.row([
        format!("{WORKERS} workers"),
        milliseconds(parallel),
        "one worker".to_owned(),
        milliseconds(serial),
        ratio(parallel, serial),
    ]);
    Ok(table)
}

/// Each plan in each generation, one after the other.
fn deploy(
    engine: &Engine,
    directory: &Path,
    plans: std::ops::Range<usize>,
    generations: std::ops::Range<usize>,
) -> Outcome<Vec<Duration>> {
    let mut times = Vec::new();
    for generation in generations {
        for number in plans.clone() {
            let name = format!("{}-{number:03}", directory.file_name().unwrap_or_default().to_string_lossy());
            let plan = plan(&name, directory, &name, FILES, generation);
            let start = Instant::now();
            engine.deploy(plan)?;
            times.push(start.elapsed());
        }
    }
    Ok(times)
}

/// Wall time of so many workers that renew so many plans each.
fn wall(workers: usize, each: usize, directory: &Path, state: &Path, generation: usize) -> Outcome<Duration> {
    let start = Instant::now();
    std::thread::scope(|scope| {
        let work = |worker: usize| {
            let engine = Engine::new(state)?;
            deploy(&engine, directory, worker * each..(worker + 1) * each, generation..generation + 1)
        };
        let threads: Vec<_> = (0..workers).map(|worker| scope.spawn(move || work(worker))).collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| "a worker panicked".to_owned())?.map(drop))
    })?;
    Ok(start.elapsed())
}

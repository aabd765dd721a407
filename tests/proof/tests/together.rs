//! Two at once, and many: whoever reports success was live while it ran, nobody's files are mixed with another's, nobody waits
//! for ever. A random part of the processes is killed.
//!
//! The choices (which target, which process is killed, at which of its changes to the file system) come from fixed seeds; how
//! the processes interleave is the system's. The short form makes some hundred deployments, the full one ten thousand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a fixture that can't be set up ends the test, and tests start processes and make files"
)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use deploy_proof::crowd::readers::{self, Seen};
use deploy_proof::crowd::{Crowd, Ground, Layout, Size, work};
use deploy_proof::{Form, Tally};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "run by the other tests, in a process of its own"]
async fn inner() {
    let text = std::env::var("PROOF_WORK").expect("for the outer test to set");
    work(serde_json::from_str(&text).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn f9_f10_overlapping_targets_in_many_processes_never_lose_or_mix_anything() {
    let mut tally = Tally::new("together/overlap");
    overlap(Layout::Replace, Form::asked().pick(9, 315), &mut tally).await;
    tally.finish();
}

/// Rounds of deployments by processes that are killed; after each of them, everything is whole.
async fn overlap(layout: Layout, rounds: u32, tally: &mut Tally) {
    let mut crowd = Crowd::new(layout, true, 4).await;
    let reader = Reader::start(&crowd.ground, |ground, stop| readers::path_by_path(ground, Duration::from_millis(1), stop));
    let size = Size::new(32, 4, 4);
    for _ in 0..rounds {
        crowd.run(size, tally);
        crowd.check_at_rest(tally).await;
    }
    crowd.check_reports(tally);
    one_file_is_whole(&reader.stop(), tally);
}

#[tokio::test(flavor = "multi_thread")]
async fn locks_that_lock_nothing_are_found() {
    let mut found = Tally::new("together/fault");
    let mut crowd = Crowd::new(Layout::Replace, true, 9).await;
    crowd.lock_nothing = true;
    crowd.run(Size::new(24, 4, 3).with_spared(1), &mut found);
    crowd.check_reports(&mut found);
    let mut tally = Tally::new("together/seeded-faults");
    tally.add("seeded faults", 1);
    tally.add("seeded faults found", u64::from(found.number("violations") > 0));
    tally.expect(found.number("violations") > 0, || "runs without locks were not told from runs with locks".to_owned());
    tally.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn f14_reader_in_a_tight_loop_sees_whole_files_while_they_are_replaced() {
    let mut tally = Tally::new("together/readers-replace");
    let (path_by_path, through_one_directory) = watched(Layout::Replace, &mut tally).await;
    tally.add("mixed reads through one directory (replace)", through_one_directory.mixed_reads);
    for seen in [&path_by_path, &through_one_directory] {
        one_file_is_whole(seen, &mut tally);
    }
    tally.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn f15_reader_that_opens_the_generation_once_sees_an_old_pair_or_a_new_pair() {
    let mut tally = Tally::new("together/readers-generation");
    let (path_by_path, through_one_directory) = watched(Layout::Generation, &mut tally).await;
    tally.add("pairs read through one directory", through_one_directory.pairs);
    tally.add("mixed pairs through one directory", through_one_directory.mixed_reads);
    tally.expect(through_one_directory.mixed_reads == 0, || format!("{:?}", through_one_directory.mixtures));
    for seen in [&path_by_path, &through_one_directory] {
        one_file_is_whole(seen, &mut tally);
    }
    tally.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn f10_generations_of_one_target_in_many_processes_are_never_lost() {
    let mut tally = Tally::new("together/overlap-generation");
    overlap(Layout::Generation, Form::asked().pick(4, 100), &mut tally).await;
    tally.finish();
}

/// Two readers in tight loops, while processes deploy as fast as they can and are killed; nobody is reloaded.
async fn watched(layout: Layout, tally: &mut Tally) -> (Seen, Seen) {
    let mut crowd = Crowd::new(layout, false, 14).await;
    let path_by_path = Reader::start(&crowd.ground, |ground, stop| readers::path_by_path(ground, Duration::ZERO, stop));
    let through_one_directory = Reader::start(&crowd.ground, readers::through_one_directory);
    let size = Size::new(Form::asked().pick(240, 5000), 2, 20);
    crowd.run(size, tally);
    let (path_by_path, through_one_directory) = (path_by_path.stop(), through_one_directory.stop());
    crowd.check_at_rest(tally).await;
    crowd.check_reports(tally);
    let name = layout.name();
    let mixtures = u64::try_from(path_by_path.mixtures.len()).unwrap();
    tally.add(&format!("mixed pairs path by path per 1000 deployments ({name})"), mixtures * 1000 / tally.number("deployments"));
    tally.add(&format!("mixed reads path by path ({name})"), path_by_path.mixed_reads);
    (path_by_path, through_one_directory)
}

/// F14: one file is the old one or the new one, at any instant.
fn one_file_is_whole(seen: &Seen, tally: &mut Tally) {
    tally.add("pairs read", seen.pairs);
    tally.expect(seen.pairs > 0, || "the reader read nothing".to_owned());
    tally.expect(seen.torn == 0, || format!("{} files were torn", seen.torn));
    tally.expect(seen.missing == 0, || format!("{} times a file was missing", seen.missing));
}

/// A thread that reads until it is stopped.
struct Reader {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Seen>,
}

impl Reader {
    fn start(ground: &Ground, read: impl Fn(&Ground, &AtomicBool) -> Seen + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let thread = std::thread::spawn({
            let (ground, stop) = (ground.clone(), Arc::clone(&stop));
            move || read(&ground, &stop)
        });
        Self { stop, thread }
    }

    fn stop(self) -> Seen {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.join().expect("a reader that ends well")
    }
}

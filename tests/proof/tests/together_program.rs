//! The real program, several times at once: one target in two processes and another one with the same files under another path,
//! each with a certificate of its own; killed at any moment; waiting; and what a killed holder leaves running.
//!
//! Fixed seeds choose who is killed and after how long. The short form has a dozen rounds, the full one five hundred.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a fixture that can't be set up ends the test, and tests start processes and make files"
)]

use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use deploy_e2e::{Program, Run, Running, array, until};
use deploy_proof::{Form, Site, Tally, observer};
use deploy_testkit::{Issued, write_pair};
use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

/// A site with a second target, `back`: the same files through a symbolic link, another source, the same state directory.
struct Two {
    site: Site,
    back: Program,
}

impl Two {
    fn new() -> (Self, Issued) {
        let (site, issued) = Site::serving();
        symlink("tls", site.path("alias")).unwrap();
        std::fs::create_dir(site.path("other")).unwrap();
        let text = std::fs::read_to_string(&site.program.config).unwrap();
        let text = text.replace("/tls/", "/alias/").replace("/source/", "/other/").replace("\"front\"", "\"back\"");
        let back = Program::new(site.path("back.toml"), site.path("state"));
        std::fs::write(&back.config, text).unwrap();
        (Self { site, back }, issued)
    }

    /// The certificates of the two sources.
    fn renew(&self) -> [Issued; 2] {
        let other = self.site.issue();
        write_pair(&self.site.path("other"), &other);
        [self.site.renew(), other]
    }

    /// The certificate whose files are there, each with all that belongs to it, and served.
    fn live<'a>(&self, candidates: &[&'a Issued]) -> Option<&'a Issued> {
        let bytes = self.site.live().map(|file| file.map(|file| file.bytes).unwrap_or_default());
        let live = candidates.iter().copied().find(|issued| Site::contents(issued) == bytes)?;
        (self.site.served().as_ref() == Some(&live.fingerprint)).then_some(live)
    }
}

#[test]
fn f10_programs_at_once_leave_the_whole_of_one_certificate_whoever_is_killed() {
    let mut tally = Tally::new("together/program");
    let (two, mut before) = Two::new();
    let mut random = Rng::with_seed(10);
    for round in 0..Form::asked().pick(12, 500) {
        let [front, back] = two.renew();
        let deploy = ["deploy", "--json"];
        let start = Instant::now();
        let mut running: Vec<Running> =
            vec![two.site.program.start(&deploy), two.back.start(&deploy), two.site.program.start(&deploy)];
        if random.u8(0..4) > 0 {
            let victim = running.swap_remove(random.usize(0..running.len()));
            // When it is killed is the choice; nothing is waited for.
            std::thread::sleep(Duration::from_micros(random.u64(0..150_000)).saturating_sub(start.elapsed()));
            tally.add("kills", u64::from(kill(victim)));
        }
        let runs: Vec<Run> = running.into_iter().map(Running::wait).collect();
        tally.add("processes", 3);
        tally.add("deployments", 3);
        for run in &runs {
            tally.expect(run.code == 0, || format!("round {round}: {run:#?}"));
        }
        let recovered = two.site.run(&["recover", "--json"]);
        tally.expect(recovered.code == 0, || format!("round {round}: {recovered:#?}"));
        let live = two.live(&[&front, &back]);
        tally.expect(live.is_some(), || format!("round {round}: after {runs:#?}, still {:?}", two.live(&[&before]).is_some()));
        for (program, wanted) in [(&two.site.program, &front), (&two.back, &back)] {
            let run = program.run(&deploy);
            tally.expect(run.code == 0 && two.live(&[wanted]).is_some(), || format!("round {round}, next run: {run:#?}"));
        }
        let litter = observer::litter(two.site.root());
        tally.expect(litter.is_empty(), || format!("round {round}, left behind: {litter:?}"));
        before = back;
    }
    tally.finish();
}

/// Kills it, if it still runs; says whether that ended it.
fn kill(running: Running) -> bool {
    running.signal(Signal::KILL);
    running.wait().signal == Some(9)
}

/// What an operator's reload might do: it starts something that lives on, and takes its time.
const RELOAD: &str = "#!/bin/sh
setsid sleep 600 </dev/null >/dev/null 2>&1 &
echo $! >> DAEMONS
while [ ! -e GO ]; do sleep 0.02; done
kill -HUP $(cat PID)
";

#[test]
fn f9_f40_waiters_end_at_their_own_deadlines_and_the_daemon_of_a_killed_holder_keeps_no_lock() {
    let mut tally = Tally::new("together/waiting");
    let (site, _) = Site::serving();
    let path = |name: &str| site.path(name).to_str().unwrap().to_owned();
    let script = RELOAD.replace("DAEMONS", &path("daemons")).replace("GO", &path("go")).replace("PID", &path("pid"));
    std::fs::write(site.path("reload"), script).unwrap();
    std::fs::set_permissions(site.path("reload"), std::fs::Permissions::from_mode(0o755)).unwrap();
    site.configure(&format!("reload = {}\n", array(&[path("reload")])));
    let new = site.renew();
    let holder = site.program.start(&["deploy", "--json"]);
    until("the holder is in its reload", || !daemons(&site).is_empty());
    let waiters = [300, 600, 900, 1200].map(|limit: u64| {
        let started = Instant::now();
        (limit, started, site.program.start(&["deploy", "--json", "--timeout", &format!("{limit}ms")]))
    });
    for (limit, started, waiter) in waiters {
        let run = waiter.wait();
        let late = started.elapsed().checked_sub(Duration::from_millis(limit));
        tally.add("waiters", 1);
        tally.expect(late.is_some_and(|late| late < Duration::from_secs(3)), || format!("{limit} ms: {:?}", started.elapsed()));
        let message = run.only()["error"]["message"].as_str().unwrap_or_default();
        let named = message.contains(&format!("process {}", holder.pid()));
        tally.expect(run.code == 7 && run.only()["outcome"] == "locked" && named, || format!("{limit} ms: {run:#?}"));
    }
    holder.kill();
    tally.add("kills", 1);
    std::fs::write(site.path("go"), "").unwrap();
    let run = site.run(&["deploy", "--json", "--timeout", "20s"]);
    let daemons = daemons(&site);
    tally.expect(daemons.iter().all(|daemon| test_kill_process(*daemon).is_ok()), || "a daemon has ended".to_owned());
    tally.expect(run.code == 0 && site.served() == Some(new.fingerprint), || format!("the lock was kept: {run:#?}"));
    tally.add("daemons of killed holders", u64::try_from(daemons.len()).unwrap());
    daemons.into_iter().for_each(|daemon| kill_process(daemon, Signal::KILL).unwrap());
    tally.finish();
}

fn daemons(site: &Site) -> Vec<Pid> {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    read(&site.path("daemons")).lines().filter_map(|line| Pid::from_raw(line.trim().parse().ok()?)).collect()
}

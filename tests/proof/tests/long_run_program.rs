//! Many renewals of one target by the real program, most of which go wrong in some way: what is live and served is always the
//! last success, and nothing piles up.
//!
//! What goes wrong comes from a fixed seed. The short form makes 20 renewals, the full one 1000; what the engine's own process
//! keeps is counted in `long_run`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a fixture that can't be set up ends the test, and tests start processes and make files"
)]

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use deploy_e2e::array;
use deploy_proof::footprint::Footprint;
use deploy_proof::{Form, Site, Tally, observer};
use deploy_testkit::Issued;
use fastrand::Rng;
use rustix::process::Signal;

/// What goes wrong in a renewal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    BadMaterial,
    Killed(Duration),
    Nothing,
    ReloadFails,
    ReloadLies,
    ValidatorFails,
}

impl Wrong {
    fn any(random: &mut Rng) -> Self {
        match random.u8(0..10) {
            0 => Self::BadMaterial,
            1 | 2 => Self::Killed(Duration::from_micros(random.u64(0..80_000))),
            3 => Self::ReloadFails,
            4 => Self::ReloadLies,
            5 => Self::ValidatorFails,
            _ => Self::Nothing,
        }
    }

    /// Exit code and outcome.
    fn end(self) -> (i32, &'static str) {
        match self {
            Self::BadMaterial | Self::ValidatorFails => (3, "rejected"),
            Self::ReloadFails | Self::ReloadLies => (4, "rolled_back"),
            Self::Nothing | Self::Killed(_) => (0, "changed"),
        }
    }
}

/// An operator's reload, which fails or does nothing when a file says so, once.
const RELOAD: &str = "#!/bin/sh
if [ -e WRONG ]; then
    code=$(cat WRONG)
    rm WRONG
    exit $code
fi
kill -HUP $(cat PID)
";

#[test]
fn f11_f38_renewals_by_the_program_with_failures_leave_no_trace_but_the_last_success() {
    let mut tally = Tally::new("long-run/program");
    let mut run = LongRun::new();
    let mut random = Rng::with_seed(88);
    for _ in 0..Form::asked().pick(20, 1000) {
        run.renew(Wrong::any(&mut random), &mut tally);
    }
    for wrong in [Wrong::Nothing, Wrong::BadMaterial, Wrong::ValidatorFails, Wrong::ReloadFails, Wrong::ReloadLies] {
        run.renew(wrong, &mut tally);
    }
    run.check_bounds(&mut tally);
    tally.finish();
}

struct LongRun {
    site: Site,
    /// Which certificates may be live: one, but after a kill.
    live: Vec<Issued>,
    footprints: Vec<Footprint>,
}

impl LongRun {
    fn new() -> Self {
        let (site, issued) = Site::serving();
        let path = |name: &str| site.path(name).to_str().unwrap().to_owned();
        std::fs::write(site.path("reload"), RELOAD.replace("WRONG", &path("wrong")).replace("PID", &path("pid"))).unwrap();
        std::fs::set_permissions(site.path("reload"), std::fs::Permissions::from_mode(0o755)).unwrap();
        Self { site, live: vec![issued], footprints: Vec::new() }
    }

    fn renew(&mut self, wrong: Wrong, tally: &mut Tally) {
        tally.add("renewals survived", 1);
        tally.add("failures injected", u64::from(wrong != Wrong::Nothing));
        let new = self.prepare(wrong);
        let running = self.site.program.start(&["deploy", "--json"]);
        if let Wrong::Killed(after) = wrong {
            // When it is killed is the choice; nothing is waited for.
            std::thread::sleep(after);
            running.signal(Signal::KILL);
        }
        let run = running.wait();
        if run.signal == Some(9) {
            tally.add("kills", 1);
            self.live.push(new);
            return;
        }
        let ended = (run.code, run.only()["outcome"].as_str().unwrap_or_default());
        tally.expect(ended == wrong.end(), || format!("{wrong:?}: {run:#?}"));
        if run.code == 0 {
            self.live = vec![new];
        }
        self.check_live(wrong, tally);
        self.footprints.push(Footprint::take(&self.site.tls(), &self.site.path("state")));
    }

    /// Source, checker, reload and patience for it.
    fn prepare(&self, wrong: Wrong) -> Issued {
        let (new, other) = (self.site.issue(), self.site.issue());
        let put = if wrong == Wrong::BadMaterial { new.with_key_of(&other) } else { new.clone() };
        self.site.put(&put);
        let checker = if wrong == Wrong::ValidatorFails { "false" } else { "true" };
        let reload = self.site.path("reload").to_str().unwrap().to_owned();
        let patience = if wrong == Wrong::ReloadLies { "1s" } else { "10s" };
        self.site.configure(&format!(
            "validate = {}\nreload = {}\nverify_timeout = \"{patience}\"\n",
            array(&[checker]),
            array(&[reload])
        ));
        let code = match wrong {
            Wrong::ReloadFails => "1",
            Wrong::ReloadLies => "0",
            _ => return new,
        };
        std::fs::write(self.site.path("wrong"), code).unwrap();
        new
    }

    fn check_live(&mut self, wrong: Wrong, tally: &mut Tally) {
        let bytes = self.site.live().map(|file| file.map(|file| file.bytes).unwrap_or_default());
        let live = self.live.iter().find(|issued| Site::contents(issued) == bytes).cloned();
        let served = self.site.served();
        let is_served = live.as_ref().is_some_and(|live| served.as_ref() == Some(&live.fingerprint));
        tally.expect(is_served, || format!("after {wrong:?}: {:?} is on disk, {served:?} is served", live.is_some()));
        self.live = live.into_iter().collect();
        // What a killed run staged goes when the next one stages; bad material ends a run before that.
        let litter = if wrong == Wrong::BadMaterial { Vec::new() } else { observer::litter(self.site.root()) };
        tally.expect(litter.is_empty(), || format!("after {wrong:?}: {litter:?}"));
    }

    fn check_bounds(&self, tally: &mut Tally) {
        // Two files of three earlier deployments (the chain stays), an owner, and what a killed run staged and linked.
        let limits = [16, 64 << 10, 10, 64 << 10, 5, 0, (2 << 20) + (64 << 10)];
        for (what, (name, _)) in Footprint::default().numbers().into_iter().enumerate().take(limits.len()) {
            let most = self.footprints.iter().map(|footprint| footprint.numbers()[what].1).max().unwrap_or_default();
            tally.add(&format!("most {name}"), most);
            tally.expect(most <= limits[what], || format!("{most} {name}, more than {}", limits[what]));
        }
    }
}

//! The program is killed before each of its system calls; then it is run again.
//!
//! Each scenario is run once to count its calls, then once for each call from the first that touches the destinations or the
//! state directory to the end, with SIGKILL to the program and its children before that call. What a checker or a reload
//! command does after it has become another program is not counted.
//!
//! The short form takes every call of a first deployment and of a renewal, every third of a way back and of generations, every
//! fifth of a recovery, fewer of those of the language's runtime, and of the calls before the first one every sixteenth. The
//! full form leaves nothing out.
//!
//! After the kill, and again after the next run, an observer looks that shares no code with the engine.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests end where they cannot go on")]

use std::path::Path;
use std::process::Command;

use deploy_proof::observer::exposed;
use deploy_proof::tracer::{Call, Decision, Ended, Kind, trace};
use deploy_proof::{Form, Scene, Site, Tally};

const STUB: &str = env!("CARGO_BIN_EXE_traced");

/// A reload that fails, so that everything goes back.
const FAILS: &str = r#"reload = ["false"]"#;

#[test]
fn f28_killed_at_every_call_of_a_first_deployment() {
    Killing::of(Scene::first_deployment(Site::new())).prove("crash/first deployment");
}

#[test]
fn f28_killed_at_every_call_of_a_renewal() {
    Killing::of(Scene::renewal(Site::new())).prove("crash/renewal");
}

#[test]
fn f28_killed_at_every_call_of_a_way_back() {
    Killing::of(Scene::renewal(Site::new()).with_settings(FAILS)).sampled(3, 16).prove("crash/way back");
}

#[test]
fn f15_f28_killed_at_every_call_of_a_first_deployment_in_generations() {
    let killing = Killing::of(Scene::first_deployment(Site::with_generations())).sampled(3, 8);
    killing.prove("crash/first deployment in generations");
}

#[test]
fn f15_f28_killed_at_every_call_of_a_renewal_in_generations() {
    Killing::of(Scene::renewal(Site::with_generations())).sampled(3, 8).prove("crash/renewal in generations");
}

#[test]
fn f28_killed_in_the_recovery_of_half_a_switch() {
    Killing::of(Scene::renewal(Site::new())).after_a_kill_before(Rename(2)).prove("crash/recovery of half a switch");
}

#[test]
fn f28_killed_in_the_recovery_of_a_switch_without_reload() {
    Killing::of(Scene::renewal(Site::new())).after_a_kill_before(Reload).prove("crash/recovery before the reload");
}

#[test]
fn f28_killed_in_the_recovery_of_half_a_way_back() {
    // Three switches, then the second of three restorations.
    let killing = Killing::of(Scene::renewal(Site::new()).with_settings(FAILS)).after_a_kill_before(Rename(5));
    killing.prove("crash/recovery of half a way back");
}

#[test]
fn f28_killed_by_strace_at_every_call_that_changes_a_name() {
    let mut killing = Killing::of(Scene::renewal(Site::new()));
    let mut tally = Tally::new("crash/strace");
    for name in ["fsync", "linkat", "openat", "renameat", "unlinkat", "write"] {
        (1..).take_while(|&when| killing.kill_with_strace(name, when, &mut tally)).for_each(drop);
    }
    tally.expect(tally.number("crash points tried") > 40, || "strace killed nothing".to_owned());
    tally.finish();
}

#[test]
fn the_stepper_catches_a_plain_copy() {
    let site = Site::new();
    let [from, to] = ["new", "live"].map(|name| site.path(name));
    std::fs::write(&from, "new\n".repeat(100_000)).unwrap();
    let mut torn = 0;
    for point in 0.. {
        std::fs::write(&to, "old\n").unwrap();
        let mut calls = 0;
        let ended = trace(Command::new(STUB).arg("cp").args([&from, &to]), |_| {
            calls += 1;
            if calls > point { Decision::Kill } else { Decision::Go }
        });
        let live = std::fs::read(&to).unwrap();
        torn += usize::from(live != b"old\n" && live.len() != 400_000);
        if ended == Ended::Exited(0) {
            break;
        }
    }
    assert!(torn > 0, "a copy that is killed leaves a torn file");
}

/// The call before which an earlier run was killed.
#[derive(Clone, Copy)]
enum Earlier {
    /// The renames of files to their final names are counted from 1, on the way forth and on the way back.
    Rename(usize),
    Reload,
}
use Earlier::{Reload, Rename};

/// A run that is to be killed everywhere.
struct Killing {
    scene: Scene,
    earlier: Option<Earlier>,
    steps: (usize, usize),
}

impl Killing {
    fn of(scene: Scene) -> Self {
        Self { scene, earlier: None, steps: (1, 1) }
    }

    fn after_a_kill_before(self, earlier: Earlier) -> Self {
        Self { earlier: Some(earlier), ..self.sampled(5, 16) }
    }

    /// In the short form, only each so-many-th call, and each so-many-th of the runtime.
    fn sampled(self, calls: usize, runtime: usize) -> Self {
        Self { steps: (calls, runtime), ..self }
    }

    fn prove(mut self, name: &str) {
        let mut tally = Tally::new(name);
        let calls = self.count(&mut tally);
        let (step, runtime_step) = Form::asked().pick(self.steps, (1, 1));
        let all = || (0_u64..).zip(calls.inside.iter().copied());
        let runtime = all().filter(|(_, kind)| *kind == Kind::Runtime).step_by(runtime_step);
        let others = all().filter(|(_, kind)| *kind != Kind::Runtime).step_by(step);
        for (number, _) in others.chain(runtime) {
            self.kill(Point::Inside(number), &mut tally);
        }
        for number in (0..calls.outside).step_by(Form::asked().pick(16, 1)) {
            self.kill(Point::Outside(number), &mut tally);
        }
        tally.finish();
    }

    /// One run that nobody kills; before each call on files it looks whether anybody else could read a key.
    fn count(&mut self, tally: &mut Tally) -> Calls {
        self.begin();
        let (mut calls, mut window) = (Calls::default(), Window::default());
        let secrets = self.scene.secrets();
        let run = self.scene.site.trace(STUB, &["deploy", "--json"], |call| {
            if call.foreign {
                return Decision::Go;
            }
            match window.includes(call, &self.scene) {
                true => calls.inside.push(call.kind()),
                false => calls.outside += 1,
            }
            if call.kind() == Kind::File {
                let open = exposed(self.scene.site.root(), &secrets);
                tally.add("moments at which modes were looked at", 1);
                tally.expect(open.is_empty(), || format!("before {}: anybody can read {open:?}", call.name()));
            }
            Decision::Go
        });
        tally.expect(run.signal.is_none() && !calls.inside.is_empty(), || format!("the run touched nothing: {run:?}"));
        calls
    }

    /// One run that is killed, and the next one.
    fn kill(&mut self, point: Point, tally: &mut Tally) {
        self.begin();
        let mut window = Window::default();
        let (mut inside, mut outside, mut at) = (0, 0, "the end");
        let run = self.scene.site.trace(STUB, &["deploy", "--json"], |call| {
            let here = match window.includes(call, &self.scene) {
                _ if call.foreign => false,
                true => count_to(&mut inside, point, Point::Inside),
                false => count_to(&mut outside, point, Point::Outside),
            };
            if !here {
                return Decision::Go;
            }
            at = call.name();
            Decision::Kill
        });
        match run.signal {
            Some(9) => tally.add("crash points tried", 1),
            _ => tally.add("points beyond the end", 1),
        }
        self.look(&format!("{point:?} before {at}"), tally);
    }

    /// The same with strace in the place of our own tracer; says whether there were as many calls of this name.
    fn kill_with_strace(&mut self, name: &str, when: usize, tally: &mut Tally) -> bool {
        self.begin();
        let inject = format!("{name}:signal=KILL:when={when}");
        let strace = ["strace", "--follow-forks", "--quiet=all", "--output=/dev/null", "--trace", name, "--inject", &inject];
        let mut program = self.scene.site.program.clone();
        program.wrapper = strace.iter().map(|&word| word.to_owned()).collect();
        let killed = program.run(&["deploy", "--json"]).signal == Some(9);
        if killed {
            tally.add("crash points tried", 1);
            self.look(&format!("{name} {when}, by strace"), tally);
        }
        killed
    }

    /// Looks, runs the program again, and looks again.
    fn look(&self, place: &str, tally: &mut Tally) {
        tally.expect(self.scene.is_whole(), || format!("{place}: neither old nor new: {:?}", self.scene.site.live()));
        self.scene.look_for_open_keys(place, tally);
        self.scene.look_after_the_next_run(place, tally);
    }

    /// The state in which every run begins: that of the scene, or what an earlier run left when it was killed.
    fn begin(&mut self) {
        self.scene.begin();
        let Some(earlier) = self.earlier else { return };
        let (mut renames, tls) = (0, self.scene.site.tls());
        let run = self.scene.site.trace(STUB, &["deploy", "--json"], |call| {
            renames += usize::from(renames_into(call, &tls));
            match earlier {
                Rename(number) if renames == number => Decision::Kill,
                Reload if call.name() == "kill" => Decision::Kill,
                _ => Decision::Go,
            }
        });
        assert_eq!(run.signal, Some(9), "the earlier run was not killed: {run:?}");
        self.scene.site.configure("");
    }
}

fn renames_into(call: &Call, tls: &Path) -> bool {
    call.name() == "renameat" && call.places().last().is_some_and(|place| place.parent() == Some(tls))
}

/// The calls of a run.
#[derive(Default)]
struct Calls {
    /// From the first that touches the destinations or the state directory on.
    inside: Vec<Kind>,
    /// Before that.
    outside: u64,
}

/// Before which call a run is killed, counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Point {
    Inside(u64),
    Outside(u64),
}

fn count_to(counter: &mut u64, point: Point, kind: fn(u64) -> Point) -> bool {
    let here = kind(*counter) == point;
    *counter += 1;
    here
}

/// Begins with the first call that touches the destinations or the state directory.
#[derive(Default)]
struct Window {
    begun: bool,
}

impl Window {
    fn includes(&mut self, call: &Call, scene: &Scene) -> bool {
        self.begun = self.begun || call.places().iter().any(|path| scene.touches(path));
        self.begun
    }
}

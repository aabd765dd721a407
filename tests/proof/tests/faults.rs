//! Each system call of the program fails, once, in each way in which it can.
//!
//! From the opening of the configuration on, every call on files, processes and sockets, in all threads and in children until
//! they become another program, gets each error that its manual page has and that makes sense, or does half of its work.
//! Calls of the language's runtime (memory, locks of threads, clocks, signal masks) and those of other programs are left out
//! and counted. The short form gives every third call (every fourth of generations) one of its faults, in turn; the full form
//! gives every call all of them.
//!
//! After each fault the exit code has to be one that is documented, and what it says about the files has to be true; an error
//! names its stage and the next step; no key is shown or left open; and the next run brings everything to a good end.
#![cfg(target_arch = "x86_64")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests end where they cannot go on")]

use deploy_e2e::Run;
use deploy_proof::observer::holds;
use deploy_proof::tracer::{Call, Decision, Fault, Kind, faults_of};
use deploy_proof::{Form, Scene, Site, Tally};

const STUB: &str = env!("CARGO_BIN_EXE_traced");

#[test]
fn f36_every_call_of_a_first_deployment_fails() {
    Failing::of(Scene::first_deployment(Site::new()), 3).prove("faults/first deployment");
}

#[test]
fn f36_every_call_of_a_renewal_with_a_checker_fails() {
    Failing::of(Scene::renewal(Site::new()).with_settings(r#"validate = ["true"]"#), 3).prove("faults/renewal");
}

#[test]
fn f36_every_call_of_a_renewal_in_generations_fails() {
    Failing::of(Scene::renewal(Site::with_generations()), 4).prove("faults/renewal in generations");
}

#[test]
fn f36_every_call_of_a_way_back_fails() {
    Failing::of(Scene::renewal(Site::new()).with_settings(r#"reload = ["false"]"#), 3).prove("faults/way back");
}

/// A run in which everything is to fail.
struct Failing {
    scene: Scene,
    /// The short form takes each so-many-th call.
    step: usize,
}

/// A call that was made, in the order of those that can fail.
struct Made {
    name: &'static str,
    faults: usize,
}

impl Failing {
    fn of(scene: Scene, step: usize) -> Self {
        Self { scene, step }
    }

    fn prove(mut self, name: &str) {
        let mut tally = Tally::new(name);
        let calls = self.count(&mut tally);
        for (number, call) in calls.iter().enumerate().step_by(Form::asked().pick(self.step, 1)) {
            let turns = match Form::asked() {
                Form::Short => number / self.step % call.faults..number / self.step % call.faults + 1,
                _ => 0..call.faults,
            };
            for turn in turns {
                self.fail(number, turn, call.name, &mut tally);
            }
        }
        tally.finish();
    }

    /// One run in which nothing fails.
    fn count(&mut self, tally: &mut Tally) -> Vec<Made> {
        self.scene.begin();
        let (mut window, mut made) = (Window::default(), Vec::new());
        let run = self.scene.site.trace(STUB, &["deploy", "--json"], |call| {
            let faults = faults_of(call);
            match window.includes(call, &self.scene) {
                false => {}
                true if call.foreign => tally.add("excluded: calls of other programs", 1),
                true if call.kind() == Kind::Runtime => tally.add("excluded: calls of the runtime", 1),
                true if faults.is_empty() => tally.add("excluded: calls that do not return", 1),
                true => made.push(Made { name: call.name(), faults: faults.len() }),
            }
            Decision::Go
        });
        tally.expect(run.signal.is_none() && made.len() > 100, || format!("the run did little: {run:?}"));
        made
    }

    /// One run in which the call with this number fails in the way of this turn, and the next run.
    fn fail(&mut self, number: usize, turn: usize, expected: &str, tally: &mut Tally) {
        self.scene.begin();
        let (mut window, mut calls, mut failed) = (Window::default(), 0, None);
        let run = self.scene.site.trace(STUB, &["deploy", "--json"], |call| {
            let faults = faults_of(call);
            if !window.includes(call, &self.scene) || call.foreign || faults.is_empty() {
                return Decision::Go;
            }
            calls += 1;
            if calls != number + 1 {
                return Decision::Go;
            }
            let fault = faults[turn % faults.len()];
            failed = Some(Failed::new(call, fault));
            Decision::Fail(fault)
        });
        let Some(failed) = failed else {
            // Threads do not make the same number of calls every time.
            tally.add("points beyond the end", 1);
            return;
        };
        tally.add("faults injected", 1);
        let place = format!("call {number} ({failed}; {expected} when counted)");
        self.look(&place, &run, &failed, tally);
        self.scene.look_after_the_next_run(&place, tally);
    }

    fn look(&self, place: &str, run: &Run, failed: &Failed, tally: &mut Tally) {
        let said = format!("exit {} signal {:?}: {} {}", run.code, run.signal, run.stdout, run.stderr);
        let secrets = self.scene.secrets();
        tally.expect(!holds(said.as_bytes(), &secrets), || format!("{place}: a key is shown"));
        self.scene.look_for_open_keys(place, tally);
        let truth = match run.code {
            0 | 6 => self.scene.is_new(),
            2 | 3 | 4 | 7 => self.scene.is_old(),
            1 | 5 | 8 => self.scene.is_whole(),
            _ => false,
        };
        tally.expect(truth, || format!("{place}: not what is there: {said} {:?}", self.scene.site.live()));
        if run.code == 0 {
            let served = self.scene.site.served();
            tally.expect(served.as_ref() == Some(&self.scene.new.fingerprint), || format!("{place}: {said}, and {served:?}"));
        }
        // Nothing can be said where the writing itself failed.
        if !failed.on_output {
            tally.expect(explains_itself(run), || format!("{place}: {said}"));
        }
    }
}

/// A document that goes with the exit code; where something failed with the stage, what is live, and the next step.
fn explains_itself(run: &Run) -> bool {
    let Some(document) = &run.json else { return false };
    let has = |value: &serde_json::Value| value.as_str().is_some_and(|text| !text.is_empty());
    let target = &document["targets"][0];
    match run.code {
        0 => target["error"].is_null(),
        2 => has(&document["error"]["message"]) && has(&document["error"]["next_step"]),
        6 => target["live"] == "applied",
        // The program itself could not go on, before it came to its targets.
        1 if target.is_null() => has(&document["error"]["message"]) && has(&document["error"]["next_step"]),
        _ => {
            has(&target["stage"])
                && has(&target["live"])
                && has(&target["error"]["message"])
                && has(&target["error"]["next_step"])
        }
    }
}

/// What was made to fail.
struct Failed {
    text: String,
    /// A write to standard output or standard error.
    on_output: bool,
}

impl Failed {
    fn new(call: &Call, fault: Fault) -> Self {
        let places: Vec<String> = call.places().iter().map(|place| place.display().to_string()).collect();
        let on_output = call.own && ["write", "writev"].contains(&call.name()) && [1, 2].contains(&call.arguments[0]);
        Self { text: format!("{} {fault} {}", call.name(), places.join(", ")), on_output }
    }
}

impl std::fmt::Display for Failed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.text)
    }
}

/// Begins when the configuration is opened.
#[derive(Default)]
struct Window {
    begun: bool,
}

impl Window {
    fn includes(&mut self, call: &Call, scene: &Scene) -> bool {
        self.begun = self.begun || call.places().contains(&scene.site.program.config);
        self.begun
    }
}

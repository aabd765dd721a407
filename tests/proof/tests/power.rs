//! The power is cut, or the process killed, at every operation of a deployment: the shipped engine on simulated machines.
//!
//! Every operation that changes something is a crash point. What can be found on the disk after it is given by four models:
//! the process is *killed*; operations on names are lost from some point on (*ordered*), in any combination
//! (*independent*), or half a rename at a time (*torn renames*); and unsynced files have their new, their last synced or no
//! content, or zeros at the end. Each state is recovered with [`deploy_core::recover`], and an observer that reads the simulated
//! disk by itself sees to it that
//! - every file is all old or all new: bytes, owner, mode, attributes; after a success new, after an error or once the way
//!   back was announced old, whatever is lost later;
//! - no journal is left, and a second recovery finds nothing and writes nothing;
//! - the next deployments succeed, are served, and leave no staging file, no backup that belongs to nothing, and no second
//!   name of a live file; in the layout `generation`, no link, and after the time of grace no generation, either, that belongs
//!   to nothing, and none open that was replaced.
//!
//! The same after a second crash: in recovery, at each of its operations; and by power cut at each operation of the recovery,
//! or of the deployment, that follows a kill.
//!
//! Recovery before the service starts, files first, as the boot unit does it, is tried for a part of the states.
//!
//! The short form samples, with a fixed seed: above 12 subsets of unsynced names and 3 combinations of unsynced contents it
//! takes none, all, each alone, all but one, and random ones; every hundredth disk that differs is crashed in its recovery, and
//! what follows a kill is cut at every tenth point. The full form does that above 512 and 4, for every two-hundredth disk of
//! many more, and at every second point.
#![allow(clippy::print_stdout, reason = "the table of seeded faults is a part of the proof")]

use deploy_core::{Layout, Role};
use deploy_proof::simulator::{Caps, Effort, Engine, Fault, Found, Model, Refusal, Scenario, Setup, explore};
use deploy_proof::{Form, Tally};

const ONE: &[(&str, Role)] = &[("/etc/tls/www.pem", Role::Combined)];
const TWO: &[(&str, Role)] = &[("/etc/tls/www.crt", Role::Fullchain), ("/etc/tls/www.key", Role::Key)];
const TWO_APART: &[(&str, Role)] = &[("/etc/tls/www.crt", Role::Fullchain), ("/etc/keys/www.key", Role::Key)];
const THREE: &[(&str, Role)] =
    &[("/etc/tls/www.chain.crt", Role::Chain), ("/etc/tls/www.crt", Role::Fullchain), ("/etc/keys/www.key", Role::Key)];
const THREE_APART: &[(&str, Role)] =
    &[("/etc/chains/www.chain.crt", Role::Chain), ("/etc/tls/www.crt", Role::Fullchain), ("/etc/keys/www.key", Role::Key)];
const WITH_OPTIONS: &[(&str, Role)] =
    &[("/etc/tls/options", Role::Opaque), ("/etc/tls/www.crt", Role::Fullchain), ("/etc/tls/www.key", Role::Key)];

const IN_GENERATIONS: &[(&str, Role)] =
    &[("/etc/tls/www/current/www.crt", Role::Fullchain), ("/etc/tls/www/current/www.key", Role::Key)];

fn renewal() -> Scenario {
    Scenario::deployment(2).after(&[1])
}

#[test]
fn f37_first_deployments_survive_a_power_cut_at_every_operation() {
    let mut proof = Proof::new("power/first-deployment");
    proof.explore("one file, absent before", Setup::new(ONE, |_| false), &Scenario::deployment(1));
    proof.explore(
        "three files in three directories, absent before",
        Setup::new(THREE_APART, |_| false),
        &Scenario::deployment(1),
    );
    proof.explore("two files that an operator put there", Setup::new(TWO, |_| true), &Scenario::deployment(1));
    proof.explore("three files, one of them absent", Setup::new(THREE, |role| role != Role::Chain), &Scenario::deployment(1));
    proof.finish();
}

#[test]
fn f37_renewals_survive_a_power_cut_at_every_operation() {
    let mut proof = Proof::new("power/renewal");
    proof.explore("one file", Setup::new(ONE, |_| true), &renewal());
    proof.explore("two files", Setup::new(TWO, |_| true), &renewal());
    proof.explore("three files in two directories", Setup::new(THREE, |_| false), &renewal());
    proof.explore("two files behind symbolic links", Setup::new(TWO_APART, |_| true).named_by_links("/etc/links"), &renewal());
    proof.explore("three files in three directories", Setup::new(THREE_APART, |_| true), &renewal());
    proof.finish();
}

#[test]
fn f37_partial_renewals_survive_a_power_cut_at_every_operation() {
    let mut proof = Proof::new("power/partial-renewal");
    let options = Setup::new(WITH_OPTIONS, |_| true).with_one_change(Role::Opaque);
    proof.explore("one of three files differs", options, &Scenario::deployment(1));
    let drift = Setup::new(TWO, |_| true).with_drift();
    proof.explore("owner and mode differ", drift, &Scenario::deployment(1).once_it_has_ended());
    proof.explore("no backups are kept", Setup::new(TWO, |_| true).with_backups(0), &renewal());
    proof.explore("three backups are kept", Setup::new(TWO, |_| true).with_backups(3), &renewal());
    proof.finish();
}

#[test]
fn f37_power_cut_in_a_second_deployment_never_brings_back_what_was_before_the_first() {
    let mut proof = Proof::new("power/two-in-a-row");
    proof.explore("two files", Setup::new(TWO, |_| true), &Scenario::deployment(2).soon_after(&[1]));
    proof.explore(
        "two files apart, known before",
        Setup::new(TWO_APART, |_| false),
        &Scenario::deployment(3).after(&[1]).soon_after(&[2]),
    );
    proof.finish();
}

#[test]
fn f3_f37_ways_back_survive_a_power_cut_at_every_operation() {
    let mut proof = Proof::new("power/way-back");
    let (reload, checker) = (Refusal::reload_of(2), Refusal::check_of(2));
    proof.explore("a reload fails once", Setup::new(TWO, |_| true), &renewal().refused(reload, false));
    proof.explore("a reload fails always", Setup::new(THREE, |_| true), &renewal().refused(reload, true));
    proof.explore("the checker refuses the live files", Setup::new(TWO_APART, |_| true), &renewal().refused(checker, false));
    let first = Scenario::deployment(1).refused(Refusal::reload_of(1), false);
    proof.explore("the first reload fails", Setup::new(TWO, |_| false), &first);
    let copying = Engine::new(Setup::new(TWO, |_| true)).without_links();
    proof.explore_on("a reload fails, and hard links are refused", &copying, &renewal().refused(reload, false));
    proof.finish();
}

#[test]
fn f37_going_back_to_an_earlier_state_survives_a_power_cut_at_every_operation() {
    let mut proof = Proof::new("power/going-back");
    proof.explore("to an earlier certificate", Setup::new(TWO, |_| true), &Scenario::deployment(2).after(&[1, 2]).going_back(2));
    proof.explore("to no files at all", Setup::new(TWO_APART, |_| false), &Scenario::deployment(1).after(&[1]).going_back(1));
    proof.finish();
}

/// The layout `generation`: one link, which readers can follow to whole files at any time.
#[test]
fn f37_generations_survive_a_power_cut_at_every_operation() {
    let mut proof = Proof::new("power/generations");
    proof.explore("a first deployment", generations(), &Scenario::deployment(1));
    proof.explore("a renewal", generations(), &renewal());
    proof.explore("two in a row", generations(), &Scenario::deployment(3).after(&[1]).soon_after(&[2]));
    proof.explore("a reload fails once", generations(), &renewal().refused(Refusal::reload_of(2), false));
    let first = Scenario::deployment(1).refused(Refusal::reload_of(1), true);
    proof.explore("the first reload fails always", generations(), &first);
    proof.explore("no backups are kept", generations().with_backups(0), &renewal());
    let back = Scenario::deployment(2).after(&[1, 2]).going_back(2);
    proof.explore("going back to an earlier certificate", generations(), &back);
    proof.explore("going back to no files at all", generations(), &Scenario::deployment(1).after(&[1]).going_back(1));
    proof.finish();
}

fn generations() -> Setup {
    Setup::new(IN_GENERATIONS, |_| false).with_layout(Layout::Generation("/etc/tls/www".into()))
}

/// Everything that the engine rests on is left out once, and that has to show. There is no sync of the commit to leave out:
/// the rename that makes a journal a set is not synced, and all proofs above hold without that.
#[test]
fn f37_each_seeded_fault_is_found() {
    find_seeded("power/seeded-faults", &Fault::ALL, || Setup::new(TWO_APART, |_| true));
}

/// The same for the layout `generation`, which does these in its own way. The syncs of the journal are not among them: what
/// is live, one link says, and all proofs above hold without them.
#[test]
fn f37_each_seeded_fault_is_found_in_generations() {
    let own = [
        Fault::StagedFiles,
        Fault::HiddenDirectories,
        Fault::FirstHiddenDirectory,
        Fault::LiveDirectories,
        Fault::WayBack,
        Fault::Recovery,
        Fault::RollbackRecord,
        Fault::Owner,
    ];
    find_seeded("power/seeded-faults-in-generations", &own, generations);
}

fn find_seeded(name: &str, faults: &[Fault], setup: impl Fn() -> Setup) {
    let mut tally = Tally::new(name);
    println!("{:44}{}", "left out", Model::ALL.map(|model| format!("{:>20}", model.name())).concat());
    for fault in faults.iter().copied() {
        let found = seeded(fault, setup());
        let cell = |model: Model| {
            let number = |numbers: &std::collections::BTreeMap<Model, u64>| numbers.get(&model).copied().unwrap_or_default();
            format!("{:>20}", format!("{} / {}", number(&found.violations), number(&found.states)))
        };
        println!("{:44}{}", fault.name(), Model::ALL.map(cell).concat());
        tally.add("seeded faults", 1);
        tally.add("seeded faults found", u64::from(found.all_violations() > 0));
        tally.expect(found.all_violations() > 0, || format!("nobody notices that {} is left out", fault.name()));
    }
    tally.finish();
}

/// In the scenario that rests most on what is left out.
fn seeded(fault: Fault, setup: Setup) -> Found {
    let scenario = match fault {
        Fault::FirstHiddenDirectory | Fault::StateDirectory | Fault::Owner => Scenario::deployment(1),
        Fault::WayBack | Fault::RollbackRecord | Fault::RollbackRecordSync => renewal().refused(Refusal::reload_of(2), false),
        _ => renewal(),
    };
    let mut effort = Effort::of(Form::asked());
    // One crash is enough to find it, if what comes after it is looked at.
    (effort.crash_recovery_of, effort.cut_after_kill_at, effort.deploy_to) = (0, 0, 10);
    if fault == Fault::Owner {
        // Only a deployment looks at that file.
        effort.deploy_to = 3;
    }
    if fault == Fault::Recovery {
        // Two, where recovery is at fault: the process is killed, and the power cut after its recovery.
        (effort.cut_after_kill_at, effort.nested) = (2, Caps::new(8, 2));
    }
    explore(&Engine::new(setup).with_fault(Some(fault)), &scenario, &Model::ALL, effort)
}

/// Several scenarios with one tally.
struct Proof(Tally);

impl Proof {
    fn new(name: &str) -> Self {
        Self(Tally::new(name))
    }

    fn explore(&mut self, what: &str, setup: Setup, scenario: &Scenario) {
        self.explore_on(what, &Engine::new(setup), scenario);
    }

    fn explore_on(&mut self, what: &str, engine: &Engine, scenario: &Scenario) {
        let started = std::time::Instant::now();
        let found = explore(engine, scenario, &Model::ALL, Effort::of(Form::asked()));
        println!(
            "{what}: {} crash points, {} states, {} disks, {:?}",
            found.points,
            found.all_states(),
            found.disks,
            started.elapsed()
        );
        self.0.add("crash points", found.points);
        self.0.add("power-loss states", found.all_states());
        self.0.add("violations", found.all_violations());
        for (problem, (number, first)) in found.problems {
            self.0.violation(format!("{what}: {number} x {problem} (first: {first})"));
        }
    }

    fn finish(self) {
        assert!(self.0.number("power-loss states") > 100, "a proof looks at something");
        self.0.finish();
    }
}

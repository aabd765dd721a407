//! Keys and passwords, searched for in everything that comes out.

use std::error::Error;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use deploy_core::{Deployment, Report};

use crate::canary::Canary;
use crate::conformance::harness::{Fault, Harness};
use crate::conformance::world::World;
use crate::pki::Issued;

super::cases! { "secrets":
    s1_no_key_or_password_is_shown_or_left_behind[] "No key and no password is in any report, event, error, plan, `Debug` output, file name, or file where it does not belong, whatever goes wrong."
    s2_keys_are_closed_to_others[] "What holds a key is readable by its owner, and its group where the operator wants that, alone."
}

fn s1_no_key_or_password_is_shown_or_left_behind<H: Harness>() {
    let (mut world, mut old) = World::<H>::serving();
    for fault in H::faults() {
        let new = world.issue();
        let canary = kept(&world, world.canary(&old).and(&new), &new);
        world.harness.break_with(*fault);
        let context = world.context.clone().with_timeout(Duration::from_secs(4));
        let report = world.deploy_in(&new, &context);
        let mut shown = String::new();
        tell(&mut shown, &report, &world);
        world.harness.heal();
        nothing_leaks(&canary, &shown, world.directory(), Some(*fault));
        world.deploy_and_see(&new);
        old = new;
    }
    let new = world.issue();
    let canary = kept(&world, world.canary(&old).and(&new), &new);
    let mut shown = String::new();
    write(&mut shown, &world.target());
    write(&mut shown, &world.preview(&new));
    write(&mut shown, &world.prepare(&new));
    let report = world.deploy_and_see(&new);
    tell(&mut shown, &report, &world);
    write(&mut shown, &world.block_on(deploy_core::status(&world.job(&new), &world.context)));
    nothing_leaks(&canary, &shown, world.directory(), None);
}

fn s2_keys_are_closed_to_others<H: Harness>() {
    let (world, old) = World::<H>::serving();
    let new = world.issue();
    world.deploy_and_see(&new);
    let canary = kept(&world, world.canary(&old).and(&new).with_mode(0o640), &new);
    let leaks = canary.in_tree(world.directory());
    assert!(leaks.is_empty(), "{leaks:#?}");
}

/// Where keys belong: the destinations that hold one.
fn kept<H: Harness>(world: &World<H>, canary: Canary, issued: &Issued) -> Canary {
    match world.prepare(issued) {
        Ok(Deployment::Files(plan)) => {
            let keys = plan.files.iter().filter(|file| file.role.holds_key() || file.role == deploy_core::Role::Opaque);
            keys.map(|file| file.path.canonicalize().unwrap_or_else(|_| file.path.clone())).fold(canary, Canary::kept_in)
        }
        _ => canary,
    }
}

fn nothing_leaks(canary: &Canary, shown: &str, directory: &Path, fault: Option<Fault>) {
    if let Some(what) = canary.found_in(shown.as_bytes()) {
        panic!("{what} is in what was shown, by the time of {fault:?}");
    }
    let leaks: Vec<String> = canary.clone().with_mode(0o640).in_tree(directory);
    assert!(leaks.is_empty(), "by the time of {fault:?}: {leaks:#?}");
}

/// Everything that an agent could print of a run.
fn tell<H: Harness>(shown: &mut String, report: &Report, world: &World<H>) {
    write(shown, report);
    write(shown, &world.events.events());
    let mut cause: Option<&dyn Error> = report.error.as_ref().map(|error| error as &dyn Error);
    while let Some(error) = cause {
        shown.push_str(&error.to_string());
        cause = error.source();
    }
}

fn write(shown: &mut String, value: &impl std::fmt::Debug) {
    write!(shown, "{value:?}\n{value:#?}\n").expect("a string grows");
}

//! Deployments whose process is killed, and the run that comes after.

use std::path::PathBuf;

use deploy_core::RecoveryScope;

use crate::conformance::harness::Harness;
use crate::conformance::need::Need::Files;
use crate::conformance::world::{World, told};
use crate::pki::Issued;

/// More events than a deployment has.
const MOST: usize = 100;

super::cases! { "crash":
    killed_at_any_event_is_ended_by_the_next_run[] "A deployment that is killed at any of its events is ended by the next run: the new certificate is served, and nothing is left behind."
    killed_at_any_event_is_settled_by_recover[] "After such a death, `recover` leaves the old certificate or the new one, whole, and nothing owed or left behind."
    killed_first_deployment_is_ended_by_the_next_run[] "The same for a first deployment."
    f28_reload_that_is_owed_is_paid[Files] "A deployment that is killed between the switch and the reload is reloaded by the next run, although the files are right."
}

fn killed_at_any_event_is_ended_by_the_next_run<H: Harness>() {
    let (world, _) = World::<H>::serving();
    for event in 1..MOST {
        let new = world.issue();
        let died = world.deploy_and_die(&new, event);
        ends(&world, &new, event);
        if !died {
            return assert!(event > 5, "a deployment has only {event} events");
        }
    }
    panic!("a deployment has more than {MOST} events");
}

fn killed_at_any_event_is_settled_by_recover<H: Harness>() {
    let (world, mut old) = World::<H>::serving();
    for event in 1..MOST {
        let (before, new) = (world.harness.state(), world.issue());
        let died = world.deploy_and_die(&new, event);
        let recovered = world.block_on(deploy_core::recover(&[world.job(&new)], RecoveryScope::Full, &world.context));
        let failed: Vec<_> = recovered.iter().filter(|recovered| recovered.error.is_some()).collect();
        assert!(failed.is_empty(), "event {event}: {failed:?}");
        assert_eq!(world.litter(), Vec::<PathBuf>::new(), "event {event}");
        if world.harness.state() == before {
            world.sees(&old);
        } else {
            world.sees(&new);
        }
        ends(&world, &new, event);
        old = new;
        if !died {
            return;
        }
    }
    panic!("a deployment has more than {MOST} events");
}

fn killed_first_deployment_is_ended_by_the_next_run<H: Harness>() {
    for event in 1..MOST {
        let world = World::<H>::new();
        let new = world.issue();
        let died = world.deploy_and_die(&new, event);
        ends(&world, &new, event);
        if !died {
            return;
        }
    }
    panic!("a deployment has more than {MOST} events");
}

fn f28_reload_that_is_owed_is_paid<H: Harness>() {
    let (world, _) = World::<H>::serving();
    // Of what dies after its last switch, only the last can be owed no more than the reload: look for it by what is on disk.
    let mut paid = 0;
    for event in 1..MOST {
        let new = world.issue();
        let died = world.deploy_and_die(&new, event);
        // Of bytes that are random the plan has those that are there, once they are right.
        let plan = world.plan(&new);
        let switched = plan.files.iter().all(|file| match &file.content {
            deploy_core::Content::Bytes(bytes) => std::fs::read(&file.path).is_ok_and(|found| found == bytes.expose()),
            _ => !file.path.exists(),
        });
        if died && switched && world.served().as_ref() != Some(&new.fingerprint) {
            paid += 1;
        }
        ends(&world, &new, event);
        if !died {
            break;
        }
    }
    assert!(paid > 0, "no event lies between the switch and the reload: the target takes files up by itself");
}

fn ends<H: Harness>(world: &World<H>, new: &Issued, event: usize) {
    let report = world.deploy(new);
    assert!(report.error.is_none(), "after event {event}: {}", told(&report));
    world.is_settled_with(new);
    assert_eq!(world.litter(), Vec::<PathBuf>::new(), "after event {event}");
}

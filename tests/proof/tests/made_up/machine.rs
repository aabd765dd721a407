//! A play: deployments, hand edits and ways back, one after the other, beside a model.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, chown};

use deploy_core::{Outcome, Report};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::case::Case;
use super::check::{Checked, assert_that, is};
use super::model::Model;
use super::tree;
use super::world::{World, material};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Deploy {
        new: usize,
        force: bool,
        taken_up: bool,
    },
    /// To the last state, or to any of those that are kept.
    RollBack(Option<Index>),
    Edit(Index, Vec<u8>),
    Remove(Index),
    Chmod(Index, u32),
    Chown(Index, u32),
    LoseMarker,
}

/// Any play.
pub(crate) fn play() -> impl Strategy<Value = (Case, Vec<Step>)> {
    let deploy = (0..material().len(), proptest::bool::weighted(0.2), proptest::bool::weighted(0.8))
        .prop_map(|(new, force, taken_up)| Step::Deploy { new, force, taken_up });
    let modes = prop_oneof![Just(0o600_u32), Just(0o640), Just(0o604), Just(0o444)];
    let step = prop_oneof![
        8 => deploy,
        4 => proptest::option::weighted(0.4, any::<Index>()).prop_map(Step::RollBack),
        2 => (any::<Index>(), vec(any::<u8>(), 0..30)).prop_map(|(index, bytes)| Step::Edit(index, bytes)),
        1 => any::<Index>().prop_map(Step::Remove),
        2 => (any::<Index>(), modes).prop_map(|(index, mode)| Step::Chmod(index, mode)),
        1 => (any::<Index>(), 0_u32..40).prop_map(|(index, id)| Step::Chown(index, id)),
        1 => Just(Step::LoseMarker),
    ];
    (super::strategy::stage(), vec(step, 3..12))
}

/// Plays it, and compares after every step.
pub(crate) async fn played(case: &Case, steps: &[Step]) -> Checked {
    let world = World::of(case);
    let mut model = Model::new(&world, case, tree::visible(&world.live()));
    for (number, step) in steps.iter().enumerate() {
        let what = format!("step {number}, {step:?}");
        match step {
            Step::Deploy { new, force, taken_up } => {
                world.reload.fail(!taken_up);
                let context = world.context.clone().with_force(*force);
                let report = world.plan(case, *new).apply(&context).await;
                world.reload.fail(false);
                ended(&report, model.deploy(*new, *force, *taken_up), &what)?;
            }
            Step::RollBack(to) => {
                let sets = sets(&world);
                let chosen = to.filter(|_| !sets.is_empty()).map(|to| to.index(sets.len()));
                let id = chosen.map(|chosen| sets[chosen].to_string());
                let report = deploy_core::rollback(&world.job(), id.as_deref(), &world.context).await;
                ended(&report, model.roll_back(chosen.or(sets.len().checked_sub(1))), &what)?;
            }
            by_hand => do_by_hand(&world, case, &mut model, by_hand),
        }
        is(&model.tree, &world, &what)?;
        let sets = sets(&world).len();
        assert_that(sets == model.sets.len(), || format!("after {what}: {sets} sets, not {}", model.sets.len()))?;
    }
    Ok(())
}

/// The numbers of the states that can be gone back to, the oldest first.
fn sets(world: &World) -> Vec<u64> {
    let entries = fs::read_dir(world.root().join("state/targets")).into_iter().flatten().flatten();
    let number = |name: std::ffi::OsString| name.to_str()?.strip_prefix("front-")?.strip_suffix(".set")?.parse().ok();
    let mut sets: Vec<u64> = entries.filter_map(|entry| number(entry.file_name())).collect();
    sets.sort_unstable();
    sets
}

fn ended(report: &Report, wanted: Outcome, what: &str) -> Checked {
    assert_that(report.outcome == wanted, || {
        let error = report.error.as_ref().map(deploy_core::Error::full_message);
        format!("{what}: {:?}, not {wanted:?}: {error:?}, warnings {:?}", report.outcome, report.warnings)
    })
}

fn do_by_hand(world: &World, case: &Case, model: &mut Model<'_>, step: &Step) {
    let place = |index: &Index| {
        let index = index.index(case.files.len());
        (index, world.path(&case.files[index]))
    };
    match step {
        Step::Edit(index, bytes) => {
            let (index, path) = place(index);
            let is_new = !path.exists();
            fs::write(&path, bytes).expect("we are root");
            if is_new {
                fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("our own file");
            }
            model.edit(index, bytes, 0o644);
        }
        Step::Remove(index) => {
            let (index, path) = place(index);
            // It may be gone already.
            fs::remove_file(path).ok();
            model.remove(index);
        }
        Step::Chmod(index, mode) => {
            let (index, path) = place(index);
            if path.exists() {
                fs::set_permissions(path, Permissions::from_mode(*mode)).expect("we are root");
            }
            model.chmod(index, *mode);
        }
        Step::Chown(index, id) => {
            let (index, path) = place(index);
            if path.exists() {
                chown(path, Some(*id), Some(*id)).expect("we are root");
            }
            model.chown(index, (*id, *id));
        }
        Step::LoseMarker => {
            // There may be none.
            fs::remove_file(world.root().join("state/targets/front.json")).ok();
            model.forget();
        }
        Step::Deploy { .. } | Step::RollBack(_) => unreachable!("not by hand"),
    }
}

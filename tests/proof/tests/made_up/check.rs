//! The properties of one case, one after the other in one world.

use deploy_core::command::Command;
use deploy_core::{LinkPolicy, Outcome, Report, Validate};
use proptest::test_runner::TestCaseError;

use super::case::{Before, Case};
use super::tree::{self, Tree};
use super::wanted::{Wanted, wanted};
use super::world::World;

pub(crate) type Checked = Result<(), TestCaseError>;

/// Everything that is promised of a deployment, of the next one, and of the ways back.
pub(crate) async fn properties(case: &Case) -> Checked {
    let world = World::of(case);
    let before = tree::visible(&world.live());
    match wanted(&world, case, case.new, &before) {
        Wanted::Refused => refused(&world, case, &before).await,
        Wanted::Tree { after, changes } => {
            if changes {
                refused_by_the_checker(&world, case, &before).await?;
                not_taken_up(&world, case, &before).await?;
            }
            deployed(&world, case, &after, changes).await?;
            deployed_again(&world, case).await?;
            gone_back(&world, case, &before, &after, changes).await
        }
    }
}

/// A refused plan changes nothing.
async fn refused(world: &World, case: &Case, before: &Tree) -> Checked {
    let report = world.deploy(world.plan(case, case.new)).await;
    expect(&report, &[Outcome::Rejected], "a plan that the link policy refuses")?;
    nothing_left(world, before, "a refused plan")
}

/// The target's own checker passes without the new files and fails with them.
async fn refused_by_the_checker(world: &World, case: &Case, before: &Tree) -> Checked {
    let Some(path) = case.files.iter().map(|file| world.path(file)).find(|path| differs(world, case, path)) else {
        return Ok(());
    };
    let copy = world.root().join("copy");
    if let Ok(bytes) = std::fs::read(&path) {
        std::fs::write(&copy, bytes).expect("a new file");
    }
    let mut plan = world.plan(case, case.new);
    let arguments = ["cmp".as_ref(), "-s".as_ref(), path.as_os_str(), copy.as_os_str()];
    plan.hooks.validate = Some(Validate::new(Command::new(arguments)));
    let report = world.deploy(plan).await;
    // Where a link is replaced no view can show it, so that the checker sees the new files only after the switch.
    let is_link = path.is_symlink() && case.links == LinkPolicy::Replace;
    let outcomes: &[Outcome] = if is_link { &[Outcome::Rejected, Outcome::RolledBack] } else { &[Outcome::Rejected] };
    expect(&report, outcomes, "a checker that fails")?;
    assert_that(world.reload.applied() == 0, || format!("reloaded although the checker failed: {report:?}"))?;
    nothing_left(world, before, "a checker that fails")
}

/// Whether the deployment gives a path other bytes.
fn differs(world: &World, case: &Case, path: &std::path::Path) -> bool {
    let file = case.files.iter().find(|file| world.path(file) == path).expect("a file of the case");
    let bytes = super::world::content(file.role, &super::world::material()[case.new], &file.opaque);
    let kept = path.is_symlink() && case.links == LinkPolicy::Replace;
    !kept && std::fs::read(path).ok() != Some(bytes)
}

async fn not_taken_up(world: &World, case: &Case, before: &Tree) -> Checked {
    world.reload.fail(true);
    let report = world.deploy(world.plan(case, case.new)).await;
    world.reload.fail(false);
    expect(&report, &[Outcome::RolledBack], "a reload that fails")?;
    nothing_left(world, before, "a reload that fails")
}

async fn deployed(world: &World, case: &Case, after: &Tree, changes: bool) -> Checked {
    let report = world.deploy(world.plan(case, case.new)).await;
    // Nothing is known of a target whose files were right all along, so that it is told once.
    expect(&report, if changes { &[Outcome::Changed] } else { &[Outcome::Repaired] }, "a deployment")?;
    is(after, world, "a deployment")
}

async fn deployed_again(world: &World, case: &Case) -> Checked {
    let (stamps, reloads) = (tree::stamps(world.root()), world.reload.applied());
    let report = world.deploy(world.plan(case, case.new)).await;
    expect(&report, &[Outcome::Unchanged], "the same deployment again")?;
    let now = tree::stamps(world.root());
    let written = now.iter().filter(|(path, stamp)| stamps.get(*path) != Some(*stamp)).map(|(path, _)| path);
    let gone = stamps.keys().filter(|path| !now.contains_key(*path));
    let touched: Vec<_> = written.chain(gone).collect();
    assert_that(touched.is_empty(), || format!("the same deployment again touched {touched:?}"))?;
    assert_that(world.reload.applied() == reloads, || "the same deployment again reloaded".to_owned())
}

/// Back by the operator, held there, and forward again by force.
async fn gone_back(world: &World, case: &Case, before: &Tree, after: &Tree, changes: bool) -> Checked {
    let report = deploy_core::rollback(&world.job(), None, &world.context).await;
    if !changes || case.backups == 0 {
        expect(&report, &[Outcome::Rejected], "a rollback without anything to go back to")?;
        return is(after, world, "a rollback without anything to go back to");
    }
    if replaces_a_link(world, case, before) {
        expect(&report, &[Outcome::Rejected], "a rollback to a symbolic link")?;
        return is(after, world, "a rollback to a symbolic link");
    }
    expect(&report, &[Outcome::Changed], "a rollback")?;
    is(before, world, "a rollback")?;
    let report = world.deploy(world.plan(case, case.new)).await;
    expect(&report, &[Outcome::Unchanged], "a deployment after a rollback from it")?;
    is(before, world, "a deployment after a rollback from it")?;
    let forced = world.plan(case, case.new).apply(&world.context.clone().with_force(true)).await;
    expect(&forced, &[Outcome::Changed], "a forced deployment after a rollback")?;
    is(after, world, "a forced deployment after a rollback")
}

fn replaces_a_link(world: &World, case: &Case, before: &Tree) -> bool {
    let is_link = |file: &super::case::Planned| {
        super::wanted::real(world, case, file, before).is_some_and(|path| matches!(before.get(&path), Some(tree::Node::Link(_))))
    };
    case.files.iter().any(|file| matches!(file.before, Before::Link { .. }) && is_link(file))
}

fn nothing_left(world: &World, before: &Tree, what: &str) -> Checked {
    is(before, world, what)?;
    let mut left = tree::hidden_files(&world.live());
    left.extend(deploy_proof::observer::litter(world.root()));
    assert_that(left.is_empty(), || format!("{what} left {left:?}"))
}

/// What everybody can see is what is wanted, and nothing unfinished lies around.
pub(crate) fn is(wanted: &Tree, world: &World, what: &str) -> Checked {
    let difference = tree::difference(wanted, &tree::visible(&world.live()));
    assert_that(difference.is_none(), || format!("after {what}: {}", difference.unwrap_or_default()))?;
    let litter = deploy_proof::observer::litter(world.root());
    assert_that(litter.is_empty(), || format!("{what} left {litter:?}"))
}

fn expect(report: &Report, outcomes: &[Outcome], what: &str) -> Checked {
    assert_that(outcomes.contains(&report.outcome), || {
        let error = report.error.as_ref().map(deploy_core::Error::full_message);
        format!("{what}: {:?} at {:?}, not {outcomes:?}: {error:?}, warnings {:?}", report.outcome, report.stage, report.warnings)
    })
}

pub(crate) fn assert_that(holds: bool, what: impl FnOnce() -> String) -> Checked {
    if holds { Ok(()) } else { Err(TestCaseError::fail(what())) }
}

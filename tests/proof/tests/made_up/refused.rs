//! Plans with something wrong in them: each is refused, and nothing is there afterwards that was not there before.

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use deploy_core::{Content, ErrorKind, LinkPolicy, Outcome, Plan, PlanFile, Role};
use deploy_proof::observer;
use proptest::prelude::*;
use proptest::sample::Index;

use super::case::Case;
use super::check::{Checked, assert_that};
use super::tree;
use super::world::{World, material};

/// What is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Wrong {
    BadName,
    Directory,
    EmptyContent,
    EmptyPath,
    Fifo,
    HardLink,
    KeyOfAnother,
    LinkLoop,
    NoFiles,
    NoParent,
    RelativePath,
    SecondNameOfOneFile,
    SlashAtTheEnd,
    Twice,
    UnknownGroup,
    UnknownUser,
    UnsafeParent,
    ZeroByte,
}

/// Any case, with any one thing wrong with any of its files.
pub(crate) fn wrong() -> impl Strategy<Value = (Case, Wrong, Index)> {
    let wrong = proptest::sample::select(vec![
        Wrong::BadName,
        Wrong::Directory,
        Wrong::EmptyContent,
        Wrong::EmptyPath,
        Wrong::Fifo,
        Wrong::HardLink,
        Wrong::KeyOfAnother,
        Wrong::LinkLoop,
        Wrong::NoFiles,
        Wrong::NoParent,
        Wrong::RelativePath,
        Wrong::SecondNameOfOneFile,
        Wrong::SlashAtTheEnd,
        Wrong::Twice,
        Wrong::UnknownGroup,
        Wrong::UnknownUser,
        Wrong::UnsafeParent,
        Wrong::ZeroByte,
    ]);
    (super::strategy::stage(), wrong, any::<Index>())
}

/// A plan that is refused changes nothing, and nothing is prepared for it either.
pub(crate) async fn refused(case: &Case, wrong: Wrong, index: &Index) -> Checked {
    let world = World::of(case);
    let index = index.index(case.files.len());
    let mut plan = world.plan(case, case.new);
    spoil(&mut plan, wrong, index);
    let (before, paths) = (tree::visible(&world.live()), observer::paths(&world.live()).len());
    let report = world.deploy(plan).await;
    let kind = report.error.as_ref().map(deploy_core::Error::kind);
    let wanted = if matches!(wrong, Wrong::KeyOfAnother) { ErrorKind::MaterialRejected } else { ErrorKind::PlanInvalid };
    assert_that((report.outcome, kind) == (Outcome::Rejected, Some(wanted)), || format!("{wrong:?}: {report:?}"))?;
    assert_that(world.reload.applied() == 0, || format!("{wrong:?}: reloaded"))?;
    let difference = tree::difference(&before, &tree::visible(&world.live()));
    assert_that(difference.is_none(), || format!("{wrong:?}: {}", difference.unwrap_or_default()))?;
    let now = observer::paths(&world.live());
    assert_that(now.len() == paths, || format!("{wrong:?}: hidden directories were made: {now:?}"))
}

fn spoil(plan: &mut Plan, wrong: Wrong, index: usize) {
    let path = plan.files[index].path.clone();
    match wrong {
        Wrong::BadName => plan.name = "../front".to_owned(),
        Wrong::Directory => {
            clear(&path);
            fs::create_dir(&path).expect("nothing is there");
        }
        Wrong::EmptyContent => plan.files[index].content = Content::Bytes(Vec::new().into()),
        Wrong::EmptyPath => plan.files[index].path = PathBuf::new(),
        Wrong::Fifo => {
            clear(&path);
            let mode = rustix::fs::Mode::from_bits_truncate(0o600);
            rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).expect("nothing is there");
        }
        Wrong::HardLink => {
            if !path.exists() {
                fs::write(&path, "somebody's").expect("a new file");
            }
            fs::hard_link(&path, path.with_file_name("peer")).expect("a new name");
        }
        Wrong::KeyOfAnother => with_key_of_another(plan),
        Wrong::LinkLoop => {
            clear(&path);
            symlink(&path, &path).expect("nothing is there");
            plan.links = LinkPolicy::Follow;
        }
        Wrong::NoFiles => plan.files.clear(),
        Wrong::NoParent => plan.files[index].path = path.with_file_name("nowhere").join("www.key"),
        Wrong::RelativePath => plan.files[index].path = path.strip_prefix("/").expect("an absolute path").to_owned(),
        Wrong::SecondNameOfOneFile => {
            let (parent, name) = (path.parent().expect("a directory"), path.file_name().expect("a name"));
            let round = parent.join("..").join(parent.file_name().expect("a name")).join(name);
            // The last directory is a link to one with the same parent.
            plan.files.push(PlanFile::new(round, Role::Opaque, b"x".to_vec()));
        }
        Wrong::SlashAtTheEnd => plan.files[index].path.push(""),
        Wrong::Twice => plan.files.push(plan.files[index].clone()),
        Wrong::UnknownGroup => plan.files[index].group = Some("no-such-group".to_owned()),
        Wrong::UnknownUser => plan.files[index].owner = Some("no-such-user".to_owned()),
        Wrong::UnsafeParent => {
            let parent = path.parent().expect("a directory");
            fs::set_permissions(parent, Permissions::from_mode(0o777)).expect("our own directory");
        }
        Wrong::ZeroByte => plan.files[index].path = path.with_file_name("www\0.key"),
    }
}

/// Somebody else's key, in whichever file has one; a certificate in a file of its own, where there is none yet.
fn with_key_of_another(plan: &mut Plan) {
    let directory = plan.files[0].path.parent().expect("a directory").to_owned();
    let (one, other) = (&material()[0], &material()[1]);
    plan.files.retain(|file| file.role == Role::Opaque);
    let file = |name: &str, role, bytes: &str| PlanFile::new(directory.join(name), role, bytes.as_bytes().to_vec());
    plan.files.push(file("a.crt", Role::Fullchain, &one.fullchain_pem));
    plan.files.push(file("a.key", Role::Key, &other.key_pem));
}

fn clear(path: &Path) {
    // It may not be there.
    fs::remove_file(path).ok();
}

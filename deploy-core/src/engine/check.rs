//! Stage 1: the plan is sane and the material is good. Nothing is touched, nothing is opened.

use std::path::Path;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::engine::group::Member;
use crate::error::{Error, ErrorKind};
use crate::plan::{Content, Plan, PlanFile, Role};
use crate::report::Rung;
use crate::secret::SecretBytes;

/// Checks plan and material by reading (rung V0).
pub(super) fn check(member: &mut Member, context: &Context) -> Result<(), Error> {
    plan(&member.plan)?;
    member.certificate = match material(&member.plan) {
        // What stood there is brought back as it was: the target's own checker and the look on the wire judge it.
        Err(error) if member.plan.going_back => {
            member.warn(context, format!("what stood there before is no sound pair: {}", error.full_message()));
            None
        }
        material => material?,
    };
    let Some(certificate) = &member.certificate else {
        member.report.degrade("material", "the files have no certificate and key that could be looked into");
        return Ok(());
    };
    member.report.fingerprint.wanted = Some(certificate.fingerprint().to_owned());
    member.report.not_after = Some(certificate.not_after());
    if !member.plan.going_back {
        certificate.check_validity(context.host().now())?;
    }
    Ok(())
}

/// Checks the material by a handshake in memory (rung V1). What is deployed already has passed it.
pub(super) fn handshake(member: &mut Member, context: &Context) -> Result<(), Error> {
    let Some(certificate) = &member.certificate else { return Ok(()) };
    match certificate.check_with_provider(context.provider()) {
        Err(error) if member.plan.going_back => {
            member.warn(context, format!("what stood there before is no sound pair: {}", Error::from(error).full_message()));
        }
        checked => {
            checked?;
            member.report.validated = Rung::V1;
        }
    }
    Ok(())
}

fn plan(plan: &Plan) -> Result<(), Error> {
    if plan.files.is_empty() {
        return Err(Error::new(ErrorKind::PlanInvalid, "the plan has no files"));
    }
    for (index, file) in plan.files.iter().enumerate() {
        check_path(&file.path)?;
        if let Some(problem) = plan.layout.problem_with(&file.path) {
            return Err(Error::new(ErrorKind::PlanInvalid, problem).with_next_step("correct the path of the file, or `layout`"));
        }
        if plan.files[..index].iter().any(|other| other.path == file.path) {
            return Err(Error::new(ErrorKind::PlanInvalid, format!("{} is in the plan twice", file.path.display()))
                .with_next_step("give every file a path of its own"));
        }
        if !plan.going_back && matches!(&file.content, Content::Bytes(bytes) if bytes.is_empty()) {
            return Err(Error::new(ErrorKind::PlanInvalid, format!("{} would be empty", file.path.display())));
        }
    }
    Ok(())
}

/// Names become file names.
pub(super) fn check_name(name: &str) -> Result<(), Error> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.chars().all(fits) {
        return Err(Error::new(ErrorKind::PlanInvalid, format!("`{name}` cannot be the name of a target"))
            .with_next_step("use 1 to 64 letters, digits, `-`, `_` and `.`, not beginning with `.`"));
    }
    Ok(())
}

fn check_path(path: &Path) -> Result<(), Error> {
    if path.as_os_str().is_empty() {
        return Err(Error::new(ErrorKind::PlanInvalid, "a file of the plan has an empty path"));
    }
    if !path.is_absolute() {
        return Err(Error::new(ErrorKind::PlanInvalid, format!("{} is not an absolute path", path.display()))
            .with_next_step("write the whole path, from /"));
    }
    Ok(())
}

/// The certificate of a plan: as it was given, or read out of the files by their roles.
pub(super) fn material(plan: &Plan) -> Result<Option<Certificate>, Error> {
    if let Some(certificate) = &plan.certificate {
        return Ok(Some(certificate.clone()));
    }
    let bytes = |role: Role| plan.files.iter().find(|file| file.role == role).and_then(content);
    from_roles(bytes(Role::Combined), bytes(Role::Fullchain), bytes(Role::Leaf), bytes(Role::Chain), bytes(Role::Key))
}

/// Reads a certificate out of whichever files there are; `None` if certificate or key are in none of them.
pub(super) fn from_roles(
    combined: Option<&SecretBytes>,
    fullchain: Option<&SecretBytes>,
    leaf: Option<&SecretBytes>,
    chain: Option<&SecretBytes>,
    key: Option<&SecretBytes>,
) -> Result<Option<Certificate>, Error> {
    let Some(combined) = combined else { return apart(fullchain, leaf, chain, key) };
    let certificate = Certificate::from_combined_pem(combined)?;
    // What stands in files of its own, too, has to fit as well.
    if let (None, Some(key)) = (apart(fullchain, leaf, chain, key)?, key) {
        Certificate::from_pem(&certificate.fullchain_pem(), key)?;
    }
    Ok(Some(certificate))
}

/// Out of files that hold one thing each.
fn apart(
    fullchain: Option<&SecretBytes>,
    leaf: Option<&SecretBytes>,
    chain: Option<&SecretBytes>,
    key: Option<&SecretBytes>,
) -> Result<Option<Certificate>, Error> {
    let Some(key) = key else { return Ok(None) };
    if let Some(fullchain) = fullchain {
        return Ok(Some(Certificate::from_pem(fullchain.expose(), key)?));
    }
    let Some(leaf) = leaf else { return Ok(None) };
    let chain = chain.map_or(&b""[..], SecretBytes::expose);
    Ok(Some(Certificate::from_pem_with_chain(leaf.expose(), chain, key)?))
}

fn content(file: &PlanFile) -> Option<&SecretBytes> {
    match &file.content {
        Content::Bytes(bytes) => Some(bytes),
        Content::Absent => None,
    }
}

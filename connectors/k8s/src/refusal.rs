//! What a refusal means: its HTTP status, and the `Status` object in its body (kubernetes.io, "API Conventions").

use deploy_core::{Error, ErrorKind};
use deploy_http::Response;
use kube::core::Status;
use kube::core::response::StatusCause;

/// What was asked, for messages, and for the permission that it needs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// `patch`.
    pub(crate) verb: &'a str,
    /// `secrets`, or `deployments` with their group: `deployments.apps`.
    pub(crate) resource: &'a str,
    /// None for what is the cluster's own.
    pub(crate) namespace: Option<&'a str>,
    /// None for all of them.
    pub(crate) name: Option<&'a str>,
}

impl Asked<'_> {
    fn place(&self) -> String {
        self.namespace.map_or_else(|| "the cluster".to_owned(), |namespace| format!("the namespace {namespace}"))
    }

    /// The permission that is missing for it.
    pub(crate) fn permission(&self) -> String {
        format!("`{}` on {} in {}", self.verb, self.resource, self.place())
    }
}

/// The error of an answer that is not a success.
pub(crate) fn error(answer: &Response, asked: &Asked<'_>) -> Error {
    let status: Status = answer.json().unwrap_or_default();
    let said = answer.shown(&status.message);
    let causes = status.details.as_ref().map_or(&[][..], |details| &details.causes);
    match answer.status() {
        401 => answer
            .error()
            .with_next_step("see whether the token or the certificate of the kubeconfig has expired; then run again"),
        403 => forbidden(&status, &said, causes, asked),
        404 => missing(&said, asked),
        409 => conflict(&said, causes, answer),
        400 | 413 | 422 => invalid(&said, causes, answer),
        _ => answer.error(),
    }
}

/// The permissions that the cluster says are missing.
pub(crate) fn missing_permissions(missing: &[String]) -> Error {
    Error::new(ErrorKind::PermissionDenied, format!("the cluster does not allow {}", missing.join(", ")))
        .with_next_step("grant it with a Role and a RoleBinding, as the page on Kubernetes has them; then run again")
}

fn forbidden(status: &Status, said: &str, causes: &[StatusCause], asked: &Asked<'_>) -> Error {
    if find(causes, "NamespaceTerminating").is_some() {
        let message = format!("{} is being deleted, and takes nothing new: {said}", asked.place());
        return Error::new(ErrorKind::PlanInvalid, message)
            .with_next_step("take it out of the target's namespaces; then run again");
    }
    if status.message.contains("system:anonymous") {
        return Error::new(ErrorKind::Unauthenticated, format!("the cluster was not told who asks: {said}"))
            .with_next_step("see whether the user of the kubeconfig's context has a credential");
    }
    // Admission and quotas answer 403 as well, and no role helps against them.
    if !status.message.contains(&format!(" cannot {} ", asked.verb)) && !status.message.is_empty() {
        return Error::new(ErrorKind::ValidateFailed, format!("the cluster refuses it: {said}"))
            .with_next_step("ask whoever runs the policy or the quota that the sentence names");
    }
    let error = missing_permissions(&[asked.permission()]);
    let step = error.next_step().to_owned();
    Error::new(ErrorKind::PermissionDenied, format!("{error}: {said}")).with_next_step(step)
}

fn missing(said: &str, asked: &Asked<'_>) -> Error {
    let what = match asked.name {
        Some(name) => format!("{} {name} in {}", asked.resource, asked.place()),
        None => asked.place(),
    };
    Error::new(ErrorKind::ConfigurationInvalid, format!("there is no {what}: {said}"))
        .with_next_step("create what is missing, or correct the target's settings; then run again")
}

fn conflict(said: &str, causes: &[StatusCause], answer: &Response) -> Error {
    let owned: Vec<String> = causes
        .iter()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| answer.shown(&format!("{} ({})", cause.field, cause.message)))
        .collect();
    if owned.is_empty() {
        return Error::new(ErrorKind::Conflict, format!("somebody else has changed the Secret meanwhile: {said}"));
    }
    let message = format!("somebody else owns what certdeploy would change: {}", owned.join(", "));
    Error::new(ErrorKind::Conflict, message).with_next_step(
        "if it is to be certdeploy's from now on, set `force_conflicts = true`; otherwise have the other one let it alone",
    )
}

fn invalid(said: &str, causes: &[StatusCause], answer: &Response) -> Error {
    let error = |message: &str| Error::new(ErrorKind::ValidateFailed, format!("{message}: {said}"));
    let unchangeable = |cause: &&StatusCause| cause.message.contains("immutable");
    if answer.status() == 413 || find(causes, "FieldValueTooLong").is_some() {
        return error("the Secret would be too large").with_next_step("a Secret holds 1 MiB: move other entries elsewhere");
    }
    match causes.iter().find(unchangeable) {
        Some(cause) => error(&format!("`{}` of the Secret cannot be changed", answer.shown(&cause.field)))
            .with_next_step("set `recreate = true` to have it deleted and made again, or delete it by hand; then run again"),
        None => {
            error("the cluster refuses it").with_next_step("what it says has to change: the settings, or a policy of the cluster")
        }
    }
}

fn find<'a>(causes: &'a [StatusCause], reason: &str) -> Option<&'a StatusCause> {
    causes.iter().find(|cause| cause.reason == reason)
}

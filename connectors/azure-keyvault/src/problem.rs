//! What a vault's errors mean: a code, and often an inner one that says more
//! (learn.microsoft.com/azure/key-vault/general/rest-error-codes).

use deploy_core::{Error, ErrorKind, Retry};
use deploy_http::Response;
use serde::Deserialize;

use crate::config::AzureKeyvaultSettings;

#[derive(Deserialize)]
struct Body {
    error: Problem,
}

#[derive(Deserialize)]
struct Problem {
    code: String,
    #[serde(default)]
    message: String,
    #[serde(rename = "innererror")]
    inner: Option<Box<Self>>,
}

impl Problem {
    fn innermost(&self) -> &Self {
        self.inner.as_deref().map_or(self, Self::innermost)
    }
}

/// The innermost code.
pub(crate) fn code(answer: &Response) -> Option<String> {
    Some(read(answer)?.innermost().code.clone())
}

fn read(answer: &Response) -> Option<Problem> {
    answer.json::<Body>().ok().map(|body| body.error)
}

/// Where the code says nothing of its own, the status does.
pub(crate) fn error(answer: &Response, settings: &AzureKeyvaultSettings) -> Error {
    let Some(problem) = read(answer) else { return answer.error() };
    let name = &settings.certificate_name;
    let code = problem.innermost().code.as_str();
    match (answer.status(), code) {
        (409, "ObjectIsDeletedButRecoverable") => deleted(name),
        (409, "ObjectIsBeingDeleted" | "ObjectIsBeingRecovered") => {
            let message = format!("the vault is still busy with `{name}` ({code})");
            Error::new(ErrorKind::Unavailable, message).with_retry(Retry::Later)
        }
        (403, "ForbiddenByFirewall" | "ForbiddenByConnection") => {
            let message =
                format!("the vault's firewall does not let this machine in ({code}): {}", answer.shown(&problem.message));
            Error::new(ErrorKind::PermissionDenied, message)
                .with_next_step("allow this machine's address, or its network, in the vault's networking; then run again")
        }
        (403, _) => answer.error().with_next_step(
            "give the identity the role `Key Vault Certificates Officer`, or the permissions certificates/get and \
             certificates/import, which take some minutes to count; then run again",
        ),
        _ => answer.error(),
    }
}

/// The name is taken, by what nobody sees.
pub(crate) fn deleted(name: &str) -> Error {
    let message = format!("a certificate `{name}` was deleted from the vault, and keeps its name until it is purged");
    Error::new(ErrorKind::ConfigurationInvalid, message).with_next_step(
        "recover or purge it in the vault, or set `recover_deleted = true`, which brings back all of its versions",
    )
}

//! What AWS refuses, and what that means for a deployment.

use std::time::Duration;

use deploy_core::{Error, ErrorKind, Retry};
use deploy_http::Response;
use serde::Deserialize;

/// The quotas for requests are per second.
const THROTTLED_FOR: Duration = Duration::from_secs(1);

/// An error of AWS JSON 1.1: a name and a sentence, with status 400 mostly, whatever it is.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Problem {
    /// `ThrottlingException`.
    pub code: String,
    /// What the service says, fit to be shown.
    pub message: String,
    /// The number that AWS's support asks for.
    request: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "__type")]
    kind: Option<String>,
    #[serde(alias = "Message")]
    message: Option<String>,
}

impl Problem {
    /// What an answer complains of; `None` if it is a success, or does not come from the service.
    #[must_use]
    pub fn of(answer: &Response) -> Option<Self> {
        if answer.status() < 400 {
            return None;
        }
        let body = answer.json::<Body>().ok();
        let (kind, message) = body.map_or((None, None), |body| (body.kind, body.message));
        let kind = answer.header("x-amzn-errortype").map(str::to_owned).or(kind)?;
        // `com.amazonaws.acm#ThrottlingException:http://...`
        let code = kind.rsplit('#').next().and_then(|name| name.split(':').next()).unwrap_or_default();
        let request = answer.header("x-amzn-requestid").map(|id| answer.shown(id));
        Some(Self::new(&answer.shown(code), &answer.shown(&message.unwrap_or_default()), request))
    }

    pub(crate) fn new(code: &str, message: &str, request: Option<String>) -> Self {
        Self { code: code.to_owned(), message: message.to_owned(), request }
    }

    /// An error of this kind, which says that the service refused `action`, and why.
    #[must_use]
    pub fn refusal(&self, kind: ErrorKind, action: &str) -> Error {
        let colon = if self.message.is_empty() { "" } else { ": " };
        let request = self.request.as_ref().map(|id| format!(", request {id}")).unwrap_or_default();
        Error::new(kind, format!("AWS refuses {action}{colon}{} ({}{request})", self.message, self.code))
    }

    /// What those mean that every service of AWS has (docs.aws.amazon.com/IAM/latest/APIReference/CommonErrors.html); everything
    /// else is [`ErrorKind::PlanInvalid`].
    #[must_use]
    pub fn error(&self, action: &str) -> Error {
        match self.code.as_str() {
            "AccessDenied" | "AccessDeniedException" | "NotAuthorized" | "OptInRequired" => self
                .refusal(ErrorKind::PermissionDenied, action)
                .with_next_step("grant what AWS says is missing to the identity that asks; then run again"),
            "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => self
                .refusal(ErrorKind::Unauthenticated, action)
                .with_next_step("renew the temporary credentials, and see whether this machine's clock is right; then run again"),
            "IncompleteSignature" | "InvalidSignatureException" | "RequestTimeTooSkewed" | "SignatureDoesNotMatch" => self
                .refusal(ErrorKind::Unauthenticated, action)
                .with_next_step("see whether the secret access key and this machine's clock are right; then run again"),
            "InvalidClientTokenId"
            | "MissingAuthenticationToken"
            | "MissingAuthenticationTokenException"
            | "UnrecognizedClientException" => self
                .refusal(ErrorKind::Unauthenticated, action)
                .with_next_step("see whether the access key exists and is active, and is one of this partition; then run again"),
            "PriorRequestNotComplete"
            | "RequestLimitExceeded"
            | "SlowDown"
            | "Throttling"
            | "ThrottledException"
            | "ThrottlingException"
            | "TooManyRequestsException" => self.refusal(ErrorKind::RateLimited, action).with_retry(Retry::After(THROTTLED_FOR)),
            "InternalError"
            | "InternalFailure"
            | "InternalServerException"
            | "ServiceUnavailable"
            | "ServiceUnavailableException" => self.refusal(ErrorKind::Unavailable, action).with_retry(Retry::Later),
            "RequestTimeout" | "RequestTimeoutException" => self.refusal(ErrorKind::Timeout, action).with_retry(Retry::Later),
            _ => self.refusal(ErrorKind::PlanInvalid, action),
        }
    }
}

//! Containers of ECS and EKS (docs.aws.amazon.com/sdkref/latest/guide/feature-container-credentials.html).

use std::time::Duration;

use deploy_core::secret::SecretString;
use deploy_core::{Error, ErrorKind};
use deploy_http::Request;

use super::Surroundings;
use crate::credentials::{Credentials, Document};

/// Where ECS answers.
const ECS: &str = "http://169.254.170.2";

/// As in the SDKs.
const TIMEOUT: Duration = Duration::from_secs(2);

/// `None` outside of containers that have a role.
pub(super) async fn find(around: &Surroundings<'_>) -> Result<Option<Credentials>, Error> {
    let relative = around.variable("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI").map(|path| format!("{ECS}{path}"));
    let Some(url) = relative.or_else(|| around.variable("AWS_CONTAINER_CREDENTIALS_FULL_URI")) else { return Ok(None) };
    let mut client = around.metadata(&url, TIMEOUT);
    if let Some(token) = authorization(around)? {
        client = client.with_secret_header("authorization", token);
    }
    // The URL is used as it is: an address with a query is refused.
    let answer = client.build(around.context)?.send(Request::get(&[])).await?.accept(&[200])?;
    answer.json::<Document>()?.credentials("the container").map(Some)
}

/// Read anew each time: the file changes.
fn authorization(around: &Surroundings<'_>) -> Result<Option<SecretString>, Error> {
    if let Some(path) = around.variable("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
        return around.token(&path).map(Some);
    }
    let token = around.secret_variable("AWS_CONTAINER_AUTHORIZATION_TOKEN");
    match &token {
        Some(text) if text.expose().contains(char::is_control) => {
            Err(Error::new(ErrorKind::ConfigurationInvalid, "AWS_CONTAINER_AUTHORIZATION_TOKEN has more than one line"))
        }
        _ => Ok(token),
    }
}

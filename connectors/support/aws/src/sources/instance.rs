//! The instance metadata service, version 2
//! (docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-retrieval.html).

use std::time::Duration;

use deploy_core::secret::SecretString;
use deploy_core::{Error, ErrorKind};
use deploy_http::{Request, Response};

use super::Surroundings;
use crate::credentials::{Credentials, Document};

const ADDRESS: &str = "http://169.254.169.254";
const ADDRESS_V6: &str = "http://[fd00:ec2::254]";

/// As in the SDKs: it is next to us, or there is none.
const TIMEOUT: Duration = Duration::from_secs(1);

/// How long the token is good for, in seconds. One deployment takes less.
const TOKEN_LIFETIME: &str = "600";

/// `None` where nobody answers, where it is turned off, and where the instance has no role.
pub(super) async fn find(around: &Surroundings<'_>) -> Result<Option<Credentials>, Error> {
    if around.variable("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return Ok(None);
    }
    let v6 = around.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE").is_some_and(|mode| mode.eq_ignore_ascii_case("ipv6"));
    let usual = if v6 { ADDRESS_V6 } else { ADDRESS };
    let url = around.variable("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or_else(|| usual.to_owned());
    let request = Request::put(&["latest", "api", "token"]).with_header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_LIFETIME);
    let answer = match around.metadata(&url, TIMEOUT).build(around.context)?.send(request).await {
        Err(error) if matches!(error.kind(), ErrorKind::Unavailable | ErrorKind::Timeout) => return Ok(None),
        // Something else answers at that address.
        Ok(answer) if matches!(answer.status(), 403..=405) => return Ok(None),
        answer => answer?.accept(&[200])?,
    };
    let token = SecretString::from(text(&answer)?);
    let client = around.metadata(&url, TIMEOUT).with_secret_header("x-aws-ec2-metadata-token", token).build(around.context)?;
    let answer = client.send(Request::get(&in_roles(""))).await?;
    if answer.status() == 404 {
        return Ok(None);
    }
    let role = text(&answer.accept(&[200])?)?.lines().next().unwrap_or_default().trim().to_owned();
    if role.is_empty() {
        return Ok(None);
    }
    let answer = client.send(Request::get(&in_roles(&role))).await?.accept(&[200])?;
    answer.json::<Document>()?.credentials("the instance").map(Some)
}

fn in_roles(name: &str) -> [&str; 5] {
    ["latest", "meta-data", "iam", "security-credentials", name]
}

fn text(answer: &Response) -> Result<String, Error> {
    let text = std::str::from_utf8(answer.body().expose());
    text.map(|text| text.trim().to_owned()).map_err(|error| {
        Error::new(ErrorKind::Unavailable, "the instance metadata service answers with what is no text").with_source(error)
    })
}

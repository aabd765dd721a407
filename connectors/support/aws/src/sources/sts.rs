//! The Security Token Service: `AssumeRole` and `AssumeRoleWithWebIdentity`
//! (docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).

use deploy_core::secret::SecretString;
use deploy_core::{Error, ErrorKind};
use deploy_http::{Request, Response};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Surroundings;
use crate::credentials::{Credentials, secret, time};
use crate::endpoint::Endpoint;
use crate::login::Role;
use crate::problem::Problem;
use crate::service::Service;

const VERSION: &str = "2011-06-15";

#[derive(Deserialize)]
struct Answer {
    #[serde(rename = "AssumeRoleResult", alias = "AssumeRoleWithWebIdentityResult")]
    result: Assumed,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Assumed {
    credentials: Keys,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Keys {
    access_key_id: String,
    #[serde(deserialize_with = "secret")]
    secret_access_key: Option<SecretString>,
    #[serde(deserialize_with = "secret")]
    session_token: Option<SecretString>,
    expiration: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refusal {
    error: Refused,
    request_id: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Refused {
    code: String,
    #[serde(default)]
    message: String,
}

/// Signed with what was found before.
pub(super) async fn assume_role(
    role: &Role,
    seconds: Option<&str>,
    with: Credentials,
    around: &Surroundings<'_>,
) -> Result<Credentials, Error> {
    let sts = Service::new(endpoint(around), with, around.ca_file(), around.context)?;
    let optional = [("ExternalId", role.external_id.as_deref()), ("DurationSeconds", seconds)];
    let optional = optional.iter().filter_map(|(name, value)| Some((*name, (*value)?)));
    let fields: Vec<(&str, &str)> = fields("AssumeRole", role).into_iter().chain(optional).collect();
    credentials(&sts.form(&fields).await?, role)
}

/// Not signed: the token says who asks.
pub(super) async fn web_identity(role: &Role, token_file: &str, around: &Surroundings<'_>) -> Result<Credentials, Error> {
    let token = around.token(token_file)?;
    let client = around.client(endpoint(around).url()).build(around.context)?;
    let [action, version, arn, session] = fields("AssumeRoleWithWebIdentity", role);
    let fields = [action, version, arn, session, ("WebIdentityToken", token.expose())];
    credentials(&client.send(Request::post(&[]).with_form(&fields)).await?, role)
}

fn fields<'a>(action: &'a str, role: &'a Role) -> [(&'static str, &'a str); 4] {
    let session = role.session_name.as_deref().unwrap_or("certdeploy");
    [("Action", action), ("Version", VERSION), ("RoleArn", &role.arn), ("RoleSessionName", session)]
}

fn endpoint(around: &Surroundings<'_>) -> Endpoint {
    match around.variable("AWS_ENDPOINT_URL_STS") {
        Some(url) => Endpoint::at("sts", around.region, url),
        None => Endpoint::of("sts", around.region),
    }
}

fn credentials(answer: &Response, role: &Role) -> Result<Credentials, Error> {
    let action = format!("to assume the role {}", role.arn);
    if answer.status() != 200 {
        let Ok(refusal) = xml::<Refusal>(answer) else { return Err(answer.error()) };
        let request = refusal.request_id.map(|id| answer.shown(&id));
        let problem = Problem::new(&answer.shown(&refusal.error.code), &answer.shown(&refusal.error.message), request);
        return Err(match problem.code.as_str() {
            "InvalidIdentityToken" | "IDPRejectedClaim" | "ExpiredTokenException" => problem
                .refusal(ErrorKind::Unauthenticated, &action)
                .with_next_step("see whether the identity provider is known to the account, and trusted by the role"),
            "AccessDenied" => problem
                .refusal(ErrorKind::PermissionDenied, &action)
                .with_next_step("see who may assume the role: its trust policy, and the external ID that it asks for"),
            _ => problem.error(&action),
        });
    }
    let Keys { access_key_id, secret_access_key, session_token, expiration } = xml::<Answer>(answer)?.result.credentials;
    let missing = || Error::new(ErrorKind::Unauthenticated, "AWS STS answers without a secret access key");
    let expires = time(&expiration, "AWS STS")?;
    Ok(Credentials::new(access_key_id, secret_access_key.ok_or_else(missing)?, session_token).until(Some(expires)))
}

/// The parser's own message could quote a secret.
fn xml<T: DeserializeOwned>(answer: &Response) -> Result<T, Error> {
    let unreadable = || Error::new(ErrorKind::Unavailable, "AWS STS answers with something else than its XML");
    let text = std::str::from_utf8(answer.body().expose()).map_err(|_| unreadable())?;
    quick_xml::de::from_str(text).map_err(|_| unreadable())
}

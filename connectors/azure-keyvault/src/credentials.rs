//! Tokens of Microsoft Entra ID: one request each, or one command.

use std::ffi::OsStr;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use deploy_core::command::{Command, Limits};
use deploy_core::secret::{SecretBytes, SecretString, read_source_file};
use deploy_core::{Context, Error, ErrorKind, Retry};
use deploy_http::{Client, ClientBuilder, Request, Response};
use serde::{Deserialize, Deserializer};

use crate::challenge::Challenge;
use crate::config::{AzureCli, AzureKeyvaultSettings, ClientSecret, Credentials, ManagedIdentity, WorkloadIdentity};

/// The longest token in a file, in bytes.
const TOKEN_FILE_LIMIT: u64 = 64 << 10;
/// Where a virtual machine is told who it is.
const INSTANCE_METADATA: &str = "http://169.254.169.254";
const ASSERTION: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// What a vault takes.
#[derive(Debug)]
pub(crate) struct Token {
    pub(crate) secret: SecretString,
    pub(crate) ends: SystemTime,
}

/// A token for what the vault has asked for.
pub(crate) async fn fetch(settings: &AzureKeyvaultSettings, challenge: &Challenge, context: &Context) -> Result<Token, Error> {
    match &settings.credentials {
        Credentials::AzureCli(cli) => of_cli(cli, challenge, context),
        Credentials::ClientSecret(application) => of_application(application, settings, challenge, context).await,
        Credentials::ManagedIdentity(identity) => of_machine(identity, challenge, context).await,
        Credentials::WorkloadIdentity(identity) => of_workload(identity, settings, challenge, context).await,
    }
}

async fn of_application(
    application: &ClientSecret,
    settings: &AzureKeyvaultSettings,
    challenge: &Challenge,
    context: &Context,
) -> Result<Token, Error> {
    let secret = application.secret.resolve(context)?;
    let login = Login {
        authority: settings.authority().unwrap_or_default(),
        tenant: application.tenant.as_deref(),
        client_id: &application.client_id,
        proof: &[("client_secret", secret.expose())],
    };
    login.log_in(settings, challenge, context).await
}

async fn of_workload(
    identity: &WorkloadIdentity,
    settings: &AzureKeyvaultSettings,
    challenge: &Challenge,
    context: &Context,
) -> Result<Token, Error> {
    let variable = |name: &str| context.variable(name).map(|value| value.expose().to_owned()).filter(|value| !value.is_empty());
    let missing = |setting: &str, name: &str| {
        Error::new(ErrorKind::ConfigurationInvalid, format!("neither `{setting}` nor the variable {name} is set"))
            .with_next_step(format!("set `{setting}` in the target's credentials, or run where workload identity is set up"))
    };
    let client_id = identity.client_id.clone().or_else(|| variable("AZURE_CLIENT_ID"));
    let client_id = client_id.ok_or_else(|| missing("client_id", "AZURE_CLIENT_ID"))?;
    let file = identity.token_file.clone().or_else(|| variable("AZURE_FEDERATED_TOKEN_FILE").map(Into::into));
    let file = file.ok_or_else(|| missing("token_file", "AZURE_FEDERATED_TOKEN_FILE"))?;
    let authority = settings.authority().map(str::to_owned).or_else(|| variable("AZURE_AUTHORITY_HOST"));
    let authority = authority.ok_or_else(|| missing("authority", "AZURE_AUTHORITY_HOST"))?;
    let tenant = identity.tenant.clone().or_else(|| variable("AZURE_TENANT_ID"));
    let unusable = |message| Error::new(ErrorKind::ConfigurationInvalid, message);
    let (token, _) = read_source_file(context.host(), &file, TOKEN_FILE_LIMIT)
        .map_err(|error| unusable("the file with the federated token cannot be used").with_source(error))?;
    let token =
        std::str::from_utf8(token.expose()).map_err(|error| unusable("the federated token is no text").with_source(error))?;
    let login = Login {
        authority: &authority,
        tenant: tenant.as_deref(),
        client_id: &client_id,
        proof: &[("client_assertion_type", ASSERTION), ("client_assertion", token.trim())],
    };
    login.log_in(settings, challenge, context).await
}

/// An application that proves who it is (RFC 6749, section 4.4; RFC 7523 for assertions).
struct Login<'a> {
    authority: &'a str,
    tenant: Option<&'a str>,
    client_id: &'a str,
    proof: &'a [(&'a str, &'a str)],
}

impl Login<'_> {
    async fn log_in(&self, settings: &AzureKeyvaultSettings, challenge: &Challenge, context: &Context) -> Result<Token, Error> {
        let tenant = self.tenant.or(challenge.tenant.as_deref()).ok_or_else(|| {
            Error::new(ErrorKind::ConfigurationInvalid, "the vault does not name its tenant").with_next_step("set `tenant`")
        })?;
        let scope = format!("{}/.default", challenge.resource);
        let mut form = vec![("grant_type", "client_credentials"), ("client_id", self.client_id), ("scope", &scope)];
        form.extend(self.proof);
        form.extend(challenge.claims.as_deref().map(|claims| ("claims", claims)));
        let mut builder = Client::builder(self.authority).with_ca_file(settings.ca_file.clone());
        for (_, proof) in self.proof {
            builder = builder.with_withheld(&SecretString::from((*proof).to_owned()));
        }
        let client = builder.build(context)?;
        let answer = client.send(Request::post(&[tenant, "oauth2", "v2.0", "token"]).with_form(&form)).await?;
        match answer.status() {
            200 => Granted::read(&answer, context),
            400 | 401 => Err(Refused::read(&answer)),
            _ => Err(answer.error()),
        }
    }
}

async fn of_machine(identity: &ManagedIdentity, challenge: &Challenge, context: &Context) -> Result<Token, Error> {
    let (builder, request) = ask_machine(identity, context)?;
    let client = builder.with_timeout(Duration::from_secs(10)).build(context)?;
    let answer = client.send(request.with_query("resource", &challenge.resource)).await?;
    match answer.status() {
        200 => Granted::read(&answer, context),
        400 => {
            Err(Refused::read(&answer)
                .with_next_step("assign an identity to this machine, or name another one in the credentials"))
        }
        // It is being updated.
        404 | 410 => Err(Error::new(ErrorKind::Unavailable, format!("this machine gets no token now ({})", answer.status()))
            .with_retry(Retry::Later)),
        _ => Err(answer.error()),
    }
}

/// Whom to ask, and how: App Service says so in variables, and every virtual machine has the same address.
fn ask_machine(identity: &ManagedIdentity, context: &Context) -> Result<(ClientBuilder, Request), Error> {
    let variable = |name: &str| context.variable(name).filter(|value| !value.expose().is_empty());
    let unsupported = |what: &str| {
        let error = Error::new(ErrorKind::ConfigurationInvalid, format!("managed identities of {what} are not supported"));
        error.with_next_step("use `client_secret` or `workload_identity` in the target's credentials")
    };
    let named = |request: Request, resource_id: &str| {
        let name = |name| if name == "msi_res_id" { resource_id } else { name };
        identity.parameters().into_iter().fold(request, |request, (known, value)| request.with_query(name(known), value))
    };
    match (variable("IDENTITY_ENDPOINT"), variable("IDENTITY_HEADER")) {
        (Some(_), Some(_)) if variable("IDENTITY_SERVER_THUMBPRINT").is_some() => Err(unsupported("Service Fabric")),
        (Some(endpoint), Some(header)) => {
            let builder =
                Client::builder(endpoint.expose()).with_metadata_service().with_secret_header("x-identity-header", header);
            Ok((builder, named(Request::get(&[]).with_query("api-version", "2019-08-01"), "mi_res_id")))
        }
        (Some(_), None) if variable("IMDS_ENDPOINT").is_some() => Err(unsupported("Azure Arc")),
        _ => {
            // As Microsoft's clients have it, for what answers in the place of the real one.
            let host = variable("AZURE_POD_IDENTITY_AUTHORITY_HOST");
            let builder = Client::builder(host.as_ref().map_or(INSTANCE_METADATA, |host| host.expose())).with_metadata_service();
            let request = Request::get(&["metadata", "identity", "oauth2", "token"]).with_query("api-version", "2018-02-01");
            Ok((builder, named(request.with_header("metadata", "true"), "msi_res_id")))
        }
    }
}

fn of_cli(cli: &AzureCli, challenge: &Challenge, context: &Context) -> Result<Token, Error> {
    let program = cli.program.as_ref().map_or(OsStr::new("az"), |program| program.as_os_str());
    let mut arguments = vec![program];
    arguments.extend(["account", "get-access-token", "--output", "json", "--resource", &challenge.resource].map(OsStr::new));
    if let Some(tenant) = cli.tenant.as_deref().or(challenge.tenant.as_deref()) {
        arguments.extend(["--tenant", tenant].map(OsStr::new));
    }
    let mut command = Command::new(arguments);
    let home = context.variable("HOME").map(|home| home.expose().to_owned());
    command.environment.extend(home.map(|home| ("HOME".to_owned(), home)));
    if let Some(directory) = &cli.config_directory {
        command.environment.insert("AZURE_CONFIG_DIR".to_owned(), directory.display().to_string());
    }
    let limits = Limits::new(context.deadline(), Some(context.cancellation()));
    let failed = |message: String| {
        Error::new(ErrorKind::Unauthenticated, message).with_next_step("run `az login` as the user that certdeploy runs as")
    };
    let mut output = context
        .host()
        .run(&command, None, &limits)
        .map_err(|error| failed("the Azure CLI could not be run to its end".to_owned()).with_source(error))?;
    let stdout = SecretBytes::from(std::mem::take(&mut output.stdout));
    if !output.success() {
        return Err(failed(format!("the Azure CLI gives no token: {}", output.verdict())));
    }
    let Printed { token, ends } = serde_json::from_slice(stdout.expose())
        .map_err(|_| failed("the Azure CLI printed something else than a token".to_owned()))?;
    // `expiresOn`, which older ones print alone, is in local time.
    let ends = ends.map_or_else(|| context.host().now(), |ends| UNIX_EPOCH + Duration::from_secs(ends));
    Ok(Token { secret: token, ends })
}

#[derive(Deserialize)]
struct Printed {
    #[serde(rename = "accessToken", deserialize_with = "secret")]
    token: SecretString,
    #[serde(rename = "expires_on")]
    ends: Option<u64>,
}

/// What all of them answer. Machines write numbers as texts, and App Service gives the end alone.
#[derive(Deserialize)]
struct Granted {
    #[serde(deserialize_with = "secret")]
    access_token: SecretString,
    #[serde(default, deserialize_with = "number")]
    expires_in: Option<u64>,
    #[serde(default, deserialize_with = "number")]
    expires_on: Option<u64>,
}

impl Granted {
    fn read(answer: &Response, context: &Context) -> Result<Token, Error> {
        let Self { access_token, expires_in, expires_on } = answer.json()?;
        let now = context.host().now();
        let ends = match (expires_in, expires_on) {
            (Some(seconds), _) => now + Duration::from_secs(seconds),
            (None, Some(ends)) => UNIX_EPOCH + Duration::from_secs(ends),
            (None, None) => now,
        };
        Ok(Token { secret: access_token, ends })
    }
}

/// RFC 6749, section 5.2.
#[derive(Deserialize)]
struct Refused {
    error: String,
    #[serde(default)]
    error_description: String,
}

impl Refused {
    fn read(answer: &Response) -> Error {
        let said = match answer.json::<Self>() {
            Ok(Self { error, error_description }) => {
                answer.shown(&format!("{error}: {}", error_description.lines().next().unwrap_or_default()))
            }
            Err(_) => answer.message(),
        };
        Error::new(ErrorKind::Unauthenticated, format!("no token is given: {said}"))
            .with_next_step("check the credentials of the target, and whether the secret has expired; then run again")
    }
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

fn number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Number {
        Number(u64),
        Text(String),
    }
    Ok(match Option::deserialize(deserializer)? {
        Some(Number::Number(number)) => Some(number),
        Some(Number::Text(text)) => text.parse().ok(),
        None => None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn virtual_machine_is_asked_where_every_one_is_and_app_service_where_it_says() {
        let alone = Context::new("/nowhere", deploy_testkit::provider());
        let (builder, request) = ask_machine(&ManagedIdentity::default(), &alone).unwrap();
        let shown = format!("{:?} {request:?}", builder.build(&alone).unwrap());
        assert!(shown.contains("http://169.254.169.254/") && shown.ends_with("/metadata/identity/oauth2/token"), "{shown}");
        let on_app_service = alone.with_variables(|name| match name {
            "IDENTITY_ENDPOINT" => Some(SecretString::from("http://169.254.130.2:8081/msi/token".to_owned())),
            "IDENTITY_HEADER" => Some(SecretString::from("canary".to_owned())),
            _ => None,
        });
        let (builder, _) = ask_machine(&ManagedIdentity::default(), &on_app_service).unwrap();
        let shown = format!("{:?}", builder.build(&on_app_service).unwrap());
        assert!(shown.contains("http://169.254.130.2:8081/msi/token") && !shown.contains("canary"), "{shown}");
    }
}

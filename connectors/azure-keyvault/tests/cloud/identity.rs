//! Who gives tokens: Microsoft Entra ID to applications, and a virtual machine's metadata service to its identity.

use std::time::Duration;

use deploy_testkit::stand_in::{Answer, HttpRequest};
use serde_json::json;

use super::{RESOURCE, Tokens, parameters};

pub(crate) const TENANT: &str = "72f988bf-86f1-41af-91ab-2d7cd011db47";
pub(crate) const CLIENT: &str = "11111111-2222-3333-4444-555555555555";

/// Microsoft Entra ID with one application.
pub(crate) struct Login {
    pub(crate) url: String,
    secret: String,
    tokens: Tokens,
    /// The federated tokens that it takes: those of one service account.
    pub(crate) assertion: String,
    /// How long its tokens hold.
    pub(crate) holds: Duration,
    /// The claims that were asked for last.
    pub(crate) claims: Option<String>,
}

impl Login {
    pub(crate) fn new(secret: &str, tokens: &Tokens) -> Self {
        let (secret, tokens) = (secret.to_owned(), tokens.clone());
        Self { url: String::new(), secret, tokens, assertion: String::new(), holds: Duration::from_secs(3599), claims: None }
    }

    pub(crate) fn answer(request: &HttpRequest, state: &mut Self) -> Answer {
        let path = request.path.split('?').next().unwrap_or_default();
        match (request.method.as_str(), path.trim_start_matches(&format!("/{TENANT}/"))) {
            ("GET", "v2.0/.well-known/openid-configuration") => {
                let url = format!("{}/{TENANT}", state.url);
                Answer::new(200).with_json(&json!({
                    "issuer": format!("{url}/v2.0"),
                    "token_endpoint": format!("{url}/oauth2/v2.0/token"),
                    "authorization_endpoint": format!("{url}/oauth2/v2.0/authorize"),
                }))
            }
            ("POST", "oauth2/v2.0/token") => state.token(request),
            _ => refused(
                400,
                "invalid_request",
                "AADSTS90002: Tenant not found. Check to make sure you have the correct tenant ID.",
            ),
        }
    }

    fn token(&mut self, request: &HttpRequest) -> Answer {
        let content_type = request.header("content-type").unwrap_or_default();
        if !content_type.starts_with("application/x-www-form-urlencoded") {
            return refused(400, "invalid_request", "AADSTS900144: The request body must contain the parameter: 'grant_type'.");
        }
        let form = parameters(std::str::from_utf8(&request.body).unwrap());
        let field = |name: &str| form.get(name).map(String::as_str).unwrap_or_default();
        if field("grant_type") != "client_credentials" || field("client_id") != CLIENT {
            return refused(400, "unauthorized_client", "AADSTS700016: Application was not found in the directory.");
        }
        if field("scope").split(' ').all(|scope| scope != format!("{RESOURCE}/.default")) {
            return refused(400, "invalid_scope", "AADSTS70011: The provided request must include a 'scope' input parameter.");
        }
        let by_secret = field("client_secret") == self.secret;
        let by_assertion = field("client_assertion_type") == "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
            && !self.assertion.is_empty()
            && field("client_assertion") == self.assertion;
        if !by_secret && !by_assertion {
            let message = "AADSTS7000215: Invalid client secret provided.\r\nTrace ID: 0\r\nCorrelation ID: 0";
            return refused(401, "invalid_client", message);
        }
        self.claims = form.get("claims").cloned();
        let token = self.tokens.give(RESOURCE, self.holds);
        let seconds = self.holds.as_secs();
        Answer::new(200).with_json(
            &json!({ "token_type": "Bearer", "expires_in": seconds, "ext_expires_in": seconds, "access_token": token }),
        )
    }
}

/// The metadata service of a virtual machine, and the endpoint of App Service, which write numbers as texts.
pub(crate) fn of_machine(request: &HttpRequest, tokens: &mut Tokens) -> Answer {
    let (path, query) = request.path.split_once('?').unwrap_or((&request.path, ""));
    let query = parameters(query);
    let field = |name: &str| query.get(name).map(String::as_str).unwrap_or_default();
    let known = match (path, field("api-version")) {
        ("/metadata/identity/oauth2/token", "2018-02-01") => request.header("metadata") == Some("true"),
        ("/msi/token", "2019-08-01") => request.header("x-identity-header") == Some("header-of-app-service"),
        _ => false,
    };
    if request.method != "GET" || !known || field("resource") != RESOURCE {
        return refused(400, "invalid_request", "Required metadata header not specified, or an unknown resource");
    }
    if query.get("client_id").is_some_and(|client| client != CLIENT) {
        return refused(400, "invalid_request", "Identity not found");
    }
    let token = tokens.give(RESOURCE, Duration::from_secs(3599));
    let mut body = json!({
        "access_token": token, "client_id": CLIENT, "expires_on": "4102444800", "resource": RESOURCE, "token_type": "Bearer",
    });
    if path.starts_with("/metadata") {
        body["expires_in"] = json!("3599");
        body["not_before"] = json!("1700000000");
    }
    Answer::new(200).with_json(&body)
}

fn refused(status: u16, error: &str, description: &str) -> Answer {
    Answer::new(status).with_json(&json!({ "error": error, "error_description": description }))
}

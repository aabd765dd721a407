//! The shelf's API: strict about methods, headers, paths and bodies.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::objects::{State, Stored};
use crate::stand_in::{Answer, HttpRequest};

/// Answers one request.
pub(super) fn answer(request: &HttpRequest, state: &mut State) -> Answer {
    respond(request, state).unwrap_or_else(|refusal| refusal)
}

/// `Err` is a refusal.
type Response = Result<Answer, Answer>;

fn respond(request: &HttpRequest, state: &mut State) -> Response {
    let may_write = authenticate(request, state)?;
    let resource = Resource::find(&request.path)?;
    resource.check_method(&request.method)?;
    if request.is_changing() && !may_write {
        return Err(Answer::new(403).with_json(&json!({ "error": "forbidden", "permission": "certificates.write" })));
    }
    if matches!(request.method.as_str(), "PUT" | "DELETE") {
        state.let_others_pass();
    }
    match (resource, request.method.as_str()) {
        (Resource::Check, _) => check(request),
        (Resource::Listener(name), "GET") => show_listener(name, state),
        (Resource::Listener(name), _) => switch_listener(name, request, state),
        (Resource::Certificates, _) => Ok(list_certificates(state)),
        (Resource::Certificate(id), "DELETE") => remove_certificate(id, state),
        (Resource::Certificate(id), _) => put_certificate(id, request, state),
        (Resource::Key(id), _) => put_key(id, request, state),
    }
}

/// Whose token it is: whether it may write.
fn authenticate(request: &HttpRequest, state: &State) -> Result<bool, Answer> {
    let token = request.header("Authorization").and_then(|value| value.strip_prefix("Bearer "));
    match token {
        Some(token) if token == state.writer => Ok(true),
        Some(token) if token == state.reader => Ok(false),
        _ => Err(refusal(401, "no token, or an unknown one").with_header("WWW-Authenticate", "Bearer")),
    }
}

#[derive(Clone, Copy)]
enum Resource<'a> {
    Certificate(&'a str),
    Certificates,
    Check,
    Key(&'a str),
    Listener(&'a str),
}

impl<'a> Resource<'a> {
    fn find(path: &'a str) -> Result<Self, Answer> {
        let is_name = |text: &str| {
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
            (1..=100).contains(&text.len()) && text.bytes().all(plain)
        };
        let segments: Vec<&str> = path.split('/').collect();
        match segments[..] {
            ["", "v1", "check"] => Ok(Self::Check),
            ["", "v1", "certificates"] => Ok(Self::Certificates),
            ["", "v1", "certificates", id] if is_name(id) => Ok(Self::Certificate(id)),
            ["", "v1", "certificates", id, "key"] if is_name(id) => Ok(Self::Key(id)),
            ["", "v1", "listeners", name] if is_name(name) => Ok(Self::Listener(name)),
            _ => Err(refusal(404, "there is nothing at this path")),
        }
    }

    fn check_method(self, method: &str) -> Result<(), Answer> {
        let allowed: &[&str] = match self {
            Self::Certificate(_) => &["PUT", "DELETE"],
            Self::Certificates => &["GET"],
            Self::Check => &["POST"],
            Self::Key(_) => &["PUT"],
            Self::Listener(_) => &["GET", "PUT"],
        };
        if allowed.contains(&method) {
            return Ok(());
        }
        Err(refusal(405, &format!("{method} is not allowed here")).with_header("Allow", allowed.join(", ")))
    }
}

fn show_listener(name: &str, state: &State) -> Response {
    let listener = state.listeners.get(name).ok_or_else(|| refusal(404, "there is no such listener"))?;
    let answer = Answer::new(200).with_header("ETag", etag(listener.revision));
    Ok(answer.with_json(&json!({ "name": name, "certificate": listener.certificate })))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenerBody {
    /// Has to be there, and may be null.
    #[serde(deserialize_with = "Option::deserialize")]
    certificate: Option<String>,
}

fn switch_listener(name: &str, request: &HttpRequest, state: &mut State) -> Response {
    let ListenerBody { certificate } = json_body(request)?;
    let listener = state.listeners.get(name).ok_or_else(|| refusal(404, "there is no such listener"))?;
    match request.header("If-Match") {
        None => return Err(refusal(428, "If-Match is missing")),
        Some(revision) if revision != etag(listener.revision) => {
            return Err(refusal(412, "somebody else has changed the listener"));
        }
        Some(_) => {}
    }
    state.switch(name, certificate.as_deref()).map_err(|message| refusal(409, &message))?;
    show_listener(name, state)
}

fn list_certificates(state: &State) -> Answer {
    let object = |(id, stored): (&String, &Stored)| json!({ "id": id, "fingerprint": stored.fingerprint, "complete": stored.key.is_some(), "labels": stored.labels });
    Answer::new(200).with_json(&state.certificates.iter().map(object).collect::<Vec<_>>())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CertificateBody {
    fullchain: String,
    labels: BTreeMap<String, String>,
}

fn put_certificate(id: &str, request: &HttpRequest, state: &mut State) -> Response {
    let CertificateBody { fullchain, labels } = json_body(request)?;
    let new = Stored::new(&fullchain, labels).map_err(|message| refusal(422, &message))?;
    match state.certificates.get_mut(id) {
        Some(stored) if stored.chain != new.chain => Err(refusal(409, "another certificate has this ID")),
        Some(stored) => {
            stored.labels = new.labels;
            Ok(Answer::new(200))
        }
        None => {
            state.certificates.insert(id.to_owned(), new);
            Ok(Answer::new(201))
        }
    }
}

fn put_key(id: &str, request: &HttpRequest, state: &mut State) -> Response {
    check_content_type(request, "text/plain")?;
    let stored = state.certificates.get_mut(id).ok_or_else(|| refusal(404, "there is no such certificate"))?;
    let key = String::from_utf8(request.body.clone()).map_err(|_| refusal(422, "the key is not PEM"))?;
    crate::tls_server::check_pair(&stored.fullchain, &key).map_err(|message| refusal(422, &message))?;
    stored.key = Some(key);
    Ok(Answer::new(204))
}

fn remove_certificate(id: &str, state: &mut State) -> Response {
    if state.is_used(id) {
        return Err(refusal(409, "a listener uses the certificate"));
    }
    match state.certificates.remove(id) {
        Some(_) => Ok(Answer::new(204)),
        None => Err(refusal(404, "there is no such certificate")),
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckBody {
    fullchain: String,
    key: String,
}

fn check(request: &HttpRequest) -> Response {
    let CheckBody { fullchain, key } = json_body(request)?;
    let checked = Stored::new(&fullchain, BTreeMap::new()).and_then(|_| crate::tls_server::check_pair(&fullchain, &key));
    checked.map(|()| Answer::new(204)).map_err(|message| refusal(422, &message))
}

fn json_body<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Answer> {
    check_content_type(request, "application/json")?;
    serde_json::from_slice(&request.body).map_err(|error| refusal(400, &format!("the body: {error}")))
}

fn check_content_type(request: &HttpRequest, wanted: &str) -> Result<(), Answer> {
    let given = request.header("Content-Type").unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case(wanted) { Ok(()) } else { Err(refusal(415, &format!("only {wanted} is taken here"))) }
}

fn etag(revision: u64) -> String {
    format!("\"{revision}\"")
}

fn refusal(status: u16, message: &str) -> Answer {
    Answer::new(status).with_json(&json!({ "error": message }))
}

//! The operations, strict about headers, signatures, fields and material.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_testkit::stand_in::{Answer, HttpRequest};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::material::Material;
use super::signature::{self, Refusal};
use super::{State, Stored, Tags, operation};

const KEY_TYPES: [&str; 7] = ["RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1"];

pub(super) fn answer(request: &HttpRequest, state: &mut State) -> Answer {
    let answer = match respond(request, state) {
        Ok(body) => Answer::new(200).with_body(body.to_string()),
        Err((name, message)) => refusal(name, &message),
    };
    answer
        .with_header("Content-Type", "application/x-amz-json-1.1")
        .with_header("x-amzn-RequestId", "c6104cbe-af31-11e0-8154-cbc7ccf896c7")
}

/// As AWS refuses: by the name of an error, with status 400, or 500 for its own faults.
pub(crate) fn refusal(name: &str, message: &str) -> Answer {
    let status = if name == "InternalServerException" { 500 } else { 400 };
    // `AccessDeniedException` has a capital letter.
    let member = if name == "AccessDeniedException" { "Message" } else { "message" };
    Answer::new(status).with_body(json!({ "__type": name, member: message }).to_string())
}

type Response = Result<Value, Refusal>;

fn respond(request: &HttpRequest, state: &mut State) -> Response {
    if request.method != "POST" || request.path != "/" || operation(request).is_empty() {
        return Err(("UnknownOperationException", String::new()));
    }
    if request.header("content-type") != Some("application/x-amz-json-1.1") {
        return Err(("SerializationException", "another content type".to_owned()));
    }
    signature::check(request, &state.keys, &state.region, "acm")?;
    match operation(request) {
        "AddTagsToCertificate" => add_tags(&body(request)?, state),
        "DeleteCertificate" => delete(&body(request)?, state),
        "DescribeCertificate" => describe(&body(request)?, state),
        "GetCertificate" => get(&body(request)?, state),
        "ImportCertificate" => import(body(request)?, state),
        "ListCertificates" => list(&body(request)?, state),
        "ListTagsForCertificate" => list_tags(&body(request)?, state),
        _ => Err(("UnknownOperationException", String::new())),
    }
}

fn body<T: DeserializeOwned>(request: &HttpRequest) -> Result<T, Refusal> {
    serde_json::from_slice(&request.body).map_err(|error| ("SerializationException", error.to_string()))
}

fn invalid(message: impl Into<String>) -> Refusal {
    ("ValidationException", message.into())
}

fn not_found(arn: &str) -> Refusal {
    ("ResourceNotFoundException", format!("Could not find certificate {arn}."))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct ByArn {
    certificate_arn: String,
}

#[derive(Clone, Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Tag {
    key: String,
    value: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct Import {
    certificate: String,
    private_key: String,
    certificate_chain: Option<String>,
    certificate_arn: Option<String>,
    tags: Option<Vec<Tag>>,
}

fn import(import: Import, state: &mut State) -> Response {
    let field = |name: &str, value: &str, most: usize| {
        let bytes = STANDARD.decode(value).map_err(|error| ("SerializationException", format!("{name}: {error}")))?;
        if bytes.is_empty() || bytes.len() > most {
            return Err(invalid(format!("Value at '{name}' failed to satisfy constraint")));
        }
        String::from_utf8(bytes).map_err(|_| invalid(format!("{name} is not PEM")))
    };
    let leaf = field("certificate", &import.certificate, 32_768)?;
    let key = field("privateKey", &import.private_key, 8192)?;
    let chain = import.certificate_chain.as_deref().map(|chain| field("certificateChain", chain, 2_097_152)).transpose()?;
    if import.tags.is_some() && import.certificate_arn.is_some() {
        return Err(invalid("Tagging is not permitted on re-import."));
    }
    if import.tags.as_ref().is_some_and(Vec::is_empty) {
        return Err(invalid("Value at 'tags' failed to satisfy constraint"));
    }
    let tags = checked_tags(import.tags.as_deref().unwrap_or_default())?;
    let material = Material::read(&leaf, chain.as_deref().unwrap_or_default(), &key).map_err(invalid)?;
    if let Some(theirs) = state.overtaking.take() {
        let theirs = Material::read(&theirs.leaf_pem, &theirs.chain_pem, &theirs.key_pem).unwrap();
        let arn = import.certificate_arn.clone().unwrap();
        state.certificates.get_mut(&arn).unwrap().material = theirs;
        state.balance();
        return Err(("ConflictException", "Another change of the certificate is under way.".to_owned()));
    }
    let Some(arn) = import.certificate_arn else {
        let arn = state.insert(material, "IMPORTED", tags);
        return Ok(json!({ "CertificateArn": arn }));
    };
    let stored = existing(&arn, &state.certificates)?;
    if stored.kind != "IMPORTED" {
        return Err(invalid("Only imported certificates can be imported again."));
    }
    if stored.material.algorithm != material.algorithm {
        return Err(invalid("The key type and size cannot be changed."));
    }
    // Whether a wildcard stands for a name here is nowhere to be read.
    let keeps = |name: &String| {
        let wildcard = name.split_once('.').map(|(_, domain)| format!("*.{domain}"));
        material.names.contains(name) || wildcard.is_some_and(|wildcard| material.names.contains(&wildcard))
    };
    if !stored.material.names.iter().any(keeps) {
        return Err(invalid("You cannot remove all of the domain names from a certificate."));
    }
    state.remember();
    state.certificates.get_mut(&arn).unwrap().material = material;
    state.balance();
    Ok(json!({ "CertificateArn": arn }))
}

fn checked_tags(tags: &[Tag]) -> Result<Tags, Refusal> {
    let plain = |text: &str| text.chars().all(|c| c.is_alphanumeric() || c == ' ' || "_.:/=+-@".contains(c));
    for Tag { key, value } in tags {
        let value = value.as_deref().unwrap_or_default();
        if key.is_empty() || key.len() > 128 || value.len() > 256 || !plain(key) || !plain(value) {
            return Err(invalid("a tag fails to satisfy its constraint"));
        }
        if key.starts_with("aws:") || value.starts_with("aws:") {
            return Err(("InvalidTagException", "aws: is reserved".to_owned()));
        }
    }
    if tags.len() > 50 {
        return Err(("TooManyTagsException", "too many".to_owned()));
    }
    Ok(tags.iter().map(|tag| (tag.key.clone(), tag.value.clone().unwrap_or_default())).collect())
}

/// ARNs of others are malformed here, or of another account.
fn existing<'a>(arn: &str, certificates: &'a std::collections::BTreeMap<String, Stored>) -> Result<&'a Stored, Refusal> {
    if !arn.starts_with("arn:") || !arn.contains(":acm:") {
        return Err(("InvalidArnException", format!("{arn} is no ARN")));
    }
    certificates.get(arn).ok_or_else(|| not_found(arn))
}

/// As a read that may be behind sees it.
fn read<'a>(arn: &str, state: &'a mut State) -> Result<&'a Stored, Refusal> {
    if state.behind.is_some() {
        if state.lag > 0 {
            state.lag -= 1;
            return existing(arn, state.behind.as_ref().unwrap());
        }
        state.behind = None;
    }
    existing(arn, &state.certificates)
}

fn describe(ByArn { certificate_arn: arn }: &ByArn, state: &mut State) -> Response {
    let Stored { material, kind, in_use_by, .. } = read(arn, state)?;
    Ok(json!({ "Certificate": {
        "CertificateArn": arn, "DomainName": material.names[0], "SubjectAlternativeNames": material.names,
        "Type": kind, "Status": "ISSUED", "Serial": material.serial, "InUseBy": in_use_by,
        // The examples of the documentation have it in this form.
        "KeyAlgorithm": material.algorithm.replace('_', "-"), "ImportedAt": 1_764_475_200.0, "CreatedAt": 1_764_475_200.0,
    } }))
}

fn get(ByArn { certificate_arn: arn }: &ByArn, state: &mut State) -> Response {
    let Material { leaf, chain, .. } = &read(arn, state)?.material;
    let mut answer = json!({ "Certificate": leaf });
    if !chain.is_empty() {
        answer["CertificateChain"] = json!(chain);
    }
    Ok(answer)
}

fn delete(ByArn { certificate_arn: arn }: &ByArn, state: &mut State) -> Response {
    let stored = existing(arn, &state.certificates)?;
    // The load balancer, which finds its certificates by name, lets go of one that is deleted.
    let others = stored.in_use_by.iter().any(|user| !user.contains(":loadbalancer/app/front/"));
    if others {
        return Err(("ResourceInUseException", format!("Certificate {arn} is in use.")));
    }
    state.remember();
    state.certificates.remove(arn);
    state.balance();
    Ok(json!({}))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct List {
    includes: Option<Includes>,
    max_items: Option<usize>,
    next_token: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Includes {
    key_types: Option<Vec<String>>,
}

fn list(list: &List, state: &mut State) -> Response {
    let kinds = list.includes.as_ref().and_then(|includes| includes.key_types.clone());
    let kinds = kinds.unwrap_or_else(|| vec!["RSA_1024".to_owned(), "RSA_2048".to_owned()]);
    if let Some(unknown) = kinds.iter().find(|kind| !KEY_TYPES.contains(&kind.as_str())) {
        return Err(invalid(format!("{unknown} is no key type")));
    }
    let most = list.max_items.unwrap_or(100);
    if !(1..=1000).contains(&most) {
        return Err(invalid("Value at 'maxItems' failed to satisfy constraint"));
    }
    let start: usize = match &list.next_token {
        None => 0,
        Some(token) => token
            .strip_prefix("page-")
            .and_then(|number| number.parse().ok())
            .ok_or(("InvalidArgsException", "NextToken".to_owned()))?,
    };
    let page = most.min(state.page);
    let shown = state.certificates.iter().filter(|(_, stored)| kinds.iter().any(|kind| kind == stored.material.algorithm));
    let all: Vec<Value> = shown
        .map(|(arn, stored)| {
            let mut summary = json!({
                "CertificateArn": arn, "DomainName": stored.material.names[0], "KeyAlgorithm": stored.material.algorithm,
                "Type": stored.kind, "InUse": !stored.in_use_by.is_empty(), "HasAdditionalSubjectAlternativeNames": false,
            });
            summary["SubjectAlternativeNameSummaries"] = json!(stored.material.names);
            summary
        })
        .collect();
    let mut answer = json!({ "CertificateSummaryList": all.iter().skip(start).take(page).collect::<Vec<_>>() });
    if start + page < all.len() {
        answer["NextToken"] = json!(format!("page-{}", start + page));
    }
    Ok(answer)
}

fn list_tags(ByArn { certificate_arn: arn }: &ByArn, state: &mut State) -> Response {
    let tags = &existing(arn, &state.certificates)?.tags;
    Ok(json!({ "Tags": tags.iter().map(|(key, value)| json!({ "Key": key, "Value": value })).collect::<Vec<_>>() }))
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", deny_unknown_fields)]
struct AddTags {
    certificate_arn: String,
    tags: Vec<Tag>,
}

fn add_tags(request: &AddTags, state: &mut State) -> Response {
    existing(&request.certificate_arn, &state.certificates)?;
    let new = checked_tags(&request.tags)?;
    if request.tags.is_empty() {
        return Err(invalid("tags"));
    }
    let stored = state.certificates.get_mut(&request.certificate_arn).unwrap();
    if stored.tags.keys().chain(new.keys()).collect::<std::collections::BTreeSet<_>>().len() > 50 {
        return Err(("TooManyTagsException", "too many".to_owned()));
    }
    stored.tags.extend(new);
    Ok(json!({}))
}

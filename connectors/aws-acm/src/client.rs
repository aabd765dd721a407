//! The requests to ACM (docs.aws.amazon.com/acm/latest/APIReference), and no policy.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_aws::{Arn, Endpoint, Login, Problem, Service, Variant};
use deploy_core::digest::{hex, sha256};
use deploy_core::{Certificate, Context, Error, ErrorKind};
use deploy_http::Response;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::config::AwsAcmSettings;

/// All of them: a list leaves most out otherwise.
const KEY_TYPES: [&str; 7] = ["RSA_1024", "RSA_2048", "RSA_3072", "RSA_4096", "EC_prime256v1", "EC_secp384r1", "EC_secp521r1"];

/// As many as a list has at once.
const PAGE: u32 = 1000;

/// Credentials that end so soon are renewed before.
const MARGIN: Duration = Duration::from_secs(60);

pub(crate) type Tags = BTreeMap<String, String>;

/// ACM in one region, as one identity.
#[derive(Clone, Debug)]
pub(crate) struct Api {
    service: Service,
    region: String,
    expires: Option<SystemTime>,
}

/// What an import makes: the types keep tags away from an ARN.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Import<'a> {
    /// A new certificate with these tags.
    New(&'a Tags),
    /// A new content for this one.
    Onto(&'a str),
}

/// What ACM says of a certificate (`CertificateDetail`).
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Detail {
    /// `IMPORTED`, or what is ACM's own.
    pub(crate) r#type: String,
    /// `EC_prime256v1`, as in the service model; AWS's examples have `RSA-2048`, too.
    #[serde(default)]
    pub(crate) key_algorithm: String,
    #[serde(default)]
    pub(crate) subject_alternative_names: Vec<String>,
    /// The ARNs of what uses it.
    #[serde(default)]
    pub(crate) in_use_by: Vec<String>,
}

/// A part of a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Page {
    #[serde(default)]
    pub(crate) certificate_summary_list: Vec<Summary>,
    pub(crate) next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Summary {
    pub(crate) certificate_arn: String,
    /// Older endpoints leave it out.
    pub(crate) r#type: Option<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ByArn<'a> {
    certificate_arn: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListRequest<'a> {
    includes: Includes,
    max_items: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_token: Option<&'a str>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Includes {
    key_types: [&'static str; 7],
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ImportRequest<'a> {
    certificate: &'a str,
    private_key: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_chain: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    certificate_arn: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tags: Option<Vec<Tag<&'a str>>>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TagRequest<'a> {
    certificate_arn: &'a str,
    tags: Vec<Tag<&'a str>>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag<T> {
    key: T,
    value: Option<T>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Imported {
    certificate_arn: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Described {
    certificate: Detail,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Got {
    certificate: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Tagged {
    #[serde(default)]
    tags: Vec<Tag<String>>,
}

impl Api {
    /// Finds credentials, and asks ACM nothing yet.
    pub(crate) async fn open(settings: &AwsAcmSettings, context: &Context) -> Result<Self, Error> {
        let mut login = Login::default();
        login.access_key.clone_from(&settings.access_key);
        login.profile.clone_from(&settings.profile);
        login.role.clone_from(&settings.role);
        login.ca_file.clone_from(&settings.ca_file);
        let region = match (&settings.arn, &settings.region) {
            (Some(arn), _) => arn.parse::<Arn>()?.region().to_owned(),
            (None, Some(region)) => region.clone(),
            (None, None) => login.region(context)?,
        };
        let variable = || context.variable("AWS_ENDPOINT_URL_ACM").map(|url| url.expose().to_owned());
        let endpoint = match settings.endpoint.clone().or_else(variable) {
            Some(url) => Endpoint::at("acm", &region, url),
            None => Endpoint::variant("acm", &region, Variant::new(settings.fips, settings.dualstack)),
        };
        let credentials = login.credentials(&region, context).await?;
        let expires = credentials.expires();
        Ok(Self { service: Service::new(endpoint, credentials, settings.ca_file.clone(), context)?, region, expires })
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    /// Whether its credentials last for another call.
    pub(crate) fn lasts(&self, now: SystemTime) -> bool {
        self.expires.is_none_or(|expires| now + MARGIN < expires)
    }

    /// `None` if there is no such certificate.
    pub(crate) async fn describe(&self, arn: &str) -> Result<Option<Detail>, Error> {
        let answer = self.ask("DescribeCertificate", arn, &ByArn { certificate_arn: arn }).await?;
        existing(answer)?.map(|answer| Ok(answer.json::<Described>()?.certificate)).transpose()
    }

    /// SHA-256 of the leaf, in lowercase hexadecimal. `None` if there is no such certificate.
    pub(crate) async fn fingerprint(&self, arn: &str) -> Result<Option<String>, Error> {
        let answer = self.ask("GetCertificate", arn, &ByArn { certificate_arn: arn }).await?;
        existing(answer)?.map(|answer| fingerprint(&answer.json::<Got>()?.certificate)).transpose()
    }

    /// The next part of the list of all certificates, whatever their type of key.
    pub(crate) async fn list(&self, next_token: Option<&str>) -> Result<Page, Error> {
        let request = ListRequest { includes: Includes { key_types: KEY_TYPES }, max_items: PAGE, next_token };
        refusing(self.ask("ListCertificates", "the certificates", &request).await?)?.json()
    }

    /// `None` if there is no such certificate.
    pub(crate) async fn tags(&self, arn: &str) -> Result<Option<Tags>, Error> {
        let answer = self.ask("ListTagsForCertificate", arn, &ByArn { certificate_arn: arn }).await?;
        let read = |answer: Response| {
            let Tagged { tags } = answer.json()?;
            Ok(tags.into_iter().map(|Tag { key, value }| (key, value.unwrap_or_default())).collect())
        };
        existing(answer)?.map(read).transpose()
    }

    pub(crate) async fn add_tags(&self, arn: &str, tags: &Tags) -> Result<(), Error> {
        let request = TagRequest { certificate_arn: arn, tags: pairs(tags) };
        refusing(self.ask("AddTagsToCertificate", arn, &request).await?).map(drop)
    }

    /// Leaf, chain and key in one call. Returns the ARN.
    pub(crate) async fn import(&self, pair: &Certificate, import: Import<'_>) -> Result<String, Error> {
        let [leaf, chain] = [pair.leaf_pem(), pair.chain_pem()].map(|pem| STANDARD.encode(pem));
        let key = Zeroizing::new(STANDARD.encode(pair.key_pem().expose()));
        let (arn, tags, what) = match import {
            Import::New(tags) => (None, Some(pairs(tags)), "a new certificate"),
            Import::Onto(arn) => (Some(arn), None, arn),
        };
        let request = ImportRequest {
            certificate: &leaf,
            private_key: &key,
            certificate_chain: Some(&*chain).filter(|chain| !chain.is_empty()),
            certificate_arn: arn,
            tags,
        };
        Ok(refusing(self.ask("ImportCertificate", what, &request).await?)?.json::<Imported>()?.certificate_arn)
    }

    /// One that is gone already is fine.
    pub(crate) async fn delete(&self, arn: &str) -> Result<(), Error> {
        existing(self.ask("DeleteCertificate", arn, &ByArn { certificate_arn: arn }).await?).map(drop)
    }

    async fn ask(&self, operation: &'static str, what: &str, request: &impl Serialize) -> Result<Asked, Error> {
        let answer = self.service.call(&format!("CertificateManager.{operation}"), request).await?;
        Ok(Asked { action: format!("{operation} of {what}"), importing: operation == "ImportCertificate", answer })
    }
}

/// An answer, and what was asked for.
struct Asked {
    action: String,
    importing: bool,
    answer: Response,
}

/// The answer, or `None` if ACM has no such certificate.
fn existing(asked: Asked) -> Result<Option<Response>, Error> {
    match Problem::of(&asked.answer) {
        Some(problem) if problem.code == "ResourceNotFoundException" => Ok(None),
        _ => refusing(asked).map(Some),
    }
}

fn refusing(asked: Asked) -> Result<Response, Error> {
    match Problem::of(&asked.answer) {
        Some(problem) => Err(refused(&problem, &asked)),
        // Something on the way answers without the name of an error.
        None => asked.answer.accept(&[200]),
    }
}

/// Every error of ACM's service model; those that all services have are in `deploy-aws`.
fn refused(problem: &Problem, asked: &Asked) -> Error {
    let error = |kind| problem.refusal(kind, &asked.action);
    match problem.code.as_str() {
        "ConflictException" => error(ErrorKind::Conflict).with_next_step("see who else changes the certificate; then run again"),
        "InvalidArnException" | "ResourceNotFoundException" => error(ErrorKind::ConfigurationInvalid)
            .with_next_step("see whether `arn` is right, and of the account whose credentials are used; then run again"),
        "InvalidTagException" | "TagPolicyException" | "TooManyTagsException" => {
            error(ErrorKind::ConfigurationInvalid).with_next_step("correct `tags` or `found_by`, as AWS says; then run again")
        }
        "LimitExceededException" | "ServiceQuotaExceededException" => error(ErrorKind::PlanInvalid)
            .with_next_step("delete certificates that nothing uses, or have AWS raise the quota; then run again"),
        "RequestInProgressException" | "InvalidStateException" => {
            error(ErrorKind::PlanInvalid).with_next_step("name a certificate that was imported; then run again")
        }
        "ResourceInUseException" => error(ErrorKind::Conflict)
            .with_next_step("take the certificate off what uses it, and delete it by hand, if it is to go"),
        "InvalidArgsException"
        | "InvalidDomainValidationOptionsException"
        | "InvalidParameterException"
        | "ValidationException"
            if asked.importing =>
        {
            error(ErrorKind::MaterialRejected)
                .with_next_step("have a certificate issued that ACM takes, as it says; then run again")
        }
        _ => problem.error(&asked.action),
    }
}

fn pairs(tags: &Tags) -> Vec<Tag<&str>> {
    tags.iter().map(|(key, value)| Tag { key: key.as_str(), value: Some(value.as_str()) }).collect()
}

/// SHA-256 of a certificate in PEM.
fn fingerprint(pem: &str) -> Result<String, Error> {
    let der = CertificateDer::from_pem_slice(pem.as_bytes())
        .map_err(|error| Error::new(ErrorKind::Unavailable, "ACM answers with what is no certificate").with_source(error))?;
    Ok(hex(&sha256(&der)))
}

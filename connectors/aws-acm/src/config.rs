//! The settings of a target of the kind `aws-acm`. The doc comments are the reference page.

use std::collections::BTreeMap;
use std::path::PathBuf;

use deploy_aws::{AccessKey, Arn, Role};
use deploy_core::SettingError;
use deploy_core::probe::Endpoint;
use deploy_core::settings::{Period, check_endpoints, check_path, default_verify_timeout};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The tag by which a target finds its certificate.
const MARK: &str = "certdeploy-target";

/// As many tags as ACM takes.
const MOST_TAGS: usize = 50;

/// Which certificate of ACM, who imports it, and where success can be seen.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct AwsAcmSettings {
    /// The ARN of the imported certificate that is replaced. Its region is that of the target.
    ///
    /// Default: absent; then the certificate is found by the tags of `found_by`, and imported if there is none.
    /// Example: `arn = "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,

    /// The region, where there is no `arn`. CloudFront takes certificates of `us-east-1` only.
    ///
    /// Default: that of the ARN, or `AWS_REGION`, `AWS_DEFAULT_REGION`, or that of the profile.
    /// Example: `region = "eu-central-1"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,

    /// The tags by which the certificate is found where there is no `arn`: all of them have to be there.
    ///
    /// A certificate that is imported for the first time gets them. Two targets of one account and region need different
    /// ones. Default: `{ certdeploy-target = NAME }` with the name of the target.
    /// Example: `found_by = { Service = "shop", Stage = "production" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_by: Option<BTreeMap<String, String>>,

    /// More tags for the certificate. They are added or corrected; all others stay.
    ///
    /// Default: none.
    /// Example: `tags = { Owner = "web team" }`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,

    /// The profile of `~/.aws/config` and `~/.aws/credentials` that credentials come from.
    ///
    /// Default: absent; then they are searched for as the AWS SDKs do, see the page of the connector.
    /// Example: `profile = "certificates"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,

    /// An access key, instead of everything that would be searched.
    ///
    /// Default: absent.
    /// Example: `access_key = { id = "AKIAIOSFODNN7EXAMPLE", secret = "file:/etc/certdeploy/aws-secret" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<AccessKey>,

    /// A role that is assumed with the credentials that were found; its account is that of the certificate.
    ///
    /// Default: absent.
    /// Example: `role = { arn = "arn:aws:iam::123456789012:role/certificates", external_id = "them" }`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<Role>,

    /// The address of ACM, such as that of an interface endpoint in a private network.
    ///
    /// Default: `AWS_ENDPOINT_URL_ACM`, or the public one of the region.
    /// Example: `endpoint = "https://vpce-0123456789abcdef0-abcdefgh.acm.eu-central-1.vpce.amazonaws.com"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,

    /// A file of PEM certificates of the authorities that AWS's addresses are trusted by, instead of the machine's own roots.
    ///
    /// Default: absent.
    /// Example: `ca_file = "/etc/certdeploy/proxy-ca.pem"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_file: Option<PathBuf>,

    /// Whether ACM is reached at its FIPS endpoint.
    ///
    /// Default: `false`.
    /// Example: `fips = true`.
    #[serde(default)]
    pub fips: bool,

    /// Whether ACM is reached at its dual-stack endpoint, which has IPv6.
    ///
    /// Default: `false`.
    /// Example: `dualstack = true`.
    #[serde(default)]
    pub dualstack: bool,

    /// Where the certificate can be seen being served: a list of endpoints, all of which must.
    ///
    /// They are looked at as soon as ACM says that something uses the certificate. Without them, what ACM says counts: it is
    /// published, which is not yet served. Default: absent.
    /// Example: `verify = [{ connect = "www.example.com:443" }]`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub verify: Option<Vec<Endpoint>>,

    /// How long the new certificate may take to appear at the endpoints of `verify`.
    ///
    /// Default: `"15s"`.
    /// Example: `verify_timeout = "90s"`.
    #[serde(default = "default_verify_timeout")]
    pub verify_timeout: Period,
}

impl AwsAcmSettings {
    /// Everything at its default.
    #[must_use]
    pub fn new() -> Self {
        Self {
            arn: None,
            region: None,
            found_by: None,
            tags: BTreeMap::new(),
            profile: None,
            access_key: None,
            role: None,
            endpoint: None,
            ca_file: None,
            fips: false,
            dualstack: false,
            verify: None,
            verify_timeout: default_verify_timeout(),
        }
    }

    /// What is wrong with them, as far as can be told without a call.
    pub(crate) fn check(&self, target: &str) -> Result<(), SettingError> {
        if let Some(arn) = self.arn()? {
            if self.found_by.is_some() {
                return Err(SettingError::new("found_by", "it finds what `arn` names already: write one of the two"));
            }
            if self.region.as_deref().is_some_and(|region| region != arn.region()) {
                return Err(SettingError::new("region", format!("the ARN is of another region: {}", arn.region())));
            }
        }
        if let Some(region) = &self.region {
            check_region(region)?;
        }
        if let Some(role) = &self.role {
            let arn: Arn = role.arn.parse().map_err(|error| invalid("role.arn", &error))?;
            if arn.service() != "iam" || !arn.resource().starts_with("role/") {
                return Err(SettingError::new("role.arn", format!("`{arn}` is not the ARN of a role")));
            }
        }
        if self.access_key.is_some() && self.profile.is_some() {
            return Err(SettingError::new("profile", "it has no use beside `access_key`: write one of the two"));
        }
        if let Some(endpoint) = &self.endpoint {
            deploy_http::check_url(endpoint).map_err(|error| invalid("endpoint", &error))?;
            if self.fips || self.dualstack {
                return Err(SettingError::new("endpoint", "`fips` and `dualstack` choose an endpoint, too: write one of them"));
            }
        }
        if let Some(path) = &self.ca_file {
            check_path("ca_file", path)?;
        }
        check_tags("tags", &self.tags)?;
        check_tags("found_by", &self.mark(target))?;
        if self.tags.len() + self.mark(target).len() > MOST_TAGS {
            return Err(SettingError::new("tags", format!("a certificate has at most {MOST_TAGS} tags")));
        }
        check_endpoints("verify", self.verify.as_deref())
    }

    /// The tags by which the certificate of a target of this name is found; none if it is named.
    pub(crate) fn mark(&self, target: &str) -> BTreeMap<String, String> {
        match (&self.arn, &self.found_by) {
            (Some(_), _) => BTreeMap::new(),
            (None, Some(tags)) => tags.clone(),
            (None, None) => BTreeMap::from([(MARK.to_owned(), target.to_owned())]),
        }
    }

    fn arn(&self) -> Result<Option<Arn>, SettingError> {
        let Some(text) = &self.arn else { return Ok(None) };
        let arn: Arn = text.parse().map_err(|error| invalid("arn", &error))?;
        if arn.service() != "acm" || !arn.resource().starts_with("certificate/") {
            return Err(SettingError::new("arn", format!("`{arn}` is not the ARN of a certificate in ACM")));
        }
        check_region(arn.region()).map_err(|error| SettingError::new("arn", error.to_string()))?;
        Ok(Some(arn))
    }
}

impl Default for AwsAcmSettings {
    fn default() -> Self {
        Self::new()
    }
}

fn invalid(path: &str, error: &deploy_core::Error) -> SettingError {
    SettingError::new(path, error.full_message())
}

/// It becomes part of a host name.
fn check_region(region: &str) -> Result<(), SettingError> {
    let plain = region.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if plain && region.contains('-') {
        return Ok(());
    }
    Err(SettingError::new("region", format!("`{region}` is no region of AWS: it would be like eu-central-1")))
}

/// As in ACM's service model (`TagKey`, `TagValue`), and its rule against `aws:`.
fn check_tags(path: &str, tags: &BTreeMap<String, String>) -> Result<(), SettingError> {
    let plain = |text: &str| {
        text.chars().all(|c| c.is_alphanumeric() || (c.is_whitespace() && !c.is_control()) || "_.:/=+-@".contains(c))
    };
    for (key, value) in tags {
        let problem = match (key.chars().count(), value.chars().count()) {
            _ if !plain(key) || !plain(value) => "letters, digits, blanks and _ . : / = + - @ are all that it may have",
            _ if key.starts_with("aws:") || value.starts_with("aws:") => "what begins with `aws:` is AWS's own",
            (1..=128, 0..=256) => continue,
            _ => "a key has 1 to 128 characters, and a value at most 256",
        };
        return Err(SettingError::new(path, format!("ACM does not take the tag `{key}`: {problem}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(settings: &str) -> Option<String> {
        let settings: AwsAcmSettings = toml::from_str(settings).unwrap();
        settings.check("front").err().map(|error| error.path)
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_name() {
        let arn = "arn = \"arn:aws:acm:eu-west-1:123456789012:certificate/1-2\"\n";
        for (settings, expected) in [
            (String::new(), None),
            (arn.to_owned(), None),
            ("arn = \"arn:aws-cn:acm:cn-north-1:123456789012:certificate/1-2\"".to_owned(), None),
            ("arn = \"arn:aws-us-gov:acm:us-gov-west-1:123456789012:certificate/1-2\"".to_owned(), None),
            (format!("{arn}region = \"eu-west-1\""), None),
            (format!("{arn}region = \"eu-west-2\""), Some("region")),
            (format!("{arn}found_by = {{ a = \"b\" }}"), Some("found_by")),
            ("arn = \"arn:aws:iam::123456789012:server-certificate/a\"".to_owned(), Some("arn")),
            ("arn = \"arn:aws:acm:a.b:123456789012:certificate/a\"".to_owned(), Some("arn")),
            ("region = \"evil.example.com/\"".to_owned(), Some("region")),
            ("role = { arn = \"arn:aws:iam::1:user/a\" }".to_owned(), Some("role.arn")),
            ("endpoint = \"http://acm.example.com\"".to_owned(), Some("endpoint")),
            ("endpoint = \"https://acm.example.com\"\nfips = true".to_owned(), Some("endpoint")),
            ("ca_file = \"relative\"".to_owned(), Some("ca_file")),
            ("tags = { \"aws:x\" = \"y\" }".to_owned(), Some("tags")),
            ("tags = { x = \"<y>\" }".to_owned(), Some("tags")),
            ("tags = { \"\" = \"y\" }".to_owned(), Some("tags")),
            (format!("tags = {{ x = \"{}\" }}", "y".repeat(257)), Some("tags")),
            ("found_by = { x = \"a\\tb\" }".to_owned(), Some("found_by")),
            ("profile = \"p\"\naccess_key = { id = \"a\", secret = \"env:A\" }".to_owned(), Some("profile")),
        ] {
            assert_eq!(problem(&settings).as_deref(), expected, "{settings}");
        }
    }
}

//! What a vault answers to a request without a token: whose token it wants, and for what.
//!
//! An address that could ask for any token would be given tokens for other services. So what it asks for has to be the domain that
//! its address is below, as Microsoft's own clients demand, or what the settings say.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use deploy_core::{Error, ErrorKind};

use crate::config::AzureKeyvaultSettings;

/// A challenge that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Challenge {
    /// By number or name.
    pub(crate) tenant: Option<String>,
    /// `https://vault.azure.net`.
    pub(crate) resource: String,
    /// What a new token has to have (continuous access evaluation), as JSON.
    pub(crate) claims: Option<String>,
}

impl Challenge {
    /// From the header `WWW-Authenticate`. One that only asks for new claims repeats neither tenant nor resource: `before` has them.
    pub(crate) fn read(header: &str, settings: &AzureKeyvaultSettings, before: Option<&Self>) -> Result<Self, Error> {
        let unusable = |message: String| {
            Error::new(ErrorKind::ConfigurationInvalid, message).with_next_step("see whether `vault` is the address of a vault")
        };
        let asked = header.trim().split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some(parameters) = asked.map(|(_, rest)| parameters(rest)) else {
            return Err(unusable("the vault does not ask for a token of Microsoft Entra ID".to_owned()));
        };
        let value = |name: &str| parameters.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let claims = value("claims").and_then(|claims| URL_SAFE_NO_PAD.decode(claims.trim_end_matches('=')).ok());
        let claims = claims.and_then(|claims| String::from_utf8(claims).ok());
        if let (Some(before), true) = (before, claims.is_some()) {
            return Ok(Self { claims, ..before.clone() });
        }
        let resource = value("resource").or_else(|| value("scope").map(|scope| scope.trim_end_matches("/.default")));
        let Some(resource) = resource.map(|resource| resource.trim_end_matches('/')).filter(|resource| !resource.is_empty())
        else {
            return Err(unusable("the vault does not say what it wants a token for".to_owned()));
        };
        if !is_expected(resource, settings) {
            return Err(unusable(format!(
                "{} wants a token for {resource}, which is not the domain that its address is below",
                settings.vault_host()
            ))
            .with_next_step("if the vault is the right one, write that into `resource`"));
        }
        let tenant = value("authorization_uri").or_else(|| value("authorization")).and_then(tenant).map(str::to_owned);
        Ok(Self { tenant, resource: resource.to_owned(), claims })
    }
}

fn is_expected(resource: &str, settings: &AzureKeyvaultSettings) -> bool {
    match &settings.resource {
        Some(expected) => expected.trim_end_matches('/') == resource,
        None => host(resource).is_some_and(|domain| {
            settings.vault_host().ends_with(&format!(".{}", domain.to_ascii_lowercase())) && resource.starts_with("https://")
        }),
    }
}

/// The host of an absolute address, without its port.
pub(crate) fn host(url: &str) -> Option<&str> {
    let (_, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    Some(authority.rsplit_once(':').map_or(authority, |(host, _)| host))
}

/// The first segment of the path.
fn tenant(authority: &str) -> Option<&str> {
    let (_, rest) = authority.split_once("://")?;
    rest.split('/').nth(1).filter(|tenant| !tenant.is_empty())
}

/// `name="value"`, with commas or blanks between them (RFC 9110, section 11.2).
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').unwrap_or((quoted, "")),
            None => after.split_once([',', ' ']).unwrap_or((after, "")),
        };
        found.push((name.trim_matches([',', ' ']).to_ascii_lowercase(), value.to_owned()));
        rest = after;
    }
    found
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::config::{AzureCli, Credentials};

    const REAL: &str = r#"Bearer authorization="https://login.windows.net/72f988bf-86f1-41af-91ab-2d7cd011db47", resource="https://vault.azure.net""#;

    fn settings(vault: &str) -> AzureKeyvaultSettings {
        AzureKeyvaultSettings::new(vault, "www", Credentials::AzureCli(AzureCli::default()))
    }

    #[test]
    fn challenge_of_a_vault_is_read() {
        let vault = settings("https://example.vault.azure.net");
        let challenge = Challenge::read(REAL, &vault, None).unwrap();
        assert_eq!(challenge.tenant.as_deref(), Some("72f988bf-86f1-41af-91ab-2d7cd011db47"));
        assert_eq!((challenge.resource.as_str(), &challenge.claims), ("https://vault.azure.net", &None));
        let scope = r#"Bearer authorization_uri="https://login.microsoftonline.com/t", scope="https://vault.azure.net/.default""#;
        assert_eq!(Challenge::read(scope, &vault, None).unwrap().resource, "https://vault.azure.net");
    }

    #[test]
    fn p9_address_that_asks_for_tokens_for_others_gets_none() {
        for vault in [
            "https://example.vault.azure.net.evil.example",
            "https://examplevault.azure.net",
            "https://vault.azure.net",
            "https://example.vault.azure.cn",
            "https://127.0.0.1:8443",
        ] {
            let error = Challenge::read(REAL, &settings(vault), None).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid, "{vault}");
        }
        let vault = settings("https://Example.Vault.azure.net:443");
        assert!(Challenge::read(REAL, &vault, None).is_ok(), "names are compared without regard to case");
        for resource in ["https://management.azure.com", "http://vault.azure.net", "https://", "vault.azure.net", ""] {
            let header = format!(r#"Bearer authorization="https://login.windows.net/t", resource="{resource}""#);
            assert!(Challenge::read(&header, &vault, None).is_err(), "{resource}");
        }
        for header in ["", "Bearer", "Basic realm=\"a\"", "Bearer authorization=\"https://login.windows.net/t\""] {
            assert!(Challenge::read(header, &vault, None).is_err(), "{header}");
        }
    }

    #[test]
    fn p9_address_in_another_domain_may_only_ask_for_what_the_settings_say() {
        let mut vault = settings("https://vault.internal.example");
        vault.resource = Some("https://vault.azure.net/".to_owned());
        assert!(Challenge::read(REAL, &vault, None).is_ok());
        vault.resource = Some("https://vault.example".to_owned());
        assert!(Challenge::read(REAL, &vault, None).is_err());
    }

    #[test]
    fn new_claims_keep_tenant_and_resource() {
        let vault = settings("https://example.vault.azure.net");
        let before = Challenge::read(REAL, &vault, None).unwrap();
        let header = r#"Bearer authorization="https://login.windows-ppe.net/", error="invalid_token", claims="eyJhIjp7fX0=""#;
        let claims = Challenge::read(header, &vault, Some(&before)).unwrap();
        assert_eq!(claims, Challenge { claims: Some(r#"{"a":{}}"#.to_owned()), ..before });
    }

    #[test]
    fn clouds_have_their_own_authorities() {
        for (vault, authority) in [
            ("https://a.vault.azure.net", Some("https://login.microsoftonline.com")),
            ("https://a.vault.azure.cn/", Some("https://login.chinacloudapi.cn")),
            ("https://a.vault.usgovcloudapi.net", Some("https://login.microsoftonline.us")),
            ("https://vault.internal.example", None),
        ] {
            assert_eq!(settings(vault).authority(), authority, "{vault}");
        }
    }
}

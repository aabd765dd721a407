//! A service of AWS: signed requests, one at a time.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use deploy_core::host::Host;
use deploy_core::secret::SecretBytes;
use deploy_core::{Context, Error, ErrorKind};
use deploy_http::{Client, Request, Response};
use serde::Serialize;

use crate::credentials::Credentials;
use crate::endpoint::Endpoint;
use crate::signature::{Signing, timestamp};

/// A service, asked by one identity. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    client: Client,
    endpoint: Endpoint,
    credentials: Credentials,
    host: Arc<dyn Host>,
}

impl Service {
    /// Connects to nothing yet. A CA file replaces the machine's own roots.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigurationInvalid`]: the address or the CA file cannot be used, or the address has a path.
    pub fn new(endpoint: Endpoint, credentials: Credentials, ca_file: Option<PathBuf>, context: &Context) -> Result<Self, Error> {
        if !authority(&endpoint.url).1.trim_matches('/').is_empty() {
            let message = format!("the endpoint of {} has a path, and is the address of a host only", endpoint.service);
            return Err(Error::new(ErrorKind::ConfigurationInvalid, message));
        }
        let mut builder = Client::builder(&endpoint.url).with_ca_file(ca_file);
        if let Some(token) = &credentials.session_token {
            builder = builder.with_secret_header("x-amz-security-token", token.clone());
        }
        Ok(Self { client: builder.build(context)?, endpoint, credentials, host: context.host_handle() })
    }

    /// Asks for an operation of a service that speaks AWS JSON 1.1: `CertificateManager.ImportCertificate`.
    ///
    /// # Errors
    /// There is no whole answer; see [`Client::send`]. What the answer means is the caller's: [`crate::Problem`].
    pub async fn call(&self, target: &str, body: &impl Serialize) -> Result<Response, Error> {
        let body = SecretBytes::from_json(body)
            .map_err(|error| Error::new(ErrorKind::Internal, "a request that cannot be written as JSON").with_source(error))?;
        self.post("application/x-amz-json-1.1", Some(target), body).await
    }

    /// Asks a service that speaks the query protocol. The fields are no secrets: who asks is in the signature.
    pub(crate) async fn form(&self, fields: &[(&str, &str)]) -> Result<Response, Error> {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        self.post("application/x-www-form-urlencoded", None, SecretBytes::from(body.into_bytes())).await
    }

    async fn post(&self, content_type: &str, target: Option<&str>, body: SecretBytes) -> Result<Response, Error> {
        let timestamp = timestamp(self.host.now());
        let host = authority(&self.endpoint.url).0;
        let mut headers = vec![("content-type", content_type), ("host", &host), ("x-amz-date", &timestamp)];
        if let Some(token) = &self.credentials.session_token {
            headers.push(("x-amz-security-token", token.expose()));
        }
        headers.extend(target.map(|target| ("x-amz-target", target)));
        let Endpoint { service, region, .. } = &self.endpoint;
        let signing = Signing { service, region, headers: &headers, body: body.expose(), timestamp: &timestamp };
        let authorization = signing.authorization(&self.credentials)?;
        let mut request = Request::post(&[])
            .with_header("authorization", authorization)
            .with_header("x-amz-date", &*timestamp)
            .with_body(content_type, body);
        if let Some(target) = target {
            request = request.with_header("x-amz-target", target);
        }
        self.client.send(request).await
    }
}

/// Without the credentials.
impl fmt::Debug for Service {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Service").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

/// What `Host` is sent with, and the rest of a URL.
fn authority(url: &str) -> (String, &str) {
    let (scheme, rest) = url.split_once("://").unwrap_or(("https", url));
    let (authority, path) = rest.find('/').map_or((rest, ""), |slash| rest.split_at(slash));
    let default = if scheme.eq_ignore_ascii_case("http") { ":80" } else { ":443" };
    (authority.strip_suffix(default).unwrap_or(authority).to_ascii_lowercase(), path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_signed_as_it_is_sent() {
        for (url, expected) in [
            ("https://acm.eu-central-1.amazonaws.com", "acm.eu-central-1.amazonaws.com"),
            ("https://VPCE.example.com:443/", "vpce.example.com"),
            ("https://vpce.example.com:8443", "vpce.example.com:8443"),
            ("http://127.0.0.1:5000", "127.0.0.1:5000"),
            ("http://[::1]:80", "[::1]"),
        ] {
            assert_eq!(authority(url).0, expected);
        }
        assert_eq!(authority("https://a/b/c").1, "/b/c");
    }
}

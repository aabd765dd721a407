//! The client: whom it trusts, how it says who it is, and the one way to send a request.

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use deploy_core::host::Host;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Context, Error, ErrorKind};
use http_body_util::BodyExt as _;
use reqwest::header::{ETAG, HOST, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Url, redirect, retry};
use zeroize::Zeroizing;

use crate::elsewhere::{Elsewhere, authority, renamed};
use crate::failure;
use crate::request::Request;
use crate::response::Response;
use crate::roots;
use crate::shown::Shown;
use crate::tls;

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sends requests to one API. Cheap to clone; clones share connections.
#[derive(Clone)]
pub struct Client {
    client: reqwest::Client,
    base: Url,
    /// Whom errors name: the host, or the socket.
    remote: String,
    headers: HeaderMap,
    host: Arc<dyn Host>,
    limit: usize,
    shown: Shown,
}

impl Client {
    /// For the API at this base URL: `https://lb.example.com/api`. Paths of requests go below it.
    pub fn builder(url: &str) -> ClientBuilder {
        ClientBuilder {
            url: url.to_owned(),
            metadata_service: false,
            unix_socket: None,
            ca_file: None,
            ca_pem: None,
            identity: None,
            server_name: None,
            secret_headers: Vec::new(),
            secrets: Vec::new(),
            timeout: Duration::from_secs(30),
            limit: 1 << 20,
        }
    }

    /// The same with one more secret header, for a session that has just been opened. Both share connections.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigurationInvalid`]: the header cannot be sent.
    pub fn with_secret_header(&self, name: &str, value: &SecretString) -> Result<Self, Error> {
        let mut client = self.clone();
        let (name, header) = sensitive(name, value)?;
        client.headers.insert(name, header);
        client.shown = self.shown.and_without(value.clone());
        Ok(client)
    }

    /// Sends one request, and reads the answer to its end, whatever its status is; see [`Response::accept`].
    ///
    /// # Errors
    /// The request cannot be written, or there is no whole answer. [`ErrorKind::Unavailable`] and [`ErrorKind::Timeout`] say
    /// that a retry can help, where the remote is not reached, ends the connection, or takes too long: whether it did what
    /// it was asked is not known then. What fails in TLS is never retried: [`ErrorKind::Unauthenticated`] if the remote's
    /// certificate is not trusted, or if it does not trust ours.
    pub async fn send(&self, request: Request) -> Result<Response, Error> {
        let what = format!("{} {}", request.method(), self.shown.url(&request.url(&self.base)?));
        let mut message = request.into_message(&self.base)?;
        for (name, value) in &self.headers {
            message.headers_mut().insert(name, value.clone());
        }
        let failed = |error: reqwest::Error| failure::translate(&what, &self.remote, error);
        let answer = self.client.execute(message).await.map_err(failed)?;
        let (status, mut headers) = (answer.status().as_u16(), answer.headers().clone());
        let body = read_body(answer, &mut headers, self.limit).await.map_err(failed)?;
        let Some(body) = body else {
            let message = format!("the answer to {what} is longer than {} bytes", self.limit);
            return Err(Error::new(ErrorKind::Unavailable, message).with_next_step("see whether the URL leads to the API"));
        };
        Ok(Response::new(what, status, headers, body, self.host.now(), self.shown.clone()))
    }
}

/// Without the credentials.
impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("base", &self.shown.url(&self.base)).finish_non_exhaustive()
    }
}

/// What a [`Client`] is made of.
#[must_use]
pub struct ClientBuilder {
    url: String,
    metadata_service: bool,
    unix_socket: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    ca_pem: Option<Vec<u8>>,
    identity: Option<(Vec<u8>, SecretBytes)>,
    server_name: Option<String>,
    secret_headers: Vec<(String, SecretString)>,
    secrets: Vec<SecretString>,
    timeout: Duration,
    limit: usize,
}

impl ClientBuilder {
    /// Connects to this socket, whatever host the URL names. `Host` is sent without a value: a socket has no name, and Caddy
    /// 2.6 takes nothing else there.
    pub fn with_unix_socket(mut self, path: impl Into<PathBuf>) -> Self {
        self.unix_socket = Some(path.into());
        self
    }

    /// Also takes `http://` to where clouds give an instance or a container its credentials, which have no TLS: 169.254.0.0/16
    /// (link-local, RFC 3927) and `fd00:ec2::/32` (AWS). These addresses are answered by the machine below.
    pub fn with_metadata_service(mut self) -> Self {
        self.metadata_service = true;
        self
    }

    /// Trusts the authorities in this file of PEM certificates, and no others. It is read through the context's host, and
    /// may be 1 MiB long. `None` leaves the machine's roots.
    pub fn with_ca_file(mut self, path: impl Into<Option<PathBuf>>) -> Self {
        self.ca_file = path.into();
        self
    }

    /// The same with the certificates themselves.
    pub fn with_ca_pem(mut self, certificates: impl Into<Vec<u8>>) -> Self {
        self.ca_pem = Some(certificates.into());
        self
    }

    /// Shows this certificate and its chain where the remote asks for one (mutual TLS); all in PEM.
    pub fn with_client_certificate(mut self, fullchain: impl Into<Vec<u8>>, key: SecretBytes) -> Self {
        self.identity = Some((fullchain.into(), key));
        self
    }

    /// Asks for this name in TLS, and wants a certificate for it, whatever host the URL names: for an address behind which
    /// several names are, or one that the certificate does not have.
    pub fn with_server_name(mut self, name: impl Into<Option<String>>) -> Self {
        self.server_name = name.into();
        self
    }

    /// Says with every request who it is: `Authorization: Bearer TOKEN`.
    pub fn with_bearer_token(mut self, token: &SecretString) -> Self {
        self.secrets.push(token.clone());
        self.with_secret_header("authorization", SecretString::from(format!("Bearer {}", token.expose())))
    }

    /// The same with a user and a password: `Authorization: Basic ...` (RFC 7617).
    pub fn with_basic_auth(mut self, user: &str, password: &SecretString) -> Self {
        self.secrets.push(password.clone());
        let pair = Zeroizing::new(format!("{user}:{}", password.expose()));
        let value = Zeroizing::new(STANDARD.encode(pair.as_bytes()));
        self.with_secret_header("authorization", SecretString::from(format!("Basic {}", *value)))
    }

    /// The same with a header of the vendor's own. Where its value holds more than the secret, as after `Bearer`, the
    /// secret alone is not known, and errors withhold the whole value only.
    pub fn with_secret_header(mut self, name: &str, value: SecretString) -> Self {
        self.secrets.push(value.clone());
        self.secret_headers.push((name.to_owned(), value));
        self
    }

    /// Withholds a secret from errors that is sent some other way, as a password in the body of a log-in.
    pub fn with_withheld(mut self, secret: &SecretString) -> Self {
        self.secrets.push(secret.clone());
        self
    }

    /// Gives a request and its answer so much time. Default: 30 seconds.
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Reads so many bytes of a body. Default: 1 MiB.
    pub fn with_body_limit(mut self, bytes: usize) -> Self {
        self.limit = bytes;
        self
    }

    /// Makes the client. Connects to nothing.
    ///
    /// # Errors
    /// [`ErrorKind::ConfigurationInvalid`]: the URL, the CA file or a header cannot be used.
    pub fn build(self, context: &Context) -> Result<Client, Error> {
        let mut base = parse_url(&self.url, self.metadata_service)?;
        let roots = roots::trusted(base.scheme(), self.ca_file.as_deref(), self.ca_pem.as_deref(), context)?;
        let config = tls::client_config(roots, self.identity.as_ref(), context)?;
        let mut headers =
            self.secret_headers.iter().map(|(name, value)| sensitive(name, value)).collect::<Result<HeaderMap, _>>()?;
        let mut remote = base.host_str().unwrap_or_default().to_owned();
        let mut builder = reqwest::Client::builder();
        if let Some(socket) = self.unix_socket {
            remote = socket.display().to_string();
            headers.insert(HOST, HeaderValue::from_static(""));
            builder = builder.unix_socket(socket);
        }
        if let Some(name) = &self.server_name {
            headers.insert(HOST, authority(&base)?);
            builder = builder.dns_resolver(Elsewhere::at(&base));
            base = renamed(base, name)?;
        }
        let client = builder
            .tls_backend_preconfigured(config)
            .user_agent(concat!("certdeploy/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            .retry(retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT.min(self.timeout))
            .timeout(self.timeout)
            .build()
            .map_err(|error| Error::new(ErrorKind::Internal, "the HTTP client cannot be made").with_source(error))?;
        let shown = Shown::without(self.secrets);
        Ok(Client { client, base, remote, headers, host: context.host_handle(), limit: self.limit, shown })
    }
}

impl fmt::Debug for ClientBuilder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("ClientBuilder").field("ca_file", &self.ca_file).finish_non_exhaustive()
    }
}

/// Whether a text can be the base URL of a client: for a connector that checks its settings, before there is a context.
/// The error never shows the text, because a password may stand in it.
///
/// # Errors
/// [`ErrorKind::ConfigurationInvalid`]: it is no URL, is not `https://` (or `http://` to this machine), or has credentials, a
/// query or a fragment in it.
pub fn check_url(text: &str) -> Result<(), Error> {
    parse_url(text, false).map(drop)
}

fn parse_url(text: &str, metadata_service: bool) -> Result<Url, Error> {
    let invalid = |message: &str| Error::new(ErrorKind::ConfigurationInvalid, format!("the URL of the API {message}"));
    let url = Url::parse(text).map_err(|error| invalid("cannot be used").with_source(error))?;
    let host = url.host_str().unwrap_or_default();
    match url.scheme() {
        "https" => {}
        "http" if is_this_machine(host) || (metadata_service && is_metadata_service(host)) => {}
        "http" => return Err(invalid("begins with http://, which sends credentials in the clear").with_next_step("use https://")),
        _ => return Err(invalid("does not begin with https://")),
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(invalid("has credentials in it").with_next_step("give them as a secret reference of their own"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(invalid("has a query or a fragment, which a base URL cannot have"));
    }
    Ok(url)
}

fn is_this_machine(host: &str) -> bool {
    host == "localhost" || address(host).is_some_and(|address| address.is_loopback())
}

fn is_metadata_service(host: &str) -> bool {
    address(host).is_some_and(|address| match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.segments()[..2] == [0xfd00, 0x0ec2],
    })
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// A header that is not shown, and whose value is cleared when it is dropped.
fn sensitive(name: &str, value: &SecretString) -> Result<(HeaderName, HeaderValue), Error> {
    let invalid =
        |what: &str| Error::new(ErrorKind::ConfigurationInvalid, format!("the {what} of a secret header cannot be sent"));
    let name = HeaderName::try_from(name).map_err(|error| invalid("name").with_source(error))?;
    let bytes = Bytes::from_owner(Zeroizing::new(value.expose().as_bytes().to_vec()));
    // Its error says nothing but that, so that it is no loss.
    let mut value = HeaderValue::from_maybe_shared(bytes).map_err(|error| invalid("value").with_source(error))?;
    value.set_sensitive(true);
    Ok((name, value))
}

/// `None`: it is too long. An `ETag` may come after the body (Caddy 2.6 and 2.7), and counts as a header.
async fn read_body(
    answer: reqwest::Response,
    headers: &mut HeaderMap,
    limit: usize,
) -> Result<Option<SecretBytes>, reqwest::Error> {
    let announced = answer.content_length().unwrap_or_default();
    if announced > limit as u64 {
        return Ok(None);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(announced as usize));
    let mut stream = reqwest::Body::from(answer);
    while let Some(frame) = stream.frame().await.transpose()? {
        let chunk = match frame.into_data() {
            Ok(chunk) => chunk,
            Err(frame) => {
                let trailers = frame.into_trailers().unwrap_or_default();
                for (name, value) in trailers.iter().filter(|(name, _)| *name == ETAG) {
                    headers.entry(name).or_insert_with(|| value.clone());
                }
                continue;
            }
        };
        if body.len() + chunk.len() > limit {
            return Ok(None);
        }
        grow(&mut body, chunk.len());
        body.extend_from_slice(&chunk);
    }
    Ok(Some(SecretBytes::from(std::mem::take(&mut *body))))
}

/// Makes room without leaving a copy behind, as `Vec` would.
fn grow(body: &mut Zeroizing<Vec<u8>>, more: usize) {
    if body.capacity() - body.len() < more {
        let mut larger = Zeroizing::new(Vec::with_capacity((body.len() + more).max(2 * body.capacity())));
        larger.extend_from_slice(body);
        *body = larger;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p9_only_https_is_taken_except_to_this_machine() {
        for url in
            ["https://lb.example.com", "https://[::1]:8443/api/", "http://127.0.0.1:2019", "http://localhost", "http://[::1]"]
        {
            check_url(url).unwrap();
        }
        for url in ["http://lb.example.com", "http://10.0.0.1", "http://127.0.0.1.example.com", "ftp://a", "lb.example.com", ""] {
            assert_eq!(check_url(url).unwrap_err().kind(), ErrorKind::ConfigurationInvalid, "{url}");
        }
    }

    #[test]
    fn p9_metadata_service_is_reached_without_tls_only_where_it_is_asked_for() {
        for url in ["http://169.254.169.254", "http://169.254.170.2/v2/credentials", "http://[fd00:ec2::254]"] {
            assert_eq!(check_url(url).unwrap_err().kind(), ErrorKind::ConfigurationInvalid, "{url}");
            parse_url(url, true).unwrap();
        }
        for url in ["http://169.253.0.1", "http://[fd00:ec3::254]", "http://metadata.google.internal", "http://10.0.0.1"] {
            assert!(parse_url(url, true).is_err(), "{url}");
        }
    }

    #[test]
    fn s1_credentials_in_a_url_are_refused_and_not_shown() {
        for url in
            ["https://user:canary@lb.example.com", "https://canary@lb.example.com", "https://a/?token=canary", "https://:canary"]
        {
            let error = check_url(url).unwrap_err();
            assert!(!format!("{error:?} {}", error.full_message()).contains("canary"), "{error:?}");
        }
    }

    #[test]
    fn s1_secrets_are_not_in_debug_output() {
        let token = SecretString::from("canary".to_owned());
        let builder = Client::builder("https://127.0.0.1").with_bearer_token(&token);
        assert!(!format!("{builder:?}").contains("canary"));
        let (_, value) = sensitive("authorization", &token).unwrap();
        assert_eq!(format!("{value:?}"), "Sensitive");
        assert!(sensitive("authorization", &SecretString::from("two\nlines".to_owned())).is_err());
    }
}

//! A request: plain data until it is sent.

use std::fmt;

use bytes::Bytes;
use deploy_core::secret::SecretBytes;
use deploy_core::{Error, ErrorKind};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Body, Method, Url};
use serde::Serialize;

/// A request below the base URL of a client.
///
/// ```
/// use deploy_http::Request;
///
/// #[derive(serde::Serialize)]
/// struct Listener<'a> {
///     certificate: &'a str,
/// }
/// let request = Request::put(&["v1", "listeners", "front"])
///     .with_header("if-match", "\"7\"")
///     .with_json(&Listener { certificate: "www" });
/// assert_eq!(request.method(), "PUT");
/// ```
#[must_use]
pub struct Request {
    method: Method,
    path: Vec<String>,
    query: Vec<(String, String)>,
    headers: Vec<(String, String)>,
    body: Option<Result<SecretBytes, serde_json::Error>>,
}

impl Request {
    /// GET.
    pub fn get(path: &[&str]) -> Self {
        Self::new(Method::GET, path)
    }

    /// POST.
    pub fn post(path: &[&str]) -> Self {
        Self::new(Method::POST, path)
    }

    /// PUT.
    pub fn put(path: &[&str]) -> Self {
        Self::new(Method::PUT, path)
    }

    /// PATCH.
    pub fn patch(path: &[&str]) -> Self {
        Self::new(Method::PATCH, path)
    }

    /// DELETE.
    pub fn delete(path: &[&str]) -> Self {
        Self::new(Method::DELETE, path)
    }

    /// The path is given in segments, which are encoded: a name with a slash in it stays one segment. An empty one at the end is
    /// a slash at the end. Without segments, the request is for the base URL as it is.
    fn new(method: Method, path: &[&str]) -> Self {
        let path = path.iter().map(|segment| (*segment).to_owned()).collect();
        Self { method, path, query: Vec::new(), headers: Vec::new(), body: None }
    }

    /// `GET`.
    #[must_use]
    pub fn method(&self) -> &str {
        self.method.as_str()
    }

    /// With one more parameter in the query.
    pub fn with_query(mut self, name: &str, value: &str) -> Self {
        self.query.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With one more header. Secrets belong to the client: [`crate::ClientBuilder::with_secret_header`].
    pub fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this as JSON. The text is cleared when it is dropped; what it is made of is the caller's.
    pub fn with_json(mut self, body: &impl Serialize) -> Self {
        self.body = Some(SecretBytes::from_json(body));
        self.with_header(CONTENT_TYPE.as_str(), "application/json")
    }

    /// With these fields as a form (`application/x-www-form-urlencoded`), which may hold a secret.
    pub fn with_form(self, fields: &[(&str, &str)]) -> Self {
        // A byte takes three characters at most, so that the buffer never grows and leaves no copy behind.
        let length = fields.iter().map(|(name, value)| 3 * (name.len() + value.len()) + 2).sum();
        let mut form = form_urlencoded::Serializer::new(String::with_capacity(length));
        form.extend_pairs(fields);
        self.with_body("application/x-www-form-urlencoded", SecretBytes::from(form.finish().into_bytes()))
    }

    /// With these bytes, of this type: `text/plain`.
    pub fn with_body(mut self, content_type: &str, body: SecretBytes) -> Self {
        self.body = Some(Ok(body));
        self.with_header(CONTENT_TYPE.as_str(), content_type)
    }

    pub(crate) fn url(&self, base: &Url) -> Result<Url, Error> {
        let mut url = base.clone();
        if let [names @ .., last] = self.path.as_slice() {
            let mut segments = url.path_segments_mut().map_err(|()| defect("the URL of the API has no path"))?;
            // `..` and its encoded forms would lead out of the base: they are no names.
            let is_dots = |segment: &String| segment == "." || segment == "..";
            if names.iter().any(|segment| segment.is_empty() || is_dots(segment)) || is_dots(last) {
                return Err(defect("a segment of a path is empty or made of dots"));
            }
            segments.pop_if_empty().extend(&self.path);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        Ok(url)
    }

    pub(crate) fn into_message(self, base: &Url) -> Result<reqwest::Request, Error> {
        let mut message = reqwest::Request::new(self.method.clone(), self.url(base)?);
        for (name, value) in &self.headers {
            let unusable = || defect(&format!("the header {name} cannot be sent"));
            let value = HeaderValue::from_str(value).map_err(|error| unusable().with_source(error))?;
            let name = HeaderName::try_from(name).map_err(|error| unusable().with_source(error))?;
            message.headers_mut().insert(name, value);
        }
        if let Some(body) = self.body {
            let body = body.map_err(|error| defect("the body cannot be written as JSON").with_source(error))?;
            *message.body_mut() = Some(Body::from(Bytes::from_owner(Owned(body))));
        }
        Ok(message)
    }
}

/// Without headers and body.
impl fmt::Debug for Request {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} /{}", self.method, self.path.join("/"))
    }
}

/// Keeps a body in memory that is cleared as soon as nothing refers to it any more.
struct Owned(SecretBytes);

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        self.0.expose()
    }
}

fn defect(message: &str) -> Error {
    Error::new(ErrorKind::Internal, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_stay_below_the_base_and_are_encoded() {
        for (base, expected) in [
            ("https://a.test", "https://a.test/v1/x%2Fy%3Fz?limit=1%262"),
            ("https://a.test/api/", "https://a.test/api/v1/x%2Fy%3Fz?limit=1%262"),
        ] {
            let base = Url::parse(base).unwrap();
            let request = Request::get(&["v1", "x/y?z"]).with_query("limit", "1&2");
            assert_eq!(request.url(&base).unwrap().as_str(), expected);
            for segment in ["", ".", ".."] {
                assert!(Request::get(&["v1", segment, "x"]).url(&base).is_err(), "{segment:?}");
            }
            assert!(Request::get(&["v1", ".."]).url(&base).is_err());
        }
    }

    #[test]
    fn slash_at_the_end_stays_and_the_base_alone_is_as_it_was_given() {
        for base in ["https://a.test/api", "https://a.test/api/"] {
            let url = Url::parse(base).unwrap();
            assert_eq!(Request::get(&[]).url(&url).unwrap().as_str(), base);
            assert_eq!(Request::get(&["v1", ""]).url(&url).unwrap().as_str(), "https://a.test/api/v1/");
        }
    }

    #[test]
    fn s1_request_shows_neither_headers_nor_body() {
        let request = Request::put(&["v1"]).with_header("x-key", "canary").with_body("text/plain", b"canary"[..].into());
        assert_eq!(format!("{request:?}"), "PUT /v1");
    }
}

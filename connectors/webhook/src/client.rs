//! The requests to an endpoint, as the settings describe them, and no policy.

use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Context, Error, ErrorKind};
use deploy_http::{Client, Request, Response};

use crate::config::{Authorization, HeaderSetting, Method, RequestSettings, WebhookSettings};
use crate::fingerprint;
use crate::signature::sign;
use crate::template::{Json, Line, Values};

/// One endpoint, for one target.
#[derive(Debug)]
pub(crate) struct Api {
    client: Client,
    target: String,
    settings: WebhookSettings,
    signing_key: Option<SecretString>,
}

/// What the endpoint has live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) fingerprint: Option<String>,
    /// For `If-Match`.
    pub(crate) etag: Option<String>,
}

/// Headers that one request has and others do not.
#[derive(Debug, Default)]
pub(crate) struct Conditions<'a> {
    pub(crate) idempotency_key: Option<&'a str>,
    pub(crate) etag: Option<&'a str>,
}

impl Api {
    /// Fetches the secrets, and connects to nothing yet.
    pub(crate) fn new(settings: &WebhookSettings, target: &str, context: &Context) -> Result<Self, Error> {
        let mut builder = Client::builder(&settings.url).with_ca_file(settings.ca_file.clone());
        builder = match &settings.authorization {
            None => builder,
            Some(Authorization::Bearer(token)) => builder.with_bearer_token(&token.bearer.resolve(context)?),
            Some(Authorization::Basic(basic)) => builder.with_basic_auth(&basic.user, &basic.password.resolve(context)?),
        };
        for (name, value) in &settings.headers {
            if let HeaderSetting::Secret(header) = value {
                builder = builder.with_secret_header(name, header.secret.resolve(context)?);
            }
        }
        let signing_key = settings.signature.as_ref().map(|signature| signature.secret.resolve(context)).transpose()?;
        Ok(Self { client: builder.build(context)?, target: target.to_owned(), settings: settings.clone(), signing_key })
    }

    /// `None`: there is no way to ask.
    pub(crate) async fn find(&self, context: &Context) -> Result<Option<Found>, Error> {
        let Some(observe) = &self.settings.observe else { return Ok(None) };
        let values = Values::of_target(&self.target);
        let mut request = Request::get(&segments(&path(observe.path.as_ref(), &values)?));
        for (name, value) in &observe.query {
            request = request.with_query(name, value.fill(&values)?.expose());
        }
        let answer = self.client.send(self.signed(request, &[], context)?).await?;
        if answer.status() == 404 && observe.missing {
            return Ok(Some(Found::default()));
        }
        let answer = answer.accept_existing(&[200], "what `observe` asks for")?;
        let etag = answer.header("etag").filter(|_| observe.if_match).map(str::to_owned);
        Ok(Some(Found { fingerprint: fingerprint::read(&answer, observe)?, etag }))
    }

    /// What the dry run has against it, if anything. `None`: there is none.
    pub(crate) async fn check(&self, certificate: &Certificate, context: &Context) -> Result<Option<Result<(), String>>, Error> {
        let Some(request) = &self.settings.dry_run else { return Ok(None) };
        let answer = self.ask(request, certificate, &Conditions::default(), context).await?;
        match answer.status() {
            400 | 422 => Ok(Some(Err(answer.message()))),
            _ => succeeded(answer).map(|_| Some(Ok(()))),
        }
    }

    /// Whether it is done; otherwise it was accepted and will be (202).
    pub(crate) async fn send(
        &self,
        certificate: &Certificate,
        conditions: &Conditions<'_>,
        context: &Context,
    ) -> Result<bool, Error> {
        let answer = self.ask(&self.settings.send, certificate, conditions, context).await?;
        succeeded(answer).map(|answer| answer.status() != 202)
    }

    /// The same, on the way back.
    pub(crate) async fn restore(
        &self,
        certificate: &Certificate,
        conditions: &Conditions<'_>,
        context: &Context,
    ) -> Result<bool, Error> {
        let request = self.settings.restore.as_ref().unwrap_or(&self.settings.send);
        let answer = self.ask(request, certificate, conditions, context).await?;
        succeeded(answer).map(|answer| answer.status() != 202)
    }

    async fn ask(
        &self,
        settings: &RequestSettings,
        certificate: &Certificate,
        conditions: &Conditions<'_>,
        context: &Context,
    ) -> Result<Response, Error> {
        let values = Values::of_pair(&self.target, certificate)?;
        let path = path(settings.path.as_ref(), &values)?;
        let mut request = match settings.method {
            Method::Patch => Request::patch(&segments(&path)),
            Method::Post => Request::post(&segments(&path)),
            Method::Put => Request::put(&segments(&path)),
        };
        for (name, value) in &settings.query {
            request = request.with_query(name, value.fill(&values)?.expose());
        }
        if let Some(key) = conditions.idempotency_key.filter(|_| !self.settings.idempotency_header.is_empty()) {
            request = request.with_header(&self.settings.idempotency_header, key);
        }
        if let Some(etag) = conditions.etag {
            request = request.with_header("if-match", etag);
        }
        let (content_type, body) = body(settings, certificate, &values)?;
        let request = self.signed(request, body.expose(), context)?;
        self.client.send(request.with_body(content_type, body)).await
    }

    /// With the headers that every request has.
    fn signed(&self, mut request: Request, body: &[u8], context: &Context) -> Result<Request, Error> {
        for (name, value) in &self.settings.headers {
            if let HeaderSetting::Text(text) = value {
                request = request.with_header(name, text);
            }
        }
        if let (Some(settings), Some(key)) = (&self.settings.signature, &self.signing_key) {
            let signature = sign(key, context.host().now(), body)?;
            request = request
                .with_header(&settings.header, settings.prefix.clone() + &signature.hexadecimal)
                .with_header(&settings.timestamp_header, signature.timestamp);
        }
        Ok(request)
    }
}

fn succeeded(answer: Response) -> Result<Response, Error> {
    if (200..300).contains(&answer.status()) { Ok(answer) } else { Err(answer.error()) }
}

fn path(template: Option<&Line>, values: &Values<'_>) -> Result<Option<SecretString>, Error> {
    template.map(|template| template.fill(values)).transpose()
}

/// Without a template there are none.
fn segments(path: &Option<SecretString>) -> Vec<&str> {
    path.as_ref().map(|path| path.expose().split('/').collect()).unwrap_or_default()
}

fn body(
    settings: &RequestSettings,
    certificate: &Certificate,
    values: &Values<'_>,
) -> Result<(&'static str, SecretBytes), Error> {
    if let Some(parts) = &settings.pem {
        return Ok(("application/x-pem-file", certificate.combined_in_order(parts)));
    }
    let standard = Json::standard();
    let json = settings.json.as_ref().unwrap_or(&standard);
    let unwritable = |error| Error::new(ErrorKind::Internal, "the body cannot be written as JSON").with_source(error);
    Ok(("application/json", SecretBytes::from_json(&json.fill(values)).map_err(unwritable)?))
}

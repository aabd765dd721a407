//! The server's own thread: connections, TLS, and the way of one request.

use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use http_body_util::{BodyExt as _, Full};
use hyper::body::{Bytes, Incoming};
use hyper::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

use super::exchange::{Answer, HttpRequest, Record, Sent};
use super::fault::{Effect, Faults};
use super::lock;
use crate::pki::Issued;

type Handler<S> = dyn Fn(&HttpRequest, &mut S) -> Answer + Send + Sync;

pub(super) struct Shared<S> {
    pub(super) state: Mutex<S>,
    pub(super) faults: Faults,
    pub(super) record: Record,
    handler: Box<Handler<S>>,
    certificates: Option<Certificates>,
}

impl<S> Shared<S> {
    pub(super) fn new(
        state: S,
        handler: impl Fn(&HttpRequest, &mut S) -> Answer + Send + Sync + 'static,
        certificates: Option<Certificates>,
    ) -> Self {
        let (faults, record) = (Faults::default(), Record::default());
        Self { state: Mutex::new(state), faults, record, handler: Box::new(handler), certificates }
    }

    /// Does what is asked.
    fn take(&self, number: usize, request: &HttpRequest) -> Answer {
        let answer = (self.handler)(request, &mut lock(&self.state));
        self.record.taken(number);
        answer
    }
}

/// What it can present: the right one, and one that nobody trusts.
pub(super) struct Certificates {
    trusted: Arc<ServerConfig>,
    untrusted: Arc<ServerConfig>,
}

impl Certificates {
    pub(super) fn new(trusted: &Issued, untrusted: &Issued) -> Self {
        Self { trusted: config(trusted), untrusted: config(untrusted) }
    }
}

/// Why a connection is closed without an answer.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("closed on purpose")
    }
}

impl std::error::Error for Closed {}

/// Serves until the other end of `stopped` is dropped; then every open connection ends, answered or not.
pub(super) fn serve<S: Send + 'static>(listener: TcpListener, shared: &Arc<Shared<S>>, stopped: oneshot::Receiver<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        listener.set_nonblocking(true).expect("a socket that does not block");
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        tokio::spawn(accept(listener, Arc::clone(shared)));
        drop(stopped.await);
    });
}

async fn accept<S: Send + 'static>(listener: tokio::net::TcpListener, shared: Arc<Shared<S>>) {
    loop {
        let (stream, _) = listener.accept().await.expect("a connection");
        tokio::spawn(connection(stream, Arc::clone(&shared)));
    }
}

async fn connection<S: Send + 'static>(stream: TcpStream, shared: Arc<Shared<S>>) {
    let Some(certificates) = &shared.certificates else { return talk(stream, &shared).await };
    let config = if shared.faults.strike_connection() { &certificates.untrusted } else { &certificates.trusted };
    // A client that refuses the certificate ends the handshake.
    if let Ok(stream) = TlsAcceptor::from(Arc::clone(config)).accept(stream).await {
        talk(stream, &shared).await;
    }
}

async fn talk<S: Send + 'static>(stream: impl AsyncRead + AsyncWrite + Unpin, shared: &Arc<Shared<S>>) {
    let service = service_fn(|request| answer(Arc::clone(shared), request));
    let connection = hyper::server::conn::http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
    // It fails where the client went away, or where a fault closed it.
    drop(connection.await);
}

async fn answer<S>(shared: Arc<Shared<S>>, request: hyper::Request<Incoming>) -> Result<hyper::Response<Full<Bytes>>, Closed> {
    let request = read(request).await.ok_or(Closed)?;
    let number = shared.record.begin(&request);
    let answer = match shared.faults.strike(&request) {
        None | Some(Effect::UntrustedCertificate) => shared.take(number, &request),
        Some(Effect::Answer(answer)) => answer,
        Some(Effect::CloseBefore) => return Err(Closed),
        Some(Effect::CloseAfter) => {
            shared.take(number, &request);
            return Err(Closed);
        }
        Some(Effect::Late(delay)) => {
            let answer = shared.take(number, &request);
            tokio::time::sleep(delay).await;
            answer
        }
        Some(Effect::Twice) => {
            shared.take(number, &request);
            shared.take(number, &request)
        }
        Some(Effect::Never) => std::future::pending().await,
    };
    match answer.sent {
        Sent::Yes => {}
        Sent::Closed => return Err(Closed),
        Sent::Never => return std::future::pending().await,
    }
    shared.record.answered(number, answer.status);
    Ok(response(answer))
}

async fn read(request: hyper::Request<Incoming>) -> Option<HttpRequest> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.ok()?.to_bytes().to_vec();
    let path = head.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string);
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let headers = head.headers.iter().map(|(name, value)| (name.to_string(), text(value))).collect();
    Some(HttpRequest { method: head.method.to_string(), path, headers, body })
}

fn response(answer: Answer) -> hyper::Response<Full<Bytes>> {
    let mut headers = HeaderMap::new();
    for (name, value) in answer.headers {
        let name = HeaderName::try_from(&name).unwrap_or_else(|error| panic!("header {name:?}: {error}"));
        headers.append(name, HeaderValue::try_from(value).expect("the value of a header"));
    }
    let mut response = hyper::Response::new(Full::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).expect("a status");
    *response.headers_mut() = headers;
    response
}

fn config(issued: &Issued) -> Arc<ServerConfig> {
    let config = ServerConfig::builder_with_provider(crate::provider())
        .with_safe_default_protocol_versions()
        .expect("protocol versions")
        .with_no_client_auth()
        .with_single_cert(issued.certificates(), issued.private_key())
        .expect("a pair that matches");
    Arc::new(config)
}

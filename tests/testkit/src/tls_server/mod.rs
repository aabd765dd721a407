//! A small TLS server, threads and rustls, which serves what a test tells it to.

mod resolver;

use std::io::Write as _;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection};

use crate::listener::{Listener, close_gently};
use crate::pki::{Authority, Issued};
use resolver::Certificates;

/// A TLS server on 127.0.0.1. It completes the handshake, writes `ok\n` and closes. It stops when it is dropped.
pub struct TlsServer {
    // Dropped first, so that no connection outlives the rest.
    listener: Listener,
    certificates: Arc<Certificates>,
    files: Option<(PathBuf, PathBuf)>,
    handshakes: Arc<AtomicUsize>,
    swaps: Mutex<Vec<JoinHandle<()>>>,
    stopping: Arc<(Mutex<bool>, Condvar)>,
}

impl TlsServer {
    /// Serves one certificate on a free port.
    #[must_use]
    pub fn start(issued: &Issued) -> Self {
        Self::builder().certificate(issued).start()
    }

    /// To serve more than that.
    pub fn builder() -> TlsServerBuilder {
        TlsServerBuilder::default()
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.address()
    }

    /// From the next handshake on, serves this certificate to whoever asks for no name of [`TlsServerBuilder::for_name`].
    pub fn set_certificate(&self, issued: &Issued) {
        self.certificates.set_default(resolver::pair(issued));
    }

    /// The same for whoever asks for this name.
    pub fn set_certificate_for(&self, name: &str, issued: &Issued) {
        self.certificates.set_named(name, resolver::pair(issued));
    }

    /// From the next handshake on, serves a pair in PEM to whoever asks for no name of [`TlsServerBuilder::for_name`].
    ///
    /// # Errors
    ///
    /// One line that says what is wrong with the pair; then nothing changes.
    pub fn set_pem(&self, fullchain: &str, key: &str) -> Result<(), String> {
        self.certificates.set_default(resolver::pair_from_pem(fullchain, key)?);
        Ok(())
    }

    /// From the next handshake on, serves this certificate in place of the one with the same kind of key (ECDSA, RSA,
    /// Ed25519); those with other kinds stay. `None` stands for clients that ask for no name of
    /// [`TlsServerBuilder::for_name`].
    pub fn renew(&self, name: Option<&str>, issued: &Issued) {
        self.certificates.renew(name, resolver::pair(issued));
    }

    /// From now on, has no certificate for clients that ask for no name of [`TlsServerBuilder::for_name`].
    pub fn clear_certificate(&self) {
        self.certificates.clear_default();
    }

    /// Does as [`Self::set_certificate`] after a delay, in the background.
    pub fn swap_after(&self, delay: Duration, issued: &Issued) {
        let pair = resolver::pair(issued);
        self.later(delay, move |certificates| certificates.set_default(pair));
    }

    /// Does as [`Self::renew`] after a delay, in the background.
    pub fn renew_after(&self, delay: Duration, name: Option<&str>, issued: &Issued) {
        let (name, pair) = (name.map(str::to_owned), resolver::pair(issued));
        self.later(delay, move |certificates| certificates.renew(name.as_deref(), pair));
    }

    fn later(&self, delay: Duration, change: impl FnOnce(&Certificates) + Send + 'static) {
        let (certificates, stopping) = (Arc::clone(&self.certificates), Arc::clone(&self.stopping));
        let swap = std::thread::spawn(move || {
            let guard = stopping.0.lock().unwrap_or_else(PoisonError::into_inner);
            let (guard, _) = stopping.1.wait_timeout_while(guard, delay, |stop| !*stop).unwrap_or_else(PoisonError::into_inner);
            if !*guard {
                change(&certificates);
            }
        });
        self.swaps.lock().unwrap_or_else(PoisonError::into_inner).push(swap);
    }

    /// Reads the files of [`TlsServerBuilder::files`] again. A pair that does not load or match changes nothing.
    ///
    /// # Errors
    ///
    /// One line that says what is wrong with the files.
    pub fn reload(&self) -> Result<(), String> {
        let (fullchain, key) = self.files.as_ref().ok_or("this server has no files")?;
        self.certificates.set_default(resolver::load(fullchain, key)?);
        Ok(())
    }

    /// How many connections were accepted.
    #[must_use]
    pub fn accepted(&self) -> usize {
        self.listener.accepted()
    }

    /// How many handshakes were completed.
    #[must_use]
    pub fn handshakes(&self) -> usize {
        self.handshakes.load(Ordering::SeqCst)
    }

    /// The server name of every handshake so far, `None` where the client sent none.
    #[must_use]
    pub fn server_names(&self) -> Vec<Option<String>> {
        self.certificates.server_names()
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        *self.stopping.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.stopping.1.notify_all();
        for swap in self.swaps.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            drop(swap.join());
        }
    }
}

impl std::fmt::Debug for TlsServer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("TlsServer").field("address", &self.address()).finish_non_exhaustive()
    }
}

/// What a [`TlsServer`] serves, and how.
#[derive(Debug)]
#[must_use]
pub struct TlsServerBuilder {
    address: SocketAddr,
    certificates: Certificates,
    files: Option<(PathBuf, PathBuf)>,
    wait_for_files: bool,
    tls12_only: bool,
    client_roots: Option<RootCertStore>,
}

impl Default for TlsServerBuilder {
    fn default() -> Self {
        Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificates: Certificates::default(),
            files: None,
            wait_for_files: false,
            tls12_only: false,
            client_roots: None,
        }
    }
}

impl TlsServerBuilder {
    /// Serves this certificate by default. Called again with another kind of key, it makes a server with several: a client
    /// gets the first one whose key can sign in a way that the client accepts.
    pub fn certificate(self, issued: &Issued) -> Self {
        self.certificates.add_default(resolver::pair(issued));
        self
    }

    /// Serves this certificate to clients that ask for `name`; called again for one name, as [`Self::certificate`].
    pub fn for_name(self, name: &str, issued: &Issued) -> Self {
        self.certificates.add_named(name, resolver::pair(issued));
        self
    }

    /// Serves this pair of PEM files by default, as they are at the start and at each [`TlsServer::reload`].
    pub fn files(mut self, fullchain: &Path, key: &Path) -> Self {
        self.files = Some((fullchain.to_owned(), key.to_owned()));
        self
    }

    /// Starts without a usable pair, too, and closes connections until the first good [`TlsServer::reload`].
    pub fn wait_for_files(mut self) -> Self {
        self.wait_for_files = true;
        self
    }

    /// Listens here instead of on a free port of 127.0.0.1.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.address = address;
        self
    }

    /// Speaks TLS 1.2 and nothing newer.
    pub fn tls12_only(mut self) -> Self {
        self.tls12_only = true;
        self
    }

    /// Insists on a client certificate from this authority.
    pub fn require_client_certificate(mut self, authority: &Authority) -> Self {
        let mut roots = RootCertStore::empty();
        roots.add(authority.root_der().into()).expect("a root");
        self.client_roots = Some(roots);
        self
    }

    /// Starts it.
    ///
    /// # Panics
    ///
    /// When [`Self::try_start`] fails.
    #[must_use]
    pub fn start(self) -> TlsServer {
        self.try_start().unwrap_or_else(|error| panic!("can't start the TLS server: {error}"))
    }

    /// Starts it.
    ///
    /// # Errors
    ///
    /// One line of text when the files do not load, or the address cannot be listened on.
    pub fn try_start(self) -> Result<TlsServer, String> {
        let config = Arc::new(self.config()?);
        let certificates = Arc::new(self.certificates);
        if let Some((fullchain, key)) = &self.files {
            match resolver::load(fullchain, key) {
                Ok(pair) => certificates.set_default(pair),
                Err(_) if self.wait_for_files => {}
                Err(error) => return Err(error),
            }
        }
        let handshakes = Arc::new(AtomicUsize::new(0));
        let (resolver, completed) = (Arc::clone(&certificates), Arc::clone(&handshakes));
        let listener = Listener::start(self.address, move |stream| {
            if resolver.is_empty() {
                return;
            }
            let mut config = ServerConfig::clone(&config);
            config.cert_resolver = Arc::<Certificates>::clone(&resolver);
            if handshake(stream, config).is_some() {
                completed.fetch_add(1, Ordering::SeqCst);
            }
        });
        let listener = listener.map_err(|error| format!("can't listen on {}: {error}", self.address))?;
        Ok(TlsServer { listener, certificates, files: self.files, handshakes, swaps: Mutex::default(), stopping: Arc::default() })
    }

    fn config(&self) -> Result<ServerConfig, String> {
        let provider = crate::provider();
        let versions = if self.tls12_only { vec![&rustls::version::TLS12] } else { rustls::ALL_VERSIONS.to_vec() };
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| error.to_string())?;
        let builder = match &self.client_roots {
            None => builder.with_no_client_auth(),
            Some(roots) => {
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots.clone()), provider);
                builder.with_client_cert_verifier(verifier.build().map_err(|error| error.to_string())?)
            }
        };
        Ok(builder.with_cert_resolver(Arc::new(Certificates::default())))
    }
}

/// Whether a pair in PEM loads and matches.
pub(crate) fn check_pair(fullchain: &str, key: &str) -> Result<(), String> {
    resolver::pair_from_pem(fullchain, key).map(drop)
}

/// Speaks TLS on this connection as a server with one certificate; `None` when the handshake fails.
pub(crate) fn serve_once(stream: TcpStream, issued: &Issued) -> Option<()> {
    let mut config = TlsServerBuilder::default().config().expect("a configuration");
    let certificates = Certificates::default();
    certificates.add_default(resolver::pair(issued));
    config.cert_resolver = Arc::new(certificates);
    handshake(stream, config)
}

fn handshake(mut stream: TcpStream, config: ServerConfig) -> Option<()> {
    let mut connection = ServerConnection::new(Arc::new(config)).expect("a server connection");
    while connection.is_handshaking() {
        if connection.complete_io(&mut stream).is_err() {
            // The alert that says why is worth delivering.
            close_gently(&mut stream);
            return None;
        }
    }
    connection.writer().write_all(b"ok\n").ok()?;
    connection.send_close_notify();
    while connection.wants_write() {
        connection.write_tls(&mut stream).ok()?;
    }
    close_gently(&mut stream);
    Some(())
}

#[cfg(test)]
mod tests;

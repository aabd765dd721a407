//! Parts for testing certdeploy and connectors to it: certificates, TLS servers that can be told what to serve and how to
//! fail, peers that speak STARTTLS, a real nginx, stand-ins for APIs, and a look at what is served.
//!
//! ```
//! use deploy_testkit::{Authority, Request, TlsServer, observe};
//!
//! let authority = Authority::new();
//! let old = authority.issue(&Request::new(&["www.example.test"]));
//! let new = authority.issue(&Request::new(&["www.example.test"]));
//! let server = TlsServer::start(&old);
//! assert_eq!(observe::served_fingerprint(server.address(), Some("www.example.test")).unwrap(), old.fingerprint);
//! server.set_certificate(&new);
//! assert_eq!(observe::served_fingerprint(server.address(), None).unwrap(), new.fingerprint);
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "test code: a fixture that can't be set up ends the test, and fixtures write files and start processes"
)]

pub mod canary;
pub mod conformance;
pub mod events;
pub mod fixtures;
mod installed;
mod listener;
mod loopback;
pub mod nginx;
pub mod observe;
pub mod pki;
pub mod plain_peer;
mod plan_text;
pub mod reloading_server;
pub mod scripted_command;
pub mod shelf;
pub mod sshd;
pub mod stand_in;
pub mod starttls_peer;
pub mod tls_server;
pub mod tree;

pub use canary::Canary;
pub use installed::installed;
pub use loopback::{own_address, own_addresses};
pub use nginx::{Nginx, NginxConfig, find_nginx};
pub use pki::{Authority, Issued, KeyKind, Request, write_pair};
pub use plain_peer::{PlainBehaviour, PlainPeer};
pub use plan_text::plan_text;
pub use reloading_server::ReloadingServer;
pub use scripted_command::{Order, ScriptedCommand};
pub use sshd::{Relay, Sshd};
pub use starttls_peer::{Fault, PlainProtocol, StartTlsPeer};
pub use tls_server::{TlsServer, TlsServerBuilder};

use std::sync::Arc;

/// The crypto provider of the tests: aws-lc-rs, made anew; nothing is installed globally.
#[must_use]
pub fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

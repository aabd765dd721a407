//! The engine that puts renewed TLS certificates live, proven, or not at all.
//!
//! A connector describes a deployment, as plain data ([`Plan`]) or as a few small calls ([`Push`]); this crate carries it out:
//! locks, staging, validation by the target's own checker, a journal, the switch, reload, a look on the wire, and the way
//! back when anything of that fails or the process dies.
//!
//! ```no_run
//! use std::sync::Arc;
//!
//! use deploy_core::command::Command;
//! use deploy_core::probe::Endpoint;
//! use deploy_core::{Certificate, Context, Hooks, Plan, PlanFile, Reload, Role, Validate, Verify};
//!
//! # async fn example(fullchain: Vec<u8>, key: deploy_core::secret::SecretBytes) -> Result<(), Box<dyn std::error::Error>> {
//! let certificate = Certificate::from_pem(&fullchain, &key)?;
//! let hooks = Hooks::new()
//!     .with_validate(Validate::new(Command::new(["nginx", "-t"])))
//!     .with_reload(Reload::Command(Command::new(["nginx", "-s", "reload"])))
//!     .with_verify(Verify::endpoints([Endpoint::new("127.0.0.1:443").with_server_name("www.example.com")]));
//! let plan = Plan::new("front")
//!     .with_file(PlanFile::new("/etc/nginx/tls/www.crt", Role::Fullchain, certificate.fullchain_pem()))
//!     .with_file(PlanFile::new("/etc/nginx/tls/www.key", Role::Key, certificate.key_pem()))
//!     .with_hooks(hooks);
//!
//! let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
//! let context = Context::new("/var/lib/my-agent", provider);
//! let report = plan.apply(&context).await.into_result()?;
//! println!("{}: {}", report.target, report.outcome.name());
//! # Ok(())
//! # }
//! ```
//!
//! What is absent, on purpose: any product's name, HTTP, a global crypto provider, printing, reading the environment,
//! starting a runtime. [`atomic_write_file`] is the one-file version of all this, and needs nothing else of the crate.

pub mod atomic;
pub mod certificate;
pub mod command;
mod connector;
mod context;
mod destination;
pub mod digest;
mod discovery;
mod engine;
mod error;
mod event;
mod generation;
mod history;
mod hooks;
pub mod host;
mod journal;
mod lock;
mod plan;
pub mod probe;
mod push;
mod report;
mod route;
pub mod secret;
pub mod settings;
pub mod staged_view;
mod state;
mod target;
mod vault;

/// What the signatures of a connector need of other crates, in the versions that this one has.
pub use {async_trait::async_trait, rustls::crypto::CryptoProvider, schemars, serde};

pub use atomic::{WriteError, WriteOptions, Written, atomic_write_file};
pub use certificate::{Certificate, CertificateSource, MaterialError, PemFiles};
pub use connector::{Connector, Entry, Registry, SettingError};
pub use context::{Cancellation, Context};
pub use destination::Destination;
pub use discovery::{Found, Look, endpoint_at};
pub use engine::{
    EndpointStatus, FileAction, FilePreview, FileState, Job, Preview, Recovered, RecoveryScope, SetStatus, SharedDestination,
    TargetState, TargetStatus, Verification, deploy, preview, recover, rollback, shared_destination, status, verify,
};
pub use error::{Error, ErrorKind, Retry};
pub use event::{Discard, Event, EventSink};
pub use hooks::{Hooks, Minimal, Reload, ReloadCall, Validate, Verify};
pub use plan::{Content, Defaults, Layout, LinkPolicy, Plan, PlanFile, Role};
pub use push::{Observed, Push, Snapshot, Validation};
pub use report::{Degraded, Fingerprints, Live, Outcome, Report, Rung, Stage};
pub use route::{Remote, Route, RouteEntry};
pub use target::{Capabilities, Deployment, Recovery, Target};

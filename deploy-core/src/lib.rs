//! The engine that puts renewed TLS certificates live, proven, or not at all.

pub mod atomic;
pub mod certificate;
pub mod command;
mod connector;
mod context;
mod destination;
mod digest;
mod engine;
mod error;
mod event;
pub mod host;
mod journal;
mod lock;
mod plan;
pub mod probe;
mod push;
mod report;
pub mod secret;
pub mod settings;
pub mod staged_view;
mod state;
mod target;
mod vault;

pub use atomic::{WriteError, WriteOptions, Written, atomic_write_file};
pub use certificate::{Certificate, CertificateSource, MaterialError, PemFiles};
pub use connector::{Connector, Entry, Registry, SettingError};
pub use context::{Cancellation, Context};
pub use engine::{
    EndpointStatus, FileAction, FilePreview, FileState, Job, Preview, Recovered, RecoveryScope, SetStatus, SharedDestination,
    TargetState, TargetStatus, Verification, deploy, preview, recover, rollback, shared_destination, status, verify,
};
pub use error::{Error, ErrorKind, Retry};
pub use event::{Discard, Event, EventSink};
pub use plan::{Content, Defaults, Hooks, LinkPolicy, Minimal, Plan, PlanFile, Reload, ReloadCall, Role, Validate, Verify};
pub use push::{Observed, Push, Snapshot, Validation};
pub use report::{Degraded, Fingerprints, Live, Outcome, Report, Rung, Stage};
pub use target::{Capabilities, Deployment, Recovery, Target};

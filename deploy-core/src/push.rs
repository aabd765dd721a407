//! Targets that are reached by calls to an API.

use std::fmt;

use async_trait::async_trait;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::error::Error;
use crate::hooks::Verify;
use crate::report::Rung;
use crate::secret::SecretBytes;

/// An API target. What needs no certificate works without one, so that recovery and rollback never depend on the new
/// material. The engine calls these in order, journals between them, retries where the error says that it can help, and
/// decides; an implementation makes one call and says what came of it. Secrets are fetched, and commands run, through the
/// context that comes with the call: on the way back it has a deadline of its own and cannot be cancelled.
#[async_trait]
pub trait Push: fmt::Debug + Send {
    /// How the new certificate is seen on the wire. What the remote says of itself counts where nothing is configured.
    fn verify(&self) -> Verify {
        Verify::NotConfigured
    }
    /// Whether the engine keeps the pair that it deployed, for a remote that never gives a key back: `restore` then finds the pair
    /// that was live before in [`Snapshot::previous`].
    fn keeps_pair(&self) -> bool {
        false
    }
    /// What spares a later run a search: the name that the remote gave to what was deployed, say. The engine keeps it with what it
    /// knows of the target, after a success. It may be lost, and is no place for a secret.
    fn note(&self) -> Option<String> {
        None
    }
    /// Gets the note of an earlier run, before every other call.
    fn recall(&mut self, _note: &str) {}
    /// What is live now. Reads only.
    async fn observe(&mut self, context: &Context) -> Result<Observed, Error>;
    /// The remote's own dry run, or why there is none.
    async fn validate(&mut self, certificate: &Certificate, context: &Context) -> Result<Validation, Error>;
    /// Enough to bring back what is live, even after a crash.
    async fn snapshot(&mut self, context: &Context) -> Result<Snapshot, Error>;
    /// Puts the new certificate beside the live one, named by its fingerprint. Safe to repeat.
    async fn upload(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error>;
    /// Switches to it, in one transaction where the vendor has one. Safe to repeat.
    async fn activate(&mut self, certificate: &Certificate, context: &Context) -> Result<(), Error>;
    /// Switches back.
    async fn restore(&mut self, snapshot: &Snapshot, context: &Context) -> Result<(), Error>;
    /// Removes what this connector made and nothing uses any more. Never anything else.
    async fn prune(&mut self, context: &Context) -> Result<(), Error>;
    /// Ends what the calls left open at the remote, such as a session. The last call of all, whatever came of the others, and also
    /// where they only looked; with five seconds of its own. It changes nothing that is deployed, and what fails is only warned of.
    async fn close(&mut self, _context: &Context) -> Result<(), Error> {
        Ok(())
    }
}

/// What a remote has live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Observed {
    /// SHA-256 of the live leaf, lowercase hexadecimal; `None` if there is none.
    pub fingerprint: Option<String>,
    /// The remote's own revision (ETag, resourceVersion), where it has one.
    pub revision: Option<String>,
    /// Everything else is as wanted, too (bindings, labels). If not, the push runs although the fingerprint is right.
    pub settled: bool,
    /// Parts of the target have different certificates, as when a switch was broken off. `fingerprint` is `None` then, and the
    /// engine brings the old state back where otherwise it would take nothing for what was there before.
    pub mixed: bool,
    /// The remote does not say what is live. What was acknowledged last counts instead.
    pub unknown: bool,
}

impl Observed {
    /// A live leaf, everything as wanted.
    #[must_use]
    pub fn new(fingerprint: Option<String>, revision: Option<String>) -> Self {
        Self { fingerprint, revision, settled: true, ..Self::default() }
    }

    /// A target of several parts that do not agree.
    #[must_use]
    pub fn mixed() -> Self {
        Self { mixed: true, ..Self::default() }
    }

    /// The remote has no way to say what is live. The engine goes by what was acknowledged last, and a success that no
    /// endpoint of `verify` shows is `unverified`.
    #[must_use]
    pub fn unknown() -> Self {
        Self { settled: true, unknown: true, ..Self::default() }
    }
}

/// What the remote's dry run said.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Validation {
    /// Accepted, as far as this rung goes.
    Passed(Rung),
    /// The remote has no dry run, for this reason.
    Unavailable(String),
}

/// Enough to bring back what was live: versioned bytes, kept in the state directory with mode 0600.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Snapshot {
    /// The format of the bytes, for the connector that made them.
    pub version: u32,
    /// The bytes; they may hold a key.
    pub bytes: SecretBytes,
    /// The pair that was live, where the push wants it kept and it was deployed from here; the engine puts it in.
    pub previous: Option<Certificate>,
}

impl Snapshot {
    /// A snapshot in a format of the connector's own.
    pub fn new(version: u32, bytes: impl Into<SecretBytes>) -> Self {
        Self { version, bytes: bytes.into(), previous: None }
    }
}

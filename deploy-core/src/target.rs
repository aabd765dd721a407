//! What a connector gives the engine.

use std::fmt;
use std::path::PathBuf;

use async_trait::async_trait;
use serde::Serialize;

use crate::certificate::Certificate;
use crate::context::Context;
use crate::error::Error;
use crate::hooks::Hooks;
use crate::plan::Plan;
use crate::push::Push;

/// One place that a certificate can be deployed to. An agent holds `Box<dyn Target>`.
#[async_trait]
pub trait Target: fmt::Debug + Send + Sync {
    /// What this target can and cannot do.
    fn capabilities(&self) -> Capabilities;

    /// What finishing or undoing an interrupted deployment needs. No certificate: recovery and rollback never depend on
    /// new material. Touches neither network nor disk.
    fn recovery(&self) -> Recovery;

    /// Every file that a deployment may write, as far as the configuration tells: so that two targets that write one file
    /// are found before either is deployed to. None for an API.
    fn destinations(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// Describes the deployment of a certificate. Reads what it needs, through the context's host; changes nothing.
    ///
    /// # Errors
    /// The certificate cannot be deployed here, or what is needed cannot be read.
    async fn prepare(&self, certificate: &Certificate, context: &Context) -> Result<Deployment, Error>;
}

/// The description of a deployment.
#[derive(Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "one for each deployment, and never stored")]
pub enum Deployment {
    /// Files on a host.
    Files(Plan),
    /// Calls to an API.
    Push(Box<dyn Push>),
}

/// What finishing or undoing an interrupted deployment needs.
#[derive(Debug)]
#[non_exhaustive]
#[expect(clippy::large_enum_variant, reason = "one for each deployment, and never stored")]
pub enum Recovery {
    /// The hooks as they are configured now.
    Files(Hooks),
    /// The API as it is configured now.
    Push(Box<dyn Push>),
}

/// What a target can and cannot do: data for the documentation's matrix, the warnings of a dry run, and the choice of conformance cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct Capabilities {
    /// It describes files on a host; otherwise it makes calls to an API.
    pub files: bool,
    /// The target's own checker can look at the new certificate before anything live changes: at the staged files, or in
    /// the API's dry run.
    pub staged_validation: bool,
    /// New certificates are taken up without dropping connections.
    pub hot_update: bool,
    /// `plan` says what would change.
    pub dry_run: bool,
    /// The new certificate can be seen on the wire.
    pub verification: bool,
    /// An earlier certificate can be brought back by `rollback`. (A deployment that fails is undone in any case.)
    pub rollback: bool,
    /// What is deployed can be listed.
    pub inventory: bool,
}

impl Capabilities {
    /// None.
    pub const NONE: Self = Self {
        files: false,
        staged_validation: false,
        hot_update: false,
        dry_run: false,
        verification: false,
        rollback: false,
        inventory: false,
    };

    /// What the engine gives to every target that is files and a reload.
    pub const FILES: Self = Self { files: true, dry_run: true, verification: true, rollback: true, ..Self::NONE };

    /// What the engine gives to every target that is calls to an API.
    pub const PUSH: Self = Self { dry_run: true, ..Self::NONE };

    /// With a checker that sees the staged files.
    #[must_use]
    pub const fn with_staged_validation(mut self) -> Self {
        self.staged_validation = true;
        self
    }

    /// With endpoints at which success can be seen by a handshake ([`crate::Push::verify`]; files have them anyway).
    #[must_use]
    pub const fn with_verification(mut self) -> Self {
        self.verification = true;
        self
    }

    /// With updates that drop no connection.
    #[must_use]
    pub const fn with_hot_update(mut self) -> Self {
        self.hot_update = true;
        self
    }
}

//! What a case needs of a connector and its world.

use deploy_core::{Capabilities, Connector};

use super::harness::{Fault, Harness};

/// What a case needs: without it, the case is skipped, and says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// The connector describes files.
    Files,
    /// The connector makes calls.
    Push,
    /// The connector declares `staged_validation`.
    StagedValidation,
    /// The connector declares `hot_update`.
    HotUpdate,
    /// The connector declares `dry_run`.
    DryRun,
    /// The connector declares `verification`.
    Verification,
    /// The connector declares `rollback`.
    Rollback,
    /// The connector does not declare `rollback`.
    NoRollback,
    /// The world has this fault.
    Fault(Fault),
    /// The suite is run by root, who alone can change owners.
    Root,
}

impl Need {
    /// Why it is not met.
    pub(super) fn unmet<H: Harness>(self) -> Option<String> {
        let Capabilities { files, staged_validation, hot_update, dry_run, verification, rollback, .. } =
            <H::Connector as Connector>::CAPABILITIES;
        let unless = |met: bool, why: &str| (!met).then(|| why.to_owned());
        match self {
            Self::Files => unless(files, "it is about files, and this connector makes calls"),
            Self::Push => unless(!files, "it is about calls, and this connector describes files"),
            Self::StagedValidation => unless(staged_validation, "the connector does not declare staged_validation"),
            Self::HotUpdate => unless(hot_update, "the connector does not declare hot_update"),
            Self::DryRun => unless(dry_run, "the connector does not declare dry_run"),
            Self::Verification => unless(verification, "the connector does not declare verification"),
            Self::Rollback => unless(rollback, "the connector does not declare rollback"),
            Self::NoRollback => unless(!rollback, "the connector declares rollback"),
            Self::Fault(fault) => unless(H::faults().contains(&fault), &format!("the world has no fault {fault:?}")),
            Self::Root => unless(rustix::process::geteuid().is_root(), "only root can change owners"),
        }
    }
}

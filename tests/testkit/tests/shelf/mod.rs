//! The connector for the shelf, the made-up vendor of the testkit, as a third party would write it.
//!
//! A certificate goes on the shelf as `certdeploy-FINGERPRINT`, with the labels `managed-by: certdeploy` and `target: NAME`.
//! Then the listener is switched to it. What carries both labels and is on no listener any more is removed.

mod client;
mod config;
mod target;

use deploy_core::{Capabilities, Connector, SettingError, Target};

pub(crate) use config::ShelfSettings;

/// The kind `shelf`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shelf;

impl Connector for Shelf {
    const KIND: &'static str = "shelf";
    const SUMMARY: &'static str = "a listener of the shelf, by its API";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_staged_validation().with_verification();
    type Settings = ShelfSettings;

    fn build(name: &str, settings: ShelfSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check()?;
        Ok(Box::new(target::ShelfTarget::new(name, settings)))
    }
}

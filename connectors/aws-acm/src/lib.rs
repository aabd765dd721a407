//! The connector for AWS Certificate Manager (ACM): certificates are imported, and imported again by their ARN.
//!
//! A connector makes one call at a time and says what came of it; the engine orders, journals, repeats and goes back. An
//! agent registers [`AwsAcm`] and gets targets of the kind `aws-acm`:
//!
//! ```
//! use deploy_core::Registry;
//!
//! let registry = Registry::new().with::<deploy_aws_acm::AwsAcm>();
//! let settings: serde_json::Value = toml::from_str(
//!     r#"
//!     arn    = "arn:aws:acm:eu-central-1:123456789012:certificate/12345678-1234-1234-1234-123456789012"
//!     verify = [{ connect = "www.example.com:443" }]
//!     "#,
//! )?;
//! let entry = registry.get("aws-acm").ok_or("it was registered above")?;
//! let target = entry.build("front", settings)?;
//! assert!(!target.capabilities().files);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! What is good to know of ACM (docs.aws.amazon.com/acm/latest/userguide/import-certificate.html, and the service model that
//! comes with botocore 1.44.8):
//! - An import with an ARN replaces what is there, in one call. One without an ARN makes a new certificate each time it is
//!   sent, and there is no token that would tell a second try from a second certificate: the tag does.
//! - Tags are taken with a new certificate, and refused together with an ARN.
//! - The private key can never be read back.
//! - A list leaves out what is not RSA with 2048 bits at most, unless it is asked for every type of key.
//! - What uses a certificate (`InUseBy`) takes up a new one by itself, after a while. ACM attaches nothing.

mod client;
mod config;
mod target;

pub use config::AwsAcmSettings;

use deploy_core::{Capabilities, Connector, SettingError, Target};

/// The kind `aws-acm`.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct AwsAcm;

impl Connector for AwsAcm {
    const KIND: &'static str = "aws-acm";
    const SUMMARY: &'static str = "AWS Certificate Manager: an imported certificate";
    const CAPABILITIES: Capabilities = Capabilities::PUSH.with_verification();
    type Settings = AwsAcmSettings;

    fn build(name: &str, settings: AwsAcmSettings) -> Result<Box<dyn Target>, SettingError> {
        settings.check(name)?;
        Ok(Box::new(target::AwsAcmTarget::new(name, settings)))
    }
}

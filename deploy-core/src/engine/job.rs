use std::sync::Arc;

use crate::certificate::CertificateSource;
use crate::target::Target;

/// A target and the certificate that it is to serve.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Job {
    /// The target's name; unique in a state directory.
    pub name: String,
    /// Its kind, for reports: `nginx`.
    pub kind: String,
    /// The target.
    pub target: Arc<dyn Target>,
    /// Where the certificate comes from. Read after recovery, so that a bad source never keeps a broken target broken.
    pub certificate: Arc<dyn CertificateSource>,
}

impl Job {
    /// A job.
    pub fn new(
        name: impl Into<String>,
        kind: impl Into<String>,
        target: Arc<dyn Target>,
        certificate: Arc<dyn CertificateSource>,
    ) -> Self {
        Self { name: name.into(), kind: kind.into(), target, certificate }
    }
}

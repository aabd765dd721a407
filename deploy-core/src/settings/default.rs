//! Defaults that many connectors share, for `#[serde(default = "...")]` and for whoever fills in settings by hand.

use std::time::Duration;

use super::Period;

/// How many earlier deployments are kept: 3.
#[must_use]
pub const fn default_backups() -> usize {
    3
}

/// How long a new certificate may take to appear: 15 seconds.
#[must_use]
pub const fn default_verify_timeout() -> Period {
    Period::new(Duration::from_secs(15))
}

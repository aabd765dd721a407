//! The settings that the agent itself takes. Their doc comments are the reference page.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use deploy_core::settings::Period;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the program itself. The table is optional, and may stand in one file only.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AgentSettings {
    /// Where journals, locks and history are kept; an absolute path. `--state-dir` wins over it.
    ///
    /// Default: `/var/lib/certdeploy` for root, otherwise `certdeploy` in the XDG state home. It must be on a disk that
    /// survives a reboot.
    pub(crate) state_dir: Option<PathBuf>,
    /// How many services are worked on at the same time.
    pub(crate) concurrency: NonZeroUsize,
    /// How many files are put on the medium at the same time.
    ///
    /// More share the flushes of the disk; 1 puts them there one by one, in the order of the plan.
    pub(crate) sync_width: NonZeroUsize,
}

impl Default for AgentSettings {
    fn default() -> Self {
        const EIGHT: NonZeroUsize = NonZeroUsize::MIN.saturating_add(7);
        const THIRTY_TWO: NonZeroUsize = NonZeroUsize::MIN.saturating_add(31);
        Self { state_dir: None, concurrency: EIGHT, sync_width: THIRTY_TWO }
    }
}

/// Where a certificate comes from.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CertificateSettings {
    /// Its name; targets refer to it.
    pub(crate) name: String,
    /// The file with leaf and intermediates, in PEM; an absolute path.
    pub(crate) fullchain: PathBuf,
    /// The file with the private key, in PEM and not encrypted; an absolute path.
    pub(crate) key: PathBuf,
}

/// What every target has, beside the settings of its kind.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct TargetSettings {
    /// Its name: at most 64 letters, digits, `.`, `_` and `-`, not starting with a dot. Backups and history go by it.
    pub(crate) name: String,
    /// Its kind; `certdeploy connectors list` shows them.
    pub(crate) kind: String,
    /// The name of the certificate that it is to serve.
    pub(crate) certificate: String,
    /// Targets with the same service are deployed as one: one validation, one reload, rolled back together.
    ///
    /// Default: targets of one kind that are reloaded by the same command or signal.
    #[serde(default)]
    pub(crate) service: Option<String>,
    /// The machine that the files are on, where it is another one, and how it is reached: `via = { ssh = { host = "web1" } }`.
    ///
    /// Paths, commands and secret references are then that machine's; certificates are read here, and endpoints of `verify`
    /// are asked from here. For kinds that describe files. Default: this machine.
    // Whether it is a table of one way is said with the ways that there are.
    #[serde(default)]
    #[schemars(with = "Option<BTreeMap<String, serde_json::Value>>")]
    pub(crate) via: Option<serde_json::Value>,
    /// Time for a deployment, such as `"90s"`; default 120 seconds. A rollback has 60 seconds of its own. `--timeout` wins
    /// over it; of targets with the same service the longest counts.
    #[serde(default)]
    pub(crate) timeout: Option<Period>,
}

impl TargetSettings {
    /// The settings that the agent keeps; all others of a target are its connector's.
    pub(crate) const NAMES: [&'static str; 6] = ["name", "kind", "certificate", "service", "via", "timeout"];
}

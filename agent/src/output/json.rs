//! The documents that `--json` prints. Their doc comments are the descriptions in docs/schemas.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Serialize;

/// The JSON Schemas of all documents, by the name of their file in docs/schemas, without its ending.
#[must_use]
pub fn schemas() -> Vec<(&'static str, Schema)> {
    vec![
        ("check-config", schema::<CheckConfig>()),
        ("connectors", schema::<Vec<ConnectorEntry>>()),
        ("deploy", schema::<Deploy>()),
        ("discover", schema::<Discover>()),
        ("doctor", schema::<Doctor>()),
        ("error", schema::<Failed>()),
        ("plan", schema::<Plan>()),
        ("recover", schema::<Recover>()),
        ("status", schema::<Status>()),
        ("verify", schema::<Verify>()),
    ]
}

fn schema<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12().for_serialize().into_generator().into_root_schema_for::<T>()
}

/// What every command prints where the command line, or the configuration that it needs, is wrong. Exit code 2.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Failed {
    /// Always empty: nothing was done.
    pub(crate) targets: Vec<()>,
    /// Why.
    pub(crate) error: TopError,
}

/// Why a command could not start.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct TopError {
    /// What went wrong.
    #[schemars(extend("enum" = ["configuration_invalid", "internal", "usage"]))]
    pub(crate) kind: &'static str,
    /// One line for each problem.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) next_step: Option<String>,
}

/// What `deploy` and `rollback` print.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Deploy {
    /// One for each target, in the order of the configuration.
    pub(crate) targets: Vec<TargetReport>,
    /// Set only where nothing was done at all.
    pub(crate) error: Option<TopError>,
}

/// What came of one target.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TargetReport {
    /// Its name.
    pub(crate) target: String,
    /// Its kind.
    pub(crate) kind: String,
    /// How it ended.
    #[schemars(extend("enum" = ["changed", "failed", "interrupted", "locked", "rejected", "repaired", "rollback_failed", "rolled_back", "unchanged", "unverified"]))]
    pub(crate) outcome: &'static str,
    /// The last stage that was entered.
    #[schemars(extend("enum" = ["check", "lock", "recover", "inspect", "stage", "validate", "journal", "swap", "reload", "verify", "roll_back", "acknowledge", "prune"]))]
    pub(crate) stage: &'static str,
    /// Destinations that now differ from before.
    pub(crate) changed_files: Vec<String>,
    /// Lowercase hexadecimal SHA-256 of the leaf.
    pub(crate) fingerprint: Fingerprint,
    /// When the wanted leaf ends: RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) not_after: Option<String>,
    /// How long it took, in milliseconds.
    pub(crate) duration_ms: u64,
    /// What is live now.
    #[schemars(extend("enum" = ["applied", "rolled_back", "unchanged", "unknown"]))]
    pub(crate) live: &'static str,
    /// The highest rung of validation that was reached.
    #[schemars(extend("enum" = ["V0", "V1", "V2", "V3", "V4", "V5", "V6"]))]
    pub(crate) validated: String,
    /// What could not be done as well as it should.
    pub(crate) degraded: Vec<Degradation>,
    /// What the operator should know.
    pub(crate) warnings: Vec<String>,
    /// Why it is not a success.
    pub(crate) error: Option<TargetError>,
}

/// Leaf fingerprints.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(crate) struct Fingerprint {
    /// The certificate that was to be deployed, where it is known.
    pub(crate) wanted: Option<String>,
    /// The certificate that was last seen served, where anybody could look.
    pub(crate) served: Option<String>,
}

/// Something that could not be done as well as it should.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Degradation {
    /// What.
    pub(crate) what: String,
    /// Why.
    pub(crate) why: String,
}

/// Why something about one target is not a success.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TargetError {
    /// What went wrong, by what can be done about it: `validate_failed`.
    pub(crate) kind: &'static str,
    /// What happened, with its causes.
    pub(crate) message: String,
    /// Whether trying the same again can help.
    pub(crate) retryable: bool,
    /// What to do next.
    pub(crate) next_step: Option<String>,
    /// What happened, without its causes, and these one by one: for text.
    #[serde(skip)]
    pub(crate) chain: Vec<String>,
}

/// What `plan` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Plan {
    /// One for each target, in the order of the configuration.
    pub(crate) targets: Vec<TargetPlan>,
    /// Set only where nothing was looked at.
    pub(crate) error: Option<TopError>,
}

/// What `deploy` would do with one target.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TargetPlan {
    /// Its name.
    pub(crate) target: String,
    /// Its kind.
    pub(crate) kind: String,
    /// What stands between it and its wanted state: nothing, an unacknowledged reload or verification, owner or mode, bytes.
    #[schemars(extend("enum" = ["unchanged", "owed", "drift", "change"]))]
    pub(crate) state: String,
    /// Every file, in the order of switching.
    pub(crate) files: Vec<PlannedFile>,
    /// What would be run, in order.
    pub(crate) commands: Vec<String>,
    /// Wanted leaf, and what is served now.
    pub(crate) fingerprint: Fingerprint,
    /// When the wanted leaf ends: RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) not_after: Option<String>,
    /// The highest rung of validation that was reached.
    #[schemars(extend("enum" = ["V0", "V1", "V2", "V3", "V4", "V5", "V6"]))]
    pub(crate) validated: String,
    /// What could not be checked.
    pub(crate) degraded: Vec<Degradation>,
    /// What the operator should know.
    pub(crate) warnings: Vec<String>,
    /// An interrupted deployment that the next run will settle first.
    pub(crate) pending_recovery: Option<String>,
    /// Why it would be refused.
    pub(crate) error: Option<TargetError>,
}

/// What would happen to one file.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PlannedFile {
    /// The path in the configuration.
    pub(crate) path: String,
    /// The file behind it, where that is another one.
    pub(crate) real_path: Option<String>,
    /// What would happen; `repair` changes owner, mode or attributes and leaves the bytes.
    #[schemars(extend("enum" = ["create", "keep", "repair", "remove", "replace"]))]
    pub(crate) action: String,
    /// What is there.
    pub(crate) before: Option<FileNumbers>,
    /// What would be there.
    pub(crate) after: Option<FileNumbers>,
}

/// A file in numbers.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct FileNumbers {
    /// Lowercase hexadecimal SHA-256 of its bytes.
    pub(crate) sha256: String,
    /// Size in bytes.
    pub(crate) size: u64,
    /// Owner.
    pub(crate) uid: u32,
    /// Group.
    pub(crate) gid: u32,
    /// Mode as four octal digits.
    pub(crate) mode: String,
}

/// What `verify` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Verify {
    /// One for each target, in the order of the configuration.
    pub(crate) targets: Vec<TargetVerification>,
    /// Set only where nothing was asked.
    pub(crate) error: Option<TopError>,
}

/// What the endpoints of one target serve.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TargetVerification {
    /// Its name.
    pub(crate) target: String,
    /// Its kind.
    pub(crate) kind: String,
    /// What came of it.
    #[schemars(extend("enum" = ["error", "mismatch", "not_configured", "ok"]))]
    pub(crate) result: &'static str,
    /// The leaf that should be served: lowercase hexadecimal SHA-256.
    pub(crate) wanted: Option<String>,
    /// What each endpoint serves.
    pub(crate) endpoints: Vec<EndpointState>,
    /// Why they could not be asked.
    pub(crate) error: Option<TargetError>,
}

/// What one endpoint serves.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EndpointState {
    /// Which one.
    pub(crate) endpoint: String,
    /// The leaf that it serves: lowercase hexadecimal SHA-256.
    pub(crate) served: Option<String>,
    /// Whether that is the wanted one.
    pub(crate) matches: bool,
    /// Why not.
    pub(crate) problem: Option<String>,
}

/// What `status` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Status {
    /// One for each target, in the order of the configuration.
    pub(crate) targets: Vec<TargetState>,
    /// Set only where nothing was looked at.
    pub(crate) error: Option<TopError>,
}

/// Where one target stands.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct TargetState {
    /// Its name.
    pub(crate) target: String,
    /// Its kind.
    pub(crate) kind: String,
    /// The leaf that should be served: lowercase hexadecimal SHA-256.
    pub(crate) wanted: Option<String>,
    /// The leaf on disk.
    pub(crate) on_disk: Option<String>,
    /// When the leaf on disk ends: RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) not_after: Option<String>,
    /// Whole days until then; negative when it has ended.
    pub(crate) days_left: Option<i64>,
    /// What each endpoint serves.
    pub(crate) served: Vec<EndpointState>,
    /// What is still owed to the target.
    pub(crate) owed: Option<String>,
    /// The leaf that it was rolled back from, and stays away from until the source changes.
    pub(crate) hold: Option<String>,
    /// What can be rolled back to, the oldest first.
    pub(crate) sets: Vec<StoredSet>,
    /// Why something could not be found out.
    pub(crate) error: Option<TargetError>,
}

/// A state that can be rolled back to.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct StoredSet {
    /// Its id, for `rollback --to`.
    pub(crate) id: String,
    /// When the deployment began that replaced it: RFC 3339, UTC.
    #[schemars(extend("format" = "date-time"))]
    pub(crate) created: String,
    /// The leaf that would come back: lowercase hexadecimal SHA-256.
    pub(crate) fingerprint: Option<String>,
}

/// What `recover` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Recover {
    /// One for each interrupted deployment that was found.
    pub(crate) recovered: Vec<Recovery>,
    /// The configuration is wrong; with `--files-only` the files were settled all the same.
    pub(crate) error: Option<TopError>,
}

/// What was done about one interrupted deployment.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Recovery {
    /// The targets that it was for.
    pub(crate) targets: Vec<String>,
    /// Its id.
    pub(crate) id: String,
    /// What was done.
    pub(crate) action: String,
    /// What is live now.
    #[schemars(extend("enum" = ["applied", "rolled_back", "unchanged", "unknown"]))]
    pub(crate) live: &'static str,
    /// Whether a reload or verification is still owed; the next run pays it.
    pub(crate) owed: bool,
    /// Why it is not settled.
    pub(crate) error: Option<TargetError>,
}

/// What `doctor` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Doctor {
    /// What was looked at.
    pub(crate) findings: Vec<Finding>,
}

/// One thing that was looked at.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Finding {
    /// What was looked at.
    pub(crate) check: String,
    /// Whether it is as it should be. Only `fail` makes the exit code 1.
    #[schemars(extend("enum" = ["fail", "ok", "warn"]))]
    pub(crate) level: &'static str,
    /// What was found.
    pub(crate) message: String,
    /// What to do about it.
    pub(crate) advice: Option<String>,
}

/// What `check-config` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckConfig {
    /// Whether the configuration is right.
    pub(crate) valid: bool,
    /// The files that were read.
    pub(crate) files: Vec<String>,
    /// The names of the certificates.
    pub(crate) certificates: Vec<String>,
    /// The targets.
    pub(crate) targets: Vec<CheckedTarget>,
    /// What the operator should know.
    pub(crate) warnings: Vec<String>,
    /// What is wrong.
    pub(crate) problems: Vec<ConfigurationProblem>,
    /// The same in one piece, as all commands print it.
    pub(crate) error: Option<TopError>,
}

/// A target of a configuration that is right.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct CheckedTarget {
    /// Its name.
    pub(crate) target: String,
    /// Its kind.
    pub(crate) kind: String,
    /// The name of its certificate.
    pub(crate) certificate: String,
    /// The number of its service: targets with the same number are deployed as one.
    pub(crate) service: usize,
}

/// One thing that is wrong with a configuration.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConfigurationProblem {
    /// The file.
    pub(crate) file: String,
    /// The line, from 1.
    pub(crate) line: Option<usize>,
    /// The column, from 1, in characters.
    pub(crate) column: Option<usize>,
    /// What it is about.
    pub(crate) subject: Option<String>,
    /// What is wrong.
    pub(crate) message: String,
}

/// What `connectors discover` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Discover {
    /// One for each certificate that is served today.
    pub(crate) found: Vec<Discovered>,
}

/// A certificate that is served today, and the target that would renew it.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Discovered {
    /// The names that it is served for.
    pub(crate) names: Vec<String>,
    /// The lines for the configuration file.
    pub(crate) toml: String,
}

/// A kind of target: what `connectors list` prints one of for each.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ConnectorEntry {
    /// Its name in configurations.
    pub(crate) kind: String,
    /// One sentence about it.
    pub(crate) summary: String,
    /// The target's own checker can look at the new files before anything live changes.
    pub(crate) staged_validation: bool,
    /// New certificates are taken up without dropping connections.
    pub(crate) hot_update: bool,
    /// `plan` says what would change.
    pub(crate) dry_run: bool,
    /// The new certificate can be seen on the wire.
    pub(crate) verification: bool,
    /// The old certificate can be brought back.
    pub(crate) rollback: bool,
    /// What is deployed can be listed.
    pub(crate) inventory: bool,
}

//! A program, the directory that is its remote, and an engine to have it deploy.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write programs and look at files; not each uses everything"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Outcome, Registry, Report, deploy};
use deploy_exec::Exec;
use deploy_testkit::pki::{Authority, Issued, Request};
use serde_json::{Value, json};

/// What must never be seen.
pub(crate) const TOKEN: &str = "canary-token-7f3a";

pub(crate) struct World {
    pub(crate) root: tempfile::TempDir,
    pub(crate) context: Context,
    pub(crate) program: PathBuf,
    authority: Authority,
}

impl World {
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("remote")).unwrap();
        let token = root.path().join("token");
        fs::write(&token, TOKEN).unwrap();
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
        let context = Context::new(root.path().join("state"), deploy_testkit::provider());
        let program = script(root.path(), "program", include_str!("program.py"));
        Self { root, context, program, authority: Authority::new() }
    }

    /// With a certificate deployed by a program that does what it should, and its calls forgotten.
    pub(crate) async fn deployed() -> (Self, Issued) {
        let world = Self::new();
        let old = world.issue();
        let report = world.deploy(&old, json!({})).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        world.forget_calls();
        (world, old)
    }

    pub(crate) fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&["www.example.test"]))
    }

    /// The settings of a program that does what it should, and more settings of the target.
    pub(crate) fn settings(&self, more: Value) -> Value {
        let mut settings = json!({
            "command": [self.program],
            "settings": { "remote": self.remote() },
            "secrets": { "token": format!("file:{}", self.root.path().join("token").display()) },
        });
        merge(&mut settings, more);
        settings
    }

    pub(crate) fn job(&self, issued: &Issued, settings: Value) -> Job {
        let registry = Registry::new().with::<Exec>();
        let target = registry.get("exec").unwrap().build("front", settings).unwrap();
        Job::new("front", "exec", Arc::from(target), Arc::new(certificate(issued)))
    }

    /// Deploys with more settings.
    pub(crate) async fn deploy(&self, issued: &Issued, more: Value) -> Report {
        self.deploy_in(issued, more, &self.context).await
    }

    pub(crate) async fn deploy_in(&self, issued: &Issued, more: Value, context: &Context) -> Report {
        let report = deploy(&[self.job(issued, self.settings(more))], context).await.remove(0);
        conceals(&report, issued);
        report
    }

    pub(crate) fn remote(&self) -> PathBuf {
        self.root.path().join("remote")
    }

    /// What the remote has live.
    pub(crate) fn live(&self) -> Option<String> {
        fs::read_to_string(self.remote().join("live")).ok()
    }

    /// The operations that the program was asked for.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.remote().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    pub(crate) fn count(&self, operation: &str) -> usize {
        self.calls().iter().filter(|call| *call == operation).count()
    }

    pub(crate) fn forget_calls(&self) {
        fs::remove_file(self.remote().join("calls")).ok();
    }

    /// What an interrupted push leaves in the state directory.
    pub(crate) fn litter(&self) -> Vec<PathBuf> {
        let vault = self.root.path().join("state/vault");
        let entries = fs::read_dir(vault).map(|entries| entries.map(|entry| entry.unwrap().path()).collect());
        entries.unwrap_or_default()
    }
}

/// S1: nothing of what is secret is in a report or in the causes of its error.
pub(crate) fn conceals(report: &Report, issued: &Issued) {
    let whole = format!("{report:?} {}", report.error.as_ref().map(|error| error.full_message()).unwrap_or_default());
    let whole = format!("{whole} {}", report.error.as_ref().map(|error| error.next_step().to_owned()).unwrap_or_default());
    assert!(!whole.contains(TOKEN), "the token is in {whole}");
    for line in issued.key_pem.lines().filter(|line| !line.starts_with("-----")) {
        assert!(!whole.contains(line) && !whole.contains(&line[..line.len().min(20)]), "the key is in {whole}");
    }
}

pub(crate) fn certificate(issued: &Issued) -> Certificate {
    Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(issued.key_pem.as_bytes())).unwrap()
}

/// An executable file.
pub(crate) fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    // Written under another name: a file that is open for writing cannot be executed, and a fork elsewhere may hold it open.
    let draft = directory.join(format!("{name}.draft"));
    fs::write(&draft, text).unwrap();
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(&draft, &path).unwrap();
    path
}

fn merge(into: &mut Value, more: Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (name, value) in more {
                merge(into.entry(name).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more,
    }
}

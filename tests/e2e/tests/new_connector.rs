//! What `cargo xtask new-connector` makes: it compiles, and its conformance test fails at what is not written, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use deploy_testkit::conformance::{Behaviour, Fault, Need, contract};
use serde_json::Value;
use tempfile::TempDir;

/// A copy of this checkout, in which connectors are made and built.
struct Checkout {
    directory: TempDir,
    target: PathBuf,
}

impl Checkout {
    /// As git has it, and what is not committed; with the times of the files, so that cargo compiles what has changed only.
    fn copy() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let copy =
            "git ls-files -z --cached --others --exclude-standard | tar -c --null --ignore-failed-read -T - | tar -x -C \"$1\"";
        let copied = Command::new("sh").args(["-c", copy, "sh"]).arg(directory.path()).current_dir(workspace()).output().unwrap();
        assert!(copied.status.success(), "{copied:?}");
        // Another version makes other crates of ours for cargo, which then can share the directory of what is built, and all
        // that comes from the registry with it.
        let manifest = directory.path().join("Cargo.toml");
        let text = fs::read_to_string(&manifest).unwrap();
        let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"\nedition");
        assert!(text.contains(version), "{text}");
        fs::write(&manifest, text.replacen(version, "version = \"0.1.99\"\nedition", 1)).unwrap();
        let executable = std::env::current_exe().unwrap();
        let target = executable.ancestors().nth(3).expect("it lies in target/PROFILE/deps").to_owned();
        Self { directory, target }
    }

    fn make(&self, name: &str, kind: &str) -> Output {
        let mut command = cargo();
        command.args(["run", "--quiet", "--package", "xtask", "--", "new-connector", name, kind, "--into"]);
        command.arg(self.directory.path()).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
    }

    fn cargo(&self, arguments: &[&str]) -> Output {
        let mut command = cargo();
        command.args(arguments).current_dir(self.directory.path()).env("CARGO_TARGET_DIR", &self.target);
        command.output().unwrap()
    }

    /// The cases of the suite whose names have the filter in them, with what came of each and what it said.
    fn conformance(&self, package: &str, filter: &str) -> BTreeMap<String, (String, String)> {
        let test = ["test", "--quiet", "--offline", "--package", package, "--test", "conformance"];
        let output = self.cargo(&[&test[..], &["--", "--format", "json", filter]].concat());
        let lines = String::from_utf8_lossy(&output.stdout);
        let lines = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let text = |line: &Value, field: &str| line[field].as_str().unwrap_or_default().to_owned();
        let ended = lines.filter(|line| line["type"] == "test" && line["event"] != "started");
        let cases: BTreeMap<_, _> =
            ended.map(|line| (text(&line, "name"), (text(&line, "event"), text(&line, "stdout")))).collect();
        assert!(!cases.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
        cases
    }

    /// Writes something else from one text to the next occurrence of another.
    fn rewrite(&self, file: &str, from: &str, to: &str, new: &str) {
        let path = self.directory.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        let (before, rest) = text.split_once(from).unwrap_or_else(|| panic!("{file} has no {from}:\n{text}"));
        let (_, after) = rest.split_once(to).unwrap_or_else(|| panic!("{file} has no {to}:\n{text}"));
        fs::write(path, format!("{before}{new}{after}")).unwrap();
    }
}

fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("tests/e2e is in the workspace")
}

fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    // What cargo and nextest set for this test would make cargo build again what looks at it.
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("CARGO_") && !matches!(&*name, "CARGO_HOME" | "CARGO_TARGET_DIR" | "CARGO_BUILD_JOBS") {
            command.env_remove(&*name);
        }
    }
    command
}

fn assert_success(output: &Output) {
    let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    assert!(output.status.success(), "{stdout}{stderr}");
}

/// The cases came out as what they need says: ignored where that is not there, passed where nothing particular to the
/// connector is asked for, and else failed with what is not written.
fn assert_cases(cases: &BTreeMap<String, (String, String)>, has: impl Fn(Need) -> bool, written: &[&str], unsaid: &[&str]) {
    for Behaviour { case, needs, .. } in contract() {
        let (event, said) = cases.get(case).unwrap_or_else(|| panic!("{case} is not there"));
        let wanted = match () {
            () if !needs.iter().all(|need| has(*need)) => "ignored",
            () if written.contains(&case) => "ok",
            () => "failed",
        };
        assert_eq!(event, wanted, "{case}: {said}");
        assert!(wanted != "failed" || unsaid.contains(&case) || said.contains("not written yet: "), "{case}: {said}");
    }
    let known: BTreeSet<&str> = contract().iter().map(|behaviour| behaviour.case).collect();
    assert!(cases.keys().all(|case| known.contains(&**case)), "{cases:?}");
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn new_connectors_compile_and_fail_at_what_is_not_written() {
    let checkout = Checkout::copy();
    assert_success(&checkout.make("sample-server", "--files"));
    assert_success(&checkout.make("sample-api", "--push"));
    let taken = checkout.make("sample-api", "--files");
    assert!(!taken.status.success() && String::from_utf8_lossy(&taken.stderr).contains("is taken"), "{taken:?}");

    let both = ["--package", "deploy-sample-server", "--package", "deploy-sample-api"];
    assert_success(&checkout.cargo(&[&["fmt", "--check"][..], &both].concat()));
    let clippy = |what: &[&str]| checkout.cargo(&[&["clippy", "--quiet", "--offline"], what, &["--", "-D", "warnings"]].concat());
    assert_success(&clippy(&[&["--all-targets"][..], &both].concat()));
    assert_success(&clippy(&["--package", "certdeploy", "--features", "full"]));

    files(&checkout);
    push(&checkout);
    assert!(!workspace().join("connectors/sample-server").exists(), "it was made here");
}

fn files(checkout: &Checkout) {
    let has = |need| match need {
        Need::Push | Need::StagedValidation | Need::HotUpdate | Need::NoRollback => false,
        Need::Fault(fault) => {
            matches!(fault, Fault::ReloadFails | Fault::ReloadAlwaysFails | Fault::ReloadHangs | Fault::Ignored)
        }
        Need::Root => is_root(),
        _ => true,
    };
    let written = [
        "capabilities::declared_ones_can_be_tried",
        "capabilities::a7_unknown_setting_is_refused",
        "capabilities::settings_survive_being_written_and_read",
    ];
    // It says that no files are described, which is the same.
    let unsaid = ["capabilities::declared_ones_are_those_of_the_target"];
    assert_cases(&checkout.conformance("deploy-sample-server", ""), has, &written, &unsaid);

    // With its files it goes on to the reload, and says that the world is not there.
    checkout.rewrite(
        "connectors/sample-server/src/target.rs",
        "    fn files(",
        "\n    }\n",
        r"    fn files(&self, certificate: &Certificate) -> Result<Vec<PlanFile>, Error> {
        Ok(vec![
            PlanFile::new(&self.settings.fullchain, deploy_core::Role::Fullchain, certificate.fullchain_pem()),
            PlanFile::new(&self.settings.key, deploy_core::Role::Key, certificate.key_pem()),
        ])
    }
",
    );
    let harness = "connectors/sample-server/tests/conformance.rs";
    let first = "deployment::first_certificate_is_served";
    let (event, said) = &checkout.conformance("deploy-sample-server", first)[first];
    assert_eq!(event, "failed");
    assert!(said.contains(&format!("not written yet: start() in {harness}")), "{said}");

    // With a server it is a connector.
    checkout.rewrite(
        harness,
        "        let address = ",
        "        Ok(",
        r#"        let (fullchain, key) = Self::files(&tls);
        let server = deploy_testkit::ReloadingServer::start(directory, &fullchain, &key)?;
        let (address, reload) = (server.address(), ScriptedCommand::new(directory, "reload", &server.reload_command()));
        Ok("#,
    );
    checkout.rewrite(harness, "Ok(Self {", "address", "Ok(Self { _server: server, address");
    checkout.rewrite(harness, "struct World {", "\n", "struct World {\n    _server: deploy_testkit::ReloadingServer,\n");
    let cases = checkout.conformance("deploy-sample-server", "failure::");
    let failed: Vec<_> = cases.iter().filter(|(_, (event, _))| event == "failed").collect();
    assert!(failed.is_empty(), "{failed:#?}");
    assert_eq!(cases.values().filter(|(event, _)| event == "ok").count(), 6, "{cases:#?}");
}

fn push(checkout: &Checkout) {
    let has = |need| match need {
        Need::Files | Need::StagedValidation | Need::HotUpdate | Need::Rollback => false,
        Need::Fault(fault) => !matches!(fault, Fault::CheckerRefuses | Fault::CheckerHangs),
        Need::Root => is_root(),
        _ => true,
    };
    let written = [
        "capabilities::declared_ones_are_those_of_the_target",
        "capabilities::declared_ones_can_be_tried",
        "capabilities::a7_unknown_setting_is_refused",
        "capabilities::settings_survive_being_written_and_read",
    ];
    // It says that the name of the permission is missing, which is the same.
    let unsaid = ["calls::p8_missing_permission_is_named"];
    assert_cases(&checkout.conformance("deploy-sample-api", ""), has, &written, &unsaid);
}

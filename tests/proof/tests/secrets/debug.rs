//! `Debug` of what can hold a secret.

use std::fmt::Debug;
use std::sync::Arc;

use deploy_core::certificate::{CertificateSource as _, PemFiles};
use deploy_core::command::{Command, CommandError, CommandOutput};
use deploy_core::host::Local;
use deploy_core::secret::{SecretBytes, SecretRef, SecretString};
use deploy_core::{
    Certificate, Context, Defaults, Deployment, Error, ErrorKind, Event, Hooks, Plan, PlanFile, Recovery, Reload, Role, Snapshot,
    Validate, Verify,
};
use deploy_proof::{Remote, Tally};
use deploy_testkit::Canary;
use deploy_testkit::{Authority, Request, write_pair};

const PASSWORD: &str = "canary of a type/0b5e+99d2";

struct Shown {
    canary: Canary,
    tally: Tally,
}

impl Shown {
    fn look(&mut self, value: &dyn Debug) {
        let what = [format!("{value:?}"), format!("{value:#?}")];
        self.tally.add("values looked at", 1);
        for shown in what {
            if let Some(found) = self.canary.found_in(shown.as_bytes()) {
                self.tally.add("secrets found", 1);
                self.tally.violation(format!("{found} in {}", &shown[..shown.len().min(60)]));
            }
        }
    }
}

#[tokio::test]
async fn s1_debug_shows_no_secret() {
    let issued = Authority::new().issue(&Request::new(&["a.test"]));
    let canary = Canary::new(&issued).and_password(PASSWORD);
    let mut tally = Tally::new("secrets/debug");
    tally.add("secrets found", 0);
    tally.add("secrets searched for", canary.secrets());
    let mut shown = Shown { canary, tally };
    let directory = tempfile::tempdir().unwrap();
    let (fullchain, key) = write_pair(directory.path(), &issued);
    let bytes = SecretBytes::from(issued.key_pem.as_bytes());
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &bytes).unwrap();
    let source = PemFiles::new(fullchain, key);
    let mut command = Command::new(["tool"]);
    command.input = Some(bytes.clone());
    let mut output = CommandOutput::default();
    output.stdout = issued.key_pem.clone().into_bytes();
    output.stderr = PASSWORD.as_bytes().to_vec();
    let timeout = || CommandError::Timeout { after: command.timeout, output: Box::new(output.clone()) };
    let hooks = Hooks::new()
        .with_validate(Validate::new(command.clone()))
        .with_reload(Some(Reload::Command(command.clone())))
        .with_verify(Verify::Waived);
    let plan = Plan::new("front")
        .with_certificate(&certificate)
        .with_file(PlanFile::new("/a.key", Role::Key, certificate.key_pem()))
        .with_file(PlanFile::new("/a.pem", Role::Combined, bytes.clone()))
        .with_hooks(hooks.clone());
    let context = Context::new(directory.path().join("state"), Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_variables(|_| Some(SecretString::from(PASSWORD.to_owned())));
    let reference: SecretRef = "env:A".parse().unwrap();
    let arguments: SecretRef = serde_json::from_value(serde_json::json!({ "exec": ["tool", PASSWORD] })).unwrap();
    let settings = serde_json::json!({ "directory": "/remote", "password": "env:A" });
    let registry = deploy_core::Registry::new().with::<Remote>();
    let target = registry.get("remote").unwrap().build("far", settings).unwrap();
    let pushed = target.prepare(&certificate, &context).await.unwrap();
    let report = plan.clone().apply(&context).await;
    for value in [
        &bytes as &dyn Debug,
        &reference.resolve(&context).unwrap(),
        &reference,
        &arguments,
        &certificate,
        &source,
        &source.load(&Local::new()).unwrap(),
        &command,
        &output,
        &timeout(),
        &Error::new(ErrorKind::ReloadFailed, "no").with_source(timeout()),
        &Defaults::default(),
        &hooks,
        &plan,
        &plan.files,
        &Deployment::Files(plan.clone()),
        &Recovery::Files(hooks.clone()),
        &Snapshot::new(1, bytes.clone()),
        &Event::Warning { target: "front".to_owned(), message: "no".to_owned() },
        &context,
        &target,
        &pushed,
        &target.recovery(),
        &report,
        &arguments.resolve(&context).unwrap_err(),
        &Certificate::from_pem(issued.key_pem.as_bytes(), &bytes).unwrap_err(),
        &Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(&issued.key_pem.as_bytes()[..99]))
            .unwrap_err(),
        &format!("{:?}", PASSWORD.parse::<SecretRef>().unwrap_err()),
    ] {
        shown.look(value);
    }
    shown.tally.finish();
}

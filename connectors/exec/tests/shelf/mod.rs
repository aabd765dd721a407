//! A shelf as the world of the conformance suite, and one of the worked examples as the program that deploys to it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{CommandSetting, Period};
use deploy_exec::{Exec, ExecSettings};
use deploy_testkit::conformance::{Fault, Harness, NAME};
use deploy_testkit::shelf::Shelf;
use deploy_testkit::stand_in::{self, Answer};
use deploy_testkit::tree::Tree;
use deploy_testkit::{Authority, Request, observe};
use serde_json::{Map, json};

/// One of the worked examples.
pub(crate) trait Example: 'static {
    /// Its file in docs/examples/exec.
    const FILE: &'static str;
}

pub(crate) struct World<E> {
    shelf: Shelf,
    /// What the operator has beside the configuration: outside of what the suite searches for secrets.
    operators: tempfile::TempDir,
    listener: &'static str,
    example: std::marker::PhantomData<E>,
}

impl<E: Example> World<E> {
    fn set_token(&self, token: &str) {
        fs::write(self.token(), token).unwrap();
        fs::set_permissions(self.token(), fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn token(&self) -> PathBuf {
        self.operators.path().join("token")
    }

    fn objects(&self, foreign: bool) -> Tree {
        let objects = self.shelf.objects();
        let listeners = objects.listeners.into_iter().map(|(name, has)| (format!("listeners/{name}"), format!("{has:?}")));
        let certificates =
            objects.certificates.into_iter().map(|(id, certificate)| (format!("certificates/{id}"), format!("{certificate:?}")));
        let others = ["listeners/back", "certificates/foreign", "certificates/certdeploy-other"];
        let chosen = listeners.chain(certificates).filter(|(name, _)| !foreign || others.contains(&name.as_str()));
        Tree::of_objects(chosen.map(|(name, content)| (name, content.into_bytes())))
    }
}

impl<E: Example> Harness for World<E> {
    type Connector = Exec;

    const FAULTS: &'static [Fault] = &[
        Fault::CheckerRefuses,
        Fault::CheckerHangs,
        Fault::ReloadFails,
        Fault::ReloadAlwaysFails,
        Fault::ReloadHangs,
        Fault::Ignored,
        Fault::Unauthenticated,
        Fault::Forbidden,
        Fault::Missing,
        Fault::Overtaken,
        Fault::RateLimited,
        Fault::Busy,
        Fault::DropsBefore,
        Fault::DropsAfter,
        Fault::Silent,
        Fault::UntrustedTls,
        Fault::PartialUpload,
    ];

    const PERMISSION: &'static str = "certificates.write";

    fn start(_: &Path) -> Result<Self, String> {
        let operators = tempfile::tempdir().map_err(|error| error.to_string())?;
        let shelf = Shelf::start();
        shelf.add_listener("front");
        shelf.add_listener("back");
        let authority = Authority::new();
        let issue = || authority.issue(&Request::new(&[NAME]));
        shelf.put("foreign", &issue(), &[("team", "edge")]);
        shelf.put("certdeploy-other", &issue(), &[("managed-by", "certdeploy"), ("target", "another")]);
        shelf.activate("back", Some("foreign"));
        let world = Self { shelf, operators, listener: "front", example: std::marker::PhantomData };
        fs::write(world.operators.path().join("root.pem"), world.shelf.root_pem()).map_err(|error| error.to_string())?;
        world.set_token(world.shelf.writer_token());
        Ok(world)
    }

    fn settings(&self) -> ExecSettings {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/exec").join(E::FILE);
        let command = json!({ "command": [program], "timeout": "5s" });
        let command: CommandSetting = serde_json::from_value(command).unwrap();
        let mut settings = ExecSettings::new(command);
        settings.settings = Map::from_iter([
            ("url".to_owned(), json!(self.shelf.url())),
            ("listener".to_owned(), json!(self.listener)),
            ("ca_file".to_owned(), json!(self.operators.path().join("root.pem"))),
        ]);
        settings.secrets.insert("token".to_owned(), SecretRef::File(self.token()));
        settings.verify = Some(vec![Endpoint::new(self.shelf.listener_address("front").to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(Duration::from_secs(3));
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        observe::served_chain(self.shelf.listener_address("front"), Some(NAME)).ok()
    }

    fn state(&self) -> Tree {
        self.objects(false)
    }

    fn foreign(&self) -> Tree {
        self.objects(true)
    }

    fn break_with(&mut self, fault: Fault) {
        let answer = |status: u16| Answer::new(status).with_json(&json!({ "error": "as the test wants it" }));
        let wait = |status: u16| answer(status).with_header("Retry-After", "1");
        let (check, switch, upload) = ("/v1/check", "/v1/listeners", "/v1/certificates/");
        let faults = self.shelf.faults();
        match fault {
            Fault::CheckerRefuses => faults.inject(stand_in::Fault::answer(answer(422)).below(check).times(1)),
            Fault::CheckerHangs => faults.inject(stand_in::Fault::never().below(check)),
            Fault::ReloadFails => faults.inject(stand_in::Fault::answer(answer(400)).changing().below(switch).times(1)),
            Fault::ReloadAlwaysFails => {
                faults.inject(stand_in::Fault::close_after().changing().below(switch).times(1));
                faults.inject(stand_in::Fault::answer(answer(400)).changing().below(switch));
            }
            Fault::ReloadHangs => faults.inject(stand_in::Fault::never().changing().below(switch).times(1)),
            Fault::Ignored => self.shelf.freeze("front", true),
            Fault::Unauthenticated => self.set_token("nobody-knows-this-token"),
            Fault::Forbidden => self.set_token(self.shelf.reader_token()),
            Fault::Missing => self.listener = "gone",
            Fault::Overtaken => self.shelf.overtake("front", Some("foreign")),
            Fault::RateLimited => faults.inject(stand_in::Fault::answer(wait(429)).times(1)),
            Fault::Busy => faults.inject(stand_in::Fault::answer(wait(503)).times(1)),
            Fault::DropsBefore => faults.inject(stand_in::Fault::close_before().changing().times(1)),
            Fault::DropsAfter => faults.inject(stand_in::Fault::close_after().changing().times(1)),
            Fault::Silent => faults.inject(stand_in::Fault::never()),
            Fault::UntrustedTls => faults.inject(stand_in::Fault::untrusted_certificate()),
            Fault::PartialUpload => faults.inject(stand_in::Fault::close_before().changing().below(upload).after(1)),
            other => panic!("{other:?} is not one of FAULTS"),
        }
    }

    fn heal(&mut self) {
        self.shelf.faults().heal();
        self.shelf.freeze("front", false);
        self.set_token(self.shelf.writer_token());
        self.listener = "front";
    }

    fn secrets(&self) -> Vec<String> {
        vec![self.shelf.writer_token().to_owned(), self.shelf.reader_token().to_owned()]
    }
}

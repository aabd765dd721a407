//! A shelf as the world of the conformance suite, and one of the worked examples as the program that deploys to it.

use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{CommandSetting, Period};
use deploy_exec::{Exec, ExecSettings};
use deploy_testkit::conformance::{Fault, Harness, NAME};
use deploy_testkit::shelf::ShelfWorld;
use deploy_testkit::tree::Tree;
use serde_json::{Map, json};

/// A program for a shelf.
pub(crate) trait Example: 'static {
    /// Where it is.
    fn program() -> PathBuf;

    /// As [`Harness::left_out`].
    fn left_out(_case: &str) -> Option<&'static str> {
        None
    }
}

/// One of the worked examples, by the name of its file.
pub(crate) fn example(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/examples/exec").join(file)
}

pub(crate) struct World<E> {
    shelf: ShelfWorld,
    example: PhantomData<E>,
}

impl<E: Example> Harness for World<E> {
    type Connector = Exec;

    const FAULTS: &'static [Fault] = ShelfWorld::FAULTS;
    const PERMISSION: &'static str = ShelfWorld::PERMISSION;

    fn start(directory: &Path) -> Result<Self, String> {
        Ok(Self { shelf: ShelfWorld::start(directory)?, example: PhantomData })
    }

    fn left_out(case: &str) -> Option<&'static str> {
        E::left_out(case)
    }

    fn settings(&self) -> ExecSettings {
        let command: CommandSetting = serde_json::from_value(json!({ "command": [E::program()], "timeout": "5s" })).unwrap();
        let mut settings = ExecSettings::new(command);
        settings.settings = Map::from_iter([
            ("url".to_owned(), json!(self.shelf.shelf().url())),
            ("listener".to_owned(), json!(ShelfWorld::LISTENER)),
            ("ca_file".to_owned(), json!(self.shelf.ca_file())),
        ]);
        settings.secrets.insert("token".to_owned(), SecretRef::File(self.shelf.token_file()));
        settings.verify = Some(vec![Endpoint::new(self.shelf.address().to_string()).with_server_name(NAME)]);
        settings.verify_timeout = Period::new(ShelfWorld::VERIFY_TIMEOUT);
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        self.shelf.served()
    }

    fn state(&self) -> Tree {
        self.shelf.state()
    }

    fn foreign(&self) -> Tree {
        self.shelf.foreign()
    }

    fn break_with(&mut self, fault: Fault) {
        self.shelf.break_with(fault);
    }

    fn heal(&mut self) {
        self.shelf.heal();
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        self.shelf.secrets()
    }
}

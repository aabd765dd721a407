//! Somebody's program in somebody's world: the world is a program, too, which is told what to do in lines of JSON. The protocol
//! is on the book's page.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::OnceLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretRef;
use deploy_core::settings::{CommandSetting, Period};
use deploy_exec::{Exec, ExecSettings};
use deploy_testkit::conformance::{Fault, Harness, NAME};
use deploy_testkit::shelf::ShelfWorld;
use deploy_testkit::tree::Tree;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// A running world program.
pub(crate) struct OwnWorld {
    child: Child,
    lines: RefCell<(ChildStdin, BufReader<ChildStdout>)>,
    started: Started,
}

#[derive(Deserialize)]
struct Described {
    #[serde(default)]
    faults: Vec<Fault>,
    #[serde(default)]
    permission: String,
}

#[derive(Deserialize)]
struct Started {
    #[serde(default)]
    settings: Map<String, Value>,
    /// A secret's name, and the file that it is in.
    #[serde(default)]
    secrets: BTreeMap<String, PathBuf>,
    #[serde(default)]
    connect: Option<String>,
    #[serde(default)]
    keeps_keys_in: Vec<PathBuf>,
}

#[derive(Deserialize)]
struct Served {
    chain: Vec<String>,
}

#[derive(Deserialize)]
struct State {
    objects: BTreeMap<String, String>,
    #[serde(default)]
    foreign: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Done {}

impl OwnWorld {
    fn launch(directory: &Path) -> Result<(Child, ChildStdin, BufReader<ChildStdout>), String> {
        let program = crate::world_program();
        let child = Command::new(&program).arg(directory).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.map_err(|error| format!("{}: {error}", program.display()))?;
        let (input, output) = (child.stdin.take().ok_or("no input")?, child.stdout.take().ok_or("no output")?);
        Ok((child, input, BufReader::new(output)))
    }

    fn ask<T: DeserializeOwned>(&self, request: &Value) -> T {
        let (input, output) = &mut *self.lines.borrow_mut();
        ask(input, output, request).unwrap_or_else(|error| panic!("the world: {error}"))
    }
}

fn ask<T: DeserializeOwned>(input: &mut ChildStdin, output: &mut BufReader<ChildStdout>, request: &Value) -> Result<T, String> {
    let mut line = String::new();
    writeln!(input, "{request}").and_then(|()| output.read_line(&mut line)).map_err(|error| error.to_string())?;
    serde_json::from_str(&line).map_err(|error| format!("the answer to {request} is {line:?}: {error}"))
}

fn described() -> &'static Described {
    static DESCRIBED: OnceLock<Described> = OnceLock::new();
    DESCRIBED.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let (mut child, mut input, mut output) = OwnWorld::launch(directory.path()).unwrap();
        let described = ask(&mut input, &mut output, &json!({ "do": "describe" })).unwrap();
        drop(input);
        child.wait().unwrap();
        described
    })
}

impl Drop for OwnWorld {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Harness for OwnWorld {
    type Connector = Exec;

    const FAULTS: &'static [Fault] = &[];

    fn faults() -> &'static [Fault] {
        &described().faults
    }

    fn permission() -> &'static str {
        &described().permission
    }

    fn start(directory: &Path) -> Result<Self, String> {
        let (child, mut input, mut output) = Self::launch(directory)?;
        let started = ask(&mut input, &mut output, &json!({ "do": "start", "name": NAME }))?;
        Ok(Self { child, lines: RefCell::new((input, output)), started })
    }

    fn settings(&self) -> ExecSettings {
        let command: CommandSetting = serde_json::from_value(json!({ "command": [crate::program()], "timeout": "5s" })).unwrap();
        let mut settings = ExecSettings::new(command);
        settings.settings = self.started.settings.clone();
        for (name, file) in &self.started.secrets {
            settings.secrets.insert(name.clone(), SecretRef::File(file.clone()));
        }
        let endpoint = |connect: &String| vec![Endpoint::new(connect.clone()).with_server_name(NAME)];
        settings.verify = self.started.connect.as_ref().map(endpoint);
        settings.verify_timeout = Period::new(ShelfWorld::VERIFY_TIMEOUT);
        settings
    }

    fn served(&self) -> Option<Vec<Vec<u8>>> {
        let served: Served = self.ask(&json!({ "do": "served" }));
        let chain: Vec<Vec<u8>> = served.chain.iter().map(|der| STANDARD.decode(der).unwrap()).collect();
        Some(chain).filter(|chain| !chain.is_empty())
    }

    fn state(&self) -> Tree {
        let state: State = self.ask(&json!({ "do": "state" }));
        Tree::of_objects(state.objects.into_iter().map(|(name, content)| (name, content.into_bytes())))
    }

    fn foreign(&self) -> Tree {
        let state: State = self.ask(&json!({ "do": "state" }));
        Tree::of_objects(state.foreign.into_iter().map(|(name, content)| (name, content.into_bytes())))
    }

    fn break_with(&mut self, fault: Fault) {
        let Done {} = self.ask(&json!({ "do": "break", "fault": fault }));
    }

    fn heal(&mut self) {
        let Done {} = self.ask(&json!({ "do": "heal" }));
    }

    fn keeps_keys_in(&self) -> Vec<PathBuf> {
        self.started.keeps_keys_in.clone()
    }

    fn secrets(&self) -> Vec<(String, PathBuf)> {
        let read = |file: &PathBuf| std::fs::read_to_string(file).unwrap().trim_end().to_owned();
        self.started.secrets.values().map(|file| (read(file), file.clone())).collect()
    }
}

//! Reading a configuration, and finding everything that is wrong with it in one go.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use deploy_core::certificate::{CertificateSource, PemFiles};
use deploy_core::host::Host;
use deploy_core::{Entry, Job, Registry, SettingError, SharedDestination, Target, shared_destination};
use serde::de::DeserializeOwned;
use serde_json::Value as Json;
use toml_edit::Document;

use super::locate::{Locate, Node, Segment, position, remove, segments};
use super::machine::{Machine, ReadHere, check_remote, route, shared_path};
use super::placeholder::placeholders;
use super::problem::{ConfigurationError, Problem, explain, missing_field, unknown_field};
use super::settings::{AgentSettings, CertificateSettings, TargetSettings};
use super::source::{Distrust, FRAGMENTS, Source, fragments, read};
use super::{Configuration, ConfiguredTarget};
use crate::{STANDARD, nearest};

/// Reads `path` and the files of `certdeploy.d` beside it. Changes nothing that they name.
///
/// # Errors
/// Every problem that was found, with file, line and column.
pub(crate) fn load(path: &Path, registry: &Registry, host: &dyn Host) -> Result<Configuration, ConfigurationError> {
    let mut loader = Loader::new(registry);
    loader.files(path, host);
    loader.finish(path, host)
}

/// What was found so far.
struct Loader<'a> {
    registry: &'a Registry,
    configuration: Configuration,
    agent_seen: bool,
    missing: bool,
    certificates: BTreeMap<String, Arc<dyn CertificateSource>>,
    /// Names of certificates that are reported already; a reference to one is no mistake.
    broken_certificates: BTreeSet<String>,
    /// By lowercase name: history and backups must not collide on a file system that ignores case.
    target_names: BTreeMap<String, String>,
    /// The machines that targets are on.
    machines: Vec<Machine>,
    /// References to certificates, which may stand in a file that is read later.
    pending: Vec<Pending>,
    problems: Vec<(usize, Problem)>,
    /// Fields of the table at hand that were most likely meant by unknown ones, and are not missed a second time.
    meant: Vec<String>,
}

/// A target whose certificate is not looked up yet.
struct Pending {
    file: usize,
    problem: Problem,
    settings: TargetSettings,
    target: Option<Arc<dyn Target>>,
    machine: Option<Machine>,
}

/// A table of a file: what it is called in messages, and where it stands.
#[derive(Clone, Copy)]
struct Place<'a> {
    file: usize,
    source: &'a Source,
    node: Node<'a>,
    subject: &'a str,
}

impl Place<'_> {
    fn problem(&self, span: Option<Range<usize>>, message: impl Into<String>) -> Problem {
        Problem {
            file: self.source.path.clone(),
            position: span.map(|span| position(&self.source.text, span.start)),
            subject: (!self.subject.is_empty()).then(|| self.subject.to_owned()),
            message: message.into(),
        }
    }
}

impl<'a> Loader<'a> {
    fn new(registry: &'a Registry) -> Self {
        let configuration = Configuration {
            files: Vec::new(),
            agent: AgentSettings::default(),
            certificates: Vec::new(),
            targets: Vec::new(),
            warnings: Vec::new(),
        };
        Self {
            registry,
            configuration,
            agent_seen: false,
            missing: false,
            certificates: BTreeMap::new(),
            broken_certificates: BTreeSet::new(),
            target_names: BTreeMap::new(),
            machines: Vec::new(),
            pending: Vec::new(),
            problems: Vec::new(),
            meant: Vec::new(),
        }
    }

    fn files(&mut self, path: &Path, host: &dyn Host) {
        self.file(path);
        match fragments(path, host) {
            Ok((fragments, distrust)) => {
                self.distrust(&path.with_file_name(FRAGMENTS), distrust);
                fragments.iter().for_each(|fragment| self.file(fragment));
            }
            Err(error) => self.file_problem(path, format!("the directory {FRAGMENTS} beside it cannot be read: {error}")),
        }
    }

    fn file(&mut self, path: &Path) {
        let index = self.configuration.files.len();
        self.configuration.files.push(path.to_owned());
        let (source, distrust) = match read(path) {
            Ok(read) => read,
            Err(error) => {
                self.missing |= index == 0 && error.kind() == io::ErrorKind::NotFound;
                return self.file_problem(path, read_failure(&error));
            }
        };
        self.distrust(path, distrust);
        let root = Place { file: index, source: &source, node: Node::Nothing, subject: "" };
        match Document::parse(source.text.as_str()) {
            Ok(document) => self.document(Place { node: Node::Table(document.as_table()), ..root }),
            Err(error) => self.report(&root, error.span(), error.message().trim().replace('\n', "; ")),
        }
    }

    fn document(&mut self, root: Place<'_>) {
        const KNOWN: [&str; 3] = ["agent", "certificate", "target"];
        let Some(table) = root.node.table() else { return };
        for (name, item) in table.iter() {
            let place = Place { node: item.into(), ..root };
            let key = || root.node.locate(&segments(name), Locate::Name);
            match name {
                "agent" => self.agent(place),
                "certificate" | "target" => {
                    let Some(elements) = place.node.elements() else {
                        self.report(&root, key(), format!("`{name}` is a list: write [[{name}]]"));
                        continue;
                    };
                    for node in elements {
                        self.element(name, Place { node, ..root });
                    }
                }
                _ => self.report(&root, key(), format!("unknown field `{name}`; {}", nearest::advice(name, &KNOWN))),
            }
        }
    }

    fn agent(&mut self, place: Place<'_>) {
        let place = Place { subject: "agent", ..place };
        if std::mem::replace(&mut self.agent_seen, true) {
            return self.report(&place, place.node.span(), "the table stands in another file already");
        }
        let Some(settings) = self.parse::<AgentSettings>(&place, place.node.json(), &[]) else { return };
        if settings.state_dir.as_ref().is_some_and(|path| !path.is_absolute()) {
            return self.setting(&place, &SettingError::new("state_dir", "is not an absolute path"), &[]);
        }
        self.configuration.agent = settings;
    }

    /// One `[[certificate]]` or `[[target]]`.
    fn element(&mut self, list: &str, place: Place<'_>) {
        let json = place.node.json();
        let Json::Object(settings) = &json else {
            return self.report(&place, place.node.span(), format!("`{list}` is a list of tables: write [[{list}]]"));
        };
        self.meant.clear();
        let name = settings.get("name").and_then(Json::as_str);
        let subject = name.map_or_else(|| list.to_owned(), |name| format!("{list} `{name}`"));
        let place = Place { subject: &subject, ..place };
        for (path, value) in placeholders(&json) {
            let message = format!("`{value}` is a placeholder: write the real value");
            self.setting(&place, &SettingError::new(path, message), &[]);
        }
        if list == "target" { self.target(&place, json) } else { self.certificate(&place, json) }
    }

    fn certificate(&mut self, place: &Place<'_>, json: Json) {
        let name = json.get("name").and_then(Json::as_str).map(str::to_owned);
        let Some(settings) = self.parse::<CertificateSettings>(place, json, &[]) else {
            self.broken_certificates.extend(name);
            return;
        };
        for (field, path) in [("fullchain", &settings.fullchain), ("key", &settings.key)] {
            if !path.is_absolute() {
                self.setting(place, &SettingError::new(field, format!("{} is not an absolute path", path.display())), &[]);
            }
        }
        if settings.name.is_empty() {
            return self.setting(place, &SettingError::new("name", "is empty"), &[]);
        }
        let source = Arc::new(PemFiles::new(settings.fullchain, settings.key));
        if self.certificates.insert(settings.name.clone(), source).is_some() {
            return self.setting(place, &SettingError::new("name", "another certificate has this name"), &[]);
        }
        self.configuration.certificates.push(settings.name);
    }

    fn target(&mut self, place: &Place<'_>, json: Json) {
        let (own, rest) = split(json);
        let word = |field: &str| own.get(field).and_then(Json::as_str);
        // What is wrong with the settings of the connector is worth knowing even if the agent's are wrong, too; and they come
        // first, because a misspelt setting of the agent is among them.
        let target = match (word("kind"), word("kind").and_then(|kind| self.registry.get(kind))) {
            (_, Some(entry)) => self.build(place, entry, word("name").unwrap_or_default(), rest),
            (Some(kind), None) => {
                let message = unknown_kind(kind, self.registry);
                self.setting(place, &SettingError::new("kind", message), &[]);
                None
            }
            (None, None) => None,
        };
        let machine = own.get("via").and_then(|via| self.machine(place, via));
        if let Some(target) = &target {
            self.place_of(place, word("kind").unwrap_or_default(), &**target, own.get("via").is_some());
        }
        if let Some(settings) = self.parse::<TargetSettings>(place, own, &[]) {
            self.target_name(place, &settings.name);
            let span = place.node.locate(&segments("certificate"), Locate::Value);
            self.pending.push(Pending { file: place.file, problem: place.problem(span, ""), settings, target, machine });
        }
    }

    /// The machine of a `via`: the one of another target with the same, or a new one.
    fn machine(&mut self, place: &Place<'_>, via: &Json) -> Option<Machine> {
        if let Some(known) = self.machines.iter().find(|known| known.is(via)) {
            return Some(known.clone());
        }
        let entry = match route(via, self.registry) {
            Ok(entry) => entry,
            Err(error) => {
                self.setting(place, &error, &[]);
                return None;
            }
        };
        // Under its name, so that what is unknown in it is found by the path that errors give.
        let settings = serde_json::json!({ "via": via });
        let machine = self.without_unknown_fields(place, settings, &[], |settings| Machine::build(entry, &settings["via"]))?;
        self.machines.push(machine.clone());
        Some(machine)
    }

    /// Whether a target is on a machine that it can be on.
    fn place_of(&mut self, place: &Place<'_>, kind: &str, target: &dyn Target, is_remote: bool) {
        let needs_route = self.registry.get(kind).is_some_and(|entry| entry.needs_route);
        let checked = match (is_remote, needs_route) {
            (true, _) => check_remote(kind, target),
            (false, true) => Err(SettingError::new(
                "",
                format!("the kind `{kind}` is for other machines: name one, with via = {{ ssh = {{ host = \"web1\" }} }}"),
            )),
            (false, false) => Ok(()),
        };
        if let Err(error) = checked {
            self.setting(place, &error, &[]);
        }
    }

    fn target_name(&mut self, place: &Place<'_>, name: &str) {
        let valid = (1..=64).contains(&name.len())
            && !name.starts_with('.')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        let message = if !valid {
            "a target's name is 1 to 64 letters, digits, `.`, `_` and `-`, not starting with a dot".to_owned()
        } else {
            match self.target_names.insert(name.to_lowercase(), name.to_owned()) {
                None => return,
                Some(other) if other == name => "another target has this name".to_owned(),
                Some(other) => format!("the name differs from `{other}` in case only"),
            }
        };
        self.setting(place, &SettingError::new("name", message), &[]);
    }

    fn build(&mut self, place: &Place<'_>, entry: &Entry, name: &str, settings: Json) -> Option<Arc<dyn Target>> {
        let own = TargetSettings::NAMES;
        self.without_unknown_fields(place, settings, &own, |settings| entry.build(name, settings)).map(Arc::from)
    }

    fn parse<T: DeserializeOwned>(&mut self, place: &Place<'_>, settings: Json, more: &[&str]) -> Option<T> {
        self.without_unknown_fields(place, settings, more, |settings| {
            serde_path_to_error::deserialize(settings).map_err(|error| {
                let path = error.path().to_string();
                SettingError::new(if path == "." { String::new() } else { path }, error.inner().to_string())
            })
        })
    }

    /// Parses settings. An unknown field is reported and taken out, so that the next problem is found, too.
    fn without_unknown_fields<T>(
        &mut self,
        place: &Place<'_>,
        mut settings: Json,
        more: &[&str],
        parse: impl Fn(Json) -> Result<T, SettingError>,
    ) -> Option<T> {
        let mut sound = true;
        loop {
            let error = match parse(settings.clone()) {
                Ok(value) => return sound.then_some(value),
                Err(error) => error,
            };
            sound = false;
            if missing_field(&error.message).is_some_and(|field| self.meant.iter().any(|meant| meant == field)) {
                return None;
            }
            self.setting(place, &error, more);
            let (field, known) = unknown_field(&error.message)?;
            self.meant.extend(nearest::nearest(field, known.iter().chain(more).copied()).map(str::to_owned));
            if !remove(&mut settings, &field_path(&error.path, field)) {
                return None;
            }
        }
    }

    /// A problem with one setting of a table.
    fn setting(&mut self, place: &Place<'_>, error: &SettingError, more: &[&str]) {
        let span = match unknown_field(&error.message) {
            Some((field, _)) => place.node.locate(&field_path(&error.path, field), Locate::Name),
            None => place.node.locate(&segments(&error.path), Locate::Value),
        };
        self.report(place, span, explain(error, more));
    }

    fn report(&mut self, place: &Place<'_>, span: Option<Range<usize>>, message: impl Into<String>) {
        self.problems.push((place.file, place.problem(span, message)));
    }

    fn file_problem(&mut self, path: &Path, message: String) {
        let index = self.configuration.files.len().saturating_sub(1);
        self.problems.push((index, Problem { file: path.to_owned(), position: None, subject: None, message }));
    }

    fn distrust(&mut self, path: &Path, distrust: Option<Distrust>) {
        match distrust {
            Some(Distrust::Refused(message)) => self.file_problem(path, message),
            Some(Distrust::Warned(message)) => self.warn(path, message),
            None => {}
        }
    }

    fn warn(&mut self, path: &Path, message: String) {
        self.configuration.warnings.push(Problem { file: path.to_owned(), position: None, subject: None, message });
    }

    /// Two targets that write one file.
    fn shared_files(&mut self, path: &Path, host: &dyn Host) {
        if self.configuration.targets.len() < 2 {
            return;
        }
        let targets = &self.configuration.targets;
        let remote = targets.iter().filter_map(|target| Some((target.name.as_str(), target.machine.as_ref()?, &*target.target)));
        if let Some(([one, other], shared)) = shared_path(remote) {
            let message = format!("targets `{one}` and `{other}` write one file, {}; give each its own", shared.display());
            return self.file_problem(path, message);
        }
        let jobs: Vec<Job> = targets.iter().filter(|target| target.machine.is_none()).map(ConfiguredTarget::job).collect();
        if let Some(SharedDestination { writers: [(one, one_path), (other, other_path)], .. }) = shared_destination(&jobs, host) {
            let (one_path, other_path) = (one_path.display(), other_path.display());
            self.file_problem(
                path,
                format!("targets `{one}` ({one_path}) and `{other}` ({other_path}) write one file; give each its own"),
            );
        }
    }

    fn finish(mut self, path: &Path, host: &dyn Host) -> Result<Configuration, ConfigurationError> {
        let mut used = BTreeSet::new();
        for Pending { file, problem, settings, target, machine } in std::mem::take(&mut self.pending) {
            let Some(source) = self.certificates.get(&settings.certificate) else {
                if self.broken_certificates.contains(&settings.certificate) {
                    continue;
                }
                let known: Vec<&str> = self.certificates.keys().map(String::as_str).collect();
                let message = format!(
                    "there is no certificate `{}`; {}",
                    settings.certificate,
                    nearest::advice(&settings.certificate, &known)
                );
                self.problems.push((file, Problem { message, ..problem }));
                continue;
            };
            used.insert(settings.certificate.clone());
            let Some(target) = target else { continue };
            let source = match machine {
                Some(_) => Arc::new(ReadHere(Arc::clone(source))),
                None => Arc::clone(source),
            };
            self.configuration.targets.push(ConfiguredTarget {
                name: settings.name,
                kind: settings.kind,
                certificate: settings.certificate,
                service: settings.service,
                timeout: settings.timeout.map(|period| period.duration()),
                target,
                source,
                machine,
            });
        }
        if self.configuration.targets.is_empty() && self.problems.is_empty() {
            self.file_problem(path, "there is no [[target]]: nothing would be deployed".to_owned());
        }
        for name in self.configuration.certificates.iter().filter(|name| !used.contains(*name)) {
            let message = format!("no target uses certificate `{name}`");
            self.configuration.warnings.push(Problem { file: path.to_owned(), position: None, subject: None, message });
        }
        self.shared_files(path, host);
        if self.problems.is_empty() {
            return Ok(self.configuration);
        }
        self.problems.sort_by_key(|(file, problem)| (*file, problem.position));
        let problems = self.problems.into_iter().map(|(_, problem)| problem).collect();
        Err(ConfigurationError { problems, state_directory: self.configuration.agent.state_dir, missing: self.missing })
    }
}

/// The path to an unknown field: errors name it, or the table that it is in.
fn field_path(path: &str, field: &str) -> Vec<Segment> {
    let mut path = segments(path);
    let field = Segment::Name(field.to_owned());
    if path.last() != Some(&field) {
        path.push(field);
    }
    path
}

/// The settings of a target that are the agent's, and those that are its connector's.
fn split(settings: Json) -> (Json, Json) {
    let Json::Object(settings) = settings else { return (Json::Null, Json::Null) };
    let (own, rest): (serde_json::Map<_, _>, _) =
        settings.into_iter().partition(|(name, _)| TargetSettings::NAMES.contains(&name.as_str()));
    (Json::Object(own), Json::Object(rest))
}

/// Why a kind is not known.
pub(crate) fn unknown_kind(kind: &str, registry: &Registry) -> String {
    if STANDARD.contains(&kind) {
        return format!("kind `{kind}` is not built in: this certdeploy was built without the feature `{kind}`");
    }
    let known: Vec<&str> = registry.entries().map(|entry| entry.kind).collect();
    format!("there is no kind `{kind}`; {}", nearest::advice(kind, &known))
}

fn read_failure(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::InvalidData => "the file is not UTF-8 text".to_owned(),
        io::ErrorKind::FileTooLarge => "the file is larger than 16 MiB".to_owned(),
        _ => format!("the file cannot be read: {error}"),
    }
}

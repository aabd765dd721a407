//! `connectors discover`: targets for what a server serves today. Changes nothing.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

use deploy_core::command::Command;
use deploy_core::{Entry, Found, Look, Registry};
use serde_json::{Map, Value};
use toml_edit::{DocumentMut, Item, Table};

use crate::cli::Options;
use crate::config::unknown_kind;
use crate::exit;
use crate::failure::Failure;
use crate::output::json::{Discover, Discovered};
use crate::output::{self, text};
use crate::session::Runner;

/// Where certbot, and what is like it, puts the renewed files. A target must not write there: they are its source.
const LIVE: &str = "/etc/letsencrypt/live/";

/// Asks the server of a kind, and prints a certificate and a target for each certificate that it serves.
pub(crate) fn run(kind: &str, command: &[OsString], options: &Options, registry: &Registry) -> Result<u8, Failure> {
    let entry = registry.get(kind).ok_or_else(|| Failure::Usage(unknown_kind(kind, registry)))?;
    let runner = Runner::new(options, None)?;
    let command = (!command.is_empty()).then(|| Command::new(command));
    let look = Look::new(runner.context()).with_command(command);
    let found = entry.discover(&look).map_err(Failure::Discovery)?;
    let mut names = BTreeSet::new();
    let found = found.into_iter().map(|found| describe(entry, found, &mut names)).collect::<Result<_, _>>()?;
    output::print(options.json, &Discover { found }, text::discover);
    Ok(exit::SUCCESS)
}

fn describe(entry: &Entry, found: Found, taken: &mut BTreeSet<String>) -> Result<Discovered, Failure> {
    let name = unused(&base_name(&found), taken);
    let target = format!("{}-{name}", entry.kind);
    let source = source(&found.settings).unwrap_or_else(|| format!("{LIVE}{name}"));
    let own = Path::new("/etc").join(entry.kind).join("tls");
    let moved = moved(&found.settings, &own.to_string_lossy());
    let changed = moved != found.settings;
    // What is printed has to be a target; a connector that finds something else has a defect.
    entry.build(&target, Value::Object(moved.clone())).map_err(|error| {
        Failure::Internal(format!("what was found for {name} is no target of the kind {}: {error}", entry.kind))
    })?;
    let mut document = DocumentMut::new();
    let mut certificate = Table::new();
    certificate["name"] = value(&name);
    certificate["fullchain"] = value(&format!("{source}/fullchain.pem"));
    certificate["key"] = value(&format!("{source}/privkey.pem"));
    let mut entries = Table::new();
    entries["name"] = value(&target);
    entries["kind"] = value(entry.kind);
    entries["certificate"] = value(&name);
    for (setting, found) in moved {
        entries[&setting] = item(&found);
    }
    let mut lines = vec![format!(
        "# {} serves this for {}.",
        entry.kind,
        if found.names.is_empty() { "any name".to_owned() } else { found.names.join(", ") }
    )];
    if changed {
        lines.push(format!(
            "# It reads the files of the ACME client itself: make {}, and name the files of the target in its configuration.",
            own.display()
        ));
    } else {
        lines.push("# Name the files in which your ACME client puts the renewed certificate.".to_owned());
    }
    certificate.decor_mut().set_prefix(format!("{}\n", lines.join("\n")));
    entries.decor_mut().set_prefix("\n");
    document["certificate"] = Item::ArrayOfTables(std::iter::once(certificate).collect());
    document["target"] = Item::ArrayOfTables(std::iter::once(entries).collect());
    Ok(Discovered { names: found.names, toml: document.to_string() })
}

/// The first name, without what a target's name cannot have.
fn base_name(found: &Found) -> String {
    let name = found.names.first().map_or("default", String::as_str);
    let fits = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let name: String = name.replace("*.", "wildcard.").chars().filter(|c| fits(*c)).take(40).collect();
    let name = name.trim_start_matches('.');
    if name.is_empty() { "default".to_owned() } else { name.to_owned() }
}

fn unused(name: &str, taken: &mut BTreeSet<String>) -> String {
    let numbered = (2_u32..).map(|number| format!("{name}-{number}"));
    let free = std::iter::once(name.to_owned()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(free.clone());
    free
}

/// The directory of the ACME client that the server reads, if it does.
fn source(settings: &Map<String, Value>) -> Option<String> {
    let path = settings.values().filter_map(Value::as_str).find(|path| path.starts_with(LIVE))?;
    Some(Path::new(path).parent()?.to_string_lossy().into_owned())
}

/// The settings with paths of the ACME client moved to a directory of the server's own.
fn moved(settings: &Map<String, Value>, own: &str) -> Map<String, Value> {
    let moved = |value: &Value| match value.as_str().and_then(|path| path.strip_prefix(LIVE)) {
        Some(rest) => Value::String(format!("{own}/{}", rest.replace('/', "."))),
        None => value.clone(),
    };
    settings.iter().map(|(setting, value)| (setting.clone(), moved(value))).collect()
}

fn value(text: &str) -> Item {
    toml_edit::value(text)
}

fn item(found: &Value) -> Item {
    match written(found) {
        Some(value) => Item::Value(value),
        None => Item::None,
    }
}

/// The same in TOML, which has no null.
fn written(found: &Value) -> Option<toml_edit::Value> {
    Some(match found {
        Value::Null => return None,
        Value::Bool(flag) => (*flag).into(),
        Value::Number(number) => number.as_i64()?.into(),
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().filter_map(written).collect::<toml_edit::Array>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().filter_map(|(name, field)| Some((name.as_str(), written(field)?)));
            fields.collect::<toml_edit::InlineTable>().into()
        }
    })
}

//! A new connector: its crate with everything but what is particular to it, its page, and its place in the workspace.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;

use crate::{Outcome, shell};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Its kind in configurations: lower case letters, digits and hyphens
    name: String,
    /// It describes files and a reload
    #[arg(long, required_unless_present = "push", conflicts_with = "push")]
    files: bool,
    /// It makes calls to an API
    #[arg(long)]
    push: bool,
    /// Another checkout of the project to put it into
    #[arg(long, value_name = "DIRECTORY")]
    into: Option<PathBuf>,
}

macro_rules! templates {
    ($($path:literal: $template:literal),* $(,)?) => {
        &[$(($path, include_str!(concat!("../templates/", $template, ".template")))),*]
    };
}

/// Where each file goes, and what it is made of.
type Templates = &'static [(&'static str, &'static str)];

const FILES: Templates = templates! {
    "connectors/@NAME@/Cargo.toml": "Cargo.toml",
    "connectors/@NAME@/README.md": "README.md",
    "connectors/@NAME@/src/lib.rs": "files/lib.rs",
    "connectors/@NAME@/src/config.rs": "files/config.rs",
    "connectors/@NAME@/src/target.rs": "files/target.rs",
    "connectors/@NAME@/tests/conformance.rs": "files/conformance.rs",
    "docs/@NAME@.md": "files/page.md",
};

const PUSH: Templates = templates! {
    "connectors/@NAME@/Cargo.toml": "Cargo.toml",
    "connectors/@NAME@/README.md": "README.md",
    "connectors/@NAME@/src/lib.rs": "push/lib.rs",
    "connectors/@NAME@/src/config.rs": "push/config.rs",
    "connectors/@NAME@/src/target.rs": "push/target.rs",
    "connectors/@NAME@/src/client.rs": "push/client.rs",
    "connectors/@NAME@/tests/conformance.rs": "push/conformance.rs",
    "docs/@NAME@.md": "push/page.md",
};

/// What registers a connector: in which file, at which text, and what comes before it there.
type Registration = (&'static str, &'static str, &'static str);

const REGISTRATIONS: &[Registration] = &[
    ("Cargo.toml", "    \"agent\"", "    \"connectors/@NAME@\",\n"),
    ("Cargo.toml", "deploy-testkit = {", "deploy-@NAME@ = { path = \"connectors/@NAME@\", version = \"@VERSION@\" }\n"),
    ("agent/Cargo.toml", "nginx = [\"dep:", "@NAME@ = [\"dep:deploy-@NAME@\"]\n"),
    ("agent/Cargo.toml", "\"default\"", "\"@NAME@\", "),
    ("agent/Cargo.toml", "deploy-core.workspace", "deploy-@NAME@ = { workspace = true, optional = true }\n"),
    ("agent/src/lib.rs", "    \"nginx\" =>", "    \"@NAME@\" => @CRATE@::@TYPE@,\n"),
    ("docs/SUMMARY.md", "- [Configuration](", "- [@NAME@](@NAME@.md)\n"),
];

/// Features of the agent, and packages and folders with names of this pattern that are no connectors.
const RESERVED: &[&str] =
    &["aws", "core", "default", "e2e", "full", "http", "keystore", "proof", "servers", "support", "testkit"];

/// Types of the templates, and of what they use, which the new one would hide.
const TYPES: &[&str] = &[
    "Box",
    "Capabilities",
    "Certificate",
    "Client",
    "Connector",
    "Context",
    "Debug",
    "Deployment",
    "Endpoint",
    "Err",
    "Error",
    "Fault",
    "Harness",
    "Hooks",
    "None",
    "Observed",
    "Ok",
    "Option",
    "Order",
    "Path",
    "Plan",
    "Push",
    "Recovery",
    "Result",
    "Self",
    "Serialize",
    "Snapshot",
    "Some",
    "String",
    "Target",
    "Tree",
    "Validation",
    "Vec",
    "Verify",
    "World",
];

pub(crate) fn run(options: &Options) -> Outcome {
    let name = Name::parse(&options.name)?;
    let top = options.into.clone().unwrap_or_else(shell::root);
    let templates = if options.push { PUSH } else { FILES };
    let new: Vec<(PathBuf, String)> = templates.iter().map(|(path, text)| (top.join(name.fill(path)), name.fill(text))).collect();
    if let Some((taken, _)) = new.iter().find(|(path, _)| path.exists()) {
        return Err(format!("the name {} is taken: {} is there", name.kind, taken.display()));
    }
    let changed = registered(&top, &name)?;
    // Everything is known to go well before anything is written.
    for (path, text) in new.iter().chain(&changed) {
        shell::create_directory(path.parent().unwrap_or(&top))?;
        std::fs::write(path, text).map_err(|error| format!("can't write {}: {error}", path.display()))?;
        println!("    {}", path.strip_prefix(&top).unwrap_or(path).display());
    }
    format(&top, &name)?;
    println!("{}", name.fill(NEXT));
    Ok(())
}

const NEXT: &str = "
Next:
  1. cargo test --package deploy-@NAME@ --test conformance
     What fails says what is not written yet. docs/write-a-connector.md has the steps, docs/contract.md what each case asks for.
  2. Give deploy-@NAME@ a budget in xtask/src/graph.rs; `cargo xtask graph` says how many crates it needs.
  3. Write docs/@NAME@.md, then `cargo xtask docs` for the generated pages.
  4. Where it needs no heavy dependency, move its feature to `default` in agent/Cargo.toml.";

/// What the new connector is called, in each place.
#[derive(Debug)]
struct Name {
    kind: String,
    type_name: String,
}

impl Name {
    fn parse(kind: &str) -> Outcome<Self> {
        let word = |word: &str| !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
        if !kind.starts_with(|first: char| first.is_ascii_lowercase()) || !kind.split('-').all(word) {
            return Err(format!("{kind:?} is no name: lower case letters, digits and single hyphens, a letter first"));
        }
        let type_name: String = kind.split('-').map(capitalised).collect();
        if RESERVED.contains(&kind) || TYPES.contains(&&*type_name) {
            return Err(format!("the name {kind} is taken"));
        }
        Ok(Self { kind: kind.to_owned(), type_name })
    }

    fn fill(&self, text: &str) -> String {
        text.replace("@NAME@", &self.kind)
            .replace("@TYPE@", &self.type_name)
            .replace("@CRATE@", &format!("deploy_{}", self.kind.replace('-', "_")))
            .replace("@VERSION@", env!("CARGO_PKG_VERSION"))
    }
}

fn capitalised(word: &str) -> String {
    let (first, rest) = word.split_at(1);
    first.to_uppercase() + rest
}

/// The files that name every connector, with one more.
fn registered(top: &Path, name: &Name) -> Outcome<Vec<(PathBuf, String)>> {
    let mut files: BTreeMap<PathBuf, String> = BTreeMap::new();
    for (file, anchor, new) in REGISTRATIONS {
        let path = top.join(file);
        let text = match files.remove(&path) {
            Some(text) => text,
            None => std::fs::read_to_string(&path).map_err(|error| format!("can't read {}: {error}", path.display()))?,
        };
        let (before, after) = text.split_once(anchor).ok_or_else(|| format!("{file} has no `{anchor}`"))?;
        files.insert(path, format!("{before}{}{anchor}{after}", name.fill(new)));
    }
    Ok(files.into_iter().collect())
}

/// Where lines break depends on the length of the name.
fn format(top: &Path, name: &Name) -> Outcome {
    let mut command: Command = shell::cargo(&["fmt", "--package", &format!("deploy-{}", name.kind)]);
    shell::run(command.current_dir(top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_checked() {
        let name = Name::parse("aws-acm2").unwrap();
        assert_eq!(name.fill("@NAME@ @TYPE@ @CRATE@"), "aws-acm2 AwsAcm2 deploy_aws_acm2");
        for bad in ["", "2acm", "-a", "a-", "a--b", "Acm", "a_b", "a b", "../a", "ä", "core", "self", "target", "plan"] {
            assert!(Name::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn this_checkout_has_the_places_where_a_connector_is_registered() {
        let name = Name::parse("some-server").unwrap();
        let files = registered(&shell::root(), &name).unwrap();
        assert_eq!(files.len(), 4);
        assert!(files.iter().all(|(_, text)| text.contains("some-server")));
    }
}

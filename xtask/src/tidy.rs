//! House rules that no compiler knows: length of files, likeness of connectors, manifests, paths of somebody's machine.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::process::Command;

use crate::{Outcome, graph, shell};

/// The longest source file, tests not counted.
const MOST_LINES: usize = 600;

/// What each connector consists of.
const CONNECTOR: &[&str] = &["Cargo.toml", "README.md", "src/config.rs", "src/lib.rs", "src/target.rs"];

/// What a connector may have besides.
const CONNECTOR_MORE: &[&str] = &[
    // Which bindings of a web server are meant, and its files in a shared store.
    "src/bindings.rs",
    "src/central_store.rs",
    "src/client.rs",
    "src/discovery.rs",
    // Who asks, and what is asked for in which form.
    "src/challenge.rs",
    "src/credentials.rs",
    "src/policy.rs",
    // How a leaf is found out of an answer, and requests that are described by settings.
    "src/fingerprint.rs",
    "src/signature.rs",
    "src/template.rs",
    // A cluster: how it is reached, what lies in it, and what its refusals mean.
    "src/access.rs",
    "src/object.rs",
    "src/refusal.rs",
    // The objects of an API: what a certificate becomes, what it is bound to, and the session in which that is done.
    "src/material.rs",
    "src/profile.rs",
    "src/session.rs",
    // The protocol that programs speak, and a call of one.
    "src/problem.rs",
    "src/program.rs",
    "src/protocol.rs",
    "src/redact.rs",
];

/// Where it is said what each connector was tried with, and in which words.
const TRIED: &str = "docs/testing.md";
const DEGREES: &[&str] = &["real", "stand-in, checked by a real client", "stand-in only"];

/// Users that only exist in examples and tests.
const EXAMPLE_USERS: &[&str] = &["", "a", "user"];

pub(crate) fn run() -> Outcome {
    let top = shell::root();
    let files = files(&top)?;
    let mut faults = connectors(&files);
    faults.extend(untold(&top)?);
    for file in &files {
        // A file may be deleted and not yet be committed as such.
        let Ok(bytes) = std::fs::read(top.join(file)) else { continue };
        let Ok(text) = String::from_utf8(bytes) else { continue };
        faults.extend(faults_of(file, &text, &top));
    }
    if faults.is_empty() { Ok(()) } else { Err(format!("{} faults\n    {}", faults.len(), faults.join("\n    "))) }
}

/// Connectors of which nobody says what they were tried with.
fn untold(top: &Path) -> Outcome<Vec<String>> {
    let page = top.join(TRIED);
    let text = std::fs::read_to_string(&page).map_err(|error| format!("{}: {error}", page.display()))?;
    let kinds = graph::features("certdeploy")?.into_iter().filter(|name| !matches!(name.as_str(), "default" | "full"));
    let untold = kinds.filter(|kind| !DEGREES.iter().any(|degree| text.contains(&format!("\n| `{kind}` | {degree} | "))));
    Ok(untold.map(|kind| format!("{TRIED}: does not say what `{kind}` was tried with")).collect())
}

/// What is committed, or would be by `git add --all`.
fn files(top: &Path) -> Outcome<BTreeSet<PathBuf>> {
    let mut git = Command::new("git");
    git.current_dir(top).args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]);
    Ok(shell::output(&mut git)?.split('\0').filter(|name| !name.is_empty()).map(PathBuf::from).collect())
}

fn faults_of(file: &Path, text: &str, top: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let shown = file.display();
    let extension = file.extension().and_then(|extension| extension.to_str());
    if extension == Some("rs") {
        let lines = text.lines().take_while(|line| *line != "#[cfg(test)]").count();
        if lines > MOST_LINES && !is_test(file) {
            faults.push(format!("{shown}: {lines} lines outside tests, the limit is {MOST_LINES}"));
        }
    }
    if file.file_name().is_some_and(|name| name == "Cargo.toml") && text.contains("[package]") {
        if !text.contains("[lints]\nworkspace = true") {
            faults.push(format!("{shown}: does not take the workspace's lints"));
        }
        if !text.contains("license.workspace = true") {
            faults.push(format!("{shown}: does not take the workspace's licence"));
        }
    }
    let top = top.to_string_lossy();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line)) {
        if names_a_home(line) || (top.matches('/').count() > 1 && line.contains(&*top)) {
            faults.push(format!("{shown}:{number}: names a directory of somebody's machine"));
        }
        if matches!(extension, Some("rs" | "toml")) && line.ends_with([' ', '\t']) {
            faults.push(format!("{shown}:{number}: white space at the end of the line"));
        }
    }
    if !text.is_empty() && !text.ends_with('\n') && !is_test_data(file) {
        faults.push(format!("{shown}: the last line has no end"));
    }
    faults
}

/// Whether a line has somebody's home directory in it. Root's has no name, and examples have made-up ones.
fn names_a_home(line: &str) -> bool {
    ["home", "Users"].map(|directory| format!("/{directory}/")).iter().any(|parent| {
        line.split(parent.as_str()).skip(1).any(|rest| {
            let name = rest.split(|character: char| !character.is_alphanumeric()).next().unwrap_or_default();
            !EXAMPLE_USERS.contains(&name)
        })
    })
}

/// What a test compares with or is given, to the last byte.
fn is_test_data(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "snap") || file.starts_with("tests/fuzz/corpus")
}

/// Tests stand in a `tests.rs` or a `tests` folder of a crate, and in the crate of end-to-end tests.
fn is_test(file: &Path) -> bool {
    let name = file.file_stem().and_then(|name| name.to_str()).unwrap_or_default();
    let folders = file.components().skip(1).any(|part| part == Component::Normal("tests".as_ref()));
    name == "tests" || name.ends_with("_tests") || folders || file.starts_with("tests/e2e")
}

fn connectors(files: &BTreeSet<PathBuf>) -> Vec<String> {
    let folders: BTreeSet<PathBuf> = files
        .iter()
        .filter_map(|file| file.strip_prefix("connectors").ok()?.components().next())
        .map(|name| Path::new("connectors").join(name))
        .filter(|folder| folder != Path::new("connectors/support"))
        .collect();
    let mut faults = Vec::new();
    for folder in folders {
        for name in CONNECTOR.iter().filter(|name| !files.contains(&folder.join(name))) {
            faults.push(format!("{}: has no {name}, which every connector has", folder.display()));
        }
        for file in files.iter().filter_map(|file| file.strip_prefix(&folder).ok()) {
            let known = CONNECTOR.iter().chain(CONNECTOR_MORE).any(|name| file == Path::new(name));
            let test = file.starts_with("tests") || file.file_name().is_some_and(|name| name == "tests.rs");
            if !known && !test {
                faults.push(format!("{}: is not one of the files that every connector has", folder.join(file).display()));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(file: &str, text: &str) -> Vec<String> {
        faults_of(Path::new(file), text, Path::new("/srv/somebody/checkout"))
    }

    #[test]
    fn a_long_file_is_refused_unless_the_length_is_tests() {
        let long = "line\n".repeat(MOST_LINES + 1);
        assert_eq!(faults("deploy-core/src/a.rs", &long).len(), 1);
        assert_eq!(faults("deploy-core/src/a/tests.rs", &long).len(), 0);
        assert_eq!(faults("deploy-core/tests/a.rs", &long).len(), 0);
        assert_eq!(faults("tests/testkit/src/a.rs", &long).len(), 1);
        assert_eq!(faults("deploy-core/src/a.rs", &format!("line\n#[cfg(test)]\n{long}")).len(), 0);
    }

    #[test]
    fn a_path_of_a_machine_is_refused() {
        let home = ["", "home", "jane", "x"].join("/");
        assert_eq!(faults("docs/a.md", &format!("see {home}\n")).len(), 1);
        assert_eq!(faults("docs/a.md", "see /srv/somebody/checkout/docs\n").len(), 1);
        assert_eq!(faults("docs/a.md", "see /etc/nginx\n").len(), 0);
        assert_eq!(faults("docs/a.md", &format!("see {}\n", home.replace("jane", "user"))).len(), 0);
    }

    #[test]
    fn a_manifest_without_the_shared_lints_is_refused() {
        assert_eq!(faults("a/Cargo.toml", "[package]\nlicense.workspace = true\n").len(), 1);
        assert_eq!(faults("a/Cargo.toml", "[package]\nlicense.workspace = true\n\n[lints]\nworkspace = true\n").len(), 0);
    }

    #[test]
    fn connectors_look_alike() {
        let whole = |more: &[&str]| -> BTreeSet<PathBuf> {
            CONNECTOR.iter().chain(more).map(|name| Path::new("connectors/nginx").join(name)).collect()
        };
        assert_eq!(connectors(&whole(&["tests/conformance.rs", "src/client.rs", "src/config/tests.rs"])), Vec::<String>::new());
        assert_eq!(connectors(&whole(&["src/helpers.rs"])).len(), 1);
        let mut partial = whole(&[]);
        partial.remove(Path::new("connectors/nginx/src/target.rs"));
        assert_eq!(connectors(&partial).len(), 1);
    }
}

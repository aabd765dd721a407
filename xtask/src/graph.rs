//! Which crates the shipped crates pull in. The promises of the architecture page, kept by counting.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{Outcome, shell};

/// The budget: a shipped package, and the most crates that it may pull in with all its features, build scripts' included and
/// itself not. Each has a little room over what was measured; more than that is a decision, and is made here.
const BUDGETS: &[(&str, usize)] = &[
    ("certdeploy", 238),
    ("deploy-apache", 61),
    ("deploy-aws", 130),
    ("deploy-aws-acm", 131),
    ("deploy-azure-keyvault", 150),
    ("deploy-caddy", 126),
    ("deploy-caddy-api", 127),
    ("deploy-core", 60),
    ("deploy-dovecot", 61),
    ("deploy-envoy", 126),
    ("deploy-exec", 62),
    ("deploy-f5", 127),
    ("deploy-files", 61),
    ("deploy-haproxy", 66),
    ("deploy-http", 125),
    ("deploy-iis", 150),
    ("deploy-java-keystore", 82),
    ("deploy-k8s", 157),
    ("deploy-keystore", 80),
    ("deploy-lighttpd", 61),
    ("deploy-nginx", 61),
    ("deploy-pkcs12", 82),
    ("deploy-postfix", 61),
    ("deploy-powershell", 150),
    ("deploy-ssh", 62),
    ("deploy-testkit", 120),
    ("deploy-traefik", 126),
    ("deploy-webhook", 130),
    ("deploy-windows-store", 150),
];

/// A program with the nginx connector alone stays under this.
const NGINX_ALONE: usize = 130;

/// Nowhere in what is shipped. deny.toml has the reasons.
const NOWHERE: &[&str] = &["fs2", "native-tls", "openssl-sys", "ring", "rsa", "rustls-pemfile", "serde_yaml"];

/// What a program without connectors to APIs has no use for.
const NOT_FOR_FILES: &[&str] = &["aws-config", "aws-sdk-acm", "h2", "hyper", "kube", "kube-client", "reqwest"];

/// The engine takes its crypto provider as a value, knows no product and no HTTP.
const NOT_IN_THE_ENGINE: &[&str] = &["aws-lc-rs", "aws-lc-sys", "http", "hyper", "reqwest", "ring"];

pub(crate) fn run() -> Outcome {
    let program = tree("certdeploy", "normal,build", &["--no-default-features", "--features", "nginx"])?;
    refuse("certdeploy with nginx alone", &program, NOT_FOR_FILES)?;
    refuse_prefix("certdeploy with nginx alone", &program, "aws-sdk-")?;
    if program.len() >= NGINX_ALONE {
        return Err(format!("certdeploy with nginx alone needs {} crates, and must stay under {NGINX_ALONE}", program.len()));
    }
    println!("    certdeploy with nginx alone: {} crates", program.len());

    let engine = tree("deploy-core", "normal", &[])?;
    refuse("deploy-core", &engine, NOT_IN_THE_ENGINE)?;
    println!("    deploy-core: {} crates, no crypto provider", engine.len());

    let shipped = shipped()?;
    for package in &shipped {
        refuse(package, &tree(package, "normal", &["--all-features"])?, NOWHERE)?;
        let crates = tree(package, "normal,build", &["--all-features"])?.len();
        let budget = within_budget(package, crates, BUDGETS)?;
        println!("    {package}: {crates} crates of {budget}");
    }
    no_budget_without_package(&shipped, BUDGETS)
}

/// A package's features, in alphabetical order.
pub(crate) fn features(package: &str) -> Outcome<Vec<String>> {
    let packages = packages()?;
    let found = packages.iter().find(|candidate| candidate["name"] == package).and_then(|found| found["features"].as_object());
    found.map(|features| features.keys().cloned().collect()).ok_or_else(|| format!("there is no package {package}"))
}

/// The members of the workspace, as cargo describes them.
pub(crate) fn packages() -> Outcome<Vec<Value>> {
    let text = shell::output(&mut shell::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?;
    let metadata: Value = serde_json::from_str(&text).map_err(|error| format!("cargo metadata: {error}"))?;
    metadata["packages"].as_array().cloned().ok_or_else(|| "cargo metadata names no packages".to_owned())
}

/// The packages that are published: `publish` is an empty list in those that are not.
fn shipped() -> Outcome<Vec<String>> {
    let is_shipped = |package: &&Value| package["publish"].as_array().is_none_or(|registries| !registries.is_empty());
    Ok(packages()?.iter().filter(is_shipped).filter_map(|package| package["name"].as_str().map(str::to_owned)).collect())
}

/// The crates below a package on this machine's platform, each with its version, the package itself left out.
fn tree(package: &str, edges: &str, more: &[&str]) -> Outcome<BTreeSet<(String, String)>> {
    let mut arguments = vec!["tree", "--package", package, "--edges", edges, "--prefix", "none", "--format", "{p}"];
    arguments.extend(more);
    let text = shell::output(&mut shell::cargo(&arguments))?;
    let words = text.lines().map(|line| line.split_whitespace());
    let crates = words.filter_map(|mut words| Some((words.next()?.to_owned(), words.next()?.to_owned())));
    Ok(crates.filter(|(name, _)| name != package).collect())
}

/// The package's budget, which it keeps.
fn within_budget(package: &str, crates: usize, budgets: &[(&str, usize)]) -> Outcome<usize> {
    match budgets.iter().find(|(name, _)| *name == package) {
        None => {
            Err(format!("{package} has no budget: it needs {crates} crates; give it a line in BUDGETS of xtask/src/graph.rs"))
        }
        Some((_, most)) if crates > *most => Err(format!(
            "{package} needs {crates} crates, and its budget is {most}; `cargo tree --package {package}` says where they come from"
        )),
        Some((_, most)) => Ok(*most),
    }
}

fn no_budget_without_package(packages: &[String], budgets: &[(&str, usize)]) -> Outcome {
    match budgets.iter().find(|(name, _)| !packages.iter().any(|package| package == name)) {
        Some((name, _)) => Err(format!("xtask/src/graph.rs has a budget for {name}, which is not shipped")),
        None => Ok(()),
    }
}

fn refuse(whose: &str, crates: &BTreeSet<(String, String)>, banned: &[&str]) -> Outcome {
    match crates.iter().find(|(name, _)| banned.contains(&name.as_str())) {
        Some((name, version)) => Err(format!("{whose} pulls in {name} {version}; `cargo tree -i {name}` says by which way")),
        None => Ok(()),
    }
}

fn refuse_prefix(whose: &str, crates: &BTreeSet<(String, String)>, prefix: &str) -> Outcome {
    match crates.iter().find(|(name, _)| name.starts_with(prefix)) {
        Some((name, version)) => Err(format!("{whose} pulls in {name} {version}")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_banned_crate_is_named_with_its_version() {
        let crates = BTreeSet::from([("ring".to_owned(), "v0.17.8".to_owned()), ("sha2".to_owned(), "v0.11.0".to_owned())]);
        let message = refuse("deploy-core", &crates, NOWHERE).unwrap_err();
        assert!(message.starts_with("deploy-core pulls in ring v0.17.8"), "{message}");
        assert_eq!(refuse("deploy-core", &crates, NOT_FOR_FILES), Ok(()));
        assert!(refuse_prefix("x", &crates, "sha").is_err());
    }

    #[test]
    fn every_package_needs_a_budget_and_keeps_it() {
        let budgets = &[("deploy-core", 60)];
        assert_eq!(within_budget("deploy-core", 60, budgets), Ok(60));
        assert!(within_budget("deploy-core", 61, budgets).unwrap_err().contains("61 crates, and its budget is 60"));
        assert!(within_budget("deploy-new", 1, budgets).unwrap_err().starts_with("deploy-new has no budget"));
        assert_eq!(no_budget_without_package(&["deploy-core".to_owned()], budgets), Ok(()));
        assert!(no_budget_without_package(&[], budgets).unwrap_err().contains("deploy-core"));
    }
}

//! Everything that must hold before a change is merged. The test runner comes last, so that its counts are the last lines.

use std::process::Command;
use std::time::Instant;

use clap::{Args, ValueEnum};

use crate::{Outcome, docs, graph, lint, packages, servers, shell, third_party, tidy};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Only formatting, clippy and the tests that need no real server and prove nothing at length
    #[arg(long)]
    quick: bool,
    /// The servers to test with: `all` adds those that are slow or large, such as Tomcat
    #[arg(long, value_name = "WHICH", default_value = "usual")]
    servers: Servers,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Servers {
    All,
    Usual,
}

/// Its tests need what `--servers all` installs, and are ignored by themselves.
const SLOW_SERVERS: &str = "deploy-servers";

pub(crate) fn run(options: &Options) -> Outcome {
    step("Debian packages", || packages::ensure(packages::FOR_TESTS))?;
    step("other servers", servers::ensure)?;
    if options.servers == Servers::All {
        step("Debian packages of all servers", || packages::ensure(packages::FOR_ALL_SERVERS))?;
    }
    step("formatting", lint::format)?;
    step("clippy", lint::clippy)?;
    if !options.quick {
        step("tidy", tidy::run)?;
        step("generated documentation", || docs::run(&docs::Options { check: true }))?;
        step("dependency graph", graph::run)?;
        step("features, each by itself", features)?;
        step("documentation builds", documentation)?;
        step("documentation tests", || shell::run(&mut shell::cargo(&["test", "--quiet", "--workspace", "--doc"])))?;
    }
    // The end-to-end tests start the real program. Cargo builds it for its own package's tests only.
    step("the program", || shell::build("certdeploy", "certdeploy", false).map(drop))?;
    step("the server of the proofs", || shell::build("deploy-testkit", "reloading-tls-server", false).map(drop))?;
    if !options.quick {
        step("a connector and an agent of somebody else's", third_party::run)?;
    }
    println!("==> tests");
    shell::run(&mut runner(options.quick)).map_err(|message| format!("tests failed: {message}"))?;
    if options.servers == Servers::All {
        println!("==> tests with slow servers");
        shell::run(&mut shell::slow_tests(SLOW_SERVERS)).map_err(|message| format!("tests failed: {message}"))?;
    }
    Ok(())
}

fn runner(quick: bool) -> Command {
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get) * 3;
    let threads = threads.to_string();
    let mut arguments = shell::test_runner();
    arguments.extend(["--workspace", "--exclude", SLOW_SERVERS]);
    if arguments[0] == "nextest" {
        // .config/nextest.toml says what takes how many of them.
        arguments.extend(["--profile", "all", "--test-threads", &threads]);
    }
    if quick {
        arguments.extend(["--exclude", "deploy-e2e", "--exclude", "deploy-proof"]);
    }
    shell::cargo(&arguments)
}

/// The program without any connector, and with each one alone.
fn features() -> Outcome {
    let features = graph::features("certdeploy")?;
    let alone = features.iter().filter(|feature| !matches!(feature.as_str(), "default" | "full"));
    for selected in std::iter::once(None).chain(alone.map(Some)) {
        let mut arguments = vec!["clippy", "--quiet", "--package", "certdeploy", "--no-default-features"];
        if let Some(feature) = selected {
            arguments.extend(["--features", feature]);
        }
        arguments.extend(["--", "-D", "warnings"]);
        shell::run(&mut shell::cargo(&arguments))?;
    }
    Ok(())
}

fn documentation() -> Outcome {
    shell::run(shell::cargo(&["doc", "--quiet", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"))
}

fn step(name: &str, work: impl FnOnce() -> Outcome) -> Outcome {
    println!("==> {name}");
    let start = Instant::now();
    let outcome = work();
    let seconds = start.elapsed().as_secs_f64();
    match outcome {
        Ok(()) => {
            println!("    ok, {seconds:.1} s");
            Ok(())
        }
        Err(message) => Err(format!("{name} failed after {seconds:.1} s: {message}")),
    }
}

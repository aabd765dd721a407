//! One deployment by the engine alone: opaque files, no hooks. What is left is files, journal and locks.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use deploy_core::{Context, Hooks, Outcome as Ending, Plan, PlanFile, Role, Verify};

use crate::Outcome;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Where the files are to stand
    #[arg(long)]
    directory: PathBuf,
    /// The engine's state directory
    #[arg(long)]
    state: PathBuf,
    /// How many files
    #[arg(long)]
    files: usize,
    /// Chooses the content
    #[arg(long)]
    generation: usize,
}

/// For a process of its own, so that its system calls can be counted.
pub(crate) fn run(options: &Options) -> Outcome {
    let engine = Engine::new(&options.state)?;
    let ending = engine.deploy(plan("one", &options.directory, "one", options.files, options.generation))?;
    println!("{}", ending.name());
    Ok(())
}

/// The engine with a runtime of one thread.
pub(super) struct Engine {
    runtime: tokio::runtime::Runtime,
    context: Context,
}

impl Engine {
    pub(super) fn new(state: &Path) -> Outcome<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("can't start a runtime: {error}"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Ok(Self { runtime, context: Context::new(state, provider) })
    }

    /// Carries a plan out; an error when that does not end well.
    pub(super) fn deploy(&self, plan: Plan) -> Outcome<Ending> {
        let report = self.runtime.block_on(plan.apply(&self.context));
        match report.outcome {
            Ending::Changed | Ending::Repaired | Ending::Unchanged | Ending::Unverified => Ok(report.outcome),
            other => Err(format!("the engine's plan came out as {}: {:?}", other.name(), report.error)),
        }
    }
}

/// A plan with so many files; each generation has other bytes.
pub(super) fn plan(name: &str, directory: &Path, prefix: &str, files: usize, generation: usize) -> Plan {
    let plan = Plan::new(name).with_hooks(Hooks::new().with_verify(Verify::Waived));
    let file =
        |number: usize| PlanFile::new(directory.join(file_name(prefix, number)), Role::Opaque, content(number, generation));
    (0..files).fold(plan, |plan, number| plan.with_file(file(number)))
}

/// `PREFIX-NUMBER.pem`.
pub(super) fn file_name(prefix: &str, number: usize) -> String {
    format!("{prefix}-{number:03}.pem")
}

/// As much as a chain of two certificates, different for each file and generation.
pub(super) fn content(number: usize, generation: usize) -> Vec<u8> {
    let line = format!("file {number} generation {generation} {}\n", "x".repeat(40));
    line.repeat(3000 / line.len() + 1).into_bytes()
}

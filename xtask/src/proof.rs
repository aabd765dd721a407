//! The proofs of tests/proof by themselves, with their numbers printed, and recorded in the book's page on safety.

mod numbers;
mod page;

use std::path::Path;

use clap::{Args, ValueEnum};

use crate::{Outcome, packages, shell};
use numbers::Numbers;

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// One of them; without it, all but the one on disks
    proof: Option<Proof>,
    /// Leave nothing out, however long it takes
    #[arg(long)]
    full: bool,
    /// Write the numbers into docs/safety.md
    #[arg(long)]
    record: bool,
}

#[derive(Debug, Args)]
pub(crate) struct CrashOptions {
    /// Leave nothing out, however long it takes
    #[arg(long)]
    full: bool,
    /// Cut the power of real file systems, too; needs root, loop devices and FUSE
    #[arg(long)]
    disk: bool,
}

#[derive(Debug, Args)]
pub(crate) struct FaultsOptions {
    /// Leave nothing out, however long it takes
    #[arg(long)]
    full: bool,
}

/// The proofs, each a file in tests/proof/tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Proof {
    Adversary,
    Crash,
    Disk,
    Faults,
    LongRun,
    Power,
    Properties,
    Secrets,
    Together,
}

impl Proof {
    /// All that need nothing but what every test needs.
    const EVERYWHERE: [Self; 8] =
        [Self::Adversary, Self::Crash, Self::Faults, Self::LongRun, Self::Power, Self::Properties, Self::Secrets, Self::Together];

    /// The name of its file.
    fn file(self) -> &'static str {
        match self {
            Self::Adversary => "adversary",
            Self::Crash => "crash",
            Self::Disk => "disk",
            Self::Faults => "faults",
            Self::LongRun => "long_run",
            Self::Power => "power",
            Self::Properties => "properties",
            Self::Secrets => "secrets",
            Self::Together => "together",
        }
    }
}

/// All proofs, or one.
pub(crate) fn run(options: &Options) -> Outcome {
    let chosen = options.proof.map_or(Proof::EVERYWHERE.to_vec(), |proof| vec![proof]);
    let numbers = prove(&chosen, options.full)?;
    if options.record { page::record(&numbers) } else { Ok(()) }
}

/// What can end at any instant: the program, and the machine.
pub(crate) fn crash(options: &CrashOptions) -> Outcome {
    let disk = options.disk.then_some(Proof::Disk);
    let chosen: Vec<Proof> = [Proof::Crash, Proof::Power].into_iter().chain(disk).collect();
    prove(&chosen, options.full).map(drop)
}

/// What can fail at any instant.
pub(crate) fn faults(options: &FaultsOptions) -> Outcome {
    prove(&[Proof::Faults], options.full).map(drop)
}

fn prove(proofs: &[Proof], full: bool) -> Outcome<Numbers> {
    packages::ensure(packages::FOR_TESTS)?;
    shell::build("certdeploy", "certdeploy", false)?;
    shell::build("deploy-testkit", "reloading-tls-server", false)?;
    let directory = tempfile::tempdir().map_err(|error| format!("no directory for the numbers: {error}"))?;
    let everywhere: Vec<Proof> = proofs.iter().copied().filter(|proof| *proof != Proof::Disk).collect();
    let mut outcome = if everywhere.is_empty() { Ok(()) } else { tests(&everywhere, &[], full, directory.path()) };
    if proofs.contains(&Proof::Disk) {
        packages::ensure(packages::FOR_DISK)?;
        outcome = outcome.and(tests(&[Proof::Disk], ignored_too(), full, directory.path()));
    }
    // Numbers of proofs that failed are worth a look, too.
    let numbers = Numbers::read(directory.path())?;
    println!("{}", numbers.table());
    outcome.map(|()| numbers)
}

fn tests(proofs: &[Proof], more: &[&str], full: bool, record: &Path) -> Outcome {
    let mut arguments = shell::test_runner();
    arguments.retain(|argument| !["--lib", "--bins", "--tests"].contains(argument));
    arguments.extend(["--package", "deploy-proof", "--no-fail-fast"]);
    arguments.extend(proofs.iter().flat_map(|proof| ["--test", proof.file()]));
    arguments.extend(more);
    let mut cargo = shell::cargo(&arguments);
    cargo.env("CERTDEPLOY_PROOF_RECORD", record).env("CERTDEPLOY_PROOF", if full { "full" } else { "short" });
    shell::run(&mut cargo)
}

/// The proofs on disks are left out of ordinary runs.
fn ignored_too() -> &'static [&'static str] {
    match shell::find_program("cargo-nextest") {
        Some(_) => &["--run-ignored", "only"],
        None => &["--", "--ignored"],
    }
}

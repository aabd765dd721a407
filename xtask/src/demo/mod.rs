//! The main job, played on a real server with the real program: deploy, renew, refuse, roll back, recover.

mod program;
pub(crate) mod site;
mod steps;

use std::path::PathBuf;

use clap::Args;
pub(crate) use program::Program;

use self::site::Site;
pub(crate) use self::steps::Row;
use self::steps::Stage;
use crate::{Outcome, packages, shell};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Keep the directory with everything that was made
    #[arg(long)]
    keep: bool,
    /// Use the embedded TLS server, even if nginx is there
    #[arg(long)]
    embedded: bool,
    /// A certdeploy program to use instead of building one
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

pub(crate) fn run(options: &Options) -> Outcome {
    let embedded = options.embedded || !nginx_is_there();
    println!("Building certdeploy ...");
    let program = match &options.program {
        Some(program) => program.clone(),
        None => shell::build("certdeploy", "certdeploy", false)?,
    };
    let directory = tempfile::Builder::new().prefix("certdeploy-demo-").tempdir();
    let mut directory = directory.map_err(|error| format!("can't make a temporary directory: {error}"))?;
    directory.disable_cleanup(options.keep);

    let site = Site::start(directory.path(), embedded)?;
    println!("{} is to serve TLS at {}; everything is in {}\n", site.server(), site.address(), directory.path().display());
    let rows = Stage::new(directory.path(), Program::new(program, directory.path()), site)?.play()?;
    print_table(&rows);
    if options.keep {
        println!("\nKept: {}", directory.path().display());
    }
    match rows.iter().filter(|row| !row.ok).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} steps went wrong", rows.len())),
    }
}

/// Installs nginx if that is possible; says what happens if it is not.
fn nginx_is_there() -> bool {
    match packages::ensure(&[("nginx-light", "nginx")]) {
        Ok(()) => true,
        Err(message) => {
            println!("No nginx here, so an embedded TLS server stands in: it loads the same files and reloads on SIGHUP.");
            println!("For the real one: {message}");
            false
        }
    }
}

/// Prints what was tried, and what came of it.
pub(crate) fn print_table(rows: &[Row]) {
    let head = ["what was tried", "expected", "came out", "what is served", ""].map(str::to_owned);
    let cells = rows.iter().map(|row| {
        let verdict = if row.ok { "ok" } else { "FAILED" };
        [row.tried.clone(), row.expected.clone(), row.came_out.clone(), row.served.clone(), verdict.to_owned()]
    });
    let lines: Vec<[String; 5]> = std::iter::once(head).chain(cells).collect();
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max().unwrap_or(0);
    let widths = [0, 1, 2, 3, 4].map(width);
    println!();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        println!("{}", padded.join("  ").trim_end());
    }
}

//! The hooks of docs/triggers.md, tried: real ACME clients get certificates from a local ACME server (pebble) and start
//! certdeploy, which brings them to a real nginx. Everything stays on loopback addresses.

mod client;
mod pebble;

use std::path::{Path, PathBuf};

use clap::Args;

use self::client::{CERTBOT, Client, LEGO};
use self::pebble::Pebble;
use crate::demo::site::Site;
use crate::demo::{self, Program, Row};
use crate::{Outcome, packages, shell};

#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Keep the directory with everything that was made
    #[arg(long)]
    keep: bool,
    /// A certdeploy program to use instead of building one
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

/// What the trial starts.
const PACKAGES: &[packages::Package] =
    &[("certbot", "certbot"), ("lego", "lego"), ("nginx-light", "nginx"), ("openssl", "openssl"), ("pebble", "pebble")];

pub(crate) fn run(options: &Options) -> Outcome {
    packages::ensure(PACKAGES)?;
    println!("Building certdeploy ...");
    let program = match &options.program {
        Some(program) => program.clone(),
        None => shell::build("certdeploy", "certdeploy", false)?,
    };
    let directory = tempfile::Builder::new().prefix("certdeploy-triggers-").tempdir();
    let mut directory = directory.map_err(|error| format!("can't make a temporary directory: {error}"))?;
    directory.disable_cleanup(options.keep);
    println!("everything is in {}", directory.path().display());

    let pebble = Pebble::start(&directory.path().join("pebble"))?;
    let mut rows = Vec::new();
    for client in [&CERTBOT, &LEGO] {
        rows.extend(try_client(client, &directory.path().join(client.name), &pebble, &program)?);
    }
    demo::print_table(&rows);
    match rows.iter().filter(|row| !row.ok).count() {
        0 => Ok(()),
        failed => Err(format!("{failed} of {} steps went wrong", rows.len())),
    }
}

/// Issues, then renews; after each, the site must serve what the client has.
fn try_client(client: &Client, directory: &Path, pebble: &Pebble, program: &Path) -> Outcome<Vec<Row>> {
    shell::create_directory(directory)?;
    let site = Site::start(directory, false)?;
    let program = Program::new(program.to_owned(), directory);
    let (fullchain, key) = client.files(directory);
    program.configure(&site.configuration(&fullchain, &key, &site.reload()))?;
    let hook = program.deploy_line().join(" ");

    let mut rows = Vec::new();
    let mut previous = None;
    for (what, arguments) in [("first certificate", client.issue), ("renewal", client.renew)] {
        let mut command = client.command(arguments, directory, pebble, &hook)?;
        println!("\n{}", shell::shown(&command));
        let said = shell::output(&mut command)?;
        print!("{said}");
        let wanted = fingerprint(&fullchain)?;
        let served = site.served_after(Some(&wanted)).unwrap_or_else(|message| message);
        let ok = served == wanted && previous.as_ref() != Some(&wanted);
        rows.push(Row {
            tried: format!("{}: {what}", client.name),
            expected: format!("serves {}", &wanted[..12]),
            came_out: if previous.as_ref() == Some(&wanted) { "not renewed" } else { "issued" }.to_owned(),
            served: served.chars().take(60).collect(),
            ok,
        });
        previous = Some(wanted);
    }
    Ok(rows)
}

/// The fingerprint of the first certificate in a file, by a program that is neither ours nor the client's.
fn fingerprint(file: &Path) -> Outcome<String> {
    let mut openssl = std::process::Command::new("openssl");
    openssl.args(["x509", "-noout", "-fingerprint", "-sha256", "-in"]).arg(file);
    let text = shell::output(&mut openssl)?;
    let digits = text.trim().rsplit('=').next().unwrap_or_default().replace(':', "").to_lowercase();
    if digits.len() == 64 { Ok(digits) } else { Err(format!("openssl printed no fingerprint: {text}")) }
}

//! A TLS server for demonstrations and end-to-end tests: it reads its files at the start and at SIGHUP, and nowhere else.
#![allow(clippy::print_stdout, clippy::print_stderr, clippy::disallowed_methods, reason = "a program for tests")]

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use deploy_testkit::TlsServer;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

const USAGE: &str =
    "usage: reloading-tls-server --listen ADDRESS:PORT --fullchain FILE --key FILE [--pid-file FILE] [--wait-for-files]

Serves TLS with the given pair: handshake, \"ok\", close. SIGHUP reads the files again; a bad pair changes nothing and
prints one line. SIGTERM ends it. With --wait-for-files it starts without a usable pair and closes connections until the
first good SIGHUP.";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("reloading-tls-server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let options = Options::parse(std::env::args().skip(1))?;
    // Before anybody can know the process: an early signal must not kill it.
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM]).map_err(|error| format!("can't handle signals: {error}"))?;
    let mut builder = TlsServer::builder().listen(options.listen).files(&options.fullchain, &options.key);
    if options.wait_for_files {
        builder = builder.wait_for_files();
    }
    let server = builder.try_start()?;
    if let Some(path) = &options.pid_file {
        std::fs::write(path, format!("{}\n", std::process::id())).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    println!("listening {}", server.address());
    for signal in signals.forever() {
        if signal != SIGHUP {
            break;
        }
        if let Err(error) = server.reload() {
            eprintln!("reloading-tls-server: kept the old certificate: {error}");
        }
    }
    Ok(())
}

struct Options {
    listen: SocketAddr,
    fullchain: PathBuf,
    key: PathBuf,
    pid_file: Option<PathBuf>,
    wait_for_files: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut listen, mut fullchain, mut key, mut pid_file, mut wait_for_files) = (None, None, None, None, false);
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value\n{USAGE}"));
            match argument.as_str() {
                "--listen" => listen = Some(value()?.parse().map_err(|error| format!("--listen: {error}"))?),
                "--fullchain" => fullchain = Some(PathBuf::from(value()?)),
                "--key" => key = Some(PathBuf::from(value()?)),
                "--pid-file" => pid_file = Some(PathBuf::from(value()?)),
                "--wait-for-files" => wait_for_files = true,
                other => return Err(format!("unknown argument {other:?}\n{USAGE}")),
            }
        }
        match (listen, fullchain, key) {
            (Some(listen), Some(fullchain), Some(key)) => Ok(Self { listen, fullchain, key, pid_file, wait_for_files }),
            _ => Err(format!("--listen, --fullchain and --key are needed\n{USAGE}")),
        }
    }
}

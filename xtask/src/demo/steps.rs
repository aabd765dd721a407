//! The steps of the demonstration, in order.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploy_testkit::pki::{Authority, Issued, KeyKind, Request};
use nix::sys::signal::Signal;

use super::program::{Program, Run};
use super::site::{NAME, Site};
use crate::{Outcome, shell};

/// One line of the table at the end.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) tried: String,
    pub(crate) expected: String,
    pub(crate) came_out: String,
    pub(crate) served: String,
    pub(crate) ok: bool,
}

/// Everything that the steps act on.
pub(super) struct Stage {
    program: Program,
    site: Site,
    authority: Authority,
    /// What was issued so far, for telling which one is served.
    issued: Vec<(&'static str, String)>,
    source_fullchain: PathBuf,
    source_key: PathBuf,
    /// Exists as long as the next reload is to fail.
    fail_flag: PathBuf,
    /// The process of a reload that hangs.
    hanging: PathBuf,
    rows: Vec<Row>,
}

/// Bytes, inode, seconds and nanoseconds of the last change.
type FileState = (Vec<u8>, u64, i64, i64);

/// How the program is to end.
struct Expected<'a> {
    outcomes: &'a [&'a str],
    status: i32,
}

impl Stage {
    pub(super) fn new(directory: &Path, program: Program, site: Site) -> Outcome<Self> {
        let source = directory.join("renewed-by-the-acme-client");
        shell::create_directory(&source)?;
        Ok(Self {
            program,
            site,
            authority: Authority::new(),
            issued: Vec::new(),
            source_fullchain: source.join("fullchain.pem"),
            source_key: source.join("privkey.pem"),
            fail_flag: directory.join("the-next-reload-fails"),
            hanging: directory.join("hanging.pid"),
            rows: Vec::new(),
        })
    }

    pub(super) fn play(mut self) -> Outcome<Vec<Row>> {
        let changed = Expected { outcomes: &["changed"], status: 0 };
        let reload = self.site.reload();

        self.configure(&reload)?;
        let first = self.renew("A", KeyKind::EcP256)?;
        self.deploy("first deployment", &changed, &first)?;

        let second = self.renew("B", KeyKind::Rsa2048)?;
        self.deploy("renewal", &changed, &second)?;

        let (before, before_bytes) = (self.files(), self.bytes());
        self.deploy("second run, nothing to do", &Expected { outcomes: &["unchanged"], status: 0 }, &second)?;
        self.demand(self.files() == before, "the live files were touched");

        let foreign = self.authority.issue(&Request::new(&[NAME]).key(KeyKind::Rsa2048));
        shell::write_private(&self.source_key, foreign.key_pem.as_bytes())?;
        self.deploy("a key that doesn't match", &Expected { outcomes: &["rejected"], status: 3 }, &second)?;
        self.demand(self.files() == before, "the live files were touched");

        self.configure(&self.failing(&reload))?;
        shell::write_private(&self.fail_flag, b"")?;
        self.renew("C", KeyKind::EcP256)?;
        self.deploy("a reload that fails", &Expected { outcomes: &["rolled_back"], status: 4 }, &second)?;
        self.demand(!self.fail_flag.exists(), "the reload was never tried");
        // nginx would serve the old certificate even if nobody had put the files back, until it is reloaded for another reason.
        self.demand(self.bytes() == before_bytes, "the old files are not back");

        let third = self.renew("D", KeyKind::EcP256)?;
        self.configure(&self.hanging())?;
        self.kill_before_reload(&third, &second)?;

        self.configure(&reload)?;
        self.deploy("the next run recovers", &Expected { outcomes: &["repaired", "changed"], status: 0 }, &third)?;
        self.deploy("and then all is quiet", &Expected { outcomes: &["unchanged"], status: 0 }, &third)?;
        Ok(self.rows)
    }

    fn configure(&self, reload: &[String]) -> Outcome {
        self.program.configure(&self.site.configuration(&self.source_fullchain, &self.source_key, reload))
    }

    /// What an ACME client does: a new key and certificate in its own directory.
    fn renew(&mut self, label: &'static str, kind: KeyKind) -> Outcome<Issued> {
        let issued = self.authority.issue(&Request::new(&[NAME]).key(kind));
        shell::write_private(&self.source_fullchain, issued.fullchain_pem.as_bytes())?;
        shell::write_private(&self.source_key, issued.key_pem.as_bytes())?;
        self.issued.push((label, issued.fingerprint.clone()));
        Ok(issued)
    }

    /// The reload with one failure before it works.
    fn failing(&self, reload: &[String]) -> Vec<String> {
        let script = "if rm \"$0\" 2>/dev/null; then echo 'this reload is made to fail' >&2; exit 1; fi; exec \"$@\"";
        ["sh", "-c", script]
            .map(str::to_owned)
            .into_iter()
            .chain([self.fail_flag.display().to_string()])
            .chain(reload.to_vec())
            .collect()
    }

    /// A reload that never ends by itself.
    fn hanging(&self) -> Vec<String> {
        ["sh", "-c", "echo $$ > \"$0\"; exec sleep 600", &self.hanging.display().to_string()].map(str::to_owned).into()
    }

    fn deploy(&mut self, tried: &str, expected: &Expected<'_>, served: &Issued) -> Outcome {
        let run = self.program.deploy()?;
        let as_expected = expected.outcomes.contains(&run.outcome.as_str()) && run.status == Some(expected.status);
        let came_out = came_out(&run);
        let wanted = format!("{}, exit {}", expected.outcomes.join(" or "), expected.status);
        self.record(tried, &wanted, came_out, as_expected, served);
        if let Some(message) = &run.message {
            println!("      certdeploy: {message}");
        }
        Ok(())
    }

    /// `kill -9` between the swap of the files and the reload.
    fn kill_before_reload(&mut self, new: &Issued, old: &Issued) -> Outcome {
        let mut child = self.program.start()?;
        let swapped = shell::wait_for("the swap of the files", Duration::from_secs(60), || {
            let live = std::fs::read(&self.site.fullchain).unwrap_or_default();
            let reloading = std::fs::read_to_string(&self.hanging).ok().and_then(|text| text.trim().parse::<u32>().ok());
            match child.try_wait() {
                Ok(Some(status)) => Some(Err(format!("certdeploy ended with {status} before it could be killed"))),
                _ => reloading.filter(|_| live == new.fullchain_pem.as_bytes()).map(Ok),
            }
        });
        drop(child.kill());
        drop(child.wait());
        let (came_out, killed) = match swapped.and_then(|reload| reload) {
            Ok(reload) => {
                // The machine would have taken it along.
                shell::send(reload, Signal::SIGKILL);
                ("killed".to_owned(), true)
            }
            Err(message) => (message, false),
        };
        self.record("kill -9 between swap and reload", "files new, served old", came_out, killed, old);
        Ok(())
    }

    /// Looks at what is served, and notes and prints one step.
    fn record(&mut self, tried: &str, expected: &str, came_out: String, as_expected: bool, served: &Issued) {
        let seen = self.site.served_after(Some(&served.fingerprint));
        let ok = as_expected && seen.as_ref() == Ok(&served.fingerprint);
        let seen = match seen {
            Ok(fingerprint) => format!("{} ({})", &fingerprint[..12.min(fingerprint.len())], self.label(&fingerprint)),
            Err(message) => message,
        };
        println!("{:>2}. {tried}: {came_out}; served: {seen}{}", self.rows.len() + 1, if ok { "" } else { "  FAILED" });
        self.rows.push(Row {
            tried: tried.to_owned(),
            expected: format!("{expected}, {}", self.label(&served.fingerprint)),
            came_out,
            served: seen,
            ok,
        });
    }

    /// Adds a condition to the last step.
    fn demand(&mut self, holds: bool, otherwise: &str) {
        if let (false, Some(row)) = (holds, self.rows.last_mut()) {
            println!("      FAILED: {otherwise}");
            row.ok = false;
            row.came_out = format!("{}; {otherwise}", row.came_out);
        }
    }

    fn label(&self, fingerprint: &str) -> String {
        let known = self.issued.iter().find(|(_, issued)| issued == fingerprint);
        known.map_or_else(|| "a certificate of somebody else".to_owned(), |(label, _)| format!("certificate {label}"))
    }

    /// What stands in the live files.
    fn bytes(&self) -> [Option<Vec<u8>>; 2] {
        self.files().map(|state| Some(state?.0))
    }

    /// The state of the live files.
    fn files(&self) -> [Option<FileState>; 2] {
        let state = |path: &PathBuf| {
            let metadata = std::fs::metadata(path).ok()?;
            Some((std::fs::read(path).ok()?, metadata.ino(), metadata.ctime(), metadata.ctime_nsec()))
        };
        [&self.site.fullchain, &self.site.key].map(state)
    }
}

fn came_out(run: &Run) -> String {
    match run.status {
        Some(status) => format!("{}, exit {status}", run.outcome),
        None => format!("{}, ended by a signal", run.outcome),
    }
}

//! The program as a whole: start, memory, and the way to "nothing to do".

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use deploy_testkit::pki::{Authority, KeyKind, Request};

use super::Place;
use super::table::{Table, median, milliseconds};
use crate::{Outcome, shell};

const ROUNDS: usize = 101;
const NAME: &str = "www.example.test";

/// One certificate and one nginx target without hooks: three files in one directory.
pub(super) struct World {
    certdeploy: PathBuf,
    configuration: PathBuf,
    source: PathBuf,
    tree: PathBuf,
    state: PathBuf,
}

impl World {
    pub(super) fn new(place: &Place, certdeploy: &Path, name: &str) -> Outcome<Self> {
        let world = Self {
            certdeploy: certdeploy.to_owned(),
            configuration: place.directory.path().join(format!("{name}.toml")),
            source: place.sub(&format!("{name}-source"))?,
            tree: place.sub(&format!("{name}-tree"))?,
            state: place.sub(&format!("{name}-state"))?,
        };
        let (source, tree) = (&world.source, &world.tree);
        let text = format!(
            "[[certificate]]\nname = \"www\"\nfullchain = {:?}\nkey = {:?}\n\n\
             [[target]]\nname = \"front\"\nkind = \"nginx\"\ncertificate = \"www\"\n\
             fullchain = {:?}\nkey = {:?}\ntrusted_chain = {:?}\nvalidate = []\nreload = []\nverify = []\n",
            source.join("fullchain.pem"),
            source.join("privkey.pem"),
            tree.join("www.crt"),
            tree.join("www.key"),
            tree.join("www.chain.crt"),
        );
        shell::write_private(&world.configuration, text.as_bytes())?;
        Ok(world)
    }

    /// A new certificate, and a new intermediate with it, so that all three files change.
    pub(super) fn renew(&self) -> Outcome {
        let authority = Authority::new();
        let issued = authority.issue(&Request::new(&[NAME]).key(KeyKind::EcP256));
        shell::write_private(&self.source.join("fullchain.pem"), issued.fullchain_pem.as_bytes())?;
        shell::write_private(&self.source.join("privkey.pem"), issued.key_pem.as_bytes())
    }

    /// Deploys; the program must end with 0.
    pub(super) fn deploy(&self) -> Outcome<Duration> {
        let start = Instant::now();
        shell::output(&mut self.command())?;
        Ok(start.elapsed())
    }

    /// Where the files stand, and the state.
    pub(super) fn directories(&self) -> (&Path, &Path) {
        (&self.tree, &self.state)
    }

    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.certdeploy);
        command.arg("deploy").arg("--config").arg(&self.configuration).arg("--state-dir").arg(&self.state).arg("--json");
        command
    }
}

pub(super) fn run(place: &Place, certdeploy: &Path, divisor: usize) -> Outcome<Table> {
    let world = World::new(place, certdeploy, "program")?;
    let rounds = (ROUNDS / divisor).max(5);
    world.renew()?;
    world.deploy()?;
    let quiet: Vec<Duration> = (0..rounds).map(|_| world.deploy()).collect::<Result<_, _>>()?;
    let quiet_memory = highest(|| peak_memory(&mut world.command()))?;
    let mut changes = Vec::new();
    for _ in 0..rounds {
        world.renew()?;
        changes.push(world.deploy()?);
    }
    let memory = highest(|| {
        world.renew()?;
        peak_memory(&mut world.command())
    })?;

    let mut table = Table::new(format!("{}: the program, 1 target of 3 files", place.name), &["what", "measured", "goal"]);
    let mebibytes = |kibibytes: u64| format!("{:.1} MiB", kibibytes as f64 / 1024.0);
    table.row(["start to \"nothing to do\"".to_owned(), milliseconds(median(quiet)), "20 ms".to_owned()]);
    table.row(["start to end of a renewal, no hooks".to_owned(), milliseconds(median(changes)), "-".to_owned()]);
    table.row(["peak memory, nothing to do".to_owned(), mebibytes(quiet_memory), "20 MB".to_owned()]);
    table.row(["peak memory, renewal".to_owned(), mebibytes(memory), "20 MB".to_owned()]);
    let size = std::fs::metadata(certdeploy).map(|metadata| metadata.len()).unwrap_or_default();
    table.row(["size of the release build, not stripped".to_owned(), mebibytes(size / 1024), "-".to_owned()]);
    Ok(table)
}

/// The highest of ten measurements: one that looks a moment before the end may miss the top.
fn highest(mut measure: impl FnMut() -> Outcome<u64>) -> Outcome<u64> {
    (0..10).try_fold(0, |highest, _| Ok(measure()?.max(highest)))
}

/// The high-water mark of resident memory in KiB. It is read while the process lives: what `wait4` reports would have the
/// memory of the process that forked it in it.
fn peak_memory(command: &mut Command) -> Outcome<u64> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let mut child = child.map_err(|error| format!("can't start {}: {error}", shell::shown(command)))?;
    let status = format!("/proc/{}/status", child.id());
    let own = std::fs::read_to_string("/proc/self/comm").unwrap_or_default();
    let mut peak = 0;
    loop {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        // Between fork and exec it is still us.
        let is_program = !text.starts_with(&format!("Name:\t{own}"));
        let mark =
            text.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
        if let (true, Some(mark)) = (is_program, mark) {
            peak = peak.max(mark);
        }
        match child.try_wait() {
            Ok(None) => {}
            Ok(Some(end)) if end.success() => return Ok(peak),
            Ok(Some(end)) => return Err(format!("{} ended with {end}", shell::shown(command))),
            Err(error) => return Err(format!("can't wait for {}: {error}", shell::shown(command))),
        }
    }
}

//! Proof: whoever owns a destination's directory, or can write its parent, gains nothing by it.
//!
//! A process of an ordinary user swaps links, hard links, pipes, sockets, directories, the hidden directory with all names of
//! staged files, and the destination's own directory, in a tight loop, while the real program runs as root. Root's files next
//! door must stay what they are, to the time of their last change; so must the modes of what is root's, and every run must end
//! in time with a documented code and an error that says what to do.
//!
//! The schedule is fixed: every kind of attack in turn, each on a tree of its own with a quiet deployment first. The short form
//! has four attacked runs of each kind, the full one sixty.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests end where they cannot go on, and write the files that an attacker would"
)]

#[path = "adversary/prepared.rs"]
mod prepared;
#[path = "adversary/sources.rs"]
mod sources;

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use deploy_e2e::system::needs_root;
use deploy_e2e::{Run, Running, Tree};
use deploy_proof::observer::paths;
use deploy_proof::watch::{OTHER, OtherUser};
use deploy_proof::{Form, Site, Tally};

/// No run takes longer, whatever is done to it: the program's own limit for a target is 120 seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// What only root may read.
const SECRET: &str = "nobody but root may read these words";

const ATTACKS: [&str; 9] =
    ["links", "hard links", "pipes", "sockets", "directories", "wrong files", "neighbours", "hidden directories", "parents"];

/// A site whose destination lies in the attacker's directory, and root's files next door.
struct Scene {
    site: Site,
    /// Below the attacker's directory, where he may only change the parent.
    inside: bool,
    victims: Tree,
}

impl Scene {
    fn new(inside: bool) -> Self {
        let site = Site::new();
        let victims = site.path("victims");
        std::fs::create_dir(&victims).unwrap();
        for name in ["secret", "www.key", "www.crt", "www.chain.crt"] {
            write(&victims.join(name), SECRET, 0o600);
        }
        std::fs::create_dir(victims.join(".certdeploy")).unwrap();
        std::fs::set_permissions(victims.join(".certdeploy"), std::fs::Permissions::from_mode(0o700)).unwrap();
        chown(site.tls(), Some(OTHER), Some(OTHER)).unwrap();
        let scene = Self { victims: Tree::untouched(&victims), site, inside };
        if inside {
            std::fs::create_dir(scene.directory()).unwrap();
        } else {
            write(&scene.site.tls().join("neighbour.key"), SECRET, 0o600);
            write(&scene.site.tls().join("neighbour"), "", 0o600);
        }
        scene.configure();
        scene
    }

    fn directory(&self) -> PathBuf {
        if self.inside { self.site.tls().join("in") } else { self.site.tls() }
    }

    /// Nobody looks at the server here, which would read what the attacker puts there.
    fn configure(&self) {
        self.site.configure("allow_unsafe_parent = true\nvalidate = [\"true\"]\nreload = []");
        let config = &self.site.program.config;
        let text = std::fs::read_to_string(config).unwrap();
        let lines = text.lines().map(|line| if line.starts_with("verify = ") { "verify = []" } else { line });
        let text = lines.collect::<Vec<_>>().join("\n");
        let place = self.directory();
        let text = text.replace(self.site.tls().join("www").to_str().unwrap(), place.join("www").to_str().unwrap());
        write(config, &text, 0o600);
    }

    fn attacker(&self, kind: &str) -> OtherUser {
        let hidden = self.hidden().unwrap();
        let (directory, victims) = (self.site.tls(), self.site.path("victims"));
        let arguments = ["attack", kind, directory.to_str().unwrap(), victims.to_str().unwrap(), &hidden];
        OtherUser::start(Path::new(env!("CARGO_BIN_EXE_other-user")), &arguments)
    }

    /// The name of the target's own hidden directory.
    fn hidden(&self) -> Option<String> {
        let entries = self.directory().join(".certdeploy").read_dir().ok()?;
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).find(|name| name.starts_with("front-"))
    }

    /// What must hold at any time.
    fn violations(&self, attack: &str) -> Vec<String> {
        let mut found = Vec::new();
        if self.victims != Tree::untouched(&self.site.path("victims")) {
            found.push(format!("{attack}: root's files next door were changed, or have new names"));
        }
        let ours = [self.site.tls(), self.site.path("state"), self.site.path("source")];
        for path in ours.iter().flat_map(|directory| paths(directory)) {
            let Ok(metadata) = path.symlink_metadata() else { continue };
            let mode = metadata.mode() & 0o7777;
            if metadata.uid() == 0 && !metadata.is_symlink() && mode & 0o6022 != 0 {
                found.push(format!("{attack}: {} is root's and has mode {mode:04o}", path.display()));
            }
            let moved = attack == "neighbours" || path.file_name().is_some_and(|name| name == "neighbour.key");
            let read = metadata.is_file() && metadata.len() < 1 << 20;
            if read && std::fs::read(&path).is_ok_and(|bytes| bytes.windows(SECRET.len()).any(|part| part == SECRET.as_bytes())) {
                if !moved {
                    found.push(format!("{attack}: {} holds what only root may read", path.display()));
                } else if metadata.uid() != 0 || mode & 0o077 != 0 {
                    found.push(format!("{attack}: {} was opened to others", path.display()));
                }
            }
        }
        found
    }
}

fn write(path: &Path, text: &str, mode: u32) {
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Waits for a run, but not for ever.
fn ended(mut running: Running) -> Result<Run, String> {
    let started = Instant::now();
    while running.is_running() {
        if started.elapsed() > PATIENCE {
            return Err(format!("it hangs: {}", running.stderr()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(running.wait())
}

/// Whether a run ended as the book says, with what the operator needs to know.
fn documented(run: &Run) -> Result<(), String> {
    let target = run.only();
    let (outcome, error) = (target["outcome"].as_str().unwrap_or_default(), &target["error"]);
    let expected = match outcome {
        "changed" | "repaired" | "unchanged" => 0,
        "rejected" => 3,
        "rolled_back" => 4,
        "rollback_failed" => 5,
        other => return Err(format!("{other}: {run:#?}")),
    };
    let said = ["message", "next_step"].iter().all(|field| error[field].as_str().is_some_and(|text| !text.is_empty()));
    if run.code == expected && (expected == 0 || said) { Ok(()) } else { Err(format!("{run:#?}")) }
}

#[test]
fn nothing_is_gained_by_an_attack_on_the_directory() {
    needs_root("it deploys into another user's directory");
    let mut tally = Tally::new("adversary/attacks");
    let runs = Form::asked().pick(4, 60);
    for attack in ATTACKS {
        under(&mut tally, attack, runs);
    }
    let succeeded = tally.number("deployments that succeeded under attack");
    tally.expect(succeeded > 0, || "no deployment ever succeeded under attack".to_owned());
    tally.finish();
}

fn under(tally: &mut Tally, attack: &str, runs: usize) {
    let scene = Scene::new(attack == "parents");
    scene.site.renew();
    // While the other user does nothing, all is well.
    scene.site.deploy().expect(0, "changed");
    tally.add("deployments in another user's directory", 1);
    let attacker = scene.attacker(attack);
    for number in 0..runs {
        scene.site.renew();
        let arguments = match number % 4 {
            3 => &["rollback", "front", "--json"][..],
            _ => &["deploy", "--json"],
        };
        tally.add("runs under attack", 1);
        match ended(scene.site.program.start(arguments)) {
            Ok(run) => {
                tally.add("deployments that succeeded under attack", u64::from(run.code == 0));
                documented(&run).unwrap_or_else(|why| tally.violation(format!("{attack}: {why}")));
            }
            Err(why) => tally.violation(format!("{attack}: {why}")),
        }
        scene.violations(attack).into_iter().for_each(|what| tally.violation(what));
    }
    let said = attacker.end();
    let turns: u64 = said.iter().find_map(|line| line.strip_prefix("turns ")?.parse().ok()).unwrap_or_default();
    tally.expect(turns > 20, || format!("{attack}: the attacker had {turns} turns"));
    tally.add("attacks", turns);
    for arguments in [&["recover", "--json"][..], &["status", "--json"], &["plan", "--json"]] {
        if let Err(why) = ended(scene.site.program.start(arguments)) {
            tally.violation(format!("{attack}, afterwards: {why}"));
        }
    }
    scene.violations(attack).into_iter().for_each(|what| tally.violation(what));
}

/// What an attack must not come to, and how it is made.
type Seed<'a> = (&'a str, &'a dyn Fn(&Scene));

#[test]
fn seeded_violations_are_found() {
    needs_root("it deploys into another user's directory");
    let victims = |scene: &Scene, name: &str| scene.site.path("victims").join(name);
    let seeds: [Seed<'_>; 6] = [
        ("a file is replaced by its own words", &|scene| write(&victims(scene, "www.key"), SECRET, 0o600)),
        ("a new file", &|scene| write(&victims(scene, "new"), "", 0o600)),
        ("a second name", &|scene| std::fs::hard_link(victims(scene, "secret"), scene.site.tls().join("backup")).unwrap()),
        ("a copy", &|scene| write(&scene.site.tls().join("copy"), SECRET, 0o600)),
        ("a mode", &|scene| write(&scene.site.tls().join("open"), "", 0o622)),
        ("an owner", &|scene| chown(victims(scene, "secret"), Some(OTHER), None).unwrap()),
    ];
    for (name, seed) in seeds {
        let scene = Scene::new(false);
        assert_eq!(scene.violations("before"), [""; 0], "{name}");
        seed(&scene);
        assert!(!scene.violations("after").is_empty(), "{name} was not found");
    }
}

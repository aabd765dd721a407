//! The attacks. Each puts something of the attacker's in the place of something, and then the thing back, for ever; what the
//! system refuses is tried again.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::stat::Mode;

/// Where it happens.
pub(crate) struct Place {
    /// The attacker's own directory.
    pub(crate) directory: PathBuf,
    /// Files of root's that he would like to see read, replaced or given to him.
    pub(crate) victims: PathBuf,
    /// The name of the target's directory in `.certdeploy`, which can be computed by anybody.
    pub(crate) hidden: PathBuf,
}

/// The destinations.
const NAMES: [&str; 3] = ["www.key", "www.crt", "www.chain.crt"];

/// After as many turns there is a pause, a longer one each time, up to 28 ms: so that the swaps fall between any two steps of
/// a run, and a run has a chance.
const BURST: usize = 128;

pub(crate) fn attack(over: &Path, kind: &str, place: &Place) {
    let mut turns: usize = 0;
    while !over.exists() {
        // What the system refuses, or root was faster with, is no failure.
        let _refused = turn(kind, place, turns);
        turns += 1;
        if turns.is_multiple_of(BURST) {
            std::thread::sleep(Duration::from_millis(4) * (turns / BURST % 8) as u32);
        }
    }
    println!("turns {turns}");
}

fn turn(kind: &str, place: &Place, turns: usize) -> io::Result<()> {
    let name = NAMES[turns % NAMES.len()];
    let destination = place.directory.join(name);
    let victim = if turns.is_multiple_of(2) { place.victims.join("secret") } else { place.victims.join(name) };
    match kind {
        "directories" => swap(&destination, |path| fs::create_dir(path)),
        "hard links" => swap(&destination, |path| fs::hard_link(&victim, path).or_else(|_| second_name(path))),
        "hidden directories" => hidden(place, turns),
        "links" => swap(&destination, |path| symlink(&victim, path)),
        "neighbours" => swap(&destination, |path| fs::rename(place.directory.join("neighbour.key"), path)),
        "parents" => parent(place, turns),
        "pipes" => swap(&destination, pipe),
        "sockets" => swap(&destination, |path| UnixListener::bind(path).map(drop)),
        "wrong files" => swap(&destination, |path| wrong_file(path, turns)),
        other => panic!("there is no attack {other}"),
    }
}

/// Takes something aside, puts something else there for a moment, and puts it back.
fn swap(path: &Path, make: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
    let aside = path.with_extension("aside");
    let moved = fs::rename(path, &aside);
    let made = make(path);
    let gone = if path.is_dir() && !path.is_symlink() { fs::remove_dir_all(path) } else { back(path) };
    moved.and(fs::rename(&aside, path)).and(made).and(gone)
}

/// What was put there is taken away, a neighbour's file to where it came from.
fn back(path: &Path) -> io::Result<()> {
    let neighbour = path.with_file_name("neighbour.key");
    if neighbour.exists() || !path.with_file_name("neighbour").exists() {
        return fs::remove_file(path);
    }
    fs::rename(path, neighbour)
}

fn pipe(path: &Path) -> io::Result<()> {
    Ok(nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o666))?)
}

fn second_name(path: &Path) -> io::Result<()> {
    let own = path.with_file_name("own");
    fs::write(&own, "mine")?;
    fs::hard_link(&own, path)
}

fn wrong_file(path: &Path, turns: usize) -> io::Result<()> {
    let file = File::create(path)?;
    file.set_len([0, 1, 1 << 20, 1 << 33][turns % 4])?;
    fs::set_permissions(path, Permissions::from_mode(0o6777))
}

/// In the place of the hidden directory: a link, one of the attacker's own with the names of staged files, a pipe.
fn hidden(place: &Place, turns: usize) -> io::Result<()> {
    swap(&place.directory.join(".certdeploy"), |path| match turns % 4 {
        0 => symlink(place.victims.join(".certdeploy"), path),
        1 => pipe(path),
        2 => {
            fs::create_dir(path)?;
            symlink(place.victims.join(".certdeploy"), path.join(&place.hidden))
        }
        _ => {
            let target = path.join(&place.hidden);
            fs::create_dir_all(&target)?;
            fs::set_permissions(path, Permissions::from_mode(0o777))?;
            for (id, index) in (1..4).flat_map(|id| (0..3).map(move |index| (id, index))) {
                symlink(place.victims.join("secret"), target.join(format!("{id:08}.{index}.new")))?;
                pipe(&target.join(format!("{id:08}.{index}.old")))?;
                File::create(target.join(format!("{id:08}.{index}.old.back")))?;
            }
            Ok(())
        }
    })
}

/// In the place of the destination's directory: a link to the victims, or an empty one of the attacker's own.
fn parent(place: &Place, turns: usize) -> io::Result<()> {
    swap(&place.directory.join("in"), |path| match turns % 3 {
        0 => symlink(&place.victims, path),
        1 => fs::create_dir(path),
        _ => pipe(path),
    })
}

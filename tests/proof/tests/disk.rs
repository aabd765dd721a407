//! The power goes while a renewal runs on a real file system: at every write and flush that reached the disk, with any of
//! the unflushed ones lost, the kernel replays the file system's journal, `certdeploy recover --files-only` runs as at boot,
//! the server starts, and `certdeploy deploy` goes on. The same for a power cut during that recovery.
//!
//! It is no part of the other test runs: it needs root, FUSE and loop devices, and fails without them. The short form tries a
//! fixed number of moments, taken with a fixed seed from what was recorded; the full form tries all of them, with three
//! random subsets of the unflushed blocks at each. What is recorded differs from run to run, as the kernel's timing does.
//!
//! A sequence like the predecessor's goes through the same disk, to show that the disk finds what is to be found: it writes,
//! syncs and renames file by file, syncs no directory and has no recovery.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "tests end where they cannot go on, and the predecessor's sequence writes and renames"
)]

use std::fs::Permissions;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploy_e2e::Program;
use deploy_proof::log_disk::{Cut, FileSystem, Image, Machine, Recording};
use deploy_proof::observer::{File, litter};
use deploy_proof::{Form, Site, Tally};
use deploy_testkit::Issued;

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask crash --disk"]
fn f37_power_cuts_on_btrfs_leave_all_old_or_all_new() {
    prove(FileSystem::Btrfs);
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask crash --disk"]
fn f37_power_cuts_on_ext4_leave_all_old_or_all_new() {
    prove(FileSystem::Ext4);
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask crash --disk"]
fn f37_power_cuts_on_ext4_without_a_journal_leave_all_old_or_all_new() {
    prove(FileSystem::Ext4NoJournal);
}

#[test]
#[ignore = "needs root, FUSE and loop devices: cargo xtask crash --disk"]
fn f37_power_cuts_on_xfs_leave_all_old_or_all_new() {
    prove(FileSystem::Xfs);
}

/// How far apart the names are switched, so that the file system can commit in between.
const APART: Duration = Duration::from_millis(30);

fn prove(file_system: FileSystem) {
    let mut tally = Tally::new(&format!("disk/{}", file_system.name()));
    let proof = Proof::new(file_system);
    let mixed = proof.renewal(&mut tally);
    tally.expect(mixed.is_some(), || "no power cut left a mixture, so that recovery was not tried".to_owned());
    if let Some((recording, cut)) = mixed {
        proof.recovery(&recording, cut, &mut tally);
    }
    proof.predecessor(&mut tally);
    tally.finish();
}

/// A machine with an old certificate deployed, and a new one to deploy.
struct Proof {
    machine: Machine,
    before: Image,
    old: Side,
    new: Side,
}

/// A certificate, and the three files with it.
struct Side {
    issued: Issued,
    files: [Option<File>; 3],
}

/// What the three files are, together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// One of them is neither the old nor the new one.
    Damaged,
    Mixed,
    New,
    Old,
}

impl Proof {
    fn new(file_system: FileSystem) -> Self {
        let mut deployed = None;
        let machine = Machine::new(file_system, |site| {
            let issued = site.renew();
            site.deploy().expect(0, "changed");
            site.files().iter().for_each(|path| mark(path));
            deployed = Some(Side { issued, files: site.live() });
        });
        let old = deployed.expect("it was deployed");
        let issued = machine.site.renew();
        let mut files = old.files.clone();
        for (file, bytes) in files.iter_mut().flatten().zip(Site::contents(&issued)) {
            file.bytes = bytes;
        }
        Self { before: machine.image(), machine, old, new: Side { issued, files } }
    }

    /// Cuts the power during a renewal. Returns a moment at which that left a mixture.
    fn renewal(&self, tally: &mut Tally) -> Option<(Recording, Cut)> {
        let another_boot = self.machine.another_boot();
        let recording = self.machine.record(self.before.clone(), |site| {
            spaced(&site.program).run(&["deploy", "--json"]).expect(0, "changed");
            assert_eq!(site.live(), self.new.files);
        });
        drop(another_boot);
        let mut mixed = None;
        for cut in sample(&recording, Form::asked().pick(150, usize::MAX)) {
            tally.add("images", 1);
            if self.boot(&recording, cut, State::New, tally) == Some(State::Mixed) {
                mixed = Some(cut);
            }
        }
        Some((recording, mixed?))
    }

    /// Cuts the power a second time, during the recovery from a first cut.
    fn recovery(&self, first: &Recording, mixed: Cut, tally: &mut Tally) {
        let recording = self.machine.record(first.image(mixed), |site| {
            let run = spaced(&site.program).run(&["recover", "--files-only"]);
            assert_eq!((run.code, self.state()), (0, State::Old), "{run:?}");
        });
        for cut in sample(&recording, Form::asked().pick(50, usize::MAX)) {
            tally.add("images of a second cut", 1);
            self.boot(&recording, cut, State::Old, tally);
        }
    }

    /// Cuts the power during a sequence like the predecessor's, and counts what that leaves for good.
    fn predecessor(&self, tally: &mut Tally) {
        let recording = self.machine.record(self.before.clone(), |site| {
            for (path, bytes) in site.files().iter().zip(Site::contents(&self.new.issued)) {
                replace_like_the_predecessor(path, &bytes);
            }
        });
        for cut in sample(&recording, Form::asked().pick(100, usize::MAX)) {
            tally.add("predecessor images", 1);
            let _mounted = self.machine.switch_on(recording.image(cut)).expect("it could be mounted");
            let state = self.state();
            tally.add("predecessor mixed", u64::from(state == State::Mixed));
            tally.add("predecessor damaged", u64::from(state == State::Damaged));
            tally.add("predecessor lost", u64::from(recording.is_acknowledged(cut) && state != State::New));
        }
        let found = tally.number("predecessor mixed") + tally.number("predecessor damaged");
        tally.expect(found > 0, || "the disk finds no mixture where there is one".to_owned());
        tally.expect(tally.number("predecessor lost") > 0, || "the disk finds no loss where there is one".to_owned());
    }

    /// The power returns: the files are settled, the server starts with them, the next run goes on. Returns what there was
    /// before any of it, if the file system could be mounted.
    fn boot(&self, recording: &Recording, cut: Cut, acknowledged: State, tally: &mut Tally) -> Option<State> {
        let site = &self.machine.site;
        let _mounted = match self.machine.switch_on(recording.image(cut)) {
            Ok(mounted) => mounted,
            Err(error) => {
                tally.violation(format!("{cut:?}: {error}"));
                return None;
            }
        };
        let raw = self.state();
        tally.add("raw mixed images", u64::from(raw == State::Mixed));
        tally.add("raw damaged images", u64::from(raw == State::Damaged));

        let run = site.run(&["recover", "--files-only"]);
        let settled = self.state();
        tally.expect(run.code == 0, || format!("{cut:?}: {raw:?}, and the recovery failed: {run:?}"));
        let held = if recording.is_acknowledged(cut) { settled == acknowledged } else { settled.is_whole() };
        tally.expect(held, || format!("{cut:?}: {raw:?}, then {settled:?} {:?} after {run:?}", site.live()));
        if !settled.is_whole() {
            return Some(raw);
        }

        site.hang_up(if settled == State::New { &self.new.issued } else { &self.old.issued });
        let run = site.deploy();
        let served = site.served().as_ref() == Some(&self.new.issued.fingerprint);
        let done = run.code == 0 && served && self.state() == State::New;
        tally.expect(done, || format!("{cut:?}: {raw:?}, {settled:?}, then {:?} after {run:?}", site.live()));
        // Where nothing was left to settle, nobody looked: a half-done rename that nothing refers to waits for the next renewal.
        if done && run.only()["outcome"] == "unchanged" && !self.litter().is_empty() {
            tally.add("names left to the next renewal", 1);
            site.renew();
            site.deploy().expect(0, "changed");
            site.put(&self.new.issued);
        }
        let litter = self.litter();
        tally.expect(litter.is_empty(), || format!("{cut:?}: {raw:?}, {settled:?}, and left are {litter:?} after {run:?}"));
        Some(raw)
    }

    /// What is left of earlier runs, and files that have a second name.
    fn litter(&self) -> Vec<PathBuf> {
        let site = &self.machine.site;
        let twice = |path: &PathBuf| File::at(path).is_some_and(|file| file.links > 1);
        [litter(&site.tls()), litter(&site.program.state), site.files().into_iter().filter(twice).collect()].concat()
    }

    fn state(&self) -> State {
        let live = self.machine.site.live();
        let is = |index: usize, side: &Side| match (&live[index], &side.files[index]) {
            (Some(live), Some(file)) => live.is_like(file),
            (live, file) => live.is_none() && file.is_none(),
        };
        let all = |side: &Side| (0..3).all(|index| is(index, side));
        match () {
            () if all(&self.new) => State::New,
            () if all(&self.old) => State::Old,
            () if (0..3).all(|index| is(index, &self.new) || is(index, &self.old)) => State::Mixed,
            () => State::Damaged,
        }
    }
}

impl State {
    fn is_whole(self) -> bool {
        matches!(self, Self::New | Self::Old)
    }
}

/// Moments of a recording, with random subsets at each in the full form.
fn sample(recording: &Recording, limit: usize) -> Vec<Cut> {
    let mut cuts = recording.cuts(Form::asked().pick(1, 3));
    fastrand::Rng::with_seed(1).shuffle(&mut cuts);
    cuts.truncate(limit);
    cuts
}

/// The program, with a pause after every rename.
fn spaced(program: &Program) -> Program {
    let pause = format!("inject=/^rename:delay_exit={}", APART.as_micros());
    let line = ["strace", "-f", "--seccomp-bpf", "-qq", "-o", "/dev/null", "-e", "trace=/^rename", "-e", &pause, "--"];
    let mut program = program.clone();
    program.wrapper = line.map(str::to_owned).to_vec();
    program
}

/// An owner, a mode and an attribute that no file has by default.
fn mark(path: &Path) {
    chown(path, Some(123), Some(456)).unwrap();
    std::fs::set_permissions(path, Permissions::from_mode(0o640)).unwrap();
    xattr::set(path, "user.note", b"kept").unwrap();
}

fn replace_like_the_predecessor(path: &Path, bytes: &[u8]) {
    let staged = path.with_extension("staged");
    std::fs::write(&staged, bytes).unwrap();
    mark(&staged);
    std::fs::File::open(&staged).unwrap().sync_all().unwrap();
    std::thread::sleep(APART);
    std::fs::rename(&staged, path).unwrap();
}

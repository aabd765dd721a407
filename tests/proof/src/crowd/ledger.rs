//! What everybody wrote down, and whether it can be: each success was there while it ran, and nothing came back that a later
//! success had replaced.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use super::ground::Ground;
use crate::Tally;
use crate::mark::Mark;

/// One line.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Entry {
    /// When, in nanoseconds of a clock that all processes share and nobody sets.
    pub at: u64,
    /// In which process.
    pub process: u32,
    /// In which deployment.
    pub number: u64,
    /// What.
    pub what: What,
}

/// What is written down.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub enum What {
    /// A process was found killed.
    Died,
    /// A deployment ended.
    Ended {
        /// How.
        outcome: String,
        /// Why, if not well.
        error: Option<String>,
        /// How many interrupted deployments it found and settled.
        settled: u64,
    },
    /// A deployment is about to start.
    Started {
        /// Of this target.
        target: String,
        /// With this leaf.
        fingerprint: String,
    },
    /// The server was told.
    Told {
        /// Which deployments the certificate and the key on disk are of, before and after.
        disk: [Option<u64>; 2],
        /// What was served then.
        served: Option<String>,
        /// Nobody else was telling it at the same time.
        alone: bool,
    },
}

/// All lines.
#[derive(Debug)]
#[non_exhaustive]
pub struct Ledger {
    entries: Vec<Entry>,
}

/// What is known of one deployment.
#[derive(Debug)]
struct Deployment<'a> {
    target: &'a str,
    fingerprint: &'a str,
    started: u64,
    /// `None`: its process was killed at a time that nobody knows, or there is no telling yet.
    ended: Option<u64>,
    outcome: Option<(&'a str, Option<&'a str>)>,
    /// It was seen on disk and served while it ran.
    was_live: bool,
}

impl Ground {
    /// Writes a line into the ledger.
    pub(super) fn note(&self, process: u32, number: u64, what: What) {
        let now = clock_gettime(ClockId::Monotonic);
        let at = u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap();
        let mut line = serde_json::to_vec(&Entry { at, process, number, what }).expect("plain data");
        line.push(b'\n');
        let mut file = OpenOptions::new().append(true).create(true).open(self.ledger()).expect("the ledger");
        file.write_all(&line).expect("space for the ledger");
    }
}

impl Ledger {
    /// Reads it.
    ///
    /// # Panics
    ///
    /// When it can't be read.
    #[must_use]
    pub fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).expect("the ledger");
        Self { entries: text.lines().map(|line| serde_json::from_str(line).expect("a line of ours")).collect() }
    }

    /// Every deployment that has an end ended well, alone, and live.
    pub fn check(&self, tally: &mut Tally) {
        for entry in &self.entries {
            match &entry.what {
                What::Told { disk, alone, .. } => {
                    tally.expect(*alone, || format!("in {}, somebody else was at work at the same time", entry.number));
                    tally
                        .expect(disk[0].is_some() && disk[0] == disk[1], || format!("in {}, {disk:?} was on disk", entry.number));
                }
                What::Ended { settled, .. } => tally.add("interrupted deployments settled", *settled),
                What::Started { .. } => tally.add("deployments", 1),
                What::Died => {}
            }
        }
        let is_served = self.entries.iter().any(|entry| matches!(entry.what, What::Told { .. }));
        for (number, deployment) in self.deployments() {
            match deployment.outcome {
                Some(("changed", _)) => {
                    let was_live = deployment.was_live || !is_served;
                    tally.expect(was_live, || format!("{number} reported success and was never live"));
                }
                Some((outcome, error)) => tally.violation(format!("{number} ended as {outcome}: {error:?}")),
                None => tally.expect(deployment.ended.is_some(), || format!("{number} has no end, and was not killed")),
            }
        }
    }

    /// The files at rest: certificate and key of one deployment, and nothing that a later success had replaced.
    pub fn check_files(&self, ground: &Ground, tally: &mut Tally) {
        let number = |path: &Path| Mark::at(path).map(|mark| mark.number);
        let (crt, key) = (number(&ground.crt()), number(&ground.key()));
        tally.expect(crt.is_some() && crt == key, || format!("at rest, the certificate is of {crt:?} and the key of {key:?}"));
        let targets = ground.targets();
        let has = |target: &str, name: &str| targets.iter().any(|other| other.name == target && other.has(name));
        let deployments = self.deployments();
        for path in [ground.crt(), ground.stamp()] {
            let name = path.file_name().and_then(|name| name.to_str()).expect("a name of ours");
            let live = number(&path).and_then(|number| Some((number, deployments.get(&number)?)));
            let Some((live, of)) = live else {
                let written = deployments.values().any(|other| other.is_success() && has(other.target, name));
                tally.expect(!written, || format!("at rest, {name} is of nobody"));
                continue;
            };
            let after = |other: &Deployment<'_>| other.is_success() && of.ended.is_some_and(|ended| ended < other.started);
            let lost = deployments.iter().find(|(_, other)| has(other.target, name) && after(other));
            tally.expect(lost.is_none(), || format!("at rest, {name} is of {live}, and {lost:?} came after it"));
        }
        self.check_whole(ground, &deployments, tally);
    }

    /// Of the last deployment of three files, all three are there, unless somebody replaced two of them.
    fn check_whole(&self, ground: &Ground, deployments: &BTreeMap<u64, Deployment<'_>>, tally: &mut Tally) {
        let number = |path: &Path| Mark::at(path).map(|mark| mark.number);
        let (crt, stamp) = (number(&ground.crt()), number(&ground.stamp()));
        let last = crt.and_then(|number| deployments.get(&number));
        let of_three = last.is_some_and(|deployment| deployment.target == "side");
        tally.expect(!of_three || crt == stamp, || format!("at rest, {crt:?} is there without its third file: {stamp:?}"));
    }

    fn deployments(&self) -> BTreeMap<u64, Deployment<'_>> {
        let mut all: BTreeMap<u64, Deployment<'_>> = BTreeMap::new();
        let mut of_process: BTreeMap<u32, Vec<u64>> = BTreeMap::new();
        for entry in &self.entries {
            match &entry.what {
                What::Started { target, fingerprint } => {
                    of_process.entry(entry.process).or_default().push(entry.number);
                    let (ended, outcome, was_live) = (None, None, false);
                    all.insert(entry.number, Deployment { target, fingerprint, started: entry.at, ended, outcome, was_live });
                }
                What::Told { disk, served, .. } => {
                    let Some(deployment) = all.get_mut(&entry.number) else { continue };
                    let served = served.as_deref() == Some(deployment.fingerprint);
                    deployment.was_live |= served && *disk == [Some(entry.number); 2];
                }
                What::Ended { outcome, error, .. } => {
                    let Some(deployment) = all.get_mut(&entry.number) else { continue };
                    deployment.ended = Some(entry.at);
                    deployment.outcome = Some((outcome.as_str(), error.as_deref()));
                }
                What::Died => {
                    for number in of_process.remove(&entry.process).unwrap_or_default() {
                        let Some(deployment) = all.get_mut(&number) else { continue };
                        deployment.ended.get_or_insert(entry.at);
                    }
                }
            }
        }
        all
    }
}

impl Deployment<'_> {
    fn is_success(&self) -> bool {
        self.outcome.is_some_and(|(outcome, _)| outcome == "changed")
    }
}

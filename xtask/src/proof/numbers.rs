//! The numbers that proofs left behind, one file each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::Deserialize;

use crate::Outcome;

/// What one test of a proof counted.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Record {
    /// The proof and what it is done to: `crash/renewal`.
    pub(super) proof: String,
    /// `short` or `full`.
    pub(super) form: String,
    pub(super) numbers: BTreeMap<String, u64>,
}

/// Of all tests that ran.
#[derive(Clone, Debug, Default)]
pub(super) struct Numbers(Vec<Record>);

impl Numbers {
    pub(super) fn new(mut records: Vec<Record>) -> Self {
        records.sort_by(|one, other| one.proof.cmp(&other.proof));
        Self(records)
    }

    pub(super) fn read(directory: &Path) -> Outcome<Self> {
        let failed = |error: std::io::Error| format!("the numbers cannot be read: {error}");
        let mut records = Vec::new();
        for entry in directory.read_dir().map_err(failed)? {
            let text = std::fs::read_to_string(entry.map_err(failed)?.path()).map_err(failed)?;
            records.push(serde_json::from_str(&text).map_err(|error| format!("a record is not understood: {error}"))?);
        }
        Ok(Self::new(records))
    }

    /// The records of one proof.
    pub(super) fn of<'a>(&'a self, proof: &'a str) -> impl Iterator<Item = &'a Record> {
        self.0.iter().filter(move |record| record.proof.split('/').next() == Some(proof))
    }

    /// A number summed over the tests of a proof; `None` if none of them ran.
    pub(super) fn sum(&self, proof: &str, what: &str) -> Option<u64> {
        let mut of = self.of(proof).peekable();
        of.peek()?;
        Some(of.filter_map(|record| record.numbers.get(what)).sum())
    }

    /// For people.
    pub(super) fn table(&self) -> String {
        self.0.iter().fold(String::new(), |mut text, record| {
            let numbers: Vec<String> = record.numbers.iter().map(|(what, number)| format!("{what}: {number}")).collect();
            // A string takes everything.
            let _written = writeln!(text, "{} ({}): {}", record.proof, record.form, numbers.join("; "));
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_summed_over_the_tests_of_a_proof() {
        let record = |proof: &str, points| Record {
            proof: proof.to_owned(),
            form: "full".to_owned(),
            numbers: BTreeMap::from([("points".to_owned(), points)]),
        };
        let numbers = Numbers::new(vec![record("crash/b", 2), record("crash/a", 1), record("crashes/c", 4)]);
        assert_eq!(numbers.sum("crash", "points"), Some(3));
        assert_eq!(numbers.sum("crash", "others"), Some(0));
        assert_eq!(numbers.sum("faults", "points"), None);
        assert!(numbers.table().starts_with("crash/a (full): points: 1\ncrash/b"));
    }
}

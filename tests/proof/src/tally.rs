//! The numbers of a proof: printed, and recorded for the book's page on safety where that is asked for.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use crate::Form;

/// What one proof counted, and what it found.
///
/// Nothing that was found ends the proof at once, so that one defect does not hide another; [`Tally::finish`] does.
#[derive(Debug)]
pub struct Tally {
    proof: String,
    numbers: BTreeMap<String, u64>,
    violations: Vec<String>,
}

/// As many violations are kept in full; the others are counted.
const SHOWN: usize = 20;

impl Tally {
    /// Of a proof: `crash/renewal`, the file in `tests/` and what it does to it.
    #[must_use]
    pub fn new(proof: &str) -> Self {
        Self { proof: proof.to_owned(), numbers: BTreeMap::from([("violations".to_owned(), 0)]), violations: Vec::new() }
    }

    /// Adds to a number: `crash points tried`.
    pub fn add(&mut self, what: &str, number: u64) {
        *self.numbers.entry(what.to_owned()).or_default() += number;
    }

    /// A promise was broken.
    pub fn violation(&mut self, what: impl Into<String>) {
        self.add("violations", 1);
        if self.violations.len() < SHOWN {
            self.violations.push(what.into());
        }
    }

    /// A promise was broken unless the condition holds.
    pub fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.violation(what());
        }
    }

    /// A number so far.
    #[must_use]
    pub fn number(&self, what: &str) -> u64 {
        self.numbers.get(what).copied().unwrap_or_default()
    }

    /// Prints the numbers, and records them as JSON in the directory that `CERTDEPLOY_PROOF_RECORD` names.
    ///
    /// # Panics
    ///
    /// When a promise was broken, with the first ones; or when the record cannot be written.
    pub fn finish(self) {
        let numbers = self.numbers.iter().fold(String::new(), |mut text, (what, number)| {
            write!(text, "; {what}: {number}").expect("a string grows");
            text
        });
        let form = Form::asked().pick("short", "full");
        println!("proof {} ({form}){numbers}", self.proof);
        if let Some(directory) = std::env::var_os("CERTDEPLOY_PROOF_RECORD") {
            let record = serde_json::json!({ "proof": self.proof, "form": form, "numbers": self.numbers });
            let file = Path::new(&directory).join(format!("{}.json", self.proof.replace('/', "-")));
            std::fs::write(file, record.to_string()).expect("the record is written");
        }
        assert!(
            self.violations.is_empty(),
            "{}: {} violations, the first are:\n{}",
            self.proof,
            self.number("violations"),
            self.violations.join("\n")
        );
    }
}

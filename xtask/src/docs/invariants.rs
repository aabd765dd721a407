//! Which test pins which invariant: read off the names of the tests, so that the page cannot claim one that is not there.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;

use super::Page;
use crate::{Outcome, shell};

const PAGE: &str = "invariants.md";

/// As many tests are named for an invariant; the others are counted.
const NAMED: usize = 2;

/// The page with its column of tests filled in.
pub(super) fn page() -> Outcome<Page> {
    let path = shell::root().join("docs").join(PAGE);
    let text = std::fs::read_to_string(&path).map_err(|error| format!("can't read docs/{PAGE}: {error}"))?;
    Ok(Page { path: PAGE.into(), text: fill(&text, &tests()?) })
}

/// Names of tests by invariant.
type Tests = BTreeMap<String, Vec<String>>;

fn fill(page: &str, tests: &Tests) -> String {
    let mut filled = String::with_capacity(page.len());
    for line in page.lines() {
        match row(line, tests) {
            Some(row) => filled.push_str(&row),
            None => filled.push_str(line),
        }
        filled.push('\n');
    }
    filled
}

/// `| F1 | what holds | tests |`, if the line is such a row.
fn row(line: &str, tests: &Tests) -> Option<String> {
    let mut cells = line.strip_prefix("| ")?.splitn(3, " | ");
    let (id, holds, _) = (cells.next()?, cells.next()?, cells.next()?);
    let number = id.strip_prefix(['F', 'M', 'P', 'S', 'A'])?;
    number.parse::<u32>().ok()?;
    let mut row = format!("| {id} | {holds} | ");
    let found = tests.get(&id.to_lowercase()).map(Vec::as_slice).unwrap_or_default();
    let named: Vec<String> = found.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    row.push_str(&if named.is_empty() { "none yet".to_owned() } else { named.join(", ") });
    if found.len() > NAMED {
        write!(row, " and {} more", found.len() - NAMED).ok()?;
    }
    row.push_str(" |");
    Some(row)
}

fn tests() -> Outcome<Tests> {
    let root = shell::root();
    let listing = shell::output(
        std::process::Command::new("git")
            .args(["ls-files", "--cached", "--others", "--exclude-standard", "*.rs"])
            .current_dir(&root),
    )?;
    // Git names what is new first: the page must not change by a commit.
    let files: BTreeSet<&str> = listing.lines().collect();
    let mut tests = Tests::new();
    for file in files {
        let text = std::fs::read_to_string(root.join(file)).map_err(|error| format!("can't read {file}: {error}"))?;
        for name in text.lines().filter_map(test_name) {
            for id in ids(name) {
                tests.entry(id.to_owned()).or_default().push(format!("{}: {name}", place(Path::new(file))));
            }
        }
    }
    Ok(tests)
}

/// The crate's folder: `deploy-core`, `connectors/nginx`.
fn place(file: &Path) -> String {
    let parts: Vec<_> = file.iter().map(|part| part.to_string_lossy()).collect();
    let inner = |part: &str| part == "src" || part == "tests";
    // The folder `tests` at the top holds crates; further down it is a part of one.
    let length = parts.iter().skip(1).position(|part| inner(part)).map_or(1, |index| index + 1);
    parts[..length].join("/")
}

/// The name of a function that may be a test.
fn test_name(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let rest = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn "))?;
    let (name, _) = rest.split_once("()")?;
    Some(name.split_once('<').map_or(name, |(name, _)| name))
}

/// The ids that a name begins with: `f6_f7_owner_is_kept` has two.
fn ids(name: &str) -> impl Iterator<Item = &str> {
    name.split('_').take_while(|part| {
        let mut letters = part.chars();
        matches!(letters.next(), Some('f' | 'm' | 'p' | 's' | 'a')) && part.len() > 1 && letters.all(|c| c.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_read_off_names() {
        assert_eq!(ids("f6_f7_owner_is_kept").collect::<Vec<_>>(), ["f6", "f7"]);
        assert_eq!(ids("a_file_is_created").count(), 0);
        assert_eq!(test_name("    async fn m1_x() {"), Some("m1_x"));
        assert_eq!(test_name("fn m1_x<H: Harness>() {"), Some("m1_x"));
        assert_eq!(place(Path::new("connectors/nginx/src/config/tests.rs")), "connectors/nginx");
        assert_eq!(place(Path::new("tests/e2e/tests/main_job.rs")), "tests/e2e");
    }

    #[test]
    fn rows_are_filled_and_other_lines_left_alone() {
        let tests = Tests::from([("f1".to_owned(), vec!["core: f1_x".to_owned(), "e2e: f1_y".to_owned(), "z".to_owned()])]);
        let page = "# F\n| F1 | it holds | old |\n| F2 | so does this | |\n| x | y | z |\n";
        let filled =
            "# F\n| F1 | it holds | `core: f1_x`, `e2e: f1_y` and 1 more |\n| F2 | so does this | none yet |\n| x | y | z |\n";
        assert_eq!(fill(page, &tests), filled);
        assert_eq!(fill(filled, &tests), filled);
    }
}

//! What the connectors can do, and what all of them have to do: read off the registry and the conformance suite.

use deploy_core::{Capabilities, Registry};
use deploy_testkit::conformance::{Behaviour, Need, contract};

use super::Page;

pub(super) fn pages() -> Vec<Page> {
    vec![
        Page { path: "connectors.md".into(), text: matrix(&certdeploy::registry()) },
        Page { path: "contract.md".into(), text: behaviours(&contract()) },
    ]
}

/// A column of the matrix, what it says, and where it is read.
type Column = (&'static str, &'static str, fn(&Capabilities) -> bool);

const COLUMNS: &[Column] = &[
    ("files", "It puts files on a host. Otherwise it makes calls to an API.", |has| has.files),
    ("staged validation", "The target's own checker looks at the new certificate before anything live changes.", |has| {
        has.staged_validation
    }),
    ("hot update", "A renewal drops no connection.", |has| has.hot_update),
    ("dry run", "`certdeploy plan` says what would change.", |has| has.dry_run),
    ("verification", "The new certificate can be seen by a handshake.", |has| has.verification),
    (
        "rollback",
        "`certdeploy rollback` brings an earlier certificate back. A deployment that fails is undone in any case.",
        |has| has.rollback,
    ),
    ("inventory", "What is deployed can be listed.", |has| has.inventory),
];

fn matrix(registry: &Registry) -> String {
    let mut page =
        "# Connectors\n\nWhat each connector can do, as it declares it. The conformance suite fails a connector that declares \
                    more than it does:\nsee [the contract](contract.md).\n\n"
            .to_owned();
    let names: Vec<&str> = COLUMNS.iter().map(|(name, ..)| *name).collect();
    page.push_str(&format!("| kind | deploys to | {} |\n|---|---|{}\n", names.join(" | "), "---|".repeat(names.len())));
    for entry in registry.entries() {
        let cells: Vec<&str> = COLUMNS.iter().map(|(.., has)| if has(&entry.capabilities) { "yes" } else { "no" }).collect();
        page.push_str(&format!("| `{}` | {} | {} |\n", entry.kind, entry.summary, cells.join(" | ")));
    }
    page.push_str("\nThe columns:\n\n");
    COLUMNS.iter().for_each(|(name, meaning, _)| page.push_str(&format!("- **{name}**: {meaning}\n")));
    page.push_str("\nThe settings of each kind are in the [configuration reference](configuration.md). [Testing](testing.md) says what each was tried with.\n");
    page
}

fn behaviours(contract: &[Behaviour]) -> String {
    let mut page = "# The contract of a connector\n\nWhat every connector does, and the case of the conformance suite that checks it. A \
                    case runs where its needs are met:\na capability that the connector declares, a fault that its test world can make. \
                    Otherwise it is listed as ignored, with the\nreason. `cargo test --test conformance NAME` runs one case.\n"
        .to_owned();
    let mut group = "";
    for (number, behaviour) in contract.iter().enumerate().map(|(index, behaviour)| (index + 1, behaviour)) {
        let this = behaviour.case.split("::").next().unwrap_or_default();
        if this != group {
            group = this;
            page.push_str(&format!("\n## {}\n\n| | behaviour | needs | case |\n|---|---|---|---|\n", title(group)));
        }
        let needs: Vec<String> = behaviour.needs.iter().copied().map(in_words).collect();
        let needs = if needs.is_empty() { "nothing".to_owned() } else { needs.join(", ") };
        page.push_str(&format!("| {number} | {} | {needs} | `{}` |\n", behaviour.sentence, behaviour.case));
    }
    page
}

fn in_words(need: Need) -> String {
    match need {
        Need::Files => "files".to_owned(),
        Need::Push => "calls".to_owned(),
        Need::StagedValidation => "`staged_validation`".to_owned(),
        Need::HotUpdate => "`hot_update`".to_owned(),
        Need::DryRun => "`dry_run`".to_owned(),
        Need::Verification => "`verification`".to_owned(),
        Need::Rollback => "`rollback`".to_owned(),
        Need::NoRollback => "no `rollback`".to_owned(),
        Need::Fault(fault) => format!("fault `{fault:?}`"),
        Need::Root => "root".to_owned(),
        other => format!("{other:?}"),
    }
}

/// `deployment` as a heading.
fn title(group: &str) -> String {
    let mut letters = group.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_connector_has_a_row_with_a_cell_for_each_capability() {
        let page = matrix(&certdeploy::registry());
        let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
        assert_eq!(rows.len(), certdeploy::registry().entries().count());
        assert!(rows.iter().all(|row| row.matches(" | ").count() == COLUMNS.len() + 1), "{page}");
        let declared = serde_json::to_value(Capabilities::NONE).expect("plain data");
        assert_eq!(declared.as_object().map(serde_json::Map::len), Some(COLUMNS.len()), "a capability has no column");
    }

    #[test]
    fn behaviours_are_numbered_through_all_groups() {
        let contract = contract();
        let page = behaviours(&contract);
        let last = contract.last().expect("a contract");
        assert!(page.contains(&format!("| {} | {} |", contract.len(), last.sentence)), "{page}");
        assert!(contract.iter().all(|behaviour| page.contains(&format!("`{}`", behaviour.case))));
    }
}

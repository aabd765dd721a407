//! `connectors`: the kinds of targets that this program knows.

use deploy_core::Registry;

use crate::cli::{Connectors, Options};
use crate::commands::discover;
use crate::config::unknown_kind;
use crate::exit;
use crate::failure::Failure;
use crate::output::json::ConnectorEntry;
use crate::output::{self, text};

/// Lists the kinds, prints the JSON Schema of the settings of one, or asks one what is served today.
pub(crate) fn run(command: &Connectors, options: &Options, registry: &Registry) -> Result<u8, Failure> {
    match command {
        Connectors::List => {
            let entries: Vec<ConnectorEntry> = registry.entries().map(Into::into).collect();
            output::print(options.json, &entries, |entries| text::connectors(entries));
        }
        Connectors::Discover { kind, command } => return discover::run(kind, command, options, registry),
        Connectors::Schema { kind } => {
            let entry = registry.get(kind).ok_or_else(|| Failure::Usage(unknown_kind(kind, registry)))?;
            output::document(&entry.schema());
        }
    }
    Ok(exit::SUCCESS)
}

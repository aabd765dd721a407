//! What the program's own types say about its configuration and its documents.

use super::Page;
use crate::Outcome;

/// The JSON Schema of every document, and the configuration reference.
pub(super) fn pages() -> Outcome<Vec<Page>> {
    let mut pages = Vec::new();
    for (name, schema) in certdeploy::schemas() {
        let text = serde_json::to_string_pretty(&schema).map_err(|error| format!("the schema {name}: {error}"))?;
        pages.push(Page { path: format!("schemas/{name}.json").into(), text: text + "\n" });
    }
    let reference = certdeploy::configuration_reference(&certdeploy::registry());
    pages.push(Page { path: "configuration.md".into(), text: reference });
    Ok(pages)
}

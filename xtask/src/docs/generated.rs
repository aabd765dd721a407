//! What the program's own types say about its configuration and its documents.

use deploy_exec::protocol::{answer_schema, request_schema};

use super::Page;
use crate::Outcome;

/// The JSON Schema of every document, of both sides of the protocol of `exec`, and the configuration reference.
pub(super) fn pages() -> Outcome<Vec<Page>> {
    let mut pages = Vec::new();
    let protocol = [("exec-answer", answer_schema()), ("exec-request", request_schema())];
    for (name, schema) in certdeploy::schemas().into_iter().chain(protocol) {
        let text = serde_json::to_string_pretty(&schema).map_err(|error| format!("the schema {name}: {error}"))?;
        pages.push(Page { path: format!("schemas/{name}.json").into(), text: text + "\n" });
    }
    let reference = certdeploy::configuration_reference(&certdeploy::registry());
    pages.push(Page { path: "configuration.md".into(), text: reference });
    Ok(pages)
}

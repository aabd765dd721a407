//! The configuration reference, made of the types.

use std::collections::BTreeSet;

use deploy_core::Registry;
use schemars::schema_for;
use serde_json::Value;

use crate::config::{AgentSettings, CertificateSettings, TargetSettings};

/// All settings as Markdown: those of the agent, and those of each connector in the registry.
#[must_use]
pub fn configuration_reference(registry: &Registry) -> String {
    let mut text = Text::default();
    text.section("## `[[certificate]]`", schema_for!(CertificateSettings).as_value());
    text.section("## `[[target]]`", schema_for!(TargetSettings).as_value());
    text.section("## `[agent]`", schema_for!(AgentSettings).as_value());
    for route in registry.routes() {
        text.0.push_str(&format!("## `via = {{ {} = {{ ... }} }}` of a `[[target]]`\n\n{}\n\n", route.kind, route.summary));
        let schema = route.schema();
        text.body(schema.as_value(), schema.as_value());
        text.definitions(schema.as_value());
    }
    for entry in registry.entries() {
        text.0.push_str(&format!("## `[[target]]` of kind `{}`\n\n{}\n\n", entry.kind, entry.summary));
        let schema = entry.schema();
        text.body(schema.as_value(), schema.as_value());
        text.definitions(schema.as_value());
    }
    text.0.truncate(text.0.trim_end().len());
    text.0.push('\n');
    text.0
}

#[derive(Default)]
struct Text(String, BTreeSet<String>);

impl Text {
    fn section(&mut self, heading: &str, schema: &Value) {
        self.0.push_str(&format!("{heading}\n\n"));
        self.body(schema, schema);
        self.definitions(schema);
    }

    /// What a schema says, and its fields if it has some.
    fn body(&mut self, schema: &Value, root: &Value) {
        if let Some(description) = schema["description"].as_str() {
            self.0.push_str(&format!("{}\n\n", unwrapped(description)));
        }
        self.fields(schema, root);
        let lines: Vec<String> = variants(schema).map(|variant| alternative(variant, root)).collect();
        if schema["properties"].is_null() && !lines.is_empty() {
            self.0.push_str(&format!("{}\n\n", lines.join("\n")));
        }
    }

    fn fields(&mut self, schema: &Value, root: &Value) {
        let Some(fields) = schema["properties"].as_object() else { return };
        let required: BTreeSet<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let (needed, others): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| required.contains(name.as_str()));
        for (name, field) in needed.into_iter().chain(others) {
            let default = match &field["default"] {
                _ if required.contains(name.as_str()) => ", required".to_owned(),
                Value::Null => String::new(),
                default => format!(", default `{}`", toml(default)),
            };
            let description = field["description"].as_str().map(unwrapped).unwrap_or_default();
            self.0.push_str(&format!("- `{name}`: {}{default}. {}\n", kind(field, root), description.replace("\n\n", " ")));
        }
        self.0.push('\n');
    }

    /// The types that the fields refer to.
    fn definitions(&mut self, root: &Value) {
        for (name, definition) in root["$defs"].as_object().into_iter().flatten() {
            // Connectors share types; each stands where it is first used.
            let mut text = Self::default();
            text.body(definition, root);
            let text = format!("### {name}\n\n{}", text.0);
            if self.1.insert(text.clone()) {
                self.0.push_str(&text);
            }
        }
    }
}

/// One line of a list of alternatives.
fn alternative(schema: &Value, root: &Value) -> String {
    let value = match &schema["const"] {
        Value::Null => kind(schema, root),
        value => format!("`{}`", toml(value)),
    };
    match schema["description"].as_str() {
        Some(description) => format!("- {value}: {}", unwrapped(description).replace("\n\n", " ")),
        None => format!("- {value}"),
    }
}

/// The type of a value in words.
fn kind(schema: &Value, root: &Value) -> String {
    if let Some(reference) = schema["$ref"].as_str() {
        let name = reference.rsplit('/').next().unwrap_or_default();
        return format!("[{name}](#{})", name.to_lowercase());
    }
    if let Some(values) = schema["enum"].as_array() {
        return values.iter().map(|value| format!("`{}`", toml(value))).collect::<Vec<_>>().join(" or ");
    }
    let alternatives: Vec<String> =
        variants(schema).filter(|variant| variant["type"] != "null").map(|variant| kind(variant, root)).collect();
    if !alternatives.is_empty() {
        return alternatives.join(" or ");
    }
    let names = match &schema["type"] {
        Value::Array(names) => names.iter().filter_map(Value::as_str).collect(),
        name => Vec::from_iter(name.as_str()),
    };
    let words: Vec<String> = names.into_iter().filter(|name| *name != "null").map(|name| word(name, schema, root)).collect();
    if words.is_empty() { "any value".to_owned() } else { words.join(" or ") }
}

fn word(name: &str, schema: &Value, root: &Value) -> String {
    match name {
        "array" => format!("list of {}", kind(&schema["items"], root)),
        "integer" | "number" => "number".to_owned(),
        "object" => match only_field(schema) {
            Some((name, value)) => format!("`{{ {name} = ... }}` with {}", kind(value, root)),
            None => "table".to_owned(),
        },
        other => other.to_owned(),
    }
}

/// The field of a table that has one and needs it: one of several forms of a value.
fn only_field(schema: &Value) -> Option<(&String, &Value)> {
    let fields = schema["properties"].as_object()?;
    let required = schema["required"].as_array()?;
    (fields.len() == 1 && required.len() == 1).then(|| fields.iter().next()).flatten()
}

fn variants(schema: &Value) -> impl Iterator<Item = &Value> {
    ["anyOf", "oneOf"].into_iter().filter_map(|list| schema[list].as_array()).flatten()
}

/// A value as it is written in a configuration.
fn toml(value: &Value) -> String {
    match value {
        Value::Array(values) => format!("[{}]", values.iter().map(toml).collect::<Vec<_>>().join(", ")),
        Value::Object(map) if map.is_empty() => "{}".to_owned(),
        Value::Object(map) => {
            format!("{{ {} }}", map.iter().map(|(key, value)| format!("{key} = {}", toml(value))).collect::<Vec<_>>().join(", "))
        }
        other => other.to_string(),
    }
}

/// Doc comments are wrapped; their paragraphs are kept.
fn unwrapped(text: &str) -> String {
    text.split("\n\n").map(|paragraph| paragraph.replace('\n', " ")).collect::<Vec<_>>().join("\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_setting_of_the_agent_is_in_the_reference() {
        let text = configuration_reference(&Registry::new());
        for name in TargetSettings::NAMES {
            assert!(text.contains(&format!("- `{name}`: ")), "{name} is missing in:\n{text}");
        }
        assert!(text.contains("- `concurrency`: number, default `8`."), "{text}");
        assert!(text.contains("- `fullchain`: string, required."), "{text}");
    }

    #[test]
    fn forms_of_a_value_are_told_by_their_field() {
        let form = |field: &str| serde_json::json!({ "type": "object", "properties": { field: { "type": "string" } }, "required": [field] });
        let text = kind(&serde_json::json!({ "oneOf": [form("a"), form("b")] }), &Value::Null);
        assert_eq!(text, "`{ a = ... }` with string or `{ b = ... }` with string");
    }

    #[cfg(feature = "nginx")]
    #[test]
    fn settings_of_connectors_are_in_the_reference() {
        let text = configuration_reference(&crate::registry());
        assert!(text.contains("## `[[target]]` of kind `nginx`"), "{text}");
        assert!(text.contains("- `reload`: [ReloadSetting](#reloadsetting)"), "{text}");
        assert!(text.contains("### Endpoint"), "{text}");
    }
}

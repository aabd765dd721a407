//! What lies in the cluster, and who owns which field of it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// A field and its value: `data.tls.crt`, `metadata.labels.team`, `type`.
pub(crate) type Fields = BTreeMap<String, String>;

/// Who wrote which fields, by which kind of request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) operation: &'static str,
    pub(crate) fields: BTreeSet<String>,
}

/// One Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) uid: String,
    pub(crate) revision: u64,
    pub(crate) owners: Value,
    pub(crate) fields: Fields,
    pub(crate) managers: Vec<Manager>,
}

impl Object {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name).map(String::as_str)
    }

    pub(crate) fn is_immutable(&self) -> bool {
        self.field("immutable") == Some("true")
    }

    /// As the API shows it.
    pub(crate) fn shown(&self) -> Value {
        let mut object = json!({
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {
                "name": self.name,
                "namespace": self.namespace,
                "uid": self.uid,
                "creationTimestamp": "2026-11-30T00:00:00Z",
            },
            "type": self.field("type").unwrap_or("Opaque"),
        });
        // A dry run of something new has none.
        if self.revision > 0 {
            object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        }
        if !self.owners.is_null() {
            object["metadata"]["ownerReferences"] = self.owners.clone();
        }
        for (path, value) in &self.fields {
            match path.split_once('.') {
                Some(("data", name)) => object["data"][name] = json!(value),
                Some(("metadata", rest)) => {
                    let (kind, name) = rest.split_once('.').unwrap();
                    object["metadata"][kind][name] = json!(value);
                }
                _ if path == "immutable" => object["immutable"] = json!(value == "true"),
                _ => {}
            }
        }
        let managed = self.managers.iter().map(|manager| {
            json!({
                "manager": manager.name, "operation": manager.operation, "apiVersion": "v1", "time": "2026-11-30T00:00:00Z",
                "fieldsType": "FieldsV1", "fieldsV1": tree(&manager.fields),
            })
        });
        object["metadata"]["managedFields"] = managed.collect();
        object
    }

    /// The fields of a body, or what the strict decoder says of it.
    pub(crate) fn read(body: &Value) -> Result<Fields, String> {
        let mut fields = Fields::new();
        let object = body.as_object().ok_or("the body is no object")?;
        for (name, value) in object {
            match name.as_str() {
                "apiVersion" | "kind" => {}
                "metadata" => read_metadata(value, &mut fields)?,
                "type" => drop(fields.insert("type".to_owned(), text(value)?)),
                "immutable" if value.is_null() => {}
                "immutable" => drop(fields.insert("immutable".to_owned(), value.as_bool().ok_or("immutable")?.to_string())),
                "data" => {
                    for (key, value) in value.as_object().into_iter().flatten() {
                        let value = text(value)?;
                        if !is_base64(&value) {
                            return Err(format!("illegal base64 data at input byte 0 in data.{key}"));
                        }
                        fields.insert(format!("data.{key}"), value);
                    }
                }
                other => return Err(format!("strict decoding error: unknown field \"{other}\"")),
            }
        }
        Ok(fields)
    }
}

fn read_metadata(metadata: &Value, fields: &mut Fields) -> Result<(), String> {
    for (name, value) in metadata.as_object().ok_or("metadata is no object")? {
        match name.as_str() {
            "labels" | "annotations" => {
                for (key, value) in value.as_object().into_iter().flatten() {
                    fields.insert(format!("metadata.{name}.{key}"), text(value)?);
                }
            }
            "name" | "namespace" | "uid" | "resourceVersion" | "ownerReferences" | "creationTimestamp" | "managedFields" => {}
            other => return Err(format!("strict decoding error: unknown field \"metadata.{other}\"")),
        }
    }
    Ok(())
}

fn text(value: &Value) -> Result<String, String> {
    value.as_str().map(str::to_owned).ok_or_else(|| "a value is no string".to_owned())
}

fn is_base64(text: &str) -> bool {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.decode(text).is_ok()
}

/// `{"f:data": {"f:tls.crt": {}}}`.
fn tree(fields: &BTreeSet<String>) -> Value {
    let mut tree = Map::new();
    for field in fields {
        let parts: Vec<&str> = match field.split_once('.') {
            Some(("metadata", rest)) => ["metadata"].into_iter().chain(rest.splitn(2, '.')).collect(),
            Some((first, rest)) => vec![first, rest],
            None => vec![field],
        };
        let mut place = &mut tree;
        for part in parts {
            let entry = place.entry(format!("f:{part}")).or_insert_with(|| json!({}));
            place = entry.as_object_mut().unwrap();
        }
    }
    Value::Object(tree)
}

//! From a setting's path to its place in the text.

use std::ops::Range;

use serde_json::{Map, Number, Value as Json};
use toml_edit::{ArrayOfTables, Item, Table, TableLike, Value};

/// A part of a document.
#[derive(Clone, Copy)]
pub(super) enum Node<'a> {
    Nothing,
    Table(&'a Table),
    Tables(&'a ArrayOfTables),
    Value(&'a Value),
}

impl<'a> From<&'a Item> for Node<'a> {
    fn from(item: &'a Item) -> Self {
        match item {
            Item::None => Self::Nothing,
            Item::Value(value) => Self::Value(value),
            Item::Table(table) => Self::Table(table),
            Item::ArrayOfTables(tables) => Self::Tables(tables),
        }
    }
}

impl<'a> Node<'a> {
    pub(super) fn span(self) -> Option<Range<usize>> {
        match self {
            Self::Nothing => None,
            Self::Table(table) => table.span(),
            Self::Tables(tables) => tables.span(),
            Self::Value(value) => value.span(),
        }
    }

    pub(super) fn table(self) -> Option<&'a dyn TableLike> {
        match self {
            Self::Table(table) => Some(table),
            Self::Value(Value::InlineTable(table)) => Some(table),
            _ => None,
        }
    }

    /// The elements of a list of tables, in either notation; `None` if it is no list.
    pub(super) fn elements(self) -> Option<Vec<Self>> {
        match self {
            Self::Tables(tables) => Some(tables.iter().map(Self::Table).collect()),
            Self::Value(Value::Array(array)) => Some(array.iter().map(Self::Value).collect()),
            _ => None,
        }
    }

    /// What a connector gets.
    pub(super) fn json(self) -> Json {
        match self {
            Self::Nothing => Json::Null,
            Self::Tables(_) | Self::Value(Value::Array(_)) => {
                Json::Array(self.elements().unwrap_or_default().into_iter().map(Node::json).collect())
            }
            Self::Table(_) | Self::Value(Value::InlineTable(_)) => {
                let entries = self.table().map(|table| table.iter().map(|(key, item)| (key.to_owned(), Node::from(item).json())));
                Json::Object(entries.map(Map::from_iter).unwrap_or_default())
            }
            Self::Value(Value::String(text)) => Json::String(text.value().clone()),
            Self::Value(Value::Integer(number)) => Json::Number((*number.value()).into()),
            Self::Value(Value::Float(number)) => Number::from_f64(*number.value()).map_or(Json::Null, Json::Number),
            Self::Value(Value::Boolean(value)) => Json::Bool(*value.value()),
            Self::Value(Value::Datetime(time)) => Json::String(time.value().to_string()),
        }
    }

    /// Where the setting at `path` stands: its value, or its name where that is what is wrong. Where the path leads to
    /// nothing, the nearest thing around it.
    pub(super) fn locate(self, path: &[Segment], what: Locate) -> Option<Range<usize>> {
        let (mut node, mut span) = (self, self.span());
        for (index, segment) in path.iter().enumerate() {
            let last = index + 1 == path.len();
            let next = match segment {
                Segment::Index(number) => {
                    node.elements().and_then(|elements| elements.get(*number).copied()).map(|child| (None, child))
                }
                Segment::Name(name) => {
                    node.table().and_then(|table| table.get_key_value(name)).map(|(key, item)| (key.span(), item.into()))
                }
            };
            let Some((key, child)) = next else { break };
            let value = child.span();
            span = if last && what == Locate::Name { key.or(value) } else { value.or(key) }.or(span);
            node = child;
        }
        span
    }
}

/// Which part of a setting.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Locate {
    Name,
    Value,
}

/// One step of a path such as `verify[0].connect`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Segment {
    Index(usize),
    Name(String),
}

/// The steps of a path such as `verify[0].connect`.
pub(super) fn segments(path: &str) -> Vec<Segment> {
    path.split(['.', '['])
        .filter(|part| !part.is_empty())
        .map(|part| match part.strip_suffix(']').map(str::parse) {
            Some(Ok(index)) => Segment::Index(index),
            _ => Segment::Name(part.to_owned()),
        })
        .collect()
}

/// Takes the setting at `path` out of what a connector gets; says whether it was there.
pub(super) fn remove(json: &mut Json, path: &[Segment]) -> bool {
    let Some((last, parents)) = path.split_last() else { return false };
    let mut node = json;
    for segment in parents {
        let child = match segment {
            Segment::Index(index) => node.get_mut(index),
            Segment::Name(name) => node.get_mut(name),
        };
        let Some(child) = child else { return false };
        node = child;
    }
    match (last, node) {
        (Segment::Name(name), Json::Object(map)) => map.remove(name).is_some(),
        _ => false,
    }
}

/// Line and column of a byte in a text, both from 1; columns count characters.
pub(super) fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = text.get(..offset).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (line, column)
}

#[cfg(test)]
mod tests {
    use toml_edit::Document;

    use super::*;

    #[test]
    fn a_path_is_taken_apart() {
        let name = |name: &str| Segment::Name(name.to_owned());
        assert_eq!(segments("verify[1].connect"), [name("verify"), Segment::Index(1), name("connect")]);
        assert_eq!(segments(""), []);
    }

    #[test]
    fn a_setting_is_found_in_either_notation() {
        for text in ["x = 1\nverify = [{ connect = 5 }]\n", "x = 1\n[[verify]]\nconnect = 5\n"] {
            let document = Document::parse(text).unwrap();
            let root = Node::Table(document.as_table());
            let at = |what| text[root.locate(&segments("verify[0].connect"), what).unwrap()].to_owned();
            assert_eq!((at(Locate::Name), at(Locate::Value)), ("connect".to_owned(), "5".to_owned()));
        }
    }

    #[test]
    fn columns_count_characters() {
        assert_eq!(position("a\nüb", 4), (2, 2));
        assert_eq!(position("a\n", 2), (2, 1));
    }
}

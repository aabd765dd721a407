//! Texts and JSON with placeholders. What is filled in is a value, never a piece of JSON: no certificate and no name can change the form of
//! a body.

use std::borrow::Cow;
use std::fmt;

use deploy_core::secret::SecretString;
use deploy_core::{Certificate, Error, ErrorKind};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::Error as _;
use serde::ser::{Error as _, SerializeMap as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// A JSON value whose strings may have placeholders in them.
#[derive(Clone, PartialEq, Eq)]
pub struct Json(Node);

/// A text on one line, such as a path, whose placeholders are all public.
#[derive(Clone, PartialEq, Eq)]
pub struct Line(Text);

#[derive(Clone, PartialEq, Eq)]
enum Node {
    /// `"{names}"`
    Names,
    Text(Text),
    List(Vec<Self>),
    Table(Vec<(String, Self)>),
    /// Null, a boolean or a number.
    Other(Value),
}

#[derive(Clone, PartialEq, Eq)]
struct Text(Vec<Piece>);

#[derive(Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Filled(Placeholder),
}

/// What can be filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Placeholder {
    Chain,
    Fingerprint,
    Fullchain,
    Key,
    KeyPkcs8,
    Leaf,
    Names,
    NotAfter,
    NotBefore,
    Serial,
    Target,
}

impl Placeholder {
    const ALL: [(&'static str, Self); 11] = [
        ("chain", Self::Chain),
        ("fingerprint", Self::Fingerprint),
        ("fullchain", Self::Fullchain),
        ("key", Self::Key),
        ("key_pkcs8", Self::KeyPkcs8),
        ("leaf", Self::Leaf),
        ("names", Self::Names),
        ("not_after", Self::NotAfter),
        ("not_before", Self::NotBefore),
        ("serial", Self::Serial),
        ("target", Self::Target),
    ];

    fn find(name: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find_map(|(known, placeholder)| (known == name).then_some(placeholder)).ok_or_else(|| {
            let known: Vec<String> = Self::ALL.iter().map(|(known, _)| format!("{{{known}}}")).collect();
            format!("`{{{name}}}` is no placeholder; there are {}, and a brace is written twice", known.join(", "))
        })
    }

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    /// Short, on one line, and known to everybody who is served the certificate.
    fn is_public(self) -> bool {
        matches!(self, Self::Fingerprint | Self::NotAfter | Self::NotBefore | Self::Serial | Self::Target)
    }
}

/// What placeholders stand for.
pub(crate) struct Values<'a> {
    target: &'a str,
    pair: Option<Pair<'a>>,
}

struct Pair<'a> {
    certificate: &'a Certificate,
    leaf: String,
    chain: String,
    fullchain: String,
    key: SecretString,
    key_pkcs8: SecretString,
    not_before: String,
    not_after: String,
}

impl<'a> Values<'a> {
    /// The target's name, and nothing of a certificate.
    pub(crate) fn of_target(target: &'a str) -> Self {
        Self { target, pair: None }
    }

    /// All of them.
    pub(crate) fn of_pair(target: &'a str, certificate: &'a Certificate) -> Result<Self, Error> {
        let no_text = |error| Error::new(ErrorKind::Internal, "PEM that is no text").with_source(error);
        let text = |pem: Vec<u8>| String::from_utf8(pem).map_err(|error| no_text(error.utf8_error()));
        let pair = Pair {
            certificate,
            leaf: text(certificate.leaf_pem())?,
            chain: text(certificate.chain_pem())?,
            fullchain: text(certificate.fullchain_pem())?,
            key: SecretString::try_from(certificate.key_pem()).map_err(no_text)?,
            key_pkcs8: SecretString::try_from(certificate.key_pkcs8_pem()).map_err(no_text)?,
            not_before: humantime::format_rfc3339_seconds(certificate.not_before()).to_string(),
            not_after: humantime::format_rfc3339_seconds(certificate.not_after()).to_string(),
        };
        Ok(Self { target, pair: Some(pair) })
    }

    /// `None`: the certificate is not known, or the value is a list.
    fn text(&self, placeholder: Placeholder) -> Option<&str> {
        let pair = self.pair.as_ref();
        match placeholder {
            Placeholder::Target => Some(self.target),
            Placeholder::Names => None,
            Placeholder::Chain => pair.map(|pair| pair.chain.as_str()),
            Placeholder::Fingerprint => pair.map(|pair| pair.certificate.fingerprint()),
            Placeholder::Fullchain => pair.map(|pair| pair.fullchain.as_str()),
            Placeholder::Key => pair.map(|pair| pair.key.expose()),
            Placeholder::KeyPkcs8 => pair.map(|pair| pair.key_pkcs8.expose()),
            Placeholder::Leaf => pair.map(|pair| pair.leaf.as_str()),
            Placeholder::NotAfter => pair.map(|pair| pair.not_after.as_str()),
            Placeholder::NotBefore => pair.map(|pair| pair.not_before.as_str()),
            Placeholder::Serial => pair.map(|pair| pair.certificate.serial()),
        }
    }
}

impl Json {
    /// With the values in it, ready to be written into a buffer that is cleared.
    pub(crate) fn fill<'a>(&'a self, values: &'a Values<'a>) -> impl Serialize + 'a {
        Filled { node: &self.0, values }
    }

    /// What is sent where the settings say nothing.
    pub(crate) fn standard() -> Self {
        let field =
            |placeholder: Placeholder| (placeholder.name().to_owned(), Node::Text(Text(vec![Piece::Filled(placeholder)])));
        let fields =
            [Placeholder::Target, Placeholder::Fingerprint, Placeholder::NotAfter, Placeholder::Fullchain, Placeholder::Key];
        Self(Node::Table(fields.into_iter().map(field).collect()))
    }
}

impl Line {
    /// A text as it is written in settings.
    ///
    /// # Errors
    /// A placeholder is unknown or does not belong on a line; a brace stands alone.
    pub fn parse(text: &str) -> Result<Self, String> {
        let line = Self(Text::parse(text)?);
        if let Some(placeholder) = line.placeholders().find(|placeholder| !placeholder.is_public()) {
            return Err(format!("{{{}}} belongs in a body only", placeholder.name()));
        }
        Ok(line)
    }

    /// With the values in it.
    pub(crate) fn fill(&self, values: &Values<'_>) -> Result<SecretString, Error> {
        self.0.fill(values).ok_or_else(|| Error::new(ErrorKind::Internal, "a placeholder without a value"))
    }

    pub(crate) fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.0.placeholders()
    }
}

impl Text {
    fn parse(text: &str) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut plain = String::new();
        let mut rest = text;
        while let Some(at) = rest.find(['{', '}']) {
            plain.push_str(&rest[..at]);
            let brace = &rest[at..=at];
            rest = &rest[at + 1..];
            if let Some(after) = rest.strip_prefix(brace) {
                plain.push_str(brace);
                rest = after;
            } else if let Some((name, after)) = rest.split_once('}').filter(|_| brace == "{") {
                pieces.extend(Some(std::mem::take(&mut plain)).filter(|plain| !plain.is_empty()).map(Piece::Plain));
                pieces.push(Piece::Filled(Placeholder::find(name)?));
                rest = after;
            } else {
                return Err(format!("`{brace}` stands alone; a brace is written twice"));
            }
        }
        plain.push_str(rest);
        pieces.extend(Some(plain).filter(|plain| !plain.is_empty()).map(Piece::Plain));
        Ok(Self(pieces))
    }

    fn placeholders(&self) -> impl Iterator<Item = Placeholder> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Filled(placeholder) => Some(*placeholder),
            Piece::Plain(_) => None,
        })
    }

    /// In a buffer that never grows; a key may be in it.
    fn fill(&self, values: &Values<'_>) -> Option<SecretString> {
        let pieces: Vec<&str> = self.pieces(values)?;
        let mut text = String::with_capacity(pieces.iter().map(|piece| piece.len()).sum());
        pieces.iter().for_each(|piece| text.push_str(piece));
        Some(SecretString::from(text))
    }

    fn pieces<'a>(&'a self, values: &'a Values<'_>) -> Option<Vec<&'a str>> {
        let piece = |piece: &'a Piece| match piece {
            Piece::Plain(text) => Some(text.as_str()),
            Piece::Filled(placeholder) => values.text(*placeholder),
        };
        self.0.iter().map(piece).collect()
    }
}

impl Node {
    fn parse(value: Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) if text == "{names}" => Self::Names,
            Value::String(text) => {
                let text = Text::parse(&text)?;
                if text.placeholders().any(|placeholder| placeholder == Placeholder::Names) {
                    return Err("{names} is a list, and stands alone in its string".to_owned());
                }
                Self::Text(text)
            }
            Value::Array(values) => Self::List(values.into_iter().map(Self::parse).collect::<Result<_, _>>()?),
            Value::Object(fields) => {
                let field = |(name, value)| Self::parse(value).map(|node| (name, node));
                Self::Table(fields.into_iter().map(field).collect::<Result<_, _>>()?)
            }
            other => Self::Other(other),
        })
    }
}

struct Filled<'a> {
    node: &'a Node,
    values: &'a Values<'a>,
}

impl Serialize for Filled<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let within = |node| Filled { node, values: self.values };
        match self.node {
            Node::Names => {
                let pair = self.values.pair.as_ref().ok_or_else(|| S::Error::custom("no certificate"))?;
                pair.certificate.names().serialize(serializer)
            }
            Node::Text(text) => {
                let text = text.fill(self.values).ok_or_else(|| S::Error::custom("no certificate"))?;
                serializer.serialize_str(text.expose())
            }
            Node::List(nodes) => serializer.collect_seq(nodes.iter().map(within)),
            Node::Table(fields) => {
                let mut map = serializer.serialize_map(Some(fields.len()))?;
                fields.iter().try_for_each(|(name, node)| map.serialize_entry(name, &within(node)))?;
                map.end()
            }
            Node::Other(value) => value.serialize(serializer),
        }
    }
}

/// As in settings.
impl fmt::Display for Text {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Plain(text) => formatter.write_str(&text.replace('{', "{{").replace('}', "}}")),
            Piece::Filled(placeholder) => write!(formatter, "{{{}}}", placeholder.name()),
        })
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Names => serializer.serialize_str("{names}"),
            Self::Text(text) => serializer.collect_str(text),
            Self::List(nodes) => nodes.serialize(serializer),
            Self::Table(fields) => serializer.collect_map(fields.iter().map(|(name, node)| (name, node))),
            Self::Other(value) => value.serialize(serializer),
        }
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl Serialize for Line {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Node::parse(Value::deserialize(deserializer)?).map(Self).map_err(D::Error::custom)
    }
}

impl<'de> Deserialize<'de> for Line {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl fmt::Debug for Json {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&serde_json::to_string(&self.0).unwrap_or_default())
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?}", self.to_string())
    }
}

/// As in settings.
impl fmt::Display for Line {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(formatter)
    }
}

impl JsonSchema for Json {
    fn schema_name() -> Cow<'static, str> {
        "JsonTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A JSON value, written as TOML; its strings may have placeholders such as `{fullchain}`. `{names}` becomes a list. A brace is written twice." })
    }
}

impl JsonSchema for Line {
    fn schema_name() -> Cow<'static, str> {
        "LineTemplate".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "description": "A text in which `{fingerprint}`, `{not_after}`, `{not_before}`, `{serial}` and `{target}` are filled in. A brace is written twice." })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;

    #[test]
    fn what_is_no_placeholder_is_refused() {
        for text in ["{}", "{cert}", "{key", "key}", "a } b", "{ key }"] {
            assert!(Text::parse(text).is_err(), "{text}");
        }
        let error = serde_json::from_str::<Json>(r#"{ "a": ["{fullchian}"] }"#).unwrap_err().to_string();
        assert!(error.contains("{fullchian}") && error.contains("{fullchain}"), "{error}");
    }

    #[test]
    fn key_belongs_in_a_body_only() {
        for text in ["{key}", "a/{fullchain}", "{names}"] {
            assert!(Line::parse(text).is_err(), "{text}");
        }
        assert!(Line::parse("certificates/{target}/{fingerprint}").is_ok());
    }

    #[test]
    fn templates_survive_being_written_and_read() {
        let text = r#"{"a":"{fullchain}{key}","b":["{names}",1,null,true,{"c":"{{x}} {target}"}]}"#;
        let json: Json = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&json).unwrap(), text);
        assert!(serde_json::from_str::<Json>(r#""for {names}""#).is_err(), "a list in a text");
    }

    #[test]
    fn what_is_filled_in_cannot_change_the_form() {
        let json: Json = serde_json::from_str(r#"{"a":"{target}","b":"{{target}} is {target}"}"#).unwrap();
        let values = Values::of_target("\",\"x\":\"{key}");
        let filled = serde_json::to_value(json.fill(&values)).unwrap();
        assert_eq!(filled["a"], "\",\"x\":\"{key}");
        assert_eq!(filled["b"], "{target} is \",\"x\":\"{key}");
        assert_eq!(filled.as_object().unwrap().len(), 2);
    }
}

//! What a profile shows, and what has to be sent so that it shows something else.

use deploy_core::{Error, ErrorKind};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// What stands where there is nothing. A missing `chain` is refused by some versions.
const NONE: &str = "none";
/// The name of an entry where there was none, as the BIG-IP's own pages give it.
const DEFAULT_ENTRY: &str = "default";

/// A place for a pair.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Place {
    pub(crate) kind: Kind,
    /// The profile's full path.
    pub(crate) profile: String,
    /// Which entry of a client-ssl profile; `None`: the only one.
    pub(crate) entry: Option<String>,
}

/// Named as in the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    ClientSsl,
    ServerSsl,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ClientSsl => "client-ssl",
            Self::ServerSsl => "server-ssl",
        }
    }
}

/// The full paths of a certificate, its key and its intermediates.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) chain: Option<String>,
}

/// A profile, as it was read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Profile {
    /// With the name of the entry, where it has entries.
    pub(crate) place: Place,
    /// `None`: nothing is there.
    pub(crate) pair: Option<Pair>,
    /// All of them: they can only be replaced together.
    entries: Vec<Map<String, Value>>,
}

impl Profile {
    /// Of what the API says.
    ///
    /// # Errors
    /// The profile is one that could not be brought back as it was.
    pub(crate) fn read(place: &Place, body: Map<String, Value>) -> Result<Self, Error> {
        match place.kind {
            Kind::ClientSsl => Self::client_ssl(place, body),
            Kind::ServerSsl => {
                refuse_passphrase(place, &body)?;
                Ok(Self { place: place.clone(), pair: pair(&body), entries: Vec::new() })
            }
        }
    }

    fn client_ssl(place: &Place, mut body: Map<String, Value>) -> Result<Self, Error> {
        let refuse = |message: &str, next_step: &str| {
            let message = format!("the client-ssl profile {} {message}", place.profile);
            Err(Error::new(ErrorKind::PlanInvalid, message).with_next_step(next_step))
        };
        if text(&body, "inheritCertkeychain") == Some("true") {
            return refuse(
                "has no pair of its own, but its parent's",
                "give it one in `cert-key-chain`, or name the parent in the settings of the target",
            );
        }
        let entries: Vec<Map<String, Value>> = match body.remove("certKeyChain") {
            Some(Value::Array(entries)) => entries.into_iter().filter_map(own).collect(),
            _ => Vec::new(),
        };
        // They go back together, and nobody but the BIG-IP knows how a passphrase reads.
        entries.iter().try_for_each(|entry| refuse_passphrase(place, entry))?;
        let name = match (&place.entry, &entries[..]) {
            (Some(name), _) => name.clone(),
            (None, []) => DEFAULT_ENTRY.to_owned(),
            (None, [entry]) => text(entry, "name").unwrap_or(DEFAULT_ENTRY).to_owned(),
            (None, _) => {
                let names: Vec<&str> = entries.iter().filter_map(|entry| text(entry, "name")).collect();
                let message = format!("has several entries: {}", names.join(", "));
                return refuse(&message, "name the one that is meant as `entry` in the settings of the target");
            }
        };
        let pair = entries.iter().find(|entry| is(entry, &name)).and_then(pair);
        Ok(Self { place: Place { entry: Some(name), ..place.clone() }, pair, entries })
    }

    /// What has to be sent so that it shows this and everything else stays.
    pub(crate) fn showing(&self, wanted: Option<&Pair>) -> Value {
        match self.place.kind {
            Kind::ClientSsl => json!({ "certKeyChain": self.entries_with(wanted) }),
            Kind::ServerSsl => Value::Object(fields(wanted)),
        }
    }

    fn entries_with(&self, wanted: Option<&Pair>) -> Vec<Map<String, Value>> {
        let name = self.place.entry.as_deref().unwrap_or(DEFAULT_ENTRY);
        let mut entries = self.entries.clone();
        match entries.iter().position(|entry| is(entry, name)) {
            Some(index) if wanted.is_some() => entries[index].extend(fields(wanted)),
            Some(index) => drop(entries.remove(index)),
            None if wanted.is_some() => {
                let name = ("name".to_owned(), Value::from(name));
                entries.push([name].into_iter().chain(fields(wanted)).collect());
            }
            None => {}
        }
        entries
    }
}

/// An entry without the links that the API adds for the reader.
fn own(entry: Value) -> Option<Map<String, Value>> {
    let Value::Object(mut entry) = entry else { return None };
    entry.retain(|name, _| !name.ends_with("Reference"));
    Some(entry)
}

fn pair(body: &Map<String, Value>) -> Option<Pair> {
    let path = |name| text(body, name).map(str::to_owned);
    Some(Pair { certificate: path("cert")?, key: path("key")?, chain: path("chain") })
}

fn fields(pair: Option<&Pair>) -> Map<String, Value> {
    let chain = pair.and_then(|pair| pair.chain.as_deref());
    let fields =
        [("cert", pair.map(|pair| pair.certificate.as_str())), ("key", pair.map(|pair| pair.key.as_str())), ("chain", chain)];
    fields.map(|(name, path)| (name.to_owned(), Value::from(path.unwrap_or(NONE)))).into_iter().collect()
}

fn is(entry: &Map<String, Value>, name: &str) -> bool {
    text(entry, "name") == Some(name)
}

fn text<'a>(body: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    body.get(name).and_then(Value::as_str).filter(|text| !text.is_empty() && *text != NONE)
}

fn refuse_passphrase(place: &Place, body: &Map<String, Value>) -> Result<(), Error> {
    if text(body, "passphrase").is_none() {
        return Ok(());
    }
    let message = format!(
        "the {} profile {} has a key with a passphrase, which certdeploy could not bring back",
        place.kind.name(),
        place.profile
    );
    Err(Error::new(ErrorKind::PlanInvalid, message).with_next_step("give the profile a key without one; then run again"))
}

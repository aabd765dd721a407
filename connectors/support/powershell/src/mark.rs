//! Which certificates in a store are a target's, and how they stand: said by the end of their friendly names.
//!
//! `Shop [certdeploy:front live]`. What stands before it is the operator's; several targets can have one certificate.

use std::time::SystemTime;

/// How a certificate of a target stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Standing {
    /// Imported, and not in use yet.
    Staged,
    /// The one that is in use.
    Live,
    /// Another one has come in its place, at this time.
    Replaced(SystemTime),
}

/// What a friendly name says for one target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "plain data between crates of this project")]
pub struct Tag {
    /// How it stands.
    pub standing: Standing,
    /// It was in the store already: it is never removed.
    pub adopted: bool,
}

/// The mark of one target.
#[derive(Clone, Debug)]
pub struct Mark(String);

impl Mark {
    /// For the target of this name.
    #[must_use]
    pub fn new(target: &str) -> Self {
        Self(format!("[certdeploy:{target} "))
    }

    /// What every friendly name with this mark has in it.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    /// What a friendly name says; `None` for one of others.
    #[must_use]
    pub fn read(&self, name: &str) -> Option<Tag> {
        let (_, rest) = name.split_once(&self.0)?;
        let (words, _) = rest.split_once(']')?;
        let mut words = words.split(' ');
        let standing = match words.next()? {
            "staged" => Standing::Staged,
            "live" => Standing::Live,
            "replaced" => Standing::Replaced(humantime::parse_rfc3339(words.next()?).ok()?),
            _ => return None,
        };
        Some(Tag { standing, adopted: words.next() == Some("adopted") })
    }

    /// The friendly name with this in the place of what it says, or without it.
    #[must_use]
    pub fn write(&self, name: &str, tag: Option<Tag>) -> String {
        let without = match name.split_once(&self.0) {
            Some((before, rest)) => {
                let after = rest.split_once(']').map_or("", |(_, after)| after);
                format!("{}{after}", before.trim_end())
            }
            None => name.to_owned(),
        };
        let Some(tag) = tag else { return without.trim().to_owned() };
        let standing = match tag.standing {
            Standing::Staged => "staged".to_owned(),
            Standing::Live => "live".to_owned(),
            Standing::Replaced(at) => format!("replaced {}", humantime::format_rfc3339_seconds(at)),
        };
        let adopted = if tag.adopted { " adopted" } else { "" };
        format!("{without} {}{standing}{adopted}]", self.0).trim().to_owned()
    }

    /// Whether another target has its mark there, too.
    #[must_use]
    pub fn is_shared(&self, name: &str) -> bool {
        name.matches("[certdeploy:").count() > usize::from(name.contains(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn friendly_name_keeps_what_is_not_ours() {
        let (ours, theirs) = (Mark::new("front"), Mark::new("front2"));
        let tag = |standing| Tag { standing, adopted: false };
        let name = ours.write("Shop", Some(tag(Standing::Staged)));
        assert_eq!(name, "Shop [certdeploy:front staged]");
        let both = theirs.write(&name, Some(tag(Standing::Live)));
        assert_eq!(both, "Shop [certdeploy:front staged] [certdeploy:front2 live]");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let replaced = Tag { standing: Standing::Replaced(at), adopted: true };
        let both = ours.write(&both, Some(replaced));
        assert_eq!(both, "Shop [certdeploy:front2 live] [certdeploy:front replaced 2027-01-15T08:00:00Z adopted]");
        assert_eq!((ours.read(&both), theirs.read(&both)), (Some(replaced), Some(tag(Standing::Live))));
        assert!(ours.is_shared(&both) && !ours.is_shared(&name) && theirs.is_shared(&name));
        assert_eq!(ours.write(&both, None), "Shop [certdeploy:front2 live]");
        assert_eq!(ours.write(&ours.write("", Some(tag(Standing::Live))), None), "");
        for foreign in ["", "Shop", "[certdeploy:front2 live]", "[certdeploy:front ", "[certdeploy:front gone]"] {
            assert_eq!(ours.read(foreign), None, "{foreign}");
        }
    }
}

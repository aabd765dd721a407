//! The name that somebody most likely meant.

/// The candidate nearest to `name`, if one is near enough to be worth suggesting.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let wanted = normalise(name);
    candidates
        .into_iter()
        .map(|candidate| (closeness(&wanted, &normalise(candidate)), candidate))
        .filter(|(closeness, _)| *closeness >= ENOUGH)
        // The first of several equally near ones wins, so that the answer does not depend on the list's length.
        .reduce(|best, next| if next.0 > best.0 { next } else { best })
        .map(|(_, candidate)| candidate)
}

/// "did you mean `x`?", or the known names where none is near.
pub(crate) fn advice(name: &str, known: &[&str]) -> String {
    match nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there are none".to_owned(),
        None => format!("known: {}", list(known)),
    }
}

/// At most this many names are listed; a fleet may have thousands.
const LISTED: usize = 12;

/// Jaro-Winkler similarity from which on two names look like one with a typing mistake.
const ENOUGH: f64 = 0.84;

fn list(known: &[&str]) -> String {
    let mut text = known.iter().take(LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if known.len() > LISTED {
        text.push_str(&format!(" and {} more", known.len() - LISTED));
    }
    text
}

fn normalise(name: &str) -> String {
    name.to_lowercase().replace('-', "_")
}

fn closeness(a: &str, b: &str) -> f64 {
    // One wrong, missing, doubled or swapped letter is near; Jaro-Winkler alone is harsh on short names.
    let mistakes = usize::from(a.chars().count().max(b.chars().count()) > 2);
    if strsim::damerau_levenshtein(a, b) <= mistakes { 1.0 } else { strsim::jaro_winkler(a, b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_mistake_finds_its_name() {
        let names = ["connect", "server_name", "key_type", "key"];
        for (wrong, right) in
            [("conect", "connect"), ("serverName", "server_name"), ("server-name", "server_name"), ("kye", "key"), ("ky", "key")]
        {
            assert_eq!(nearest(wrong, names), Some(right), "{wrong}");
        }
    }

    #[test]
    fn a_name_of_nothing_here_finds_nothing() {
        assert_eq!(nearest("zzz", ["connect", "key"]), None);
        assert_eq!(advice("zzz", &["connect", "key"]), "known: `connect`, `key`");
    }
}

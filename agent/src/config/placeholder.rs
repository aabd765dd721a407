//! Values that somebody forgot to fill in.

use serde_json::Value;

/// The paths of all placeholder values in some settings, with the values.
pub(super) fn placeholders(settings: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    search(settings, "", &mut found);
    found
}

fn search(value: &Value, path: &str, found: &mut Vec<(String, String)>) {
    match value {
        Value::String(text) if is_placeholder(text) => found.push((path.to_owned(), text.clone())),
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(index, value)| search(value, &format!("{path}[{index}]"), found))
        }
        Value::Object(map) => map.iter().for_each(|(key, value)| {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            search(value, &path, found);
        }),
        _ => {}
    }
}

/// `********`, `changeme`, `REPLACE_ME`, `TODO`, `<domain>`: as a whole, or as one part of a path, address or name.
fn is_placeholder(text: &str) -> bool {
    text.split(['/', ':', '.', ',', '=', '@', ' ']).any(|part| {
        let word = part.to_ascii_lowercase().replace(['_', '-'], "");
        let masked = part.len() >= 4 && part.bytes().all(|byte| byte == b'*');
        let bracketed = part.len() > 2 && part.starts_with('<') && part.ends_with('>');
        masked || bracketed || part == "TODO" || word == "changeme" || word == "replaceme"
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a7_placeholder_values_are_found_wherever_they_stand() {
        let settings = json!({ "a": "********", "b": [{ "c": "/etc/<domain>/x.pem" }], "d": "changeme", "e": ["x", "REPLACE_ME"], "f": "TODO" });
        let paths: Vec<_> = placeholders(&settings).into_iter().map(|(path, _)| path).collect();
        assert_eq!(paths, ["a", "b[0].c", "d", "e[1]", "f"]);
    }

    #[test]
    fn ordinary_values_are_left_alone() {
        for fine in ["/etc/ssl/www.pem", "*.example.com", "cat <in >out", "/srv/TODOS", "www.example.com:443", "**", ""] {
            assert!(!is_placeholder(fine), "{fine}");
        }
    }
}

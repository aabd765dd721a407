//! Journals and sets as templates: what differs from machine to machine has a name, and a checksum can be left to the reader.

use std::path::{Component, Path};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

/// Names and what they stand for: `@inode@`.
pub(super) type Names = Vec<(&'static str, String)>;

/// Puts in what the names stand for, then checksums: a line `# 0 BEGIN {…}` gets the one that makes it believed.
///
/// What a journal is believed could be carried out, too. So no checksum is given to a line that leads out of `root`, and
/// commands and addresses in it are taken out: a fuzzer must not run what it made up.
pub(super) fn fill_in(template: &[u8], names: &Names, root: &Path) -> Vec<u8> {
    let mut text = template.to_vec();
    for (name, value) in names {
        text = replace(&text, format!("@{name}@").as_bytes(), value.as_bytes());
    }
    let (mut filled, mut chain) = (Vec::with_capacity(text.len()), String::new());
    for line in text.split_inclusive(|&byte| byte == b'\n') {
        match checked(line, &chain, root) {
            Some((line, check)) => {
                filled.extend(line);
                chain = check;
            }
            None => filled.extend(line),
        }
    }
    filled
}

/// The line with its checksum, if it asks for one and may have it.
fn checked(line: &[u8], chain: &str, root: &Path) -> Option<(Vec<u8>, String)> {
    let end = if line.ends_with(b"\n") { "\n" } else { "" };
    let rest = std::str::from_utf8(line).ok()?.strip_prefix("# ")?.trim_end_matches('\n');
    let mut parts = rest.splitn(3, ' ');
    let (number, kind, json) = (parts.next()?, parts.next()?, parts.next()?);
    let rest = format!("{number} {kind} {}", harmless(json, root)?);
    let check = hex(&digest([chain.as_bytes(), rest.as_bytes()])[..8]);
    Some((format!("{check} {rest}{end}").into_bytes(), check))
}

/// The same without commands and addresses; `None` if it leads out of the directory, or cannot be judged.
fn harmless(json: &str, root: &Path) -> Option<String> {
    let mut value: Value = serde_json::from_str(json).ok()?;
    let untouched = value.clone();
    for member in value.get_mut("members").and_then(Value::as_array_mut).into_iter().flatten() {
        let member = member.as_object_mut()?;
        if member.get("reload").is_some_and(|reload| *reload != json!("none")) {
            member.insert("reload".to_owned(), json!("call"));
        }
        for (field, nothing) in [("restart", Value::Null), ("verify", json!([]))] {
            if member.contains_key(field) {
                member.insert(field.to_owned(), nothing);
            }
        }
    }
    let files = value.get("files").and_then(Value::as_array).into_iter().flatten();
    let inside = files.flat_map(|file| [file.get("path"), file.get("directory")]).flatten().all(|path| is_inside(path, root));
    let text = if value == untouched { json.to_owned() } else { value.to_string() };
    inside.then_some(text)
}

fn is_inside(path: &Value, root: &Path) -> bool {
    let bytes = match path {
        Value::String(text) => Some(text.clone().into_bytes()),
        other => other.get("base64").and_then(Value::as_str).and_then(|text| BASE64.decode(text).ok()),
    };
    let Some(bytes) = bytes else { return true };
    let path = Path::new(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(&bytes));
    path.starts_with(root) && !path.components().any(|component| component == Component::ParentDir)
}

/// SHA-256 of several parts, each with its length before it.
pub(super) fn digest<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 32] {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

/// In lowercase hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn replace(text: &[u8], name: &[u8], value: &[u8]) -> Vec<u8> {
    let (mut replaced, mut rest) = (Vec::with_capacity(text.len()), text);
    while let Some(start) = rest.windows(name.len()).position(|window| window == name) {
        replaced.extend(&rest[..start]);
        replaced.extend(value);
        rest = &rest[start + name.len()..];
    }
    replaced.extend(rest);
    replaced
}

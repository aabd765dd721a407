//! Secrets that occur nowhere else, and the search for every form that a program can give them.

use std::collections::HashMap;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use crate::pki::{Issued, KeyKind};
use crate::tree::Tree;

/// A piece of a secret of this length, in whatever form, counts as the secret.
const PIECE: usize = 16;

/// Keys and passwords, and where they may be.
///
/// They are found as PEM, as DER and as the bare private number, in Base64 of either alphabet, with any line breaks and at any
/// alignment, in hexadecimal, as a list of numbers, percent-encoded, and in Base64 of their text: in pieces of 16 characters.
#[derive(Clone)]
pub struct Canary {
    pieces: HashMap<[u8; PIECE], &'static str>,
    /// Whether a piece may begin with four bytes: most of what is looked at is ruled out by this alone.
    beginnings: Vec<bool>,
    secrets: u64,
    keepers: Vec<PathBuf>,
    open: u32,
}

impl std::fmt::Debug for Canary {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Canary of {} secrets in {} pieces", self.secrets, self.pieces.len())
    }
}

impl Canary {
    /// The key of a certificate.
    #[must_use]
    pub fn new(issued: &Issued) -> Self {
        let empty =
            Self { pieces: HashMap::new(), beginnings: vec![false; 1 << 16], secrets: 0, keepers: Vec::new(), open: 0o600 };
        empty.and(issued)
    }

    /// And the key of another certificate.
    #[must_use]
    pub fn and(mut self, issued: &Issued) -> Self {
        let secret = private_part(issued);
        self.add_bytes(secret, ["a key's bytes", "a key in Base64", "a key in hexadecimal"]);
        let text = private_text(issued, secret.len());
        self.add_text(&text, ["a key in PEM", "a key's PEM in Base64", "a key's PEM in hexadecimal"]);
        self.secrets += 1;
        self
    }

    /// And a password of at least 16 characters.
    ///
    /// # Panics
    ///
    /// When it is shorter.
    #[must_use]
    pub fn and_password(mut self, password: &str) -> Self {
        assert!(password.len() >= PIECE, "a password that can be told from other text");
        self.add_text(password, ["a password", "a password in Base64", "a password in hexadecimal"]);
        self.secrets += 1;
        self
    }

    /// With a file, or a directory with all that is in it, that may hold the secrets; modes are checked all the same.
    #[must_use]
    pub fn kept_in(mut self, path: impl Into<PathBuf>) -> Self {
        self.keepers.push(path.into());
        self
    }

    /// With a mode that files may have that hold the secrets, instead of 0600.
    #[must_use]
    pub fn with_mode(mut self, mode: u32) -> Self {
        self.open = mode;
        self
    }

    /// How many secrets are searched for.
    #[must_use]
    pub fn secrets(&self) -> u64 {
        self.secrets
    }

    /// Which secret, in which form, is in the bytes.
    #[must_use]
    pub fn found_in(&self, bytes: &[u8]) -> Option<&'static str> {
        self.piece_in(bytes).or_else(|| lists(bytes).iter().find_map(|list| self.piece_in(list)))
    }

    fn piece_in(&self, bytes: &[u8]) -> Option<&'static str> {
        let windows = bytes.windows(PIECE).filter_map(|window| <&[u8; PIECE]>::try_from(window).ok());
        windows.filter(|window| self.beginnings[beginning(window)]).find_map(|window| self.pieces.get(window).copied())
    }

    /// What is below a directory: names, links, contents, and the modes of what may hold secrets.
    #[must_use]
    pub fn in_tree(&self, directory: &Path) -> Vec<String> {
        Tree::of(directory).paths().filter_map(|path| self.at(path, directory)).collect()
    }

    fn at(&self, path: &Path, directory: &Path) -> Option<String> {
        let shown = path.display();
        if let Some(what) = path.file_name().and_then(|name| self.found_in(name.as_bytes())) {
            return Some(format!("{what} is in the name of a file in {}", path.parent()?.display()));
        }
        let metadata = path.symlink_metadata().ok()?;
        if let Ok(target) = path.read_link() {
            return self.found_in(target.as_os_str().as_bytes()).map(|what| format!("{what} is in the link {shown}"));
        }
        if !metadata.is_file() {
            return None;
        }
        let what = self.found_in(&std::fs::read(path).ok()?)?;
        let hidden = path.components().any(|part| part.as_os_str() == ".certdeploy");
        let snapshot = path.extension().is_some_and(|ending| ending == "snapshot" || ending == "pair");
        let mode = metadata.mode() & 0o7777;
        if !hidden && !snapshot && !self.keepers.iter().any(|keeper| path.starts_with(keeper)) {
            Some(format!("{what} is in {shown}"))
        } else if mode & !self.open != 0 || has_acl(path) {
            Some(format!("{shown} holds {what} and has mode {mode:04o} or an ACL"))
        } else if hidden || snapshot {
            let open = open_directory(path, directory)?;
            Some(format!("{shown} holds {what}, and the directory {} is open to others", open.display()))
        } else {
            None
        }
    }

    /// Bytes, and what they look like in [`Self::add_text`]'s forms of them, at every alignment of Base64.
    fn add_bytes(&mut self, bytes: &[u8], [plain, base64, hexadecimal]: [&'static str; 3]) {
        self.add(bytes, plain);
        for shift in 0..3 {
            let shifted = [&[0; 3][..shift], bytes].concat();
            for encoded in [STANDARD_NO_PAD.encode(&shifted), URL_SAFE_NO_PAD.encode(&shifted)] {
                // The first characters and the last one also stand for what is beside the secret.
                self.add(&encoded.as_bytes()[shift.div_ceil(2) * 2..encoded.len() - 1], base64);
            }
        }
        for separator in ["", ":", " "] {
            let lower: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let lower = lower.join(separator);
            self.add(lower.as_bytes(), hexadecimal);
            self.add(lower.to_uppercase().as_bytes(), hexadecimal);
        }
    }

    fn add_text(&mut self, text: &str, names: [&'static str; 3]) {
        self.add_bytes(text.as_bytes(), names);
        let encoded = text.bytes().fold(String::new(), |encoded, byte| match byte {
            byte if byte.is_ascii_alphanumeric() => encoded + &char::from(byte).to_string(),
            byte => encoded + &format!("%{byte:02X}"),
        });
        self.add(encoded.as_bytes(), names[0]);
        for broken in [text.replace('\n', "\r\n"), text.replace('\n', "\\n"), text.replace('\n', "")] {
            self.add(broken.as_bytes(), names[0]);
        }
    }

    fn add(&mut self, form: &[u8], name: &'static str) {
        for piece in form.windows(PIECE).filter_map(|window| <[u8; PIECE]>::try_from(window).ok()) {
            self.beginnings[beginning(&piece)] = true;
            self.pieces.entry(piece).or_insert(name);
        }
    }
}

/// The bytes that are written as lists of numbers, as Rust's `Debug` does.
fn lists(text: &[u8]) -> Vec<Vec<u8>> {
    let mut lists = vec![Vec::new()];
    for word in text.split(|byte| *byte == b',') {
        let number = std::str::from_utf8(word.trim_ascii()).ok();
        // The first number of a list stands behind its bracket, which costs no more than that number.
        match (number.and_then(|number| number.parse().ok()), lists.last_mut()) {
            (Some(byte), Some(list)) => list.push(byte),
            (None, Some(list)) if !list.is_empty() => lists.push(Vec::new()),
            _ => {}
        }
    }
    lists.retain(|list| list.len() >= PIECE);
    lists
}

fn beginning(piece: &[u8; PIECE]) -> usize {
    let number = u32::from_le_bytes([piece[0], piece[1], piece[2], piece[3]]);
    (number.wrapping_mul(0x9e37_79b1) >> 16) as usize
}

/// The bytes of the PKCS#8 document that are in no certificate.
fn private_part(issued: &Issued) -> &[u8] {
    let der = &issued.key_der;
    // SEC 1: version 1, then the private number as an octet string.
    let number = |length: u8| {
        let header = [2, 1, 1, 4, length];
        let at = der.windows(header.len()).position(|window| window == header).expect("an EC key");
        &der[at + header.len()..][..usize::from(length)]
    };
    match issued.key_kind {
        KeyKind::EcP256 => number(32),
        KeyKind::EcP384 => number(48),
        KeyKind::EcP521 => number(66),
        KeyKind::Ed25519 => &der[16..48],
        // The modulus is public, and ends in the first third.
        _ => &der[der.len() / 3..],
    }
}

/// What stands for those bytes, `length` of them, in PEM: lines of 64 characters, four for three bytes.
fn private_text(issued: &Issued, length: usize) -> String {
    let secret = private_part(issued);
    let start = issued.key_der.windows(length).position(|window| window == secret).expect("a part of it");
    let (first, end) = ((start * 4).div_ceil(3), (start + length) * 4 / 3);
    let body: Vec<char> = issued.key_pem.lines().filter(|line| !line.starts_with('-')).flat_map(str::chars).collect();
    let line_break = |at: usize| if at > first && at.is_multiple_of(64) { "\n" } else { "" };
    (first..end).map(|at| format!("{}{}", line_break(at), body[at])).collect()
}

/// The first directory from the hidden one, or from the state directory, down to a file that others can look into.
fn open_directory(path: &Path, root: &Path) -> Option<PathBuf> {
    let parents: Vec<&Path> = path.ancestors().skip(1).take_while(|parent| *parent != root).collect();
    let ours = parents.iter().rposition(|parent| {
        parent.file_name().is_some_and(|name| [".certdeploy", "state", "vault"].iter().any(|known| name == *known))
    })?;
    let open = |parent: &&&Path| parent.metadata().is_ok_and(|metadata| metadata.mode() & 0o077 != 0);
    parents[..=ours].iter().find(open).map(|parent| parent.to_path_buf())
}

/// Whether anybody beside owner and group is named in its ACL.
fn has_acl(path: &Path) -> bool {
    xattr::get(path, "system.posix_acl_access").is_ok_and(|value| value.is_some())
}

#[cfg(test)]
mod tests {
    use crate::pki::{Authority, Request};
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    const PASSWORD: &str = "correct horse/battery+staple";

    fn issue(kind: KeyKind) -> Issued {
        Authority::new().issue(&Request::new(&["a.test"]).key(kind))
    }

    #[test]
    fn a_key_is_found_in_every_form() {
        for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::Ed25519, KeyKind::Rsa2048] {
            let issued = issue(kind);
            let canary = Canary::new(&issued);
            let der = &issued.key_der;
            let hexadecimal: String = der.iter().map(|byte| format!("{byte:02x}")).collect();
            let forms: [(&str, Vec<u8>); 9] = [
                ("PEM", issued.key_pem.clone().into_bytes()),
                ("PEM with CRLF", issued.key_pem.replace('\n', "\r\n").into_bytes()),
                ("Debug of PEM", format!("{:?}", issued.key_pem).into_bytes()),
                ("DER", [b"before", der.as_slice(), b"after"].concat()),
                ("one line", STANDARD.encode(der).into_bytes()),
                ("other alignment", STANDARD.encode([b"x", der.as_slice()].concat()).into_bytes()),
                ("Base64 of PEM", STANDARD.encode(&issued.key_pem).into_bytes()),
                ("hexadecimal", hexadecimal.into_bytes()),
                ("Debug of bytes", format!("{der:?}, {der:#?}").into_bytes()),
            ];
            for (name, form) in forms {
                assert!(canary.found_in(&form).is_some(), "{kind:?} as {name}");
            }
        }
    }

    #[test]
    fn a_password_is_found_in_every_form() {
        let canary = Canary::new(&issue(KeyKind::EcP256)).and_password(PASSWORD);
        for form in [
            format!("password={PASSWORD};"),
            STANDARD.encode(format!("admin:{PASSWORD}")),
            STANDARD.encode(format!("me:{PASSWORD}")),
            "correct%20horse%2Fbattery%2Bstaple".to_owned(),
            PASSWORD.bytes().map(|byte| format!("{byte:02X}")).collect(),
        ] {
            assert!(canary.found_in(form.as_bytes()).is_some(), "{form}");
        }
    }

    #[test]
    fn what_is_public_is_no_secret() {
        let authority = Authority::new();
        for kind in [KeyKind::EcP256, KeyKind::Ed25519, KeyKind::Rsa2048] {
            let [one, other] = [(); 2].map(|()| authority.issue(&Request::new(&["a.test"]).key(kind)));
            let canary = Canary::new(&one).and_password(PASSWORD);
            assert_eq!(canary.found_in(one.fullchain_pem.as_bytes()), None, "{kind:?}");
            assert_eq!(canary.found_in(&one.leaf_der), None, "{kind:?}");
            assert_eq!(canary.found_in(format!("{:?}", one.leaf_der).as_bytes()), None, "{kind:?}");
            assert_eq!(canary.found_in(other.key_pem.as_bytes()), None, "{kind:?}");
            assert_eq!(canary.found_in(&other.key_der), None, "{kind:?}");
        }
    }
}

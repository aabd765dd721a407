//! What a program says, without the secrets and the key that it was given.

use std::collections::BTreeMap;

use deploy_core::command::{CommandOutput, OUTPUT_LIMIT};
use deploy_core::secret::{SecretBytes, SecretString, withhold};
use zeroize::Zeroizing;

/// Stands in place of what is taken out.
const WITHHELD: &str = "[withheld]";

/// As many lines of standard error are shown, the last ones.
const LINES: usize = 12;

/// As many characters of each line are shown.
const WIDTH: usize = 400;

/// Runs of Base64 from this length on are looked up in the key.
const PART_OF_KEY: usize = 12;

/// Lines of a secret from this length on are withheld by themselves, too.
const PART_OF_SECRET: usize = 4;

/// Knows what must not be shown.
pub(crate) struct Redactor {
    /// Secrets in the forms in which a program may print them, long ones first.
    secrets: Vec<Zeroizing<String>>,
    /// The Base64 of the key, without line breaks; empty where none was given.
    key: Zeroizing<String>,
}

impl Redactor {
    /// For a program that was given these.
    pub(crate) fn new(secrets: &BTreeMap<String, SecretString>, key: Option<&SecretBytes>) -> Self {
        let mut forms: Vec<Zeroizing<String>> = secrets.values().flat_map(|secret| forms(secret.expose())).collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self { secrets: forms, key: key.map(body).unwrap_or_default() }
    }

    /// Text of a program: without secrets, and without what moves a terminal's cursor.
    pub(crate) fn text(&self, text: &str) -> String {
        let mut text = printable(text);
        for secret in &self.secrets {
            text = Zeroizing::new(text.replace(secret.as_str(), WITHHELD));
        }
        withhold(&self.without_key(&text))
    }

    /// The last lines of what a program wrote to standard error.
    pub(crate) fn said(&self, output: &CommandOutput) -> String {
        let whole = String::from_utf8_lossy(&output.stderr);
        // Of a line whose beginning is lost, nobody can say whether it is the end of a secret.
        let cut = output.stderr.len() >= OUTPUT_LIMIT;
        let text = if cut { whole.split_once('\n').map_or("", |(_, rest)| rest) } else { &whole };
        let text = self.text(text);
        let lines: Vec<String> = text.trim().lines().map(|line| line.chars().take(WIDTH).collect()).collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }

    /// Parts of a key that are too short to be recognised as one by their looks.
    fn without_key(&self, text: &str) -> Zeroizing<String> {
        let encoded = |c: char| c.is_ascii_alphanumeric() || "+/=".contains(c);
        let mut shown = Zeroizing::new(String::with_capacity(text.len() + WITHHELD.len()));
        let mut rest = text;
        while let Some(start) = rest.find(encoded) {
            let word = &rest[start..];
            let word = &word[..word.find(|c| !encoded(c)).unwrap_or(word.len())];
            shown.push_str(&rest[..start]);
            shown.push_str(if word.len() >= PART_OF_KEY && self.key.contains(word) { WITHHELD } else { word });
            rest = &rest[start + word.len()..];
        }
        shown.push_str(rest);
        shown
    }
}

/// A secret as it is, as JSON has it, and each of its lines.
fn forms(secret: &str) -> Vec<Zeroizing<String>> {
    let json = serde_json::to_string(secret).map(Zeroizing::new).unwrap_or_default();
    let json = json.trim_matches('"');
    let lines = secret.lines().map(str::trim).filter(|line| line.len() >= PART_OF_SECRET);
    let forms = [secret, secret.trim(), json].into_iter().chain(lines);
    forms.map(printable).filter(|form| !form.is_empty()).collect()
}

/// Without control characters but line breaks.
fn printable(text: &str) -> Zeroizing<String> {
    let mut printable = Zeroizing::new(String::with_capacity(text.len()));
    printable.extend(text.chars().filter(|c| !c.is_control() || *c == '\n'));
    printable
}

/// The Base64 between the boundaries of a PEM block.
fn body(key: &SecretBytes) -> Zeroizing<String> {
    let mut body = Zeroizing::new(String::with_capacity(key.len()));
    let lines = key.expose().split(|&byte| byte == b'\n').filter(|line| !line.starts_with(b"-----"));
    for line in lines {
        body.extend(line.iter().filter(|byte| byte.is_ascii_graphic()).map(|&byte| char::from(byte)));
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(secret: &str, key: &str) -> Redactor {
        let secrets = BTreeMap::from([("token".to_owned(), SecretString::from(secret.to_owned()))]);
        Redactor::new(&secrets, Some(&SecretBytes::from(key.as_bytes())))
    }

    const KEY: &str =
        "-----BEGIN PRIVATE KEY-----\nQUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVphYmNkZWZn\naGlqa2xt\n-----END PRIVATE KEY-----\n";

    #[test]
    fn s1_secrets_are_withheld_in_the_forms_in_which_programs_print_them() {
        let redactor = redactor("s3cr\"et\nsecond line\n", KEY);
        for said in ["token s3cr\"et", "{\"t\":\"s3cr\\\"et\\nsecond line\\n\"}", "second line", "s3\u{1b}cr\"et"] {
            let shown = redactor.text(said);
            assert!(shown.contains(WITHHELD) && !shown.contains("s3cr") && !shown.contains("second line"), "{said}: {shown}");
        }
        assert_eq!(redactor.text("nothing of that"), "nothing of that");
    }

    #[test]
    fn s1_pieces_of_the_key_are_withheld_and_other_words_are_not() {
        let redactor = redactor("token", KEY);
        for said in [KEY, "key: QUJDREVGR0hJSktM...", "ends in ZWZnaGlqa2xt", &KEY.replace('\n', "\\n")] {
            let shown = redactor.text(said);
            for piece in ["QUJDREVGR0hJ", "ZWZnaGlqa2xt"] {
                assert!(!shown.contains(piece), "{said}: {shown}");
            }
        }
        assert_eq!(redactor.text("the certificate of internationalisation"), "the certificate of internationalisation");
    }

    #[test]
    fn s1_the_end_of_a_line_whose_beginning_was_dropped_is_not_shown() {
        let mut output = CommandOutput::default();
        output.stderr = [&b"ret\n"[..], &b"x".repeat(OUTPUT_LIMIT), b"\nthe end\n"].concat();
        output.stderr.drain(..output.stderr.len() - OUTPUT_LIMIT);
        assert_eq!(redactor("secret", KEY).said(&output), "the end");
    }
}

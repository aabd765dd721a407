//! What may be shown of what others say.

use std::sync::Arc;

use deploy_core::secret::{SecretString, withhold};
use reqwest::Url;

/// So much of it is shown, in characters.
const LIMIT: usize = 500;

/// Knows the secrets that must not be shown.
#[derive(Clone)]
pub(crate) struct Shown(Arc<[SecretString]>);

impl Shown {
    pub(crate) fn without(mut secrets: Vec<SecretString>) -> Self {
        secrets.retain(|secret| !secret.expose().is_empty());
        Self(secrets.into())
    }

    /// The same with one more secret.
    pub(crate) fn and_without(&self, secret: SecretString) -> Self {
        Self::without(self.0.iter().cloned().chain([secret]).collect())
    }

    /// A text of the remote, on one line.
    pub(crate) fn text(&self, bytes: &[u8]) -> String {
        let text = withhold(&self.without_secrets(&String::from_utf8_lossy(bytes)));
        let text = text.replace(char::is_control, " ");
        let words: Vec<&str> = text.split_whitespace().collect();
        let line = words.join(" ");
        match line.char_indices().nth(LIMIT) {
            Some((end, _)) => format!("{}...", &line[..end]),
            None => line,
        }
    }

    /// An address of ours without its query, which may hold a secret. Fingerprints in it look like keys, and are none.
    pub(crate) fn url(&self, url: &Url) -> String {
        let mut url = url.clone();
        url.set_query(None);
        self.without_secrets(url.as_str())
    }

    fn without_secrets(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), "[withheld]"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s1_neither_the_token_nor_a_key_is_shown() {
        let shown = Shown::without(vec![SecretString::from("canary".to_owned()), SecretString::default()]);
        assert_eq!(shown.text(b"no such token: canary\n"), "no such token: [withheld]");
        let key = "-----BEGIN PRIVATE KEY-----\nMIGH\n-----END PRIVATE KEY-----";
        assert!(!shown.text(key.as_bytes()).contains("MIGH"));
        let url = Url::parse("https://a.test/v1?key=canary").unwrap();
        assert_eq!(shown.url(&url), "https://a.test/v1");
    }

    #[test]
    fn long_and_strange_text_is_made_short_and_plain() {
        let shown = Shown::without(Vec::new());
        assert_eq!(shown.text("a\x1b[31m\r\n\tb".as_bytes()), "a [31m b");
        assert_eq!(shown.text("é ".repeat(1000).as_bytes()).chars().count(), LIMIT + 3);
    }
}

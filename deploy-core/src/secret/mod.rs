//! Secrets: bytes and text that are cleared when dropped and never shown.

mod file;
mod reference;
mod withhold;

pub use file::{SourceFileError, read_source_file};
pub use reference::{InvalidSecretRef, SecretRef, SecretRefError};
pub use withhold::withhold;

use std::fmt;
use std::io;

use serde::Serialize;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

/// Bytes that may hold a private key or a password.
///
/// They are overwritten with zeros when dropped, and `Debug` shows their length only. There is no `Display`.
/// Grow them only through [`SecretBytes::from`] a buffer that was allocated in full: a buffer that reallocates leaves a
/// copy behind.
#[derive(Clone, Default, PartialEq, Eq, ZeroizeOnDrop)]
pub struct SecretBytes(Zeroizing<Vec<u8>>);

impl SecretBytes {
    /// A value as JSON. The text is cleared when it is dropped; what it is made of is the caller's, and better borrowed.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn from_json(value: &impl Serialize) -> Result<Self, serde_json::Error> {
        // Counted first, so that the buffer never grows and leaves no copy behind.
        let mut length = Length(0);
        serde_json::to_writer(&mut length, value)?;
        let mut text = Self(Zeroizing::new(Vec::with_capacity(length.0)));
        serde_json::to_writer(&mut *text.0, value)?;
        Ok(text)
    }

    /// The bytes, for the one who needs them.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// How many bytes there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Counts what is written to it.
struct Length(usize);

impl io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl From<Vec<u8>> for SecretBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Zeroizing::new(bytes))
    }
}

impl From<&[u8]> for SecretBytes {
    fn from(bytes: &[u8]) -> Self {
        Self(Zeroizing::new(bytes.to_vec()))
    }
}

impl fmt::Debug for SecretBytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "[{} secret bytes]", self.len())
    }
}

/// Text that may be a password or a token: cleared when dropped, never shown.
#[derive(Clone, Default, PartialEq, Eq, ZeroizeOnDrop)]
pub struct SecretString(Zeroizing<String>);

impl SecretString {
    /// The text, for the one who needs it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for SecretString {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl TryFrom<SecretBytes> for SecretString {
    type Error = std::str::Utf8Error;

    fn try_from(bytes: SecretBytes) -> Result<Self, Self::Error> {
        std::str::from_utf8(bytes.expose()).map(|text| Self::from(text.to_owned()))
    }
}

impl fmt::Debug for SecretString {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("[secret text]")
    }
}

impl Zeroize for SecretString {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s4_secrets_are_cleared_when_they_are_dropped() {
        // Reading freed memory is no test; that the compiler sees the promise of the type is.
        fn is_cleared<T: ZeroizeOnDrop>(_: &T) {}
        is_cleared(&SecretBytes::default());
        is_cleared(&SecretString::default());
        let mut text = SecretString::from("canary".to_owned());
        text.zeroize();
        assert_eq!(text.expose(), "");
    }

    #[test]
    fn s4_json_is_written_into_a_buffer_that_never_grows() {
        let text = SecretBytes::from_json(&serde_json::json!({ "a": "b".repeat(5000) })).unwrap();
        assert_eq!((text.len(), text.0.capacity()), (5008, 5008));
    }

    #[test]
    fn s1_secrets_show_nothing_of_themselves() {
        assert_eq!(format!("{:?}", SecretBytes::from(&b"canary"[..])), "[6 secret bytes]");
        assert_eq!(format!("{:?}", SecretString::from("canary".to_owned())), "[secret text]");
    }
}

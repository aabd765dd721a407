//! Renderings for servers: PEM with lines of 64 characters and LF, one block after the other, nothing between them.

use zeroize::Zeroizing;

use super::{Certificate, pem};
use crate::secret::SecretBytes;

const LABEL: &str = "CERTIFICATE";

impl Certificate {
    /// The leaf alone.
    #[must_use]
    pub fn leaf_pem(&self) -> Vec<u8> {
        certificates([self.leaf_der()].into_iter())
    }

    /// The intermediates in order, without leaf and root; empty where there are none.
    #[must_use]
    pub fn chain_pem(&self) -> Vec<u8> {
        certificates(self.chain_der())
    }

    /// The leaf and its intermediates in order, without the root: what most servers want.
    #[must_use]
    pub fn fullchain_pem(&self) -> Vec<u8> {
        certificates(self.certificates().map(|certificate| &*certificate.der))
    }

    /// The private key, in the format that it was read in.
    #[must_use]
    pub fn key_pem(&self) -> SecretBytes {
        joined(&[], self, &[])
    }

    /// [`Certificate::fullchain_pem`], then [`Certificate::key_pem`], in one file.
    #[must_use]
    pub fn combined_pem(&self) -> SecretBytes {
        joined(&self.fullchain_pem(), self, &[])
    }

    /// [`Certificate::key_pem`], then [`Certificate::fullchain_pem`], in one file.
    #[must_use]
    pub fn combined_key_first_pem(&self) -> SecretBytes {
        joined(&[], self, &self.fullchain_pem())
    }
}

fn certificates<'a>(ders: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = Vec::new();
    for der in ders {
        text.reserve(pem::encoded_len(LABEL, der));
        pem::write(LABEL, der, &mut text);
    }
    text
}

/// Text, the key, text, in one buffer that never grows.
fn joined(before: &[u8], certificate: &Certificate, after: &[u8]) -> SecretBytes {
    let (label, key) = (certificate.key_format().label(), certificate.key_der().expose());
    let mut text = Zeroizing::new(Vec::with_capacity(before.len() + pem::encoded_len(label, key) + after.len()));
    text.extend_from_slice(before);
    pem::write(label, key, &mut text);
    text.extend_from_slice(after);
    SecretBytes::from(std::mem::take(&mut *text))
}

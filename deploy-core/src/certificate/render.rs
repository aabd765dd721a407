//! Renderings for servers: PEM with lines of 64 characters and LF, one block after the other, nothing between them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Certificate, KeyFormat, pem};
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
        self.combined_in_order(&[Block::Key])
    }

    /// The private key as PKCS#8 version 1 (`PRIVATE KEY`), whatever it was read as.
    #[must_use]
    pub fn key_pkcs8_pem(&self) -> SecretBytes {
        let (label, der) = (KeyFormat::Pkcs8.label(), self.key_pkcs8_der());
        let mut text = Zeroizing::new(Vec::with_capacity(pem::encoded_len(label, der.expose())));
        pem::write(label, der.expose(), &mut text);
        SecretBytes::from(std::mem::take(&mut *text))
    }

    /// [`Certificate::fullchain_pem`], then [`Certificate::key_pem`], in one file.
    #[must_use]
    pub fn combined_pem(&self) -> SecretBytes {
        self.combined_in_order(&[Block::Leaf, Block::Chain, Block::Key])
    }

    /// [`Certificate::key_pem`], then [`Certificate::fullchain_pem`], in one file.
    #[must_use]
    pub fn combined_key_first_pem(&self) -> SecretBytes {
        self.combined_in_order(&[Block::Key, Block::Leaf, Block::Chain])
    }

    /// These parts in this order, in one file. A chain without intermediates adds nothing.
    ///
    /// ```no_run
    /// # fn example(certificate: &deploy_core::Certificate) {
    /// use deploy_core::certificate::Block;
    /// let without_chain = certificate.combined_in_order(&[Block::Leaf, Block::Key]);
    /// # }
    /// ```
    #[must_use]
    pub fn combined_in_order(&self, order: &[Block]) -> SecretBytes {
        let parts: Vec<(&str, &[u8])> = order.iter().flat_map(|block| self.parts(*block)).collect();
        // The buffer never grows: growing would leave a copy of the key behind.
        let length = parts.iter().map(|(label, der)| pem::encoded_len(label, der)).sum();
        let mut text = Zeroizing::new(Vec::with_capacity(length));
        for (label, der) in parts {
            pem::write(label, der, &mut text);
        }
        SecretBytes::from(std::mem::take(&mut *text))
    }

    /// The PEM blocks of a part, each by label and content.
    fn parts(&self, block: Block) -> Vec<(&'static str, &[u8])> {
        match block {
            Block::Key => vec![(self.key_format().label(), self.key_der().expose())],
            Block::Leaf => vec![(LABEL, self.leaf_der())],
            Block::Chain => self.chain_der().map(|der| (LABEL, der)).collect(),
        }
    }
}

/// A part of a combined file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Block {
    /// The private key.
    Key,
    /// The leaf.
    Leaf,
    /// The intermediates, in order.
    Chain,
}

fn certificates<'a>(ders: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut text = Vec::new();
    for der in ders {
        text.reserve(pem::encoded_len(LABEL, der));
        pem::write(LABEL, der, &mut text);
    }
    text
}

//! Which certificate is the leaf, and whether the others follow it in order.

use super::error::MaterialError;
use super::key::{Match, PublicKey};
use super::x509::X509;

/// Certificates, sorted out.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) leaf: X509,
    pub(super) intermediates: Vec<X509>,
    pub(super) root: Option<X509>,
}

/// The first certificate has to be the key's; each other has to be the issuer of the one before it. Duplicates are
/// dropped, and a self-signed certificate at the end is set apart: clients have their own, and do not trust the server's.
pub(super) fn sort_out(certificates: Vec<X509>, key: &PublicKey) -> Result<Chain, MaterialError> {
    let mut chain: Vec<X509> = Vec::with_capacity(certificates.len());
    for certificate in certificates {
        if !chain.iter().any(|known| known.der == certificate.der) {
            chain.push(certificate);
        }
    }
    check_leaf(&chain, key)?;
    for (index, pair) in chain.windows(2).enumerate() {
        if let [child, next] = pair
            && !child.is_issued_by(next)
        {
            let (subject, issuer) = (child.subject.clone(), child.issuer.clone());
            let elsewhere =
                chain.iter().enumerate().any(|(place, other)| place != index && place > 0 && child.is_issued_by(other));
            return Err(if elsewhere {
                MaterialError::ChainOutOfOrder { subject, issuer }
            } else {
                MaterialError::BrokenChain { subject, issuer, found: next.subject.clone() }
            });
        }
    }
    let root = if chain.len() > 1 { chain.pop_if(|last| last.is_self_signed()) } else { None };
    let intermediates = chain.split_off(1.min(chain.len()));
    match chain.pop() {
        Some(leaf) => Ok(Chain { leaf, intermediates, root }),
        None => Err(MaterialError::NothingFound { part: super::Part::Certificate }),
    }
}

fn check_leaf(chain: &[X509], key: &PublicKey) -> Result<(), MaterialError> {
    let Some((first, others)) = chain.split_first() else { return Ok(()) };
    let verdict = first.public.compare(key);
    if verdict == Match::Yes {
        return Ok(());
    }
    let not_first = |leaf: Option<usize>| MaterialError::LeafNotFirst { first: first.subject.clone(), leaf };
    // Positions count from 1, and the others begin at the second.
    let find = |wanted: Match| others.iter().position(|other| other.public.compare(key) == wanted).map(|index| index + 2);
    if let Some(position) = find(Match::Yes) {
        return Err(not_first(Some(position)));
    }
    if verdict == Match::Undecided {
        // The key does not carry its public part: a CA in front of a possible leaf is told from the right order by its kind.
        let leaf = others.iter().position(|other| !other.is_ca && other.public.compare(key) == Match::Undecided);
        return match leaf {
            Some(index) if first.is_ca => Err(not_first(Some(index + 2))),
            _ => Ok(()),
        };
    }
    if first.is_ca && !first.is_self_signed() {
        return Err(not_first(None));
    }
    Err(if verdict == Match::OtherType {
        MaterialError::KeyTypeMismatch { leaf: first.public.key_type.clone(), key: key.key_type.clone() }
    } else {
        MaterialError::KeyMismatch { key_type: key.key_type.clone(), subject: first.subject.clone() }
    })
}

//! The guard against putting an older or smaller certificate in the place of a better one.

use std::time::SystemTime;

use super::error::{MaterialError, Part};
use super::key::{Match, PrivateKey};
use super::x509::X509;
use super::{Certificate, pem};
use crate::secret::SecretBytes;

/// Compares with what is live and refuses a step back: a new certificate that was issued earlier *and* ends earlier, or
/// that no longer covers a DNS name of the live one (a wildcard that covers it counts).
///
/// `live_pem` is the live certificate, its chain or key after or before it; `live_key` its key where that is a file of
/// its own. Returned are sentences for the operator: why nothing was compared, where the live one is missing, not
/// readable, expired, self-signed or not its key's; and what else is lost.
///
/// # Errors
/// [`MaterialError::LiveLastsLonger`], [`MaterialError::LosesNames`]. Nothing else is an error here.
pub fn guard_against_regress(
    new: &Certificate,
    live_pem: &[u8],
    live_key: Option<&[u8]>,
    now: SystemTime,
) -> Result<Vec<String>, MaterialError> {
    let live = match comparable(live_pem, live_key, now) {
        Ok(live) => live,
        Err(why) => return Ok(vec![format!("the live certificate was not compared with the new one: {why}")]),
    };
    let leaf = &new.0.leaf;
    if live.der == leaf.der {
        return Ok(Vec::new());
    }
    if leaf.not_before < live.not_before && leaf.not_after < live.not_after {
        return Err(MaterialError::LiveLastsLonger { live: live.not_after, new: leaf.not_after });
    }
    let names: Vec<String> = live.dns_names.iter().filter(|name| !leaf.covers(name)).cloned().collect();
    if !names.is_empty() {
        return Err(MaterialError::LosesNames { names });
    }
    let addresses = live.addresses.iter().filter(|address| !leaf.addresses.contains(address));
    Ok(addresses.map(|address| format!("the live certificate covers {address}, the new one does not")).collect())
}

/// The live leaf, or why it is not worth defending.
fn comparable(live_pem: &[u8], live_key: Option<&[u8]>, now: SystemTime) -> Result<X509, String> {
    let blocks = pem::read(live_pem, Part::Certificate).map_err(|error| error.to_string())?;
    let certificates = X509::all_from_blocks(&blocks, Part::Certificate).map_err(|error| error.to_string())?;
    let Some(live) = certificates.into_iter().next() else { return Err("there is none in its file".to_owned()) };
    let key = match live_key {
        Some(key) => Some(PrivateKey::from_pem(&SecretBytes::from(key)).map_err(|error| error.to_string())?),
        None => PrivateKey::from_blocks(blocks).map_err(|error| error.to_string())?,
    };
    if let Some(key) = key
        && matches!(live.public.compare(&key.public), Match::No | Match::OtherType)
    {
        return Err("its key is another one's".to_owned());
    }
    if live.is_self_signed() {
        return Err("it is self-signed".to_owned());
    }
    if now < live.not_before || now > live.not_after {
        return Err("it is not valid now".to_owned());
    }
    Ok(live)
}

#[cfg(test)]
mod tests {
    use crate::certificate::samples::{Authority, Wanted, now, self_signed};

    use super::*;

    /// Live certificate, live key, why they are not compared.
    type Case<'a> = (&'a [u8], Option<&'a [u8]>, &'a str);

    const WILD: Wanted<'static> =
        Wanted { names: &["*.example.com", "example.com"], days: (-10, 80), algorithm: &rcgen::PKCS_ECDSA_P256_SHA256 };

    fn live(wanted: &Wanted<'_>) -> (Vec<u8>, SecretBytes) {
        let live = Authority::new("live").certificate(wanted);
        (live.fullchain_pem(), live.key_pem())
    }

    fn new(names: &[&str], days: (i64, i64)) -> Certificate {
        Authority::new("new").certificate(&Wanted { names, days, ..Wanted::default() })
    }

    #[test]
    fn m4_a_certificate_that_is_both_older_and_shorter_is_refused() {
        let (pem, key) = live(&Wanted::default());
        let names = Wanted::default().names;
        let guard = |days| guard_against_regress(&new(names, days), &pem, Some(key.expose()), now());
        let error = guard((-11, 79)).unwrap_err();
        assert!(matches!(error, MaterialError::LiveLastsLonger { .. }), "{error:?}");
        assert_eq!(
            error.to_string(),
            "the live certificate was issued later and lasts longer: until 2030-03-22T00:00:00Z, the new one until 2030-03-21T00:00:00Z"
        );
        // Issued later with a shorter life is how a CA shortens lifetimes.
        assert_eq!(guard((-1, 20)).unwrap(), [""; 0]);
        assert_eq!(guard((-11, 90)).unwrap(), [""; 0]);
        assert_eq!(guard((-10, 80)).unwrap(), [""; 0]);
    }

    #[test]
    fn m4_losing_a_name_is_refused_unless_a_wildcard_covers_it() {
        let (pem, key) = live(&Wanted { names: &["a.example.com", "b.example.com", "192.0.2.1"], ..Wanted::default() });
        let guard = |names: &[&str]| guard_against_regress(&new(names, (0, 90)), &pem, Some(key.expose()), now());
        let error = guard(&["a.example.com"]).unwrap_err();
        assert!(matches!(&error, MaterialError::LosesNames { names } if names == &["b.example.com"]), "{error:?}");
        assert!(error.next_step().unwrap().contains("--force"));
        assert_eq!(guard(&["*.example.com"]).unwrap(), ["the live certificate covers 192.0.2.1, the new one does not"]);
        assert_eq!(guard(&["*.example.com", "192.0.2.1"]).unwrap(), [""; 0]);
        let (pem, _) = live(&WILD);
        let error = guard_against_regress(&new(&["a.example.com", "example.com"], (0, 90)), &pem, None, now()).unwrap_err();
        assert!(matches!(&error, MaterialError::LosesNames { names } if names == &["*.example.com"]), "{error:?}");
    }

    #[test]
    fn m4_the_same_certificate_is_no_step_back_and_a_key_in_the_live_file_is_accepted() {
        let certificate = Authority::new("CA").certificate(&Wanted::default());
        let both = [&*certificate.fullchain_pem(), certificate.key_pem().expose()].concat();
        assert_eq!(guard_against_regress(&certificate, &both, None, now()).unwrap(), [""; 0]);
        let older = new(Wanted::default().names, (-20, 70));
        assert!(guard_against_regress(&older, &both, None, now()).is_err());
    }

    #[test]
    fn m4_a_live_certificate_that_is_worth_nothing_is_not_defended_but_mentioned() {
        let certificate = new(&["other.example.com"], (-20, 70));
        let (pem, key) = live(&Wanted::default());
        let (_, foreign) = live(&Wanted::default());
        let (expired, _) = live(&Wanted { days: (-90, -1), ..Wanted::default() });
        let (future, _) = live(&Wanted { days: (1, 90), ..Wanted::default() });
        let own = self_signed(&Wanted::default());
        let cases: [Case<'_>; 8] = [
            (b"", None, "the certificate file is empty"),
            (b"garbage", None, "line 1 of the certificate file: text outside of a PEM block"),
            (b"# none", None, "there is none in its file"),
            (key.expose(), None, "there is none in its file"),
            (&pem, Some(foreign.expose()), "its key is another one's"),
            (&expired, None, "it is not valid now"),
            (&future, None, "it is not valid now"),
            (own.pem.as_bytes(), Some(own.key.expose()), "it is self-signed"),
        ];
        for (pem, key, why) in cases {
            let warnings = guard_against_regress(&certificate, pem, key, now()).unwrap();
            assert_eq!(warnings, [format!("the live certificate was not compared with the new one: {why}")]);
        }
        assert!(guard_against_regress(&certificate, &pem, Some(key.expose()), now()).is_err(), "the control must be refused");
        assert!(
            guard_against_regress(&certificate, &pem, Some(b"garbage"), now()).unwrap()[0]
                .ends_with("text outside of a PEM block")
        );
    }
}

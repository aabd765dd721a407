use std::error::Error as _;
use std::sync::Arc;

use proptest::prelude::*;
use rustls::crypto::CryptoProvider;

use super::samples::{Authority, DAY, Leaf, Wanted, now, self_signed};
use super::*;
use crate::error::{Error, ErrorKind};

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("fixtures/", $name, ".pem")).as_slice()
    };
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn secret(bytes: &[u8]) -> SecretBytes {
    SecretBytes::from(bytes)
}

fn load(certificate: &[u8], key: &[u8]) -> Result<Certificate, MaterialError> {
    Certificate::from_pem(certificate, &secret(key))
}

fn refused(certificate: impl AsRef<[u8]>, key: &SecretBytes) -> MaterialError {
    Certificate::from_pem(certificate.as_ref(), key).unwrap_err()
}

fn sample() -> (Authority, Leaf) {
    let authority = Authority::new("CA");
    let leaf = authority.issue(&Wanted::default());
    (authority, leaf)
}

#[test]
fn m1_every_key_format_matches_its_certificate_and_shakes_hands() {
    let cases = [
        (fixture!("rsa.crt"), fixture!("rsa.pkcs8"), KeyType::Rsa(2048), KeyFormat::Pkcs8),
        (fixture!("rsa.crt"), fixture!("rsa.pkcs1"), KeyType::Rsa(2048), KeyFormat::Pkcs1),
        (fixture!("p256.crt"), fixture!("p256.sec1"), KeyType::EcP256, KeyFormat::Sec1),
        (fixture!("p256.crt"), fixture!("p256.no-public"), KeyType::EcP256, KeyFormat::Sec1),
        (fixture!("p521.crt"), fixture!("p521.sec1"), KeyType::EcP521, KeyFormat::Sec1),
        (fixture!("ed25519.crt"), fixture!("ed25519.pkcs8"), KeyType::Ed25519, KeyFormat::Pkcs8),
    ];
    for (certificate, key, key_type, format) in cases {
        let certificate = load(certificate, key).unwrap();
        assert_eq!((certificate.key_type(), certificate.key_format()), (&key_type, format));
        certificate.check_with_provider(&provider()).unwrap();
        // As PKCS#8, it is still the same key.
        let again = load(&certificate.fullchain_pem(), certificate.key_pkcs8_pem().expose()).unwrap();
        assert_eq!((again.key_type(), again.key_format()), (&key_type, KeyFormat::Pkcs8));
        again.check_with_provider(&provider()).unwrap();
    }
}

#[test]
fn m1_another_key_of_the_same_type_does_not_match() {
    let (authority, leaf) = sample();
    let other = authority.issue(&Wanted::default());
    let error = refused(authority.fullchain(&leaf), &other.key);
    assert!(matches!(error, MaterialError::KeyMismatch { key_type: KeyType::EcP256, .. }), "{error:?}");
    assert!(error.is_mismatch() && !error.is_unsupported());
    let other = self_signed(&Wanted { algorithm: &rcgen::PKCS_ED25519, ..Wanted::default() });
    let error = refused(self_signed(&Wanted { algorithm: &rcgen::PKCS_ED25519, ..Wanted::default() }).pem, &other.key);
    assert!(matches!(error, MaterialError::KeyMismatch { key_type: KeyType::Ed25519, .. }), "{error:?}");
}

#[test]
fn m1_a_key_of_another_type_is_named_with_both_types() {
    let (authority, leaf) = sample();
    let error = refused(authority.fullchain(&leaf), &secret(fixture!("rsa.pkcs1")));
    assert!(matches!(error, MaterialError::KeyTypeMismatch { leaf: KeyType::EcP256, key: KeyType::Rsa(2048) }));
    assert_eq!(error.to_string(), "the certificate is for an EC P-256 key, the private key is RSA 2048");
    assert!(error.is_mismatch());
}

#[test]
fn m1_a_mismatch_that_reading_cannot_see_is_seen_with_the_provider() {
    for (certificate, key) in [
        // Neither key carries its public part.
        (self_signed(&Wanted::default()).pem, fixture!("p256.no-public")),
        (self_signed(&Wanted { algorithm: &rcgen::PKCS_ED25519, ..Wanted::default() }).pem, fixture!("ed25519.pkcs8")),
    ] {
        let error = load(certificate.as_bytes(), key).unwrap().check_with_provider(&provider()).unwrap_err();
        assert!(matches!(error, MaterialError::KeyMismatch { .. }), "{error:?}");
    }
}

#[test]
fn m1_a_key_that_cannot_be_loaded_is_not_called_a_mismatch() {
    for (certificate, key, name) in [
        (fixture!("rsa1024.crt"), fixture!("rsa1024.pkcs8"), "RSA 1024"),
        (fixture!("secp256k1.crt"), fixture!("secp256k1.sec1"), "EC secp256k1"),
        (fixture!("ed448.crt"), fixture!("ed448.pkcs8"), "Ed448"),
    ] {
        let error = load(certificate, key).unwrap().check_with_provider(&provider()).unwrap_err();
        assert!(matches!(error, MaterialError::KeyTypeUnsupported { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("this crypto provider cannot load the private key ({name})"));
        assert!(error.is_unsupported() && !error.is_mismatch() && error.source().is_some());
    }
}

#[test]
fn m2_encrypted_and_foreign_keys_each_have_their_own_error() {
    let certificate = fixture!("rsa.crt");
    for key in [fixture!("rsa.encrypted"), fixture!("rsa.legacy-encrypted")] {
        let error = load(certificate, key).unwrap_err();
        assert!(matches!(error, MaterialError::KeyEncrypted), "{error:?}");
        assert!(error.next_step().unwrap().contains("openssl pkey"));
    }
    assert!(matches!(load(certificate, fixture!("openssh")), Err(MaterialError::KeyOpenSsh)));
    let two = [fixture!("rsa.pkcs8"), fixture!("rsa.pkcs1")].concat();
    assert!(matches!(load(certificate, &two), Err(MaterialError::SeveralKeys { line: 29 })));
    let combined = [fixture!("rsa.pkcs8"), fixture!("rsa.crt")].concat();
    assert!(matches!(load(certificate, &combined), Err(MaterialError::UnexpectedBlock { part: Part::Key, line: 29, .. })));
    assert!(matches!(load(certificate, b"# nothing\n"), Err(MaterialError::NothingFound { part: Part::Key })));
    assert!(matches!(load(certificate, b""), Err(MaterialError::Empty { part: Part::Key })));
}

#[test]
fn m2_a_damaged_key_is_invalid_in_its_format() {
    for (label, format) in [("PRIVATE KEY", "PKCS#8"), ("RSA PRIVATE KEY", "PKCS#1"), ("EC PRIVATE KEY", "SEC1")] {
        let key = format!("-----BEGIN {label}-----\nMAMCAQE=\n-----END {label}-----\n");
        let error = load(fixture!("rsa.crt"), key.as_bytes()).unwrap_err();
        assert!(matches!(error, MaterialError::KeyInvalid { .. }), "{error:?}");
        assert_eq!(error.to_string(), format!("the private key is not valid {format}"));
        assert!(error.source().is_some());
    }
}

#[test]
fn m2_a_key_in_the_certificate_file_is_refused_without_showing_it() {
    let text = String::from_utf8([fixture!("rsa.crt"), fixture!("rsa.pkcs8")].concat()).unwrap();
    let error = load(text.as_bytes(), fixture!("rsa.pkcs8")).unwrap_err();
    let line = text.lines().position(|line| line.contains("PRIVATE")).unwrap() + 1;
    assert!(
        matches!(error, MaterialError::KeyInCertificate { part: Part::Certificate, line: found } if found == line),
        "{error:?}"
    );
    let shown = format!("{error:?}{error}{:?}", Error::from(load(text.as_bytes(), b"x").unwrap_err()));
    let secrets: Vec<&str> = text.lines().skip(line).filter(|line| !line.starts_with('-')).collect();
    assert!(secrets.len() > 20 && secrets.iter().all(|line| !shown.contains(line)));
}

#[test]
fn m2_what_is_no_certificate_is_refused() {
    let key = secret(fixture!("rsa.pkcs8"));
    let block = |label: &str, content: &str| format!("-----BEGIN {label}-----\n{content}\n-----END {label}-----\n");
    assert!(matches!(refused(block("CERTIFICATE", "MAMCAQE="), &key), MaterialError::CertificateInvalid { position: 1, .. }));
    let error = refused(block("CERTIFICATE REQUEST", "MAMCAQE="), &key);
    assert_eq!(error.to_string(), "line 1 of the certificate file: unexpected PEM block \"CERTIFICATE REQUEST\"");
    assert!(matches!(refused("# none\n", &key), MaterialError::NothingFound { part: Part::Certificate }));
    let error = refused([0x30, 0x82, 1, 2], &key);
    assert!(matches!(error, MaterialError::TextOutsideBlock { line: 1, .. }));
    assert!(error.next_step().unwrap().contains("DER"));
}

#[test]
fn m2_the_leaf_must_come_first() {
    let (authority, leaf) = sample();
    let swapped = format!("{}{}", authority.intermediate, leaf.pem);
    assert!(matches!(refused(&swapped, &leaf.key), MaterialError::LeafNotFirst { leaf: Some(2), .. }));
    let error = refused(&authority.intermediate, &leaf.key);
    assert!(matches!(&error, MaterialError::LeafNotFirst { leaf: None, first } if first == "CN=CA intermediate"), "{error:?}");
    // A key without its public part cannot point at its leaf, but a CA in front of it gives the order away.
    let leaf = authority.issue(&Wanted::default());
    let swapped = format!("{}{}", authority.intermediate, leaf.pem);
    assert!(matches!(refused(swapped, &secret(fixture!("p256.no-public"))), MaterialError::LeafNotFirst { leaf: Some(2), .. }));
}

#[test]
fn m2_a_chain_that_does_not_link_up_names_both_sides() {
    let (authority, leaf) = sample();
    let other = Authority::new("other");
    let error = refused(format!("{}{}", leaf.pem, other.intermediate), &leaf.key);
    assert_eq!(
        error.to_string(),
        "the chain is broken: \"CN=www.example.com\" is issued by \"CN=CA intermediate\", but \"CN=other intermediate\" follows it"
    );
    let error = refused(format!("{}{}{}", leaf.pem, authority.root, authority.intermediate), &leaf.key);
    assert!(matches!(error, MaterialError::ChainOutOfOrder { .. }), "{error:?}");
    assert_eq!(error.to_string(), "the chain is out of order: \"CN=CA intermediate\" must follow \"CN=www.example.com\"");
}

#[test]
fn m2_a_chain_with_the_right_names_and_a_wrong_signature_is_refused() {
    let (_, leaf) = sample();
    let impostor = Authority::new("CA");
    let certificate = Certificate::from_pem(impostor.fullchain(&leaf).as_bytes(), &leaf.key).unwrap();
    let error = certificate.check_with_provider(&provider()).unwrap_err();
    assert!(matches!(error, MaterialError::BadSignature { .. }), "{error:?}");
    // The root is checked too, although it is not rendered.
    let (authority, leaf) = sample();
    let text = format!("{}{}", authority.fullchain(&leaf), impostor.root);
    let certificate = Certificate::from_pem(text.as_bytes(), &leaf.key).unwrap();
    assert!(matches!(certificate.check_with_provider(&provider()), Err(MaterialError::BadSignature { .. })));
}

#[test]
fn a_signature_that_the_provider_does_not_know_is_called_unsupported() {
    let (authority, leaf) = sample();
    let certificate = Certificate::from_pem(authority.fullchain(&leaf).as_bytes(), &leaf.key).unwrap();
    let mut poorer = rustls::crypto::aws_lc_rs::default_provider();
    poorer.signature_verification_algorithms.all = &[];
    let error = certificate.check_with_provider(&Arc::new(poorer)).unwrap_err();
    assert!(matches!(error, MaterialError::SignatureUnsupported { .. }) && error.is_unsupported(), "{error:?}");
}

#[test]
fn a_handshake_that_fails_for_another_reason_has_its_own_error() {
    let (authority, leaf) = sample();
    let certificate = Certificate::from_pem(authority.fullchain(&leaf).as_bytes(), &leaf.key).unwrap();
    let mut broken = rustls::crypto::aws_lc_rs::default_provider();
    broken.kx_groups.clear();
    let error = certificate.check_with_provider(&Arc::new(broken)).unwrap_err();
    assert!(matches!(error, MaterialError::HandshakeFailed { .. }) && error.source().is_some(), "{error:?}");
}

#[test]
fn m6_duplicates_and_the_root_are_dropped_from_every_rendering() {
    let (authority, leaf) = sample();
    let text = format!("{0}{0}{1}{1}{2}", leaf.pem, authority.intermediate, authority.root);
    let certificate = Certificate::from_pem(text.as_bytes(), &leaf.key).unwrap();
    certificate.check_with_provider(&provider()).unwrap();
    let expected = Certificate::from_pem(authority.fullchain(&leaf).as_bytes(), &leaf.key).unwrap();
    assert_eq!(certificate.chain_der().len(), 1);
    assert_eq!(certificate.fullchain_pem(), expected.fullchain_pem());
    assert_eq!(certificate.fullchain_pem(), authority.fullchain(&leaf).replace('\r', "").into_bytes());
    let (leaf_pem, chain_pem, key_pem) = (certificate.leaf_pem(), certificate.chain_pem(), certificate.key_pem());
    assert_eq!([leaf_pem, chain_pem].concat(), certificate.fullchain_pem());
    assert_eq!([&*certificate.fullchain_pem(), key_pem.expose()].concat(), certificate.combined_pem().expose());
    assert_eq!([key_pem.expose(), &*certificate.fullchain_pem()].concat(), certificate.combined_key_first_pem().expose());
    let in_order = |order: &[Block]| certificate.combined_in_order(order).expose().to_vec();
    assert_eq!([&*certificate.leaf_pem(), key_pem.expose()].concat(), in_order(&[Block::Leaf, Block::Key]));
    assert_eq!(
        [&*certificate.leaf_pem(), key_pem.expose(), &*certificate.chain_pem()].concat(),
        in_order(&[Block::Leaf, Block::Key, Block::Chain])
    );
    let apart = Certificate::from_pem_with_chain(leaf.pem.as_bytes(), authority.intermediate.as_bytes(), &leaf.key).unwrap();
    assert_eq!(apart.fullchain_pem(), certificate.fullchain_pem());
    let alone = Certificate::from_pem_with_chain(leaf.pem.as_bytes(), b"\n", &leaf.key).unwrap();
    assert!(alone.chain_pem().is_empty());
}

#[test]
fn m6_a_self_signed_leaf_is_rendered_even_if_it_is_a_ca() {
    // OpenSSL's own default for `req -x509` is CA:TRUE.
    let certificate = load(fixture!("rsa.crt"), fixture!("rsa.pkcs8")).unwrap();
    assert!(certificate.is_self_signed());
    assert_eq!(certificate.fullchain_pem(), fixture!("rsa.crt"));
    assert_eq!(certificate.key_pem().expose(), fixture!("rsa.pkcs8"));
}

#[test]
fn m5_an_ed25519_key_of_version_2_is_rendered_as_version_1() {
    let leaf = self_signed(&Wanted { algorithm: &rcgen::PKCS_ED25519, ..Wanted::default() });
    let certificate = Certificate::from_pem(leaf.pem.as_bytes(), &leaf.key).unwrap();
    let der = certificate.key_der().expose();
    // RFC 8410 section 7: 16 bytes of fixed prefix and the 32 of the key.
    assert_eq!((der.len(), &der[..16]), (48, &[0x30, 46, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 34, 4, 32][..]));
    assert!(leaf.key.len() > certificate.key_pem().len(), "the sample must be version 2");
    certificate.check_with_provider(&provider()).unwrap();
    let again = Certificate::from_pem(&certificate.fullchain_pem(), &certificate.key_pem()).unwrap();
    assert_eq!(again.key_der(), certificate.key_der());
}

#[test]
fn m3_crlf_and_remarks_are_normalised() {
    let (authority, leaf) = sample();
    let text = format!("Bag Attributes\nsubject=CN = www\n{}", authority.fullchain(&leaf)).replace('\n', "\r\n");
    let certificate = Certificate::from_pem(text.trim_end().as_bytes(), &leaf.key).unwrap();
    assert_eq!(certificate.fullchain_pem(), authority.fullchain(&leaf).replace('\r', "").into_bytes());
}

#[test]
fn m2_dates_of_leaf_and_intermediates_are_checked() {
    let authority = Authority::new("CA");
    let certificate = authority.certificate(&Wanted { days: (-10, 80), ..Wanted::default() });
    assert_eq!((certificate.not_before(), certificate.not_after()), (now() - 10 * DAY, now() + 80 * DAY));
    for time in [certificate.not_before(), now(), certificate.not_after()] {
        certificate.check_validity(time).unwrap();
    }
    let error = certificate.check_validity(now() + 81 * DAY).unwrap_err();
    assert_eq!(error.to_string(), "\"CN=www.example.com\" expired at 2030-03-22T00:00:00Z");
    let error = certificate.check_validity(now() - 11 * DAY).unwrap_err();
    assert_eq!(error.to_string(), "\"CN=www.example.com\" is not valid before 2029-12-22T00:00:00Z");
    let expired = Authority::with_days("old", (-1000, -1)).certificate(&Wanted::default());
    let error = expired.check_validity(now()).unwrap_err();
    assert!(matches!(&error, MaterialError::Expired { subject, .. } if subject == "CN=old intermediate"), "{error:?}");
}

#[test]
fn names_cover_as_clients_read_them() {
    let certificate = Authority::new("CA").certificate(&Wanted {
        names: &["WWW.Example.com", "*.wild.example.com", "192.0.2.1", "2001:db8::1"],
        ..Wanted::default()
    });
    assert_eq!(certificate.names(), ["www.example.com", "*.wild.example.com", "192.0.2.1", "2001:db8::1"]);
    for name in
        ["www.example.com", "WWW.EXAMPLE.COM.", "a.wild.example.com", "*.wild.example.com", "192.0.2.1", "[2001:db8:0::1]"]
    {
        assert!(certificate.covers(name), "{name}");
    }
    for name in
        ["example.com", "wild.example.com", "a.b.wild.example.com", ".wild.example.com", "192.0.2.2", "", ".", "*.example.com"]
    {
        assert!(!certificate.covers(name), "{name}");
    }
    // No subject alternative name: the common name counts.
    assert_eq!(load(fixture!("rsa1024.crt"), fixture!("rsa1024.pkcs8")).unwrap().names(), ["rsa1024.example.com"]);
}

#[test]
fn identity_is_that_of_the_leaf() {
    let certificate = load(fixture!("rsa.crt"), fixture!("rsa.pkcs8")).unwrap();
    // As `openssl x509 -noout -serial -fingerprint -sha256` says.
    assert_eq!(certificate.serial(), "5cece9965c77ff2839f722da27b20361577a879e");
    assert_eq!(certificate.fingerprint(), "974325c8b7e0ac2d1a240b669f61d237b6b9881ab63a3ea10dca3f361ef724d8");
    assert_eq!((certificate.subject(), certificate.issuer()), ("CN=rsa.example.com", "CN=rsa.example.com"));
}

#[test]
fn s1_debug_shows_nothing_of_the_key() {
    let certificate = load(fixture!("rsa.crt"), fixture!("rsa.pkcs8")).unwrap();
    let shown = format!("{certificate:?} {:?} {:?}", certificate.key_der(), certificate.0.key);
    assert!(shown.contains("rsa.example.com"));
    let key = certificate.key_der().expose();
    assert!(!shown.contains(&hex(&key[60..68])) && !shown.contains(&format!("{:?}", &key[300..308]).replace(['[', ']'], "")));
}

#[test]
fn the_error_of_the_crate_keeps_the_cause_and_the_next_step() {
    let error = Error::from(load(fixture!("rsa.crt"), fixture!("rsa.encrypted")).unwrap_err());
    assert_eq!(error.kind(), ErrorKind::MaterialRejected);
    assert!(error.next_step().contains("openssl pkey"));
    assert!(error.source().unwrap().downcast_ref::<MaterialError>().is_some());
    assert_eq!(error.full_message(), "the private key is encrypted with a password");
}

proptest! {
    #[test]
    fn any_bytes_give_a_certificate_or_an_error(certificate in prop::collection::vec(any::<u8>(), 0..300), key in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(load(&certificate, &key));
    }

    #[test]
    fn damaged_der_gives_a_certificate_or_an_error(at in any::<prop::sample::Index>(), byte in any::<u8>(), cut in any::<prop::sample::Index>(), of_key in any::<bool>(), short in any::<bool>()) {
        let whole = load(fixture!("p256.crt"), fixture!("p256.sec1")).unwrap();
        let mut der = if of_key { whole.key_pkcs8_der().expose().to_vec() } else { whole.leaf_der().to_vec() };
        let place = at.index(der.len());
        der[place] = byte;
        if short {
            der.truncate(cut.index(der.len()));
        }
        let mut pem = Vec::new();
        pem::write(if of_key { "PRIVATE KEY" } else { "CERTIFICATE" }, &der, &mut pem);
        let result = if of_key { load(fixture!("p256.crt"), &pem) } else { load(&pem, fixture!("p256.sec1")) };
        if let Ok(certificate) = result {
            drop(certificate.check_validity(now()));
            drop(certificate.check_with_provider(&provider()));
        }
    }
}

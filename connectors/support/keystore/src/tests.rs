//! What stays of others, what is refused, and that no input makes it panic.

use std::time::{SystemTime, UNIX_EPOCH};

use deploy_core::Certificate;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_testkit::{Authority, Request};
use proptest::prelude::*;

use super::*;

const JKS: &[u8] = include_bytes!("../tests/data/keytool.jks");
const LEGACY: &[u8] = include_bytes!("../tests/data/keytool-legacy.p12");
const MODERN: &[u8] = include_bytes!("../tests/data/keytool.p12");
const NOW: SystemTime = UNIX_EPOCH;

fn password() -> SecretString {
    SecretString::from("password-of-store".to_owned())
}

fn random() -> &'static dyn SecureRandom {
    deploy_testkit::provider().secure_random
}

fn certificate(authority: &Authority) -> Certificate {
    let issued = authority.issue(&Request::new(&["www.example.test"]));
    Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(issued.key_pem.as_bytes())).unwrap()
}

fn put(store: &mut Keystore, alias: &str, certificate: &Certificate) -> Result<bool, KeystoreError> {
    store.put(&KeyEntry::new(alias, certificate, &password()), None, NOW, random())
}

/// Puts it, writes, and reads what was written.
fn put_and_reopen(bytes: &[u8], alias: &str, certificate: &Certificate) -> (SecretBytes, Keystore) {
    let mut store = Keystore::open(bytes, &password()).unwrap();
    assert!(put(&mut store, alias, certificate).unwrap());
    let bytes = store.to_bytes(&password(), random()).unwrap();
    let store = Keystore::open(bytes.expose(), &password()).unwrap();
    (bytes, store)
}

/// All entries but one, each as its bytes; of PKCS#12 the certificates of the one are among them.
fn others(store: &Keystore, alias: &str) -> Vec<SecretBytes> {
    store.0.raw_without(alias)
}

impl Format {
    fn raw_without(&self, alias: &str) -> Vec<SecretBytes> {
        match self {
            Self::Jks(store) => store.raw_without(alias),
            Self::Pkcs12(store) => store.raw_without(alias),
        }
    }
}

#[test]
fn entries_of_others_are_kept_to_the_byte_through_renewals() {
    let authority = Authority::new();
    for (bytes, count) in [(JKS, 2), (LEGACY, 4), (MODERN, 4)] {
        let before = others(&Keystore::open(bytes, &password()).unwrap(), "www");
        assert_eq!(before.len(), count);
        let (mut bytes, mut lengths) = (SecretBytes::from(bytes), Vec::new());
        for _ in 0..3 {
            let certificate = certificate(&authority);
            let (new, mut store) = put_and_reopen(bytes.expose(), "www", &certificate);
            assert!(!put(&mut store, "www", &certificate).unwrap());
            let after = others(&store, "www");
            assert!(before.iter().all(|entry| after.contains(entry)));
            lengths.push(after.len());
            bytes = new;
        }
        // Of a PKCS#12 the intermediate is left over from counting, and none piles up.
        assert!(lengths.iter().all(|length| *length == lengths[0] && *length <= count + 1), "{count}: {lengths:?}");
    }
}

#[test]
fn the_intermediate_of_before_goes_unless_another_key_needs_it() {
    let (old, new) = (certificate(&Authority::new()), certificate(&Authority::new()));
    let (bytes, _) = put_and_reopen(MODERN, "www", &old);
    let (_, store) = put_and_reopen(bytes.expose(), "www", &new);
    assert_eq!(others(&store, "www").len(), 5, "four of others, and one intermediate");

    let authority = Authority::new();
    let [first, second] = [(); 2].map(|()| certificate(&authority));
    let (bytes, _) = put_and_reopen(MODERN, "first", &first);
    let (bytes, _) = put_and_reopen(bytes.expose(), "second", &second);
    let (_, mut store) = put_and_reopen(bytes.expose(), "second", &certificate(&authority));
    assert!(!put(&mut store, "first", &first).unwrap(), "with its chain");
}

#[test]
fn an_entry_that_is_there_is_left_alone_and_any_difference_is_written() {
    let authority = Authority::new();
    let (one, other) = (certificate(&authority), certificate(&authority));
    for bytes in [JKS, LEGACY, MODERN] {
        let (bytes, mut store) = put_and_reopen(bytes, "www", &one);
        assert!(!put(&mut store, "www", &one).unwrap());
        assert!(put(&mut store, "www", &other).unwrap());
        let mut store = Keystore::open(bytes.expose(), &password()).unwrap();
        assert!(put(&mut store, "www2", &one).unwrap());
    }
    let (_, mut store) = put_and_reopen(MODERN, "www", &one);
    let password = password();
    let entry = KeyEntry::new("www", &one, &password);
    assert!(!store.put(&entry, Some(Encryption::Modern), NOW, random()).unwrap());
    assert!(store.put(&entry, Some(Encryption::Legacy), NOW, random()).unwrap());
}

#[test]
fn a_key_may_have_a_password_of_its_own_and_another_one_is_told_apart() {
    let certificate = certificate(&Authority::new());
    let key_password = SecretString::from("password-of-key".to_owned());
    for bytes in [JKS, LEGACY, MODERN] {
        let mut store = Keystore::open(bytes, &password()).unwrap();
        let entry = KeyEntry::new("www", &certificate, &key_password);
        assert!(store.put(&entry, None, NOW, random()).unwrap());
        let bytes = store.to_bytes(&password(), random()).unwrap();
        let mut store = Keystore::open(bytes.expose(), &password()).unwrap();
        assert!(!store.put(&entry, None, NOW, random()).unwrap());
        for alias in ["www", "WWW"] {
            let error = put(&mut store, alias, &certificate).unwrap_err();
            assert!(matches!(error, KeystoreError::WrongKeyPassword { .. }), "{error}");
        }
    }
}

#[test]
fn a_wrong_password_is_told_from_a_damaged_file() {
    let wrong = SecretString::from("another-password".to_owned());
    for bytes in [JKS, LEGACY, MODERN] {
        assert!(matches!(Keystore::open(bytes, &wrong), Err(KeystoreError::WrongPassword)));
        let truncated = Keystore::open(&bytes[..bytes.len() - 30], &password());
        assert!(matches!(truncated, Err(KeystoreError::Damaged(_))), "{truncated:?}");
        // The last byte of the digest, or of the count of iterations before it.
        let mut digest = bytes.to_vec();
        let index = if bytes == JKS { bytes.len() - 1 } else { bytes.len() - 35 };
        digest[index] ^= 1;
        let damaged = Keystore::open(&digest, &password());
        assert!(matches!(damaged, Err(KeystoreError::Damaged(_))), "{damaged:?}");
    }
    assert!(matches!(Keystore::open(&[], &password()), Err(KeystoreError::Damaged(_))));
    assert!(matches!(Keystore::open(b"-----BEGIN", &password()), Err(KeystoreError::Damaged(_))));
}

#[test]
fn other_formats_are_refused_by_name() {
    let refused = |bytes: &[u8]| Keystore::open(bytes, &password()).unwrap_err().to_string();
    assert!(refused(&[0xce, 0xce, 0xce, 0xce, 0, 0, 0, 2]).contains("JCEKS"));
    assert!(refused(&tlv::element(tlv::SEQUENCE, &[&tlv::element(tlv::SEQUENCE, &[])])).contains("BCFKS"));
    assert!(refused(&[0x30, 0x80, 0x02, 0x01, 0x03]).contains("BER"));
    let mut newer = JKS.to_vec();
    newer[7] = 3;
    assert!(refused(&newer).contains("another version"));
}

#[test]
fn what_is_no_private_key_is_not_replaced() {
    let certificate = certificate(&Authority::new());
    for bytes in [JKS, LEGACY, MODERN] {
        let mut store = Keystore::open(bytes, &password()).unwrap();
        let error = put(&mut store, "CA", &certificate).unwrap_err();
        assert!(matches!(error, KeystoreError::TrustedAlias { .. }), "{error}");
    }
    for bytes in [LEGACY, MODERN] {
        let mut store = Keystore::open(bytes, &password()).unwrap();
        let error = put(&mut store, "secret", &certificate).unwrap_err();
        assert!(matches!(error, KeystoreError::OtherAlias { .. }), "{error}");
    }
}

#[test]
fn a_truststore_gets_no_key() {
    let certificate = certificate(&Authority::new());
    for bytes in [JKS, MODERN] {
        let mut store = Keystore::open(bytes, &password()).unwrap();
        match &mut store.0 {
            Format::Jks(store) => store.keep_trusted(),
            Format::Pkcs12(store) => store.keep_trusted(),
        }
        let bytes = store.to_bytes(&password(), random()).unwrap();
        let mut store = Keystore::open(bytes.expose(), &password()).unwrap();
        let error = put(&mut store, "www", &certificate).unwrap_err();
        assert!(matches!(error, KeystoreError::Truststore), "{error}");
    }
}

#[test]
fn a_key_that_is_to_be_alone_takes_the_place_of_one_and_not_of_more() {
    let (old, new) = (certificate(&Authority::new()), certificate(&Authority::new()));
    let password = password();
    let mut store = Keystore::empty(StoreType::Pkcs12, Encryption::Modern);
    assert!(put(&mut store, "of old", &old).unwrap());
    let entry = KeyEntry::new("of new", &new, &password).alone(true);
    assert!(store.put(&entry, None, NOW, random()).unwrap());
    assert!(!store.put(&entry, None, NOW, random()).unwrap());
    assert_eq!(others(&store, "of new").len(), 1, "the intermediate");

    let mut store = Keystore::open(MODERN, &password).unwrap();
    let error = store.put(&entry, None, NOW, random()).unwrap_err();
    assert!(matches!(error, KeystoreError::NotAlone), "{error}");
}

#[test]
fn two_intermediates_of_one_name_in_one_store_are_refused() {
    // The authorities of the kit give their intermediates one name and each another key.
    let (first, second) = (certificate(&Authority::new()), certificate(&Authority::new()));
    let (bytes, _) = put_and_reopen(MODERN, "first", &first);
    let mut store = Keystore::open(bytes.expose(), &password()).unwrap();
    let error = put(&mut store, "second", &second).unwrap_err();
    assert!(matches!(error, KeystoreError::SameName { .. }), "{error}");
    // A JKS has each chain by itself.
    let (_, mut store) = put_and_reopen(JKS, "first", &first);
    assert!(put(&mut store, "second", &second).unwrap());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_bytes_are_an_error_and_no_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), start in 0..3_usize) {
        let magic: &[&[u8]] = &[&[], &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2], &[0x30, 0x82, 0x01, 0x80, 0x02, 0x01, 0x03]];
        bytes.splice(0..0, magic[start].to_vec());
        prop_assert!(Keystore::open(&bytes, &password()).is_err());
    }

    #[test]
    fn a_store_with_changed_bytes_is_an_error_or_opens(
        which in 0..3_usize,
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..4),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
    ) {
        let mut bytes = [JKS, LEGACY, MODERN][which].to_vec();
        for (index, byte) in changes {
            let index = index.index(bytes.len());
            bytes[index] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        drop(Keystore::open(&bytes, &password()));
    }

    #[test]
    fn what_is_inside_of_the_encryption_makes_no_panic_either(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 0..6),
    ) {
        pkcs12::tests::read_and_put_into_changed(&changes);
    }
}

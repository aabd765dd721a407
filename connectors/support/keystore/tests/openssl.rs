//! OpenSSL reads what is written here, and what OpenSSL writes is read here.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests write files and start openssl")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::UNIX_EPOCH;

use deploy_core::Certificate;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_keystore::{Encryption, KeyEntry, Keystore, KeystoreError, StoreType};
use deploy_testkit::{Authority, KeyKind, Request, provider};
use tempfile::TempDir;

const PASSWORD: &str = "p\u{e4}ssword of store";

/// A directory with the password in a file.
fn directory() -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::write(directory.path().join("password"), PASSWORD).unwrap();
    directory
}

/// What openssl prints, or `None` where it fails.
fn openssl(directory: &Path, arguments: &str) -> Option<String> {
    let output = Command::new("openssl").current_dir(directory).args(arguments.split(' ')).output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
}

fn certificate(kind: KeyKind) -> Certificate {
    let issued = Authority::new().issue(&Request::new(&["www.example.test"]).key(kind));
    let key = if kind == KeyKind::Ed25519 { issued.ed25519_key_pem_version_1() } else { issued.key_pem };
    Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(key.as_bytes())).unwrap()
}

#[test]
fn openssl_reads_key_and_chain_of_every_kind_in_both_encryptions() {
    let directory = directory();
    let password = SecretString::from(PASSWORD.to_owned());
    for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let certificate = certificate(kind);
        for encryption in [Encryption::Modern, Encryption::Legacy] {
            let mut store = Keystore::empty(StoreType::Pkcs12, encryption);
            let random = provider().secure_random;
            store.put(&KeyEntry::new("www", &certificate, &password), None, UNIX_EPOCH, random).unwrap();
            let bytes = store.to_bytes(&password, random).unwrap();
            fs::write(directory.path().join("store.p12"), bytes.expose()).unwrap();

            let read = openssl(directory.path(), "pkcs12 -in store.p12 -passin file:password -nodes").unwrap();
            assert!(read.contains("friendlyName: www"), "{read}");
            let again = Certificate::from_combined_pem(&SecretBytes::from(read.as_bytes())).unwrap();
            assert_eq!(again.fullchain_pem(), certificate.fullchain_pem(), "{kind:?} {encryption:?}");
            assert_eq!(again.key_pkcs8_der(), certificate.key_pkcs8_der(), "{kind:?} {encryption:?}");
        }
    }
}

#[test]
fn openssl_reads_the_provider_of_windows_that_is_to_hold_the_key() {
    let directory = directory();
    let password = SecretString::from(PASSWORD.to_owned());
    let certificate = certificate(KeyKind::EcP256);
    let mut store = Keystore::empty(StoreType::Pkcs12, Encryption::Modern);
    let random = provider().secure_random;
    let entry = KeyEntry::new("www", &certificate, &password).with_provider("Microsoft Software Key Storage Provider");
    store.put(&entry, None, UNIX_EPOCH, random).unwrap();
    fs::write(directory.path().join("store.p12"), store.to_bytes(&password, random).unwrap().expose()).unwrap();
    let read = openssl(directory.path(), "pkcs12 -in store.p12 -passin file:password -nodes").unwrap();
    assert_eq!(read.matches("Microsoft CSP Name: Microsoft Software Key Storage Provider").count(), 1, "{read}");
    let store = Keystore::open(&fs::read(directory.path().join("store.p12")).unwrap(), &password).unwrap();
    assert_eq!(store.leaves(), [certificate.leaf_der()]);
}

#[test]
fn what_openssl_writes_is_opened_and_its_key_is_known_again() {
    let directory = directory();
    let password = SecretString::from(PASSWORD.to_owned());
    let certificate = certificate(KeyKind::EcP256);
    fs::write(directory.path().join("all.pem"), certificate.combined_pem().expose()).unwrap();
    for options in ["", " -legacy", " -certpbe AES-256-CBC -keypbe AES-128-CBC -macalg sha512", " -descert", " -keypbe NONE"] {
        let export = format!("pkcs12 -export -in all.pem -name www -out store.p12 -passout file:password{options}");
        openssl(directory.path(), &export).unwrap();
        let bytes = fs::read(directory.path().join("store.p12")).unwrap();
        let mut store = Keystore::open(&bytes, &password).unwrap_or_else(|error| panic!("{options}: {error}"));
        let entry = KeyEntry::new("www", &certificate, &password);
        let changed = store.put(&entry, None, UNIX_EPOCH, provider().secure_random).unwrap();
        assert_eq!(changed, options.ends_with("NONE"), "{options}: a key in clear is encrypted, the rest is left alone");
    }
}

#[test]
fn what_has_no_integrity_check_is_refused() {
    let directory = directory();
    fs::write(directory.path().join("all.pem"), certificate(KeyKind::EcP256).combined_pem().expose()).unwrap();
    openssl(directory.path(), "pkcs12 -export -in all.pem -nomac -out store.p12 -passout file:password").unwrap();
    let bytes = fs::read(directory.path().join("store.p12")).unwrap();
    let error = Keystore::open(&bytes, &SecretString::from(PASSWORD.to_owned())).unwrap_err();
    assert!(matches!(&error, KeystoreError::Unsupported(what) if what.contains("MAC")), "{error}");
}

//! What a working server serves, and how to ask for it.

use deploy_testkit::TlsServer;

use super::*;

#[test]
fn chain_is_captured_leaf_first_and_the_fingerprint_is_the_leafs() {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    let server = TlsServer::start(&issued);
    let observation = ask(&named(server.address())).unwrap();
    assert_eq!(observation.address, server.address());
    assert_eq!(observation.chain, [issued.leaf_der, issued.chain_der[0].clone()]);
    assert_eq!(observation.fingerprint, issued.fingerprint);
    observation.handshake.unwrap();
}

#[test]
fn server_name_is_sent_independently_of_the_dial_address() {
    let authority = Authority::new();
    let (other, wanted) = (issue(&authority, KeyKind::EcP256), issue(&authority, KeyKind::EcP256));
    let server = TlsServer::builder().certificate(&other).for_name("www.example.test", &wanted).start();
    assert_eq!(served(&named(server.address())), wanted.fingerprint);
    assert_eq!(served(&Endpoint::new(format!("localhost:{}", server.address().port()))), other.fingerprint);
    assert_eq!(server.server_names(), [Some("www.example.test".to_owned()), Some("localhost".to_owned())]);
}

#[test]
fn ip_address_sends_no_name_and_gets_the_default() {
    let authority = Authority::new();
    let (default, other) = (issue(&authority, KeyKind::EcP256), issue(&authority, KeyKind::EcP256));
    let server = TlsServer::builder().certificate(&default).for_name("www.example.test", &other).start();
    assert_eq!(served(&at(server.address())), default.fingerprint);
    assert_eq!(served(&at(server.address()).with_server_name("192.0.2.1")), default.fingerprint);
    assert_eq!(server.server_names(), [None, None]);
}

#[test]
fn key_type_selects_among_the_certificates_of_one_server() {
    let authority = Authority::new();
    let rsa = issue(&authority, KeyKind::Rsa2048);
    let ecdsa = issue(&authority, KeyKind::EcP256);
    let ed25519 = issue(&authority, KeyKind::Ed25519);
    let both_versions = || TlsServer::builder().certificate(&rsa).certificate(&ecdsa).certificate(&ed25519);
    for server in [both_versions().start(), both_versions().tls12_only().start()] {
        let endpoint = named(server.address());
        assert_eq!(served(&endpoint.clone().with_key_type(KeyTypeWanted::Rsa)), rsa.fingerprint);
        assert_eq!(served(&endpoint.clone().with_key_type(KeyTypeWanted::Ecdsa)), ecdsa.fingerprint);
        assert_eq!(served(&endpoint.with_key_type(KeyTypeWanted::Ed25519)), ed25519.fingerprint);
    }
}

#[test]
fn wanted_key_type_that_is_missing_is_an_error() {
    let server = TlsServer::start(&issue(&Authority::new(), KeyKind::EcP256));
    let error = ask(&named(server.address()).with_key_type(KeyTypeWanted::Rsa)).unwrap_err();
    assert!(matches!(error, ProbeError::Handshake { .. }), "{error:?}");
    assert!(!error.unreachable());
}

#[test]
fn every_kind_of_key_is_verified_over_both_versions() {
    let authority = Authority::new();
    for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::EcP521, KeyKind::Ed25519, KeyKind::Rsa2048, KeyKind::Rsa4096] {
        let issued = issue(&authority, kind);
        for server in [TlsServer::start(&issued), TlsServer::builder().certificate(&issued).tls12_only().start()] {
            let observation = ask(&named(server.address())).unwrap();
            assert_eq!(observation.fingerprint, issued.fingerprint, "{kind:?}");
            observation.handshake.unwrap_or_else(|problem| panic!("{kind:?}: {problem:?}"));
        }
    }
}

#[test]
fn server_that_wants_a_client_certificate_has_proved_its_own_key() {
    let authority = Authority::new();
    let issued = issue(&authority, KeyKind::EcP256);
    let builder = || TlsServer::builder().certificate(&issued).require_client_certificate(&authority);
    for server in [builder().start(), builder().tls12_only().start()] {
        assert_eq!(served(&named(server.address())), issued.fingerprint);
    }
}

#[test]
fn all_addresses_are_asked_where_that_is_wanted() {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    let server = TlsServer::start(&issued);
    let endpoint = Endpoint::new(format!("localhost:{}", server.address().port())).with_all_addresses();
    let addresses = resolve::resolve("localhost", server.address().port(), soon(), None).unwrap();
    match probe(&endpoint, &provider(), soon(), None) {
        Ok(observations) => {
            assert_eq!(addresses.len(), 1);
            assert_eq!(observations.len(), 1);
        }
        // Nobody listens on ::1.
        Err(error) => {
            assert_eq!(addresses.len(), 2);
            assert!(error.is_refused(), "{error:?}");
        }
    }
    let lenient = Endpoint { all_addresses: false, ..endpoint };
    assert_eq!(served(&lenient), issued.fingerprint);
}

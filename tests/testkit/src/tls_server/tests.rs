use std::time::{Duration, Instant};

use super::*;
use crate::observe::served_fingerprint;
use crate::pki::{KeyKind, Request, write_pair};

fn issue(authority: &Authority) -> Issued {
    authority.issue(&Request::new(&["www.example.test"]))
}

#[test]
fn name_selects_certificate() {
    let authority = Authority::new();
    let (one, two) = (issue(&authority), issue(&authority));
    let server = TlsServer::builder().certificate(&one).for_name("two.test", &two).start();
    assert_eq!(served_fingerprint(server.address(), Some("two.test")), Ok(two.fingerprint));
    assert_eq!(served_fingerprint(server.address(), None), Ok(one.fingerprint));
    assert_eq!(server.server_names(), [Some("two.test".to_owned()), None]);
    assert_eq!(server.accepted(), 2);
}

#[test]
fn swap_is_seen_after_its_delay() {
    let authority = Authority::new();
    let (old, new) = (issue(&authority), issue(&authority));
    let server = TlsServer::start(&old);
    server.swap_after(Duration::from_millis(50), &new);
    let deadline = Instant::now() + Duration::from_secs(10);
    while served_fingerprint(server.address(), None).unwrap() != new.fingerprint {
        assert!(Instant::now() < deadline, "the swap never happened");
    }
}

#[test]
fn renewal_after_a_delay_is_of_one_name_and_one_kind_of_key() {
    let authority = Authority::new();
    let rsa = authority.issue(&Request::new(&["www.example.test"]).key(KeyKind::Rsa2048));
    let (old, new) = (issue(&authority), issue(&authority));
    let server = TlsServer::builder().certificate(&rsa).for_name("two.test", &old).for_name("two.test", &rsa).start();
    server.renew_after(Duration::from_millis(50), Some("two.test"), &new);
    let deadline = Instant::now() + Duration::from_secs(10);
    while served_fingerprint(server.address(), Some("two.test")).unwrap() != new.fingerprint {
        assert!(Instant::now() < deadline, "the renewal never happened");
    }
    assert_eq!(served_fingerprint(server.address(), None), Ok(rsa.fingerprint.clone()), "another name");
    // A client that takes both kinds gets the first one.
    let other = TlsServer::builder().for_name("two.test", &rsa).for_name("two.test", &old).start();
    other.renew(Some("two.test"), &new);
    assert_eq!(served_fingerprint(other.address(), Some("two.test")), Ok(rsa.fingerprint));
}

#[test]
fn pem_is_served_if_it_matches_and_a_server_can_be_left_without() {
    let authority = Authority::new();
    let (one, two) = (issue(&authority), issue(&authority));
    let server = TlsServer::start(&one);
    server.set_pem(&two.fullchain_pem, &one.key_pem).unwrap_err();
    assert_eq!(served_fingerprint(server.address(), None), Ok(one.fingerprint));
    server.set_pem(&two.fullchain_pem, &two.key_pem).unwrap();
    assert_eq!(served_fingerprint(server.address(), None), Ok(two.fingerprint));
    server.clear_certificate();
    served_fingerprint(server.address(), None).unwrap_err();
}

#[test]
fn files_are_read_at_reload_only_and_a_bad_pair_changes_nothing() {
    let authority = Authority::new();
    let (old, new) = (issue(&authority), issue(&authority));
    let directory = tempfile::tempdir().unwrap();
    let (fullchain, key) = write_pair(directory.path(), &old);
    let server = TlsServer::builder().files(&fullchain, &key).start();
    write_pair(directory.path(), &new.with_key_of(&old));
    assert_eq!(served_fingerprint(server.address(), None), Ok(old.fingerprint.clone()));
    assert!(server.reload().unwrap_err().contains("privkey.pem"));
    assert_eq!(served_fingerprint(server.address(), None), Ok(old.fingerprint));
    write_pair(directory.path(), &new);
    server.reload().unwrap();
    assert_eq!(served_fingerprint(server.address(), None), Ok(new.fingerprint));
}

#[test]
fn missing_files_are_an_error_unless_they_are_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let (fullchain, key) = (directory.path().join("fullchain.pem"), directory.path().join("privkey.pem"));
    assert!(TlsServer::builder().files(&fullchain, &key).try_start().is_err());
    let server = TlsServer::builder().files(&fullchain, &key).wait_for_files().start();
    served_fingerprint(server.address(), None).unwrap_err();
    let issued = issue(&Authority::new());
    write_pair(directory.path(), &issued);
    server.reload().unwrap();
    assert_eq!(served_fingerprint(server.address(), None), Ok(issued.fingerprint));
}

#[test]
fn mismatched_key_fails_the_handshake() {
    let authority = Authority::new();
    let server = TlsServer::start(&issue(&authority).with_key_of(&issue(&authority)));
    assert!(served_fingerprint(server.address(), None).unwrap_err().contains("handshake failed"));
    assert_eq!(server.handshakes(), 0);
}

#[test]
fn every_kind_of_key_is_served() {
    let authority = Authority::new();
    for kind in [KeyKind::EcP256, KeyKind::EcP384, KeyKind::EcP521, KeyKind::Ed25519, KeyKind::Rsa2048] {
        let issued = authority.issue(&Request::new(&["a.test"]).key(kind));
        let server = TlsServer::start(&issued);
        assert_eq!(served_fingerprint(server.address(), Some("a.test")), Ok(issued.fingerprint), "{kind:?}");
    }
}

#[test]
fn dropping_it_ends_open_connections_and_frees_the_port() {
    let server = TlsServer::start(&issue(&Authority::new()));
    let address = server.address();
    let _idle = TcpStream::connect(address).unwrap();
    let start = Instant::now();
    drop(server);
    assert!(start.elapsed() < Duration::from_secs(5), "an idle connection held the server up");
    assert!(TcpStream::connect(address).is_err());
}

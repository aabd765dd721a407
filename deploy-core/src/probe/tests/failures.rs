//! Servers that do not serve a certificate, or one that does not work.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use deploy_testkit::{PlainBehaviour, PlainPeer, TlsServer};

use super::*;

#[test]
fn mismatched_key_is_seen_although_the_certificate_is_presented() {
    let authority = Authority::new();
    let issued = issue(&authority, KeyKind::EcP256).with_key_of(&issue(&authority, KeyKind::EcP256));
    for server in [TlsServer::start(&issued), TlsServer::builder().certificate(&issued).tls12_only().start()] {
        let observation = ask(&named(server.address())).unwrap();
        assert_eq!(observation.fingerprint, issued.fingerprint);
        let problem = observation.handshake.unwrap_err();
        assert!(matches!(problem, HandshakeProblem::BadSignature { .. }), "{problem:?}");
    }
}

#[test]
fn rsa_key_under_an_ec_certificate_is_a_mismatch_and_not_unchecked() {
    let authority = Authority::new();
    for kind in [KeyKind::EcP256, KeyKind::EcP521, KeyKind::Ed25519] {
        let issued = issue(&authority, kind).with_key_of(&issue(&authority, KeyKind::Rsa2048));
        let server = TlsServer::start(&issued);
        let observation = ask(&named(server.address())).unwrap();
        assert_eq!(observation.fingerprint, issued.fingerprint);
        let problem = observation.handshake.unwrap_err();
        assert!(matches!(problem, HandshakeProblem::BadSignature { .. }), "{kind:?}: {problem:?}");
    }
}

#[test]
fn key_that_the_provider_cannot_verify_is_unchecked_and_not_a_mismatch() {
    let issued = issue(&Authority::new(), KeyKind::EcP521);
    let server = TlsServer::start(&issued);
    let mut weak = CryptoProvider::clone(&provider());
    let mapping = weak.signature_verification_algorithms.mapping;
    let without = mapping.iter().filter(|(scheme, _)| *scheme != rustls::SignatureScheme::ECDSA_NISTP521_SHA512).copied();
    weak.signature_verification_algorithms.mapping = Vec::leak(without.collect());
    let mut observations = probe(&named(server.address()), &Arc::new(weak), soon(), None).unwrap();
    let problem = observations.remove(0).handshake.unwrap_err();
    assert!(matches!(problem, HandshakeProblem::Unchecked { .. }), "{problem:?}");
}

#[test]
fn closed_port_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = ask(&at(address)).unwrap_err();
    assert!(error.is_refused() && error.unreachable(), "{error:?}");
}

#[test]
fn silent_server_costs_no_more_than_the_deadline() {
    let peer = PlainPeer::start(PlainBehaviour::Silent);
    let start = Instant::now();
    let error = probe(&at(peer.address()), &provider(), start + Duration::from_millis(300), None).unwrap_err();
    assert!(matches!(error, ProbeError::Timeout { .. }) && error.unreachable(), "{error:?}");
    let took = start.elapsed();
    assert!(took >= Duration::from_millis(300) && took < ATTEMPT_LIMIT, "{took:?}");
}

#[test]
fn silent_server_costs_no_more_than_one_attempt() {
    let peer = PlainPeer::start(PlainBehaviour::Silent);
    let start = Instant::now();
    let error = probe(&at(peer.address()), &provider(), start + 10 * ATTEMPT_LIMIT, None).unwrap_err();
    assert!(matches!(error, ProbeError::Timeout { .. }), "{error:?}");
    assert!(start.elapsed() < 2 * ATTEMPT_LIMIT, "{:?}", start.elapsed());
}

#[test]
fn deadline_in_the_past_is_a_timeout() {
    let server = TlsServer::start(&issue(&Authority::new(), KeyKind::EcP256));
    let error = probe(&at(server.address()), &provider(), Instant::now(), None).unwrap_err();
    assert!(matches!(error, ProbeError::Timeout { .. }), "{error:?}");
    assert_eq!(server.accepted(), 0);
}

#[test]
fn cancellation_ends_a_probe_that_waits() {
    let peer = PlainPeer::start(PlainBehaviour::Silent);
    let cancellation = Cancellation::default();
    let start = Instant::now();
    let result = std::thread::scope(|scope| {
        let probing = scope.spawn(|| probe(&at(peer.address()), &provider(), soon(), Some(&cancellation)));
        while peer.accepted() == 0 {
            std::thread::yield_now();
        }
        cancellation.cancel();
        probing.join().unwrap()
    });
    assert!(matches!(result.unwrap_err(), ProbeError::Interrupted));
    assert!(start.elapsed() < ATTEMPT_LIMIT, "{:?}", start.elapsed());
}

#[test]
fn plain_http_is_not_tls() {
    let peer = PlainPeer::start(PlainBehaviour::Http);
    let error = ask(&at(peer.address())).unwrap_err();
    assert!(matches!(error, ProbeError::NotTls { .. }), "{error:?}");
    assert!(!error.unreachable());
}

#[test]
fn server_that_hangs_up_is_unreachable() {
    let peer = PlainPeer::start(PlainBehaviour::Close);
    let error = ask(&at(peer.address())).unwrap_err();
    assert!(matches!(error, ProbeError::Closed { .. }) && error.unreachable(), "{error:?}");
}

/// Answers one ClientHello with these bytes.
pub(super) fn answer_with(bytes: &'static [u8]) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let thread = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut hello = [0; 8192];
        assert!(stream.read(&mut hello).unwrap() > 0);
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        while matches!(stream.read(&mut hello), Ok(1..)) {}
    });
    (address, thread)
}

#[test]
fn old_versions_of_tls_are_not_probeable() {
    // A fatal alert, protocol_version (70), in a TLS 1.1 record.
    let (address, thread) = answer_with(&[21, 3, 2, 0, 2, 2, 70]);
    let error = ask(&at(address)).unwrap_err();
    assert!(matches!(error, ProbeError::NotProbeable { .. }), "{error:?}");
    thread.join().unwrap();
}

#[test]
fn unknown_name_is_told_from_other_alerts() {
    let (address, thread) = answer_with(&[21, 3, 3, 0, 2, 2, 112]);
    let error = ask(&at(address)).unwrap_err();
    assert!(matches!(error, ProbeError::NameUnknown { .. }) && !error.unreachable(), "{error:?}");
    thread.join().unwrap();
}

#[test]
fn other_alerts_are_failures_of_the_server_and_not_of_the_probe() {
    // handshake_failure (40): what OpenSSL sends when no key fits its certificate.
    let (address, thread) = answer_with(&[21, 3, 3, 0, 2, 2, 40]);
    let error = ask(&at(address)).unwrap_err();
    assert!(matches!(error, ProbeError::Handshake { .. }), "{error:?}");
    assert!(!error.unreachable());
    thread.join().unwrap();
}

#[test]
fn unknown_host_is_a_resolve_error() {
    // RFC 6761 reserves the name: it never has an address.
    let error = ask(&Endpoint::new("nowhere.invalid:443")).unwrap_err();
    assert!(matches!(error, ProbeError::Resolve { .. }), "{error:?}");
}

#[test]
fn bad_endpoint_is_refused_before_anything_else() {
    let error = ask(&Endpoint::new("nowhere")).unwrap_err();
    assert!(matches!(error, ProbeError::Endpoint(EndpointError::Connect { .. })), "{error:?}");
}

//! Waiting for a certificate.

use deploy_testkit::{Fault, PlainProtocol, StartTlsPeer, TlsServer};

use super::*;

#[test]
fn wanted_certificate_is_seen_as_soon_as_it_is_served() {
    let authority = Authority::new();
    let (old, new) = (issue(&authority, KeyKind::EcP256), issue(&authority, KeyKind::EcP256));
    let server = TlsServer::start(&old);
    server.swap_after(Duration::from_millis(150), &new);
    let observations = wait_for(&named(server.address()), &new.fingerprint, &provider(), soon(), None).unwrap();
    assert_eq!(observations[0].fingerprint, new.fingerprint);
    assert!(server.accepted() > 1, "the old one must have been seen first");
}

#[test]
fn listener_that_comes_back_is_waited_for() {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    let address = TlsServer::start(&issued).address();
    let wanted = issued.fingerprint.to_ascii_uppercase();
    let back = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_for(&named(address), &wanted, &provider(), soon(), None));
        // Long enough for several looks, which leave no trace on a port that nobody listens on.
        assert!(!Cancellation::default().wait(Duration::from_millis(150)));
        assert!(!waiting.is_finished(), "a refused connection is not final");
        let server = TlsServer::builder().listen(address).certificate(&issued).start();
        (waiting.join().unwrap(), server)
    });
    back.0.unwrap();
}

#[test]
fn name_that_the_server_does_not_know_yet_is_waited_for() {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    // unrecognized_name (112): what a server answers that has certificates for other names only.
    let (address, thread) = failures::answer_with(&[21, 3, 3, 0, 2, 2, 112]);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_for(&named(address), &issued.fingerprint, &provider(), soon(), None));
        thread.join().unwrap();
        let server = TlsServer::builder().listen(address).certificate(&issued).start();
        waiting.join().unwrap().unwrap();
        assert!(server.accepted() > 0);
    });
}

#[test]
fn a5_server_that_keeps_the_old_certificate_is_named_at_the_deadline() {
    let authority = Authority::new();
    let (old, new) = (issue(&authority, KeyKind::EcP256), issue(&authority, KeyKind::EcP256));
    let server = TlsServer::start(&old);
    let start = Instant::now();
    let deadline = start + Duration::from_millis(400);
    let failure = wait_for(&named(server.address()), &new.fingerprint, &provider(), deadline, None).unwrap_err();
    assert!(Instant::now() >= deadline && start.elapsed() < ATTEMPT_LIMIT, "{:?}", start.elapsed());
    assert_eq!(failure.served.as_deref(), Some(old.fingerprint.as_str()));
    assert!(matches!(&*failure.problem, VerifyProblem::OtherCertificate { served, .. } if *served == old.fingerprint));
    assert!(failure.to_string().contains(&old.fingerprint) && failure.to_string().contains(&new.fingerprint), "{failure}");
    assert!(!failure.is_inconclusive() && !failure.is_interrupted());
    assert!((2..40).contains(&server.accepted()), "the pauses grow: {} looks", server.accepted());
}

#[test]
fn failing_handshake_with_the_wanted_certificate_is_final() {
    let authority = Authority::new();
    let issued = issue(&authority, KeyKind::EcP256).with_key_of(&issue(&authority, KeyKind::EcP256));
    let server = TlsServer::start(&issued);
    let failure = wait_for(&named(server.address()), &issued.fingerprint, &provider(), soon(), None).unwrap_err();
    assert!(matches!(*failure.problem, VerifyProblem::Handshake { .. }), "{failure:?}");
    assert_eq!(server.accepted(), 1);
}

#[test]
fn refused_starttls_is_asked_again_until_the_deadline() {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    let peer = StartTlsPeer::start(PlainProtocol::Smtp, &issued, Fault::Refuse);
    let endpoint = named(peer.address()).with_starttls(StartTls::Smtp);
    let deadline = Instant::now() + Duration::from_millis(200);
    let failure = wait_for(&endpoint, &issued.fingerprint, &provider(), deadline, None).unwrap_err();
    assert!(matches!(*failure.problem, VerifyProblem::Probe(ProbeError::StartTls { .. })), "{failure:?}");
    assert!(peer.accepted() > 1, "an old process without a certificate may have refused");
}

#[test]
fn dead_server_is_an_error_at_the_deadline() {
    let address = TlsServer::start(&issue(&Authority::new(), KeyKind::EcP256)).address();
    let deadline = Instant::now() + Duration::from_millis(200);
    let failure = wait_for(&named(address), "00", &provider(), deadline, None).unwrap_err();
    assert!(Instant::now() >= deadline);
    assert!(matches!(&*failure.problem, VerifyProblem::Probe(error) if error.is_refused()), "{failure:?}");
    assert_eq!(failure.served, None);
}

#[test]
fn cancellation_ends_the_wait() {
    let server = TlsServer::start(&issue(&Authority::new(), KeyKind::EcP256));
    let cancellation = Cancellation::default();
    let start = Instant::now();
    let failure = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| wait_for(&named(server.address()), "00", &provider(), soon(), Some(&cancellation)));
        while server.accepted() == 0 {
            std::thread::yield_now();
        }
        cancellation.cancel();
        waiting.join().unwrap().unwrap_err()
    });
    assert!(failure.is_interrupted(), "{failure:?}");
    assert!(start.elapsed() < ATTEMPT_LIMIT, "{:?}", start.elapsed());
}

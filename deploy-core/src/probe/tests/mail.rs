//! STARTTLS, with good and bad peers.

use deploy_testkit::{Fault, MailProtocol, StartTlsPeer};

use super::*;

const PROTOCOLS: [(MailProtocol, StartTls); 4] = [
    (MailProtocol::Imap, StartTls::Imap),
    (MailProtocol::Lmtp, StartTls::Lmtp),
    (MailProtocol::Pop3, StartTls::Pop3),
    (MailProtocol::Smtp, StartTls::Smtp),
];

fn failure(peer: MailProtocol, starttls: StartTls, fault: Fault) -> ProbeError {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    let peer = StartTlsPeer::start(peer, &issued, fault);
    ask(&named(peer.address()).with_starttls(starttls)).unwrap_err()
}

/// Where it failed, and how.
fn problem(peer: MailProtocol, starttls: StartTls, fault: Fault) -> (StartTlsStep, StartTlsProblem) {
    match failure(peer, starttls, fault) {
        ProbeError::StartTls { protocol, step, source, .. } if protocol == starttls => (step, source),
        other => panic!("{starttls}: {other:?}"),
    }
}

#[test]
fn good_peers_lead_to_their_certificate() {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    for (protocol, starttls) in PROTOCOLS {
        let peer = StartTlsPeer::start(protocol, &issued, Fault::None);
        assert_eq!(served(&named(peer.address()).with_starttls(starttls)), issued.fingerprint, "{starttls}");
    }
}

#[test]
fn refusal_is_reported_with_the_servers_words() {
    for (protocol, starttls) in PROTOCOLS {
        let (step, problem) = problem(protocol, starttls, Fault::Refuse);
        assert_eq!(step, StartTlsStep::Request);
        let StartTlsProblem::Refused { reply } = problem else { panic!("{starttls}: {problem:?}") };
        assert!(reply.contains("not available"), "{starttls}: {reply}");
    }
    let (_, refusal) = problem(MailProtocol::Smtp, StartTls::Smtp, Fault::Refuse);
    assert!(refusal.to_string().contains("454"), "{refusal}");
}

#[test]
fn missing_extension_is_reported_without_asking_for_it() {
    for (protocol, starttls) in [(MailProtocol::Smtp, StartTls::Smtp), (MailProtocol::Lmtp, StartTls::Lmtp)] {
        assert_eq!(problem(protocol, starttls, Fault::NotOffered), (StartTlsStep::Hello, StartTlsProblem::NotOffered));
    }
}

#[test]
fn endless_lines_and_endless_greetings_are_cut_off() {
    for (protocol, starttls) in PROTOCOLS {
        assert_eq!(problem(protocol, starttls, Fault::LongLine), (StartTlsStep::Greeting, StartTlsProblem::TooMuch));
    }
    assert_eq!(problem(MailProtocol::Smtp, StartTls::Smtp, Fault::Flood), (StartTlsStep::Greeting, StartTlsProblem::TooMuch));
    assert_eq!(problem(MailProtocol::Imap, StartTls::Imap, Fault::Flood), (StartTlsStep::Request, StartTlsProblem::TooMuch));
}

#[test]
fn plain_text_after_the_reply_is_refused() {
    for (protocol, starttls) in PROTOCOLS {
        let expected = (StartTlsStep::Request, StartTlsProblem::PlainTextAfterReply);
        assert_eq!(problem(protocol, starttls, Fault::Inject), expected, "{starttls}");
    }
}

#[test]
fn another_protocol_makes_no_sense() {
    let (step, problem) = problem(MailProtocol::Imap, StartTls::Smtp, Fault::None);
    assert_eq!(step, StartTlsStep::Greeting);
    assert!(matches!(problem, StartTlsProblem::Malformed { .. }), "{problem:?}");
}

#[test]
fn peer_that_leaves_or_says_nothing_is_unreachable() {
    let error = failure(MailProtocol::Smtp, StartTls::Smtp, Fault::Close);
    assert!(matches!(error, ProbeError::Closed { .. }) && error.unreachable(), "{error:?}");

    let issued = issue(&Authority::new(), KeyKind::EcP256);
    let peer = StartTlsPeer::start(MailProtocol::Smtp, &issued, Fault::Silent);
    let endpoint = named(peer.address()).with_starttls(StartTls::Smtp);
    let error = probe(&endpoint, &provider(), Instant::now() + Duration::from_millis(200), None).unwrap_err();
    assert!(matches!(error, ProbeError::Timeout { .. }), "{error:?}");
}

#[test]
fn tls_peer_asked_in_plain_text_fails_in_time() {
    let server = deploy_testkit::TlsServer::start(&issue(&Authority::new(), KeyKind::EcP256));
    let endpoint = named(server.address()).with_starttls(StartTls::Smtp);
    let error = probe(&endpoint, &provider(), Instant::now() + Duration::from_millis(200), None).unwrap_err();
    assert!(matches!(error, ProbeError::Timeout { .. }), "{error:?}");
}

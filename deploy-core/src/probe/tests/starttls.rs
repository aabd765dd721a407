//! STARTTLS, with good and bad peers.

use deploy_testkit::{Fault, PlainProtocol, StartTlsPeer};

use super::*;

/// Each peer, what to ask it with, and the step at which it first says something.
const PROTOCOLS: [(PlainProtocol, StartTls, StartTlsStep); 11] = [
    (PlainProtocol::Ftp, StartTls::Ftp, StartTlsStep::Greeting),
    (PlainProtocol::Imap, StartTls::Imap, StartTlsStep::Greeting),
    (PlainProtocol::Ldap, StartTls::Ldap, StartTlsStep::Request),
    (PlainProtocol::Lmtp, StartTls::Lmtp, StartTlsStep::Greeting),
    (PlainProtocol::Mysql, StartTls::Mysql, StartTlsStep::Greeting),
    (PlainProtocol::Pop3, StartTls::Pop3, StartTlsStep::Greeting),
    (PlainProtocol::Postgres, StartTls::Postgres, StartTlsStep::Request),
    (PlainProtocol::Sieve, StartTls::Sieve, StartTlsStep::Greeting),
    (PlainProtocol::Smtp, StartTls::Smtp, StartTlsStep::Greeting),
    (PlainProtocol::Xmpp, StartTls::Xmpp, StartTlsStep::Hello),
    (PlainProtocol::Xmpp, StartTls::XmppServer, StartTlsStep::Hello),
];

fn failure(peer: PlainProtocol, starttls: StartTls, fault: Fault) -> ProbeError {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    let peer = StartTlsPeer::start(peer, &issued, fault);
    ask(&named(peer.address()).with_starttls(starttls)).unwrap_err()
}

/// Where it failed, and how.
fn problem(peer: PlainProtocol, starttls: StartTls, fault: Fault) -> (StartTlsStep, StartTlsProblem) {
    match failure(peer, starttls, fault) {
        ProbeError::StartTls { protocol, step, source, .. } if protocol == starttls => (step, source),
        other => panic!("{starttls}: {other:?}"),
    }
}

#[test]
fn good_peers_lead_to_their_certificate() {
    let issued = issue(&Authority::new(), KeyKind::EcP256);
    for (protocol, starttls, _) in PROTOCOLS {
        let peer = StartTlsPeer::start(protocol, &issued, Fault::None);
        assert_eq!(served(&named(peer.address()).with_starttls(starttls)), issued.fingerprint, "{starttls}");
    }
}

#[test]
fn refusal_is_reported_with_the_servers_words() {
    for (protocol, starttls, _) in PROTOCOLS {
        let (step, problem) = problem(protocol, starttls, Fault::Refuse);
        // MySQL has no answer to the request: a server that refuses does so at once.
        let expected = if starttls == StartTls::Mysql { StartTlsStep::Greeting } else { StartTlsStep::Request };
        assert_eq!(step, expected, "{starttls}");
        let StartTlsProblem::Refused { reply } = problem else { panic!("{starttls}: {problem:?}") };
        assert!(reply.contains("not available"), "{starttls}: {reply}");
    }
    let (_, refusal) = problem(PlainProtocol::Smtp, StartTls::Smtp, Fault::Refuse);
    assert!(refusal.to_string().contains("454"), "{refusal}");
}

#[test]
fn missing_extension_is_reported_without_asking_for_it() {
    for (protocol, starttls, step) in [
        (PlainProtocol::Lmtp, StartTls::Lmtp, StartTlsStep::Hello),
        (PlainProtocol::Mysql, StartTls::Mysql, StartTlsStep::Greeting),
        (PlainProtocol::Sieve, StartTls::Sieve, StartTlsStep::Greeting),
        (PlainProtocol::Smtp, StartTls::Smtp, StartTlsStep::Hello),
        (PlainProtocol::Xmpp, StartTls::Xmpp, StartTlsStep::Hello),
    ] {
        assert_eq!(problem(protocol, starttls, Fault::NotOffered), (step, StartTlsProblem::NotOffered), "{starttls}");
    }
    // PostgreSQL has no list: its answer says whether there is TLS.
    let postgres = problem(PlainProtocol::Postgres, StartTls::Postgres, Fault::NotOffered);
    assert_eq!(postgres, (StartTlsStep::Request, StartTlsProblem::NotOffered));
}

#[test]
fn endless_lines_and_endless_greetings_are_cut_off() {
    for (protocol, starttls, step) in PROTOCOLS {
        assert_eq!(problem(protocol, starttls, Fault::LongLine), (step, StartTlsProblem::TooMuch), "{starttls}");
    }
    assert_eq!(problem(PlainProtocol::Smtp, StartTls::Smtp, Fault::Flood), (StartTlsStep::Greeting, StartTlsProblem::TooMuch));
    assert_eq!(problem(PlainProtocol::Imap, StartTls::Imap, Fault::Flood), (StartTlsStep::Request, StartTlsProblem::TooMuch));
}

#[test]
fn plain_text_after_the_reply_is_refused() {
    for (protocol, starttls, _) in PROTOCOLS {
        let expected = (StartTlsStep::Request, StartTlsProblem::PlainTextAfterReply);
        assert_eq!(problem(protocol, starttls, Fault::Inject), expected, "{starttls}");
    }
}

#[test]
fn another_protocol_makes_no_sense() {
    for (starttls, expected) in [
        (StartTls::Ftp, StartTlsStep::Greeting),
        (StartTls::Ldap, StartTlsStep::Request),
        (StartTls::Postgres, StartTlsStep::Request),
        (StartTls::Sieve, StartTlsStep::Greeting),
        (StartTls::Smtp, StartTlsStep::Greeting),
    ] {
        let (step, problem) = problem(PlainProtocol::Imap, starttls, Fault::None);
        assert_eq!(step, expected, "{starttls}");
        assert!(matches!(problem, StartTlsProblem::Malformed { .. }), "{starttls}: {problem:?}");
    }
}

#[test]
fn peer_that_leaves_or_says_nothing_is_unreachable() {
    let error = failure(PlainProtocol::Smtp, StartTls::Smtp, Fault::Close);
    assert!(matches!(error, ProbeError::Closed { .. }) && error.unreachable(), "{error:?}");

    let issued = issue(&Authority::new(), KeyKind::EcP256);
    let peer = StartTlsPeer::start(PlainProtocol::Smtp, &issued, Fault::Silent);
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

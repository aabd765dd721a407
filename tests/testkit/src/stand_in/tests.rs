use std::io;
use std::time::{Duration, Instant};

use super::client::{Reply, ask, ask_tls};
use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// Counts what it was asked to do.
fn counter() -> StandIn<u32> {
    StandIn::start_plain(0, count)
}

fn count(request: &HttpRequest, count: &mut u32) -> Answer {
    *count += 1;
    Answer::new(200).with_header("X-Seen", request.header("host").unwrap_or_default()).with_body(request.body.clone())
}

fn get(stand_in: &StandIn<u32>) -> io::Result<Reply> {
    ask(stand_in.address(), "GET /a", "", PATIENCE)
}

fn put(stand_in: &StandIn<u32>) -> io::Result<Reply> {
    ask(stand_in.address(), "PUT /b/c", "text", PATIENCE)
}

fn taken(stand_in: &StandIn<u32>) -> u32 {
    stand_in.with_state(|count| *count)
}

#[test]
fn answers_and_records_what_it_was_asked() {
    let stand_in = counter();
    let reply = ask(stand_in.address(), "POST /b/c?d=e", "text", PATIENCE).unwrap();
    assert_eq!((reply.status, reply.body.as_str(), reply.header("x-seen")), (200, "text", Some("localhost")));
    get(&stand_in).unwrap();
    assert_eq!(stand_in.record().lines(), ["POST /b/c?d=e 200", "GET /a 200"]);
    let exchanges = stand_in.record().exchanges();
    assert_eq!((exchanges[0].request.body.as_slice(), exchanges[0].taken), (&b"text"[..], true));
    assert_eq!(exchanges[0].request.header("CONTENT-LENGTH"), Some("4"));
    assert!(exchanges[0].at <= exchanges[1].at);
    assert_eq!(stand_in.record().changing().len(), 1);
    stand_in.record().clear();
    get(&stand_in).unwrap();
    assert_eq!(stand_in.record().lines(), ["GET /a 200"]);
}

#[test]
fn s1_record_shows_no_bodies_and_no_headers() {
    let stand_in = counter();
    ask(stand_in.address(), "PUT /b", "canary", PATIENCE).unwrap();
    let shown = format!("{:?}", stand_in.record().exchanges());
    assert!(shown.contains("PUT /b [6 bytes]") && !shown.contains("canary"), "{shown}");
}

#[test]
fn fault_meets_the_requests_that_it_is_for() {
    let refused = || Fault::answer(Answer::new(503).with_header("Retry-After", "7"));
    for (fault, expected) in [
        (refused(), (503, 503)),
        (refused().reading(), (503, 200)),
        (refused().changing(), (200, 503)),
        (refused().below("/b"), (200, 503)),
        (refused().below("/b").reading(), (200, 200)),
        (refused().with_header("HOST", "local"), (503, 503)),
        (refused().with_header("Host", "remote"), (200, 200)),
        (refused().with_header("Content-Length", "4"), (200, 503)),
        (refused().with_header("Missing", ""), (200, 200)),
    ] {
        let stand_in = counter();
        stand_in.faults().inject(fault.clone());
        let (reading, changing) = (get(&stand_in).unwrap(), put(&stand_in).unwrap());
        assert_eq!((reading.status, changing.status), expected, "{fault:?}");
        for reply in [reading, changing] {
            assert_eq!(reply.header("retry-after"), (reply.status == 503).then_some("7"), "{fault:?}");
        }
        let normal = [expected.0, expected.1].iter().filter(|status| **status == 200).count();
        assert_eq!(taken(&stand_in) as usize, normal, "{fault:?}: what is refused is not done");
        stand_in.faults().heal();
        assert_eq!((get(&stand_in).unwrap().status, put(&stand_in).unwrap().status), (200, 200), "{fault:?}");
    }
}

#[test]
fn fault_lasts_for_so_many_requests_and_begins_after_so_many() {
    let stand_in = counter();
    stand_in.faults().inject(Fault::answer(Answer::new(500)).after(1).times(2));
    let statuses: Vec<u16> = (0..4).map(|_| get(&stand_in).unwrap().status).collect();
    assert_eq!(statuses, [200, 500, 500, 200]);

    // Two of them, one behind the other.
    stand_in.faults().inject(Fault::answer(Answer::new(401)).times(1));
    stand_in.faults().inject(Fault::answer(Answer::new(409)).times(1));
    let statuses: Vec<u16> = (0..3).map(|_| get(&stand_in).unwrap().status).collect();
    assert_eq!(statuses, [401, 409, 200]);
}

#[test]
fn handler_can_close_a_connection_or_keep_it_silent() {
    for (answer, patience) in [(Answer::closed(), PATIENCE), (Answer::never(), Duration::from_millis(200))] {
        let stand_in = StandIn::start_plain((), move |_, ()| answer.clone());
        ask(stand_in.address(), "PUT /b", "text", patience).unwrap_err();
        let exchanges = stand_in.record().exchanges();
        assert_eq!((exchanges[0].taken, exchanges[0].status), (true, None));
    }
}

#[test]
fn partial_upload_takes_the_first_requests_only() {
    let stand_in = counter();
    stand_in.faults().inject(Fault::close_before().changing().after(2));
    put(&stand_in).unwrap();
    put(&stand_in).unwrap();
    put(&stand_in).unwrap_err();
    assert_eq!(get(&stand_in).unwrap().status, 200);
    assert_eq!(taken(&stand_in), 3);
}

#[test]
fn connection_is_closed_before_or_after_the_request_is_taken() {
    for (fault, done) in [(Fault::close_before(), 0), (Fault::close_after(), 1)] {
        let stand_in = counter();
        stand_in.faults().inject(fault.times(1));
        put(&stand_in).unwrap_err();
        assert_eq!(taken(&stand_in), done);
        let exchanges = stand_in.record().exchanges();
        assert_eq!((exchanges[0].taken, exchanges[0].status), (done == 1, None));
        assert_eq!(stand_in.record().lines(), ["PUT /b/c -"]);
    }
}

#[test]
fn answer_comes_late_or_never() {
    let stand_in = counter();
    let delay = Duration::from_millis(200);
    stand_in.faults().inject(Fault::late(delay).times(1));
    stand_in.faults().inject(Fault::never().times(1));
    let start = Instant::now();
    assert_eq!(get(&stand_in).unwrap().status, 200);
    assert!(start.elapsed() >= delay);
    ask(stand_in.address(), "GET /a", "", delay).unwrap_err();
    stand_in.record().wait_until(|exchanges| exchanges.len() == 2);
    assert_eq!(taken(&stand_in), 1);

    // One that is held back holds up neither others nor the end.
    stand_in.faults().inject(Fault::never().times(1));
    let held = std::net::TcpStream::connect(stand_in.address()).unwrap();
    io::Write::write_all(&mut &held, b"GET /a HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    stand_in.record().wait_until(|exchanges| exchanges.len() == 3);
    assert_eq!(get(&stand_in).unwrap().status, 200);
    let start = Instant::now();
    drop(stand_in);
    assert!(start.elapsed() < PATIENCE / 2);
}

#[test]
fn certificate_can_be_untrusted_for_a_while() {
    let authority = Authority::new();
    let issued = authority.issue(&Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]));
    let stand_in = StandIn::start(&issued, 0, count);
    assert!(stand_in.url().starts_with("https://127.0.0.1:"));
    let ask = || ask_tls(stand_in.address(), &authority.root_pem(), "GET /a", &[], "");
    assert_eq!(ask().unwrap().status, 200);
    stand_in.faults().inject(Fault::untrusted_certificate().times(1));
    let error = ask().unwrap_err();
    assert!(error.to_string().contains("certificate"), "{error}");
    assert_eq!(ask().unwrap().status, 200);
    assert_eq!(taken(&stand_in), 2);
}

#[test]
fn repeated_request_is_taken_twice_and_answered_once() {
    let stand_in = counter();
    stand_in.faults().inject(Fault::twice().changing());
    assert_eq!((get(&stand_in).unwrap().status, put(&stand_in).unwrap().status), (200, 200));
    assert_eq!((taken(&stand_in), stand_in.record().lines().len()), (3, 2));
}

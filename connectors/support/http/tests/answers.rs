//! What comes of a request, against a server that answers, fails and stays silent on demand.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "tests")]

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Context, Error, ErrorKind, Retry};
use deploy_http::{Client, ClientBuilder, Request, Response};
use deploy_testkit::stand_in::{Answer, Fault, HttpRequest, StandIn};
use deploy_testkit::{Authority, Issued, TlsServer};

const TOKEN: &str = "canary-token";
const LATER: Retry = Retry::Later;
const NEVER: Retry = Retry::Never;

/// An API that says what it was asked, and the directory of a client that trusts it.
struct World {
    directory: tempfile::TempDir,
    api: StandIn<()>,
    ca_file: PathBuf,
    context: Context,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new();
        let directory = tempfile::tempdir().unwrap();
        let ca_file = ca_file(directory.path(), &authority);
        let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
        Self { directory, api: StandIn::start(&issue(&authority), (), echo), ca_file, context }
    }

    fn builder(&self) -> ClientBuilder {
        let token = SecretString::from(TOKEN.to_owned());
        Client::builder(&self.api.url()).with_ca_file(self.ca_file.clone()).with_bearer_token(&token)
    }

    fn client(&self) -> Client {
        self.builder().build(&self.context).unwrap()
    }

    async fn put(&self) -> Result<Response, Error> {
        let body = SecretBytes::from(&b"canary-key"[..]);
        self.client().send(Request::put(&["v1", "key"]).with_query("secret", "canary-query").with_body("text/plain", body)).await
    }

    /// The error of a request that is answered like this.
    async fn refused(&self, answer: Answer) -> Error {
        self.api.faults().inject(Fault::answer(answer).times(1));
        self.put().await.unwrap().accept(&[200]).unwrap_err()
    }

    /// The error of a request that meets this.
    async fn failed(&self, fault: Fault) -> Error {
        self.api.faults().inject(fault.times(1));
        let error = self.put().await.unwrap_err();
        self.put().await.unwrap().accept(&[200]).unwrap();
        error
    }
}

fn echo(request: &HttpRequest, (): &mut ()) -> Answer {
    Answer::new(200).with_header("ETag", "\"7\"").with_json(&serde_json::json!({ "path": request.path }))
}

fn issue(authority: &Authority) -> Issued {
    authority.issue(&deploy_testkit::Request::new(&["localhost"]).with_ips(&[[127, 0, 0, 1].into()]))
}

fn ca_file(directory: &Path, authority: &Authority) -> PathBuf {
    let path = directory.join("ca.pem");
    std::fs::write(&path, authority.root_pem()).unwrap();
    path
}

/// Neither the token nor a key nor a query is in anything that an error can show.
#[track_caller]
fn keeps_secrets(error: &Error) {
    let shown = format!("{error} {error:?} {} {}", error.full_message(), error.next_step());
    assert!(!shown.contains("canary"), "{shown}");
}

#[track_caller]
fn is(error: &Error, kind: ErrorKind, retry: Retry) {
    assert_eq!((error.kind(), error.retry()), (kind, retry), "{}", error.full_message());
    keeps_secrets(error);
}

#[tokio::test]
async fn request_is_sent_as_it_is_written() {
    #[derive(serde::Serialize)]
    struct Body<'a> {
        certificate: &'a str,
    }
    let world = World::new();
    let request = Request::put(&["v1", "listeners", "a/b"]).with_header("If-Match", "\"7\"");
    let response = world.client().send(request.with_json(&Body { certificate: "www" })).await.unwrap();
    let response = response.accept(&[200]).unwrap();
    assert_eq!((response.status(), response.header("etag")), (200, Some("\"7\"")));
    assert_eq!(response.json::<serde_json::Value>().unwrap()["path"], "/v1/listeners/a%2Fb");

    let exchanges = world.api.record().exchanges();
    let request = &exchanges[0].request;
    assert_eq!((request.method.as_str(), request.body.as_slice()), ("PUT", &br#"{"certificate":"www"}"#[..]));
    for (name, value) in [
        ("authorization", "Bearer canary-token"),
        ("content-type", "application/json"),
        ("if-match", "\"7\""),
        ("user-agent", concat!("certdeploy/", env!("CARGO_PKG_VERSION"))),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    for absent in ["cookie", "referer", "accept-encoding"] {
        assert_eq!(request.header(absent), None, "{absent}");
    }
}

#[tokio::test]
async fn form_is_sent_as_a_form() {
    let world = World::new();
    let request = Request::post(&["token"]).with_form(&[("scope", "https://a.test/.default"), ("secret", "a b&c=ä")]);
    world.client().send(request).await.unwrap();
    let request = &world.api.record().exchanges()[0].request;
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert_eq!(request.body, b"scope=https%3A%2F%2Fa.test%2F.default&secret=a+b%26c%3D%C3%A4");
}

#[tokio::test]
async fn s1_user_and_password_are_sent_and_not_shown() {
    let world = World::new();
    let password = SecretString::from("open:canary".to_owned());
    let builder = Client::builder(&world.api.url()).with_ca_file(world.ca_file.clone()).with_basic_auth("Aladdin", &password);
    let client = builder.build(&world.context).unwrap();
    let said = Answer::new(400).with_body("no user has the password open:canary");
    world.api.faults().inject(Fault::answer(said));
    let error = client.send(Request::get(&["v1"])).await.unwrap().accept(&[200]).unwrap_err();
    is(&error, ErrorKind::PlanInvalid, NEVER);
    assert!(error.full_message().contains("[withheld]"), "{error}");
    let sent = world.api.record().exchanges()[0].request.header("authorization").unwrap().to_owned();
    assert_eq!(sent, "Basic QWxhZGRpbjpvcGVuOmNhbmFyeQ==");
}

#[tokio::test]
async fn p8_status_says_kind_and_retry() {
    let world = World::new();
    for (status, kind, retry) in [
        (400, ErrorKind::PlanInvalid, NEVER),
        (401, ErrorKind::Unauthenticated, NEVER),
        (403, ErrorKind::PermissionDenied, NEVER),
        (404, ErrorKind::PlanInvalid, NEVER),
        (408, ErrorKind::Timeout, LATER),
        (409, ErrorKind::Conflict, NEVER),
        (412, ErrorKind::Conflict, NEVER),
        (415, ErrorKind::PlanInvalid, NEVER),
        (422, ErrorKind::PlanInvalid, NEVER),
        (428, ErrorKind::Conflict, NEVER),
        (429, ErrorKind::RateLimited, LATER),
        (500, ErrorKind::Unavailable, LATER),
        (502, ErrorKind::Unavailable, LATER),
        (503, ErrorKind::Unavailable, LATER),
        (504, ErrorKind::Unavailable, LATER),
    ] {
        let error = world.refused(Answer::new(status).with_body("as the test wants it")).await;
        is(&error, kind, retry);
        assert!(error.to_string().contains(&format!("/v1/key answered {status}: as the test wants it")), "{error}");
    }
    assert!(world.api.record().exchanges().iter().all(|exchange| !exchange.taken), "each was sent once");
}

#[tokio::test]
async fn p8_retry_after_is_honoured_in_both_forms() {
    let world = World::new();
    for (status, kind) in [(429, ErrorKind::RateLimited), (503, ErrorKind::Unavailable)] {
        let error = world.refused(Answer::new(status).with_header("Retry-After", "17")).await;
        is(&error, kind, Retry::After(Duration::from_secs(17)));
        let dated = Answer::new(status)
            .with_header("Date", "Wed, 21 Oct 2015 07:28:00 GMT")
            .with_header("Retry-After", "Wed, 21 Oct 2015 07:29:00 GMT");
        is(&world.refused(dated).await, kind, Retry::After(Duration::from_secs(60)));
    }
}

#[tokio::test]
async fn p8_refusal_names_the_permission_and_withholds_secrets() {
    let world = World::new();
    let key = issue(&Authority::new()).key_pem;
    let body = serde_json::json!({ "permission": "certificates.write", "for": TOKEN, "sent": key });
    let error = world.refused(Answer::new(403).with_json(&body)).await;
    is(&error, ErrorKind::PermissionDenied, NEVER);
    let shown = error.full_message();
    assert!(shown.contains("certificates.write") && shown.contains("withheld"), "{shown}");
    let line = key.lines().nth(1).unwrap();
    assert!(!shown.contains(&line[..16]), "{shown}");
}

#[tokio::test]
async fn s1_token_of_a_session_is_sent_and_withheld() {
    let world = World::new();
    let [password, session] = ["canary-password", "canary-session"].map(|text| SecretString::from(text.to_owned()));
    let client = world.builder().with_withheld(&password).build(&world.context).unwrap();
    let client = client.with_secret_header("x-session", &session).unwrap();
    let said = format!("{}, {} and {TOKEN} are wrong", password.expose(), session.expose());
    world.api.faults().inject(Fault::answer(Answer::new(403).with_body(said)).times(1));
    let answer = client.send(Request::delete(&["v1", "sessions", session.expose()])).await.unwrap();
    let sent = &world.api.record().exchanges()[0].request;
    assert_eq!(sent.header("x-session"), Some(session.expose()));
    assert!(sent.header("authorization").is_some(), "what was there before");
    let shown = format!("{client:?} {answer:?} {}", answer.error().full_message());
    assert!(shown.contains("are wrong") && !shown.contains("canary"), "{shown}");
    assert!(!answer.without_body().error().full_message().contains("are wrong"));
}

#[tokio::test]
async fn p8_what_is_missing_is_named_by_the_connector() {
    let world = World::new();
    world.api.faults().inject(Fault::answer(Answer::new(404)).times(2));
    let error = world.put().await.unwrap().accept_existing(&[200], "the listener `front`").unwrap_err();
    is(&error, ErrorKind::ConfigurationInvalid, NEVER);
    assert!(error.to_string().starts_with("the listener `front` does not exist"), "{error}");
    assert_eq!(world.put().await.unwrap().accept(&[200, 404]).unwrap().status(), 404);
}

#[tokio::test]
async fn p8_dropped_connection_can_be_tried_again() {
    let world = World::new();
    for fault in [Fault::close_before(), Fault::close_after()] {
        is(&world.failed(fault).await, ErrorKind::Unavailable, LATER);
    }
    assert_eq!(world.api.record().exchanges().len(), 4, "nothing is retried here");
}

#[tokio::test]
async fn p8_answer_that_does_not_come_is_a_timeout() {
    let world = World::new();
    let client = world.builder().with_timeout(Duration::from_millis(300)).build(&world.context).unwrap();
    for fault in [Fault::never(), Fault::late(Duration::from_secs(5))] {
        world.api.faults().inject(fault.times(1));
        let error = client.send(Request::get(&["v1"])).await.unwrap_err();
        is(&error, ErrorKind::Timeout, LATER);
    }
}

#[tokio::test]
async fn p8_nobody_there_can_be_tried_again() {
    let world = World::new();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let client = Client::builder(&format!("http://{address}")).with_ca_file(world.ca_file.clone());
    let error = client.build(&world.context).unwrap().send(Request::get(&["v1"])).await.unwrap_err();
    is(&error, ErrorKind::Unavailable, LATER);
    assert!(error.full_message().contains("refused"), "{}", error.full_message());
}

#[tokio::test]
async fn p9_untrusted_certificate_is_refused_before_anything_is_sent() {
    let world = World::new();
    let error = world.failed(Fault::untrusted_certificate()).await;
    is(&error, ErrorKind::Unauthenticated, NEVER);
    assert!(error.next_step().contains("CA file"), "{}", error.next_step());
    assert_eq!(world.api.record().exchanges().len(), 1, "the second one only");
}

#[tokio::test]
async fn p9_certificate_of_another_name_is_refused() {
    let authority = Authority::new();
    let directory = tempfile::tempdir().unwrap();
    let other = authority.issue(&deploy_testkit::Request::new(&["other.test"]));
    let api = StandIn::start(&other, (), echo);
    let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
    let client = Client::builder(&api.url()).with_ca_file(ca_file(directory.path(), &authority)).build(&context).unwrap();
    let error = client.send(Request::get(&["v1"])).await.unwrap_err();
    is(&error, ErrorKind::Unauthenticated, NEVER);
    assert!(api.record().exchanges().is_empty());
}

#[tokio::test]
async fn p9_authority_that_is_not_named_is_not_trusted() {
    // The roots of this machine, and those of another authority.
    let world = World::new();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = ca_file(elsewhere.path(), &Authority::new());
    let error = world.builder().with_ca_file(other).build(&world.context).unwrap().send(Request::get(&["v1"])).await;
    is(&error.unwrap_err(), ErrorKind::Unauthenticated, NEVER);
    match world.builder().with_ca_file(None).build(&world.context) {
        Ok(client) => is(&client.send(Request::get(&["v1"])).await.unwrap_err(), ErrorKind::Unauthenticated, NEVER),
        Err(error) => is(&error, ErrorKind::ConfigurationInvalid, NEVER),
    }
    assert!(world.api.record().exchanges().is_empty());
}

#[tokio::test]
async fn p8_server_that_wants_a_client_certificate_or_speaks_no_tls_is_not_tried_again() {
    let world = World::new();
    let authority = Authority::new();
    let ca_file = ca_file(world.directory.path(), &authority);
    let strict = TlsServer::builder().certificate(&issue(&authority)).require_client_certificate(&authority).start();
    let plain = StandIn::start_plain((), echo);
    for (address, kind) in [(strict.address(), ErrorKind::Unauthenticated), (plain.address(), ErrorKind::Unavailable)] {
        let client = Client::builder(&format!("https://{address}")).with_ca_file(ca_file.clone()).build(&world.context).unwrap();
        let error = client.send(Request::get(&["v1"])).await.unwrap_err();
        is(&error, kind, NEVER);
    }
}

#[tokio::test]
async fn redirect_is_reported_and_not_followed() {
    let world = World::new();
    let elsewhere = world.api.url();
    let error = world.refused(Answer::new(307).with_header("Location", format!("{elsewhere}/other?canary"))).await;
    is(&error, ErrorKind::ConfigurationInvalid, NEVER);
    assert!(error.to_string().contains(&format!("{elsewhere}/other ")), "{error}");
    assert_eq!(world.api.record().exchanges().len(), 1);
}

#[tokio::test]
async fn answer_that_is_too_long_is_refused_announced_or_not() {
    let world = World::new();
    let client = world.builder().with_body_limit(100).build(&world.context).unwrap();
    world.api.faults().inject(Fault::answer(Answer::new(200).with_body(vec![b'a'; 100])).times(1));
    assert_eq!(client.send(Request::get(&["v1"])).await.unwrap().body().len(), 100);
    world.api.faults().inject(Fault::answer(Answer::new(200).with_body(vec![b'a'; 101])).times(1));
    is(&client.send(Request::get(&["v1"])).await.unwrap_err(), ErrorKind::Unavailable, NEVER);

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::task::spawn_blocking(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        assert!(stream.read(&mut [0; 4096]).unwrap() > 0);
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        // It goes on until the client hangs up.
        while stream.write_all(&[b'a'; 1024]).is_ok() {}
    });
    let client = Client::builder(&format!("http://{address}")).with_ca_file(world.ca_file.clone()).build(&world.context).unwrap();
    is(&client.send(Request::get(&["v1"])).await.unwrap_err(), ErrorKind::Unavailable, NEVER);
    drop(client);
    server.await.unwrap();
}

#[tokio::test]
async fn s1_answer_that_is_no_json_shows_nothing_of_itself() {
    let world = World::new();
    world.api.faults().inject(Fault::answer(Answer::new(200).with_body("\"canary\"")).times(1));
    let response = world.put().await.unwrap();
    assert!(!format!("{response:?} {:?}", world.client()).contains("canary"));
    is(&response.json::<u32>().unwrap_err(), ErrorKind::Unavailable, NEVER);
}

#[test]
fn ca_file_has_to_hold_certificates() {
    let world = World::new();
    let empty = world.directory.path().join("empty.pem");
    std::fs::write(&empty, "no certificate\n").unwrap();
    for path in [empty, world.directory.path().join("missing.pem"), world.directory.path().to_owned()] {
        let error = world.builder().with_ca_file(path).build(&world.context).unwrap_err();
        is(&error, ErrorKind::ConfigurationInvalid, NEVER);
    }
}

/// Answers one request on a unix socket with what it was asked.
fn unix_echo(path: &Path) -> std::thread::JoinHandle<String> {
    let listener = std::os::unix::net::UnixListener::bind(path).unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = vec![0; 4096];
        let length = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap();
        String::from_utf8_lossy(&request[..length]).into_owned()
    })
}

#[tokio::test]
async fn a_unix_socket_is_asked_without_the_name_of_a_host() {
    let world = World::new();
    let socket = world.directory.path().join("api.sock");
    let client = || Client::builder("http://localhost").with_unix_socket(&socket).build(&world.context).unwrap();
    let error = client().send(Request::get(&["config"])).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    assert!(error.full_message().contains("api.sock cannot be reached"), "{}", error.full_message());

    let asked = unix_echo(&socket);
    assert_eq!(client().send(Request::get(&["config"])).await.unwrap().status(), 200);
    let asked = asked.join().unwrap().to_ascii_lowercase();
    assert!(asked.starts_with("get /config http/1.1\r\n") && asked.contains("\r\nhost: \r\n"), "{asked}");
}

#[tokio::test]
async fn an_etag_after_the_body_is_a_header_like_any_other() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4096];
        assert_ne!(stream.read(&mut request).unwrap(), 0);
        let head = b"HTTP/1.1 200 OK\r\nTrailer: ETag\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
        stream.write_all(head).unwrap();
        stream.write_all(b"2\r\nok\r\n0\r\nEtag: \"7\"\r\nX-Other: no\r\n\r\n").unwrap();
    });
    let world = World::new();
    let answer = Client::builder(&url).build(&world.context).unwrap().send(Request::get(&["config"])).await.unwrap();
    server.join().unwrap();
    assert_eq!((answer.body().expose(), answer.header("etag"), answer.header("x-other")), (&b"ok"[..], Some("\"7\""), None));
}

#[tokio::test]
async fn p9_the_name_that_is_asked_for_can_be_another_than_that_of_the_url() {
    let authority = Authority::new();
    let issued = authority.issue(&deploy_testkit::Request::new(&["api.example.test"]));
    let api = StandIn::start(&issued, (), echo);
    let directory = tempfile::tempdir().unwrap();
    let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
    let named = |name: Option<&str>| {
        Client::builder(&api.url()).with_ca_pem(authority.root_pem()).with_server_name(name.map(str::to_owned)).build(&context)
    };
    let ask = |client: Client| async move { client.send(Request::get(&["v1"])).await };
    assert_eq!(ask(named(Some("api.example.test")).unwrap()).await.unwrap().status(), 200);
    let host = api.record().exchanges()[0].request.header("host").map(str::to_owned);
    assert_eq!(host, Some(api.address().to_string()), "`Host` stays that of the URL");
    for wrong in [None, Some("other.example.test")] {
        is(&ask(named(wrong).unwrap()).await.unwrap_err(), ErrorKind::Unauthenticated, NEVER);
    }
    assert_eq!(named(Some("10.0.0.1")).unwrap_err().kind(), ErrorKind::ConfigurationInvalid);
}

/// As WinRM's listeners and many appliances have one.
#[tokio::test]
async fn p9_a_certificate_that_signed_itself_can_stand_in_the_ca_file() {
    let [ours, another] = [(); 2].map(|()| rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap());
    let server = TlsServer::builder().start();
    server.set_pem(&ours.cert.pem(), &ours.signing_key.serialize_pem()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
    let trusting =
        |pem: String| Client::builder(&format!("https://{}", server.address())).with_ca_pem(pem).build(&context).unwrap();
    // The server speaks no HTTP, but it speaks TLS with us until then.
    is(&trusting(ours.cert.pem()).send(Request::get(&["v1"])).await.unwrap_err(), ErrorKind::Unavailable, LATER);
    is(&trusting(another.cert.pem()).send(Request::get(&["v1"])).await.unwrap_err(), ErrorKind::Unauthenticated, NEVER);
}

#[tokio::test]
async fn p9_a_remote_that_wants_a_certificate_gets_it() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let server = TlsServer::builder().certificate(&issue(&authority)).require_client_certificate(&clients).start();
    let directory = tempfile::tempdir().unwrap();
    let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
    let build = |key: &str| {
        let ours = clients.issue(&deploy_testkit::Request::new(&["certdeploy"]));
        let key = if key.is_empty() { ours.key_pem.clone() } else { key.to_owned() };
        let builder = Client::builder(&format!("https://{}", server.address())).with_ca_pem(authority.root_pem());
        builder.with_client_certificate(ours.fullchain_pem, SecretBytes::from(key.as_bytes())).build(&context)
    };
    // The server speaks no HTTP, but it speaks TLS with us until then.
    let error = build("").unwrap().send(Request::get(&["v1"])).await.unwrap_err();
    is(&error, ErrorKind::Unavailable, LATER);
    for key in ["canary", &Authority::new().issue(&deploy_testkit::Request::new(&["other"])).key_pem] {
        is(&build(key).unwrap_err(), ErrorKind::ConfigurationInvalid, NEVER);
    }
}

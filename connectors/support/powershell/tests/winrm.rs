//! WinRM, by a stand-in that other people's clients agree with.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod windows;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use deploy_core::{Certificate, Context, Error, ErrorKind, Retry};
use deploy_powershell::{
    Connection, FileWrite, FindBindings, FindCertificates, FoundCertificates, Import, Mark, ReadFiles, Script, Standing, Store,
    WriteFiles, command,
};
use deploy_testkit::stand_in::{Answer, Fault};
use deploy_testkit::{Authority, Issued, KeyKind, Request, installed, provider, write_pair};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::windows::{Host, PASSWORD, Serves, Switch, USER, Windows, quota_fault};

struct World {
    root: TempDir,
    windows: Windows,
    connection: Connection,
    context: Context,
}

impl World {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        let host = Host::new(Serves::Named("live]".to_owned()), Script::NameCertificates);
        let windows = Windows::start(root.path(), host);
        let connection = Connection::Winrm(windows.settings());
        let context = Context::new(root.path().join("state"), provider()).with_timeout(Duration::from_secs(20));
        Self { root, windows, connection, context }
    }

    async fn find(&self) -> Result<FoundCertificates, Error> {
        let call = FindCertificates { store: "My", mark: "[certdeploy:", thumbprints: &[] };
        self.connection.call(&call, &self.context).await.map(|answer| answer.result)
    }

    async fn fails(&self) -> Error {
        self.find().await.unwrap_err()
    }

    fn shells(&self) -> usize {
        self.windows.with(|host| host.open_shells())
    }
}

fn issue(kind: KeyKind) -> (Issued, Certificate) {
    let issued = Authority::new().issue(&Request::new(&["www.example.test"]).key(kind));
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &issued.key_pem.as_bytes().into()).unwrap();
    (issued, certificate)
}

#[test]
fn clients_of_others_agree_with_the_stand_in_and_see_what_ours_sees() {
    let python: PathBuf = installed("windows/bin/python").unwrap_or_else(|missing| panic!("{missing}"));
    let world = World::start();
    let (issued, _) = issue(KeyKind::EcP256);
    let thumbprint = world.windows.with(|host| host.import("My", &issued, "Gr\u{fc}n [certdeploy:front live]"));
    let mut script = Command::new(python)
        .arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/clients.py"))
        .args([world.windows.winrm.address().port().to_string(), world.windows.ca_file().display().to_string(), USER.to_owned()])
        .env_clear()
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let arguments = json!({ "store": "My", "mark": "[certdeploy:", "thumbprints": [] });
    let line = json!({ "script": Script::FindCertificates.text(), "nonce": "7", "arguments": arguments });
    let input = format!("{PASSWORD}\n{line}\n{}\n", json!(command()));
    script.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = script.wait_with_output().unwrap();
    assert!(output.status.success());
    let mut seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    let script = seen["script"].take();
    assert_eq!(
        seen,
        json!({
            "pywinrm sort": ["a\nb\n", 0],
            "pywinrm exit": 7,
            "pywinrm unknown": 1,
            "pywinrm gone": "w:InvalidSelectors",
            "pywinrm wrong password": "refused",
            "pypsrp sort": ["c\nd\n", 0],
            "pypsrp echo": ["two words\r\n", 0],
            "pypsrp after the end": 232,
            "pypsrp gone": 2_150_858_843_u64,
            "pypsrp wrong password": "refused",
            "script": null,
        })
    );
    let ours = tokio::runtime::Runtime::new().unwrap().block_on(world.find()).unwrap();
    let theirs = &script[0]["result"]["certificates"][0];
    assert_eq!((&script[1], &theirs["thumbprint"]), (&json!(0), &json!(thumbprint)));
    assert_eq!(theirs["sha256"], json!(ours.certificates[0].sha256));
    assert_eq!(theirs["friendly_name"], json!(ours.certificates[0].friendly_name));
    assert_eq!((ours.certificates.len(), ours.certificates[0].sha256.as_str()), (1, issued.fingerprint.as_str()));
    assert_eq!(world.shells(), 0, "everybody closed what they opened");
}

#[tokio::test(flavor = "multi_thread")]
async fn input_goes_in_pieces_below_the_limit_of_an_envelope() {
    let world = World::start();
    world.windows.with(|host| host.folders.insert("D:\\x".to_owned()));
    let content = "QUJD".repeat(100_000);
    let file = FileWrite { path: "D:\\x\\big".to_owned(), from: None, content: Some(content.clone().into()) };
    world.connection.call(&WriteFiles { files: vec![file] }, &world.context).await.unwrap();
    let sends = world
        .windows
        .winrm
        .record()
        .exchanges()
        .into_iter()
        .filter(|exchange| String::from_utf8_lossy(&exchange.request.body).contains("/shell/Send<"));
    let lengths: Vec<usize> = sends.map(|exchange| exchange.request.body.len()).collect();
    assert!(lengths.len() > 3 && lengths.iter().all(|length| *length < 150 * 1024), "{lengths:?}");
    let read = world.connection.call(&ReadFiles { paths: &["D:\\x\\big".to_owned()] }, &world.context).await.unwrap();
    assert_eq!(read.result.files[0].content.as_ref().unwrap().expose(), content, "output is read to its end as well");
    assert_eq!(world.shells(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_faults_of_winrm_have_the_kind_that_their_cause_has() {
    let world = World::start();
    let error = |fault: Fault| async {
        world.windows.winrm.faults().inject(fault.times(1));
        let error = world.fails().await;
        world.windows.winrm.faults().heal();
        (error.kind(), error.retry())
    };
    let wait = Retry::After(Duration::from_secs(2));
    assert_eq!(error(Fault::answer(quota_fault())).await, (ErrorKind::RateLimited, wait));
    assert_eq!(error(Fault::answer(Answer::new(401))).await, (ErrorKind::Unauthenticated, Retry::Never));
    assert_eq!(error(Fault::answer(Answer::new(500).with_body("busy"))).await, (ErrorKind::Unavailable, Retry::Later));
    assert_eq!(error(Fault::answer(Answer::new(200).with_body("<html/>"))).await, (ErrorKind::Unavailable, Retry::Never));
    let denied = windows::fault_answer("w:AccessDenied", 5, "Access is denied.");
    assert_eq!(error(Fault::answer(denied)).await, (ErrorKind::PermissionDenied, Retry::Never));
    // In the middle of a command.
    let gone = windows::fault_answer("w:InvalidSelectors", 2_150_858_843, "The shell was not found.");
    assert_eq!(error(Fault::answer(gone).after(3)).await, (ErrorKind::Unavailable, Retry::Later));
    assert_eq!(error(Fault::close_after().after(2)).await, (ErrorKind::Unavailable, Retry::Later));
    assert_eq!(error(Fault::untrusted_certificate()).await, (ErrorKind::Unauthenticated, Retry::Never));
    world.find().await.unwrap();
    assert_eq!(world.shells(), 0, "a shell is deleted whatever became of its command");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_to_another_message_is_none() {
    let world = World::start();
    let other = Answer::new(200).with_body(
        r#"<s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope" xmlns:a="http://schemas.xmlsoap.org/ws/2004/08/addressing"><s:Header><a:RelatesTo>uuid:00000000-0000-0000-0000-000000000000</a:RelatesTo></s:Header><s:Body/></s:Envelope>"#,
    );
    world.windows.winrm.faults().inject(Fault::answer(other).times(1));
    assert!(world.fails().await.to_string().contains("another message"));
    let entity = r#"<!DOCTYPE x [<!ENTITY a "b">]><s:Envelope xmlns:s="http://www.w3.org/2003/05/soap-envelope"><s:Body>&a;</s:Body></s:Envelope>"#;
    world.windows.winrm.faults().inject(Fault::answer(Answer::new(200).with_body(entity)).times(1));
    assert!(world.fails().await.to_string().contains("no XML"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cannot_run_the_scripts_says_why() {
    let world = World::start();
    world.windows.with(|host| host.constrained = true);
    assert!(world.fails().await.to_string().contains("constrained language mode"));
    world.windows.with(|host| (host.constrained, host.elevated) = (false, false));
    let error = world.fails().await;
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.next_step().contains("Administrators"), "{}", error.next_step());
    world.windows.with(|host| (host.elevated, host.has_iis) = (true, false));
    let error = world.connection.call(&FindBindings {}, &world.context).await.unwrap_err();
    assert!(error.to_string().contains("WebAdministration"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_windows_gets_a_pfx_that_it_can_read_and_every_kind_of_key_is_held_by_cng() {
    for (build, kind) in
        [(14_393, KeyKind::EcP256), (14_393, KeyKind::Rsa2048), (17_763, KeyKind::Rsa2048), (26_100, KeyKind::EcP384)]
    {
        let world = World::start();
        world.windows.with(|host| host.build = build);
        let (issued, certificate) = issue(kind);
        let mark = Mark::new("front");
        let store = Store { connection: &world.connection, name: "My", mark: &mark };
        let found = store.find(&[], &world.context).await.unwrap();
        let how = Import { friendly_name: "Shop", exportable: false, read_access: &[] };
        store.import(&certificate, &how, &found, &world.context).await.unwrap();
        let found = store.find(&[], &world.context).await.unwrap();
        assert_eq!(found.ours[0].0.sha256, issued.fingerprint, "{build} {kind:?}");
        assert_eq!(found.ours[0].1.standing, Standing::Staged);
        world.windows.with(|host| {
            let stored = host.stores["My"].values().next().unwrap();
            assert_eq!((stored.provider.as_str(), stored.exportable), ("CNG", false), "{build} {kind:?}");
        });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_neither_key_nor_password_is_on_a_command_line_or_in_a_script() {
    let world = World::start();
    let (issued, certificate) = issue(KeyKind::EcP256);
    let mark = Mark::new("front");
    let store = Store { connection: &world.connection, name: "My", mark: &mark };
    let found = store.find(&[], &world.context).await.unwrap();
    let how = Import { friendly_name: "", exportable: true, read_access: &[] };
    store.import(&certificate, &how, &found, &world.context).await.unwrap();
    let exchanges = world.windows.winrm.record().exchanges();
    let commands = exchanges.iter().filter(|exchange| String::from_utf8_lossy(&exchange.request.body).contains("CommandLine"));
    let mut lines: Vec<String> = commands
        .map(|exchange| {
            let text = String::from_utf8_lossy(&exchange.request.body).into_owned();
            text.split("<rsp:CommandLine>").nth(1).unwrap().to_owned()
        })
        .collect();
    lines.dedup();
    assert_eq!(lines.len(), 1, "the same command for every script: {lines:?}");
    let shown = format!("{:?} {exchanges:?}", world.connection);
    assert!(!shown.contains(PASSWORD) && !shown.contains(&issued.key_pem), "{shown}");
    assert!(!world.root.path().join("state").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_takes_the_place_of_an_account() {
    let world = World::start();
    world.windows.with(|host| host.by_certificate = true);
    assert_eq!(world.fails().await.kind(), ErrorKind::Unauthenticated, "a password does not count");
    let (issued, _) = issue(KeyKind::EcP256);
    let (certificate, key) = write_pair(world.root.path(), &issued);
    let mut settings = world.windows.settings();
    (settings.user, settings.password) = (None, None);
    settings.client_certificate = Some(certificate);
    settings.client_key = Some(format!("file:{}", key.display()).parse().unwrap());
    let connection = Connection::Winrm(settings);
    connection.check().unwrap();
    connection.call(&FindCertificates { store: "My", mark: "[", thumbprints: &[] }, &world.context).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_script_whose_answer_was_lost_can_be_run_again() {
    let world = World::start();
    let (_, certificate) = issue(KeyKind::EcP256);
    let mark = Mark::new("front");
    let store = Store { connection: &world.connection, name: "My", mark: &mark };
    let found = store.find(&[], &world.context).await.unwrap();
    let how = Import { friendly_name: "", exportable: false, read_access: &[] };
    for done in [false, true] {
        world.windows.with(|host| host.switch = Switch::Dropped { done });
        let error = store.import(&certificate, &how, &found, &world.context).await.unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Later));
        world.windows.with(Host::heal);
    }
    store.import(&certificate, &how, &found, &world.context).await.unwrap();
    assert_eq!(store.find(&[], &world.context).await.unwrap().ours.len(), 1, "one key");
}

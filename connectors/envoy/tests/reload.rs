//! What Envoy notices, what it refuses, and what it counts.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "tests that start a real Envoy")]

mod server;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use deploy_core::probe::Endpoint;
use deploy_core::secret::SecretBytes;
use deploy_core::settings::{CommandSetting, Period, ReloadSetting};
use deploy_core::{Certificate, Connector as _, Context, ErrorKind, Job, Layout, Live, Outcome, Report, Target, deploy};
use deploy_envoy::{Envoy, EnvoySettings};
use deploy_testkit::conformance::NAME;
use deploy_testkit::{Authority, Issued, Request, observe};
use serde_json::json;
use tempfile::TempDir;

use crate::server::{SECRET, Server};

async fn run(server: &Server, settings: &EnvoySettings, issued: &Issued) -> Report {
    let target: Arc<dyn Target> = Envoy::build("front", settings.clone()).unwrap().into();
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &SecretBytes::from(issued.key_pem.as_bytes()));
    let context = Context::new(server.directory.join("state"), deploy_testkit::provider());
    deploy(&[Job::new("front", Envoy::KIND, target, Arc::new(certificate.unwrap()))], &context).await.remove(0)
}

fn settings(server: &Server) -> EnvoySettings {
    let mut settings = EnvoySettings::new(&server.sds, SECRET);
    settings.reload = ReloadSetting::Command(CommandSetting::Arguments(server.start_command("wanted.json")));
    settings.verify = Some(vec![Endpoint::new(server.address.to_string()).with_server_name(NAME)]);
    settings.verify_timeout = Period::new(Duration::from_secs(2));
    settings
}

fn authority() -> (Authority, [Issued; 3]) {
    let authority = Authority::new();
    let issued = [(); 3].map(|()| authority.issue(&Request::new(&[NAME])));
    (authority, issued)
}

/// A started Envoy, with the first certificate.
async fn serving(directory: &TempDir, first: &Issued, change: impl Fn(&Server, &mut EnvoySettings)) -> (Server, EnvoySettings) {
    let server = Server::prepare(directory.path()).unwrap();
    let mut settings = settings(&server);
    change(&server, &mut settings);
    let report = run(&server, &settings, first).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    (server, settings)
}

fn served(server: &Server) -> Option<String> {
    observe::served_fingerprint(server.address, Some(NAME)).ok()
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !is_so() {
        assert!(Instant::now() < end, "never came true: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Writes beside a file, and renames.
fn replace(path: &Path, text: &str) {
    let new = path.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, path).unwrap();
}

/// The secret with this certificate and this key.
fn secret(certificate: &Issued, key: &Issued) -> String {
    json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": SECRET,
        "tls_certificate": {
            "certificate_chain": { "inline_string": certificate.fullchain_pem },
            "private_key": { "inline_string": key.key_pem },
        },
    }]})
    .to_string()
}

fn in_files(server: &Server, settings: &mut EnvoySettings) {
    let tls = server.directory.join("tls");
    (settings.fullchain, settings.key) = (Some(tls.join("www.crt")), Some(tls.join("www.key")));
}

/// The layout `generation`, with the secret that an operator has written for it.
fn in_generations(server: &Server, settings: &mut EnvoySettings) {
    let directory = server.directory.join("generations");
    fs::create_dir(&directory).unwrap();
    let [fullchain, key] = ["www.crt", "www.key"].map(|name| directory.join("current").join(name));
    let secret = json!({ "resources": [{
        "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        "name": SECRET,
        "tls_certificate": {
            "certificate_chain": { "filename": fullchain },
            "private_key": { "filename": key },
            "watched_directory": { "path": directory },
        },
    }]});
    fs::write(&server.sds, secret.to_string()).unwrap();
    (settings.fullchain, settings.key) = (Some(fullchain), Some(key));
    settings.layout = Layout::Generation(directory);
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_notices_a_rename_and_not_what_is_written_in_place() {
    let directory = TempDir::new().unwrap();
    let (_, [first, second, third]) = authority();
    let (server, settings) = serving(&directory, &first, |_, _| {}).await;
    fs::write(&server.sds, secret(&second, &second)).unwrap();
    assert_eq!(run(&server, &settings, &third).await.outcome, Outcome::Changed);
    assert_eq!(served(&server), Some(third.fingerprint));
    assert_eq!(server.counter("update_attempt"), 2, "the first one and the last one");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_does_not_match_is_refused_and_the_old_one_goes_on() {
    let directory = TempDir::new().unwrap();
    let (_, [first, second, third]) = authority();
    let (server, settings) = serving(&directory, &first, |_, _| {}).await;
    replace(&server.sds, &secret(&second, &third));
    wait_for("the secret is refused", || server.counter("update_rejected") == 1);
    assert_eq!(served(&server), Some(first.fingerprint));
    assert_eq!(run(&server, &settings, &third).await.outcome, Outcome::Changed);
    assert_eq!(served(&server), Some(third.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_waits_for_its_key_in_files_of_their_own() {
    let directory = TempDir::new().unwrap();
    let (_, [first, second, third]) = authority();
    let (server, settings) = serving(&directory, &first, in_files).await;
    let failed = server.counter("key_rotation_failed");
    replace(settings.fullchain.as_deref().unwrap(), &second.fullchain_pem);
    wait_for("the half of a pair is refused", || server.counter("key_rotation_failed") > failed);
    assert_eq!(served(&server), Some(first.fingerprint));
    replace(settings.key.as_deref().unwrap(), &second.key_pem);
    wait_for("the pair is served", || served(&server).as_ref() == Some(&second.fingerprint));

    let report = run(&server, &settings, &third).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert!(report.changed_files.contains(&server.sds), "the secret was not written anew: {report:?}");
    assert_eq!(served(&server), Some(third.fingerprint.clone()));
    assert_eq!(run(&server, &settings, &third).await.outcome, Outcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_generation_is_exactly_one_update() {
    let directory = TempDir::new().unwrap();
    let (_, issued) = authority();
    let (server, settings) = serving(&directory, &issued[0], in_generations).await;
    for (number, renewed) in [(2, &issued[1]), (3, &issued[2])] {
        let report = run(&server, &settings, renewed).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_eq!(served(&server), Some(renewed.fingerprint.clone()));
        assert_eq!(server.counter("ssl_context_update_by_sds"), number);
    }
    assert_eq!(server.counter("key_rotation_failed"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn generations_that_envoy_would_not_notice_are_refused_with_the_lines_to_write() {
    let directory = TempDir::new().unwrap();
    let (_, [first, ..]) = authority();
    let server = Server::prepare(directory.path()).unwrap();
    let mut settings = settings(&server);
    in_generations(&server, &mut settings);
    let text = fs::read_to_string(&server.sds).unwrap();
    for unwatched in [text.replace("watched_directory", "comment"), text.replace("current/www.key", "www.key"), String::new()] {
        fs::write(&server.sds, unwatched).unwrap();
        let error = run(&server, &settings, &first).await.error.unwrap();
        assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid, "{error:?}");
        assert!(error.next_step().contains("watched_directory: {path: "), "{}", error.next_step());
    }
    fs::remove_file(&server.sds).unwrap();
    assert!(run(&server, &settings, &first).await.error.unwrap().next_step().contains("watched_directory"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_can_be_called_yaml_and_is_closed_to_others_again() {
    let directory = TempDir::new().unwrap();
    let (_, [first, second, _]) = authority();
    let (server, settings) = serving(&directory, &first, |server, settings| {
        settings.sds = server.sds.with_extension("yaml");
        server.configure("wanted.json", &settings.sds).unwrap();
    })
    .await;
    fs::set_permissions(&settings.sds, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(run(&server, &settings, &second).await.outcome, Outcome::Changed);
    assert_eq!(served(&server), Some(second.fingerprint));
    assert_eq!(fs::metadata(&settings.sds).unwrap().mode() & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_behind_a_link_is_refused() {
    let directory = TempDir::new().unwrap();
    let (_, [first, ..]) = authority();
    let server = Server::prepare(directory.path()).unwrap();
    fs::write(directory.path().join("real.json"), "{}").unwrap();
    std::os::unix::fs::symlink(directory.path().join("real.json"), &server.sds).unwrap();
    let report = run(&server, &settings(&server), &first).await;
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_the_bootstrap_names_are_not_watched_and_a_renewal_is_rolled_back() {
    let directory = TempDir::new().unwrap();
    let (_, [first, second, _]) = authority();
    let (server, settings) = serving(&directory, &first, |server, settings| {
        in_files(server, settings);
        let [fullchain, key] = [&settings.fullchain, &settings.key].map(|path| json!({ "filename": path }));
        let pair = json!({ "tls_certificates": [{ "certificate_chain": fullchain, "private_key": key }] });
        server.configure_tls("wanted.json", &pair).unwrap();
    })
    .await;
    let report = run(&server, &settings, &second).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(served(&server), Some(first.fingerprint));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_interface_says_whether_the_certificate_is_loaded() {
    let directory = TempDir::new().unwrap();
    let (_, [first, second, third]) = authority();
    let (server, mut settings) = serving(&directory, &first, |server, settings| settings.admin = Some(server.admin_url())).await;
    assert_eq!(run(&server, &settings, &second).await.outcome, Outcome::Changed);

    // It takes its secret from another file, and nobody looks at what is served.
    let elsewhere = directory.path().join("elsewhere.json");
    fs::write(&elsewhere, secret(&second, &second)).unwrap();
    server.configure("wanted.json", &elsewhere).unwrap();
    server.start("wanted.json");
    (settings.verify, settings.verify_timeout) = (Some(Vec::new()), Period::new(Duration::from_millis(300)));
    let report = run(&server, &settings, &third).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    let error = report.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ReloadFailed, "{error:?}");
    assert!(error.full_message().contains("does not list the new certificate"), "{}", error.full_message());
    assert_eq!(fs::read_to_string(&server.sds).unwrap(), secret(&second, &second));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_interface_is_asked_over_a_unix_socket_too() {
    let directory = TempDir::new().unwrap();
    let (_, [first, second, _]) = authority();
    let socket = directory.path().join("admin.sock");
    let (server, settings) = serving(&directory, &first, |server, settings| {
        server.configure_admin_socket("wanted.json", &socket).unwrap();
        settings.admin = Some(socket.display().to_string());
    })
    .await;
    assert_eq!(run(&server, &settings, &second).await.outcome, Outcome::Changed);
}

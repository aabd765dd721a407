//! All renderings of a certificate at once, deployed by the engine to a server that reads some of them.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use deploy_core::secret::SecretBytes;
use deploy_core::{Certificate, Context, Job, Live, Outcome, Registry, Report, deploy};
use deploy_files::Files;
use deploy_testkit::tree::{Tree, assert_same};
use deploy_testkit::{Authority, Issued, Order, ReloadingServer, Request, ScriptedCommand, observe};
use serde_json::{Value, json};

const NAME: &str = "www.example.test";

async fn deployed(settings: &Value, issued: &Issued, context: &Context) -> Report {
    let target = Registry::new().with::<Files>().get("files").unwrap().build("front", settings.clone()).unwrap();
    let key = SecretBytes::from(issued.key_pem.as_bytes());
    let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
    deploy(&[Job::new("front", "files", Arc::from(target), Arc::new(certificate))], context).await.remove(0)
}

fn assert_holds(tls: &Path, issued: &Issued) {
    let Issued { leaf_pem, chain_pem, fullchain_pem, key_pem, .. } = issued;
    let expected = [
        ("leaf", leaf_pem.clone(), 0o644),
        ("chain", chain_pem.clone(), 0o644),
        ("fullchain", fullchain_pem.clone(), 0o644),
        ("key", key_pem.clone(), 0o640),
        ("combined", format!("{key_pem}{leaf_pem}{chain_pem}"), 0o600),
        ("short", format!("{leaf_pem}{key_pem}"), 0o600),
    ];
    for (name, text, mode) in expected {
        let path = tls.join(name);
        assert_eq!(fs::read_to_string(&path).unwrap(), text.replace('\r', ""), "{name}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, mode, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn f1_f3_every_rendering_is_renewed_together_and_goes_back_together() {
    let directory = tempfile::tempdir().unwrap();
    let tls = directory.path().join("tls");
    fs::create_dir(&tls).unwrap();
    let combined = tls.join("combined");
    let server = ReloadingServer::start(directory.path(), &combined, &combined).unwrap();
    let reload = ScriptedCommand::new(directory.path(), "reload", &server.reload_command());
    let settings = json!({
        "files": [
            { "path": combined, "content": "combined" },
            { "path": tls.join("short"), "content": "combined", "order": ["leaf", "key"] },
            { "path": tls.join("key"), "content": "key", "mode": "0640" },
            { "path": tls.join("leaf"), "content": "leaf" },
            { "path": tls.join("fullchain"), "content": "fullchain" },
            { "path": tls.join("chain"), "content": "chain" },
        ],
        "reload": reload.command(),
        "verify": [{ "connect": server.address().to_string(), "server_name": NAME }],
        "verify_timeout": "5s",
    });
    let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
    let authority = Authority::new();
    let [first, second, third] = [(); 3].map(|()| authority.issue(&Request::new(&[NAME])));
    let served = || observe::served_fingerprint(server.address(), Some(NAME)).unwrap();

    for issued in [&first, &second] {
        let report = deployed(&settings, issued, &context).await;
        assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
        assert_holds(&tls, issued);
        assert_eq!(served(), issued.fingerprint);
    }

    let runs = reload.runs();
    let report = deployed(&settings, &second, &context).await;
    assert_eq!((report.outcome, reload.runs()), (Outcome::Unchanged, runs), "{report:?}");

    reload.order(Order::FailOnce);
    let report = deployed(&settings, &third, &context).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_holds(&tls, &second);
    assert_eq!(served(), second.fingerprint);
}

#[tokio::test(flavor = "multi_thread")]
async fn f2_a_checker_that_refuses_the_new_files_leaves_everything_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let tls = directory.path().join("tls");
    fs::create_dir(&tls).unwrap();
    let (fullchain, key) = (tls.join("fullchain"), tls.join("key"));
    let validate = ScriptedCommand::new(directory.path(), "validate", &["true".to_owned()]);
    let settings = json!({
        "files": [{ "path": key, "content": "key" }, { "path": fullchain, "content": "fullchain" }],
        "validate": validate.command(),
        "verify": [],
    });
    let context = Context::new(directory.path().join("state"), deploy_testkit::provider());
    let authority = Authority::new();
    let [first, second] = [(); 2].map(|()| authority.issue(&Request::new(&[NAME])));
    assert_eq!(deployed(&settings, &first, &context).await.outcome, Outcome::Changed);

    // It sees the new files only where they stand at their final paths, in the engine's private view.
    let before = Tree::of(&tls).visible();
    validate.accept_only_as_now(&[fullchain, key]);
    let report = deployed(&settings, &second, &context).await;
    assert_eq!((report.outcome, report.live), (Outcome::Rejected, Live::Unchanged), "{report:?}");
    assert_same(&before, &Tree::of(&tls).visible());

    validate.heal();
    assert_eq!(deployed(&settings, &second, &context).await.outcome, Outcome::Changed);
}

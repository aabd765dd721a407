//! What a vault gets, and what comes of it, with stand-ins that are checked by Microsoft's own clients.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod cloud;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use deploy_azure_keyvault::AzureKeyvault;
use deploy_core::secret::{SecretBytes, SecretString};
use deploy_core::{Certificate, Connector as _, Context, ErrorKind, Job, Outcome, Registry, Report, Retry, Rung, Target, deploy};
use deploy_testkit::stand_in::Fault;
use deploy_testkit::{Authority, Issued, KeyKind, Request, installed, own_address, provider};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cloud::{CLIENT, Cloud, NAME, Pair, RESOURCE, TENANT, private_file, refusal};

const HOST: &str = "www.example.test";

struct World {
    root: TempDir,
    authority: Authority,
    cloud: Cloud,
    variables: BTreeMap<String, String>,
}

impl World {
    fn start() -> Self {
        let root = TempDir::new().unwrap();
        Self { cloud: Cloud::start(root.path()), authority: Authority::new(), root, variables: BTreeMap::new() }
    }

    fn issue(&self) -> Issued {
        self.authority.issue(&Request::new(&[HOST]))
    }

    async fn deploy(&self, settings: &Value, issued: &Issued) -> Report {
        let target = build(settings.clone()).unwrap();
        let key = SecretBytes::from(issued.key_pem.as_bytes());
        let certificate = Certificate::from_pem(issued.fullchain_pem.as_bytes(), &key).unwrap();
        let variables = self.variables.clone();
        let context = Context::new(self.root.path().join("state"), provider())
            .with_variables(move |name| variables.get(name).cloned().map(SecretString::from));
        deploy(&[Job::new("front", AzureKeyvault::KIND, Arc::from(target), Arc::new(certificate))], &context).await.remove(0)
    }

    /// Somebody has imported this by hand, with this policy and these tags.
    fn by_hand(&self, issued: &Issued, policy: Value, tags: &[(&str, &str)]) {
        let pair = Pair { fullchain: issued.fullchain_pem.clone(), key: issued.key_pem.clone() };
        let tags = tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        self.cloud.vault.with_state(|vault| vault.add(NAME, pair, policy, tags, true));
    }

    /// Fingerprints of all versions, the oldest first.
    fn versions(&self) -> Vec<String> {
        let versions = self.cloud.vault.with_state(|vault| vault.names.get(NAME).map(|named| named.versions.clone()));
        versions.unwrap_or_default().iter().map(|version| deploy_testkit::pki::fingerprint(&version.pair.leaf())).collect()
    }

    fn policy(&self) -> Value {
        self.cloud.vault.with_state(|vault| vault.names[NAME].policy.clone())
    }

    fn tags(&self) -> BTreeMap<String, String> {
        self.cloud.vault.with_state(|vault| vault.names[NAME].versions.last().unwrap().tags.clone())
    }
}

fn build(settings: Value) -> Result<Box<dyn Target>, String> {
    let target = Registry::new().with::<AzureKeyvault>().get(AzureKeyvault::KIND).unwrap().build("front", settings);
    target.map_err(|error| format!("{}: {error}", error.path))
}

/// The policy of a certificate that others fetch as PEM.
fn policy_by_hand() -> Value {
    json!({
        "key_props": { "exportable": false, "kty": "RSA", "key_size": 2048, "reuse_key": true },
        "secret_props": { "contentType": "application/x-pem-file" },
        "x509_props": { "subject": "CN=old.example.test", "validity_months": 6 },
        "issuer": { "name": "Unknown" },
        "lifetime_actions": [{ "trigger": { "days_before_expiry": 20 }, "action": { "action_type": "EmailContacts" } }],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn stand_ins_and_connector_agree_with_microsofts_clients() {
    let python = installed("azure/bin/python").unwrap_or_else(|error| panic!("{error}"));
    let world = World::start();
    let (ours, theirs) = (world.issue(), world.issue());
    assert_eq!(world.deploy(&world.cloud.settings(), &ours).await.outcome, Outcome::Changed);
    world.cloud.login.with_state(|login| "federated-token-of-the-test".clone_into(&mut login.assertion));
    private_file(&world.cloud.file("federated"), "federated-token-of-the-test");
    let order = json!({
        "vault": world.cloud.vault.url(),
        "login": world.cloud.login.url(),
        "metadata": world.cloud.metadata.url(),
        "tenant": TENANT,
        "client_id": CLIENT,
        "secret": world.cloud.secret,
        "token_file": world.cloud.file("federated"),
        "ca_file": world.cloud.file("ca.pem"),
        "name": NAME,
        "pair": { "fullchain": theirs.fullchain_pem, "key": theirs.key_pem },
    });
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/client.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(order.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    let deployed = json!({
        "fingerprint": ours.fingerprint, "content_type": "application/x-pkcs12", "exportable": true, "key_type": "EC",
        "enabled": true, "tags": { "managed-by": "certdeploy", "certdeploy-target": "front" },
    });
    assert_eq!(told["deployed"], deployed);
    assert_eq!((&told["by_machine"], &told["by_workload"]), (&json!(ours.fingerprint), &json!(ours.fingerprint)));
    assert_eq!(told["in_pem"]["fingerprint"], json!(theirs.fingerprint));
    assert_eq!((&told["pem_as_pkcs12"], &told["modern"]), (&json!([400, "BadParameter"]), &json!([400, "BadParameter"])));
    assert_eq!((&told["versions"], &told["policy"]), (&json!(2), &json!("application/x-pkcs12")));
    assert_eq!(told["wrong_secret"], json!(true));
    assert_eq!(told["deleted"], json!([404, "CertificateNotFound"]));
    assert_eq!((&told["taken"], &told["recovered"]), (&json!([409, "ObjectIsDeletedButRecoverable"]), &json!("in-pem")));
    // What they have imported is what the connector sees.
    assert_eq!(told["in_pkcs12"]["fingerprint"], json!(theirs.fingerprint));
    let report = world.deploy(&world.cloud.settings(), &theirs).await;
    assert_eq!((report.outcome, world.versions().len()), (Outcome::Unchanged, 2), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_stand_in_keeps_policy_form_and_tags_of_others() {
    let world = World::start();
    world.by_hand(&world.issue(), policy_by_hand(), &[("team", "edge"), ("managed-by", "somebody")]);
    let mut settings = world.cloud.settings();
    settings["tags"] = json!({ "renewed": "yes" });
    let new = world.issue();
    let report = world.deploy(&settings, &new).await;
    assert_eq!((report.outcome, report.validated), (Outcome::Changed, Rung::V5), "published, and nobody looked: {report:?}");
    let policy = world.policy();
    assert_eq!(policy["secret_props"]["contentType"], "application/x-pem-file");
    assert_eq!(policy["key_props"], json!({ "exportable": false, "kty": "EC", "crv": "P-256", "reuse_key": true }));
    assert_eq!(policy["lifetime_actions"], policy_by_hand()["lifetime_actions"]);
    let tags = [("team", "edge"), ("renewed", "yes"), ("managed-by", "certdeploy"), ("certdeploy-target", "front")];
    assert_eq!(world.tags(), tags.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    // What the settings say counts more.
    settings["content_type"] = json!("pkcs12");
    settings["exportable"] = json!(true);
    let rsa = world.authority.issue(&Request::new(&[HOST]).key(KeyKind::Rsa2048));
    assert_eq!(world.deploy(&settings, &rsa).await.outcome, Outcome::Changed);
    let policy = world.policy();
    assert_eq!(policy["secret_props"]["contentType"], "application/x-pkcs12");
    assert_eq!(policy["key_props"], json!({ "exportable": true, "kty": "RSA", "key_size": 2048, "reuse_key": true }));
}

#[tokio::test(flavor = "multi_thread")]
async fn stand_in_that_renews_the_certificate_itself_is_left_alone() {
    let world = World::start();
    let mut policy = policy_by_hand();
    policy["issuer"]["name"] = json!("DigiCert");
    policy["lifetime_actions"][0]["action"]["action_type"] = json!("AutoRenew");
    world.by_hand(&world.issue(), policy, &[]);
    let error = world.deploy(&world.cloud.settings(), &world.issue()).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::PlanInvalid);
    assert!(error.full_message().contains("DigiCert") && error.next_step().contains("AutoRenew"), "{}", error.full_message());
    assert_eq!(world.versions().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn name_that_was_deleted_is_refused_with_advice_or_recovered_in_the_stand_in() {
    let world = World::start();
    let (old, new) = (world.issue(), world.issue());
    let mut settings = world.cloud.settings();
    world.deploy(&settings, &old).await;
    world.cloud.vault.with_state(|vault| {
        let named = vault.names.remove(NAME).unwrap();
        vault.deleted.insert(NAME.to_owned(), named);
        vault.recovery_takes = 3;
    });
    let report = world.deploy(&settings, &new).await;
    let error = report.error.unwrap();
    assert_eq!((report.outcome, error.kind()), (Outcome::Rejected, ErrorKind::ConfigurationInvalid));
    assert!(error.next_step().contains("recover_deleted"), "{}", error.next_step());
    settings["recover_deleted"] = json!(true);
    let report = world.deploy(&settings, &new).await;
    assert_eq!(report.outcome, Outcome::Changed, "{report:?}");
    assert_eq!(world.versions(), [old.fingerprint, new.fingerprint], "with all of its versions");
    let lines = world.cloud.vault.record().lines();
    let recovered = lines.iter().position(|line| line.starts_with("POST /deletedcertificates")).unwrap();
    let early = lines[recovered + 1..].iter().take_while(|line| line.ends_with("404")).count();
    assert_eq!(early, 3, "it was waited for: {lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn name_that_nobody_may_look_for_among_the_deleted_is_found_out_by_the_import_into_the_stand_in() {
    let world = World::start();
    world.by_hand(&world.issue(), policy_by_hand(), &[]);
    world.cloud.vault.with_state(|vault| {
        let named = vault.names.remove(NAME).unwrap();
        vault.deleted.insert(NAME.to_owned(), named);
    });
    let forbidden = Fault::answer(refusal(403, "Forbidden", "no get on deleted certificates", Some("AccessDenied")));
    world.cloud.vault.faults().inject(forbidden.below("/deletedcertificates"));
    let error = world.deploy(&world.cloud.settings(), &world.issue()).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid, "{}", error.full_message());
    assert!(error.next_step().contains("purge"), "{}", error.next_step());
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_way_back_in_the_stand_in_is_a_new_version_of_the_previous_pair() {
    let world = World::start();
    let settings = world.cloud.settings();
    let (old, new) = (world.issue(), world.issue());
    world.deploy(&settings, &old).await;
    let mut verified = settings.clone();
    verified["verify"] = json!([{ "connect": own_address().to_string(), "server_name": HOST }]);
    verified["verify_timeout"] = json!("100ms");
    let report = world.deploy(&verified, &new).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(world.versions(), [old.fingerprint.clone(), new.fingerprint, old.fingerprint]);
    let current = world.cloud.vault.with_state(|vault| vault.names[NAME].versions.last().unwrap().clone());
    assert_eq!((current.pair.key.trim(), current.enabled), (old.key_pem.trim(), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_first_version_in_the_stand_in_cannot_be_taken_back_and_the_error_says_what_is_current() {
    let world = World::start();
    let mut settings = world.cloud.settings();
    settings["verify"] = json!([{ "connect": own_address().to_string(), "server_name": HOST }]);
    settings["verify_timeout"] = json!("100ms");
    let report = world.deploy(&settings, &world.issue()).await;
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{report:?}");
    assert!(report.error.unwrap().full_message().contains("the new version stays current"));
    let enabled = world.cloud.vault.with_state(|vault| vault.names[NAME].versions[0].enabled);
    assert!(enabled, "whoever asks for the current version gets one");
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_stand_in_behind_a_network_that_drops_and_delays_has_one_version_in_the_end() {
    let world = World::start();
    let faults = world.cloud.vault.faults();
    faults.inject(Fault::late(Duration::from_millis(30)).reading());
    faults.inject(Fault::close_before().changing().times(1));
    faults.inject(Fault::close_after().changing().times(1));
    world.cloud.login.faults().inject(Fault::close_after().times(1));
    let issued = world.issue();
    let report = world.deploy(&world.cloud.settings(), &issued).await;
    assert_eq!((report.outcome, world.versions()), (Outcome::Changed, vec![issued.fingerprint]), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn disabled_version_in_the_stand_in_is_followed_by_one_that_is_not() {
    let world = World::start();
    let (settings, issued) = (world.cloud.settings(), world.issue());
    world.deploy(&settings, &issued).await;
    world.cloud.vault.with_state(|vault| vault.names.get_mut(NAME).unwrap().versions[0].enabled = false);
    assert_eq!(world.deploy(&settings, &issued).await.outcome, Outcome::Changed);
    assert_eq!(world.versions().len(), 2);
    assert_eq!(world.deploy(&settings, &issued).await.outcome, Outcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn s1_stand_in_gets_nothing_before_it_has_asked_for_a_token_of_its_own() {
    let world = World::start();
    let mut settings = world.cloud.settings();
    settings.as_object_mut().unwrap().remove("resource");
    let error = world.deploy(&settings, &world.issue()).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid, "127.0.0.1 is not below vault.azure.net");
    assert!(error.full_message().contains(RESOURCE) && error.next_step().contains("resource"), "{}", error.full_message());
    assert_eq!(world.cloud.tokens.given(), 0);
    // The first request of a deployment has neither a body nor a token.
    world.deploy(&world.cloud.settings(), &world.issue()).await;
    let first = world.cloud.vault.record().exchanges().remove(1).request;
    assert_eq!((first.method.as_str(), first.header("authorization"), first.body.len()), ("GET", None, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn token_is_fetched_once_for_a_deployment_and_again_where_the_stand_in_does_not_take_it() {
    let world = World::start();
    let settings = world.cloud.settings();
    world.deploy(&settings, &world.issue()).await;
    assert_eq!(world.cloud.tokens.given(), 1);
    // Those that are about to end are not used.
    world.cloud.login.with_state(|login| login.holds = Duration::from_secs(200));
    world.deploy(&settings, &world.issue()).await;
    assert!(world.cloud.tokens.given() > 2);
    world.cloud.login.with_state(|login| login.holds = Duration::from_secs(3600));
    // Continuous access evaluation: the next one has to have certain claims.
    let given = world.cloud.tokens.given();
    world.cloud.vault.with_state(|vault| vault.wants_claims = Some(r#"{"access_token":{"nbf":{"value":"1"}}}"#.to_owned()));
    assert_eq!(world.deploy(&settings, &world.issue()).await.outcome, Outcome::Changed);
    assert_eq!(world.cloud.tokens.given(), given + 2);
    let claims = world.cloud.login.with_state(|login| login.claims.clone());
    assert_eq!(claims.as_deref(), Some(r#"{"access_token":{"nbf":{"value":"1"}}}"#));
}

#[tokio::test(flavor = "multi_thread")]
async fn stand_in_that_takes_no_token_at_all_ends_it() {
    let world = World::start();
    world.cloud.login.with_state(|login| login.holds = Duration::ZERO);
    let error = world.deploy(&world.cloud.settings(), &world.issue()).await.error.unwrap();
    assert_eq!((error.kind(), error.retry()), (ErrorKind::Unauthenticated, Retry::Never), "{}", error.full_message());
    assert_eq!(world.cloud.tokens.given(), 2, "once more, and no further");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_credentials_gets_a_token_of_the_stand_ins() {
    let mut world = World::start();
    private_file(&world.cloud.file("federated"), "federated-token-of-the-test\n");
    world.cloud.login.with_state(|login| "federated-token-of-the-test".clone_into(&mut login.assertion));
    let (metadata, login) = (world.cloud.metadata.url(), world.cloud.login.url());
    let federated = world.cloud.file("federated").display().to_string();
    let app_service = format!("{metadata}/msi/token");
    let machine = json!({ "managed_identity": {} });
    let named = json!({ "managed_identity": { "client_id": CLIENT } });
    let workload = json!({ "workload_identity": { "client_id": CLIENT, "tenant": TENANT, "token_file": federated.clone() } });
    let cases: [(Value, &[(&str, &str)]); 6] = [
        (machine.clone(), &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &metadata)]),
        (named.clone(), &[("AZURE_POD_IDENTITY_AUTHORITY_HOST", &metadata)]),
        (machine, &[("IDENTITY_ENDPOINT", &app_service), ("IDENTITY_HEADER", "header-of-app-service")]),
        (named, &[("IDENTITY_ENDPOINT", &app_service), ("IDENTITY_HEADER", "header-of-app-service")]),
        (workload, &[]),
        (
            json!({ "workload_identity": {} }),
            &[
                ("AZURE_CLIENT_ID", CLIENT),
                ("AZURE_TENANT_ID", TENANT),
                ("AZURE_FEDERATED_TOKEN_FILE", &federated),
                ("AZURE_AUTHORITY_HOST", &login),
            ],
        ),
    ];
    for (number, (credentials, variables)) in cases.into_iter().enumerate() {
        let mut settings = world.cloud.settings();
        settings["credentials"] = credentials;
        if number == 5 {
            settings.as_object_mut().unwrap().remove("authority");
        }
        world.variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let report = world.deploy(&settings, &world.issue()).await;
        assert_eq!(report.outcome, Outcome::Changed, "case {number}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_the_stand_ins_refuse_say_why() {
    let mut world = World::start();
    private_file(&world.cloud.file("wrong"), "canary-of-a-wrong-secret");
    let wrong = format!("file:{}", world.cloud.file("wrong").display());
    world.variables = [("AZURE_POD_IDENTITY_AUTHORITY_HOST".to_owned(), world.cloud.metadata.url())].into();
    for (credentials, kind, says) in [
        (json!({ "client_secret": { "client_id": CLIENT, "secret": wrong } }), ErrorKind::Unauthenticated, "AADSTS7000215"),
        (json!({ "managed_identity": { "client_id": "another" } }), ErrorKind::Unauthenticated, "Identity not found"),
        (json!({ "workload_identity": {} }), ErrorKind::ConfigurationInvalid, "AZURE_CLIENT_ID"),
        (json!({ "workload_identity": { "client_id": CLIENT } }), ErrorKind::ConfigurationInvalid, "AZURE_FEDERATED_TOKEN_FILE"),
    ] {
        let mut settings = world.cloud.settings();
        settings["credentials"] = credentials.clone();
        let error = world.deploy(&settings, &world.issue()).await.error.unwrap();
        assert_eq!((error.kind(), error.retry()), (kind, Retry::Never), "{credentials}: {}", error.full_message());
        let shown = format!("{} {}", error.full_message(), error.next_step());
        assert!(shown.contains(says) && !shown.contains("canary") && !shown.contains("Trace ID"), "{shown}");
    }
    for (variables, says) in [
        (
            [("IDENTITY_ENDPOINT", "http://localhost:40342/token"), ("IMDS_ENDPOINT", "http://localhost:40342")].as_slice(),
            "Azure Arc",
        ),
        (
            &[("IDENTITY_ENDPOINT", "https://localhost"), ("IDENTITY_HEADER", "a"), ("IDENTITY_SERVER_THUMBPRINT", "b")],
            "Service Fabric",
        ),
    ] {
        world.variables = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let mut settings = world.cloud.settings();
        settings["credentials"] = json!({ "managed_identity": {} });
        let error = world.deploy(&settings, &world.issue()).await.error.unwrap();
        assert!(error.full_message().contains(says), "{}", error.full_message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn firewall_of_the_stand_in_is_told_from_a_missing_permission() {
    let world = World::start();
    let message = "Client address is not authorized and caller is not a trusted service.";
    world.cloud.vault.faults().inject(Fault::answer(refusal(403, "Forbidden", message, Some("ForbiddenByFirewall"))));
    let error = world.deploy(&world.cloud.settings(), &world.issue()).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert!(error.next_step().contains("address"), "{}", error.next_step());
}

#[tokio::test(flavor = "multi_thread")]
async fn old_api_of_the_stand_in_is_not_asked_to_keep_the_order_of_the_chain() {
    for version in ["2016-10-01", "7.4", "2025-07-01"] {
        let world = World::start();
        let mut settings = world.cloud.settings();
        settings["api_version"] = json!(version);
        assert_eq!(world.deploy(&settings, &world.issue()).await.outcome, Outcome::Changed, "{version}");
        let body = world.cloud.vault.record().changing().remove(0).request.body;
        let body: Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body.get("preserveCertOrder"), (version == "2025-07-01").then_some(&json!(true)), "{version}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn azure_cli_is_asked_for_a_token_for_the_stand_in() {
    let mut world = World::start();
    let az = world.root.path().join("az");
    // It logs in by itself, and is strict about how it is asked.
    let script = format!(
        r#"#!/bin/sh
if [ "$*" != "account get-access-token --output json --resource {RESOURCE} --tenant {TENANT}" ]; then
    echo "unknown arguments: $*" >&2
    exit 2
fi
if [ "$HOME" != /srv/somebody ] || [ "$AZURE_CONFIG_DIR" != /srv/somebody/elsewhere ]; then
    echo "Please run 'az login' to setup account." >&2
    exit 1
fi
echo '{{"accessToken": "TOKEN", "expiresOn": "2100-01-01 01:00:00.000000", "expires_on": 4102444800, "tokenType": "Bearer"}}'
"#
    );
    let token = world.cloud.tokens.give(RESOURCE, Duration::from_secs(3600));
    std::fs::write(&az, script.replace("TOKEN", &token)).unwrap();
    std::fs::set_permissions(&az, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut settings = world.cloud.settings();
    settings["credentials"] = json!({ "azure_cli": { "program": az, "config_directory": "/srv/somebody/elsewhere" } });
    let error = world.deploy(&settings, &world.issue()).await.error.unwrap();
    assert_eq!(error.kind(), ErrorKind::Unauthenticated);
    assert!(error.full_message().contains("az login") && !error.full_message().contains(&token), "{}", error.full_message());
    world.variables = [("HOME".to_owned(), "/srv/somebody".to_owned())].into();
    assert_eq!(world.deploy(&settings, &world.issue()).await.outcome, Outcome::Changed);
}

#[test]
fn a7_settings_that_cannot_be_right_are_refused_by_name() {
    let with = |name: &str, value: Value| {
        let mut settings = json!({
            "vault": "https://example.vault.azure.net", "certificate_name": "www", "credentials": { "managed_identity": {} },
        });
        settings[name] = value;
        build(settings).map(drop).unwrap_err()
    };
    let secret = json!({ "client_secret": { "client_id": "a", "secret": "env:SECRET" } });
    for (name, value, says) in [
        ("vault", json!("http://example.vault.azure.net"), "vault"),
        ("vault", json!("example.vault.azure.net"), "vault"),
        ("certificate_name", json!("www.example.com"), "certificate_name"),
        ("certificate_name", json!(""), "certificate_name"),
        ("credentials", json!({}), "credentials"),
        ("credentials", json!({ "client_secret": { "client_id": "a", "secret": "the secret itself" } }), "credentials"),
        ("credentials", json!({ "client_secret": { "client_id": "", "secret": "env:SECRET" } }), "client_id"),
        ("credentials", json!({ "managed_identity": { "client_id": "a", "object_id": "b" } }), "managed_identity"),
        ("credentials", json!({ "workload_identity": { "token_file": "token" } }), "token_file"),
        ("authority", json!("login.microsoftonline.com"), "authority"),
        ("resource", json!("vault.azure.net"), "resource"),
        ("api_version", json!("7.4&x=y"), "api_version"),
        ("ca_file", json!("ca.pem"), "ca_file"),
        ("tags", (0..14).map(|number| (number.to_string(), json!("a"))).collect(), "tags"),
    ] {
        let error = with(name, value.clone());
        assert!(error.contains(says) && !error.contains("secret itself"), "{name} = {value}: {error}");
    }
    let elsewhere = json!({ "vault": "https://vault.internal.example", "certificate_name": "www", "credentials": secret });
    assert!(build(elsewhere).map(drop).unwrap_err().contains("authority"));
}

#[tokio::test(flavor = "multi_thread")]
async fn key_that_no_vault_takes_is_refused_before_anybody_is_asked() {
    let world = World::start();
    let issued = world.authority.issue(&Request::new(&[HOST]).key(KeyKind::Ed25519));
    let report = world.deploy(&world.cloud.settings(), &issued).await;
    assert_eq!(report.error.unwrap().kind(), ErrorKind::MaterialRejected);
    assert!(world.cloud.vault.record().exchanges().is_empty());
}

//! What becomes of Secrets, with a stand-in for the cluster: traps, and the way back from each.
#![allow(clippy::unwrap_used, clippy::panic, clippy::disallowed_methods, reason = "a test, with a world of its own")]

mod cluster;
mod world;

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use deploy_core::{Deployment, ErrorKind, Live, Outcome, Recovery};
use deploy_testkit::Issued;
use deploy_testkit::stand_in::{Answer, Fault};
use deploy_testkit::tree::Tree;
use serde_json::{Value, json};

use crate::cluster::{NAMESPACE, SECRET, body, pair};
use crate::world::World;

const PATH: &str = "/api/v1/namespaces/web/secrets";

/// A Secret of somebody else's with more in it than ours.
fn laden(kind: &str, issued: &Issued, immutable: bool) -> Value {
    let entries = [pair(issued).as_slice(), &[("theirs.txt", b"of somebody else")]].concat();
    let mut body = body(kind, &entries);
    body["metadata"] = json!({ "labels": { "team": "edge" }, "annotations": { "note": "keep" } });
    if immutable {
        body["immutable"] = json!(true);
    }
    body
}

/// Everything of others is where it was.
fn is_laden(secret: &Value) {
    let metadata = (&secret["metadata"]["labels"], &secret["metadata"]["annotations"]);
    assert_eq!(metadata, (&json!({ "team": "edge" }), &json!({ "note": "keep" })), "P4");
    assert_eq!(secret["data"]["theirs.txt"], STANDARD.encode("of somebody else"), "P4");
}

#[tokio::test(flavor = "multi_thread")]
async fn p4_entries_labels_and_annotations_of_others_survive() {
    let world = World::new();
    let old = world.issue();
    world.cluster.put_with(NAMESPACE, SECRET, "kubectl-create", &laden("kubernetes.io/tls", &old, false));
    let settings = json!({ "force_conflicts": true });
    for _ in 0..2 {
        let new = world.issue();
        world.changes(settings.clone(), &new).await;
        world.has(NAMESPACE, &new);
        is_laden(&world.cluster.secret(NAMESPACE, SECRET).unwrap());
        assert_eq!(world.deploy(settings.clone(), &new).await.outcome, Outcome::Unchanged);
    }
    // Once they are certdeploy's, they need not be forced any more.
    world.changes(json!({}), &world.issue()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_what_another_manager_owns_is_refused_with_its_name() {
    let (world, old) = World::with_secret_of("helm");
    let error = world.refused(json!({})).await;
    assert_eq!(error.kind(), ErrorKind::Conflict, "{}", error.full_message());
    assert!(
        error.full_message().contains("\"helm\"") && error.full_message().contains(".data.tls.key"),
        "{}",
        error.full_message()
    );
    assert!(error.next_step().contains("force_conflicts"), "{}", error.next_step());
    world.has(NAMESPACE, &old);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_controller_writes_again_is_never_taken_over() {
    let world = World::new();
    let theirs = world.issue();
    let mut managed = body("kubernetes.io/tls", &pair(&theirs));
    managed["metadata"] = json!({ "annotations": { "cert-manager.io/certificate-name": "www" } });
    let mut owned = body("kubernetes.io/tls", &pair(&theirs));
    let owner = json!({ "apiVersion": "x/v1", "kind": "ExternalSecret", "name": "www", "uid": "1", "controller": true });
    owned["metadata"] = json!({ "ownerReferences": [owner] });
    for (body, named) in [(managed, "cert-manager, for its Certificate www"), (owned, "the ExternalSecret www")] {
        world.cluster.put_with(NAMESPACE, SECRET, "a-controller", &body);
        let error = world.refused(json!({ "force_conflicts": true, "recreate": true })).await;
        assert_eq!(error.kind(), ErrorKind::PlanInvalid);
        assert!(error.full_message().contains(named), "{}", error.full_message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_type_or_an_immutable_secret_is_changed_only_where_it_may_be_made_anew() {
    for (kind, immutable, said) in [("Opaque", false, "has the type Opaque"), ("kubernetes.io/tls", true, "is immutable")] {
        let world = World::new();
        let old = world.issue();
        world.cluster.put_with(NAMESPACE, SECRET, "helm", &laden(kind, &old, immutable));
        let error = world.refused(json!({ "force_conflicts": true })).await;
        assert_eq!(error.kind(), ErrorKind::PlanInvalid);
        assert!(error.full_message().contains(said) && error.next_step().contains("recreate"), "{}", error.full_message());

        for _ in 0..2 {
            let new = world.issue();
            world.changes(json!({ "recreate": true }), &new).await;
            world.has(NAMESPACE, &new);
            let secret = world.cluster.secret(NAMESPACE, SECRET).unwrap();
            is_laden(&secret);
            assert_eq!((&secret["type"], secret["immutable"] == true), (&json!("kubernetes.io/tls"), immutable), "{secret}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_immutable_and_right_already_is_let_alone() {
    let world = World::new();
    let new = world.issue();
    world.cluster.put_with(NAMESPACE, SECRET, "helm", &laden("kubernetes.io/tls", &new, true));
    let before = world.cluster.secret(NAMESPACE, SECRET);
    for settings in [json!({ "namespaces": ["web", "shop"] }), json!({ "namespaces": ["web", "shop"], "recreate": true })] {
        let report = world.deploy(settings, &new).await;
        assert!(report.error.is_none(), "{report:?}");
        world.has("shop", &new);
        assert_eq!(before, world.cluster.secret(NAMESPACE, SECRET), "P4");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_that_cannot_go_back_does_not_keep_the_others() {
    let world = World::new();
    let settings = json!({ "namespaces": ["shop", "web"], "verify": world.verified(), "verify_timeout": "500ms" });
    let old = world.issue();
    world.changes(settings.clone(), &old).await;
    world.cluster.freeze(true);
    // After the dry run and the switch.
    let refused = Answer::new(422).with_json(&json!({ "kind": "Status", "message": "told to refuse", "code": 422 }));
    let path = PATH.replace("web", "shop");
    world.cluster.faults().inject(Fault::answer(refused).changing().below(path).after(2));
    let report = world.deploy(settings, &world.issue()).await;
    assert_eq!(report.outcome, Outcome::RollbackFailed, "{report:?}");
    assert!(report.error.unwrap().full_message().contains("told to refuse"));
    world.has("web", &old);
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_one_that_was_made_anew_comes_back_with_its_type_and_its_own_key() {
    let world = World::new();
    let old = world.issue();
    world.cluster.put_with(NAMESPACE, SECRET, "helm", &laden("Opaque", &old, true));
    let before = world.cluster.state();
    world.cluster.freeze(true);
    let settings = json!({ "recreate": true, "verify": world.verified(), "verify_timeout": "500ms" });
    let report = world.deploy(settings, &world.issue()).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(before, world.cluster.state());
    world.has(NAMESPACE, &old);
}

#[tokio::test(flavor = "multi_thread")]
async fn p2_answers_that_are_lost_while_one_is_made_anew_lose_nothing_else() {
    for fault in [Fault::close_after(), Fault::close_before(), Fault::twice()] {
        for request in 1..4 {
            let world = World::new();
            world.cluster.put_with(NAMESPACE, SECRET, "helm", &laden("Opaque", &world.issue(), false));
            world.cluster.faults().inject(fault.clone().changing().below(PATH).after(request - 1).times(1));
            let new = world.issue();
            world.changes(json!({ "recreate": true }), &new).await;
            world.has(NAMESPACE, &new);
            is_laden(&world.cluster.secret(NAMESPACE, SECRET).unwrap());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn p5_one_that_cannot_be_made_again_comes_back() {
    let world = World::new();
    world.cluster.put_with(NAMESPACE, SECRET, "helm", &laden("Opaque", &world.issue(), false));
    let before = world.cluster.state();
    // After the dry run and the deletion.
    let refused = Answer::new(422).with_json(&json!({ "kind": "Status", "message": "told to refuse", "code": 422 }));
    world.cluster.faults().inject(Fault::answer(refused).changing().below(PATH).after(2).times(1));
    let report = world.deploy(json!({ "recreate": true }), &world.issue()).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(before, world.cluster.state());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_one_that_is_not_seen_served_is_taken_away_again() {
    let world = World::new();
    world.cluster.freeze(true);
    let settings = json!({ "verify": world.verified(), "verify_timeout": "500ms" });
    let report = world.deploy(settings, &world.issue()).await;
    assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
    assert_eq!(world.cluster.secret(NAMESPACE, SECRET), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opaque_secret_has_entries_of_the_operators_choice() {
    let world = World::new();
    let settings = json!({ "type": "Opaque", "fullchain": "server.pem", "key": "server.key", "ca": "issuers.pem" });
    let new = world.issue();
    world.changes(settings.clone(), &new).await;
    let entry = |name| world.cluster.entry(NAMESPACE, SECRET, name).map(|value| String::from_utf8(value).unwrap());
    let (fullchain, chain) = (entry("server.pem").unwrap(), entry("issuers.pem").unwrap());
    assert!(fullchain.ends_with(&chain) && fullchain.len() > chain.len() && !chain.is_empty());
    assert!(entry("server.key").unwrap().contains("PRIVATE KEY"));
    assert_eq!(world.cluster.secret(NAMESPACE, SECRET).unwrap()["type"], "Opaque");
    assert_eq!(world.deploy(settings, &new).await.outcome, Outcome::Unchanged);
    // What is not wanted any more goes, and nothing else.
    world.changes(json!({ "type": "Opaque", "fullchain": "server.pem", "key": "server.key" }), &world.issue()).await;
    assert_eq!(entry("issuers.pem"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a2_plan_asks_for_a_dry_run_and_changes_nothing() {
    let world = World::new();
    world.changes(json!({}), &world.issue()).await;
    let before = world.cluster.state();
    world.cluster.record().clear();
    let preview = world.preview(json!({}), &world.issue()).await;
    assert_eq!(before, world.cluster.state(), "{preview:?}");
    let changing = world.cluster.record().changing();
    let only_asks = |path: &str| path.contains("dryRun=All") || path.ends_with("selfsubjectaccessreviews");
    assert!(!changing.is_empty() && changing.iter().all(|exchange| only_asks(&exchange.request.path)), "{changing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_words_of_an_admission_webhook_are_shown_and_nothing_is_changed() {
    let world = World::new();
    world.cluster.refuse_with(Some("certificates come from the vault"));
    let error = world.refused(json!({})).await;
    assert_eq!(error.kind(), ErrorKind::ValidateFailed);
    assert!(error.full_message().contains("certificates come from the vault"), "{}", error.full_message());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_would_be_too_large_is_refused() {
    let world = World::new();
    world.cluster.put(NAMESPACE, SECRET, "Opaque", &[("big", &vec![0; (1 << 20) - 100])], "helm");
    let error = world.refused(json!({ "type": "Opaque" })).await;
    assert_eq!(error.kind(), ErrorKind::ValidateFailed, "{}", error.full_message());
    assert!(error.next_step().contains("1 MiB"), "{}", error.full_message());
}

#[tokio::test(flavor = "multi_thread")]
async fn all_namespaces_get_it_or_none() {
    let world = World::new();
    let settings = json!({ "namespaces": ["shop", "web"] });
    let old = world.issue();
    world.changes(settings.clone(), &old).await;
    let before = world.cluster.state();
    // After the dry run.
    let refused = Answer::new(422).with_json(&json!({ "kind": "Status", "message": "told to refuse", "code": 422 }));
    world.cluster.faults().inject(Fault::answer(refused).changing().below(PATH).after(1).times(1));
    let report = world.deploy(settings.clone(), &world.issue()).await;
    assert_eq!((report.outcome, report.live), (Outcome::RolledBack, Live::RolledBack), "{report:?}");
    assert_eq!(before, world.cluster.state(), "P5");
    ["shop", "web"].iter().for_each(|namespace| world.has(namespace, &old));
}

#[tokio::test(flavor = "multi_thread")]
async fn p3_somebody_else_in_the_second_namespace_has_the_first_one_go_back() {
    let world = World::new();
    let settings = json!({ "namespaces": ["shop", "web"] });
    let (old, theirs) = (world.issue(), world.issue());
    world.changes(settings.clone(), &old).await;
    // Two dry runs and the first switch come before.
    world.cluster.overtake_after(3, NAMESPACE, SECRET, &pair(&theirs), "helm");
    let report = world.deploy(settings, &world.issue()).await;
    assert_ne!(report.outcome, Outcome::Changed, "{report:?}");
    world.has("shop", &old);
    world.has("web", &theirs);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_are_looked_up_by_their_labels_at_every_run() {
    let world = World::new();
    let settings = json!({ "namespace_selector": "tls=www,stage!=test" });
    let error = world.refused(settings.clone()).await;
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    assert!(error.full_message().contains("no namespace has the labels"), "{}", error.full_message());

    world.cluster.add_namespace("one", &[("tls", "www")]);
    world.cluster.add_namespace("tested", &[("tls", "www"), ("stage", "test")]);
    world.cluster.add_namespace("leaving", &[("tls", "www")]);
    world.cluster.terminate("leaving");
    let new = world.issue();
    world.changes(settings.clone(), &new).await;
    world.has("one", &new);
    for namespace in ["tested", "leaving", "web"] {
        assert_eq!(world.cluster.secret(namespace, SECRET), None, "{namespace}");
    }
    // One more has come: it gets what the others have.
    world.cluster.add_namespace("two", &[("tls", "www")]);
    world.changes(settings.clone(), &new).await;
    world.has("two", &new);
    assert_eq!(world.deploy(settings, &new).await.outcome, Outcome::Unchanged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_missing_or_being_deleted_is_named() {
    let world = World::new();
    world.changes(json!({ "namespaces": ["web"] }), &world.issue()).await;
    let error = world.refused(json!({ "namespaces": ["web", "nowhere"] })).await;
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    assert!(error.full_message().contains("namespaces \"nowhere\" not found"), "{}", error.full_message());
    world.cluster.terminate("shop");
    let error = world.refused(json!({ "namespaces": ["web", "shop"] })).await;
    assert_eq!(error.kind(), ErrorKind::PlanInvalid);
    assert!(error.full_message().contains("shop is being deleted"), "{}", error.full_message());
}

#[tokio::test(flavor = "multi_thread")]
async fn p8_every_permission_that_is_missing_is_named_before_anything_is_changed() {
    let world = World::new();
    world.cluster.add_workload("shop", "deployments", "web");
    world.cluster.add_workload("web", "deployments", "web");
    for (verb, resource, namespace) in [
        ("create", "secrets", "web"),
        ("patch", "secrets", "shop"),
        ("delete", "secrets", "shop"),
        ("patch", "deployments.apps", "web"),
    ] {
        world.cluster.deny(verb, resource, namespace);
    }
    let error = world.refused(json!({ "namespaces": ["shop", "web"], "restart": ["deployment/web"] })).await;
    assert_eq!(error.kind(), ErrorKind::PermissionDenied);
    assert_eq!(
        error.full_message(),
        "the cluster does not allow `patch` on secrets in the namespace shop, `delete` on secrets in the namespace shop, \
         `create` on secrets in the namespace web, `patch` on deployments.apps in the namespace web"
    );
    assert!(world.cluster.record().changing().iter().all(|exchange| exchange.request.path.ends_with("selfsubjectaccessreviews")));
    for (verb, resource, namespace, more) in [
        ("get", "secrets", "web", json!({})),
        ("list", "namespaces", "", json!({ "namespace_selector": "tls=www" })),
        ("get", "deployments.apps", "web", json!({ "restart": ["deployment/web"] })),
    ] {
        world.cluster.allow_everything();
        world.cluster.deny(verb, resource, namespace);
        let error = world.refused(more).await;
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        assert!(error.full_message().contains(&format!("`{verb}` on {resource}")), "{}", error.full_message());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_replaced_once_for_each_certificate() {
    let world = World::new();
    let settings = json!({ "restart": ["deployment/web", "statefulset/db"] });
    world.cluster.add_workload(NAMESPACE, "deployments", "web");
    let error = world.refused(settings.clone()).await;
    assert_eq!(error.kind(), ErrorKind::ConfigurationInvalid);
    assert!(error.full_message().contains("statefulsets.apps \"db\" not found"), "{}", error.full_message());

    world.cluster.add_workload(NAMESPACE, "statefulsets", "db");
    for fault in [None, Some(Fault::close_after().changing().below("/apis/apps").after(2).times(1))] {
        let new = world.issue();
        fault.into_iter().for_each(|fault| world.cluster.faults().inject(fault));
        world.changes(settings.clone(), &new).await;
        let pods = world.cluster.pods(NAMESPACE, "deployments", "web");
        assert_eq!(pods["certdeploy/front"], new.fingerprint);
        assert!(pods["kubectl.kubernetes.io/restartedAt"].as_str().unwrap().ends_with('Z'), "{pods}");
        assert_eq!(world.cluster.pods(NAMESPACE, "statefulsets", "db")["certdeploy/front"], new.fingerprint);
        let changing = world.cluster.record().changing();
        let real = changing.iter().map(|exchange| &exchange.request.path).filter(|path| !path.contains("dryRun"));
        let restarts = real.filter(|path| path.starts_with("/apis/apps")).count();
        assert_eq!(restarts, 2, "P2: no second restart");
        world.cluster.record().clear();
        assert_eq!(world.deploy(settings.clone(), &new).await.outcome, Outcome::Unchanged);
        assert_eq!(world.cluster.record().changing().len(), 0, "P1");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_go_back_with_the_certificate() {
    let world = World::new();
    world.cluster.add_workload(NAMESPACE, "daemonsets", "edge");
    let settings = json!({ "restart": ["daemonset/edge"], "verify": world.verified(), "verify_timeout": "500ms" });
    for first in [true, false] {
        world.cluster.freeze(true);
        let before = world.cluster.state();
        let report = world.deploy(settings.clone(), &world.issue()).await;
        assert_eq!(report.outcome, Outcome::RolledBack, "{report:?}");
        let after = world.cluster.state();
        // A workload that had no annotations has none, in an empty table.
        let text = |tree: &Tree| format!("{tree:?}");
        assert!(first || text(&before) == text(&after), "{before:?} {after:?}");
        let pods = world.cluster.pods(NAMESPACE, "daemonsets", "edge");
        assert!(!first || pods == json!({}), "{pods}");
        world.cluster.freeze(false);
        world.changes(settings.clone(), &world.issue()).await;
    }
}

/// A network that drops, repeats and delays, once at every change of a whole deployment to two namespaces.
#[tokio::test(flavor = "multi_thread")]
async fn p2_a_bad_network_ends_with_one_certificate_everywhere() {
    let faults = [Fault::close_before(), Fault::close_after(), Fault::twice(), Fault::late(Duration::from_millis(20))];
    let worlds: Vec<_> = faults.into_iter().map(|fault| tokio::spawn(meets_at_every_change(fault))).collect();
    for world in worlds {
        world.await.unwrap();
    }
}

async fn meets_at_every_change(fault: Fault) {
    let settings = json!({ "namespaces": ["shop", "web"], "restart": ["deployment/web"] });
    let world = World::new();
    ["shop", "web"].iter().for_each(|namespace| world.cluster.add_workload(namespace, "deployments", "web"));
    world.changes(settings.clone(), &world.issue()).await;
    for below in ["/api/v1/namespaces", "/apis/apps"] {
        world.cluster.record().clear();
        world.changes(settings.clone(), &world.issue()).await;
        let changes =
            world.cluster.record().changing().iter().filter(|exchange| exchange.request.path.starts_with(below)).count();
        assert_eq!(changes, 4, "two dry runs and two changes: {:?}", world.cluster.record().lines());
        for number in 0..changes {
            let new = world.issue();
            world.cluster.faults().inject(fault.clone().changing().below(below).after(number).times(1));
            let report = world.deploy(settings.clone(), &new).await;
            assert_eq!(report.outcome, Outcome::Changed, "{fault:?} at change {number}: {report:?}");
            ["shop", "web"].iter().for_each(|namespace| world.has(namespace, &new));
            world.cluster.faults().heal();
        }
    }
}

/// The process dies when one of two Secrets is switched, or when one is deleted and not yet made again. The next one has nothing
/// but the snapshot.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_dead_process_left_half_done_is_undone() {
    for (settings, fault) in [
        (json!({ "namespaces": ["shop", "web"] }), Fault::close_before().changing().below(PATH).after(1)),
        (json!({ "recreate": true }), Fault::close_before().changing().below(PATH).after(2)),
    ] {
        for first in [true, false] {
            let world = World::new();
            if settings["recreate"] == true {
                world.cluster.put_with(NAMESPACE, SECRET, "helm", &laden("Opaque", &world.issue(), first));
            } else if !first {
                world.changes(settings.clone(), &world.issue()).await;
            }
            let before = world.cluster.state();
            world.cluster.faults().inject(fault.clone());
            let job = world.job(world.settings(&settings), &world.issue());
            let certificate = job.certificate.load(world.context.host()).unwrap().certificate;
            let Deployment::Push(mut dies) = job.target.prepare(&certificate, &world.context).await.unwrap() else { panic!() };
            dies.observe(&world.context).await.unwrap();
            dies.validate(&certificate, &world.context).await.unwrap();
            let snapshot = dies.snapshot(&world.context).await.unwrap();
            dies.activate(&certificate, &world.context).await.unwrap_err();
            drop(dies);
            assert_ne!(before, world.cluster.state(), "it died too early");
            world.cluster.faults().heal();

            let Recovery::Push(mut next) = job.target.recovery() else { panic!() };
            let observed = next.observe(&world.context).await.unwrap();
            assert!(observed.mixed || observed.fingerprint.is_none(), "{observed:?}");
            next.restore(&snapshot, &world.context).await.unwrap();
            next.restore(&snapshot, &world.context).await.unwrap();
            assert_eq!(before, world.cluster.state());
        }
    }
}

//! The other commands: what they say, what they exit with, and that they change nothing.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::disallowed_methods,
    reason = "tests write the files that an operator or an attacker would, and end where they cannot"
)]

use deploy_e2e::{Tree, World, assert_same};

#[test]
fn a2_plan_of_a_first_deployment_creates_nothing() {
    let world = World::new();
    let issued = world.renew();
    world.use_tls();
    world.configure(&[world.front()]);
    let before = Tree::of(&world.path("live"));
    let run = world.run(&["plan", "--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
    let plan = run.only();
    assert_eq!((plan["state"].as_str(), plan["validated"].as_str()), (Some("change"), Some("V3")), "{run:#?}");
    assert_eq!(plan["fingerprint"]["wanted"], issued.fingerprint);
    let actions: Vec<_> = plan["files"].as_array().unwrap().iter().map(|file| file["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["create", "create"]);
    assert_same(&before, &Tree::of(&world.path("live")));
    let files = Tree::of(&world.program.state);
    assert!(files.entries().all(|(_, kind, ..)| kind == "directory"), "the state directory holds no file");
    assert_eq!(world.run(&["plan", "--detailed-exitcode"]).code, 10);
}

#[test]
fn a2_plan_of_a_renewal_changes_nothing_and_says_what_would() {
    let (world, old) = World::serving();
    let new = world.renew();
    let (live, state) = (Tree::untouched(&world.path("live")), Tree::untouched(&world.program.state));
    world.configure(&[world.front().command("reload", &[world.counting_reload()])]);
    let run = world.run(&["plan", "--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert_eq!(run.only()["fingerprint"]["wanted"], new.fingerprint);
    assert_eq!(run.only()["fingerprint"]["served"], old.fingerprint);
    assert!(run.only()["commands"].to_string().contains("tools/reload"), "{run:#?}");
    let text = world.run(&["plan"]);
    assert!(text.stdout.contains(world.fullchain().to_str().unwrap()), "{text:#?}");
    assert_same(&live, &Tree::untouched(&world.path("live")));
    assert_same(&state, &Tree::untouched(&world.program.state));
    assert_eq!(world.reloads(), 0);
    world.assert_served(&old);
}

#[test]
fn verify_says_what_is_served() {
    let (mut world, old) = World::serving();
    let run = world.run(&["verify", "--json"]);
    assert_eq!((run.code, run.only()["result"].as_str()), (0, Some("ok")), "{run:#?}");
    let new = world.renew();
    let run = world.run(&["verify", "--json"]);
    assert_eq!((run.code, run.only()["result"].as_str()), (3, Some("mismatch")), "{run:#?}");
    assert_eq!(run.only()["wanted"], new.fingerprint);
    assert_eq!(run.only()["endpoints"][0]["served"], old.fingerprint);
    world.nginx.stop();
    let run = world.run(&["verify", "--json"]);
    assert_eq!(run.code, 3, "{run:#?}");
    assert!(run.only()["endpoints"][0]["problem"].is_string(), "{run:#?}");
    world.configure(&[world.front().without("verify")]);
    assert_eq!(world.run(&["verify"]).code, 6);
}

#[test]
fn status_alarms_when_few_days_are_left_or_nothing_is_there() {
    let (world, issued) = World::serving();
    let run = world.run(&["status", "--json", "--fail-under", "80"]);
    assert_eq!((run.code, run.only()["days_left"].as_i64()), (0, Some(89)), "{run:#?}");
    assert_eq!(run.only()["on_disk"], issued.fingerprint);
    assert_eq!(run.only()["served"][0]["matches"], true);
    assert!(run.only()["owed"].is_null() && run.only()["hold"].is_null(), "{run:#?}");
    assert_eq!(world.run(&["status", "--fail-under", "91"]).code, 1);
    std::fs::remove_file(world.fullchain()).unwrap();
    assert_eq!(world.run(&["status", "--fail-under", "1"]).code, 1);
    assert_eq!(world.run(&["status"]).code, 0);
}

#[test]
fn check_config_and_doctor_find_nothing_wrong_here() {
    let (world, _) = World::serving();
    let run = world.run(&["check-config", "--json"]);
    assert_eq!((run.code, run.document()["valid"].as_bool()), (0, Some(true)), "{run:#?}");
    assert_eq!(run.document()["targets"][0]["target"], "front");
    let run = world.run(&["doctor", "--json"]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.document()["findings"].as_array().is_some_and(|findings| findings.len() > 2), "{run:#?}");
    world.configure(&[world.front().command("reload", &["no-such-program-here"])]);
    let run = world.run(&["doctor", "--json"]);
    assert_eq!(run.code, 1, "{run:#?}");
    assert!(run.stdout.contains("no-such-program-here"), "{run:#?}");
}

#[test]
fn connectors_are_listed_with_their_schema() {
    let world = World::new();
    let run = world.run(&["connectors", "list", "--json"]);
    let nginx = run.document().as_array().unwrap().iter().find(|entry| entry["kind"] == "nginx").unwrap();
    for capability in ["staged_validation", "dry_run", "verification", "rollback"] {
        assert_eq!(nginx[capability], true, "{capability}");
    }
    let run = world.run(&["connectors", "schema", "nginx"]);
    assert_eq!(run.code, 0);
    assert!(run.document()["properties"]["fullchain"].is_object(), "{run:#?}");
    let run = world.run(&["connectors", "schema", "ngnix", "--json"]);
    run.refused("usage", &["nginx"]);
}

#[test]
fn every_command_prints_exactly_one_document_with_json() {
    let (world, _) = World::serving();
    for arguments in [
        &["deploy"][..],
        &["plan"],
        &["verify"],
        &["status"],
        &["rollback", "front"],
        &["recover"],
        &["recover", "--files-only"],
        &["doctor"],
        &["check-config"],
        &["connectors", "list"],
        &["connectors", "schema", "nginx"],
    ] {
        let run = world.run(&[arguments, &["--json"]].concat());
        assert!(run.json.is_some(), "{arguments:?}: {run:#?}");
    }
}

#[test]
fn people_get_lines_without_colours_and_a_table() {
    let (world, _) = World::serving();
    world.renew();
    let run = world.run(&["deploy"]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stdout.contains("front") && run.stdout.contains("changed"), "{run:#?}");
    assert!(!run.stdout.contains('\u{1b}') && !run.stderr.contains('\u{1b}'), "no colours where no terminal is");
}

#[test]
fn fragments_beside_the_configuration_are_read_and_targets_can_be_chosen() {
    let (world, _) = World::serving();
    let fragment = world.path("config/certdeploy.d");
    std::fs::create_dir(&fragment).unwrap();
    let live = |name: &str| world.path("live").join(name).display().to_string();
    let text = format!(
        "[[target]]\nname = \"second\"\nkind = \"nginx\"\ncertificate = \"www\"\nfullchain = \"{}\"\nkey = \"{}\"\nvalidate = []\nreload = []\nverify = []\n",
        live("second.crt"),
        live("second.key")
    );
    std::fs::write(fragment.join("second.toml"), text).unwrap();
    let run = world.run(&["deploy", "--json", "--target", "second"]);
    run.expect(0, "changed");
    assert!(world.path("live/second.key").exists());
}

#[test]
fn discover_prints_a_target_for_what_nginx_serves_that_can_be_deployed_to() {
    let (world, issued) = World::serving();
    let served = Tree::untouched(&world.path("live"));
    // A script, because every run here gets the paths of this world as its last arguments.
    let shows = world.path("tools/show");
    std::fs::write(&shows, world.nginx.validate_command().join(" ").replace(" -t ", " -T ")).unwrap();
    let run = world.run(&["connectors", "discover", "nginx", "--", "sh", shows.to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:#?}");
    assert!(run.stdout.contains(world.fullchain().to_str().unwrap()), "{run:#?}");
    assert_same(&served, &Tree::untouched(&world.path("live")));

    // With the source and the commands of this world it is a configuration.
    let source = world.path("source/www");
    let text = run.stdout.replace("/etc/letsencrypt/live/www.example.test", source.to_str().unwrap());
    world.configure_text(&text);
    assert_eq!(world.run(&["check-config"]).code, 0, "{text}");
    let run = world.run(&["verify", "--json"]);
    assert_eq!((run.code, run.only()["endpoints"][0]["served"].as_str()), (0, Some(issued.fingerprint.as_str())), "{run:#?}");
}

#[test]
fn discover_says_why_a_server_cannot_be_asked() {
    let world = World::new();
    for (arguments, words) in [
        (vec!["nginx", "--", "no-such-program"], "was not found"),
        (vec!["nginx", "--", "false"], "exit status 1"),
        (vec!["exec"], "no configuration here"),
    ] {
        let command: Vec<&str> = ["connectors", "discover", "--json"].into_iter().chain(arguments).collect();
        let run = world.run(&command);
        assert_eq!(run.code, 1, "{run:#?}");
        let message = run.document()["error"]["message"].as_str().unwrap();
        assert!(message.contains(words), "{message}");
    }
    assert_eq!(world.run(&["connectors", "discover", "no-such-kind"]).code, 2);
}
